//! A search of the whole database for damage, after a stop out of order.
//!
//! A start must not cost more with more records (P9), so nothing waits for the search. On a thread
//! and a connection of its own it reads a little at a time beside the writer. A fault is reported
//! to the writer, which replaces the database as if it had met the damage itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::WeakSender;

use super::Request;
use crate::db::disk::{Room, log_path};
use crate::db::error::{is_damage, is_interrupted};
use crate::db::{self, reader};

/// Steps of SQLite between two pauses, each a page or part of a row: some milliseconds.
const STEPS: i32 = 1_000;
/// Length of a pause, for the commits.
const PAUSE: Duration = Duration::from_millis(10);
/// Bytes of the log at which a search is stopped: while reading, the log cannot be moved into the
/// database.
const MAX_LOG_BYTES: u64 = 32 << 20;
/// Pause after a search stopped by the size of the log.
const AGAIN: Duration = Duration::from_secs(300);

/// The state of the search.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Checked {
    /// Not needed: the agent was stopped in order the last time.
    #[default]
    NotNeeded,
    /// Under way.
    Running,
    /// Ended without finding damage.
    Sound,
    /// Damage was found, and the database was replaced.
    Damaged,
    /// Ended by another error.
    Failed,
}

impl Checked {
    /// Returns the word for the state in `status`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NotNeeded => "not needed",
            Self::Running => "running",
            Self::Sound => "sound",
            Self::Damaged => "damaged",
            Self::Failed => "failed",
        }
    }
}

/// A search under way. Dropping the value stops the search and waits for the thread.
pub(super) struct Check {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Check {
    /// Returns true if the database at `path` was not closed: a closed database has no log.
    pub(super) fn is_needed(path: &Path) -> bool {
        std::fs::metadata(log_path(path)).is_ok_and(|log| log.len() > 0)
    }

    /// Starts a search. The outcome is sent to the writer as a request.
    pub(super) fn start_check(path: PathBuf, writer: WeakSender<Request>) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let look = move || {
            let Some(checked) = look_until_done(&path, stopped) else { return };
            if let Some(writer) = writer.upgrade() {
                // A stopping writer does not need the outcome.
                writer.blocking_send(Request::Checked(checked)).ok();
            }
        };
        let thread = std::thread::Builder::new().name("store-check".into()).spawn(look)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        self.stop.take();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the look through the store panicked");
        }
    }
}

/// Searches, and again if stopped by the size of the log. Returns `None` when told to stop.
fn look_until_done(path: &Path, stopped: Receiver<()>) -> Option<Checked> {
    let stopped = Arc::new(std::sync::Mutex::new(stopped));
    loop {
        let is_stopped = Arc::new(AtomicBool::new(false));
        match search_damage(path, &stopped, &is_stopped) {
            Ok(fault) => {
                if let Some(fault) = &fault {
                    tracing::error!(fault, "the store is damaged");
                }
                return Some(if fault.is_some() { Checked::Damaged } else { Checked::Sound });
            }
            Err(_) if is_stopped.load(Ordering::Relaxed) => return None,
            Err(error) if is_interrupted(&error) => {
                if pause_until_stop(&stopped, AGAIN) {
                    return None;
                }
            }
            Err(error) if is_damage(&error) => {
                tracing::error!(%error, "the store is damaged");
                return Some(Checked::Damaged);
            }
            Err(error) => {
                tracing::warn!(%error, "the store could not be looked through");
                return Some(Checked::Failed);
            }
        }
    }
}

/// Returns the first fault, if there is one.
fn search_damage(
    path: &Path,
    stopped: &Arc<std::sync::Mutex<Receiver<()>>>,
    is_stopped: &Arc<AtomicBool>,
) -> db::Result<Option<String>> {
    let before = Room::measure_at(path).map_or(0, |room| room.log);
    let (store, stopped, is_stopped) =
        (path.to_owned(), Arc::clone(stopped), Arc::clone(is_stopped));
    let is_over = move || {
        let stop = pause_until_stop(&stopped, PAUSE);
        is_stopped.store(stop, Ordering::Relaxed);
        stop || Room::measure_at(&store)
            .is_some_and(|room| room.is_log_beyond(MAX_LOG_BYTES, before))
    };
    reader::find_damage(path, STEPS, is_over)
}

/// Waits. Returns true if told to stop meanwhile.
fn pause_until_stop(stopped: &std::sync::Mutex<Receiver<()>>, how_long: Duration) -> bool {
    let stopped = stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    stopped.recv_timeout(how_long) != Err(RecvTimeoutError::Timeout)
}
