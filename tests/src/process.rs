//! A child process that does not outlive its test, nor does anything that it started, and whose log is
//! shown when the test fails.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::{eventually, leftover};

/// What a failing test shows of a log.
const LAST_LINES: usize = 60;

/// A running program; killed with all that it started when dropped.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    /// Where in the log this life begins.
    begins: usize,
    exited: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with standard error appended to the file `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &'static str, command: &mut Command, log: &Path) -> Self {
        let file: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .unwrap_or_else(|error| panic!("cannot write `{}`: {error}", log.display()));
        let before = file.metadata().map_or(0, |metadata| metadata.len());
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let begins = usize::try_from(before).unwrap_or(0);
        Self { name, child, log: log.to_owned(), begins, exited: None }
    }

    /// Its number, while it is there.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    ///
    /// # Panics
    /// When it is not ours to wait for, which it is.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().expect("a child can be waited for");
        }
        self.exited
    }

    /// Sends a signal; none if it has ended.
    ///
    /// # Panics
    /// When the signal cannot be sent.
    pub fn signal(&mut self, signal: Signal) {
        if self.exited().is_none() {
            let pid = Pid::from_child(&self.child);
            kill_process(pid, signal).expect("a child that was not waited for has its pid");
        }
    }

    /// Kills it with all that it started, in whatever process groups, as a power cut would.
    pub fn kill(&mut self) {
        if self.exited().is_some() {
            return;
        }
        // Stopped, it starts nothing between the look and the end.
        self.signal(Signal::STOP);
        let family = leftover::descendants(self.pid());
        self.signal(Signal::KILL);
        family.iter().for_each(leftover::Running::kill);
    }

    /// Waits for its end.
    pub async fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(&what, deadline, async || self.exited()).await
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "the log of a failed test")]
    fn drop(&mut self) {
        self.kill();
        if self.exited.is_none() {
            drop(self.child.wait());
        }
        if std::thread::panicking() {
            let log = std::fs::read(&self.log).unwrap_or_default();
            let log = String::from_utf8_lossy(log.get(self.begins..).unwrap_or_default());
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
            eprintln!("---- {} ({}):\n{}", self.name, self.log.display(), last.join("\n"));
        }
    }
}
