//! What a configuration says, after every check: plain values that the agent reads as they are.
//!
//! Whatever is here is valid: names are well-formed and known, ranges hold, templates fit their
//! limits. All of it compares, so that a reload can see which sections changed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pulsegate_core::cloud::filter::FilterSpec;
use pulsegate_core::rules::RuleSpec;
use pulsegate_core::visits::VisitFormat;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use super::outputs::{Hours, Light, Night, Only, Output, Wiring};
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
    pub kinds: BTreeMap<String, PublishConfig>,
    /// Alerts raised and cleared.
    pub alerts: PublishConfig,
    /// Visits, gaps, state of the agent.
    pub events: PublishConfig,
}

/// How one sort of record is published.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PublishConfig {
    /// A template with `{thing}`, `{source}` and `{kind}`; fits the limits for each known source.
    pub topic: String,
    /// The keys of a record, in order; the standard record if absent. Always absent for alerts and events.
    pub fields: Option<Vec<FieldConfig>>,
    /// How the records of a batch are put together.
    pub format: Format,
    /// When a batch is full.
    pub batch: Batch,
    /// Fixed members of every record: JSON without braces.
    pub add: String,
    /// What is held back; nothing of alerts and events.
    pub filter: FilterSpec,
}

/// One key of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldConfig {
    /// The JSON key.
    pub key: String,
    /// What stands there.
    pub field: Field,
}

/// What a record can tell of a reading.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Field {
    /// The record id, such as `12k3f9x2ab-345`, unique for this thing for ever: the cloud removes
    /// duplicates by it.
    Seq,
    /// The id of the source.
    Source,
    /// The kind of the reading.
    Kind,
    /// RFC 3339 in UTC, with milliseconds.
    Time,
    /// Milliseconds since 1970.
    TimeMs,
    /// Seconds since 1970.
    TimeS,
    /// The number or the state.
    Value,
    /// The number, of a heart rate.
    Bpm,
    /// The state, of a line or of another program.
    State,
    /// The unit of the source, if it has one.
    Unit,
    /// Whether the monitor feels skin.
    Contact,
    /// Kilojoule since the last reset.
    EnergyKj,
    /// RR intervals in milliseconds, as one string.
    RrMs,
    /// `unset`, only while the time is not trusted.
    Clock,
}

/// How the records of a batch are put together.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// One JSON array.
    #[default]
    Array,
    /// One object a line.
    Lines,
}

/// When a batch is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Payload bytes that it may have.
    pub bytes: u64,
    /// How long its first record may wait for others.
    pub delay: Duration,
}
