//! Ballast: a file beside the database that is dropped when the disk is full, so that the store opens,
//! moves its watermarks, and forgets what was delivered all the same (P7).

use std::path::Path;

use super::disk::{Room, with_suffix};
use crate::platform::durable;

/// The name of the file is that of the database with this at its end.
pub(crate) const SUFFIX: &str = ".ballast";

/// Takes it on, if as much would still be free beside it. One of another size, of an earlier version or
/// another partition, is replaced.
pub(crate) fn hold(path: &Path) {
    let Some(room) = Room::of(path) else { return };
    let ballast = with_suffix(path, SUFFIX);
    let held = std::fs::metadata(&ballast).map_or(0, |file| file.len());
    let missing = room.ballast_bytes.saturating_sub(held);
    if missing == 0 || room.free_bytes < missing + room.ballast_bytes {
        return;
    }
    allocate(path, room.ballast_bytes);
}

/// Takes on what is left after it was dropped: the room was for moving the log and for forgetting, not for
/// new records.
pub(crate) fn take_back(path: &Path) {
    if let Some(room) = Room::of(path) {
        allocate(path, room.ballast_bytes.min(room.free_bytes));
    }
}

fn allocate(path: &Path, bytes: u64) {
    let ballast = with_suffix(path, SUFFIX);
    // The smaller one would be in the way of a larger one.
    let removed = durable::remove(&ballast);
    if let Err(error) = removed.and_then(|()| durable::allocate(&ballast, bytes)) {
        tracing::debug!(%error, "no ballast");
    }
}

/// Drops it. Returns whether there was any.
pub(crate) fn release(path: &Path) -> bool {
    let ballast = with_suffix(path, SUFFIX);
    ballast.exists() && durable::remove(&ballast).is_ok()
}
