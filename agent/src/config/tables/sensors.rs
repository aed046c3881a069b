//! Tables of sources, and of what reaches them.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{VisitTable, ms};
use crate::config::model::{Backend, Bias, Level, SimulatedKind, TriggerKind};
use crate::config::place::At;
use crate::config::units::Period;

/// How Bluetooth is used.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct BluetoothTable {
    /// The adapter, such as `hci0`; every adapter if absent.
    #[schemars(length(min = 1))]
    pub(in crate::config) adapter: Option<At<String>>,
    /// After that long without a notification a monitor is healed.
    #[schemars(extend("x-range" = ["2s", "10m"]))]
    pub(in crate::config) silence: Period,
}

impl Default for BluetoothTable {
    fn default() -> Self {
        Self { adapter: None, silence: ms::<10_000>() }
    }
}

/// How lines are read.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct GpioTable {
    /// By which driver.
    pub(in crate::config) backend: Backend,
    /// The character device, such as `/dev/gpiochip0`; found by itself if absent.
    #[schemars(length(min = 1))]
    pub(in crate::config) chip: Option<PathBuf>,
}

/// A heart-rate monitor: by `address` or by `name`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct HeartRateTable {
    /// Its opaque id.
    pub(in crate::config) id: At<String>,
    /// Its Bluetooth address, such as `A0:9E:1A:01:02:03`.
    pub(in crate::config) address: Option<At<String>>,
    /// The name that it advertises, such as `Polar H10 0102`.
    #[schemars(length(min = 1))]
    pub(in crate::config) name: Option<At<String>>,
    /// Publishes RR intervals, as one string of milliseconds.
    #[serde(default)]
    pub(in crate::config) rr: bool,
    /// Derives heart-rate variability, as readings of kinds such as `heart_rate.rmssd`.
    #[serde(default)]
    pub(in crate::config) variability: bool,
}

/// A lid switch.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct LidTable {
    /// Its opaque id.
    pub(in crate::config) id: At<String>,
    /// BCM number, or the offset on the chip.
    #[schemars(range(max = 1023))]
    pub(in crate::config) pin: At<u16>,
    /// Shorter changes are bounce.
    #[serde(default = "ms::<20>")]
    #[schemars(extend("x-range" = ["0ms", "10s"]))]
    pub(in crate::config) debounce: Period,
    /// The level of a closed lid.
    #[serde(default = "low")]
    pub(in crate::config) closed: Level,
    /// The resistor that the line gets; if absent, the one that pulls it away from a switch that
    /// closes to ground or supply.
    pub(in crate::config) bias: Option<Bias>,
    /// When openings are one visit.
    pub(in crate::config) visit: Option<VisitTable>,
}

fn low() -> Level {
    Level::Low
}

fn high() -> Level {
    Level::High
}

fn one() -> f64 {
    1.0
}

/// A movement sensor or a button.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct TriggerTable {
    /// Its opaque id.
    pub(in crate::config) id: At<String>,
    /// Which of them; the kind of its readings.
    pub(in crate::config) kind: TriggerKind,
    /// BCM number, or the offset on the chip.
    #[schemars(range(max = 1023))]
    pub(in crate::config) pin: At<u16>,
    /// Shorter changes are bounce.
    #[serde(default = "ms::<20>")]
    #[schemars(extend("x-range" = ["0ms", "10s"]))]
    pub(in crate::config) debounce: Period,
    /// The level of a trigger that fires.
    #[serde(default = "high")]
    pub(in crate::config) active: Level,
    /// The resistor that the line gets; if absent, the one that pulls it away from a switch that
    /// closes to ground or supply.
    pub(in crate::config) bias: Option<Bias>,
    /// When movements are one visit, and what a visit takes.
    pub(in crate::config) visit: Option<VisitTable>,
}

/// A number in a file: any sensor that Linux shows as one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct NumberTable {
    /// Its opaque id.
    pub(in crate::config) id: At<String>,
    /// The kind of its readings.
    #[serde(default = "number")]
    pub(in crate::config) kind: At<String>,
    /// The file.
    #[schemars(length(min = 1))]
    pub(in crate::config) file: PathBuf,
    /// The value is the number in the file times `scale` plus `offset`.
    #[serde(default = "one")]
    pub(in crate::config) scale: f64,
    /// See `scale`.
    #[serde(default)]
    pub(in crate::config) offset: f64,
    /// The unit of the value.
    #[schemars(length(min = 1))]
    pub(in crate::config) unit: Option<String>,
    /// How often it is read.
    #[serde(default = "ms::<10_000>")]
    #[schemars(extend("x-range" = ["10ms", "7d"]))]
    pub(in crate::config) every: Period,
}

fn number() -> At<String> {
    "number".to_owned().into()
}

/// A socket for readings from other programs: JSON lines, each answered with its record id once it is durable,
/// or with `"durable": false` beside the id while it is in memory only.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct InboxTable {
    /// The Unix socket.
    #[schemars(length(min = 1))]
    pub(in crate::config) path: At<PathBuf>,
    /// The only ids that may speak; any may if absent, and rules may then name any source.
    pub(in crate::config) sources: Option<Vec<At<String>>>,
}

/// A source that is made up, to try things out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SimulatedTable {
    /// Its opaque id.
    pub(in crate::config) id: At<String>,
    /// What it pretends to be; the kind of its readings.
    pub(in crate::config) kind: SimulatedKind,
    /// Time between two measurements; `0s` is flat out.
    #[serde(default = "ms::<1_000>")]
    #[schemars(extend("x-range" = ["0s", "1d"]))]
    pub(in crate::config) every: Period,
    /// The same seed gives the same measurements.
    #[serde(default)]
    pub(in crate::config) seed: u64,
    /// The mean at the start; 70 for a heart rate, 20 for a number.
    pub(in crate::config) mean: Option<f64>,
    /// How far measurements stray from the mean.
    #[serde(default = "one")]
    #[schemars(range(min = 0))]
    pub(in crate::config) spread: f64,
    /// How the mean changes.
    #[serde(default)]
    pub(in crate::config) steps: Vec<At<StepTable>>,
    /// A file of RR intervals that is played back instead.
    #[schemars(length(min = 1))]
    pub(in crate::config) replay: Option<At<PathBuf>>,
    /// What goes wrong, and how often.
    #[serde(default)]
    pub(in crate::config) faults: SimulatedFaultsTable,
    /// Publishes RR intervals, as one string of milliseconds.
    #[serde(default)]
    pub(in crate::config) rr: bool,
    /// Derives heart-rate variability, as readings of kinds such as `heart_rate.rmssd`.
    #[serde(default)]
    pub(in crate::config) variability: bool,
    /// When openings of a simulated lid are one visit, and what a visit takes.
    pub(in crate::config) visit: Option<VisitTable>,
}

/// A change of the mean.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct StepTable {
    /// When, after the start of the agent.
    #[schemars(extend("x-range" = ["0s", "7d"]))]
    pub(in crate::config) at: Period,
    /// The mean from then on.
    pub(in crate::config) mean: f64,
}

/// A time in which nothing comes.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SilenceTable {
    /// When it begins, after the start of the agent.
    #[schemars(extend("x-range" = ["0s", "7d"]))]
    pub(in crate::config) at: Period,
    /// How long it lasts.
    #[schemars(extend("x-range" = ["1ms", "7d"]))]
    pub(in crate::config) lasts: Period,
}

/// What goes wrong; numbers from 0 to 1 are chances, each for one measurement.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct SimulatedFaultsTable {
    /// The belt feels no skin.
    #[schemars(range(min = 0, max = 1))]
    pub(in crate::config) contact_lost: f64,
    /// When nothing comes.
    pub(in crate::config) silences: Vec<SilenceTable>,
    /// How often a lid's contact bounces at most when the lid moves.
    #[schemars(range(min = 0, max = 20))]
    pub(in crate::config) bounces: u8,
    /// A value far off.
    #[schemars(range(min = 0, max = 1))]
    pub(in crate::config) spikes: f64,
    /// Bytes that are no measurement.
    #[schemars(range(min = 0, max = 1))]
    pub(in crate::config) garbage: f64,
}

/// A camera, driven by a program that takes one picture.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct CameraTable {
    /// Its opaque id.
    pub(in crate::config) id: At<String>,
    /// How a picture is taken.
    pub(in crate::config) capture: CaptureTable,
    /// How often it takes one unasked, on the grid of the clock. This version does not yet.
    #[schemars(extend("x-range" = ["1s", "7d"]))]
    pub(in crate::config) every: Option<At<Period>>,
}

/// How a picture is taken.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct CaptureTable {
    /// The program and its arguments; `{path}` is where the picture goes.
    pub(in crate::config) command: At<Vec<String>>,
    /// The program is killed after that long, with all that it started.
    #[serde(default = "ms::<20_000>")]
    #[schemars(extend("x-range" = ["1s", "10m"]))]
    pub(in crate::config) deadline: Period,
    /// How long the camera rests after each picture; what happens meanwhile gets none.
    #[serde(default = "ms::<1_000>")]
    #[schemars(extend("x-range" = ["0s", "1d"]))]
    pub(in crate::config) rest: Period,
}
