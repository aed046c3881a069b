//! Tables of rules.

use pulsegate_core::rules::{Severity, Take};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::place::At;
use crate::config::units::Period;

/// What raises an alert: readings above, below or in a state.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RuleTable {
    /// Its name, unique; it is the identity of its alerts.
    pub(in crate::config) name: At<String>,
    /// The kind of reading; any kind of the source if absent.
    pub(in crate::config) on: Option<At<String>>,
    /// The only source; each source by itself if absent.
    pub(in crate::config) source: Option<At<String>>,
    /// Fires strictly above.
    pub(in crate::config) above: Option<f64>,
    /// Fires strictly below.
    pub(in crate::config) below: Option<f64>,
    /// Fires strictly below the first or above the second.
    pub(in crate::config) outside: Option<Vec<f64>>,
    /// Fires in this state, such as `open`.
    pub(in crate::config) is: Option<At<String>>,
    /// Fires when nothing was read for that long, and is over with the next reading.
    #[schemars(extend("x-range" = ["1s", "30d"]))]
    pub(in crate::config) silent_for: Option<Period>,
    /// Fires for a reading that is unlike those before.
    pub(in crate::config) anomaly: Option<AnomalyTable>,
    /// Fires when all of these hold.
    pub(in crate::config) all: Option<Vec<MemberTable>>,
    /// Fires when one of these holds.
    pub(in crate::config) any: Option<Vec<MemberTable>>,
    /// How far apart the readings may be by which `all` hold.
    #[schemars(extend("x-range" = ["1s", "1h"]))]
    pub(in crate::config) within: Option<Period>,
    /// Looks at windows instead of single readings.
    pub(in crate::config) window: Option<WindowTable>,
    /// Limits of single sources, in the place of those of the rule.
    #[serde(default)]
    pub(in crate::config) limits: Vec<LimitTable>,
    /// Fires only after it held that long, by the times of the readings.
    #[serde(rename = "for")]
    #[schemars(extend("x-range" = ["1s", "1d"]))]
    pub(in crate::config) hold_for: Option<Period>,
    /// When the alert is over; as soon as it does not hold any more if absent.
    pub(in crate::config) clear: Option<ClearTable>,
    /// The least time between two alerts of one source.
    #[schemars(extend("x-range" = ["1s", "30d"]))]
    pub(in crate::config) at_most_every: Option<Period>,
    /// How bad it is.
    #[serde(default)]
    pub(in crate::config) severity: Severity,
    /// What it does: `alert`; `output:<output>` switches it on while the alert is raised,
    /// `output:<output>:pulse` for a moment, `output:<output>:count` shows how many of its alerts are
    /// raised; `capture:<camera>` takes a picture; `record:<duration>` publishes the readings of the
    /// source in full, whatever filters hold back, from the alert on for that long.
    #[serde(default = "alert")]
    pub(in crate::config) then: At<Vec<At<String>>>,
}

fn alert() -> At<Vec<At<String>>> {
    vec!["alert".to_owned().into()].into()
}

/// What is like what was before.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct AnomalyTable {
    /// How far back a reading is compared, and how long it learns before it says anything.
    #[schemars(extend("x-range" = ["1m", "1d"]))]
    pub(in crate::config) learn: Period,
    /// From where on it fires: how many times as far from the median as readings commonly are.
    #[serde(default = "score")]
    #[schemars(range(min = 3, max = 1_000))]
    pub(in crate::config) score: f64,
}

fn score() -> f64 {
    5.0
}

/// A condition on the newest reading of one source.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct MemberTable {
    /// The source.
    pub(in crate::config) source: At<String>,
    /// The kind of reading; any kind of the source if absent.
    pub(in crate::config) on: Option<At<String>>,
    /// Holds strictly above.
    pub(in crate::config) above: Option<f64>,
    /// Holds strictly below.
    pub(in crate::config) below: Option<f64>,
    /// Holds strictly below the first or above the second.
    pub(in crate::config) outside: Option<Vec<f64>>,
    /// Holds in this state.
    pub(in crate::config) is: Option<At<String>>,
}

/// When an alert is over.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ClearTable {
    /// Over only strictly above; for a rule with `below`, and greater than that.
    pub(in crate::config) above: Option<f64>,
    /// Over only strictly below; for a rule with `above`, and less than that.
    pub(in crate::config) below: Option<f64>,
    /// Over only after that long, by the times of the readings.
    #[serde(rename = "for")]
    #[schemars(extend("x-range" = ["1s", "1d"]))]
    pub(in crate::config) hold_for: Option<Period>,
}

/// Windows on the grid of the clock.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct WindowTable {
    /// Its length; the next begins where it ends.
    #[schemars(extend("x-range" = ["1s", "1d"]))]
    pub(in crate::config) tumbling: Option<Period>,
    /// Its length; the next ends one step later.
    #[schemars(extend("x-range" = ["1s", "1d"]))]
    pub(in crate::config) sliding: Option<Period>,
    /// The step of a sliding window: a whole part of its length, at least a 60th and a second. The
    /// least such part if absent.
    #[schemars(extend("x-range" = ["1s", "1d"]))]
    pub(in crate::config) every: Option<Period>,
    /// What becomes of its values: `rate` is how much more the last is than the first, a minute.
    pub(in crate::config) take: Take,
}

/// Limits of one source.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct LimitTable {
    /// The source.
    pub(in crate::config) source: At<String>,
    /// Fires strictly above; as in the rule if absent.
    pub(in crate::config) above: Option<f64>,
    /// Fires strictly below; as in the rule if absent.
    pub(in crate::config) below: Option<f64>,
}
