//! Processes that a test left behind, found in `/proc`: the descendants of one, and those that mention a
//! folder.
//!
//! A process mentions a folder in its arguments, its environment (`TMPDIR`) or its working directory. Only
//! processes that this user may look into are found, and never the one that looks.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use memchr::memmem;
use rustix::process::{Pid, Signal, kill_process};

/// A process that is running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its number.
    pub pid: u32,
    /// Its arguments, separated by blanks.
    pub command: String,
}

impl Running {
    /// Kills it, if it is still there.
    pub fn kill(&self) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        // One that ended meanwhile needs no signal.
        pid.map(|pid| kill_process(pid, Signal::KILL).ok());
    }

    fn of(pid: u32) -> Self {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&arguments).replace('\0', " ").trim().to_owned();
        Self { pid, command }
    }
}

/// Returns the processes that `pid` started, and those that these started, whatever their process groups.
/// One whose parent has ended belongs to nobody any more, and is not found.
#[must_use]
pub fn descendants(pid: u32) -> Vec<Running> {
    let all: Vec<(u32, u32)> =
        pids().filter_map(|child| Some((child, parent_of(child)?))).collect();
    let mut family = vec![pid];
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        family.extend(all.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        at += 1;
    }
    family.into_iter().skip(1).map(Running::of).collect()
}

/// Returns the processes that mention `folder`.
#[must_use]
pub fn mentioning(folder: &Path) -> Vec<Running> {
    let own = std::process::id();
    let folder = memmem::Finder::new(folder.as_os_str().as_bytes());
    let mentions = |pid: &u32| {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let place = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        let texts = [read("cmdline"), read("environ"), place.as_os_str().as_bytes().to_vec()];
        texts.iter().any(|text| folder.find(text).is_some())
    };
    pids().filter(|pid| *pid != own).filter(mentions).map(Running::of).collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").expect("Linux has /proc");
    let number = |name: &OsStr| name.to_str()?.parse().ok();
    entries.flatten().filter_map(move |entry| number(&entry.file_name()))
}

/// proc_pid_stat(5): the fourth field, after a name in parentheses, which may contain anything.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
