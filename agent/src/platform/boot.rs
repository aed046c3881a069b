//! Counts the agent's starts on a state directory and draws a random suffix for each start. Both
//! are part of every record id, so ids stay unique even if the state directory is lost or restored.
//!
//! The counter is durable before the first record is written, in a file beside the store, so losing
//! the store does not reset the counter. The suffix is drawn at each start and stored with the
//! records.

use std::fs::File;
use std::hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _};
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use pulsegate_core::record::reading::Boot;

use crate::platform::{clock, durable};

/// Name of the counter file in the state directory.
pub(crate) const FILE: &str = "boot";
/// Limit above which a stored count is taken for damage: one start a second would take thirty years
/// to reach the limit.
const MAX_COUNT: u32 = 1_000_000_000;
/// Kernel's random source. Reads do not block: before enough entropy is gathered (Linux before
/// 5.18, in its first second), the kernel returns weaker bytes (random(4)).
const RANDOM_SOURCE: &str = "/dev/urandom";

/// Counts this start and draws its suffix. `stored` is the last start known to the store: the
/// higher of `stored` and the counter file counts, so a lost or older file repeats no number.
///
/// # Errors
/// Returns an error beside the [`Boot`] if the counter file cannot be written. The number may still
/// be used: the store makes the number durable.
pub(crate) fn count_start(state_dir: &Path, stored: Option<u32>) -> (Boot, anyhow::Result<()>) {
    let path = state_dir.join(FILE);
    let known = read_count(state_dir).into_iter().chain(stored).filter(|count| *count < MAX_COUNT);
    let counter = known.max().unwrap_or(0) + 1;
    let written = durable::replace_file(&path, counter.to_string().as_bytes())
        .with_context(|| format!("cannot write `{}`", path.display()));
    (Boot::new(counter, draw_random()), written)
}

/// Returns the number of starts in the counter file, if the file holds a number.
pub(crate) fn read_count(state_dir: &Path) -> Option<u32> {
    std::fs::read_to_string(state_dir.join(FILE)).ok()?.trim().parse().ok()
}

/// Returns random bits from the kernel, mixed with values that differ between starts and devices,
/// so the suffix differs even if the random source is missing or has no entropy.
fn draw_random() -> u64 {
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
        count_start(state_dir, stored).0.counter()
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
            durable::replace_file(&folder.path().join(FILE), garbage).unwrap();

            let (boot, written) = count_start(folder.path(), Some(7));

            assert_eq!(boot.counter(), 8);
            written.unwrap();
        }
        assert_eq!(counter(folder.path(), Some(u32::MAX)), 9, "nor is a damaged store");
    }

    #[test]
    fn starts_with_the_same_counter_differ_in_their_suffix() {
        let starts: std::collections::HashSet<_> = (0..1_000)
            .map(|_| count_start(tempfile::tempdir().unwrap().path(), None).0.to_string())
            .collect();

        assert_eq!(starts.len(), 1_000);
    }
}
