//! Simulated sources, for demonstrations and tests.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::findings::Finding;
use crate::config::tables::VisitTable;
use crate::config::units::{Period, duration, millis};

/// A simulated source, for demonstrations and tests.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Simulated {
    /// Id of the source in records and rules: 1 to 64 of `A-Z a-z 0-9 . _ : -`, unique in this
    /// file, such as `sim-1`.
    pub id: String,
    /// Type of the simulated sensor, which is also the kind of its readings.
    pub kind: SimulatedKind,
    /// Time between two measurements, or between two openings of a lid; `0s` measures as often as
    /// possible, to test the load. Range: `0s` to `1d`.
    #[serde(default = "millis::<1_000>", with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["0s", "1d"]))]
    pub every: Duration,
    /// Seed of the random numbers: the same seed gives the same measurements.
    #[serde(default)]
    pub seed: u64,
    /// Mean of the measurements at the start. Default: 70 for a heart rate, 20 for a number. No
    /// effect on a lid.
    pub mean: Option<f64>,
    /// Greatest distance of a measurement from the mean, 0 or more, faults aside.
    #[serde(default = "super::one")]
    #[schemars(range(min = 0))]
    pub spread: f64,
    /// Changes of the mean, in the order of time, such as `[{ at = "8s", mean = 150 }]`. Default:
    /// none.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// CSV file of beat-to-beat (RR) intervals to play back, in place of random heart rates: a
    /// first line `rr_ms`, then one whole number of milliseconds per line. Starts again after the
    /// end. Only for `kind = "heart_rate"`. Default: none.
    #[schemars(length(min = 1))]
    pub replay: Option<PathBuf>,
    /// Faults to simulate. Default: none.
    #[serde(default)]
    pub faults: SimulatedFaults,
    /// Simulates beat-to-beat (RR) intervals, and adds them to the standard record: `rr_ms`, one
    /// string of milliseconds. Only for `kind = "heart_rate"`.
    #[serde(default)]
    pub rr: bool,
    /// Derives heart-rate variability from the beat-to-beat intervals, as readings of kinds such as
    /// `heart_rate.rmssd`. Only for `kind = "heart_rate"`, with `rr` or `replay`.
    #[serde(default)]
    pub variability: bool,
    /// Visits of a simulated lid: groups of openings close in time, each reported as one event.
    /// Default: no visits.
    pub(in crate::config) visit: Option<VisitTable>,
}

/// The type of a simulated sensor, and the kind of its readings.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SimulatedKind {
    /// A heart-rate monitor, in beats per minute.
    HeartRate,
    /// A number.
    Number,
    /// A lid switch that is open for 0.4 s at each opening.
    Lid,
}

impl SimulatedKind {
    /// Returns the kind of the readings.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::HeartRate => "heart_rate",
            Self::Number => "number",
            Self::Lid => "lid",
        }
    }
}

/// A change of the mean.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    /// Time of the change, counted from the start of the source. Range: `0s` to `7d`.
    #[serde(with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["0s", "7d"]))]
    pub at: Duration,
    /// Mean from `at` on.
    pub mean: f64,
}

/// A span of time without measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Silence {
    /// Start of the silence, counted from the start of the source. Range: `0s` to `7d`.
    #[serde(with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["0s", "7d"]))]
    pub at: Duration,
    /// Length of the silence. Range: `1ms` to `7d`.
    #[serde(with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["1ms", "7d"]))]
    pub lasts: Duration,
}

/// Faults to simulate. A number from 0 to 1 is the chance of the fault at each measurement.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SimulatedFaults {
    /// Chance, 0 to 1, that a heart-rate monitor reports lost skin contact.
    #[schemars(range(min = 0, max = 1))]
    pub contact_lost: f64,
    /// Spans of time without measurements, such as `[{ at = "5s", lasts = "2s" }]`.
    pub silences: Vec<Silence>,
    /// Most bounces of a lid's contact at each move, 0 to 20.
    #[schemars(range(min = 0, max = 20))]
    pub bounces: u8,
    /// Chance, 0 to 1, of a value far from the mean: a heart rate of 0 or 300, or a number ten
    /// times `spread` (at least 10) away.
    #[schemars(range(min = 0, max = 1))]
    pub spikes: f64,
    /// Chance, 0 to 1, of data that is no measurement.
    #[schemars(range(min = 0, max = 1))]
    pub garbage: f64,
}

impl Simulated {
    /// Returns the mean at the start.
    pub(crate) fn first_mean(&self) -> f64 {
        self.mean.unwrap_or(match self.kind {
            SimulatedKind::HeartRate => 70.0,
            SimulatedKind::Number | SimulatedKind::Lid => 20.0,
        })
    }

    /// Checks the table at `path`.
    pub(in crate::config) fn check(&self, path: &str) -> Vec<Finding> {
        let is_belt = self.kind == SimulatedKind::HeartRate;
        let mut found = Vec::new();
        if self.replay.is_some() && !is_belt {
            let message = "`replay` plays RR intervals, which only a heart rate has";
            found.push(Finding::fault(format!("{path}.replay"), message));
        }
        if self.variability && !is_belt {
            let message = format!("source `{}` has no intervals between beats", self.id);
            let fault = Finding::fault(format!("{path}.id"), message);
            found.push(fault.label("drop `variability`"));
        }
        for (index, pair) in self.steps.windows(2).enumerate() {
            if let [earlier, later] = pair
                && later.at <= earlier.at
            {
                let message = "this step does not come after the one before it";
                let fault = Finding::fault(format!("{path}.steps[{}]", index + 1), message);
                found.push(fault.also(format!("{path}.steps[{index}]"), "the one before"));
            }
        }
        found
    }
}
