//! The file, table by table: the one definition of its keys, types, ranges and defaults.
//!
//! `serde` reads a file into these, `schemars` makes the JSON Schema of them, and the first pass
//! ([`super::structure`]) checks a file against that schema. `x-range` gives the range of a duration
//! or size.

mod outputs;
mod publish;
mod rules;
mod sensors;
mod visits;

use std::path::PathBuf;

use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Serialize};

pub(super) use outputs::{NightTable, OutputTable};
pub(super) use publish::{BatchTable, PublishTable, PublishTables, Scalar, TestTable};
pub(super) use rules::{LimitTable, MemberTable, RuleTable, WindowTable};
pub(super) use sensors::{
    BluetoothTable, CameraTable, GpioTable, HeartRateTable, InboxTable, LidTable, NumberTable,
    PicturesTable, SimulatedTable, TriggerTable,
};
pub(super) use visits::{ReportTable, SourceVisitTable, VisitTable};

use super::model::{Backlog, Limits, LogLevel, Trust};
use super::place::At;
use super::units::{Period, Size};

/// Configuration of pulsegate, an edge gateway agent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "pulsegate.toml")]
pub(super) struct Tables {
    /// Name of this device: the client id, and the name in every topic.
    pub(super) thing: At<String>,
    /// The broker, as `host` or `host:port`.
    pub(super) endpoint: At<String>,
    /// Directory of the store and the boot file.
    #[serde(default = "state_dir")]
    #[schemars(length(min = 1))]
    pub(super) state_dir: PathBuf,
    /// Certificate and key of this device.
    pub(super) identity: IdentityTable,
    /// How the connection is used.
    #[serde(default)]
    pub(super) link: LinkTable,
    /// When wall time counts as right.
    #[serde(default)]
    pub(super) clock: ClockTable,
    /// Where a running agent answers questions.
    #[serde(default)]
    pub(super) status: StatusTable,
    /// How Bluetooth is used.
    #[serde(default)]
    pub(super) bluetooth: BluetoothTable,
    /// How lines are read.
    #[serde(default)]
    pub(super) gpio: GpioTable,
    /// Heart-rate monitors.
    #[serde(default)]
    pub(super) heart_rate: Vec<At<HeartRateTable>>,
    /// Lid switches.
    #[serde(default)]
    pub(super) lid: Vec<LidTable>,
    /// Movement sensors and buttons.
    #[serde(default)]
    pub(super) trigger: Vec<TriggerTable>,
    /// Numbers in files: 1-wire, hwmon, IIO.
    #[serde(default)]
    pub(super) number: Vec<NumberTable>,
    /// Sockets for readings from other programs.
    #[serde(default)]
    pub(super) inbox: Vec<InboxTable>,
    /// Sources that are made up, to try things out.
    #[serde(default)]
    pub(super) simulated: Vec<SimulatedTable>,
    /// Cameras.
    #[serde(default)]
    pub(super) camera: Vec<At<CameraTable>>,
    /// The pictures of all cameras.
    #[serde(default)]
    pub(super) pictures: PicturesTable,
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
    #[schemars(schema_with = "publish::schema")]
    pub(super) publish: PublishTables,
    /// What the store keeps, and for how long.
    #[serde(default)]
    pub(super) buffer: BufferTable,
    /// What must never leave the device.
    #[serde(default)]
    pub(super) privacy: PrivacyTable,
    /// How much is logged.
    #[serde(default)]
    pub(super) log: LogTable,
}

fn state_dir() -> PathBuf {
    "/var/lib/pulsegate".into()
}

/// A duration, for `#[serde(default)]`.
fn ms<const MILLIS: u64>() -> Period {
    Period(std::time::Duration::from_millis(MILLIS))
}

/// Certificate and key of this device.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IdentityTable {
    /// The device certificate, a PEM file.
    #[schemars(length(min = 1))]
    pub(super) certificate: At<PathBuf>,
    /// Its private key, a PEM file that nobody else may read.
    #[schemars(length(min = 1))]
    pub(super) private_key: At<PathBuf>,
    /// A PEM file of authorities to trust instead of the built-in Amazon roots.
    #[schemars(length(min = 1))]
    pub(super) roots: Option<At<PathBuf>>,
}

/// How the connection is used.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LinkTable {
    /// Ports, tried in turn. An `endpoint` with a port has only that one.
    #[schemars(inner(range(min = 1)))]
    pub(super) ports: At<Vec<u16>>,
    /// Ports at which TLS offers `x-amzn-mqtt-ca`.
    pub(super) alpn_ports: Vec<u16>,
    /// MQTT keep-alive; 30s to 1200s at AWS. A publish that is not acknowledged for so long, or for
    /// 30s, ends the connection.
    #[schemars(extend("x-range" = ["5s", "12h"]))]
    pub(super) keep_alive: At<Period>,
    /// Unacknowledged messages at any time; a crash sends at most these twice. AWS takes 100.
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) window: At<u16>,
    /// Publishes a second. AWS takes 100, and drops the rest without a word.
    #[schemars(range(min = 1, max = 100_000))]
    pub(super) messages_per_second: At<u32>,
    /// Payload bytes a second. AWS takes 512KiB.
    #[schemars(extend("x-range" = ["1KiB", "1GiB"]))]
    pub(super) bytes_per_second: At<Size>,
    /// Records a second, for what is behind the broker: a Kinesis shard takes 1000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) records_per_second: Option<u32>,
    /// `none` for another broker than AWS IoT Core: the caps above may then be exceeded.
    pub(super) limits: Limits,
    /// Bounds dialling, TLS and CONNACK together.
    #[schemars(extend("x-range" = ["1s", "5m"]))]
    pub(super) connect_timeout: Period,
    /// The longest wait before another attempt to connect.
    #[schemars(extend("x-range" = ["1s", "1h"]))]
    pub(super) retry_max: Period,
}

impl Default for LinkTable {
    fn default() -> Self {
        Self {
            ports: vec![443, 8883].into(),
            alpn_ports: vec![443],
            keep_alive: ms::<30_000>().into(),
            window: 16.into(),
            messages_per_second: 50.into(),
            bytes_per_second: Size(384 << 10).into(),
            records_per_second: None,
            limits: Limits::Aws,
            connect_timeout: ms::<20_000>(),
            retry_max: ms::<300_000>(),
        }
    }
}

/// When wall time counts as right.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ClockTable {
    /// Whom to believe.
    pub(super) trust: Trust,
}

/// Where a running agent answers questions.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct StatusTable {
    /// A Unix socket.
    #[schemars(length(min = 1))]
    pub(super) socket: PathBuf,
}

impl Default for StatusTable {
    fn default() -> Self {
        Self { socket: "/run/pulsegate/status.sock".into() }
    }
}

/// What the store keeps, and for how long.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BufferTable {
    /// What a power cut may cost.
    #[schemars(extend("x-range" = ["10ms", "60s"]))]
    pub(super) commit_interval: Period,
    /// Size of the store; above it the oldest goes first.
    #[schemars(extend("x-range" = ["16MiB", "1024GiB"]))]
    pub(super) max_bytes: Size,
    /// How long a delivered reading stays.
    #[schemars(extend("x-range" = ["0s", "3650d"]))]
    pub(super) history: Period,
    /// Pending readings older than that are dropped and counted; none are if absent.
    #[schemars(extend("x-range" = ["1m", "3650d"]))]
    pub(super) ttl: Option<Period>,
    /// The fate of pending records of another `thing` that are found in the store: a card was cloned, or the
    /// thing renamed.
    pub(super) backlog_of_another_thing: Backlog,
}

impl Default for BufferTable {
    fn default() -> Self {
        Self {
            commit_interval: ms::<1_000>(),
            max_bytes: Size(2 << 30),
            history: ms::<{ 7 * 86_400_000 }>(),
            ttl: None,
            backlog_of_another_thing: Backlog::default(),
        }
    }
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

/// How much is logged.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LogTable {
    /// The least severity.
    pub(super) level: LogLevel,
}

/// The JSON Schema of the file.
pub(super) fn schema() -> Schema {
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
