//! What a configuration says, after every check: plain values that the agent reads as they are.
//!
//! Whatever is here is valid: names are well-formed and known, ranges hold, templates fit their
//! limits. All of it compares, so that a reload can see which sections changed.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pulsegate_core::cloud::filter::FilterSpec;
use pulsegate_core::cloud::record_text::ReadingFormat;
use pulsegate_core::cloud::topic::{self, Open, Template};
use pulsegate_core::rules::RuleSpec;
use pulsegate_core::visits::{VisitFormat, VisitSpec};

pub(crate) use super::outputs::{Night, Output, Wiring};
pub(crate) use super::sections::{
    Backlog, Bluetooth, Buffer, Camera, Clock, Gpio, HeartRate, Identity, Inbox, Lid, Limits, Link,
    Log, Number, Pictures, Port, Simulated, SimulatedKind, Status, Trigger, Trust,
};

/// Everything that one configuration file says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// The client id, and the name in every topic.
    pub thing: String,
    /// The host of the broker, without a port.
    pub host: String,
    /// Where the store and the boot file live.
    pub state_dir: PathBuf,
    /// Certificate and key of this device.
    pub identity: Identity,
    /// How the connection is used.
    pub link: Link,
    /// When wall time counts as right.
    pub clock: Clock,
    /// Where a running agent answers questions.
    pub status: Status,
    /// Every source, and what reaches it.
    pub sensors: Sensors,
    /// What rules and visits switch.
    pub outputs: Vec<Output>,
    /// How night is told from day.
    pub night: Option<Night>,
    /// The pictures of all cameras.
    pub pictures: Pictures,
    /// Which sources have visits.
    pub visits: Vec<VisitFormat>,
    /// The rules, in the order of the file.
    pub rules: Arc<Vec<RuleSpec>>,
    /// Topics, fields and batches.
    pub publish: Publish,
    /// What the store keeps, and for how long.
    pub buffer: Buffer,
    /// How much is logged.
    pub log: Log,
}

impl Config {
    /// Returns the monitors whose variability is derived.
    pub(crate) fn variability(&self) -> HashSet<Box<str>> {
        let monitors = self.sensors.heart_rates.iter().filter(|m| m.variability).map(|m| &m.id);
        let simulated = self.sensors.simulated.iter().filter(|s| s.variability).map(|s| &s.id);
        monitors.chain(simulated).map(|id| id.as_str().into()).collect()
    }

    /// Returns the specifications of all visits.
    pub(crate) fn visit_specs(&self) -> Vec<VisitSpec> {
        self.visits.iter().map(|visit| visit.spec.clone()).collect()
    }

    /// Returns the topic on which the thing reports if it is online.
    pub(crate) fn status_topic(&self) -> String {
        let open = Open { source: false, kind: false };
        let topic = Template::for_thing(topic::STATUS, &self.thing, open);
        topic.expect("a template of this program").fill_in("", "")
    }
}

/// Every source, and what reaches it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sensors {
    /// How Bluetooth is used.
    pub bluetooth: Bluetooth,
    /// How lines are read.
    pub gpio: Gpio,
    /// Heart-rate monitors.
    pub heart_rates: Vec<HeartRate>,
    /// Lid switches.
    pub lids: Vec<Lid>,
    /// Movement sensors and buttons.
    pub triggers: Vec<Trigger>,
    /// Numbers in files.
    pub numbers: Vec<Number>,
    /// Sockets for other programs' readings.
    pub inboxes: Vec<Inbox>,
    /// Sources that are made up.
    pub simulated: Vec<Simulated>,
    /// Cameras.
    pub cameras: Vec<Camera>,
}

/// Topics, fields and batches.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Publish {
    /// Readings of kinds that have no section of their own.
    pub readings: PublishConfig,
    /// Readings by kind.
    pub kinds: BTreeMap<Box<str>, PublishConfig>,
    /// Alerts raised and cleared.
    pub alerts: PublishConfig,
    /// Visits, gaps, state of the agent.
    pub events: PublishConfig,
}

/// How one sort of record is published.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PublishConfig {
    /// Topic, fields, framing and fixed members; alerts and events have no fields.
    pub format: ReadingFormat,
    /// The payload bytes of a batch.
    pub limit_bytes: usize,
    /// How long the first record of a batch may wait for others.
    pub delay: Duration,
    /// What is held back; nothing of alerts and events.
    pub filter: FilterSpec,
}
