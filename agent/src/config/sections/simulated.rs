//! Sources that are made up, to try things out.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::findings::Finding;
use crate::config::tables::VisitTable;
use crate::config::units::{Period, duration, millis};

/// A source that is made up, to try things out.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Simulated {
    /// Its opaque id.
    pub id: String,
    /// What it pretends to be; the kind of its readings.
    pub kind: SimulatedKind,
    /// Time between two measurements; `0s` is flat out.
    #[serde(default = "millis::<1_000>", with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["0s", "1d"]))]
    pub every: Duration,
    /// The same seed gives the same measurements.
    #[serde(default)]
    pub seed: u64,
    /// The mean at the start; 70 for a heart rate, 20 for a number.
    pub mean: Option<f64>,
    /// How far measurements stray from the mean.
    #[serde(default = "super::one")]
    #[schemars(range(min = 0))]
    pub spread: f64,
    /// How the mean changes.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// A file of RR intervals that is played back instead.
    #[schemars(length(min = 1))]
    pub replay: Option<PathBuf>,
    /// What goes wrong, and how often.
    #[serde(default)]
    pub faults: SimulatedFaults,
    /// Publishes RR intervals, as one string of milliseconds.
    #[serde(default)]
    pub rr: bool,
    /// Derives heart-rate variability, as readings of kinds such as `heart_rate.rmssd`.
    #[serde(default)]
    pub variability: bool,
    /// When openings of a simulated lid are one visit, and what a visit takes.
    pub(in crate::config) visit: Option<VisitTable>,
}

/// What a simulated source pretends to be; the kind of its readings.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SimulatedKind {
    /// A heart-rate monitor.
    HeartRate,
    /// A number.
    Number,
    /// A lid switch.
    Lid,
}

impl SimulatedKind {
    /// The kind of its readings.
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
    /// When, after the start of the agent.
    #[serde(with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["0s", "7d"]))]
    pub at: Duration,
    /// The mean from then on.
    pub mean: f64,
}

/// A time in which nothing comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Silence {
    /// When it begins, after the start of the agent.
    #[serde(with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["0s", "7d"]))]
    pub at: Duration,
    /// How long it lasts.
    #[serde(with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["1ms", "7d"]))]
    pub lasts: Duration,
}

/// What goes wrong; numbers from 0 to 1 are chances, each for one measurement.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SimulatedFaults {
    /// The belt feels no skin.
    #[schemars(range(min = 0, max = 1))]
    pub contact_lost: f64,
    /// When nothing comes.
    pub silences: Vec<Silence>,
    /// How often a lid's contact bounces at most when the lid moves.
    #[schemars(range(min = 0, max = 20))]
    pub bounces: u8,
    /// A value far off.
    #[schemars(range(min = 0, max = 1))]
    pub spikes: f64,
    /// Bytes that are no measurement.
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
