//! Exclusive lock on a state directory, since only one agent may use the directory. The kernel
//! releases the lock if the process ends for any reason.
//!
//! The directory itself is locked with flock(2). Nothing is written, so neither a full or read-only
//! file system nor a file of another owner prevents locking. Read-only commands need no lock.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock, major, minor};
use rustix::io::Errno;

/// Kernel's list of all file locks that are held.
const LOCKS: &str = "/proc/locks";

/// Error for a state directory that another agent has locked.
#[derive(Debug, thiserror::Error)]
#[error("another agent{} works on {}; stop it first: systemctl stop pulsegate", of_pid(*pid), .state_dir.display())]
pub(crate) struct StateDirBusy {
    pid: Option<u32>,
    state_dir: PathBuf,
}

/// Lock on the state directory, held until the value is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct StateLock {
    _held: Option<File>,
    /// Reason the directory could not be made or locked. The agent starts without the lock (P7).
    pub(crate) trouble: Option<String>,
}

impl StateLock {
    /// Makes the state directory if missing, and locks it.
    ///
    /// # Errors
    /// Returns an error if another process holds the lock; nothing has been changed then.
    pub(crate) fn lock_directory(state_dir: &Path) -> Result<Self, StateDirBusy> {
        // The directory holds personal measurements: only the agent's user may enter.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(state_dir);
        let locked = made
            .with_context(|| format!("cannot make the state directory `{}`", state_dir.display()))
            .and_then(|()| {
                let folder = File::open(state_dir)?;
                match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                    Err(Errno::WOULDBLOCK) => Ok(None),
                    locked => Ok(locked.map(|()| Some(folder))?),
                }
            });
        match locked {
            Ok(Some(folder)) => Ok(Self { _held: Some(folder), trouble: None }),
            Ok(None) => {
                let pid = find_holder(state_dir, "FLOCK");
                Err(StateDirBusy { pid, state_dir: state_dir.to_owned() })
            }
            Err(error) => {
                let trouble = format!(
                    "the state directory `{}` cannot be locked against a second agent: {error:#}",
                    state_dir.display()
                );
                tracing::error!(trouble, "starting without the lock");
                Ok(Self { _held: None, trouble: Some(trouble) })
            }
        }
    }
}

/// Returns the pid of another process that has the SQLite database at `path` open. An SQLite
/// connection holds a POSIX lock on its file.
pub(crate) fn other_user(path: &Path) -> Option<u32> {
    find_holder(path, "POSIX")
}

/// Returns the pid of a process other than this one that holds a lock of `kind` on `path`.
fn find_holder(path: &Path, kind: &str) -> Option<u32> {
    let file = std::fs::metadata(path).ok()?;
    let device = format!("{:02x}:{:02x}", major(file.dev()), minor(file.dev()));
    let locks = std::fs::read_to_string(LOCKS).ok()?;
    let held = |exact: bool| {
        locks
            .lines()
            .filter_map(|line| HeldLock::parse_lock(line, kind))
            .find(|held| {
                let is_there = held.inode == file.ino() && (!exact || held.device == device);
                is_there && held.pid != std::process::id()
            })
            .map(|held| held.pid)
    };
    // Some file systems (btrfs, overlayfs) show another device number in `/proc/locks` than in the
    // metadata.
    held(true).or_else(|| held(false))
}

/// Line of [`LOCKS`].
struct HeldLock<'a> {
    pid: u32,
    device: &'a str,
    inode: u64,
}

impl<'a> HeldLock<'a> {
    /// Parses a line such as `1: FLOCK  ADVISORY  WRITE 369 b3:02:1234 0 EOF`. Returns `None` for a
    /// waiting process, marked by an arrow in place of the kind, and for a process of another PID
    /// namespace, shown with pid 0.
    fn parse_lock(line: &'a str, kind: &str) -> Option<Self> {
        let mut words = line.split_whitespace().skip(1);
        if words.next()? != kind {
            return None;
        }
        let pid = words.nth(2)?.parse().ok().filter(|pid| *pid > 0)?;
        let (device, inode) = words.next()?.rsplit_once(':')?;
        Some(Self { pid, device, inode: inode.parse().ok()? })
    }
}

fn of_pid(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let state_dir = folder.path().join("state");
        let first = StateLock::lock_directory(&state_dir).unwrap();
        assert_eq!(first.trouble, None);

        let busy = StateLock::lock_directory(&state_dir).unwrap_err();
        assert!(busy.to_string().starts_with("another agent"), "{busy}");

        drop(first);
        assert_eq!(StateLock::lock_directory(&state_dir).unwrap().trouble, None);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_told_and_no_reason_not_to_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        crate::platform::durable::replace_file(&file, b"in the way").unwrap();

        let lock = StateLock::lock_directory(&file.join("state")).unwrap();

        assert!(lock.trouble.unwrap().contains("cannot be locked"));
    }

    #[test]
    fn the_holder_is_read_from_the_kernels_list() {
        let line = "12: FLOCK  ADVISORY  WRITE 369 b3:02:1234 0 EOF";
        let held = HeldLock::parse_lock(line, "FLOCK").unwrap();
        assert_eq!((held.pid, held.device, held.inode), (369, "b3:02", 1234));
        for other in [
            "12: -> FLOCK  ADVISORY  WRITE 369 b3:02:1234 0 EOF",
            "12: POSIX  ADVISORY  READ 369 b3:02:1234 128 128",
            "12: FLOCK  ADVISORY  WRITE 0 b3:02:1234 0 EOF",
            "12: FLOCK",
            "",
        ] {
            assert!(HeldLock::parse_lock(other, "FLOCK").is_none(), "{other}");
        }
    }
}
