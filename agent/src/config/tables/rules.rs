//! Tables of rules.

use pulsegate_core::rules::{Severity, Take};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::units::Period;

/// A rule: one condition on readings, and the actions when the condition begins to hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RuleTable {
    /// Name of the rule in its alerts, such as `too warm`: 1 to 128 bytes, unique. A rule with a
    /// new name counts as a new rule.
    pub(in crate::config) name: String,
    /// Kind of the readings, such as `heart_rate`. Each source of that kind is judged by itself.
    /// Default: every measured kind of `source`. One of `on` and `source` is required, except with
    /// `all` or `any`.
    pub(in crate::config) on: Option<String>,
    /// Id of the only source, such as `air`. Default: all sources of the kind `on`.
    pub(in crate::config) source: Option<String>,
    /// Condition: the number is greater than this threshold; with `below`, either is enough.
    pub(in crate::config) above: Option<f64>,
    /// Condition: the number is less than this threshold; with `above`, either is enough.
    pub(in crate::config) below: Option<f64>,
    /// Condition: the number is less than the first or greater than the second of two thresholds,
    /// such as `[-10, 40]`. In place of `below` and `above`.
    pub(in crate::config) outside: Option<Vec<f64>>,
    /// Condition: the reading has this state, such as `open`.
    pub(in crate::config) is: Option<String>,
    /// Condition: no reading has arrived for this time, counted at the earliest from the start of
    /// the agent. The next reading clears the alert. A source of another program is waited for
    /// after its first reading; from the start, if the rule names the kind, and the rule or the
    /// inbox names the id. Range: `1s` to `30d`.
    #[schemars(extend("x-range" = ["1s", "30d"]))]
    pub(in crate::config) silent_for: Option<Period>,
    /// Condition: the number is far from the numbers before it. No threshold is needed.
    pub(in crate::config) anomaly: Option<AnomalyTable>,
    /// Condition: the newest readings of all these members (2 to 32) fit, such as
    /// `[{ source = "feeder", is = "open" }, { source = "air", above = 30 }]`.
    pub(in crate::config) all: Option<Vec<MemberTable>>,
    /// Condition: the newest reading of any of these members (2 to 32) fits.
    pub(in crate::config) any: Option<Vec<MemberTable>>,
    /// Longest time between the readings of the members of `all`, by their times, as the condition
    /// begins to hold. Default: no limit. Range: `1s` to `1h`.
    #[schemars(extend("x-range" = ["1s", "1h"]))]
    pub(in crate::config) within: Option<Period>,
    /// Windows of time whose value (mean, count and others) is compared with the thresholds, in
    /// place of each single reading. Default: single readings.
    pub(in crate::config) window: Option<WindowTable>,
    /// Thresholds of single sources, in place of `above` and `below` of the rule. Default: none.
    #[serde(default)]
    pub(in crate::config) limits: Vec<LimitTable>,
    /// Time for which the condition must hold before the alert is raised, by the times of the
    /// readings. Default: raised at once. Range: `1s` to `1d`.
    #[serde(rename = "for")]
    #[schemars(extend("x-range" = ["1s", "1d"]))]
    pub(in crate::config) hold_for: Option<Period>,
    /// Stricter requirements for clearing a raised alert, against alerts that come and go. Default:
    /// cleared as soon as the condition no longer holds.
    pub(in crate::config) clear: Option<ClearTable>,
    /// Least time between two raised alerts of one source. A condition that holds earlier raises
    /// its alert at the end of this time, if it still holds then. Default: no limit of this kind.
    /// Range: `1s` to `30d`.
    #[schemars(extend("x-range" = ["1s", "30d"]))]
    pub(in crate::config) at_most_every: Option<Period>,
    /// Severity in each alert of the rule.
    #[serde(default)]
    pub(in crate::config) severity: Severity,
    /// Actions. `alert` publishes an alert when raised and when cleared; `output:<id>` switches an
    /// output on while the alert is raised, `output:<id>:pulse` for the length of its pulse, and
    /// `output:<id>:count` shows the number of raised alerts of the rule; `capture:<id>` takes a
    /// picture with a camera; `record:<duration>` (`1s` to `10m`, such as `record:30s`; needs
    /// `alert`) publishes all readings of the source for that long after the alert, regardless of
    /// filters.
    #[serde(default = "alert")]
    pub(in crate::config) then: Vec<String>,
}

fn alert() -> Vec<String> {
    vec!["alert".to_owned()]
}

/// The comparison of a number with the numbers of the same source before it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct AnomalyTable {
    /// Span of earlier readings with which a reading is compared, such as `10m`. No alert is raised
    /// in the first half of the span, or from fewer than 32 readings. A new level counts as normal
    /// after half of the span. Range: `1m` to `1d`.
    #[schemars(extend("x-range" = ["1m", "1d"]))]
    pub(in crate::config) learn: Period,
    /// Distance from the median, in robust standard deviations, above which a reading is an
    /// anomaly, 3 to 1000. A higher score gives fewer alerts.
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
    /// Id of the source, such as `feeder`.
    pub(in crate::config) source: String,
    /// Kind of the readings. Default: every measured kind of the source.
    pub(in crate::config) on: Option<String>,
    /// Fits a number greater than this threshold; with `below`, either is enough.
    pub(in crate::config) above: Option<f64>,
    /// Fits a number less than this threshold; with `above`, either is enough.
    pub(in crate::config) below: Option<f64>,
    /// Fits a number less than the first or greater than the second of two thresholds, such as
    /// `[40, 120]`. In place of `below` and `above`.
    pub(in crate::config) outside: Option<Vec<f64>>,
    /// Fits this state, such as `open`.
    pub(in crate::config) is: Option<String>,
}

/// Requirements for clearing a raised alert, with at least one key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ClearTable {
    /// For a rule with `below`: clears only at a number greater than this threshold, which is at
    /// least `below` of the rule.
    pub(in crate::config) above: Option<f64>,
    /// For a rule with `above`: clears only at a number less than this threshold, which is at most
    /// `above` of the rule.
    pub(in crate::config) below: Option<f64>,
    /// Time for which the requirements must last before the alert is cleared, by the times of the
    /// readings. Default: cleared at once. Range: `1s` to `1d`.
    #[serde(rename = "for")]
    #[schemars(extend("x-range" = ["1s", "1d"]))]
    pub(in crate::config) hold_for: Option<Period>,
}

/// Windows of time, on the grid of the clock: a window of a minute begins with the minute. Exactly
/// one of `tumbling` and `sliding` is required.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct WindowTable {
    /// Length of windows that follow each other without overlap, such as `60s`. Range: `1s` to
    /// `1d`.
    #[schemars(extend("x-range" = ["1s", "1d"]))]
    pub(in crate::config) tumbling: Option<Period>,
    /// Length of windows that overlap, such as `10m`: each window ends one step (`every`) after the
    /// window before. Range: `1s` to `1d`.
    #[schemars(extend("x-range" = ["1s", "1d"]))]
    pub(in crate::config) sliding: Option<Period>,
    /// Step of a sliding window, such as `30s`: a whole fraction of the length, at least one
    /// sixtieth of the length and at least `1s`. Default: the shortest such step. Not for
    /// `tumbling`. Range: `1s` to `1d`.
    #[schemars(extend("x-range" = ["1s", "1d"]))]
    pub(in crate::config) every: Option<Period>,
    /// Value of a window, compared with the thresholds.
    pub(in crate::config) take: Take,
}

/// Thresholds of one source, with at least one of `above` and `below`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct LimitTable {
    /// Id of the source, such as `7`.
    pub(in crate::config) source: String,
    /// Threshold in place of `above` of the rule. Default: the threshold of the rule.
    pub(in crate::config) above: Option<f64>,
    /// Threshold in place of `below` of the rule. Default: the threshold of the rule.
    pub(in crate::config) below: Option<f64>,
}
