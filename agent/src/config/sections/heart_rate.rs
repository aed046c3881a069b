//! Heart-rate monitors, and the Bluetooth adapters that reach them.

use std::time::Duration;

use pulsegate_sensors::heart_rate::{Address, MonitorIdentity};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::findings::Finding;
use crate::config::units::{Period, duration};

/// Bluetooth adapter and healing, for all heart-rate monitors.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Bluetooth {
    /// Name or address of the only Bluetooth adapter to use, such as `hci0`. Default: every
    /// adapter.
    #[schemars(length(min = 1))]
    pub adapter: Option<String>,
    /// Time without a packet after which the agent heals a connected monitor: first subscribes
    /// again, then reconnects, then takes stronger measures. Heart-rate belts send about one packet
    /// per second. Range: `2s` to `10m`.
    #[serde(with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["2s", "10m"]))]
    pub silence: Duration,
}

impl Default for Bluetooth {
    fn default() -> Self {
        Self { adapter: None, silence: Duration::from_secs(10) }
    }
}

/// A heart-rate monitor, found by `address` or by `name`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeartRate {
    /// Id of the source in records and rules: 1 to 64 of `A-Z a-z 0-9 . _ : -`, unique in this
    /// file. Use an opaque id such as `7`, so that only the cloud knows the wearer.
    pub id: String,
    /// Bluetooth address of the monitor, such as `A0:9E:1A:01:02:03`. Exactly one of `address` and
    /// `name` is required.
    pub address: Option<String>,
    /// Name that the monitor advertises, such as `Polar H10 0102`, compared exactly: an alternative
    /// to `address`.
    #[schemars(length(min = 1))]
    pub name: Option<String>,
    /// Adds the beat-to-beat (RR) intervals to the standard record, if the monitor sends any:
    /// `rr_ms`, one string of milliseconds with spaces between them. The store keeps the intervals
    /// in any case.
    #[serde(default)]
    pub rr: bool,
    /// Derives heart-rate variability from the beat-to-beat intervals, each minute and over five
    /// minutes, as readings of further kinds: `heart_rate.rmssd`, `heart_rate.sdnn`,
    /// `heart_rate.pnn50` and others.
    #[serde(default)]
    pub variability: bool,
}

impl HeartRate {
    /// Returns how the driver recognises the monitor; `None` for a table with a fault.
    pub(crate) fn identity(&self) -> Option<MonitorIdentity> {
        match (&self.address, &self.name) {
            (Some(address), None) => address.parse().ok().map(MonitorIdentity::Address),
            (None, Some(name)) => Some(MonitorIdentity::from_name(name)),
            (Some(_), Some(_)) | (None, None) => None,
        }
    }

    /// Checks that the table at `path` names one monitor.
    pub(in crate::config) fn check(&self, path: &str) -> Option<Finding> {
        let id = &self.id;
        match (&self.address, &self.name) {
            (Some(_), Some(_)) => {
                let message = format!("monitor `{id}` has both `address` and `name`");
                let fault = Finding::fault(format!("{path}.name"), message);
                Some(fault.also(format!("{path}.address"), "one of them is enough"))
            }
            (None, None) => {
                let message = format!("monitor `{id}` has neither `address` nor `name`");
                let help = "such as `address = \"A0:9E:1A:01:02:03\"`";
                Some(Finding::fault(path.to_owned(), message).help(help))
            }
            (Some(address), None) if address.parse::<Address>().is_err() => {
                let message = format!("`{address}` is not a Bluetooth address");
                let fault = Finding::fault(format!("{path}.address"), message);
                Some(fault.label("six pairs of hex digits, such as \"A0:9E:1A:01:02:03\""))
            }
            (Some(_), None) | (None, Some(_)) => None,
        }
    }
}
