//! The checked configuration of outputs, and of night and day.

use std::path::PathBuf;
use std::time::Duration;

use pulsegate_core::act::output::{NightSpec, Only};
use pulsegate_sensors::line::Level;

/// An output that rules and visits switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    /// The id of the output.
    pub id: String,
    /// The connection of the output.
    pub wiring: Wiring,
    /// The length of a pulse.
    pub pulse: Duration,
    /// The part of the day in which the output may be on; `None` allows both.
    pub only: Option<Only>,
}

/// The connection of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wiring {
    /// One line, or four lines for each decimal digit.
    Lines {
        /// The BCM numbers, or the offsets on the chip.
        pins: Vec<u16>,
        /// The level for on.
        active: Level,
    },
    /// A file to which a number is written.
    File(PathBuf),
}

impl Wiring {
    /// Returns the greatest number that the output can show.
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

/// The decision between night and day: by the light while it is known, otherwise by the clock.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Night {
    /// The id of the source that measures the light, if any.
    pub source: Option<Box<str>>,
    /// The thresholds of the light, and the hours of the night.
    pub spec: NightSpec,
}
