//! Reads files at paths that users configure: certificates, keys, recordings.
//!
//! Only regular files are read: opening a pipe waits for its other end, and opening a device may
//! have side effects. A read from a dead file server still hangs; callers bound it with
//! [`crate::platform::aside`].

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Largest key or certificate file that is read.
pub(crate) const MAX_PEM_BYTES: u64 = 1 << 20;

/// Reads a regular file of at most `max_bytes`.
///
/// # Errors
/// Returns the error of the file system, `InvalidInput` for anything but a regular file, or
/// `FileTooLarge`.
pub(crate) fn read_file(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(not_regular());
    }
    // The file may have been replaced by a pipe since the check.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let flags = i32::try_from(flags).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(not_regular());
    }
    let mut bytes = Vec::new();
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= max_bytes) {
        return Ok(bytes);
    }
    let text = format!("larger than {max_bytes} bytes");
    Err(io::Error::new(io::ErrorKind::FileTooLarge, text))
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test may write files")]
    fn a_file_is_read_as_long_as_it_is_not_too_large() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        fs::write(&path, "12345").unwrap();

        assert_eq!(read_file(&path, 5).unwrap(), b"12345");
        assert_eq!(read_file(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_pipe_a_device_and_a_folder_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());

        for path in [pipe.as_path(), Path::new("/dev/zero"), folder.path()] {
            let error = read_file(path, 5).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{}", path.display());
        }
        let absent = folder.path().join("absent");
        assert_eq!(read_file(&absent, 5).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
