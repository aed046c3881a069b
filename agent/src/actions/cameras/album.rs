//! The folder of the pictures, on a thread of its own: a card that does not answer holds up pictures, and
//! nothing else.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::folder::Folder;
use crate::platform::aside::Aside;

/// Reading a picture back, syncing it and removing old ones, on a slow card that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module. A clone is the same one.
#[derive(Debug, Clone)]
pub(super) struct Album {
    disk: Aside,
    path: PathBuf,
    /// Opened by whoever needs it first; only the thread of `disk` takes this lock.
    folder: Arc<Mutex<Option<Folder>>>,
    holds: Arc<Mutex<(usize, u64)>>,
}

impl Album {
    pub(super) fn new(path: &Path) -> Self {
        let disk = Aside::new("pictures");
        Self { disk, path: path.to_owned(), folder: Arc::default(), holds: Arc::default() }
    }

    /// Works in the folder, which is opened first if need be.
    ///
    /// # Errors
    /// That of `work`; that there is no folder; that its disk does not answer.
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

    /// How many pictures there are, and their bytes, after the last work.
    pub(super) fn holds(&self) -> (usize, u64) {
        *lock(&self.holds)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
