//! A mark beside the store after its first commit. A new store without the mark was not lost, even
//! if the agent started before: earlier starts may have been killed before their first commit.

use std::path::Path;

use crate::platform::durable;

/// End of the mark's file name.
const MARK: &str = "begun";

/// Returns true if a store at `path` was ever written to.
pub(crate) fn is_marked(path: &Path) -> bool {
    durable::append_extension(path, MARK).exists()
}

/// Removes the mark of the store at `path`, when the store moves to another place.
pub(crate) fn remove_mark(path: &Path) -> std::io::Result<()> {
    durable::remove_file(&durable::append_extension(path, MARK))
}

/// Marks the store at `path`, whose first commit is durable. If the mark cannot be written, a later
/// start writes the mark.
pub(crate) fn write_mark(path: &Path) {
    if is_marked(path) {
        return;
    }
    if let Err(error) = durable::replace_file(&durable::append_extension(path, MARK), b"") {
        tracing::debug!(%error, "the loss of the store would not be noticed");
    }
}
