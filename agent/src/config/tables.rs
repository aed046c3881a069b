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
pub(super) use publish::{Members, PublishTable, PublishTables, TestTable};
pub(super) use rules::{MemberTable, RuleTable, WindowTable};
pub(super) use visits::{ReportTable, SourceVisitTable, VisitTable};

use super::sections::{
    Bluetooth, Buffer, Camera, Clock, Gpio, HeartRate, Identity, Inbox, Lid, Link, Log, Number,
    Pictures, Simulated, Status, Trigger,
};
use super::units::Period;

/// Configuration file of pulsegate, an edge gateway agent for Raspberry Pi.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "pulsegate.toml")]
pub(super) struct Tables {
    /// Name of this device: the MQTT client id, and `{thing}` in every topic. 1 to 128 of `A-Z a-z
    /// 0-9 : _ -`, such as `pi-nestbox-3`; unique at the broker, which closes the older of two
    /// connections with one client id. A change takes effect at a restart.
    pub(super) thing: String,
    /// Host name or address of the MQTT broker, as `host` or `host:port`, without `mqtts://`. For
    /// AWS IoT Core, the output of `aws iot describe-endpoint --endpoint-type iot:Data-ATS`, such
    /// as `abc-ats.iot.eu-west-1.amazonaws.com`. A port replaces `link.ports`.
    pub(super) endpoint: String,
    /// Directory of the store, of the counter of starts, and of the pictures; created if missing.
    /// Needs a file system that survives a reboot. A change takes effect at a restart.
    #[serde(default = "state_dir")]
    #[schemars(length(min = 1))]
    pub(super) state_dir: PathBuf,
    /// Certificate and private key of this device, for mutual TLS with the broker.
    pub(super) identity: Identity,
    /// Ports, timeouts and limits of the connection to the broker.
    #[serde(default)]
    pub(super) link: Link,
    /// Trust in the system clock. Until the clock is trusted, published records end with
    /// `"clock":"unset"`.
    #[serde(default)]
    pub(super) clock: Clock,
    /// Socket on which the running agent answers `pulsegate status`.
    #[serde(default)]
    pub(super) status: Status,
    /// Bluetooth adapter and healing, for all heart-rate monitors.
    #[serde(default)]
    pub(super) bluetooth: Bluetooth,
    /// Access to the GPIO lines of lids, triggers and outputs.
    #[serde(default)]
    pub(super) gpio: Gpio,
    /// Bluetooth heart-rate monitors, such as chest belts; sources of readings of kind
    /// `heart_rate`, in beats per minute.
    #[serde(default)]
    pub(super) heart_rate: Vec<HeartRate>,
    /// Lid switches on GPIO lines; sources of readings of kind `lid`, with the states `open` and
    /// `closed`.
    #[serde(default)]
    pub(super) lid: Vec<Lid>,
    /// Movement sensors and buttons on GPIO lines; sources of readings with the states `active` and
    /// `idle`.
    #[serde(default)]
    pub(super) trigger: Vec<Trigger>,
    /// Numbers in files: any sensor that Linux shows as a file, such as 1-wire, hwmon and IIO;
    /// sources of readings that are numbers.
    #[serde(default)]
    pub(super) number: Vec<Number>,
    /// Unix sockets on which other programs send readings, as JSON lines.
    #[serde(default)]
    pub(super) inbox: Vec<Inbox>,
    /// Simulated sources, for demonstrations and tests without hardware. Their readings are stored
    /// and published like real ones.
    #[serde(default)]
    pub(super) simulated: Vec<Simulated>,
    /// Cameras, each driven by an external program. The pictures stay on this device.
    #[serde(default)]
    pub(super) camera: Vec<Camera>,
    /// Limit of the pictures of all cameras together.
    #[serde(default)]
    pub(super) pictures: Pictures,
    /// Lamps, buzzers, relays and displays that rules and visits switch.
    #[serde(default)]
    pub(super) output: Vec<OutputTable>,
    /// Decision between night and day, for outputs with `only`.
    pub(super) night: Option<NightTable>,
    /// Visits (groups of openings close in time) to sources without a `visit` table of their own,
    /// such as sources of other programs.
    #[serde(default)]
    pub(super) visit: Vec<SourceVisitTable>,
    /// Rules: conditions on readings that raise alerts and start other actions.
    #[serde(default)]
    pub(super) rule: Vec<RuleTable>,
    /// Topics, fields, batches and filters of published records, in one table for each sort:
    /// `readings` (all kinds), a kind of readings such as `heart_rate`, `alerts`, `events`.
    #[serde(default)]
    #[schemars(schema_with = "publish::publish_schema")]
    pub(super) publish: PublishTables,
    /// Size, age and durability of the records in the store.
    #[serde(default)]
    pub(super) buffer: Buffer,
    /// Texts that must never leave this device.
    #[serde(default)]
    pub(super) privacy: PrivacyTable,
    /// Detail of the log on standard error, which systemd writes to the journal.
    #[serde(default)]
    pub(super) log: Log,
}

fn state_dir() -> PathBuf {
    "/var/lib/pulsegate".into()
}

/// Returns a duration of `MILLIS` milliseconds, for `#[serde(default)]`.
fn ms<const MILLIS: u64>() -> Period {
    Period(std::time::Duration::from_millis(MILLIS))
}

/// Texts that must never leave this device.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PrivacyTable {
    /// Names, phone numbers and positions, such as `["Anna Smith", "+49 170 1234567"]`, each with
    /// at least 3 characters. Any other value or key of this file that contains one of these texts
    /// is a fault, except `name` and `address` of a heart-rate monitor; an inbox refuses a line
    /// that contains one. Case, spaces and `- _ . ( ) /` are ignored. Default: none.
    pub(super) forbidden: Vec<String>,
}

/// Returns the JSON Schema of the file.
pub(super) fn build_schema() -> Schema {
    let settings = schemars::generate::SchemaSettings::draft2020_12();
    let without_null = schemars::transform::RecursiveTransform(remove_null);
    settings.with_transform(without_null).into_generator().into_root_schema_for::<Tables>()
}

/// Removes `null` from a schema: TOML has no null, and an optional key is left out instead.
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
