//! The radio beside the device: a controller for its serial port, and heart-rate straps in reach of it.
//! A program in Python, told what to do line by line; `radio/README.md` has what it can.

use std::path::{Path, PathBuf};
use std::process::{Command as Script, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::device::{Device, PATIENCE};

/// Python starts within a second, on a busy machine within some.
const ANSWER: Duration = Duration::from_secs(60);
/// The running program; it ends when dropped.
#[derive(Debug)]
pub struct Radio {
    _process: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// What a strap says of itself.
#[derive(Debug)]
pub struct Strap(Value);

/// The Python that has what the radio needs; to be asked for while there is a network.
///
/// # Errors
/// There is none, and it cannot be made.
pub fn python() -> Result<PathBuf> {
    let output = Script::new(folder().join("python")).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "there is no Python for the radio");
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("radio")
}

impl Radio {
    /// Starts it: the air is empty.
    ///
    /// # Errors
    /// It does not start.
    pub fn start() -> Result<Self> {
        let mut process = Command::new(python()?)
            .arg("radio.py")
            .current_dir(folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the radio")?;
        let commands = process.stdin.take().context("no standard input")?;
        let answers = BufReader::new(process.stdout.take().context("no standard output")?).lines();
        Ok(Self { _process: process, commands, answers })
    }

    /// Has it do something: the command and its fields in one object.
    ///
    /// # Errors
    /// It cannot.
    pub async fn ask(&mut self, command: Value) -> Result<Value> {
        self.commands.write_all(format!("{command}\n").as_bytes()).await?;
        let line = tokio::time::timeout(ANSWER, self.answers.next_line()).await;
        let line = line.with_context(|| format!("the radio does not answer {command}"))??;
        let answer: Value = serde_json::from_str(&line.context("the radio ended")?)?;
        ensure!(answer["ok"] == true, "the radio cannot {command}: {}", answer["why"]);
        Ok(answer)
    }

    /// Has it do something to one strap.
    ///
    /// # Errors
    /// It cannot.
    pub async fn tell(&mut self, strap: &str, command: &str) -> Result<()> {
        self.ask(json!({ "do": command, "strap": strap })).await.map(drop)
    }

    /// Puts a strap on the air that beats four times a second, which is as quick as a device emulated on a
    /// busy machine follows.
    ///
    /// # Errors
    /// There is one of that name.
    pub async fn add(&mut self, strap: &str, address: &str, name: &str) -> Result<()> {
        let command = json!({
            "do": "add", "strap": strap, "address": address, "name": name, "every_ms": 250, "rr": [812],
        });
        self.ask(command).await.map(drop)
    }

    /// Puts a controller behind the device's serial port, fresh from its power-on.
    ///
    /// # Errors
    /// The device has no such port.
    pub async fn plug(&mut self, device: &mut Device) -> Result<()> {
        let socket = device.machine().radio_socket();
        self.ask(json!({ "do": "attach", "socket": socket })).await.map(drop)
    }

    /// What a strap says of itself.
    ///
    /// # Errors
    /// There is none of that name.
    pub async fn strap(&mut self, strap: &str) -> Result<Strap> {
        let state = self.ask(json!({ "do": "state" })).await?;
        let strap = state["straps"].get(strap).cloned();
        strap.map(Strap).ok_or_else(|| anyhow!("no such strap"))
    }

    /// How often the controller was reset.
    ///
    /// # Errors
    /// There is none.
    pub async fn resets(&mut self) -> Result<u64> {
        let state = self.ask(json!({ "do": "state" })).await?;
        state["adapter"]["resets"].as_u64().context("there is no controller")
    }

    /// Waits until a strap is so.
    ///
    /// # Errors
    /// It is not within [`PATIENCE`]: says how it is.
    pub async fn wait(
        &mut self,
        strap: &str,
        what: &str,
        predicate: impl Fn(&Strap) -> bool,
    ) -> Result<Strap> {
        let mut last = None;
        let found = async {
            loop {
                let state = self.strap(strap).await?;
                if predicate(&state) {
                    return Ok(state);
                }
                last = Some(state);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(found) => found,
            Err(_) => {
                Err(anyhow!("strap {strap}: {what}: not within {PATIENCE:?}; it is {last:?}"))
            }
        }
    }
}

impl Strap {
    /// The numbers of the measurements that it sent, in order.
    #[must_use]
    pub fn sent(&self) -> Vec<u64> {
        let numbers = self.0["sent"].as_array().into_iter().flatten();
        numbers.filter_map(Value::as_u64).collect()
    }

    /// How often a link to it was made.
    #[must_use]
    pub fn connects(&self) -> u64 {
        self.0["connects"].as_u64().unwrap_or_default()
    }

    /// How often its notifications were asked for.
    #[must_use]
    pub fn subscribes(&self) -> u64 {
        self.0["subscribes"].as_u64().unwrap_or_default()
    }

    /// Whether it is in a silence that nothing has healed yet.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.0["silent"] == true
    }

    /// Whether a link to it stands.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0["connected"] == true
    }
}

/// Makes the controller behind the device's serial port one that its kernel knows, now and after a boot.
///
/// # Errors
/// The device refuses.
pub async fn attach(device: &mut Device) -> Result<()> {
    // As `hciuart.service` does on a Raspberry Pi.
    let unit = format!(
        "[Service]\nExecStartPre=modprobe hci_uart\nExecStart=btattach -B /dev/{} -P h4\n\
         [Install]\nWantedBy=multi-user.target\n",
        device.radio_port()
    );
    device.write("/etc/systemd/system/rig-radio.service", "644", &unit).await?;
    device.sh("systemctl daemon-reload && systemctl enable --quiet --now rig-radio").await?;
    let there = "test -e /sys/class/bluetooth/hci0";
    device.wait_sh("the kernel has a Bluetooth controller", there).await.map(drop)
}
