//! Tables of outputs, and of night and day.

use std::path::PathBuf;

use pulsegate_core::act::output::Only;
use pulsegate_sensors::line::Level;
use schemars::JsonSchema;
use serde::Deserialize;

use super::ms;
use crate::config::place::At;
use crate::config::units::Period;

/// A lamp, a buzzer, a relay, a display: by `pin`, by `pins` or by `file`. It is off when the agent
/// starts and when it ends.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct OutputTable {
    /// Its id, by which `then` names it.
    pub(in crate::config) id: At<String>,
    /// The line: BCM number, or the offset on the chip.
    #[schemars(range(max = 1023))]
    pub(in crate::config) pin: Option<At<u16>>,
    /// The lines of a display that shows a count: four for each decimal digit, the lowest bit and the
    /// lowest digit first, as a seven-segment decoder such as the 4511 takes them.
    #[schemars(inner(range(max = 1023)))]
    pub(in crate::config) pins: Option<At<Vec<At<u16>>>>,
    /// A file that takes a number in the place of a line, such as a LED below `/sys/class/leds`.
    #[schemars(length(min = 1))]
    pub(in crate::config) file: Option<At<PathBuf>>,
    /// The level of a line that is on.
    pub(in crate::config) active: Option<At<Level>>,
    /// How long a pulse is.
    #[serde(default = "ms::<500>")]
    #[schemars(extend("x-range" = ["10ms", "10m"]))]
    pub(in crate::config) pulse: Period,
    /// When it may be on, by the table `night`; whenever something wants it, if absent.
    pub(in crate::config) only: Option<At<Only>>,
}

/// How night is told from day, for outputs: by `source`, or by the clock; with both, by the clock
/// while the source tells nothing. As long as nobody knows, it is neither.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct NightTable {
    /// A source of numbers that tell how bright it is. A number that is older than 30 minutes tells
    /// nothing.
    pub(in crate::config) source: Option<At<String>>,
    /// It becomes night strictly below this number.
    pub(in crate::config) below: Option<At<f64>>,
    /// It becomes day from this number on; more than `below`, if the source sees the lamps. The
    /// same if absent.
    pub(in crate::config) above: Option<At<f64>>,
    /// When the night begins by the clock, such as `21:00`.
    pub(in crate::config) from: Option<At<String>>,
    /// When it ends, such as `06:30`.
    pub(in crate::config) to: Option<At<String>>,
    /// The time zone of `from` and `to`, such as `Europe/Berlin`; UTC if absent.
    pub(in crate::config) zone: Option<At<String>>,
}
