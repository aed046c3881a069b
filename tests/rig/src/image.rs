//! What the machine is made of: built by the scripts in `image/`, and kept in a cache.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};

/// What the scripts exit with when the archive cannot be reached, or what they need is missing.
const UNAVAILABLE: i32 = 75;

/// How the machine is wired up.
const MACHINE: &str = concat!(include_str!("machine.rs"), include_str!("device_tree.rs"));

/// Which processor the device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Arch {
    /// A PC: the fastest to emulate.
    Amd64,
    /// A 64-bit ARM, which says that it is a Raspberry Pi 4.
    Arm64,
}

/// A built image.
#[derive(Debug, Clone)]
pub struct Image {
    /// For which processor.
    pub arch: Arch,
    /// Where its files are.
    pub dir: PathBuf,
}

/// Why there is no image.
#[derive(Debug)]
pub enum NoImage {
    /// This machine cannot have one: no QEMU, or no archive.
    Unavailable,
    /// Building it failed.
    Failed(anyhow::Error),
}

impl Arch {
    /// As Debian calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    pub(crate) fn qemu(self) -> &'static str {
        match self {
            Self::Amd64 => "qemu-system-x86_64",
            Self::Arm64 => "qemu-system-aarch64",
        }
    }

    pub(crate) fn machine(self) -> &'static [&'static str] {
        match self {
            Self::Amd64 => &["-machine", "q35", "-smp", "1", "-m", "512"],
            Self::Arm64 => &["-machine", "virt", "-cpu", "cortex-a72", "-smp", "1", "-m", "512"],
        }
    }

    pub(crate) fn console(self) -> &'static str {
        match self {
            Self::Amd64 => "ttyS0",
            Self::Arm64 => "ttyAMA0",
        }
    }

    /// The serial port that has the Bluetooth chip at its other end.
    pub(crate) fn radio(self) -> &'static str {
        match self {
            Self::Amd64 => "ttyS1",
            Self::Arm64 => "ttyS0",
        }
    }
}

impl Image {
    /// Has the scripts build it, unless the cache has it.
    ///
    /// # Errors
    /// See [`NoImage`].
    pub fn build(arch: Arch) -> Result<Self, NoImage> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("image/build");
        let mut command = Command::new(script);
        command.arg(arch.name()).stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command.output().context("cannot start image/build");
        let output = output.map_err(NoImage::Failed)?;
        if output.status.code() == Some(UNAVAILABLE) {
            return Err(NoImage::Unavailable);
        }
        if !output.status.success() {
            return Err(NoImage::Failed(anyhow::anyhow!("image/build failed, {}", output.status)));
        }
        let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(Self { arch, dir: PathBuf::from(path) })
    }

    /// Where the booted machine is saved: what it was saved with has to restore it.
    pub(crate) fn saved(&self) -> Result<PathBuf> {
        let output = Command::new(self.arch.qemu()).arg("--version").output();
        let version = output.with_context(|| format!("cannot start {}", self.arch.qemu()))?.stdout;
        let mut hasher = DefaultHasher::new();
        (version, MACHINE).hash(&mut hasher);
        Ok(self.dir.join(format!("booted-{:016x}", hasher.finish())))
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("root.img")
    }
}

/// What the rig exits with when it cannot run here, so that nobody takes it for a success.
#[must_use]
pub fn unavailable() -> ExitCode {
    ExitCode::from(77)
}
