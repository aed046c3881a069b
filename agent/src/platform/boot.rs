//! The start of the agent: how often it started on this state directory, and a random suffix. Both are
//! part of every record id, so that no id is given twice, whatever becomes of the state directory.
//!
//! The counter is durable before the first record, and lies beside the store, so that losing the store
//! does not reset it. The suffix is drawn at each start and kept with the records.

use std::fs::File;
use std::hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _};
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use pulsegate_core::record::reading::Boot;

use crate::platform::{clock, durable};

/// The file, in the state directory.
pub(crate) const FILE: &str = "boot";
/// A count above this was never reached by counting: a start every second takes thirty years to it.
const MAX_COUNT: u32 = 1_000_000_000;
/// The kernel's random source. It does not block: a kernel that has gathered too little chance yet
/// (Linux before 5.18, in its first second) answers with what it has (random(4)).
const RANDOM_SOURCE: &str = "/dev/urandom";

/// Counts this start and draws its suffix. `stored` is the last start that the store knows of, in case
/// the file is lost.
///
/// # Errors
/// When the number cannot be made durable. It may be used all the same: the store makes it so.
pub(crate) fn count(state_dir: &Path, stored: Option<u32>) -> (Boot, anyhow::Result<()>) {
    let path = state_dir.join(FILE);
    let known = counted(state_dir).into_iter().chain(stored).filter(|count| *count < MAX_COUNT);
    let counter = known.max().unwrap_or(0) + 1;
    let written = durable::replace(&path, counter.to_string().as_bytes())
        .with_context(|| format!("cannot write `{}`", path.display()));
    (Boot::new(counter, random()), written)
}

/// How many starts the file counts, if there is a number in it.
pub(crate) fn counted(state_dir: &Path) -> Option<u32> {
    std::fs::read_to_string(state_dir.join(FILE)).ok()?.trim().parse().ok()
}

/// Random bits: of the kernel, mixed with what differs from start to start and from device to device, so
/// that a kernel without chance, or without the file, still gives another suffix.
fn random() -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut bytes = [0; 16];
    match File::open(RANDOM_SOURCE).and_then(|mut source| source.read_exact(&mut bytes)) {
        Ok(()) => bytes.hash(&mut hasher),
        Err(error) => {
            tracing::warn!(%error, "`{RANDOM_SOURCE}` cannot be read: clocks stand in for it");
            std::hash::RandomState::new().hash_one(0).hash(&mut hasher);
        }
    }
    clock::kernel_boot_id().hash(&mut hasher);
    (clock::since_boot(), clock::wall(), std::process::id()).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(state_dir: &Path, stored: Option<u32>) -> u32 {
        count(state_dir, stored).0.counter()
    }

    #[test]
    fn counts_on_from_whichever_of_file_and_store_is_further() {
        let folder = tempfile::tempdir().unwrap();

        assert_eq!(counter(folder.path(), None), 1);
        assert_eq!(counter(folder.path(), None), 2);
        assert_eq!(counter(folder.path(), Some(41)), 42);
        std::fs::remove_file(folder.path().join(FILE)).unwrap();
        assert_eq!(counter(folder.path(), Some(42)), 43);
    }

    #[test]
    fn garbage_in_the_file_is_no_reason_not_to_start() {
        let folder = tempfile::tempdir().unwrap();
        for garbage in [&b"\xff\xfe garbage"[..], b"4294967295", b"-1", b""] {
            durable::replace(&folder.path().join(FILE), garbage).unwrap();

            let (boot, written) = count(folder.path(), Some(7));

            assert_eq!(boot.counter(), 8);
            written.unwrap();
        }
        assert_eq!(counter(folder.path(), Some(u32::MAX)), 9, "nor is a damaged store");
    }

    #[test]
    fn starts_with_the_same_counter_differ_in_their_suffix() {
        let starts: std::collections::HashSet<_> = (0..1_000)
            .map(|_| count(tempfile::tempdir().unwrap().path(), None).0.to_string())
            .collect();

        assert_eq!(starts.len(), 1_000);
    }
}
