//! The package that goes onto the device: the one that `cross/build` made.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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

/// An agent for this machine: the one in the package, unpacked into `dir`; if that is for another processor, the one
/// that was built here.
///
/// # Errors
/// There is none.
pub fn program(package: &Path, dir: &Path) -> Result<PathBuf> {
    if package.to_string_lossy().ends_with("_amd64.deb") {
        let tree = dir.join("package");
        let mut command = Command::new("dpkg-deb");
        let status = command.arg("--extract").arg(package).arg(&tree).status();
        let status = status.context("cannot start dpkg-deb")?;
        ensure!(status.success(), "dpkg-deb failed, {status}");
        return Ok(tree.join("usr/bin/pulsegate"));
    }
    let built =
        ["release", "debug"].map(|kind| repository().join("target").join(kind).join("pulsegate"));
    let found = built.into_iter().find(|program| program.is_file());
    found.context("there is no agent for this machine: `cargo build --package pulsegate`")
}

/// Makes, in `dir`, the same package under an older version number.
///
/// # Errors
/// There is no dpkg-deb, or it fails.
pub fn older(package: &Path, dir: &Path) -> Result<PathBuf> {
    let (tree, older) = (dir.join("older"), dir.join("older.deb"));
    let run = |program: &str, arguments: &[&OsStr]| {
        let status = Command::new(program).args(arguments).stdout(Stdio::null()).status();
        let status = status.with_context(|| format!("cannot start {program}"))?;
        ensure!(status.success(), "{program} failed, {status}");
        Ok(())
    };
    run("dpkg-deb", &["--raw-extract".as_ref(), package.as_ref(), tree.as_ref()])?;
    let control = tree.join("DEBIAN/control");
    let version = "s/^Version: .*/Version: 0.0.1/".as_ref();
    run("sed", &["--in-place".as_ref(), version, control.as_ref()])?;
    // The guest is slow at unpacking what is packed well.
    let packing = ["-Znone".as_ref(), "--root-owner-group".as_ref(), "--build".as_ref()];
    run("dpkg-deb", &[&packing[..], &[tree.as_ref(), older.as_ref()]].concat())?;
    Ok(older)
}
