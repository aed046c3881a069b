//! The counters of the drivers in the status.

use serde::{Deserialize, Serialize};

/// The counters of a driver, tagged by the key `driver`.
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
    /// A driver unknown to this version.
    #[default]
    #[serde(other, skip_serializing)]
    Unknown,
}

/// A heart-rate monitor. All counters begin with the start of the driver.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MonitorDriver {
    /// Id of the source; `None` before its first reading or outage.
    pub(crate) source: Option<String>,
    /// True while the monitor is connected and sends.
    pub(crate) connected: bool,
    /// Charge of the battery at the last connect, in percent.
    pub(crate) battery_percent: Option<u8>,
    /// Measurements.
    pub(crate) packets: u64,
    /// Packets without a valid measurement, or with surplus bytes.
    pub(crate) malformed: u64,
    /// Number of repeated requests for notifications.
    pub(crate) subscribed_again: u64,
    /// Number of reconnects.
    pub(crate) reconnected: u64,
    /// Number of times BlueZ was made to forget the monitor.
    pub(crate) forgotten: u64,
    /// Number of times the adapter was switched off and on.
    pub(crate) power_cycled: u64,
    /// Last fault, without any address.
    pub(crate) last_error: Option<String>,
}

/// A GPIO line. All counters begin with the start of the driver.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LineDriver {
    /// Id of the source.
    pub(crate) source: String,
    /// State of the line in a word; `None` while the line is not open.
    pub(crate) state: Option<String>,
    /// Received edges.
    pub(crate) edges: u64,
    /// Lost edges.
    pub(crate) lost: u64,
    /// States corrected by reading the level.
    pub(crate) corrected: u64,
    /// Number of times the line was lost and came back.
    pub(crate) reopened: u64,
}

/// A number in a file. All counters begin with the start of the driver.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NumberDriver {
    /// Id of the source.
    pub(crate) source: String,
    /// Completed reads.
    pub(crate) reads: u64,
    /// Reads left out because an earlier read still waited.
    pub(crate) missed: u64,
    /// Duration of the last read, in seconds.
    pub(crate) read_took_s: f32,
    /// Duration of a hanging read until now, in seconds; `None` while no read hangs.
    pub(crate) hung_for_s: Option<u64>,
}

/// A socket for the readings of other programs. All counters begin with the start of the driver.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct InboxDriver {
    /// Path of the socket.
    pub(crate) path: String,
    /// Connected clients.
    pub(crate) clients: u64,
    /// Clients turned away above the limit.
    pub(crate) turned_away: u64,
    /// Lines read, without empty lines.
    pub(crate) lines: u64,
    /// Lines answered with an id.
    pub(crate) stored: u64,
    /// Lines answered with an error.
    pub(crate) refused: u64,
    /// Idle clients displaced by another client.
    pub(crate) displaced: u64,
    /// Lines not ended in time, whose clients were closed.
    pub(crate) unfinished: u64,
    /// Clients closed because their answers were not read.
    pub(crate) cut: u64,
    /// Sources named by the clients.
    pub(crate) sources: u64,
    /// Sources allowed for the clients.
    pub(crate) max_sources: u64,
}
