//! GPIO lines that are read: lid switches, movement sensors and buttons.

use std::path::PathBuf;
use std::time::Duration;

use pulsegate_sensors::line::{Backend, Bias, Level};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::tables::VisitTable;
use crate::config::units::{Period, duration, millis};

/// Access to the GPIO lines of lids, triggers and outputs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Gpio {
    /// Interface to the hardware.
    pub backend: Backend,
    /// GPIO chip, by path such as `/dev/gpiochip0`, by name or by label. Default: the chip of the
    /// Raspberry Pi's header, or the only chip. With `backend = "auto"`, a chip given here is used
    /// through its character device.
    #[schemars(length(min = 1))]
    pub chip: Option<PathBuf>,
}

/// A lid switch on a GPIO line.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lid {
    /// Id of the source in records and rules: 1 to 64 of `A-Z a-z 0-9 . _ : -`, unique in this
    /// file, such as `feeder`.
    pub id: String,
    /// GPIO line: the BCM number (0 to 53) on a Raspberry Pi, the offset on the chip (at most 1023)
    /// elsewhere.
    #[schemars(range(max = 1023))]
    pub pin: u16,
    /// Time for which a new level must hold to count as a change: the contact of a switch bounces
    /// for some milliseconds when it moves. `0ms` counts every change. Range: `0ms` to `10s`.
    #[serde(default = "millis::<20>", with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["0ms", "10s"]))]
    pub debounce: Duration,
    /// Level of the line while the lid is closed. `low` suits a switch between the pin and ground
    /// that closes with the lid.
    #[serde(default = "low")]
    pub closed: Level,
    /// Resistor that holds the line while the switch is open. Default: `pull-up` for
    /// `closed = "low"`, `pull-down` for `closed = "high"`.
    pub bias: Option<Bias>,
    /// Visits: groups of openings close in time, each reported as one event. Default: no visits.
    pub(in crate::config) visit: Option<VisitTable>,
}

/// A movement sensor or a button on a GPIO line.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trigger {
    /// Id of the source in records and rules: 1 to 64 of `A-Z a-z 0-9 . _ : -`, unique in this
    /// file, such as `garden`.
    pub id: String,
    /// Type of the device, which is also the kind of its readings.
    pub kind: TriggerKind,
    /// GPIO line: the BCM number (0 to 53) on a Raspberry Pi, the offset on the chip (at most 1023)
    /// elsewhere.
    #[schemars(range(max = 1023))]
    pub pin: u16,
    /// Time for which a new level must hold to count as a change: the contact of a button bounces
    /// for some milliseconds when it moves. `0ms` counts every change. Range: `0ms` to `10s`.
    #[serde(default = "millis::<20>", with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["0ms", "10s"]))]
    pub debounce: Duration,
    /// Level of the line while the sensor detects movement or the button is pressed.
    #[serde(default = "high")]
    pub active: Level,
    /// Resistor that holds the line while nothing drives it. Default: `pull-down` for
    /// `active = "high"`, `pull-up` for `active = "low"`.
    pub bias: Option<Bias>,
    /// Visits: groups of movements or presses close in time, each reported as one event. Default:
    /// no visits.
    pub(in crate::config) visit: Option<VisitTable>,
}

fn low() -> Level {
    Level::Low
}

fn high() -> Level {
    Level::High
}

/// The type of a trigger, and the kind of its readings.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TriggerKind {
    /// A movement sensor.
    Movement,
    /// A button.
    Button,
}

impl TriggerKind {
    /// Returns the kind of the readings.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Movement => "movement",
            Self::Button => "button",
        }
    }
}
