//! What a configuration says of outputs, and of night and day.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pulsegate_sensors::line::Level;

/// Something that rules and visits switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    /// Its id.
    pub id: String,
    /// What it is connected to.
    pub wiring: Wiring,
    /// How long a pulse is.
    pub pulse: Duration,
    /// When it may be on; always if absent.
    pub only: Option<Only>,
}

/// What an output is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wiring {
    /// A line, or four for each digit.
    Lines {
        /// BCM numbers, or offsets on the chip.
        pins: Vec<u16>,
        /// The level of what is on.
        active: Level,
    },
    /// A file that takes a number.
    File(PathBuf),
}

impl Wiring {
    /// The greatest number that it can show.
    #[must_use]
    pub(crate) fn most(&self) -> u32 {
        match self {
            Self::Lines { pins, .. } => match pins.len() / 4 {
                0 => 1,
                digits => (0..digits).fold(1, |power, _| power * 10) - 1,
            },
            Self::File(_) => u32::MAX,
        }
    }
}

/// When an output may be on.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Only {
    /// By night.
    Night,
    /// By day.
    Day,
}

/// How night is told from day: by the light while that is known, else by the clock.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Night {
    /// By the numbers of a source.
    pub light: Option<Light>,
    /// By the time of day.
    pub hours: Option<Hours>,
}

/// Night by the numbers of a source.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Light {
    /// The source.
    pub source: String,
    /// It becomes night strictly below.
    pub below: f64,
    /// It becomes day from here on.
    pub above: f64,
}

/// Night by the time of day, in minutes since midnight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hours {
    /// The first minute of the night.
    pub from: u16,
    /// The first of the day.
    pub to: u16,
    /// A time zone that the system knows.
    pub zone: String,
}
