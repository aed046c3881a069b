//! Tables of rules.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::model::{Severity, Take};
use crate::config::place::At;
use crate::config::units::Period;

/// What raises an alert: readings above, below or in a state.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-later" = [
    "for", "clear", "silent_for", "anomaly", "all", "any", "within", "outside", "record", "output",
]))]
pub(in crate::config) struct RuleTable {
    /// Its name, unique; it is the identity of its alerts.
    pub(in crate::config) name: At<String>,
    /// The kind of reading; any kind of the source if absent.
    pub(in crate::config) on: Option<At<String>>,
    /// The only source; each source by itself if absent.
    pub(in crate::config) source: Option<At<String>>,
    /// Fires strictly above.
    pub(in crate::config) above: Option<At<f64>>,
    /// Fires strictly below.
    pub(in crate::config) below: Option<At<f64>>,
    /// Fires in this state, such as `open`.
    pub(in crate::config) is: Option<At<String>>,
    /// Looks at windows instead of single readings.
    pub(in crate::config) window: Option<At<WindowTable>>,
    /// Limits of single sources, in the place of those of the rule.
    #[serde(default)]
    pub(in crate::config) limits: Vec<At<LimitTable>>,
    /// The least time between two alerts of one source.
    #[schemars(extend("x-range" = ["1s", "30d"]))]
    pub(in crate::config) at_most_every: Option<Period>,
    /// How bad it is.
    #[serde(default)]
    pub(in crate::config) severity: Severity,
    /// What it does: `alert`, `capture:<camera>`.
    #[serde(default = "alert")]
    pub(in crate::config) then: At<Vec<At<String>>>,
}

fn alert() -> At<Vec<At<String>>> {
    vec!["alert".to_owned().into()].into()
}

/// A window on the grid of the clock.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-later" = ["sliding"]))]
pub(in crate::config) struct WindowTable {
    /// Its length; the next begins where it ends.
    #[schemars(extend("x-range" = ["1s", "1d"]))]
    pub(in crate::config) tumbling: Period,
    /// What becomes of its values.
    #[schemars(extend("x-later" = ["rate"]))]
    pub(in crate::config) take: Take,
}

/// Limits of one source.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct LimitTable {
    /// The source.
    pub(in crate::config) source: At<String>,
    /// Fires strictly above; as in the rule if absent.
    pub(in crate::config) above: Option<At<f64>>,
    /// Fires strictly below; as in the rule if absent.
    pub(in crate::config) below: Option<At<f64>>,
}
