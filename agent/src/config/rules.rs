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
    /// Fires strictly above.
    pub above: Option<f64>,
    /// Fires strictly below.
    pub below: Option<f64>,
    /// Fires in this state.
    pub is: Option<String>,
    /// Looks at windows instead of single readings.
    pub window: Option<WindowConfig>,
    /// Limits of single sources, in the place of those of the rule.
    pub limits: Vec<LimitConfig>,
    /// The least time between two alerts of one source.
    pub at_most_every: Option<Duration>,
    /// How bad it is.
    pub severity: Severity,
    /// What it does; never empty.
    pub then: Vec<Action>,
}

/// A tumbling window, on the grid of wall time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowConfig {
    /// Its length.
    pub length: Duration,
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
    /// Asks this camera for a picture; not done by this version.
    Capture(String),
}
