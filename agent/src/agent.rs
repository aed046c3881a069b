//! Starts every part of the agent, owns every task, and ends the tasks in order.
//!
//! A task that ends unasked ends the process, and systemd restarts the agent. Only a faulty
//! configuration prevents the start; if anything else is missing, the agent starts, reports the
//! fault in `status`, and does the rest (P7).

mod clock_watch;
mod opening;
mod parts;
mod reload;
pub(crate) mod state_dir;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::BoxFuture;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Config;
use crate::platform::aside::BlockingWorker;
use crate::platform::clock;
use crate::platform::state_lock::StateLock;
use crate::platform::systemd;
use parts::Parts;
use reload::Loaded;

/// Interval between two checks that every part makes progress.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Runs the agent until a signal stops it.
///
/// # Errors
/// Returns [`crate::platform::state_lock::StateDirBusy`] if another agent works on the state directory, or
/// the error of a part that could not start or ended unasked.
pub(crate) async fn run(path: PathBuf, config: Config) -> anyhow::Result<()> {
    // The lock comes first: before the start is counted and before anything is opened, salvaged or
    // bound.
    let lock = Arc::new(StateLock::lock_directory(&config.state_dir)?);
    let mut signals = Signals::listen()?;
    let Some(opened) = opening::open(&config, &lock, &mut signals).await? else {
        systemd::notify_stopping();
        return Ok(());
    };
    let mut parts = Parts::start(config, opened);
    systemd::notify_ready(&parts.config.thing);
    let ended = supervise(&path, &mut parts, &mut signals).await;
    systemd::notify_stopping();
    parts.stop().await;
    drop(lock);
    ended
}

async fn supervise(path: &Path, parts: &mut Parts, signals: &mut Signals) -> anyhow::Result<()> {
    let within = systemd::watchdog_interval().map_or(LOOK_EVERY, |watchdog| watchdog / 3);
    let mut look = tokio::time::interval(LOOK_EVERY.min(within));
    let reader = BlockingWorker::new("configuration");
    let mut reading: Option<BoxFuture<'_, Loaded>> = None;
    loop {
        tokio::select! {
            request = signals.next() => match request {
                AgentRequest::Stop => {
                    tracing::info!("asked to stop");
                    return Ok(());
                }
                AgentRequest::Reload => {
                    systemd::notify_reloading();
                    reading = Some(Box::pin(reload::read(reader.clone(), path.to_owned())));
                }
            },
            loaded = finished(&mut reading) => {
                reading = None;
                reload::follow(loaded, parts).await;
                systemd::notify_ready(&parts.config.thing);
            }
            Some(ended) = parts.context.tasks.join_next() => match ended {
                Ok(Ok(())) => anyhow::bail!("a part of the agent ended unasked"),
                Ok(Err(error)) => return Err(error).context("a part of the agent failed"),
                // A reload aborted a driver or link that the new configuration does not have.
                Err(error) if error.is_cancelled() => {}
                Err(error) => return Err(error).context("a part of the agent panicked"),
            },
            _ = look.tick() => {
                if parts.context.watchdog.all_alive(clock::mono()) {
                    systemd::feed_watchdog();
                }
            }
        }
    }
}

async fn finished(reading: &mut Option<BoxFuture<'_, Loaded>>) -> Loaded {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            reload: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> AgentRequest {
        tokio::select! {
            () = Self::either(&mut self.terminate, &mut self.interrupt) => AgentRequest::Stop,
            _ = self.reload.recv() => AgentRequest::Reload,
        }
    }

    /// Waits for a signal to stop; reload signals stay pending.
    async fn stop(&mut self) {
        Self::either(&mut self.terminate, &mut self.interrupt).await;
    }

    async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

/// Request to the agent as a whole. Signals are the only origin so far.
enum AgentRequest {
    /// Read the configuration again.
    Reload,
    /// End all parts in order.
    Stop,
}
