//! The counters of the drivers in the status.

use serde::{Deserialize, Serialize};

/// What one driver counts, told apart by the key `driver`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "driver", rename_all = "snake_case")]
pub(crate) enum DriverStatus {
    /// A heart-rate monitor.
    HeartRate(MonitorDriver),
    /// A GPIO line.
    Line(LineDriver),
    /// A number in a file.
    Number(NumberDriver),
    /// A socket for the readings of other programs.
    Inbox(InboxDriver),
    /// A driver that this version does not know.
    #[default]
    #[serde(other, skip_serializing)]
    Unknown,
}

/// A heart-rate monitor. All counters begin with the start of its driver.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MonitorDriver {
    /// Id of its source; `None` before its first reading or outage.
    pub(crate) source: Option<String>,
    /// Whether the monitor is connected and sends.
    pub(crate) connected: bool,
    /// Charge of its battery when it was connected, in percent.
    pub(crate) battery_percent: Option<u8>,
    /// Measurements.
    pub(crate) packets: u64,
    /// Packets that were no measurement, or held bytes that belong to none.
    pub(crate) malformed: u64,
    /// Times that notifications were asked for again.
    pub(crate) subscribed_again: u64,
    /// Times that the monitor was connected again.
    pub(crate) reconnected: u64,
    /// Times that BlueZ was made to forget the monitor.
    pub(crate) forgotten: u64,
    /// Times that the adapter was switched off and on.
    pub(crate) power_cycled: u64,
    /// Last fault, without any address.
    pub(crate) last_error: Option<String>,
}

/// A GPIO line. All counters begin with the start of its driver.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LineDriver {
    /// Id of its source.
    pub(crate) source: String,
    /// State of the line in one word; `None` while it is not open.
    pub(crate) state: Option<String>,
    /// Edges that arrived.
    pub(crate) edges: u64,
    /// Edges that did not arrive.
    pub(crate) lost: u64,
    /// States that were put right by reading the level.
    pub(crate) corrected: u64,
    /// Times that the line was lost and came back.
    pub(crate) reopened: u64,
}

/// A number in a file. All counters begin with the start of its driver.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NumberDriver {
    /// Id of its source.
    pub(crate) source: String,
    /// Reads that returned.
    pub(crate) reads: u64,
    /// Reads that were due while an earlier one still waited.
    pub(crate) missed: u64,
    /// Duration of the last read, in seconds.
    pub(crate) read_took_s: f32,
    /// Duration so far of a read that hangs, in seconds; `None` unless one does.
    pub(crate) hung_for_s: Option<u64>,
}

/// A socket for the readings of other programs. All counters begin with the start of its driver.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct InboxDriver {
    /// Path of the socket.
    pub(crate) path: String,
    /// Clients that are connected now.
    pub(crate) clients: u64,
    /// Clients that were one too many.
    pub(crate) turned_away: u64,
    /// Lines that were read, without empty ones.
    pub(crate) lines: u64,
    /// Lines that were answered with an id.
    pub(crate) stored: u64,
    /// Lines that were answered with an error.
    pub(crate) refused: u64,
    /// Idle clients that made room for another one.
    pub(crate) displaced: u64,
    /// Lines that were not ended in time, so that their clients were closed.
    pub(crate) unfinished: u64,
    /// Clients that were closed because they did not read their answers.
    pub(crate) cut: u64,
    /// Sources that the clients named.
    pub(crate) sources: u64,
    /// Sources that the clients may name.
    pub(crate) max_sources: u64,
}
