//! Commands in the guest, through QEMU's guest agent: no network, no login, and it survives being
//! saved and restored with the machine.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::wire::Wire;

/// A cold boot on a machine with a high load takes a minute.
const BOOT: Duration = Duration::from_secs(300);
/// What a command may take unless said otherwise; the guest's processors are some ten times slower
/// than this machine's.
const COMMAND: Duration = Duration::from_secs(120);
/// Between two looks at a command that runs: each costs the guest some of its own time.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Between two calls to a guest that does not listen yet.
const CALL_AGAIN: Duration = Duration::from_millis(200);

/// A connection to the guest agent.
#[derive(Debug)]
pub struct Guest {
    wire: Wire,
    /// Whether it has answered in this life.
    answers: bool,
}

/// What came of a command.
#[derive(Debug)]
pub struct Output {
    /// Its exit status; -1 if a signal ended it.
    pub status: i64,
    /// What it wrote to standard output.
    pub out: String,
    /// What it wrote to standard error.
    pub err: String,
}

impl Guest {
    /// Connects; the guest itself may not be there yet.
    pub async fn connect(socket: &Path) -> Self {
        Self { wire: Wire::connect(socket).await, answers: false }
    }

    /// Waits until the guest agent runs; every command does so by itself.
    ///
    /// # Errors
    /// It does not in a time in which any guest boots.
    pub async fn wait(&mut self) -> Result<()> {
        if !self.answers {
            let answered = async {
                while tokio::time::timeout(CALL_AGAIN, self.synchronise()).await.is_err() {}
            };
            let answered = tokio::time::timeout(BOOT, answered).await;
            answered.with_context(|| format!("the guest agent does not answer within {BOOT:?}"))?;
            self.answers = true;
        }
        Ok(())
    }

    /// Runs a line of shell and returns what it wrote to standard output, without the last newline.
    ///
    /// # Errors
    /// It failed, or takes longer than a minute.
    pub async fn sh(&mut self, line: &str) -> Result<String> {
        let output = self.try_sh(line).await?;
        if output.status != 0 {
            bail!("`{line}` failed, {}: {}{}", output.status, output.err, output.out);
        }
        Ok(output.out.trim_end_matches('\n').to_owned())
    }

    /// As [`Guest::sh`], for a command that may fail.
    ///
    /// # Errors
    /// It could not be run, or takes longer than a minute.
    pub async fn try_sh(&mut self, line: &str) -> Result<Output> {
        self.run(line, b"", COMMAND).await
    }

    /// Writes a file of a few kilobytes.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn write(&mut self, path: &str, mode: &str, bytes: &[u8]) -> Result<()> {
        let line = format!("umask 077; cat >'{path}' && chmod {mode} '{path}'");
        let output = self.run(&line, bytes, COMMAND).await?;
        if output.status != 0 {
            bail!("cannot write `{path}`: {}", output.err);
        }
        Ok(())
    }

    /// Runs a line of shell with this standard input.
    ///
    /// # Errors
    /// It could not be run, or takes longer than `deadline`.
    pub async fn run(&mut self, line: &str, input: &[u8], deadline: Duration) -> Result<Output> {
        self.wait().await?;
        tokio::time::timeout(deadline, self.run_to_end(line, input))
            .await
            .with_context(|| format!("`{line}` takes longer than {deadline:?}"))?
    }

    async fn run_to_end(&mut self, line: &str, input: &[u8]) -> Result<Output> {
        let arguments = json!({
            "path": "/bin/bash", "arg": ["-c", line], "capture-output": true,
            "input-data": BASE64.encode(input),
        });
        let started = self.ask("guest-exec", arguments).await?;
        let pid = &started["pid"];
        loop {
            let state = self.ask("guest-exec-status", json!({ "pid": pid })).await?;
            if state["exited"] == true {
                return Output::from(&state);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn ask(&mut self, command: &str, arguments: Value) -> Result<Value> {
        self.wire.send(&json!({ "execute": command, "arguments": arguments })).await?;
        let answer = self.wire.receive().await?;
        answer
            .get("return")
            .cloned()
            .ok_or_else(|| anyhow!("the guest refuses `{command}`: {answer}"))
    }

    async fn synchronise(&mut self) -> Result<()> {
        let id = fastrand::u32(..);
        self.wire.send_sentinel().await?;
        let arguments = json!({ "id": id });
        let command = json!({ "execute": "guest-sync-delimited", "arguments": arguments });
        self.wire.send(&command).await?;
        while self.wire.receive().await.is_ok_and(|answer| answer["return"] != id) {}
        Ok(())
    }
}

impl Output {
    fn from(state: &Value) -> Result<Self> {
        let text = |key: &str| -> Result<String> {
            let bytes = BASE64.decode(state[key].as_str().unwrap_or_default())?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let status = state["exitcode"].as_i64().unwrap_or(-1);
        Ok(Self { status, out: text("out-data")?, err: text("err-data")? })
    }
}
