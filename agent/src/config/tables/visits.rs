//! Tables of visits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::place::At;
use crate::config::units::Period;

/// When openings are one visit, and what a visit takes.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct VisitTable {
    /// A visit ends when there was no opening for that long.
    #[schemars(extend("x-range" = ["1s", "1d"]))]
    pub(in crate::config) gap: Period,
    /// Units that an opening takes on average.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) units_per_opening: f64,
    /// What is taken.
    #[schemars(length(min = 1))]
    pub(in crate::config) unit: Option<String>,
    /// Whether the beginning and the end of a visit are events as well.
    #[serde(default)]
    pub(in crate::config) live: bool,
    /// A text that tells the visit.
    pub(in crate::config) report: Option<ReportTable>,
    /// What else it does: `output:<output>` switches it on while the visit lasts,
    /// `output:<output>:pulse` for a moment with each opening, `output:<output>:count` shows the
    /// openings so far; `capture:<camera>` takes a picture when it begins, `capture:<camera>:opening`
    /// with each opening, `capture:<camera>:end` when it ended.
    #[serde(default)]
    pub(in crate::config) then: Vec<At<String>>,
}

/// Visits to a source that has no table with `visit`, such as one of another program.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SourceVisitTable {
    /// The source.
    pub(in crate::config) source: At<String>,
    /// The state that is an opening; `open`, or `active` of a trigger, if absent.
    #[schemars(length(min = 1))]
    pub(in crate::config) is: Option<At<String>>,
    /// A visit ends when there was no opening for that long.
    #[schemars(extend("x-range" = ["1s", "1d"]))]
    pub(in crate::config) gap: Period,
    /// Units that an opening takes on average.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) units_per_opening: f64,
    /// What is taken.
    #[schemars(length(min = 1))]
    pub(in crate::config) unit: Option<String>,
    /// Whether the beginning and the end of a visit are events as well.
    #[serde(default)]
    pub(in crate::config) live: bool,
    /// A text that tells the visit.
    pub(in crate::config) report: Option<ReportTable>,
    /// What else it does: `output:<output>` switches it on while the visit lasts,
    /// `output:<output>:pulse` for a moment with each opening, `output:<output>:count` shows the
    /// openings so far; `capture:<camera>` takes a picture when it begins, `capture:<camera>:opening`
    /// with each opening, `capture:<camera>:end` when it ended.
    #[serde(default)]
    pub(in crate::config) then: Vec<At<String>>,
}

/// A text that tells a visit.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ReportTable {
    /// The text, with `{units}`, `{unit}`, `{minutes}`, `{seconds}`, `{openings}`, `{source}`,
    /// `{start}`, `{end}`, `{start_date}`, `{end_date}`; `{units:2}` has two decimals.
    #[schemars(length(min = 1))]
    pub(in crate::config) text: At<String>,
    /// The time zone of its times, such as `Europe/Berlin`.
    #[serde(default = "utc")]
    pub(in crate::config) zone: At<String>,
}

fn one() -> f64 {
    1.0
}

fn utc() -> At<String> {
    "UTC".to_owned().into()
}
