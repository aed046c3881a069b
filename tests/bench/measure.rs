//! What the kernel says of a process.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pulsegate_tests::{PATIENCE, eventually};

/// What a process has used since it began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// User and system time of all its threads.
    pub(crate) cpu: Duration,
    /// Bytes that it caused to be written to a disk.
    pub(crate) written: u64,
}

impl Usage {
    /// Of a process that is there, or has just ended and was not waited for.
    pub(crate) fn of(pid: u32) -> Self {
        let written = number(&read(pid, "io"), "write_bytes:");
        Self { cpu: cpu(pid), written }
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self { cpu: self.cpu - before.cpu, written: self.written - before.written }
    }
}

/// The scheduler counts in nanoseconds, where `stat` has hundredths of a second.
fn cpu(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let spent = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(spent.sum())
}

/// Times that its threads waited and woke up, by name of the thread.
pub(crate) fn wake_ups(pid: u32) -> BTreeMap<String, u64> {
    let mut by_thread = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let name = status.lines().find_map(|line| line.strip_prefix("Name:")).unwrap_or_default();
        *by_thread.entry(name.trim().to_owned()).or_default() +=
            number(&status, "voluntary_ctxt_switches:");
    }
    by_thread
}

/// Its peak resident memory in bytes.
pub(crate) fn peak_rss(pid: u32) -> u64 {
    number(&read(pid, "status"), "VmHWM:") * 1024
}

/// Its resident memory in bytes.
pub(crate) fn rss(pid: u32) -> u64 {
    number(&read(pid, "status"), "VmRSS:") * 1024
}

/// Its proportional share of memory in bytes.
pub(crate) fn pss(pid: u32) -> u64 {
    number(&read(pid, "smaps_rollup"), "Pss:") * 1024
}

/// Its anonymous memory in bytes.
pub(crate) fn anonymous(pid: u32) -> u64 {
    number(&read(pid, "smaps_rollup"), "Anonymous:") * 1024
}

fn read(pid: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

/// The number behind `key`; 0 if the kernel does not tell.
fn number(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Whether it has ended, and its parent has not looked yet.
pub(crate) fn is_zombie(pid: u32) -> bool {
    read(pid, "stat").rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

/// Whether fsyncs can be counted.
pub(crate) fn can_trace() -> bool {
    Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success())
}

/// The words that start a program so that its fsyncs are counted in the file `counts`. The program
/// gets the process that is started; the tracer stands beside it.
pub(crate) fn tracer(counts: &Path) -> Vec<&OsStr> {
    let words = ["strace", "-D", "-f", "--seccomp-bpf", "-c", "-e", "trace=fsync,fdatasync", "-o"];
    words.into_iter().map(OsStr::new).chain([counts.as_os_str()]).collect()
}

/// A command for `program`, traced if there is a file for the counts.
pub(crate) fn command(program: &Path, counts: Option<&Path>) -> Command {
    let Some(counts) = counts else { return Command::new(program) };
    let words = tracer(counts);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(program);
    command
}

/// How many fsyncs a traced program made that has ended.
pub(crate) async fn fsyncs(counts: &Path) -> u64 {
    let table = eventually("strace ends with its program", PATIENCE, async || {
        fs::read_to_string(counts).ok().filter(|table| table.is_empty() || table.ends_with('\n'))
    });
    let calls = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_one = columns.last().is_some_and(|name| name.ends_with("sync"));
        columns.get(3).filter(|_| is_one)?.parse::<u64>().ok()
    };
    table.await.lines().filter_map(calls).sum()
}

/// Processor, what it is busy with already, kernel, file system of temporary files, programs.
pub(crate) fn machine() -> Vec<(&'static str, String)> {
    let first_of = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        let value = line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value);
        value.trim().to_owned()
    };
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    vec![
        ("load before", load.split_whitespace().take(3).collect::<Vec<_>>().join(" ")),
        ("processor", format!("{count} x {}", first_of(&cpus, "model name"))),
        ("memory", first_of(&memory, "MemTotal")),
        ("kernel", said(Command::new("uname").args(["-sr"]))),
        ("file system", file_system(&std::env::temp_dir())),
        ("pulsegate", said(Command::new(pulsegate_tests::agent_process::program()).arg("version"))),
        ("mosquitto", said(Command::new(pulsegate_tests::mosquitto::program()).arg("-h"))),
    ]
}

/// The first line of what a command says.
pub(crate) fn said(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or("unknown").trim().to_owned()
}

fn file_system(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounted = mounts.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (device, at, kind) = (words.next()?, words.next()?, words.next()?);
        path.starts_with(at).then_some((at.len(), format!("{kind} ({device})")))
    });
    mounted.max_by_key(|(length, _)| *length).map_or_else(String::new, |(_, name)| name)
}
