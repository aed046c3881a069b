//! The boot counter: how often the agent started on this device. It is half of every record's
//! name, so it never repeats: it is durable before the first record, and lies beside the store, so
//! that losing the store does not reset it.

use std::path::Path;

use anyhow::Context as _;
use pulsegate_core::reading::Boot;

use crate::durable;

/// The file, in the state directory.
const FILE: &str = "boot";

/// Counts this start. `stored` is the last one that the store knows of, in case the file is lost.
///
/// # Errors
/// When the number cannot be made durable. It may be used all the same: the store makes it so.
pub(crate) fn count(state_dir: &Path, stored: Option<u32>) -> (Boot, anyhow::Result<()>) {
    let path = state_dir.join(FILE);
    let counted = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
    let boot = counted.into_iter().chain(stored).max().unwrap_or(0_u32).saturating_add(1);
    let written = durable::replace(&path, boot.to_string().as_bytes())
        .with_context(|| format!("cannot write `{}`", path.display()));
    (Boot(boot), written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_on_from_whichever_of_file_and_store_is_further() {
        let folder = tempfile::tempdir().unwrap();

        assert_eq!(count(folder.path(), None).0, Boot(1));
        assert_eq!(count(folder.path(), None).0, Boot(2));
        assert_eq!(count(folder.path(), Some(41)).0, Boot(42));
        std::fs::remove_file(folder.path().join(FILE)).unwrap();
        assert_eq!(count(folder.path(), Some(42)).0, Boot(43));
    }

    #[test]
    fn garbage_in_the_file_is_no_reason_not_to_start() {
        let folder = tempfile::tempdir().unwrap();
        durable::replace(&folder.path().join(FILE), b"\xff\xfe garbage").unwrap();

        let (boot, written) = count(folder.path(), Some(7));

        assert_eq!(boot, Boot(8));
        written.unwrap();
    }
}
