//! The system calls of an agent that write, sync and rename, in their order: strace writes them down.

#![expect(clippy::print_stderr, reason = "a test that does not run says so")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::{PATIENCE, eventually};

/// The calls that are written down. Answers on a socket are writes, too.
/// `?` marks those that not every machine has.
const CALLS: &str = "trace=write,writev,pwrite64,sendto,sendmsg,?ftruncate,?ftruncate64,fallocate,\
                     fsync,fdatasync,?rename,?renameat,renameat2";
/// Bytes of each buffer that are written down: a page of the store, and more.
const SHOWN_BYTES: &str = "4096";

/// A place for the calls of a process.
#[derive(Debug)]
pub struct Trace {
    folder: TempDir,
}

/// A system call that returned.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// Its arguments and its result, as strace shows them.
    pub text: String,
    /// The numbers of the lines of its begin and its end: a call happened before another one if it ended before the
    /// other one began.
    pub span: (usize, usize),
}

impl Trace {
    /// Returns a place; `None` where strace may not trace.
    ///
    /// # Panics
    /// When there can be no temporary directory.
    #[must_use]
    pub fn begin() -> Option<Self> {
        let folder = TempDir::with_prefix("pulsegate-trace-").expect("a temporary directory");
        let trace = Self { folder };
        // Traced in the same way as the agent.
        let words = trace.words();
        let tried = Command::new(&words[0]).args(&words[1..]).arg("true").output();
        if !tried.is_ok_and(|output| output.status.success()) || !trace.file().exists() {
            eprintln!("NOT RUN: strace is missing or may not trace on this machine");
            return None;
        }
        Some(trace)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("calls")
    }

    /// The words that start a program under strace, which stands beside it.
    #[must_use]
    pub fn words(&self) -> Vec<std::ffi::OsString> {
        let words =
            ["strace", "-D", "-f", "--seccomp-bpf", "-y", "-s", SHOWN_BYTES, "-e", CALLS, "-o"];
        words.into_iter().map(Into::into).chain([self.file().into_os_string()]).collect()
    }

    /// All calls of a process that has ended, in the order of their ends.
    pub async fn calls(&self, pid: u32) -> Vec<Call> {
        let pid = pid.to_string();
        let text = eventually("strace writes the end of the process", PATIENCE, async || {
            let text = std::fs::read_to_string(self.file()).ok()?;
            text.lines().any(|line| is_end_of(&pid, line)).then_some(text)
        });
        parse_calls(&text.await)
    }
}

impl Call {
    /// Returns true if this call ended before the other one began.
    #[must_use]
    pub fn is_before(&self, other: &Self) -> bool {
        self.span.1 < other.span.0
    }

    /// Returns true if the call worked on the open file `path`.
    #[must_use]
    pub fn is_on(&self, path: &Path) -> bool {
        self.text.contains(&format!("<{}>", path.display()))
    }

    /// Returns true if the call succeeded and put the content of the file or folder `path` on the disk.
    #[must_use]
    pub fn is_sync_of(&self, path: &Path) -> bool {
        matches!(&*self.name, "fsync" | "fdatasync")
            && self.is_on(path)
            && self.text.ends_with("= 0")
    }

    /// Returns true if the call changed the content or the length of the file `path`.
    #[must_use]
    pub fn is_write_to(&self, path: &Path) -> bool {
        matches!(&*self.name, "write" | "writev" | "pwrite64" | "ftruncate" | "fallocate")
            && self.is_on(path)
    }

    /// Returns the two names of a rename that succeeded.
    #[must_use]
    pub fn renamed(&self) -> Option<(PathBuf, PathBuf)> {
        if !self.name.starts_with("rename") || !self.text.ends_with("= 0") {
            return None;
        }
        let mut quoted = self.text.split('"').skip(1).step_by(2).map(PathBuf::from);
        Some((quoted.next()?, quoted.next()?))
    }
}

/// Returns true for a line like `12    +++ exited with 0 +++`: strace fills up a short process id with spaces.
fn is_end_of(pid: &str, line: &str) -> bool {
    let line = line.trim_start().split_once(' ');
    line.is_some_and(|(of, rest)| of == pid && rest.trim_start().starts_with("+++ "))
}

/// Parses lines like `12 fsync(3</tmp/a>) = 0`. A call that another thread interrupted has two lines:
/// `12 fsync(3</tmp/a> <unfinished ...>` and `12 <... fsync resumed>) = 0`.
fn parse_calls(text: &str) -> Vec<Call> {
    let mut unfinished = std::collections::BTreeMap::new();
    let mut calls = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some((pid, rest)) = line.trim_start().split_once(' ') else { continue };
        let rest = rest.trim();
        if let Some(begun) = rest.strip_suffix("<unfinished ...>") {
            unfinished.insert(pid, (number, begun));
        } else if let Some((_, end)) =
            rest.strip_prefix("<... ").and_then(|rest| rest.split_once('>'))
        {
            let Some((since, begun)) = unfinished.remove(pid) else { continue };
            calls.extend(parse_call(&format!("{begun}{end}"), (since, number)));
        } else {
            calls.extend(parse_call(rest, (number, number)));
        }
    }
    calls
}

fn parse_call(text: &str, span: (usize, usize)) -> Option<Call> {
    let (name, arguments) = text.split_once('(')?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    // Before the result, strace aligns with spaces.
    let text = arguments.split_whitespace().collect::<Vec<_>>().join(" ");
    is_name.then(|| Call { name: name.to_owned(), text, span })
}

/// Borrows the words for [`crate::agent_process::Device::under`].
#[must_use]
pub fn borrow_words(words: &[std::ffi::OsString]) -> Vec<&OsStr> {
    words.iter().map(AsRef::as_ref).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_process_is_found_however_short_its_id_is() {
        assert!(is_end_of("2", "2     +++ exited with 0 +++"));
        assert!(is_end_of("31234", "31234 +++ killed by SIGKILL +++"));
        assert!(!is_end_of("2", "21    +++ exited with 0 +++"));
        assert!(!is_end_of("2", "2     fsync(3</a>) = 0"));
    }

    #[test]
    fn an_interrupted_call_ends_where_it_is_resumed() {
        let text = "7 fdatasync(5</s/db-wal> <unfinished ...>\n 8 rename(\"/s/a\", \"/s/b\") = 0\n\
                    7 <... fdatasync resumed>)          = 0\n7 +++ exited with 0 +++\n";

        let calls = parse_calls(text);

        let [rename, sync] = &calls[..] else { panic!("{calls:?}") };
        assert_eq!(rename.renamed(), Some(("/s/a".into(), "/s/b".into())));
        assert!(sync.is_sync_of(Path::new("/s/db-wal")), "{sync:?}");
        assert!(!sync.is_before(rename) && !rename.is_before(sync), "they overlap");
    }
}
