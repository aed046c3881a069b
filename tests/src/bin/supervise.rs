//! Runs a command, mostly the whole test suite, and fails if that leaves a process or a file behind.
//!
//! `supervise [--busy] COMMAND...`: the command has a folder for temporary files of its own (`TMPDIR`), which
//! each of its processes inherits, so that one that outlives it is found by it, named, and killed. With
//! `--busy` all processors are kept busy meanwhile, so that a test that counts on a quiet machine fails.

#![expect(clippy::print_stderr, reason = "a program for people")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use pulsegate_tests::{leftover, within};

/// What is ending when the command has ended may take that long.
const ENDING: Duration = Duration::from_secs(10);
const FAILED: u8 = 1;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let is_busy = arguments.first().is_some_and(|first| first == "--busy");
    if is_busy {
        arguments.remove(0);
    }
    let Some((program, arguments)) = arguments.split_first() else {
        bail!("usage: supervise [--busy] COMMAND...");
    };
    // The paths of sockets are short.
    let folder =
        tempfile::Builder::new().prefix("pg-").tempdir().context("cannot make a folder")?;
    // As `/tmp` is: some tests run as another user.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o1777))?;
    let mut command = Command::new(program);
    command.args(arguments).env("TMPDIR", folder.path());

    let status = if is_busy { beside_load(&mut command) } else { command.status() };
    let status = status.with_context(|| format!("cannot run `{}`", program.display()))?;

    let is_clean = nothing_runs(folder.path()).await & nothing_is_in(folder.path())?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED);
    Ok(ExitCode::from(if is_clean { code } else { code.max(FAILED) }))
}

/// Runs the command while one thread for each processor, and one more, does nothing but count.
fn beside_load(command: &mut Command) -> std::io::Result<std::process::ExitStatus> {
    let threads = thread::available_parallelism()?.get() + 1;
    let has_ended = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !has_ended.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let status = command.status();
        has_ended.store(true, Ordering::Relaxed);
        status
    })
}

/// Whether no process of the command is left; those that are, are named and killed.
async fn nothing_runs(folder: &Path) -> bool {
    let none = async || leftover::mentioning(folder).is_empty().then_some(());
    if within(ENDING, none).await.is_some() {
        return true;
    }
    for running in leftover::mentioning(folder) {
        eprintln!("left running: {} (process {})", running.command, running.pid);
        running.kill();
    }
    false
}

/// Whether the folder is empty; what is in it, is named.
fn nothing_is_in(folder: &Path) -> anyhow::Result<bool> {
    let left = folder.read_dir().with_context(|| format!("cannot read `{}`", folder.display()))?;
    let mut is_empty = true;
    for entry in left {
        eprintln!("left behind: {}", entry?.path().display());
        is_empty = false;
    }
    Ok(is_empty)
}
