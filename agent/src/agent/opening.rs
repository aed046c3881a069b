//! Opens the store on a separate thread, so the start can handle signals meanwhile. Salvaging a
//! large damaged store takes minutes: the start waits a few seconds, then goes on in memory. The
//! new database replaces the damaged one only after it is complete, so the thread may be abandoned
//! at any moment.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use pulsegate_sensors::Sources;
use tokio::sync::{oneshot, watch};

use super::{LOOK_EVERY, Signals};
use crate::agent::state_dir;
use crate::config::Config;
use crate::db::{self, SalvageProgress, WriterIdentity};
use crate::platform::pulse::{Pulse, Watchdog};
use crate::platform::state_lock::StateLock;
use crate::platform::{boot, clock, systemd};
use crate::store::{self, Formats, Store};

/// Extension of systemd's start timeout after each sign of progress: many times [`LOOK_EVERY`].
const GRANTED: Duration = Duration::from_secs(120);

/// Time for which the start waits for the salvage of a damaged store. A small store is salvaged
/// within this time, which saves a restart; for a large one, alerts must not wait longer.
const SALVAGE_PATIENCE: Duration = Duration::from_secs(5);

/// Open store with the findings of opening it.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) thread: std::thread::JoinHandle<()>,
    pub(super) sources: Arc<Sources>,
    /// Pulse of the store.
    pub(super) pulse: Pulse,
    /// Faults that did not prevent opening, one sentence each.
    pub(super) troubles: Vec<String>,
}

/// Opens the store in the state directory that `lock` holds. Returns `None` if the agent is asked
/// to stop before the store is open; the lock is then held until the process ends, since the thread
/// still works on the directory.
///
/// # Errors
/// Returns an error if no store can be opened at all.
pub(super) async fn open(
    config: &Config,
    lock: &Arc<StateLock>,
    signals: &mut Signals,
) -> anyhow::Result<Option<Opened>> {
    let pulse = Pulse::default();
    let salvaging = watch::Sender::new(None);
    let progress = salvaging.subscribe();
    let mut watchdog = Watchdog::default();
    watchdog.watch_pulse("store", &pulse, clock::mono());
    let (answer, mut opened) = oneshot::channel();
    let (config, lock) = (config.clone(), Arc::clone(lock));
    let open = move || {
        let opened = open_store(&config, &lock, pulse, salvaging);
        // The thread drops its handle before the answer, so that the last handle, which releases the
        // lock, is that of the agent itself.
        drop(lock);
        drop(answer.send(opened));
    };
    let thread = std::thread::Builder::new().name("opening".into());
    thread.spawn(open).context("cannot start the thread that opens the store")?;
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            opened = &mut opened => {
                return opened.context("the thread that opens the store panicked")?.map(Some);
            }
            () = signals.stop() => {
                tracing::info!("asked to stop before the store was open");
                return Ok(None);
            }
            _ = look.tick() => {
                if watchdog.all_alive(clock::mono()) {
                    systemd::notify_starting(&say_progress(*progress.borrow()), GRANTED);
                }
            }
        }
    }
}

/// Returns the status text for systemd on the progress of opening the store.
fn say_progress(salvaging: Option<SalvageProgress>) -> String {
    match salvaging {
        Some(progress) => {
            format!("carries a damaged store over to a new one: {} %", progress.done_percent())
        }
        None => "opens the store".to_owned(),
    }
}

/// Counts the start and opens the store. Faults that do not prevent opening are returned as text.
fn open_store(
    config: &Config,
    lock: &StateLock,
    pulse: Pulse,
    salvaging: watch::Sender<Option<SalvageProgress>>,
) -> anyhow::Result<Opened> {
    let usual = config.state_dir.join(db::FILE);
    let backlog = config.buffer.backlog_of_another_thing;
    let settled = db::choose_store(&usual, &config.thing, backlog);
    let (path, thing_change) = (settled.path, settled.change);
    let reached = store::store_reached(&path);
    // An event reports a lost store; its replacement must not be taken for an older copy of it.
    if settled.is_another || reached.is_none() {
        state_dir::forget_witness(&config.state_dir);
    }
    let mut troubles = state_dir::examine(&config.state_dir, reached);
    let (boot, counted) = boot::count_start(&config.state_dir, reached.map(|reached| reached.boot));
    // Without a folder there is no store yet; a later retry finds it.
    let trouble = counted.err().map(|error| format!("{error:#}"));
    if let Some(trouble) = &trouble {
        tracing::error!(trouble, "this start is counted in the store only");
    }
    let small = state_dir::examine_room(&config.state_dir, config.buffer.max_bytes);
    for trouble in troubles.iter().chain(&small) {
        tracing::warn!("{trouble}");
    }
    troubles.extend(lock.trouble.clone());
    troubles.extend(trouble);
    if let Some(error) = reached.and_then(|at| state_dir::bear_witness(&config.state_dir, at).err())
    {
        tracing::warn!(%error, "the next start cannot tell if the store went back in time");
    }
    let mono = i64::try_from(clock::mono().0).unwrap_or(i64::MAX);
    let identity = WriterIdentity {
        boot,
        thing: config.thing.as_str().into(),
        kernel_boot_id: clock::kernel_boot_id(),
        reference_ms: clock::wall().0.saturating_sub(mono),
    };
    let options = store::StoreOptions {
        path,
        identity,
        keep: config.buffer,
        thing_change,
        backlog,
        rules: Arc::clone(&config.rules),
        formats: Formats::new(config),
        pulse: pulse.clone(),
        salvaging,
        salvage_patience: SALVAGE_PATIENCE,
        clock: clock::mono,
    };
    let sources = Arc::new(Sources::default());
    let (store, thread) = Store::open_on_thread(options, &sources)?;
    tracing::info!(thing = config.thing, start = boot.as_str(), host = config.host, "started");
    Ok(Opened { store, thread, sources, pulse, troubles })
}
