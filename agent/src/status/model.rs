//! The status as types: the answer on the socket, and all that `pulsegate status` reads of it.
//!
//! Scripts read the JSON, so a key is added and never renamed or removed; `keys.txt` lists them all. An answer of
//! another version can be read: a key that is missing has its default, a key that is unknown is ignored, and so is a
//! state of the link or a driver of an unknown kind.

mod drivers;

use pulsegate_core::record::lane::{Account, Lane};
use serde::{Deserialize, Serialize};

pub(crate) use drivers::{DriverStatus, InboxDriver, LineDriver, MonitorDriver, NumberDriver};

/// The state of the agent and of each of its parts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    /// Name of the thing that the agent records for.
    pub(crate) thing: String,
    /// Version of the program that runs.
    pub(crate) version: String,
    /// Counter of this start of the agent on its state directory.
    pub(crate) boot: u32,
    /// Name of this start, with which the id of each of its records begins: `12k3f9x2ab`.
    pub(crate) start: String,
    /// Time since the start, in seconds.
    pub(crate) uptime_s: u64,
    /// Each trouble as one sentence, with its cure where there is one.
    pub(crate) degraded: Vec<String>,
    /// Account of the records of each lane.
    pub(crate) lanes: LanesStatus,
    /// Connection to the broker.
    pub(crate) link: LinkStatus,
    /// Messages on their way to the broker.
    pub(crate) publisher: PublisherStatus,
    /// Topics that the broker refuses.
    pub(crate) withheld: Vec<WithheldTopic>,
    /// Wall clock of the device.
    pub(crate) clock: ClockStatus,
    /// Store and the partition below it.
    pub(crate) disk: DiskStatus,
    /// Readings and alerts that the rules left out.
    pub(crate) rules: RulesStatus,
    /// Resident memory of the process in bytes; `None` where the kernel does not tell.
    pub(crate) memory_bytes: Option<u64>,
    /// Sources that were seen since the start, in the order of their numbers.
    pub(crate) sources: Vec<SourceStatus>,
    /// Counters of each driver.
    pub(crate) drivers: Vec<DriverStatus>,
    /// Outputs, in the order of the configuration.
    pub(crate) outputs: Vec<OutputStatus>,
    /// Whether it is night; `None` where no output asks for the night, or it is not known.
    pub(crate) night: Option<bool>,
    /// Cameras, in the order of the configuration.
    pub(crate) cameras: Vec<CameraStatus>,
    /// Pictures in the folder of the cameras.
    pub(crate) pictures: PicturesStatus,
}

impl Status {
    /// The JSON of the answer on the socket, its keys in alphabetical order.
    ///
    /// # Errors
    /// When a value cannot be JSON; none of those that the agent sets is such.
    pub(crate) fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_value(self).map(|status| status.to_string())
    }
}

/// The answer to a client that is one too many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// Reason for which the agent does not answer.
    pub(crate) error: String,
}

/// The account of each lane.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LanesStatus {
    /// Alerts that rules raised or cleared.
    pub(crate) alerts: LaneAccount,
    /// Events of the device.
    pub(crate) events: LaneAccount,
    /// Readings of all sources.
    pub(crate) readings: LaneAccount,
    /// Reason for which the records could not be counted; then no account has numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl LanesStatus {
    /// Returns each lane with its account, the most urgent first.
    pub(crate) fn accounts(&self) -> [(Lane, &LaneAccount); 3] {
        [
            (Lane::Alerts, &self.alerts),
            (Lane::Events, &self.events),
            (Lane::Readings, &self.readings),
        ]
    }
}

/// The records of one lane, counted since the state directory was made; all `None` while they cannot be counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LaneAccount {
    /// Records that were stored.
    pub(crate) recorded: Option<u64>,
    /// Records that the broker acknowledged.
    pub(crate) delivered: Option<u64>,
    /// Records that are still to be acknowledged.
    pub(crate) pending: Option<u64>,
    /// Records that were given up, each of them in a gap.
    pub(crate) dropped: Option<u64>,
    /// Records that the configuration does not publish.
    pub(crate) filtered: Option<u64>,
    /// Whether `recorded` is the sum of the other four.
    pub(crate) balanced: Option<bool>,
}

impl From<&Account> for LaneAccount {
    fn from(account: &Account) -> Self {
        Self {
            recorded: Some(account.recorded),
            delivered: Some(account.delivered),
            pending: Some(account.pending),
            dropped: Some(account.dropped),
            filtered: Some(account.filtered),
            balanced: Some(account.balances()),
        }
    }
}

/// The connection to the broker, told apart by its `state`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub(crate) enum LinkStatus {
    /// The broker accepted the connection.
    Up(LinkUp),
    /// No connection.
    Down(LinkDown),
    /// A state that this version does not know.
    #[default]
    #[serde(other, skip_serializing)]
    Unknown,
}

/// A connection that stands.
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
    /// Messages that were sent and are not acknowledged yet.
    pub(crate) in_flight: usize,
    /// Messages that would be sent again after a crash.
    pub(crate) in_hand: usize,
    /// Messages that were acknowledged since the start.
    pub(crate) acknowledged: u64,
    /// Records that were given up since the start, because the broker hangs up on each of them.
    pub(crate) quarantined: u64,
    /// Bytes of the largest message that the broker takes; `None` unless it hangs up on larger ones.
    pub(crate) max_message_bytes: Option<usize>,
}

/// A topic that the broker refuses, so that its records wait.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WithheldTopic {
    /// The topic.
    pub(crate) topic: String,
    /// Sign by which the refusal was seen.
    pub(crate) reason: String,
    /// Time since the topic was refused, in seconds.
    pub(crate) for_s: u64,
    /// Time until the topic is tried again, in seconds.
    pub(crate) next_trial_in_s: u64,
    /// Records that wait, as far as they were counted; `None` for the status topic, which has no records.
    pub(crate) records: Option<u64>,
}

/// The wall clock of the device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ClockStatus {
    /// Whether the time is trusted.
    pub(crate) set: bool,
    /// Time of the answer by this clock, in RFC 3339.
    pub(crate) time: String,
    /// Time for which readings and events wait for the clock at most, in seconds; `None` when they do not wait.
    pub(crate) holds_back_for_s: Option<u64>,
}

/// The store and the partition below it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DiskStatus {
    /// Bytes that records use.
    pub(crate) used_bytes: u64,
    /// Bytes of the database file.
    pub(crate) file_bytes: u64,
    /// Bytes that records may use by the configuration.
    pub(crate) max_bytes: u64,
    /// Bytes that records may use: `max_bytes`, or less on a small partition.
    pub(crate) cap_bytes: u64,
    /// Free bytes of the partition; 0 also where the file system does not tell.
    pub(crate) free_bytes: u64,
    /// Bytes of the partition that other files use.
    pub(crate) others_bytes: Option<u64>,
    /// Bytes of the partition, without those that only root may use.
    pub(crate) partition_bytes: Option<u64>,
    /// Whether new records reach the disk; else they are kept in memory.
    pub(crate) durable: bool,
    /// Bytes that the agent wrote to disks since its start; `None` where the kernel does not count.
    pub(crate) written_bytes: Option<u64>,
    /// `written_bytes` at the pace since the start, a day; `None` until that pace can be judged.
    pub(crate) written_bytes_a_day: Option<u64>,
    /// Commits since the start.
    pub(crate) commits: u64,
    /// Readings that are in memory only and not delivered.
    pub(crate) waiting: u64,
    /// Records that were given up because memory is full.
    pub(crate) given_up: u64,
    /// Outcome of the search for damage: `not needed`, `running`, `sound`, `damaged` or `failed`.
    pub(crate) checked: String,
    /// Rows of a damaged store that made no sense and were left behind.
    pub(crate) left_rows: u64,
    /// Progress of a salvage, while a damaged store is carried over.
    pub(crate) salvage: Option<SalvageStatus>,
    /// Kind of fault for which the disk takes no writes, in one word.
    pub(crate) fault: Option<String>,
    /// The same fault in words.
    pub(crate) last_error: Option<String>,
}

/// The progress of a salvage.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SalvageStatus {
    /// Records that were read so far.
    pub(crate) done: u64,
    /// Records that there are at most.
    pub(crate) of: u64,
}

/// The readings and alerts that the rules left out, since the start or the last reload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RulesStatus {
    /// Readings that came too late for a rule, each counted once a rule.
    pub(crate) late_readings: u64,
    /// Readings whose own time is not believed.
    pub(crate) doubtful_times: u64,
    /// Alerts that were held back.
    pub(crate) suppressed_alerts: u64,
    /// Rules that change too often.
    pub(crate) flapping: Vec<FlappingRule>,
}

/// A rule that changes too often for one source.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct FlappingRule {
    /// Name of the rule.
    pub(crate) rule: String,
    /// Id of the source.
    pub(crate) source: String,
    /// Alerts that were held back since the rule began to flap.
    pub(crate) suppressed: u64,
}

/// A source.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SourceStatus {
    /// Id of the source.
    pub(crate) source: String,
    /// Kind of its readings.
    pub(crate) kind: String,
    /// Readings since the start.
    pub(crate) readings: u64,
    /// Last value, as text; `None` before the first reading.
    pub(crate) value: Option<String>,
    /// Age of the last value, in seconds.
    pub(crate) age_s: Option<f32>,
    /// Reason for which there is no reading, while there is none.
    pub(crate) no_reading: Option<String>,
}

/// An output.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OutputStatus {
    /// Id of the output.
    pub(crate) output: String,
    /// Value that was set last: 0 is off.
    pub(crate) value: Option<u32>,
    /// Changes of the value since the start.
    pub(crate) switched: u64,
    /// Reason for which the output cannot be set, while it cannot.
    pub(crate) last_error: Option<String>,
}

/// A camera.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CameraStatus {
    /// Id of the camera.
    pub(crate) camera: String,
    /// Pictures that were taken since the start.
    pub(crate) taken: u64,
    /// Pictures that could not be taken.
    pub(crate) failed: u64,
    /// Pictures that were asked for and left out.
    pub(crate) skipped: u64,
    /// Reason for which the last picture failed, if it did.
    pub(crate) last_error: Option<String>,
}

/// The pictures in the folder of the cameras.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PicturesStatus {
    /// Pictures in the folder.
    pub(crate) kept: usize,
    /// Bytes of these pictures.
    pub(crate) bytes: u64,
    /// Bytes that pictures may use.
    pub(crate) max_bytes: u64,
    /// Pictures that were deleted for newer ones, since the start.
    pub(crate) evicted: usize,
}
