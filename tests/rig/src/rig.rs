//! What a scenario gets: a device, a broker with mutual TLS, and a clock to ask.

use anyhow::Result;
use pulsegate_tests::certs::{Certs, Validity};
use pulsegate_tests::mosquitto::Options;
use pulsegate_tests::site::{Site, THING};

use crate::device::{CONFIG, Device};
use crate::time_server::TimeServer;

/// What the guest calls this machine.
pub const HOST: &str = "cloud.rig";

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
    seen: Vec<String>,
}

impl Rig {
    /// Puts a device beside a new site.
    ///
    /// # Errors
    /// The clock cannot listen.
    pub async fn new(device: Device, seed: u64) -> Result<Self> {
        let certs = Certs::new();
        let server = certs.server(&["localhost", "127.0.0.1", HOST], Validity::Current);
        let options = Options::default().thing(THING).persistent().server(server);
        let site = Site::start_under(certs, options).await;
        let clock = TimeServer::start().await?;
        Ok(Self { device, site, clock, random: fastrand::Rng::with_seed(seed), seen: Vec::new() })
    }

    /// Notes what was asserted, with its numbers: the report shows it.
    pub fn saw(&mut self, what: impl Into<String>) {
        self.seen.push(what.into());
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

    /// Gives the agent its identity, and this configuration after the lines that lead it to the
    /// broker: its top-level keys go first, then come tables.
    ///
    /// # Errors
    /// The device does not take it.
    pub async fn configure(&mut self, tables: &str) -> Result<()> {
        let files = self.site.identity.files.clone();
        let read = |path: &std::path::Path| std::fs::read_to_string(path);
        let (ca, certificate) = (read(&self.site.ca())?, read(&files.certificate)?);
        let key = read(&files.private_key)?;
        self.device.write("/etc/pulsegate/roots.pem", "644", &ca).await?;
        self.device.write("/etc/pulsegate/device.pem.crt", "644", &certificate).await?;
        self.device.write("/etc/pulsegate/device.pem.key", "600", &key).await?;
        self.device.sh("chown pulsegate: /etc/pulsegate/device.pem.key").await?;
        let config = self.config(tables);
        self.device.write(CONFIG, "644", &config).await
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

    /// Waits until the agent has its link to the broker.
    ///
    /// # Errors
    /// It does not get there.
    pub async fn wait_link(&mut self) -> Result<()> {
        let up = |status: &serde_json::Value| status["link"]["state"] == "up";
        self.device.wait_status("the link is up", up).await.map(drop)
    }
}
