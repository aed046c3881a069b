//! A site: mosquitto with mutual TLS, somebody who listens to all of it, and a thing that may write
//! its own topics.

use std::path::PathBuf;

use crate::agent_process::Device;
use crate::certs::{Certs, Issued};
use crate::mosquitto::{Mosquitto, Options};
use crate::subscriber::Subscriber;

/// The thing that the site knows.
pub const THING: &str = "box";

/// See the module.
#[derive(Debug)]
pub struct Site {
    /// The authority of everybody here.
    pub certs: Certs,
    /// Who [`THING`] is.
    pub identity: Issued,
    /// The broker.
    pub broker: Mosquitto,
    /// Hears everything that is published.
    pub subscriber: Subscriber,
}

impl Site {
    /// Starts one where [`THING`] may write `pulsegate/box/#`. When its broker was stopped and is
    /// started again, the listener misses nothing that comes before it is back.
    pub async fn start() -> Self {
        Self::start_with(Options::default().thing(THING).persistent()).await
    }

    /// Starts one with a broker of these options, which have to name [`THING`].
    pub async fn start_with(options: Options) -> Self {
        Self::start_under(Certs::new(), options).await
    }

    /// As [`Site::start_with`], under an authority that has already issued something.
    pub async fn start_under(certs: Certs, options: Options) -> Self {
        let identity = certs.device(THING);
        let broker = Mosquitto::start(&certs, options).await;
        let subscriber = broker.subscribe("#").await;
        Self { certs, identity, broker, subscriber }
    }

    /// The file of the authority.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.certs.ca()
    }

    /// Makes a device that is [`THING`] and connects to the broker: impatient, so that a test need
    /// not wait, else with every default.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device_on(self.broker.port())
    }

    /// As [`Site::device`], but it connects to another port, as that of a [`crate::link::Link`].
    #[must_use]
    pub fn device_on(&self, port: u16) -> Device {
        Device::new(THING)
            .identity(&self.identity.files)
            .broker(port, &self.ca())
            .set("link", "retry_max", "\"1s\"")
            .set("buffer", "commit_interval", "\"100ms\"")
            .set("publish.readings", "batch", "{ delay = \"100ms\" }")
    }
}
