//! What a configuration says of a rule.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A rule: which readings it looks at, when it fires, and what it does then.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RuleConfig {
    /// Its name, unique; it is the identity of its alerts.
    pub name: String,
    /// The kind of reading; any kind of the source if absent.
    pub on: Option<String>,
    /// The only source; each source by itself if absent.
    pub source: Option<String>,
    /// When it fires.
    pub condition: Condition,
    /// Looks at windows instead of single readings.
    pub window: Option<WindowConfig>,
    /// Limits of single sources, in the place of those of the rule.
    pub limits: Vec<LimitConfig>,
    /// Fires only after it held that long.
    pub hold_for: Duration,
    /// When it is over.
    pub clear: ClearConfig,
    /// The least time between two alerts of one source.
    pub at_most_every: Option<Duration>,
    /// How bad it is.
    pub severity: Severity,
    /// What it does; never empty.
    pub then: Vec<Action>,
}

/// When a rule fires.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    /// For such a reading, or such a value of a window.
    Reading(Test),
    /// When one of the sources says nothing.
    Silent {
        /// For that long.
        after: Duration,
        /// Id and kind of those that the file names. Sources of other programs come on top, once seen.
        expected: Vec<(String, String)>,
    },
    /// For a reading unlike those before.
    Anomaly {
        /// How far back it compares.
        learn: Duration,
        /// How far off a reading must be.
        score: f64,
    },
    /// When all of them hold.
    All {
        /// What must hold.
        members: Vec<MemberConfig>,
        /// How far apart their readings may be.
        within: Option<Duration>,
    },
    /// When one of them holds.
    Any(Vec<MemberConfig>),
}

/// A condition on the newest reading of one source.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MemberConfig {
    /// The source.
    pub source: String,
    /// The kind of reading.
    pub on: Option<String>,
    /// What must hold.
    pub test: Test,
}

/// What a reading can be asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    /// Whether it is strictly above or strictly below.
    Number {
        /// Nothing is above if absent.
        above: Option<f64>,
        /// Nothing is below if absent.
        below: Option<f64>,
    },
    /// Whether it is this state.
    Is(String),
}

/// When an alert is over, besides that its condition does not hold any more.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct ClearConfig {
    /// Only strictly above.
    pub above: Option<f64>,
    /// Only strictly below.
    pub below: Option<f64>,
    /// Only after that long.
    pub hold_for: Duration,
}

/// Windows on the grid of wall time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowConfig {
    /// Its length.
    pub length: Duration,
    /// From one to the next: the length, or a part of it.
    pub step: Duration,
    /// What becomes of its values.
    pub take: Take,
}

/// What becomes of the values in a window.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Take {
    /// Their arithmetic mean.
    Mean,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// How many there are.
    Count,
    /// All of them together.
    Sum,
    /// How much more the last is than the first, a minute.
    Rate,
}

/// Limits of one source, in the place of those of the rule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LimitConfig {
    /// The source.
    pub source: String,
    /// Fires strictly above; that of the rule, where the file gives none.
    pub above: Option<f64>,
    /// Fires strictly below; that of the rule, where the file gives none.
    pub below: Option<f64>,
}

/// How bad an alert is.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// Good to know.
    Info,
    /// Someone should look.
    #[default]
    Warning,
    /// Someone must act.
    Critical,
}

/// What a rule does when it fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Raises an alert, and clears it.
    Alert,
    /// Asks this camera for a picture.
    Capture(String),
    /// Drives this output.
    Output(String, Drive),
    /// From then on, for that long, publishes the readings of the source in full.
    Record(Duration),
}

/// How an output is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drive {
    /// While an alert is raised, or a visit lasts.
    On,
    /// For a moment, with each alert raised or each opening.
    Pulse,
    /// As the number of alerts raised, or of openings so far.
    Count,
}
