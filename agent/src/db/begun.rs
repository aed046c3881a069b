//! A mark beside the store: it was written to at least once. Without the mark, a store that is new was
//! not lost, however often the agent started before: the first starts may have been killed before
//! anything was durable.

use std::path::Path;

use crate::platform::durable;

/// How the name of the mark goes on.
const MARK: &str = "begun";

/// Whether a store at `path` was ever written to.
pub(crate) fn is_marked(path: &Path) -> bool {
    durable::beside(path, MARK).exists()
}

/// Takes the mark of the store at `path` away, which has another place now.
pub(crate) fn unmark(path: &Path) -> std::io::Result<()> {
    durable::remove(&durable::beside(path, MARK))
}

/// Marks the store at `path`, whose first commit is durable. A mark that cannot be written now is
/// written by a later start.
pub(crate) fn mark(path: &Path) {
    if is_marked(path) {
        return;
    }
    if let Err(error) = durable::replace(&durable::beside(path, MARK), b"") {
        tracing::debug!(%error, "the loss of the store would not be noticed");
    }
}
