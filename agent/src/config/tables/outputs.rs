//! Tables of outputs, and of night and day.

use std::path::PathBuf;

use pulsegate_core::act::output::Only;
use pulsegate_sensors::line::Level;
use schemars::JsonSchema;
use serde::Deserialize;

use super::ms;
use crate::config::units::Period;

/// A lamp, buzzer, relay or display, connected by exactly one of `pin`, `pins` and `file`. Switched
/// off when the agent starts and when it ends.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct OutputTable {
    /// Id of the output in actions such as `output:lamp`: 1 to 64 of `A-Z a-z 0-9 . _ : -`, unique
    /// in this file.
    pub(in crate::config) id: String,
    /// GPIO line that is on or off: the BCM number (0 to 53) on a Raspberry Pi, the offset on the
    /// chip (at most 1023) elsewhere.
    #[schemars(range(max = 1023))]
    pub(in crate::config) pin: Option<u16>,
    /// GPIO lines of a display for a count, such as `[5, 6, 13, 19]`: four lines for each of 1 to 4
    /// decimal digits, the lowest bit and the lowest digit first, as a seven-segment decoder such
    /// as the 4511 takes them.
    #[schemars(inner(range(max = 1023)))]
    pub(in crate::config) pins: Option<Vec<u16>>,
    /// File to which a number is written, 0 for off, 1 for on, or a count, such as
    /// `/sys/class/leds/ACT/brightness`.
    #[schemars(length(min = 1))]
    pub(in crate::config) file: Option<PathBuf>,
    /// Level of `pin` or `pins` for on, or for a bit of 1. Default: `high`. Not for `file`.
    pub(in crate::config) active: Option<Level>,
    /// Length of a pulse, for actions such as `output:lamp:pulse`. Range: `10ms` to `10m`.
    #[serde(default = "ms::<500>")]
    #[schemars(extend("x-range" = ["10ms", "10m"]))]
    pub(in crate::config) pulse: Period,
    /// Part of the day in which the output may be on; requires the table `night`. Default: any
    /// time.
    pub(in crate::config) only: Option<Only>,
}

/// Decision between night and day, for outputs with `only`: by the light sensor `source`, by the
/// clock (`from` and `to`), or both. The clock decides only while the light is unknown; if neither
/// is known, every output with `only` stays off.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct NightTable {
    /// Id of a source of numbers that measures brightness, such as `light`. A number older than 30
    /// minutes is ignored. Default: no light sensor.
    pub(in crate::config) source: Option<String>,
    /// Brightness below which night begins; required with `source`.
    pub(in crate::config) below: Option<f64>,
    /// Brightness from which day begins, at least `below`. A value well above `below` prevents
    /// flicker, if the lamps shine on the sensor. Default: the value of `below`.
    pub(in crate::config) above: Option<f64>,
    /// Time of day at which night begins, such as `21:00`. Default: no decision by the clock.
    pub(in crate::config) from: Option<String>,
    /// Time of day at which night ends, such as `06:30`; required with `from`.
    pub(in crate::config) to: Option<String>,
    /// Time zone of `from` and `to`, such as `Europe/Berlin`. Default: UTC.
    pub(in crate::config) zone: Option<String>,
}
