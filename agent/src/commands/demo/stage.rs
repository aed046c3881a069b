//! The stage of the demo: a temporary folder with the real agent in it, and the lines for the
//! audience.

use std::io::{IsTerminal as _, stderr};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use pulsegate_core::record::lane::Lane;
use pulsegate_core::time::Mono;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::super::{print_error, status};
use super::cloud::Cloud;
use crate::db::{FILE, Reader};
use crate::platform::clock;
use crate::platform::terminal::escape_text;
use crate::status::LinkStatus;

/// Time for the agent to stop: up to ten seconds for draining, then the disconnect.
const END_WITHIN: Duration = Duration::from_secs(25);
const THING: &str = "demo-pi";

pub(super) struct Stage {
    folder: TempDir,
    agent: Child,
    began: Mono,
    line: ProgressBar,
    quiet: bool,
}

impl Stage {
    /// Writes keys and configuration to a temporary folder, and starts the agent.
    pub(super) fn set_up_stage(cloud: &Cloud, quiet: bool) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("pulsegate-demo-")
            .tempdir()
            .context("cannot make a folder")?;
        let path = folder.path();
        cloud.pki.write_ca_to(&path.join("ca.pem")).context("cannot write certificates")?;
        let device = cloud.pki.device(THING).context("cannot make certificates")?;
        let device = device.write_to(path, "device").context("cannot write certificates")?;
        let config = CONFIG
            .replace("{dir}", &path.display().to_string())
            .replace("{port}", &cloud.broker_port().to_string())
            .replace("{certificate}", &device.certificate.display().to_string())
            .replace("{private_key}", &device.private_key.display().to_string());
        let config_path = path.join("pulsegate.toml");
        crate::platform::durable::replace_file(&config_path, config.as_bytes())
            .context("cannot write the configuration")?;
        let log = std::fs::File::create(path.join("agent.log")).context("cannot write a log")?;
        let agent = Command::new(std::env::current_exe().context("cannot find this program")?)
            .args(["run", "--config"])
            .arg(&config_path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the agent")?;
        let line = if quiet || !stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            let style = ProgressStyle::with_template("         {msg}").context("a template")?;
            ProgressBar::new_spinner().with_style(style)
        };
        Ok(Self { folder, agent, began: clock::mono(), line, quiet })
    }

    pub(super) fn elapsed(&self) -> Duration {
        clock::mono().since(self.began)
    }

    /// Prints a line with the time since the start.
    pub(super) fn print_line(&self, line: &str) {
        if !self.quiet {
            let text = format!("{:>6.1} s  {line}", self.elapsed().as_secs_f32());
            self.line.suspend(|| print_error(&text));
        }
    }

    /// Shows the state of the link. Returns the number of pending records if the agent answers.
    pub(super) fn show_progress(&self, arrived: usize) -> Option<u64> {
        let status = status::ask_status(&self.file_path("status.sock")).ok()?;
        let pending =
            status.lanes.lane_accounts().iter().filter_map(|(_, account)| account.pending).sum();
        let link = match status.link {
            LinkStatus::Up(_) => "up",
            LinkStatus::Down(_) => "down",
            LinkStatus::Unknown => "?",
        };
        let message = format!("link {link}, {arrived} records arrived, {pending} queued");
        self.line.set_message(escape_text(&message).into_owned());
        self.line.tick();
        Some(pending)
    }

    pub(super) fn agent_ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.agent.try_wait().context("cannot ask for the agent")
    }

    /// Asks the agent to stop, and waits. The agent delivers the rest first.
    pub(super) async fn stop_agent(&mut self) -> anyhow::Result<()> {
        self.line.finish_and_clear();
        let pid = self.agent.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM).context("cannot stop the agent")?;
        }
        tokio::time::timeout(END_WITHIN, self.agent.wait())
            .await
            .context("the agent did not stop")?
            .context("cannot wait for the agent")?;
        Ok(())
    }

    /// Returns the number of records in the store, and the number of alerts among them.
    pub(super) fn count_recorded(&self) -> anyhow::Result<(u64, u64)> {
        let mut reader =
            Reader::open_readonly(&self.file_path("state").join(FILE)).context("no store")?;
        let accounts = reader.read_accounts().context("cannot read the store")?;
        let recorded = accounts.iter().map(|account| account.recorded).sum();
        Ok((recorded, accounts[Lane::Alerts.index()].recorded))
    }

    pub(super) fn read_log(&self) -> String {
        std::fs::read_to_string(self.file_path("agent.log")).unwrap_or_default()
    }

    fn file_path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// The configuration of the demo. Belt `7` shows a high rate for the first seconds. The windows of
/// the rule last ten seconds, so its alert is raised and cleared within half a minute.
const CONFIG: &str = r#"
thing     = "demo-pi"
endpoint  = "localhost"
state_dir = "{dir}/state"

[identity]
certificate = "{certificate}"
private_key = "{private_key}"
roots       = "{dir}/ca.pem"

[link]
ports      = [{port}]
alpn_ports = [{port}]
retry_max  = "2s"

[clock]
trust = "system"

[status]
socket = "{dir}/status.sock"

[[simulated]]
id     = "3"
kind   = "heart_rate"
every  = "500ms"
seed   = 3
mean   = 72
spread = 6

[[simulated]]
id     = "5"
kind   = "heart_rate"
every  = "500ms"
seed   = 5
mean   = 64
spread = 4

[[simulated]]
id     = "7"
kind   = "heart_rate"
every  = "500ms"
seed   = 7
mean   = 152
spread = 5
steps  = [{ at = "13s", mean = 70 }]

[[simulated]]
id    = "feeder"
kind  = "lid"
every = "3s"
seed  = 1

[[simulated]]
id     = "air"
kind   = "number"
every  = "1s"
seed   = 2
mean   = 21
spread = 1

[[rule]]
name   = "heart rate out of range"
on     = "heart_rate"
window = { tumbling = "10s", take = "mean" }
above  = 120
below  = 40
then   = ["alert"]

[publish.readings]
batch = { bytes = "20KiB", delay = "1s" }
"#;
