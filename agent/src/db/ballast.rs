//! Ballast: a file beside the database, deleted when the disk is full. The freed room lets the
//! store open, move its watermarks, and forget delivered records (P7).

use std::path::Path;

use super::disk::{Room, with_suffix};
use crate::platform::durable;

/// End of the ballast's file name, after the name of the database.
pub(crate) const SUFFIX: &str = ".ballast";

/// Makes the ballast, if as much room would still be free afterwards. Replaces a ballast of another
/// size, left by an earlier version or made on another partition.
pub(crate) fn hold_room(path: &Path) {
    let Some(room) = Room::measure_at(path) else { return };
    let ballast = with_suffix(path, SUFFIX);
    let held = std::fs::metadata(&ballast).map_or(0, |file| file.len());
    let missing = room.ballast_bytes.saturating_sub(held);
    if missing == 0 || room.free_bytes < missing + room.ballast_bytes {
        return;
    }
    allocate_room(path, room.ballast_bytes);
}

/// Makes the ballast again after its release, with as much room as is left: the released room was
/// for moving the log and for forgetting, not for new records.
pub(crate) fn take_back(path: &Path) {
    if let Some(room) = Room::measure_at(path) {
        allocate_room(path, room.ballast_bytes.min(room.free_bytes));
    }
}

fn allocate_room(path: &Path, bytes: u64) {
    let ballast = with_suffix(path, SUFFIX);
    // First, because on a full disk a smaller ballast would take the room of a larger one.
    let removed = durable::remove_file(&ballast);
    if let Err(error) = removed.and_then(|()| durable::allocate_file(&ballast, bytes)) {
        tracing::debug!(%error, "no ballast");
    }
}

/// Deletes the ballast. Returns true if there was any.
pub(crate) fn release_room(path: &Path) -> bool {
    let ballast = with_suffix(path, SUFFIX);
    ballast.exists() && durable::remove_file(&ballast).is_ok()
}
