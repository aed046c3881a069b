//! Heart-rate monitors, and how Bluetooth is used.

use std::time::Duration;

use pulsegate_sensors::heart_rate::{Address, MonitorIdentity};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::findings::Finding;
use crate::config::units::{Period, duration};

/// How Bluetooth is used.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Bluetooth {
    /// The adapter, such as `hci0`; every adapter if absent.
    #[schemars(length(min = 1))]
    pub adapter: Option<String>,
    /// After that long without a notification a monitor is healed.
    #[serde(with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["2s", "10m"]))]
    pub silence: Duration,
}

impl Default for Bluetooth {
    fn default() -> Self {
        Self { adapter: None, silence: Duration::from_secs(10) }
    }
}

/// A heart-rate monitor: by `address` or by `name`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeartRate {
    /// Its opaque id.
    pub id: String,
    /// Its Bluetooth address, such as `A0:9E:1A:01:02:03`.
    pub address: Option<String>,
    /// The name that it advertises, such as `Polar H10 0102`.
    #[schemars(length(min = 1))]
    pub name: Option<String>,
    /// Publishes RR intervals, as one string of milliseconds.
    #[serde(default)]
    pub rr: bool,
    /// Derives heart-rate variability, as readings of kinds such as `heart_rate.rmssd`.
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
