//! Runs a command, mostly the whole test suite, and fails if that leaves a process or a file behind.
//!
//! `supervise [--busy | --beside WORK] COMMAND...`: the command has a folder for temporary files of its own
//! (`TMPDIR`), which each of its processes inherits, so that one that outlives it is found by it, named, and
//! killed. With `--busy` all processors are kept busy meanwhile, so that a test that counts on a quiet machine
//! fails. With `--beside` it is `WORK`, a command of the shell, that keeps them busy, and counting only once that
//! has ended; its output is shown at the end, and its failure is one of the whole.

#![expect(clippy::print_stderr, reason = "a program for people")]

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Output, Stdio};
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
    let load = match arguments.first().and_then(|first| first.to_str()) {
        Some("--busy") => Some(Load::Counting),
        Some("--beside") if arguments.len() > 1 => Some(Load::Work(arguments.remove(1))),
        _ => None,
    };
    if load.is_some() {
        arguments.remove(0);
    }
    let Some((program, arguments)) = arguments.split_first() else {
        bail!("usage: supervise [--busy | --beside WORK] COMMAND...");
    };
    // The paths of sockets are short.
    let folder =
        tempfile::Builder::new().prefix("pg-").tempdir().context("cannot make a folder")?;
    // As `/tmp` is: some tests run as another user.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o1777))?;
    let mut command = Command::new(program);
    command.args(arguments).env("TMPDIR", folder.path());

    let status = match &load {
        Some(load) => beside_load(&mut command, load),
        None => command.status(),
    };
    let status = status.with_context(|| format!("cannot run `{}`", program.display()))?;

    let is_clean = nothing_runs(folder.path()).await & nothing_is_in(folder.path())?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED);
    Ok(ExitCode::from(if is_clean { code } else { code.max(FAILED) }))
}

/// What keeps the processors busy.
enum Load {
    /// Nothing but that.
    Counting,
    /// A command of the shell that has to be run anyway.
    Work(OsString),
}

/// Runs the command while one thread for each processor, and one more, does nothing but count: from the start,
/// or from the end of the work on. Returns the worse outcome of the command and the work.
fn beside_load(command: &mut Command, load: &Load) -> std::io::Result<ExitStatus> {
    let threads = thread::available_parallelism()?.get() + 1;
    let has_ended = AtomicBool::new(false);
    let count = || {
        while !has_ended.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    };
    thread::scope(|scope| {
        let working = scope.spawn(move || {
            let worked = match load {
                Load::Counting => None,
                Load::Work(work) => {
                    Some(Command::new("sh").arg("-c").arg(work).stdin(Stdio::null()).output())
                }
            };
            for _ in 0..threads {
                scope.spawn(count);
            }
            worked
        });
        let status = command.status();
        let worked = working.join().expect("it does not panic");
        has_ended.store(true, Ordering::Relaxed);
        let (status, worked) = (status?, worked.transpose()?);
        Ok(match worked {
            Some(worked) => {
                show(&worked);
                if status.success() { worked.status } else { status }
            }
            None => status,
        })
    })
}

/// Shows what the work said, which nobody could read while the command spoke.
fn show(worked: &Output) {
    for text in [&worked.stdout, &worked.stderr] {
        eprint!("{}", String::from_utf8_lossy(text));
    }
    eprintln!("the work beside it ended with {}", worked.status);
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
