//! The status as types: the answer on the socket, read again by `pulsegate status`.
//!
//! Scripts read the JSON, so keys are added and never renamed or removed; `keys.txt` lists all
//! keys. The answer of another version can be read: a missing key has its default, and an unknown
//! key, state of the link or kind of driver is ignored.

mod drivers;

use pulsegate_core::record::lane::{Lane, RecordAccount};
use serde::{Deserialize, Serialize};

pub(crate) use drivers::{DriverStatus, InboxDriver, LineDriver, MonitorDriver, NumberDriver};

/// The state of the agent and of all its parts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    /// Name of the thing.
    pub(crate) thing: String,
    /// Version of the running program.
    pub(crate) version: String,
    /// Counter of this start of the agent on its state directory.
    pub(crate) boot: u32,
    /// Name of this start, the beginning of each record id of this start: `12k3f9x2ab`.
    pub(crate) start: String,
    /// Time since the start, in seconds.
    pub(crate) uptime_s: u64,
    /// Each trouble as a sentence, with its cure where known.
    pub(crate) degraded: Vec<String>,
    /// Account of the records of each lane.
    pub(crate) lanes: LanesStatus,
    /// Connection to the broker.
    pub(crate) link: LinkStatus,
    /// Messages on their way to the broker.
    pub(crate) publisher: PublisherStatus,
    /// Topics refused by the broker.
    pub(crate) withheld: Vec<WithheldTopic>,
    /// Wall clock of the device.
    pub(crate) clock: ClockStatus,
    /// Store and the partition below it.
    pub(crate) disk: DiskStatus,
    /// Readings and alerts left out by the rules.
    pub(crate) rules: RulesStatus,
    /// Resident memory of the process in bytes; `None` where the kernel does not tell.
    pub(crate) memory_bytes: Option<u64>,
    /// Sources seen since the start, in the order of their numbers.
    pub(crate) sources: Vec<SourceStatus>,
    /// Counters of each driver.
    pub(crate) drivers: Vec<DriverStatus>,
    /// Outputs, in the order of the configuration.
    pub(crate) outputs: Vec<OutputStatus>,
    /// True at night; `None` where no output asks for the night, or night and day are not known.
    pub(crate) night: Option<bool>,
    /// Cameras, in the order of the configuration.
    pub(crate) cameras: Vec<CameraStatus>,
    /// Pictures in the folder of the cameras.
    pub(crate) pictures: PicturesStatus,
}

impl Status {
    /// Returns the JSON of the answer on the socket, with keys in alphabetical order.
    ///
    /// # Errors
    /// When a value cannot be JSON, which no value set by the agent is.
    pub(crate) fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_value(self).map(|status| status.to_string())
    }
}

/// The answer to a client above the limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// Reason for the refusal.
    pub(crate) error: String,
}

/// The account of each lane.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LanesStatus {
    /// Alerts raised or cleared by rules.
    pub(crate) alerts: LaneAccount,
    /// Events of the device.
    pub(crate) events: LaneAccount,
    /// Readings of all sources.
    pub(crate) readings: LaneAccount,
    /// Reason for which the numbers cannot be relied upon; `None` while all accounts add up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl LanesStatus {
    /// Returns all lanes with their accounts, the most urgent first.
    pub(crate) fn lane_accounts(&self) -> [(Lane, &LaneAccount); 3] {
        [
            (Lane::Alerts, &self.alerts),
            (Lane::Events, &self.events),
            (Lane::Readings, &self.readings),
        ]
    }
}

/// The records of a lane, counted since the state directory was made; all `None` while the count
/// fails.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LaneAccount {
    /// Stored records.
    pub(crate) recorded: Option<u64>,
    /// Records acknowledged by the broker.
    pub(crate) delivered: Option<u64>,
    /// Records still to be acknowledged.
    pub(crate) pending: Option<u64>,
    /// Records given up, each in a gap.
    pub(crate) dropped: Option<u64>,
    /// Records not published by choice of the configuration.
    pub(crate) filtered: Option<u64>,
    /// True if `recorded` is the sum of the other four.
    pub(crate) balanced: Option<bool>,
}

impl From<&RecordAccount> for LaneAccount {
    fn from(account: &RecordAccount) -> Self {
        Self {
            recorded: Some(account.recorded),
            delivered: Some(account.delivered),
            pending: Some(account.pending),
            dropped: Some(account.dropped),
            filtered: Some(account.filtered),
            balanced: Some(account.is_balanced()),
        }
    }
}

/// The connection to the broker, tagged by the key `state`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub(crate) enum LinkStatus {
    /// The broker accepted the connection.
    Up(LinkUp),
    /// No connection.
    Down(LinkDown),
    /// A state unknown to this version.
    #[default]
    #[serde(other, skip_serializing)]
    Unknown,
}

/// A living connection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LinkUp {
    /// Port of the broker.
    pub(crate) port: u16,
    /// Number of the connection, counted since the start of the agent.
    pub(crate) connection: u64,
    /// Age of the connection, in seconds.
    pub(crate) for_s: u64,
}

/// An outage of the connection.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LinkDown {
    /// Reason for which the last attempt failed or the last connection ended; `None` before the first attempt.
    pub(crate) last_error: Option<String>,
    /// Attempts since the last good connection.
    pub(crate) attempts: u64,
    /// Duration of the outage, in seconds.
    pub(crate) for_s: u64,
    /// Time until the next attempt, in seconds; `None` while an attempt is under way.
    pub(crate) retry_in_s: Option<f32>,
}

/// The messages on their way to the broker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PublisherStatus {
    /// Messages sent and not acknowledged yet.
    pub(crate) in_flight: usize,
    /// Messages to be sent again after a crash.
    pub(crate) in_hand: usize,
    /// Messages acknowledged since the start.
    pub(crate) acknowledged: u64,
    /// Records given up since the start, because the broker hangs up on each of these records.
    pub(crate) quarantined: u64,
    /// Bytes of the largest message that the broker takes; `None` unless the broker hangs up on
    /// larger messages.
    pub(crate) max_message_bytes: Option<usize>,
}

/// A topic refused by the broker, whose records wait.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WithheldTopic {
    /// The topic.
    pub(crate) topic: String,
    /// Sign of the refusal.
    pub(crate) reason: String,
    /// Time since the topic was refused, in seconds.
    pub(crate) for_s: u64,
    /// Time until the topic is tried again, in seconds.
    pub(crate) next_trial_in_s: u64,
    /// Waiting records, as far as counted; `None` for the status topic, which has no records.
    pub(crate) records: Option<u64>,
}

/// The wall clock of the device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ClockStatus {
    /// True if the time is trusted.
    pub(crate) set: bool,
    /// Time of the answer by this clock, in RFC 3339.
    pub(crate) time: String,
    /// Time for which readings and events still wait for the clock, in seconds; `None` when nothing
    /// waits.
    pub(crate) holds_back_for_s: Option<u64>,
}

/// The store and the partition below it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DiskStatus {
    /// Bytes used by records.
    pub(crate) used_bytes: u64,
    /// Bytes of the database file.
    pub(crate) file_bytes: u64,
    /// Bytes allowed for records by the configuration.
    pub(crate) max_bytes: u64,
    /// Bytes allowed for records: `max_bytes`, or less on a small partition.
    pub(crate) cap_bytes: u64,
    /// Free bytes of the partition; 0 also where the file system does not tell.
    pub(crate) free_bytes: u64,
    /// Bytes of the partition used by other files.
    pub(crate) others_bytes: Option<u64>,
    /// Bytes of the partition, without the reserve for root.
    pub(crate) partition_bytes: Option<u64>,
    /// True while new records reach the disk; else new records are kept in memory.
    pub(crate) durable: bool,
    /// Bytes written to disks by the agent since its start; `None` where the kernel does not count.
    pub(crate) written_bytes: Option<u64>,
    /// `written_bytes` at the pace since the start, a day; `None` in the first 5 min.
    pub(crate) written_bytes_a_day: Option<u64>,
    /// Commits since the start.
    pub(crate) commits: u64,
    /// Readings in memory only and not delivered.
    pub(crate) waiting: u64,
    /// Records given up because memory is full.
    pub(crate) given_up: u64,
    /// Outcome of the search for damage: `not needed`, `running`, `sound`, `damaged` or `failed`.
    pub(crate) checked: String,
    /// Invalid rows of a damaged store, left behind in the salvage.
    pub(crate) left_rows: u64,
    /// Progress of a salvage, while a damaged store is carried over.
    pub(crate) salvage: Option<SalvageStatus>,
    /// Kind of the fault for which the disk takes no writes, in a word.
    pub(crate) fault: Option<String>,
    /// The same fault in words.
    pub(crate) last_error: Option<String>,
}

/// The progress of a salvage.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SalvageStatus {
    /// Records read until now.
    pub(crate) done: u64,
    /// Upper bound of the number of records.
    pub(crate) of: u64,
}

/// The readings and alerts left out by the rules, since the start or the last reload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RulesStatus {
    /// Readings too late for a rule, counted once for each rule.
    pub(crate) late_readings: u64,
    /// Readings whose own time is not believed.
    pub(crate) doubtful_times: u64,
    /// Alerts held back.
    pub(crate) suppressed_alerts: u64,
    /// Rules with too frequent changes.
    pub(crate) flapping: Vec<FlappingRule>,
}

/// A rule with too frequent changes for a source.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct FlappingRule {
    /// Name of the rule.
    pub(crate) rule: String,
    /// Id of the source.
    pub(crate) source: String,
    /// Alerts held back since the rule began to flap.
    pub(crate) suppressed: u64,
}

/// A source.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SourceStatus {
    /// Id of the source.
    pub(crate) source: String,
    /// Kind of the readings.
    pub(crate) kind: String,
    /// Readings since the start.
    pub(crate) readings: u64,
    /// Last value, as text; `None` before the first reading.
    pub(crate) value: Option<String>,
    /// Age of the last value, in seconds.
    pub(crate) age_s: Option<f32>,
    /// Reason for a missing reading, until the next reading.
    pub(crate) no_reading: Option<String>,
}

/// An output.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OutputStatus {
    /// Id of the output.
    pub(crate) output: String,
    /// Last value; 0 is off.
    pub(crate) value: Option<u32>,
    /// Changes of the value since the start.
    pub(crate) switched: u64,
    /// Reason for which the output cannot be set, while the fault lasts.
    pub(crate) last_error: Option<String>,
}

/// A camera.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CameraStatus {
    /// Id of the camera.
    pub(crate) camera: String,
    /// Pictures taken since the start.
    pub(crate) taken: u64,
    /// Failed pictures.
    pub(crate) failed: u64,
    /// Requested pictures left out.
    pub(crate) skipped: u64,
    /// Reason for the failure of the last picture; `None` after a success.
    pub(crate) last_error: Option<String>,
}

/// The pictures in the folder of the cameras.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PicturesStatus {
    /// Pictures in the folder.
    pub(crate) kept: usize,
    /// Bytes of the pictures.
    pub(crate) bytes: u64,
    /// Bytes allowed for pictures.
    pub(crate) max_bytes: u64,
    /// Pictures deleted for newer pictures since the start.
    pub(crate) evicted: usize,
}
