//! The checked configuration of outputs, and of night and day.

use pulsegate_core::act::output::{NightSpec, OutputSpec};
use pulsegate_sensors::output::Wiring;

/// An output that rules and visits switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    /// The id, the greatest number, the part of the day and the length of a pulse.
    pub spec: OutputSpec,
    /// The connection, with the interface to the hardware.
    pub wiring: Wiring,
}

/// The decision between night and day: by the light while it is known, otherwise by the clock.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Night {
    /// The id of the source that measures the light, if any.
    pub source: Option<Box<str>>,
    /// The thresholds of the light, and the hours of the night.
    pub spec: NightSpec,
}
