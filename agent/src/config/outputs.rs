//! What a configuration says of outputs, and of night and day.

use std::path::PathBuf;
use std::time::Duration;

use pulsegate_core::act::output::{NightSpec, Only};
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

/// How night is told from day: by the light while that is known, else by the clock.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Night {
    /// The source of the light.
    pub source: Option<Box<str>>,
    /// The thresholds of the light, and the time of day.
    pub spec: NightSpec,
}
