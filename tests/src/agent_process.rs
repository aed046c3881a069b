//! The agent as its users run it: a process with a configuration file.
//!
//! A [`Device`] is what stays when the power fails: configuration, keys, store. An [`Agent`] is one
//! life of the program on it. A device is started as often as a test likes.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use pulsegate_standin::pki::IdentityFiles;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use crate::certs::{HOST, write};
use crate::inbox::Inbox;
use crate::process::Process;
use crate::wait::within;
use crate::{PATIENCE, leftover};

/// A device: a directory with everything that survives a restart. When it and its agents are dropped, it goes
/// away with every process that mentions it, as a program that a killed agent had started.
///
/// Its configuration has sockets for status and inbox, trusts the system's clock, and takes the
/// broker for another one than AWS's; all of that can be set otherwise.
#[derive(Debug)]
pub struct Device {
    dir: Arc<Folder>,
    /// The lines of each table; of the top level under the empty name.
    tables: BTreeMap<String, BTreeMap<String, String>>,
    more: String,
    environment: Vec<(OsString, OsString)>,
    /// What starts the agent, if it does not start alone.
    under: Vec<OsString>,
}

/// One life of the agent; killed when dropped.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    dir: PathBuf,
    config: PathBuf,
    inbox: PathBuf,
    /// The device may go away before its agent does.
    _folder: Arc<Folder>,
}

/// The directory of a device. It goes away with the last that needs it, after every process that mentions it.
#[derive(Debug)]
struct Folder(TempDir);

impl Folder {
    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        leftover::mentioning(self.path()).iter().for_each(leftover::Running::kill);
    }
}

impl Device {
    /// Makes the directory of a device; it still needs an identity and a broker.
    ///
    /// # Panics
    /// When there can be no temporary directory.
    #[must_use]
    pub fn new(thing: &str) -> Self {
        let dir = TempDir::with_prefix("pulsegate-device-").expect("a temporary directory");
        let dir = Arc::new(Folder(dir));
        let path = |name: &str| quoted(dir.path().join(name).as_os_str());
        let tables = BTreeMap::new();
        let more = format!("\n[[inbox]]\npath = {}\n", path("inbox.sock"));
        let (state, status) = (path("state"), path("status.sock"));
        let device = Self { dir, tables, more, environment: Vec::new(), under: Vec::new() };
        device
            .set("", "thing", &quoted(OsStr::new(thing)))
            .set("", "endpoint", &quoted(OsStr::new(HOST)))
            .set("", "state_dir", &state)
            .set("status", "socket", &status)
            .set("clock", "trust", "\"system\"")
            .set("link", "limits", "\"none\"")
    }

    /// Gives it a certificate and its key.
    #[must_use]
    pub fn identity(self, files: &IdentityFiles) -> Self {
        self.set("identity", "certificate", &quoted(files.certificate.as_os_str())).set(
            "identity",
            "private_key",
            &quoted(files.private_key.as_os_str()),
        )
    }

    /// Sends it to [`HOST`] on `port`, to trust the authority `ca`.
    #[must_use]
    pub fn broker(self, port: u16, ca: &Path) -> Self {
        self.set("link", "ports", &format!("[{port}]")).set(
            "identity",
            "roots",
            &quoted(ca.as_os_str()),
        )
    }

    /// Sets a key of a table, `""` for the top level, to a value in TOML.
    #[must_use]
    pub fn set(mut self, table: &str, key: &str, value: &str) -> Self {
        let table = self.tables.entry(table.to_owned()).or_default();
        table.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Removes a key of a table.
    #[must_use]
    pub fn unset(mut self, table: &str, key: &str) -> Self {
        if let Some(table) = self.tables.get_mut(table) {
            table.remove(key);
        }
        self
    }

    /// Adds tables, mostly `[[...]]`; `{dir}` is the device's directory.
    #[must_use]
    pub fn with(mut self, toml: &str) -> Self {
        self.more.push('\n');
        self.more.push_str(&toml.replace("{dir}", &self.dir.path().display().to_string()));
        self
    }

    /// Sets a variable of the agent's environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Lets only these sources speak in its inbox.
    #[must_use]
    pub fn inbox_only(mut self, sources: &[&str]) -> Self {
        let only = format!("[[inbox]]\nsources = {sources:?}\n");
        self.more = self.more.replacen("[[inbox]]\n", &only, 1);
        self
    }

    /// Starts the agent under another program, which hands its own process over to it, as
    /// `strace -D` does.
    #[must_use]
    pub fn under(mut self, program: &[&OsStr]) -> Self {
        self.under = program.iter().map(Into::into).collect();
        self
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where its store lives.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Where its inbox listens.
    #[must_use]
    pub fn inbox_path(&self) -> PathBuf {
        self.dir.path().join("inbox.sock")
    }

    /// Where its configuration is, once started or written.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("pulsegate.toml")
    }

    /// What its configuration says.
    #[must_use]
    pub fn config(&self) -> String {
        let mut text = String::new();
        for (table, keys) in &self.tables {
            if !table.is_empty() {
                writeln!(text, "\n[{table}]").expect("a string takes all");
            }
            for (key, value) in keys {
                writeln!(text, "{key} = {value}").expect("a string takes all");
            }
        }
        text + &self.more
    }

    /// Writes the configuration without starting anything: for a reload, or for [`Device::run`].
    pub fn write_config(&self) {
        write(&self.config_path(), &self.config());
    }

    /// Starts the agent, and returns at once.
    #[must_use]
    pub fn start(&self) -> Agent {
        self.start_as(&self.config())
    }

    /// Starts the agent with this configuration, to the letter, and returns at once.
    #[must_use]
    pub fn start_as(&self, config: &str) -> Agent {
        write(&self.config_path(), config);
        std::fs::create_dir_all(self.state_dir()).expect("a directory for the store");
        let mut command = match self.under.split_first() {
            Some((under, arguments)) => {
                let mut command = Command::new(under);
                command.args(arguments).arg(program());
                command
            }
            None => Command::new(program()),
        };
        self.furnish(&mut command, &["run", "--config"]);
        command.arg(self.config_path());
        let process = Process::start("pulsegate", &mut command, &self.dir.path().join("agent.log"));
        let (config, inbox) = (self.config_path(), self.inbox_path());
        let _folder = Arc::clone(&self.dir);
        Agent { process, dir: self.dir().to_owned(), config, inbox, _folder }
    }

    /// Starts the agent, and waits until it answers.
    pub async fn started(&self) -> Agent {
        let mut agent = self.start();
        agent.wait_status("it answers", PATIENCE, |_| true).await;
        agent
    }

    /// Runs a command of the agent to its end, as `["check", "--config", path]`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        command.stdin(Stdio::null());
        command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
    }

    /// As [`Device::run`], with a text as standard input.
    ///
    /// # Panics
    /// When it cannot be started, or does not read all of it.
    #[must_use]
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn();
        let mut child = child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let mut stdin = child.stdin.take().expect("it was piped");
        let written = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().expect("a child can be waited for");
        written.unwrap_or_else(|error| panic!("{error}: it does not read all, and {output:?}"));
        output
    }

    /// All that the agent has logged in all its lives on this device.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.dir.path().join("agent.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        self.furnish(&mut command, arguments);
        command
    }

    fn furnish(&self, command: &mut Command, arguments: &[&str]) {
        command.args(arguments).current_dir(self.dir.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
    }
}

impl Agent {
    /// Its process, to be measured.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends a signal to the agent alone.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Asks it to stop.
    pub fn sigterm(&mut self) {
        self.process.signal(Signal::TERM);
    }

    /// Asks it to read its configuration again.
    pub fn sighup(&mut self) {
        self.process.signal(Signal::HUP);
    }

    /// Kills it with all that it started, and waits until it is gone: the nearest to a power cut that a
    /// process can have.
    pub async fn sigkill(&mut self) {
        self.process.kill();
        self.process.wait(PATIENCE).await;
    }

    /// Its exit status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.exited()
    }

    /// Waits for its end.
    pub async fn wait(&mut self, deadline: Duration) -> ExitStatus {
        self.process.wait(deadline).await
    }

    /// Asks it to stop, and waits for its end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.sigterm();
        self.wait(PATIENCE).await
    }

    /// What it says of itself, as `pulsegate status --json` tells; `None` if it does not answer, or was too
    /// busy to count its records.
    pub async fn status(&self) -> Option<Value> {
        let mut command = tokio::process::Command::new(program());
        command.args(["status", "--json", "--config"]).arg(&self.config).current_dir(&self.dir);
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.ok()?;
        if !output.status.success() {
            return None;
        }
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        status.pointer("/lanes/error").is_none().then_some(status)
    }

    /// As [`Agent::status`], straight from its socket: for who asks often.
    pub async fn ask(&self) -> Option<Value> {
        let mut socket = UnixStream::connect(self.dir.join("status.sock")).await.ok()?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.ok()?;
        serde_json::from_slice(&answer).ok()
    }

    /// Waits until `predicate` holds for its status, and returns that.
    ///
    /// # Panics
    /// When it ends, or does not get there within `deadline`: says what the status was.
    pub async fn wait_status(
        &mut self,
        what: &str,
        deadline: Duration,
        mut predicate: impl FnMut(&Value) -> bool,
    ) -> Value {
        let mut last = None;
        let found = within(deadline, async || {
            if let Some(status) = self.exited() {
                panic!("{what}: the agent has ended, {status}");
            }
            last = self.status().await;
            last.clone().filter(&mut predicate)
        });
        let found = found.await;
        found.unwrap_or_else(|| panic!("{what}: not within {deadline:?}; status: {last:#?}"))
    }

    /// Connects to its inbox.
    pub async fn inbox(&self) -> Inbox {
        Inbox::connect(&self.inbox).await
    }
}

/// A count of a lane in a status: `lane_count(&status, "readings", "pending")`.
///
/// # Panics
/// When the status has no such count.
#[must_use]
pub fn lane_count(status: &Value, lane: &str, count: &str) -> u64 {
    let found = status.pointer(&format!("/lanes/{lane}/{count}")).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("no count `{count}` of lane `{lane}` in {status:#}"))
}

/// The agent's binary: `PULSEGATE_BIN`, or the one beside this test.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("PULSEGATE_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a running program has a path");
    let built = test.ancestors().skip(1).take(2).map(|dir| dir.join("pulsegate"));
    built.into_iter().find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("no `pulsegate` beside {}: run `cargo build --workspace --bins`", test.display())
    })
}

/// A string in TOML.
fn quoted(text: &OsStr) -> String {
    let text = text.to_str().expect("paths and names of tests are UTF-8");
    format!("{text:?}")
}
