//! Checks the state directory for a file system that forgets and for a return to an older copy.
//!
//! Neither prevents the start nor repeats a record id (see `boot`), but both lose readings: a file
//! system in memory is empty after a reboot, and an older copy lacks the records made since.

use std::path::Path;

use crate::db::Reached;
use crate::db::{self, Room, format_mebibytes};
use crate::platform::{boot, durable};
use crate::store;

/// File systems that lose their files at a reboot, by the magic number of statfs(2):
/// include/uapi/linux/magic.h of Linux.
const FORGETFUL: [(u32, &str); 3] = [
    (0x0102_1994, "a tmpfs, which is in memory"),
    (0x8584_58f6, "a ramfs, which is in memory"),
    (0x794c_7630, "an overlay, whose upper layer is often in memory or thrown away"),
];
/// Name of the file with the last start and last sequence number of the store at the previous
/// start.
const WITNESS: &str = "reached";

/// Returns the faults of `state_dir`, one sentence each. `reached` is the progress of its store, if
/// there is one.
pub(crate) fn examine(state_dir: &Path, reached: Option<Reached>) -> Vec<String> {
    let shown = state_dir.display();
    let mut found = Vec::new();
    if let Some(kind) = rustix::fs::statfs(state_dir).ok().and_then(|about| forgetful(about.f_type))
    {
        found.push(format!(
            "`state_dir` `{shown}` lies on {kind}: what waits for the link is lost when the machine \
             starts anew; put it on a partition that keeps its files"
        ));
    }
    let usual = state_dir.join(db::FILE);
    for (file, thing, [alerts, events, readings]) in db::kept_aside(&usual) {
        found.push(format!(
            "{readings} readings, {events} events and {alerts} alerts of thing `{thing}` were not delivered: \
             they are kept in `{}` and not published under this name; start once with `thing = \"{thing}\"` \
             to deliver them, or delete the file to give them up",
            file.display()
        ));
    }
    let Some(now) = reached else { return found };
    match boot::read_count(state_dir) {
        Some(counted) if counted < now.boot => found.push(format!(
            "`{shown}` went back in time: its file `boot` counts {counted} starts, the store knows of \
             {}; record ids stay unique, nothing need be done",
            now.boot
        )),
        Some(_) | None => {}
    }
    if let Some(before) = witnessed(state_dir)
        && (now.boot < before.boot || now.seq < before.seq)
    {
        found.push(format!(
            "`{shown}` went back in time: its store ends with record {} of start {}, an earlier start \
             found {} of {}; an older copy was put in its place, and what it lacks is lost unless it was \
             delivered",
            now.seq, now.boot, before.seq, before.boot
        ));
    }
    found
}

/// Examines `state_dir` and its store, limited to `max_bytes`, without changing either.
pub(crate) fn look_at(state_dir: &Path, max_bytes: u64) -> Vec<String> {
    let mut found = examine(state_dir, store::store_reached(&state_dir.join(db::FILE)));
    found.extend(examine_room(state_dir, max_bytes));
    found
}

/// Returns a warning if the partition of `state_dir` is too small for a store of `max_bytes`. The
/// check uses this machine's partition, and this machine need not be the device.
pub(crate) fn examine_room(state_dir: &Path, max_bytes: u64) -> Option<String> {
    let room = Room::at_most(state_dir)?;
    (max_bytes > room.cap_bytes).then(|| {
        format!(
            "`buffer.max_bytes` is {}, and this machine's partition of `{}` gives records {} at most, of its {}: \
             what is oldest is given up there; lower `max_bytes`, or put `state_dir` on a larger partition",
            format_mebibytes(max_bytes),
            state_dir.display(),
            format_mebibytes(room.cap_bytes),
            format_mebibytes(room.partition_bytes)
        )
    })
}

/// Saves the progress of the store, for comparison at the next start.
///
/// # Errors
/// Returns the error of the file system.
pub(crate) fn bear_witness(state_dir: &Path, reached: Reached) -> std::io::Result<()> {
    let content = format!("{} {}", reached.boot, reached.seq);
    durable::replace_file(&state_dir.join(WITNESS), content.as_bytes())
}

/// Removes the saved progress of an earlier store after its replacement.
pub(crate) fn forget_witness(state_dir: &Path) {
    if let Err(error) = durable::remove_file(&state_dir.join(WITNESS)) {
        tracing::warn!(%error, "the store that has its place now may seem to have gone back in time");
    }
}

fn witnessed(state_dir: &Path) -> Option<Reached> {
    let content = std::fs::read_to_string(state_dir.join(WITNESS)).ok()?;
    let (boot, seq) = content.trim().split_once(' ')?;
    Some(Reached { boot: boot.parse().ok()?, seq: seq.parse().ok()? })
}

/// Returns the name of the file system with the number `kind` of statfs(2) if it forgets. The
/// number is signed on some machines and wider than 32 bits on others.
fn forgetful(kind: impl Into<i128>) -> Option<&'static str> {
    let kind = kind.into() & i128::from(u32::MAX);
    FORGETFUL.iter().find(|(magic, _)| i128::from(*magic) == kind).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(boot: u32, seq: u64) -> Option<Reached> {
        Some(Reached { boot, seq })
    }

    /// What is said of a state directory that an agent counted `starts` starts in.
    fn said(starts: u32, witness: Option<Reached>, now: Option<Reached>) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        (0..starts).for_each(|_| boot::count_start(folder.path(), None).1.unwrap());
        witness.into_iter().for_each(|reached| bear_witness(folder.path(), reached).unwrap());
        let mut said = examine(folder.path(), now);
        said.retain(|sentence| sentence.contains("went back in time"));
        said
    }

    #[test]
    fn a_state_directory_that_went_on_is_not_spoken_of() {
        for (starts, witness, now) in [
            (0, None, None),
            (3, None, reached(3, 100)),
            (3, reached(2, 90), reached(3, 100)),
            // A start that wrote nothing, and one that found nothing new.
            (9, reached(3, 100), reached(3, 100)),
            // A store that was lost is told of by an event.
            (3, reached(3, 100), None),
        ] {
            assert_eq!(said(starts, witness, now), [""; 0], "{starts} {witness:?} {now:?}");
        }
    }

    #[test]
    fn an_older_copy_of_the_counter_or_of_the_store_is_told() {
        for (starts, witness, now, word) in [
            (3, None, reached(41, 100), "its file `boot` counts 3 starts"),
            (50, reached(40, 100), reached(7, 20), "ends with record 20 of start 7"),
            (50, reached(40, 100), reached(41, 99), "an earlier start found 100 of 40"),
        ] {
            let said = said(starts, witness, now);
            assert!(said.len() == 1 && said[0].contains(word), "{said:?}");
        }
    }

    #[test]
    fn file_systems_that_forget_are_known_by_their_numbers_whatever_their_width() {
        assert!(forgetful(0x0102_1994_i64).is_some_and(|kind| kind.contains("tmpfs")));
        assert!(forgetful(0x8584_58f6_i64).is_some_and(|kind| kind.contains("ramfs")));
        // The same number on a machine on which it is 32 bits and signed.
        assert!(forgetful(-2_054_924_042_i32).is_some_and(|kind| kind.contains("ramfs")));
        assert!(forgetful(0x794c_7630_u32).is_some_and(|kind| kind.contains("overlay")));
        assert_eq!(forgetful(0xef53_i64), None, "ext4");
    }

    #[test]
    fn a_folder_in_memory_is_told_of() {
        let memory = Path::new("/dev/shm");
        let about = rustix::fs::statfs(memory).map(|about| about.f_type);
        let said = examine(memory, None);

        // Where a machine has none, nothing can be said of it.
        assert_eq!(said.len(), usize::from(about.is_ok_and(|kind| forgetful(kind).is_some())));
    }
}
