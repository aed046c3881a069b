//! The package that goes onto the device: the real one if it was built, else a stand-in made of this
//! tree's binary, which is said.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};

use crate::image::Arch;

/// Where `cross/build` puts packages, in the repository.
const PACKAGES: &str = "target/packages";

/// The repository.
#[must_use]
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// The newest package for this processor; `None` if none was built.
#[must_use]
pub fn newest(arch: Arch) -> Option<PathBuf> {
    let end = format!("_{}.deb", arch.name());
    let entries = std::fs::read_dir(repository().join(PACKAGES)).ok()?.flatten();
    let packages = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("pulsegate_") && name.ends_with(&end)
    });
    let changed = |entry: &std::fs::DirEntry| {
        entry.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    packages.max_by_key(changed).map(|entry| entry.path())
}

/// Makes the stand-in in `dir`, of the binary that cargo built last.
///
/// # Errors
/// There is no binary, or no dpkg-deb.
pub fn stand_in(arch: Arch, dir: &Path) -> Result<PathBuf> {
    ensure!(arch == Arch::Amd64, "there is no stand-in for {}: build its package", arch.name());
    let binary = repository().join("target/debug/pulsegate");
    ensure!(
        binary.exists(),
        "`{}` is missing: `cargo build --package pulsegate`",
        binary.display()
    );
    let package = dir.join("pulsegate_stand-in.deb");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("stand-in-package");
    let status = Command::new(script).arg(&binary).arg(arch.name()).arg(&package).status();
    ensure!(status.context("cannot start stand-in-package")?.success(), "no stand-in was made");
    Ok(package)
}
