//! Lines: lid switches, movement sensors and buttons.

use std::path::PathBuf;
use std::time::Duration;

use pulsegate_sensors::line::{Backend, Bias, Level};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::tables::VisitTable;
use crate::config::units::{Period, duration, millis};

/// How lines are read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Gpio {
    /// By which driver.
    pub backend: Backend,
    /// The character device, such as `/dev/gpiochip0`; found by itself if absent.
    #[schemars(length(min = 1))]
    pub chip: Option<PathBuf>,
}

/// A lid switch.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lid {
    /// Its opaque id.
    pub id: String,
    /// BCM number, or the offset on the chip.
    #[schemars(range(max = 1023))]
    pub pin: u16,
    /// Shorter changes are bounce.
    #[serde(default = "millis::<20>", with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["0ms", "10s"]))]
    pub debounce: Duration,
    /// The level of a closed lid.
    #[serde(default = "low")]
    pub closed: Level,
    /// The resistor that the line gets; if absent, the one that pulls it away from a switch that
    /// closes to ground or supply.
    pub bias: Option<Bias>,
    /// When openings are one visit.
    pub(in crate::config) visit: Option<VisitTable>,
}

/// A movement sensor or a button.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trigger {
    /// Its opaque id.
    pub id: String,
    /// Which of them; the kind of its readings.
    pub kind: TriggerKind,
    /// BCM number, or the offset on the chip.
    #[schemars(range(max = 1023))]
    pub pin: u16,
    /// Shorter changes are bounce.
    #[serde(default = "millis::<20>", with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["0ms", "10s"]))]
    pub debounce: Duration,
    /// The level of a trigger that fires.
    #[serde(default = "high")]
    pub active: Level,
    /// The resistor that the line gets; if absent, the one that pulls it away from a switch that
    /// closes to ground or supply.
    pub bias: Option<Bias>,
    /// When movements are one visit, and what a visit takes.
    pub(in crate::config) visit: Option<VisitTable>,
}

fn low() -> Level {
    Level::Low
}

fn high() -> Level {
    Level::High
}

/// What a trigger is; the kind of its readings.
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
    /// The kind of its readings.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Movement => "movement",
            Self::Button => "button",
        }
    }
}
