//! The device: the machine with the agent's package on it, as its owner sees it.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use pulsegate_tests::inbox::Inbox;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::image::Image;
use crate::machine::{INBOX_PORT, Machine, Saved, Start};

/// Where the configuration is, in the guest.
pub const CONFIG: &str = "/etc/pulsegate/pulsegate.toml";
/// How long a scenario waits for what takes the guest some seconds: only a failing one waits it out.
pub const PATIENCE: Duration = Duration::from_secs(240);
/// Between two looks at the agent's status.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Installing a package runs dpkg, systemd and its triggers.
const INSTALL: Duration = Duration::from_secs(240);

/// See the module.
#[derive(Debug)]
pub struct Device {
    image: Image,
    dir: PathBuf,
    machine: Option<Machine>,
}

impl Device {
    /// Starts one whose files are in `dir`.
    ///
    /// # Errors
    /// The machine does not come up.
    pub async fn start(image: &Image, start: Start<'_>, dir: &Path) -> Result<Self> {
        let machine = Machine::start(image, start, dir).await?;
        Ok(Self { image: image.clone(), dir: dir.to_owned(), machine: Some(machine) })
    }

    /// The machine.
    ///
    /// # Panics
    /// While its power is off.
    pub fn machine(&mut self) -> &mut Machine {
        self.machine.as_mut().expect("the power is on")
    }

    /// Its serial port that has the Bluetooth chip at its other end.
    #[must_use]
    pub fn radio_port(&self) -> &'static str {
        self.image.arch.radio()
    }

    /// Ends it, and keeps all of it in `to`.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn save(mut self, to: &Path) -> Result<Saved> {
        self.machine.take().context("the power is on")?.save(to).await
    }

    /// Runs a line of shell as root, and returns its output.
    ///
    /// # Errors
    /// It failed, or takes longer than a minute.
    pub async fn sh(&mut self, line: &str) -> Result<String> {
        self.machine().guest.sh(line).await
    }

    /// Writes a file of a few kilobytes; the mode is as chmod takes it.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn write(&mut self, path: &str, mode: &str, text: &str) -> Result<()> {
        self.machine().guest.write(path, mode, text.as_bytes()).await
    }

    /// Puts a file of this machine, of any size, onto the device, over its network.
    ///
    /// # Errors
    /// It could not be read, sent or written.
    pub async fn put(&mut self, from: &Path, to: &str) -> Result<()> {
        let bytes =
            std::fs::read(from).with_context(|| format!("cannot read `{}`", from.display()))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let send = async {
            let (mut socket, _) = listener.accept().await?;
            socket.write_all(&bytes).await?;
            socket.shutdown().await
        };
        let line = format!("cat </dev/tcp/10.0.2.2/{port} >'{to}' && stat --format=%s '{to}'");
        let (sent, size) = tokio::join!(send, self.sh(&line));
        let size = size?;
        sent?;
        ensure!(size == bytes.len().to_string(), "`{to}` has {size} bytes, not {}", bytes.len());
        Ok(())
    }

    /// Installs a package, or upgrades to it.
    ///
    /// # Errors
    /// dpkg fails.
    pub async fn install(&mut self, package: &Path) -> Result<()> {
        self.put(package, "/root/pulsegate.deb").await?;
        let line =
            "DEBIAN_FRONTEND=noninteractive dpkg --install --force-confold /root/pulsegate.deb";
        let output = self.machine().guest.run(line, b"", INSTALL).await?;
        ensure!(output.status == 0, "dpkg failed:\n{}{}", output.out, output.err);
        Ok(())
    }

    /// Pulls the plug.
    pub async fn power_cut(&mut self) {
        if let Some(machine) = self.machine.take() {
            machine.power_cut().await;
        }
    }

    /// Gives it power again: a cold boot from what is on its disk, for which nobody waits.
    ///
    /// # Errors
    /// QEMU does not come up.
    pub async fn power_on(&mut self) -> Result<()> {
        ensure!(self.machine.is_none(), "the power is on");
        self.machine = Some(Machine::start(&self.image, Start::Cold, &self.dir).await?);
        Ok(())
    }

    /// Connects to the agent's inbox as soon as it answers `greeting`, a reading, and returns that
    /// answer as well.
    ///
    /// # Errors
    /// It does not within [`PATIENCE`].
    pub async fn inbox(&mut self, greeting: &Value) -> Result<(Inbox, Value)> {
        let answered = async {
            loop {
                // QEMU takes every connection; one that leads nowhere ends at once.
                if let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, INBOX_PORT)).await {
                    let mut inbox = Inbox::over(stream);
                    if let Some(answer) = inbox.exchange(greeting).await {
                        return (inbox, answer);
                    }
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let answered = tokio::time::timeout(PATIENCE, answered).await;
        answered.with_context(|| format!("the inbox does not answer within {PATIENCE:?}"))
    }

    /// Hands readings to the agent's inbox, over a connection of its own, and does not wait for the answers, which
    /// come once the readings are durable.
    ///
    /// # Errors
    /// QEMU does not take them.
    pub async fn hand_over(&mut self, readings: &[Value]) -> Result<Inbox> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, INBOX_PORT)).await?;
        let mut inbox = Inbox::over(stream);
        let lines: Vec<String> = readings.iter().map(Value::to_string).collect();
        ensure!(inbox.sender.send(&lines.join("\n")).await, "the inbox hung up");
        Ok(inbox)
    }

    /// What the agent says of itself; `None` if it does not answer.
    ///
    /// # Errors
    /// The guest does not answer.
    pub async fn status(&mut self) -> Result<Option<Value>> {
        let output = self.machine().guest.try_sh("pulsegate status --json").await?;
        Ok(serde_json::from_str(&output.out).ok())
    }

    /// Waits until `predicate` holds for the agent's status.
    ///
    /// # Errors
    /// It does not within [`PATIENCE`]: says what the status was.
    pub async fn wait_status(
        &mut self,
        what: &str,
        mut predicate: impl FnMut(&Value) -> bool,
    ) -> Result<Value> {
        let mut last = None;
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                last = self.status().await?;
                match &last {
                    Some(status) if predicate(status) => return Ok(status.clone()),
                    _ => tokio::time::sleep(LOOK_AGAIN).await,
                }
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => Err(anyhow!("{what}: not within {PATIENCE:?}; status: {last:#?}")),
        }
    }

    /// Waits until a line of shell succeeds, and returns its output.
    ///
    /// # Errors
    /// It does not within [`PATIENCE`].
    pub async fn wait_sh(&mut self, what: &str, line: &str) -> Result<String> {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let output = self.machine().guest.try_sh(line).await?;
                if output.status == 0 {
                    return Ok::<_, anyhow::Error>(output.out.trim_end_matches('\n').to_owned());
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => bail!("{what}: `{line}` did not succeed within {PATIENCE:?}"),
        }
    }

    /// What to look at when something failed: the agent's journal, and the console.
    pub async fn last_words(&mut self) -> String {
        let Some(machine) = self.machine.as_mut() else { return String::from("the power is off") };
        let console = last_lines(&machine.console(), 30);
        let line = "journalctl --no-pager --quiet --lines=60 --output=short-monotonic";
        let journal = match machine.guest.sh(line).await {
            Ok(journal) => journal,
            Err(error) => format!("{error:#}"),
        };
        format!("---- journal\n{journal}\n---- console\n{console}")
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
