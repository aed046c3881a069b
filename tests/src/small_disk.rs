//! A disk of a few megabytes that a test can fill: a file system in memory, in a mount namespace of the test's own.
//!
//! A mount namespace needs a process of its own, so [`SmallDisk::enter`] runs the test that calls it once more, as
//! its child.

#![expect(clippy::print_stderr, reason = "a test that does not run says so")]

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Names the folder of the disk to the child.
const FOLDER: &str = "PULSEGATE_TEST_SMALL_DISK";
/// Sizes of the writes that fill the disk, in bytes: the last ones take what the first ones leave.
const FILLING_BYTES: [usize; 3] = [1 << 16, 1 << 10, 1];

/// See the module.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Returns a disk of `size` (as mount(8) takes it, such as `4m`) in the child. The parent gets `None` after the
    /// child passed `test`, the full name of the caller; also where no user may have a mount namespace.
    ///
    /// # Panics
    /// When the child fails: with what it printed.
    #[must_use]
    pub fn enter(test: &str, size: &str) -> Option<Self> {
        if let Some(folder) = std::env::var_os(FOLDER) {
            return Some(Self { folder: folder.into() });
        }
        let may = Command::new("unshare").args(["-rm", "true"]).status();
        if !may.is_ok_and(|status| status.success()) {
            eprintln!("NOT RUN: no user may have a mount namespace on this machine");
            return None;
        }
        let folder = TempDir::with_prefix("pulsegate-disk-").expect("a temporary directory");
        let mount = format!(r#"mount -t tmpfs -o size={size} none "${FOLDER}" && exec "$@""#);
        let output = Command::new("unshare")
            .args(["-rm", "sh", "-c", &mount, "sh"])
            .arg(std::env::current_exe().expect("a running program has a path"))
            .args(["--exact", test, "--nocapture"])
            .env(FOLDER, folder.path())
            .output()
            .expect("`unshare` was there a moment ago");
        let [said, complained] =
            [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        assert!(output.status.success(), "{said}\n{complained}");
        assert!(said.contains("1 passed"), "no test `{test}`: {said}");
        None
    }

    /// Its root.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Takes all room that is free, as another program would.
    ///
    /// # Panics
    /// When the file that takes it cannot be opened.
    pub fn fill(&self) {
        let file = OpenOptions::new().append(true).create(true).open(self.filling());
        let mut file = file.expect("a file that takes the room");
        for size in FILLING_BYTES {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Gives back what [`SmallDisk::fill`] took.
    ///
    /// # Panics
    /// When the file cannot be removed.
    pub fn make_room(&self) {
        if self.filling().exists() {
            std::fs::remove_file(self.filling()).expect("a file of ours");
        }
    }

    fn filling(&self) -> PathBuf {
        self.folder.join("filling")
    }
}
