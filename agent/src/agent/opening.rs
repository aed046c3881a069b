//! Opening the store at a start: on a thread of its own, beside the signals. A damaged store is carried
//! over then, which takes minutes for a large one: the start waits for some seconds, then goes on in memory.
//! The new database takes the place of the damaged one only when it is complete, so the thread may be left at
//! any moment.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use pulsegate_sensors::Sources;
use tokio::sync::{oneshot, watch};

use super::{LOOK_EVERY, Signals};
use crate::agent::state_dir;
use crate::compile;
use crate::config::Config;
use crate::db::{self, Identity, SalvageProgress};
use crate::platform::pulse::Finger;
use crate::platform::pulse::Pulse;
use crate::platform::state_lock::StateLock;
use crate::platform::{boot, clock, systemd};
use crate::store::{self, Store};

/// How long systemd grants the start after each sign of progress: many times [`LOOK_EVERY`].
const GRANTED: Duration = Duration::from_secs(120);

/// How long the start waits for the salvage of a damaged store. A small one is carried over within this time, and the
/// agent does not have to start anew for it; with a large one, alerts are not kept waiting for longer.
const SALVAGE_PATIENCE: Duration = Duration::from_secs(5);

/// A store that is open, and what was found on the way.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) thread: std::thread::JoinHandle<()>,
    pub(super) sources: Arc<Sources>,
    /// The pulse of the store.
    pub(super) pulse: Pulse,
    /// Everything that went wrong without keeping the store from opening.
    pub(super) troubles: Vec<String>,
}

/// Opens the store in the state directory that `lock` holds. Returns nothing when the agent is asked to
/// stop before the store is open; the lock is then held until the process ends, for the thread still
/// works on the directory.
///
/// # Errors
/// When there can be no store at all.
pub(super) async fn open(
    config: &Config,
    lock: &Arc<StateLock>,
    signals: &mut Signals,
) -> anyhow::Result<Option<Opened>> {
    let pulse = Pulse::default();
    let salvaging = watch::Sender::new(None);
    let progress = salvaging.subscribe();
    let mut finger = Finger::on("store", &pulse, clock::mono());
    let (answer, mut opened) = oneshot::channel();
    let (config, lock) = (config.clone(), Arc::clone(lock));
    let open = move || {
        let sources = Arc::new(Sources::default());
        let store = open_store(&config, &lock, &sources, &pulse, salvaging);
        let opened = store.map(|(store, thread, troubles)| Opened {
            store,
            thread,
            sources,
            pulse,
            troubles,
        });
        // Before the answer: the lock of an agent that stops in order is released by that agent.
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
                if finger.feel(clock::mono()) {
                    systemd::starting(&say_progress(*progress.borrow()), GRANTED);
                }
            }
        }
    }
}

/// Says to systemd how far the opening of the store is.
fn say_progress(salvaging: Option<SalvageProgress>) -> String {
    match salvaging {
        Some(progress) => {
            format!("carries a damaged store over to a new one: {} %", progress.percent())
        }
        None => "opens the store".to_owned(),
    }
}

/// Counts the start and opens the store. What goes wrong without keeping it from opening is
/// returned in words.
fn open_store(
    config: &Config,
    lock: &StateLock,
    sources: &Arc<Sources>,
    pulse: &Pulse,
    salvaging: watch::Sender<Option<SalvageProgress>>,
) -> anyhow::Result<(Store, std::thread::JoinHandle<()>, Vec<String>)> {
    let usual = config.state_dir.join(db::FILE);
    let backlog = config.buffer.backlog_of_another_thing;
    let settled = db::settle(&usual, &config.thing, backlog);
    let (path, thing_change) = (settled.path, settled.change);
    let reached = store::reached(&path);
    // A store that was lost is told by an event; the one that is begun now is no older copy of it.
    if settled.is_another || reached.is_none() {
        state_dir::forget_witness(&config.state_dir);
    }
    let mut troubles = state_dir::examine(&config.state_dir, reached);
    let (boot, counted) = boot::count(&config.state_dir, reached.map(|reached| reached.boot));
    // Without a folder there is no store yet; one that can be had later is found then.
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
    let identity = Identity {
        boot,
        thing: config.thing.as_str().into(),
        kernel_boot_id: clock::kernel_boot_id(),
        reference_ms: clock::wall().0.saturating_sub(mono),
    };
    let options = store::Options {
        path,
        identity,
        keep: compile::keep(config),
        thing_change,
        backlog,
        rules: compile::rules(config),
        formats: compile::formats(config),
        pulse: pulse.clone(),
        salvaging,
        salvage_patience: SALVAGE_PATIENCE,
        clock: clock::mono,
    };
    let (store, thread) = Store::open(options, sources)?;
    tracing::info!(thing = config.thing, start = boot.as_str(), host = config.host, "started");
    Ok((store, thread, troubles))
}
