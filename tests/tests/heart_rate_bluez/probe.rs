//! The driver in a process of its own, which says what it does line by line.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use pulsegate_tests::fake_bluez::FakeBluez;
use rustix::process::{Pid, Signal};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// How long anything may take that must happen: far longer than it does on a loaded machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Waits until `holds`.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) -> Result<()> {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.with_context(|| format!("never: {what}"))
}

/// The driver in a process of its own.
pub(crate) struct Probe {
    pub(crate) process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    pub(crate) lines_read: Vec<String>,
    /// How often a source was said to have nothing to tell, in the lines read.
    pub(crate) nothings: usize,
}

impl Probe {
    pub(crate) fn start(bluez: &FakeBluez, wanted: Value) -> Result<Self> {
        let mut process = Command::new(env!("CARGO_BIN_EXE_heart-rate-probe"))
            .arg(wanted.to_string())
            .env("DBUS_SYSTEM_BUS_ADDRESS", bluez.address())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let lines = BufReader::new(process.stdout.take().context("no output")?).lines();
        Ok(Self { process, lines, lines_read: Vec::new(), nothings: 0 })
    }

    /// Lets it stop watching, and live.
    pub(crate) fn stop_watching(&mut self) {
        self.process.stdin.take();
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process.id().context("the probe ended")?;
        let process = Pid::from_raw(process.try_into()?).context("no process")?;
        Ok(rustix::process::kill_process(process, signal)?)
    }

    pub(crate) async fn kill(mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }

    /// The next line that is wanted.
    pub(crate) async fn wait(
        &mut self,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let find = async {
            loop {
                let line = self.lines.next_line().await?.context("the probe ended")?;
                let said: Value = serde_json::from_str(&line)?;
                self.lines_read.push(line);
                self.nothings += usize::from(said["nothing"].is_string());
                if wanted(&said) {
                    return anyhow::Ok(said);
                }
            }
        };
        match tokio::time::timeout(LIMIT, find).await {
            Ok(found) => found,
            Err(_) => bail!("never: {what}; last said: {:?}", self.lines_read.last()),
        }
    }

    pub(crate) async fn reading(&mut self, source: u32) -> Result<Value> {
        self.wait("a reading", |line| line["source"] == source && line["bpm"].is_u64()).await
    }

    /// A reading that was taken after now: the link was made again, and what was said before is past.
    pub(crate) async fn fresh_reading(&mut self, source: u32) -> Result<Value> {
        let connected = |line: &Value| {
            line["states"].as_array().is_some_and(|all| {
                all.iter().any(|s| s["source"] == source && s["connected"] == false)
            })
        };
        self.wait("the loss of the link", connected).await?;
        self.reading(source).await
    }

    pub(crate) async fn nothing(&mut self, source: u32) -> Result<Value> {
        self.wait("no reading", |line| line["source"] == source && line["nothing"].is_string())
            .await
    }

    pub(crate) async fn state(
        &mut self,
        source: u32,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let of = |line: &Value| {
            let states = line["states"].as_array()?;
            states.iter().find(|state| state["source"] == source).cloned()
        };
        let line =
            self.wait("a state", |line| of(line).is_some_and(|state| wanted(&state))).await?;
        of(&line).context("just seen")
    }
}
