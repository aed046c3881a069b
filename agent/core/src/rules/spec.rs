//! The specification of a rule, as built by the configuration.
//!
//! `faults.rs` names the combinations that make no sense. The configuration checks the names of
//! sources and cameras, because only the configuration knows all of them.

use std::time::Duration;

use pulsegate_sensors::Source;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LATENESS, flapping};
use crate::record::reading::Value;

/// The shortest window and the shortest step; with [`LATENESS`], bounds the number of open windows.
pub const MIN_WINDOW: Duration = Duration::from_secs(1);
/// The longest window, and the longest `for` and `learn`; bounds the history that a start must read
/// back.
pub const MAX_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest silence: anything shorter is the rhythm of a belt.
pub const MIN_SILENCE: Duration = Duration::from_secs(1);
/// The most sources of one rule; bounds the cost of a reading of each source.
pub const MAX_MEMBERS: usize = 32;
/// The most steps in the length of a sliding window; bounds the cost of each step.
pub const MAX_STEPS: u32 = 60;
/// The history read back at a start for a condition held back by a cool-down: a line reports its
/// level at start anyway, and belts and numbers report theirs within seconds.
const HELD_LOOKBACK: Duration = Duration::from_secs(60 * 60);
/// Covers readings on their way into the store at the end of the agent.
const SLACK: Duration = Duration::from_secs(60);

/// The specification of one rule.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleSpec {
    /// The name of the rule, part of every alert. The name ties alerts to the rule across restarts.
    pub name: Box<str>,
    /// The kind of the covered sources.
    pub on: Option<Box<str>>,
    /// The only covered source. With `on`, both must fit.
    pub source: Option<Box<str>>,
    /// The condition that raises an alert.
    pub condition: Condition,
    /// The window under the condition; `None` evaluates each single reading.
    pub window: Option<WindowSpec>,
    /// The thresholds of single sources, in place of those of the condition.
    pub limits: Vec<Limit>,
    /// The duration for which the condition must hold before the raise, in event time.
    pub hold_for: Duration,
    /// The requirements for clearing a raised alert.
    pub clear: Clear,
    /// The least time between two raises of one source.
    pub at_most_every: Option<Duration>,
    /// The severity of each alert.
    pub severity: Severity,
    /// The actions taken on a raise.
    pub then: Vec<Action>,
}

/// The condition of a rule.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// Holds for a reading, or a window value, that passes the test.
    Reading(Test),
    /// Holds if no reading of a source arrives for `after` since its last reading, or since the
    /// agent started.
    Silent {
        /// The length of the silence; at least [`MIN_SILENCE`].
        after: Duration,
        /// Sources that must send readings from the start. Other covered sources count after their
        /// first reading.
        expected: Vec<Source>,
    },
    /// Holds for a reading unlike the readings before.
    Anomaly {
        /// The history for the comparison, and the time it takes to learn; at most [`MAX_WINDOW`].
        learn: Duration,
        /// The score above which a reading is an anomaly: its distance from the median, in robust
        /// standard deviations.
        score: f64,
    },
    /// Holds if the newest readings of all members hold.
    All {
        /// The members, at least two.
        members: Vec<Member>,
        /// The greatest distance in event time between the readings, as the condition begins to
        /// hold.
        within: Option<Duration>,
    },
    /// Holds if the newest reading of any member holds.
    Any {
        /// The members, at least two.
        members: Vec<Member>,
    },
}

/// A test of a single value.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// Passes for a number outside the range.
    Outside(Range),
    /// Passes for this state.
    Is(Box<str>),
}

/// A condition on the newest reading of one source.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The id of the source.
    pub source: Box<str>,
    /// The kind of the readings, if only one kind counts.
    pub on: Option<Box<str>>,
    /// The test for the newest reading.
    pub test: Test,
}

/// A range with numbers outside it above `above` or below `below`, strictly.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Range {
    /// A number greater than this is outside.
    pub above: Option<f64>,
    /// A number less than this is outside.
    pub below: Option<f64>,
}

/// The requirements for clearing an alert. By default, an alert is cleared as soon as the condition
/// no longer holds. For numbers, other thresholds apply if set, strictly: a value trembling at a
/// threshold is then one alert (hysteresis).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Clear {
    /// An alert raised below the threshold of the rule is cleared only above this number.
    pub above: Option<f64>,
    /// An alert raised above the threshold of the rule is cleared only below this number.
    pub below: Option<f64>,
    /// The duration for which the requirements must last before the clear, in event time.
    pub hold_for: Duration,
}

/// The thresholds of one source. A side without a threshold keeps that of the rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    /// The id of the source.
    pub source: Box<str>,
    /// Replaces [`Range::above`].
    pub above: Option<f64>,
    /// Replaces [`Range::below`].
    pub below: Option<f64>,
}

/// Windows on the grid of event time: a tumbling window of a minute starts with the minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSpec {
    /// The length of a window, from [`MIN_WINDOW`] to [`MAX_WINDOW`].
    pub length: Duration,
    /// The time from the end of a window to the end of the next: `length` for tumbling windows, or
    /// an integer fraction of `length`, at least a [`MAX_STEPS`]th.
    pub step: Duration,
    /// The aggregate over the readings of a window.
    pub take: Take,
}

/// An aggregate over the readings of a window. A window without readings has a count and a sum of
/// 0; it has no other value, and then changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Take {
    /// The arithmetic mean.
    Mean,
    /// The least reading.
    Min,
    /// The greatest reading.
    Max,
    /// The number of readings, states included.
    Count,
    /// The sum of the readings.
    Sum,
    /// The last reading minus the first, per minute of the time between the two. A window whose
    /// readings all have the same time has no rate.
    Rate,
}

/// The severity of an alert.
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
pub enum Severity {
    /// For information only.
    Info,
    /// Somebody should look.
    #[default]
    Warning,
    /// Somebody must act.
    Critical,
}

/// The way a rule or a visit drives an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Drive {
    /// On while an alert is raised, or during a visit.
    On,
    /// On for a moment with each raised alert, or each opening.
    Pulse,
    /// The number of alerts now raised, or of openings so far.
    Count,
}

/// An action of a rule on a raise.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Publishes an alert.
    Alert,
    /// Takes a picture with this camera.
    Capture(Box<str>),
    /// Drives this output.
    Output(Box<str>, Drive),
    /// Publishes all readings of the source for this long, from the raise on.
    Record(Duration),
}

impl RuleSpec {
    /// Returns `true` if an alert of this rule can name `source`.
    #[must_use]
    pub fn concerns_source(&self, source: &Source) -> bool {
        let members = self.members().unwrap_or_default();
        self.covers_source(source) || members.iter().any(|member| member.is_about(source))
    }

    /// Returns `true` if this rule covers `source` by itself. A rule without `on` covers measured
    /// sources, but no derived source.
    pub(super) fn covers_source(&self, source: &Source) -> bool {
        self.members().is_none()
            && self.on.as_ref().map_or(!source.is_derived(), |kind| *kind == source.kind)
            && self.source.as_ref().is_none_or(|name| *name == source.name)
    }

    /// Returns the members of `all` or `any`; `None` for a condition on a single source.
    #[must_use]
    pub fn members(&self) -> Option<&[Member]> {
        match &self.condition {
            Condition::All { members, .. } | Condition::Any { members } => Some(members),
            Condition::Reading(_) | Condition::Silent { .. } | Condition::Anomaly { .. } => None,
        }
    }

    /// Returns the test of single values, if the condition has a test.
    pub(super) fn test(&self) -> Option<&Test> {
        match &self.condition {
            Condition::Reading(test) => Some(test),
            Condition::Silent { .. }
            | Condition::Anomaly { .. }
            | Condition::All { .. }
            | Condition::Any { .. } => None,
        }
    }

    /// Returns the range for the source named `source`, with its limits applied; without thresholds
    /// if the condition tests no numbers.
    #[must_use]
    pub fn range_for(&self, source: &str) -> Range {
        let range = match self.test() {
            Some(Test::Outside(range)) => *range,
            Some(Test::Is(_)) | None => Range::default(),
        };
        match self.limits.iter().find(|limit| &*limit.source == source) {
            Some(limit) => range.limited_by(limit),
            None => range,
        }
    }

    /// Returns the history needed by a rebuild: back to the start of the last window with a reading
    /// and of the empty window after, plus the longest `for`, plus the cool-down.
    pub(super) fn rebuild_horizon(&self) -> Duration {
        let window = self.window.map_or(Duration::ZERO, |window| window.length * 2);
        let held = self.at_most_every.unwrap_or_default().min(HELD_LOOKBACK);
        let known = match &self.condition {
            Condition::Reading(_) | Condition::Silent { .. } => Duration::ZERO,
            Condition::Anomaly { learn, .. } => *learn * 2,
            Condition::All { within, .. } => within.unwrap_or(HELD_LOOKBACK),
            Condition::Any { .. } => HELD_LOOKBACK,
        };
        let waits = window + known + self.hold_for.max(self.clear.hold_for) + held;
        // Held-back alerts of a flapping rule follow from the readings, too.
        waits.max(flapping::WITHIN) + LATENESS + SLACK
    }
}

impl Member {
    /// Returns `true` if the member is about `source`.
    pub(super) fn is_about(&self, source: &Source) -> bool {
        self.source == source.name
            && self.on.as_ref().map_or(!source.is_derived(), |kind| *kind == source.kind)
    }
}

impl Test {
    /// Returns `true` if `value` passes the test; `None` if the test does not apply to the type of
    /// `value`.
    pub(super) fn holds_for(&self, value: &Value) -> Option<bool> {
        match (self, value) {
            (Self::Outside(range), Value::Number(number)) => Some(range.excludes_number(*number)),
            (Self::Is(is), Value::State(state)) => Some(is == state),
            (Self::Outside(_), Value::State(_)) | (Self::Is(_), Value::Number(_)) => None,
        }
    }

    /// Returns `true` if no value passes both tests.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Is(one), Self::Is(other)) => one != other,
            (Self::Outside(one), Self::Outside(other)) => {
                let overlap = |above: Option<f64>, below: Option<f64>| {
                    above.zip(below).is_some_and(|(above, below)| above < below)
                };
                !(one.above.and(other.above).is_some()
                    || one.below.and(other.below).is_some()
                    || overlap(one.above, other.below)
                    || overlap(other.above, one.below))
            }
            (Self::Is(_), Self::Outside(_)) | (Self::Outside(_), Self::Is(_)) => false,
        }
    }
}

impl Range {
    /// Returns `true` if `number` lies outside the range.
    pub(super) fn excludes_number(self, number: f64) -> bool {
        self.above.is_some_and(|above| number > above)
            || self.below.is_some_and(|below| number < below)
    }

    pub(super) fn limited_by(self, limit: &Limit) -> Self {
        Self { above: limit.above.or(self.above), below: limit.below.or(self.below) }
    }
}

impl WindowSpec {
    /// Returns the shortest step for a sliding window of this length: an integer fraction of
    /// `length`, at least a [`MAX_STEPS`]th and [`MIN_WINDOW`].
    #[must_use]
    pub fn finest_step(length: Duration) -> Duration {
        let millis = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let (length, least) = (millis(length), millis(MIN_WINDOW));
        let fits = |parts: &u64| length.is_multiple_of(*parts) && length / parts >= least;
        Duration::from_millis(length / (1..=u64::from(MAX_STEPS)).rev().find(fits).unwrap_or(1))
    }
}

impl Clear {
    /// Returns `true` if an alert raised outside `range` stays raised. A side without a threshold
    /// in `range` raised nothing, so a `clear` threshold for the side has no effect.
    pub(super) fn keeps_raised(&self, number: f64, range: Range) -> bool {
        range.excludes_number(number)
            || range.above.and(self.below).is_some_and(|below| number >= below)
            || range.below.and(self.above).is_some_and(|above| number <= above)
    }
}
