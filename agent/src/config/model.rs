//! The checked content of a configuration: plain values for the parts of the agent.
//!
//! Every value is valid: names are well-formed and known, ranges hold, templates fit their limits.
//! All types can be compared, so that a reload can find the changed sections.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pulsegate_core::cloud::filter::FilterSpec;
use pulsegate_core::cloud::record_text::ReadingFormat;
use pulsegate_core::cloud::topic::{self, Open, Template};
use pulsegate_core::rules::RuleSpec;
use pulsegate_core::visits::{VisitFormat, VisitSpec};

pub(crate) use super::outputs::{Night, Output};
pub(crate) use super::sections::{
    Backlog, Bluetooth, Buffer, Camera, Clock, Gpio, HeartRate, Identity, Inbox, Lid, Limits, Link,
    Log, Number, Pictures, Port, Simulated, SimulatedKind, Status, Trigger, Trust,
};

/// The content of one configuration file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// The client id, and the name of the thing in every topic.
    pub thing: String,
    /// The host of the broker, without a port.
    pub host: String,
    /// The directory of the store, the counter of starts and the pictures.
    pub state_dir: PathBuf,
    /// The certificate and the private key of this device.
    pub identity: Identity,
    /// The ports, timeouts and limits of the connection to the broker.
    pub link: Link,
    /// The trust in the system clock.
    pub clock: Clock,
    /// The socket of the status.
    pub status: Status,
    /// All sources and cameras, with their hardware.
    pub sensors: Sensors,
    /// The outputs that rules and visits switch.
    pub outputs: Vec<Output>,
    /// The decision between night and day, if configured.
    pub night: Option<Night>,
    /// The limit of the pictures of all cameras.
    pub pictures: Pictures,
    /// The visits, one entry for each source that has visits.
    pub visits: Vec<VisitFormat>,
    /// The rules, in the order of the file.
    pub rules: Arc<Vec<RuleSpec>>,
    /// Topics, fields, batches and filters.
    pub publish: Publish,
    /// Size, age and durability of the records in the store.
    pub buffer: Buffer,
    /// The detail of the log.
    pub log: Log,
}

impl Config {
    /// Returns the ids of the sources whose heart-rate variability is derived.
    pub(crate) fn variability(&self) -> HashSet<Box<str>> {
        let monitors = self.sensors.heart_rates.iter().filter(|m| m.variability).map(|m| &m.id);
        let simulated = self.sensors.simulated.iter().filter(|s| s.variability).map(|s| &s.id);
        monitors.chain(simulated).map(|id| id.as_str().into()).collect()
    }

    /// Returns the specifications of all visits.
    pub(crate) fn visit_specs(&self) -> Vec<VisitSpec> {
        self.visits.iter().map(|visit| visit.spec.clone()).collect()
    }

    /// Returns the topic of the status messages: online, offline and lost.
    pub(crate) fn status_topic(&self) -> String {
        let open = Open { source: false, kind: false };
        let topic = Template::for_thing(topic::STATUS, &self.thing, open);
        topic.expect("a template of this program").fill_in("", "")
    }
}

/// All sources and cameras, with their hardware.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sensors {
    /// The Bluetooth adapter and the healing of monitors.
    pub bluetooth: Bluetooth,
    /// The access to GPIO lines.
    pub gpio: Gpio,
    /// Heart-rate monitors.
    pub heart_rates: Vec<HeartRate>,
    /// Lid switches.
    pub lids: Vec<Lid>,
    /// Movement sensors and buttons.
    pub triggers: Vec<Trigger>,
    /// Numbers in files.
    pub numbers: Vec<Number>,
    /// Sockets for readings of other programs.
    pub inboxes: Vec<Inbox>,
    /// Simulated sources.
    pub simulated: Vec<Simulated>,
    /// Cameras.
    pub cameras: Vec<Camera>,
}

/// Topics, fields, batches and filters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Publish {
    /// Readings of kinds without a section of their own.
    pub readings: PublishConfig,
    /// Readings by kind.
    pub kinds: BTreeMap<Box<str>, PublishConfig>,
    /// Alerts raised and cleared.
    pub alerts: PublishConfig,
    /// Events: visits, gaps, changes of state of the agent and its sources.
    pub events: PublishConfig,
}

/// The publishing of one sort of records.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PublishConfig {
    /// Topic, fields, framing and fixed members; alerts and events have no fields.
    pub format: ReadingFormat,
    /// The most bytes of payload in a message.
    pub limit_bytes: usize,
    /// The longest time that the first record of a batch waits for further records.
    pub delay: Duration,
    /// The filter of readings; holds back nothing for alerts and events.
    pub filter: FilterSpec,
}
