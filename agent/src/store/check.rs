//! Looks through the whole database for damage, after a stop that was none of ours.
//!
//! A start must not cost more with more records (P9), so nobody waits for this: it reads on a
//! connection and a thread of its own, a little at a time, beside the writer. What it finds, the
//! writer is told; a damaged database is then replaced as if the damage had been met.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::WeakSender;

use super::Request;
use crate::db::disk::Room;
use crate::db::error::{is_damage, is_interrupted};
use crate::db::{self, reader};

/// Steps of SQLite between two pauses, a page or a fraction of a row each: some milliseconds.
const STEPS: i32 = 1_000;
/// The pause: the card belongs to the commits.
const PAUSE: Duration = Duration::from_millis(10);
/// A look holds the log in place; one that lets it grow beyond this is broken off.
const MAX_LOG_BYTES: u64 = 32 << 20;
/// When to look again after that.
const AGAIN: Duration = Duration::from_secs(300);

/// How far the look through the database is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Checked {
    /// The agent was stopped in order the last time.
    #[default]
    NotNeeded,
    /// On its way.
    Running,
    /// No damage.
    Sound,
    /// Damage, and the database was replaced.
    Damaged,
    /// Something else went wrong.
    Failed,
}

impl Checked {
    /// The word for it in `status`.
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

/// A look on its way; it is broken off and waited for when this is dropped.
pub(super) struct Check {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Check {
    /// Whether the database at `path` was left behind in the middle of something: one that was
    /// closed has no log.
    pub(super) fn is_needed(path: &Path) -> bool {
        std::fs::metadata(log(path)).is_ok_and(|log| log.len() > 0)
    }

    /// Starts to look. The outcome is a request to the writer.
    pub(super) fn start(path: PathBuf, writer: WeakSender<Request>) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let look = move || {
            let Some(checked) = look_until_done(&path, stopped) else { return };
            if let Some(writer) = writer.upgrade() {
                // A writer that stops does not need to know.
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

/// Looks, again if it must; `None` when it was told to stop.
fn look_until_done(path: &Path, stopped: Receiver<()>) -> Option<Checked> {
    let stopped = Arc::new(std::sync::Mutex::new(stopped));
    loop {
        let is_stopped = Arc::new(AtomicBool::new(false));
        match look(path, &stopped, &is_stopped) {
            Ok(fault) => {
                if let Some(fault) = &fault {
                    tracing::error!(fault, "the store is damaged");
                }
                return Some(if fault.is_some() { Checked::Damaged } else { Checked::Sound });
            }
            Err(_) if is_stopped.load(Ordering::Relaxed) => return None,
            Err(error) if is_interrupted(&error) => {
                if pause(&stopped, AGAIN) {
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
fn look(
    path: &Path,
    stopped: &Arc<std::sync::Mutex<Receiver<()>>>,
    is_stopped: &Arc<AtomicBool>,
) -> db::Result<Option<String>> {
    let before = Room::of(path).map_or(0, |room| room.log);
    let (store, stopped, is_stopped) =
        (path.to_owned(), Arc::clone(stopped), Arc::clone(is_stopped));
    let is_over = move || {
        let stop = pause(&stopped, PAUSE);
        is_stopped.store(stop, Ordering::Relaxed);
        stop || Room::of(&store).is_some_and(|room| room.is_log_beyond(MAX_LOG_BYTES, before))
    };
    reader::find_damage(path, STEPS, is_over)
}

/// Waits, and says whether it was told to stop meanwhile.
fn pause(stopped: &std::sync::Mutex<Receiver<()>>, how_long: Duration) -> bool {
    let stopped = stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    stopped.recv_timeout(how_long) != Err(RecvTimeoutError::Timeout)
}

fn log(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    PathBuf::from(log)
}
