//! Runs work on the picture folder on a separate thread: a memory card without an answer delays
//! only pictures.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::folder::Folder;
use crate::platform::aside::Aside;

/// Time limit for reading back and syncing a picture and removing old ones, on a slow and busy
/// card.
const PATIENCE: Duration = Duration::from_secs(30);

/// Handle of the picture folder; see the module. Clones share the folder.
#[derive(Debug, Clone)]
pub(super) struct Album {
    disk: Aside,
    path: PathBuf,
    /// Opened at first use; only the thread of `disk` takes this lock.
    folder: Arc<Mutex<Option<Folder>>>,
    holds: Arc<Mutex<(usize, u64)>>,
}

impl Album {
    pub(super) fn new(path: &Path) -> Self {
        let disk = Aside::new("pictures");
        Self { disk, path: path.to_owned(), folder: Arc::default(), holds: Arc::default() }
    }

    /// Runs `work` on the folder's thread, opening the folder first if needed.
    ///
    /// # Errors
    /// Returns the error of `work`, or the reason the folder cannot be opened or does not answer in
    /// time.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Folder) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let Self { path, folder, holds, .. } = self.clone();
        let work = move || {
            let mut folder = lock(&folder);
            let folder = match &mut *folder {
                Some(folder) => folder,
                none => none.insert(
                    Folder::open(&path)
                        .map_err(|error| format!("there is no folder for pictures: {error}"))?,
                ),
            };
            let outcome = work(folder);
            *lock(&holds) = folder.holds();
            outcome
        };
        let done = self.disk.run(PATIENCE, work).await;
        done.unwrap_or_else(|not_done| {
            Err(format!("the disk of the pictures hangs ({not_done}): check the card"))
        })
    }

    /// Returns the number of pictures and their total bytes after the last work.
    pub(super) fn holds(&self) -> (usize, u64) {
        *lock(&self.holds)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
