//! Ballast: a small file beside the database that is dropped when the disk is full, so that the
//! store opens, and takes what makes room, all the same (P7).

use std::path::Path;

use crate::durable;

/// Room for the index of the log, without which nothing can even be read, and for a log that forgets
/// some delivered readings.
const BYTES: usize = 256 << 10;
/// It is taken on again only while this many times its size is free.
const SPARE: u64 = 4;

/// Takes it on, if there is room.
pub(super) fn hold(path: &Path) {
    let ballast = durable::beside(path, "ballast");
    if ballast.exists() || free_bytes(path).is_none_or(|free| free < SPARE * BYTES as u64) {
        return;
    }
    if let Err(error) = durable::replace(&ballast, &vec![0; BYTES]) {
        tracing::debug!(%error, "no ballast");
    }
}

/// Drops it. Returns whether there was any.
pub(super) fn release(path: &Path) -> bool {
    let ballast = durable::beside(path, "ballast");
    ballast.exists() && durable::remove(&ballast).is_ok()
}

fn free_bytes(path: &Path) -> Option<u64> {
    let folder = rustix::fs::statvfs(path.parent()?).ok()?;
    Some(folder.f_bavail.saturating_mul(folder.f_frsize))
}
