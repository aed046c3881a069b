//! Writes files that survive a power cut. No other module renames or fsyncs files.
//!
//! A replacement is written to a file beside the target and fsynced, then renamed over the target,
//! and the folder is fsynced. After a power cut, the file has its old or its new content, never a
//! mixture.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// Replaces `path` with `content`, accessible by the agent's user only.
///
/// # Errors
/// Returns the error of the file system; the old content is kept.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    fill_and_rename(path, |file| file.write_all(content))
}

/// Creates a file with `bytes` bytes of allocated space, accessible by the agent's user only.
///
/// # Errors
/// Returns the error of the file system; the old content is kept.
pub(crate) fn allocate_file(path: &Path, bytes: u64) -> io::Result<()> {
    fill_and_rename(path, |file| match fallocate(&*file, FallocateFlags::empty(), 0, bytes) {
        // The file system has no fallocate(2): writing zeros is the only way to allocate space.
        Err(Errno::OPNOTSUPP) => io::copy(&mut io::repeat(0).take(bytes), file).map(drop),
        allocated => allocated.map_err(io::Error::from),
    })
}

/// Lengthens a file to `length` bytes with written zeros, so that later writes within this length change no
/// metadata of the file system. Allocated space would not do: the first write to it changes metadata as well.
///
/// # Errors
/// Returns the error of the file system; the file may have got a part of the zeros.
pub(crate) fn lengthen_file(path: &Path, length: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    let missing = length.saturating_sub(file.metadata()?.len());
    io::copy(&mut io::repeat(0).take(missing), &mut file)?;
    file.sync_all()
}

/// Fills a new file with `fill` and renames it to `path`. If that fails, the new file is removed,
/// since it would use space on a full disk.
fn fill_and_rename(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let beside = append_extension(path, "new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    let put =
        fill(&mut file).and_then(|()| file.sync_all()).and_then(|()| rename_file(&beside, path));
    if put.is_err() {
        std::fs::remove_file(&beside).ok();
    }
    put
}

/// Moves a file to another name in the same folder.
///
/// # Errors
/// Returns the error of the file system.
pub(crate) fn rename_file(from: &Path, to: &Path) -> io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "this is the place that may")]
    std::fs::rename(from, to)?;
    sync_folder(to)
}

/// Gives a file a second name in the same folder.
///
/// # Errors
/// Returns the error of the file system; some file systems have no hard links.
pub(crate) fn link_file(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::hard_link(from, to)?;
    sync_folder(to)
}

/// Syncs the content of a file, written by any process, to the disk.
///
/// # Errors
/// Returns the error of the file system.
pub(crate) fn sync_file(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Removes a file; succeeds if the file does not exist.
///
/// # Errors
/// Returns the error of the file system.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| sync_folder(path)),
    }
}

/// Creates an empty file, accessible by the agent's user only, unless `path` exists.
///
/// # Errors
/// Returns the error of the file system.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    match create_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Creates an empty file, accessible by the agent's user only.
///
/// # Errors
/// Returns the error of the file system, also if `path` exists.
pub(crate) fn create_new(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
}

/// Removes the permissions of group and others from a file. The file is not opened: closing it
/// would release SQLite's locks on the file.
pub(crate) fn make_private(path: &Path) {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return };
    let mode = metadata.permissions().mode();
    if metadata.is_file() && mode & 0o077 != 0 {
        // A file of another owner causes an error later, on opening.
        std::fs::set_permissions(path, Permissions::from_mode(mode & 0o700)).ok();
    }
}

/// Returns `path` with `extension` appended after its own extension.
pub(crate) fn append_extension(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_the_whole_content_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boot");

        replace_file(&path, b"1234567890").unwrap();
        replace_file(&path, b"2").unwrap();

        assert_eq!(std::fs::read(&path).unwrap(), b"2");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
    #[test]
    fn a_file_that_cannot_be_replaced_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boot");
        std::fs::create_dir(&path).unwrap();

        replace_file(&path, b"2").unwrap_err();

        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
