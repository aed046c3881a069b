//! A block device of its own for a store: a loop device with a journaled ext4, which counts what reaches the device.
//!
//! The benchmark runs itself once more in a mount namespace of its own. The file systems disappear with the last
//! process of the namespace, however it ends, and then the kernel frees the loop devices. The file below a loop
//! device has no name any more once it is mounted.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// Set in the process inside the mount namespace.
const INSIDE: &str = "PULSEGATE_BENCH_MOUNTS";
/// Size of the device: enough for a journal of the usual relative size.
const DEVICE_BYTES: u64 = 512 << 20;
/// Bytes of a sector in `/sys/block/*/stat`, whatever the device (the kernel's Documentation/block/stat.rst).
const SECTOR_BYTES: u64 = 512;
/// The column of sectors written, from 0.
const SECTORS_WRITTEN: usize = 6;

/// A mounted loop device.
#[derive(Debug)]
pub(crate) struct LoopDisk {
    mounted: TempDir,
    /// Name of the device, such as `loop0`.
    device: String,
}

/// Runs this program again in a mount namespace of its own, in the same process. Returns if that is impossible, or
/// done already.
pub(crate) fn enter_namespace() {
    if std::env::var_os(INSIDE).is_some() || !rustix::process::geteuid().is_root() {
        return;
    }
    let may = Command::new("unshare").args(["--mount", "true"]).status();
    let Ok(program) = std::env::current_exe() else { return };
    if may.is_ok_and(|status| status.success()) {
        let mut command = Command::new("unshare");
        command.arg("--mount").arg(program).args(std::env::args_os().skip(1)).env(INSIDE, "1");
        drop(command.exec());
    }
}

impl LoopDisk {
    /// Makes and mounts the device; `None` without root, loop devices or a mount namespace.
    pub(crate) fn mount_new() -> Option<Self> {
        std::env::var_os(INSIDE)?;
        let mounted = TempDir::with_prefix("pulsegate-disk-").ok()?;
        let image = tempfile::NamedTempFile::with_prefix("pulsegate-image-").ok()?;
        image.as_file().set_len(DEVICE_BYTES).ok()?;
        // At once, so that the kernel does not write tables in the background later.
        let extended = "lazy_itable_init=0,lazy_journal_init=0";
        let make = ["-q", "-F", "-E", extended];
        succeeds(Command::new("mkfs.ext4").args(make).arg(image.path())).then_some(())?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "ext4", "-o", "loop"]).arg(image.path()).arg(mounted.path());
        succeeds(&mut mount).then_some(())?;
        let device = device_of(mounted.path())?;
        Some(Self { mounted, device })
    }

    /// Returns the root of the file system.
    pub(crate) fn path(&self) -> &Path {
        self.mounted.path()
    }

    /// Writes everything to the device, and returns the bytes written to the device since it was made.
    pub(crate) fn sync_and_count(&self) -> u64 {
        assert!(succeeds(Command::new("sync").arg("-f").arg(self.path())), "syncs the device");
        let stat = fs::read_to_string(format!("/sys/block/{}/stat", self.device));
        let stat = stat.expect("the kernel counts for each block device");
        let sectors = stat.split_whitespace().nth(SECTORS_WRITTEN);
        sectors.and_then(|sectors| sectors.parse::<u64>().ok()).expect("a count") * SECTOR_BYTES
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        succeeds(Command::new("umount").arg(self.path()));
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}

fn device_of(path: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let device = mounts.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let device = words.next()?;
        (words.next()? == path.to_str()?).then_some(device)
    })?;
    device.strip_prefix("/dev/").map(str::to_owned)
}
