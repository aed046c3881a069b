//! Runs work on the picture folder on a separate thread: a memory card without an answer delays
//! only pictures.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::folder::PictureFolder;
use crate::platform::aside::BlockingWorker;

/// Time limit for reading back and syncing a picture and removing old ones, on a slow and busy
/// card.
const PATIENCE: Duration = Duration::from_secs(30);

/// Handle of the picture folder; see the module. Clones share the folder.
#[derive(Debug, Clone)]
pub(super) struct PictureStore {
    disk: BlockingWorker,
    path: PathBuf,
    /// Opened at first use; only the thread of `disk` takes this lock.
    folder: Arc<Mutex<Option<PictureFolder>>>,
    holds: Arc<Mutex<(usize, u64)>>,
}

impl PictureStore {
    pub(super) fn new(path: &Path) -> Self {
        let disk = BlockingWorker::new("pictures");
        Self { disk, path: path.to_owned(), folder: Arc::default(), holds: Arc::default() }
    }

    /// Runs `work` on the folder's thread, opening the folder first if needed.
    ///
    /// # Errors
    /// Returns the error of `work`, or the reason the folder cannot be opened or does not answer in
    /// time.
    pub(super) async fn run_with_folder<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut PictureFolder) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let Self { path, folder, holds, .. } = self.clone();
        let work = move || {
            let mut folder = lock_mutex(&folder);
            let folder = match &mut *folder {
                Some(folder) => folder,
                none => none.insert(
                    PictureFolder::open_at(&path)
                        .map_err(|error| format!("there is no folder for pictures: {error}"))?,
                ),
            };
            let outcome = work(folder);
            *lock_mutex(&holds) = folder.kept_totals();
            outcome
        };
        let done = self.disk.run(PATIENCE, work).await;
        done.unwrap_or_else(|not_done| {
            Err(format!("the disk of the pictures hangs ({not_done}): check the card"))
        })
    }

    /// Returns the number of pictures and their total bytes after the last work.
    pub(super) fn kept_totals(&self) -> (usize, u64) {
        *lock_mutex(&self.holds)
    }
}

fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
