//! Tables of visits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::Period;

/// Visits: groups of openings (of a lid) or of movements close in time, each reported as one event.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct VisitTable {
    /// Time without an opening after which a visit ends. Range: `1s` to `1d`.
    #[schemars(extend("x-range" = ["1s", "1d"]))]
    pub(in crate::config) gap: Period,
    /// Units taken by one opening on average, 0 to 1000000, such as `0.5`; a visit reports its
    /// openings times this number.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) units_per_opening: f64,
    /// Word for the units in the event and its report, such as `nuts`. Default: none.
    #[schemars(length(min = 1))]
    pub(in crate::config) unit: Option<String>,
    /// `true` publishes events at the beginning and at the end of a visit, besides the event of the
    /// whole visit.
    #[serde(default)]
    pub(in crate::config) live: bool,
    /// Text for people about the visit, added to its event. Default: no text.
    pub(in crate::config) report: Option<ReportTable>,
    /// Actions. `output:<id>` switches an output on during the visit, `output:<id>:pulse` for the
    /// length of its pulse at each opening, and `output:<id>:count` shows the openings so far;
    /// `capture:<id>` takes a picture with a camera at the beginning, `capture:<id>:opening` at
    /// each opening, `capture:<id>:end` at the end.
    #[serde(default)]
    pub(in crate::config) then: Vec<String>,
}

/// Visits to a source without a `visit` table of its own, such as a source of another program.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SourceVisitTable {
    /// Id of the source, such as `meter`; its readings must be states.
    pub(in crate::config) source: String,
    /// State that counts as an opening. Default: `active` for a trigger, `open` for any other
    /// source.
    #[schemars(length(min = 1))]
    pub(in crate::config) is: Option<String>,
    /// Time without an opening after which a visit ends. Range: `1s` to `1d`.
    #[schemars(extend("x-range" = ["1s", "1d"]))]
    pub(in crate::config) gap: Period,
    /// Units taken by one opening on average, 0 to 1000000, such as `0.5`; a visit reports its
    /// openings times this number.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) units_per_opening: f64,
    /// Word for the units in the event and its report, such as `nuts`. Default: none.
    #[schemars(length(min = 1))]
    pub(in crate::config) unit: Option<String>,
    /// `true` publishes events at the beginning and at the end of a visit, besides the event of the
    /// whole visit.
    #[serde(default)]
    pub(in crate::config) live: bool,
    /// Text for people about the visit, added to its event. Default: no text.
    pub(in crate::config) report: Option<ReportTable>,
    /// Actions. `output:<id>` switches an output on during the visit, `output:<id>:pulse` for the
    /// length of its pulse at each opening, and `output:<id>:count` shows the openings so far;
    /// `capture:<id>` takes a picture with a camera at the beginning, `capture:<id>:opening` at
    /// each opening, `capture:<id>:end` at the end.
    #[serde(default)]
    pub(in crate::config) then: Vec<String>,
}

impl SourceVisitTable {
    /// Returns the keys that a `visit` table of a source has, too.
    pub(in crate::config) fn to_visit(&self) -> VisitTable {
        let Self { source: _, is: _, gap, units_per_opening, unit, live, report, then } =
            self.clone();
        VisitTable { gap, units_per_opening, unit, live, report, then }
    }
}

/// A text for people about a visit.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ReportTable {
    /// Template of the text, at most 1024 bytes on one line, with the placeholders `{units}`,
    /// `{unit}`, `{minutes}`, `{seconds}`, `{openings}`, `{source}`, `{start}`, `{end}`,
    /// `{start_date}` and `{end_date}`. `{units:2}` has two decimals. Such as
    /// `{units} {unit} in {minutes} min`.
    #[schemars(length(min = 1))]
    pub(in crate::config) text: String,
    /// Time zone of the times in the text, such as `Europe/Berlin`.
    #[serde(default = "utc")]
    pub(in crate::config) zone: String,
}

fn one() -> f64 {
    1.0
}

fn utc() -> String {
    "UTC".to_owned()
}
