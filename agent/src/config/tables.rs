//! The file, table by table: the one definition of its keys, types, ranges and defaults.
//!
//! `serde` reads a file into these, `schemars` makes the JSON Schema of them, and the first pass
//! ([`super::structure`]) checks a file against that schema. `x-range` gives the range of a duration
//! or size.

mod outputs;
mod publish;
mod rules;
mod visits;

use std::path::PathBuf;

use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Serialize};

pub(super) use outputs::{NightTable, OutputTable};
pub(super) use publish::{BatchTable, PublishTable, PublishTables, Scalar, TestTable};
pub(super) use rules::{MemberTable, RuleTable, WindowTable};
pub(super) use visits::{ReportTable, SourceVisitTable, VisitTable};

use super::place::At;
use super::sections::{
    Bluetooth, Buffer, Camera, Clock, Gpio, HeartRate, Identity, Inbox, Lid, Link, Log, Number,
    Pictures, Simulated, Status, Trigger,
};
use super::units::Period;

/// Configuration of pulsegate, an edge gateway agent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "pulsegate.toml")]
pub(super) struct Tables {
    /// Name of this device: the client id, and the name in every topic.
    pub(super) thing: String,
    /// The broker, as `host` or `host:port`.
    pub(super) endpoint: String,
    /// Directory of the store and the boot file.
    #[serde(default = "state_dir")]
    #[schemars(length(min = 1))]
    pub(super) state_dir: PathBuf,
    /// Certificate and key of this device.
    pub(super) identity: Identity,
    /// How the connection is used.
    #[serde(default)]
    pub(super) link: Link,
    /// When wall time counts as right.
    #[serde(default)]
    pub(super) clock: Clock,
    /// Where a running agent answers questions.
    #[serde(default)]
    pub(super) status: Status,
    /// How Bluetooth is used.
    #[serde(default)]
    pub(super) bluetooth: Bluetooth,
    /// How lines are read.
    #[serde(default)]
    pub(super) gpio: Gpio,
    /// Heart-rate monitors.
    #[serde(default)]
    pub(super) heart_rate: Vec<HeartRate>,
    /// Lid switches.
    #[serde(default)]
    pub(super) lid: Vec<Lid>,
    /// Movement sensors and buttons.
    #[serde(default)]
    pub(super) trigger: Vec<Trigger>,
    /// Numbers in files: 1-wire, hwmon, IIO.
    #[serde(default)]
    pub(super) number: Vec<Number>,
    /// Sockets for readings from other programs.
    #[serde(default)]
    pub(super) inbox: Vec<Inbox>,
    /// Sources that are made up, to try things out.
    #[serde(default)]
    pub(super) simulated: Vec<Simulated>,
    /// Cameras.
    #[serde(default)]
    pub(super) camera: Vec<Camera>,
    /// The pictures of all cameras.
    #[serde(default)]
    pub(super) pictures: Pictures,
    /// What rules and visits switch.
    #[serde(default)]
    pub(super) output: Vec<At<OutputTable>>,
    /// How night is told from day, for outputs.
    pub(super) night: Option<At<NightTable>>,
    /// Visits to sources of other programs.
    #[serde(default)]
    pub(super) visit: Vec<At<SourceVisitTable>>,
    /// What raises alerts.
    #[serde(default)]
    pub(super) rule: Vec<At<RuleTable>>,
    /// Topics, fields and batches: `readings` (of any kind), a kind of readings, `alerts`, `events`.
    #[serde(default)]
    #[schemars(schema_with = "publish::publish_schema")]
    pub(super) publish: PublishTables,
    /// What the store keeps, and for how long.
    #[serde(default)]
    pub(super) buffer: Buffer,
    /// What must never leave the device.
    #[serde(default)]
    pub(super) privacy: PrivacyTable,
    /// How much is logged.
    #[serde(default)]
    pub(super) log: Log,
}

fn state_dir() -> PathBuf {
    "/var/lib/pulsegate".into()
}

/// A duration, for `#[serde(default)]`.
fn ms<const MILLIS: u64>() -> Period {
    Period(std::time::Duration::from_millis(MILLIS))
}

/// What must never leave the device.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PrivacyTable {
    /// Names, phone numbers, positions: nothing else in this file may contain one of them, but the
    /// `name` and `address` by which a monitor is found; an inbox refuses a line with one. Case, spaces
    /// and `- _ . ( ) /` are ignored.
    pub(super) forbidden: Vec<String>,
}

/// The JSON Schema of the file.
pub(super) fn build_schema() -> Schema {
    let settings = schemars::generate::SchemaSettings::draft2020_12();
    let without_null = schemars::transform::RecursiveTransform(remove_null);
    settings.with_transform(without_null).into_generator().into_root_schema_for::<Tables>()
}

/// TOML has no null: an optional key is one that may be left out.
fn remove_null(schema: &mut Schema) {
    let null = json_schema!({ "type": "null" }).to_value();
    let by_part = |default: &serde_json::Value| default.is_null() || default.is_object();
    if schema.get("default").is_some_and(by_part) {
        schema.remove("default");
    }
    if let Some(serde_json::Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(serde_json::Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| *choice != null);
        if let [serde_json::Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            schema.ensure_object().extend(only);
        }
    }
}
