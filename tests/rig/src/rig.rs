//! What a scenario gets: a device, a broker with mutual TLS, and a clock to ask.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use pulsegate_tests::certs::{Certs, Validity};
use pulsegate_tests::mosquitto::Options;
use pulsegate_tests::site::{Site, THING};
use serde_json::Value;

use crate::device::{CONFIG, Device};
use crate::time_server::TimeServer;

/// What the guest calls this machine.
pub const HOST: &str = "cloud.rig";
/// The three lanes of the agent.
pub const LANES: [&str; 3] = ["alerts", "events", "readings"];
/// An inbox where the unit allows one, open to anybody's readings.
pub const INBOX: &str = "[[inbox]]\npath = \"/run/pulsegate/inbox.sock\"\n";
/// A heart rate a second, made up.
pub const BELT: &str =
    "[[simulated]]\nid = \"7\"\nkind = \"heart_rate\"\nevery = \"1s\"\nmean = 70\n";

/// See the module. When a scenario begins the package is installed, but the agent has neither
/// configuration nor certificate, and the clock is not set.
#[derive(Debug)]
pub struct Rig {
    /// The device.
    pub device: Device,
    /// Broker and listener, on this machine's loopback.
    pub site: Site,
    /// The clock that the device may ask.
    pub clock: TimeServer,
    /// Randomness of a seed that is printed.
    pub random: fastrand::Rng,
    /// The package that is installed, on this machine.
    pub package: PathBuf,
    seen: Vec<String>,
}

impl Rig {
    /// Puts a device beside a new site.
    ///
    /// # Errors
    /// The clock cannot listen.
    pub async fn new(device: Device, package: &Path, seed: u64) -> Result<Self> {
        let certs = Certs::new();
        let server = certs.server(&["localhost", "127.0.0.1", HOST], Validity::Current);
        let options = Options::default().thing(THING).persistent().server(server);
        let site = Site::start_under(certs, options).await;
        let clock = TimeServer::start().await?;
        let (random, seen) = (fastrand::Rng::with_seed(seed), Vec::new());
        Ok(Self { device, site, clock, random, package: package.to_owned(), seen })
    }

    /// Notes what was asserted, with its numbers: the report shows it.
    pub fn saw(&mut self, what: impl Into<String>) {
        self.seen.push(what.into());
    }

    /// Shows at once how far a long scenario has got.
    #[expect(clippy::print_stdout, reason = "the report")]
    pub fn progress(&self, what: &str) {
        println!("     {what}");
    }

    /// What was noted so far.
    #[must_use]
    pub fn seen(&self) -> &[String] {
        &self.seen
    }

    /// Tells the device what time it is, and waits until it knows.
    ///
    /// # Errors
    /// It does not learn it.
    pub async fn tell_time(&mut self) -> Result<()> {
        self.clock.speak(true);
        // It would ask by itself, but seldom.
        self.device.sh("systemctl restart systemd-timesyncd").await?;
        let known = "test -e /run/systemd/timesync/synchronized";
        self.device.wait_sh("the device learns the time", known).await.map(drop)
    }

    /// Gives the agent its identity, whose key only root may read, and this configuration after the lines that lead it to the
    /// broker: its top-level keys go first, then come tables.
    ///
    /// # Errors
    /// The device does not take it.
    pub async fn configure(&mut self, tables: &str) -> Result<()> {
        let files = self.site.identity.files.clone();
        let read = |path: &Path| std::fs::read_to_string(path);
        let (ca, certificate) = (read(&self.site.ca())?, read(&files.certificate)?);
        let key = read(&files.private_key)?;
        self.device.write("/etc/pulsegate/roots.pem", "644", &ca).await?;
        self.device.write("/etc/pulsegate/device.pem.crt", "644", &certificate).await?;
        self.device.write("/etc/pulsegate/device.pem.key", "600", &key).await?;
        let config = self.config(tables);
        self.write_config(&config).await
    }

    /// Replaces the whole configuration, to the letter.
    ///
    /// # Errors
    /// The device does not take it.
    pub async fn write_config(&mut self, config: &str) -> Result<()> {
        self.device.write(CONFIG, "640", config).await?;
        self.device.sh(&format!("chown root:pulsegate {CONFIG}")).await.map(drop)
    }

    /// The configuration that [`Rig::configure`] writes.
    #[must_use]
    pub fn config(&self, tables: &str) -> String {
        let port = self.site.broker.port();
        format!(
            "thing = \"{THING}\"\nendpoint = \"{HOST}\"\n\
             [identity]\ncertificate = \"/etc/pulsegate/device.pem.crt\"\n\
             private_key = \"/etc/pulsegate/device.pem.key\"\nroots = \"/etc/pulsegate/roots.pem\"\n\
             [link]\nports = [{port}]\nlimits = \"none\"\nretry_max = \"2s\"\n{tables}"
        )
    }

    /// The number of the agent's process, as systemd knows it; 0 if it does not run.
    ///
    /// # Errors
    /// The guest does not answer.
    pub async fn agent_pid(&mut self) -> Result<u32> {
        let pid = self.device.sh("systemctl show --property=MainPID --value pulsegate").await?;
        Ok(pid.parse()?)
    }

    /// Starts the agent as its owner does, and waits until systemd says that it is ready.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start_agent(&mut self) -> Result<()> {
        self.device.sh("systemctl start pulsegate").await.map(drop)
    }

    /// Sets the clock, configures the agent, starts it and waits for its link: where most scenarios
    /// begin.
    ///
    /// # Errors
    /// It does not get there.
    pub async fn online(&mut self, tables: &str) -> Result<()> {
        self.tell_time().await?;
        self.configure(tables).await?;
        self.start_agent().await?;
        self.wait_link().await
    }

    /// Takes every source away, so that nothing new comes, and then as [`Rig::drained`].
    ///
    /// # Errors
    /// Something still waits, or an account is wrong.
    pub async fn silenced(&mut self) -> Result<Value> {
        self.write_config(&self.config("")).await?;
        self.device.sh("systemctl reload pulsegate").await?;
        self.drained().await
    }

    /// Has nothing wait any more, and the accounts balanced; returns the status that says so.
    ///
    /// # Errors
    /// Something still waits, or an account is wrong.
    pub async fn drained(&mut self) -> Result<Value> {
        let pending = |status: &Value, lane: &str| status["lanes"][lane]["pending"] != 0;
        let drained = |status: &Value| {
            status["clock"]["set"] == true && !LANES.iter().any(|lane| pending(status, lane))
        };
        let status = self.device.wait_status("nothing is left to send", drained).await?;
        for lane in LANES {
            ensure!(status["lanes"][lane]["balanced"] == true, "the account of {lane}: {status:#}");
        }
        Ok(status)
    }

    /// Waits until the agent has its link to the broker.
    ///
    /// # Errors
    /// It does not get there.
    pub async fn wait_link(&mut self) -> Result<()> {
        let up = |status: &Value| status["link"]["state"] == "up";
        self.device.wait_status("the link is up", up).await.map(drop)
    }
}
