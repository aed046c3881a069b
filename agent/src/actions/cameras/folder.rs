//! Folder of the pictures on this device. At its limit, the oldest pictures are deleted first.
//!
//! A picture is written under a hidden name, synced, and then renamed, so a power cut leaves a
//! whole picture or none. Names sort by age. Hidden files left by a power cut are removed at the
//! next start.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use pulsegate_core::act::capture::Quota;
use ring::digest;

use crate::platform::durable;

/// Free space that pictures leave to the readings, in bytes.
const LEAVE_FREE_BYTES: u64 = 64 << 20;

/// Stored picture, as described by its event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    /// File name in the folder.
    pub(super) key: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// Picture folder with its index; see the module.
#[derive(Debug)]
pub(super) struct PictureFolder {
    path: PathBuf,
    /// Names and sizes in bytes, the oldest first.
    kept: VecDeque<(String, u64)>,
}

impl PictureFolder {
    /// Opens the folder, making it if needed, and removes partial pictures left by a power cut.
    pub(super) fn open_at(path: &Path) -> io::Result<Self> {
        // Pictures may show people: only the agent's user may enter the folder.
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let mut kept = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let about = entry.metadata()?;
            if !about.is_file() {
                continue;
            }
            if name.starts_with('.') {
                durable::remove_file(&entry.path())?;
            } else {
                kept.push((name, about.len()));
            }
        }
        kept.sort();
        Ok(Self { path: path.to_owned(), kept: kept.into() })
    }

    /// Returns the number of pictures and their total bytes.
    pub(super) fn kept_totals(&self) -> (usize, u64) {
        (self.kept.len(), self.kept.iter().map(|(_, bytes)| bytes).sum())
    }

    /// Returns the hidden path at which picture `key` is written.
    pub(super) fn hidden_path(&self, key: &str) -> PathBuf {
        self.path.join(format!(".{key}"))
    }

    /// Returns the reason for refusing another picture if the disk lacks space, else `None`.
    pub(super) fn refusal_reason(&self, quota: Quota) -> Option<String> {
        let about = rustix::fs::statvfs(&self.path).ok()?;
        let free = about.f_bavail.saturating_mul(about.f_frsize);
        let needed = LEAVE_FREE_BYTES.saturating_add(quota.largest);
        (free < needed)
            .then(|| format!("the disk has {} MiB left: they are for the readings", free >> 20))
    }

    /// Deletes the oldest pictures to make room for one of `bytes`. Returns the number deleted.
    pub(super) fn make_room(&mut self, quota: Quota, bytes: u64) -> io::Result<usize> {
        let surplus = quota.count_surplus(self.kept.iter().map(|(_, bytes)| *bytes), bytes);
        for gone in 0..surplus {
            let Some((name, _)) = self.kept.front() else { return Ok(gone) };
            durable::remove_file(&self.path.join(name))?;
            self.kept.pop_front();
        }
        Ok(surplus)
    }

    /// Adds a stored picture to the index.
    pub(super) fn add_picture(&mut self, picture: &Picture) {
        self.kept.push_back((picture.key.clone(), picture.bytes));
    }
}

/// Syncs a picture and renames the file from its hidden name to `key`. Blocks for as long as the
/// memory card takes.
pub(super) fn store_picture(hidden: &Path, key: &str) -> io::Result<Picture> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut file = fs::File::open(hidden)?;
    let mut block = vec![0; 64 << 10];
    let mut bytes = 0;
    loop {
        let read = io::Read::read(&mut file, &mut block)?;
        if read == 0 {
            break;
        }
        context.update(&block[..read]);
        bytes += read as u64;
    }
    durable::sync_file(hidden)?;
    durable::rename_file(hidden, &hidden.with_file_name(key))?;
    let sha256 = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Picture { key: key.to_owned(), bytes, sha256 })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test may write files")]

    use super::*;

    fn add(folder: &mut PictureFolder, key: &str, content: &[u8]) -> Picture {
        let hidden = folder.hidden_path(key);
        fs::write(&hidden, content).unwrap();
        let picture = store_picture(&hidden, key).unwrap();
        folder.add_picture(&picture);
        picture
    }

    fn names(path: &Path) -> Vec<String> {
        let names = fs::read_dir(path).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_picture_is_kept_under_its_name_with_its_hash() {
        let at = tempfile::tempdir().unwrap();
        let mut folder = PictureFolder::open_at(&at.path().join("pictures")).unwrap();

        let picture = add(&mut folder, "1-1-nest.jpg", b"abc");

        // FIPS 180-2, appendix B.1.
        let of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((picture.bytes, picture.sha256.as_str()), (3, of_abc));
        assert_eq!(names(&at.path().join("pictures")), ["1-1-nest.jpg"]);
        assert_eq!(folder.kept_totals(), (1, 3));
    }

    /// NC-1.
    #[test]
    fn the_oldest_goes_for_the_newest_also_after_a_restart() {
        let at = tempfile::tempdir().unwrap();
        let quota = Quota { kept: 25, largest: 10 };
        let mut folder = PictureFolder::open_at(at.path()).unwrap();
        add(&mut folder, "00000001-000002-b.jpg", &[0; 10]);
        add(&mut folder, "00000001-000001-a.jpg", &[0; 10]);
        let mut folder = PictureFolder::open_at(at.path()).unwrap();

        assert_eq!(folder.make_room(quota, 5).unwrap(), 0);
        assert_eq!(folder.make_room(quota, 6).unwrap(), 1);

        assert_eq!(names(at.path()), ["00000001-000002-b.jpg"], "the first taken is gone");
    }

    #[test]
    fn what_a_power_cut_left_half_is_no_picture() {
        let at = tempfile::tempdir().unwrap();
        let folder = PictureFolder::open_at(at.path()).unwrap();
        fs::write(folder.hidden_path("1-1-nest.jpg"), b"half").unwrap();

        let folder = PictureFolder::open_at(at.path()).unwrap();

        assert_eq!(folder.kept_totals(), (0, 0));
        assert_eq!(names(at.path()), [""; 0]);
    }
}
