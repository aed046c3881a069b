//! What an arm64 machine is told it is: QEMU's own device tree under the name of a Raspberry Pi 4, and
//! without the clock chip, which a Raspberry Pi has not.
//!
//! The name is all that is a Raspberry Pi's: none of its hardware is described, nor there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// QEMU's name for the clock chip, on its `virt` machine.
const CLOCK: &str = "/pl031@9010000";

/// Writes it to a file in `dir`: `machine` are the arguments of QEMU that it depends on.
///
/// # Errors
/// QEMU or fdtput cannot.
pub(crate) fn write(qemu: &str, machine: &[&str], dir: &Path) -> Result<PathBuf> {
    let file = dir.join("raspberry-pi.dtb");
    let dump = format!("dumpdtb={}", file.display());
    let mut qemu = Command::new(qemu);
    run(qemu.args(machine).args(["-nodefaults", "-display", "none", "-machine", &dump]))?;
    let edit = |options: &[&str], values: &[&str]| {
        run(Command::new("fdtput").args(options).arg(&file).args(values))
    };
    edit(&["-t", "s"], &["/", "model", "Raspberry Pi 4 Model B Rev 1.4"])?;
    edit(&["-t", "s"], &["/", "compatible", "raspberrypi,4-model-b", "brcm,bcm2711"])?;
    edit(&["-r"], &[CLOCK])?;
    Ok(file)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed, {}: {said}", output.status);
    Ok(())
}
