//! What a rule says, as the configuration maps to it.
//!
//! Which combinations make no sense is said in `faults.rs`. Names of sources and cameras are the
//! configuration's to check: only it knows them all.

use std::time::Duration;

use pulsegate_sensors::Source;

use super::{LATENESS, flapping};
use crate::record::reading::Value;

/// The shortest window and the shortest step: with [`LATENESS`] it bounds how many are open.
pub const MIN_WINDOW: Duration = Duration::from_secs(1);
/// The longest window, and the longest that something must last: it bounds how much a start must
/// read back.
pub const MAX_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest silence: less is the rhythm of a belt.
pub const MIN_SILENCE: Duration = Duration::from_secs(1);
/// The most sources that one rule looks at together: it bounds what a reading of each costs.
pub const MAX_MEMBERS: usize = 32;
/// The most steps that a sliding window takes to pass by: it bounds what each of them costs.
pub const MAX_STEPS: u32 = 60;
/// How far a start looks back for a condition that a cool-down holds back: a line tells its level
/// at start anyway, and belts and numbers tell theirs within seconds.
const HELD_LOOKBACK: Duration = Duration::from_secs(60 * 60);
/// What may have been on its way into the store when the agent ended.
const SLACK: Duration = Duration::from_secs(60);

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleSpec {
    /// Its name: in every alert, and what ties alerts to it across restarts.
    pub name: Box<str>,
    /// The kind of sources that it covers.
    pub on: Option<Box<str>>,
    /// The one source that it covers. With `on`, both must fit.
    pub source: Option<Box<str>>,
    /// When it holds.
    pub condition: Condition,
    /// What the condition is asked about; each single reading without one.
    pub window: Option<WindowSpec>,
    /// Other thresholds for some sources.
    pub limits: Vec<Limit>,
    /// It is raised only if it held for that long, in event time.
    pub hold_for: Duration,
    /// When it is cleared.
    pub clear: Clear,
    /// A raise comes at the earliest that long after the one before, per source.
    pub at_most_every: Option<Duration>,
    /// How bad it is.
    pub severity: Severity,
    /// What is done when it is raised.
    pub then: Vec<Action>,
}

/// When a rule holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// For such a reading, or such a value of a window.
    Reading(Test),
    /// When nothing comes of a source: not for that long since its last reading, or since the
    /// agent started.
    Silent {
        /// At least [`MIN_SILENCE`].
        after: Duration,
        /// Those that should speak from the start; others that the rule covers, once they did.
        expected: Vec<Source>,
    },
    /// For a reading that is unlike those before.
    Anomaly {
        /// How far back it is compared, and how long it takes to learn; at most [`MAX_WINDOW`].
        learn: Duration,
        /// How many times as far from the median as readings commonly are.
        score: f64,
    },
    /// When the newest readings of several sources all hold.
    All {
        /// At least two.
        members: Vec<Member>,
        /// How far apart the readings may be by which they come to hold.
        within: Option<Duration>,
    },
    /// When one of several does.
    Any {
        /// At least two.
        members: Vec<Member>,
    },
}

/// What a single value can be asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// Whether it is a number out of a range.
    Outside(Range),
    /// Whether it is this state.
    Is(Box<str>),
}

/// A condition on the newest reading of one source.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The source's id.
    pub source: Box<str>,
    /// The kind of its readings, if only one counts.
    pub on: Option<Box<str>>,
    /// What must hold.
    pub test: Test,
}

/// Numbers above the one or below the other, strictly.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Range {
    /// Greater than this.
    pub above: Option<f64>,
    /// Less than this.
    pub below: Option<f64>,
}

/// When an alert is cleared: as soon as the condition does not hold any more, unless this asks for
/// more. For numbers it may ask for other thresholds, strictly, so that a value that trembles at a
/// threshold is one alert (hysteresis).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Clear {
    /// What was raised below the rule's threshold is cleared only above this.
    pub above: Option<f64>,
    /// What was raised above the rule's threshold is cleared only below this.
    pub below: Option<f64>,
    /// Only if it lasts that long, in event time.
    pub hold_for: Duration,
}

/// The thresholds of one source. A side that is not set is the rule's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    /// The source's id.
    pub source: Box<str>,
    /// Replaces [`Range::above`].
    pub above: Option<f64>,
    /// Replaces [`Range::below`].
    pub below: Option<f64>,
}

/// Windows on the grid of event time: a tumbling one of a minute starts with the minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSpec {
    /// From [`MIN_WINDOW`] to [`MAX_WINDOW`].
    pub length: Duration,
    /// From the end of one to the end of the next. The length itself, for windows that follow
    /// each other without overlap, or a part of it, at least a [`MAX_STEPS`]th.
    pub step: Duration,
    /// What is taken over the readings in it.
    pub take: Take,
}

/// What is taken over the readings of a window. A window without readings has a count and a sum of
/// 0; it has nothing else, and changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Take {
    /// The arithmetic mean.
    Mean,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// How many there are.
    Count,
    /// All of them together.
    Sum,
    /// How much more the last is than the first, a minute of the time between them. A window
    /// whose readings are all of one time has none.
    Rate,
}

/// How bad an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look.
    #[default]
    Warning,
    /// Somebody must act.
    Critical,
}

/// How an output is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Drive {
    /// On while an alert is raised, or a visit lasts.
    On,
    /// On for a moment with each alert raised, or each opening.
    Pulse,
    /// The number of alerts that are raised, or of openings so far.
    Count,
}

/// What a rule does when it is raised.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Publishes an alert.
    Alert,
    /// Takes a picture with this camera.
    Capture(Box<str>),
    /// Drives this output.
    Output(Box<str>, Drive),
    /// From then on, for that long, the readings of the source are published in full.
    Record(Duration),
}

impl RuleSpec {
    /// Whether an alert of this rule can be in the name of `source`.
    #[must_use]
    pub fn concerns(&self, source: &Source) -> bool {
        let members = self.members().unwrap_or_default();
        self.covers(source) || members.iter().any(|member| member.is(source))
    }

    /// Whether this rule covers `source` by itself. One that names no kind means what is measured,
    /// not what is derived of it.
    pub(super) fn covers(&self, source: &Source) -> bool {
        self.members().is_none()
            && self.on.as_ref().map_or(!source.is_derived(), |kind| *kind == source.kind)
            && self.source.as_ref().is_none_or(|name| *name == source.name)
    }

    /// The sources that it looks at together, if it does.
    #[must_use]
    pub fn members(&self) -> Option<&[Member]> {
        match &self.condition {
            Condition::All { members, .. } | Condition::Any { members } => Some(members),
            Condition::Reading(_) | Condition::Silent { .. } | Condition::Anomaly { .. } => None,
        }
    }

    /// What its values are asked, where they are asked something by themselves.
    pub(super) fn test(&self) -> Option<&Test> {
        match &self.condition {
            Condition::Reading(test) => Some(test),
            Condition::Silent { .. }
            | Condition::Anomaly { .. }
            | Condition::All { .. }
            | Condition::Any { .. } => None,
        }
    }

    /// What raises for the source of this name, where numbers do.
    #[must_use]
    pub fn range(&self, source: &str) -> Range {
        let range = match self.test() {
            Some(Test::Outside(range)) => *range,
            Some(Test::Is(_)) | None => Range::default(),
        };
        match self.limits.iter().find(|limit| &*limit.source == source) {
            Some(limit) => range.limited(limit),
            None => range,
        }
    }

    /// How far back a rebuild must look: to the start of the last window that held a reading and
    /// of the empty one after it, to what has to last, and to what a cool-down holds back.
    pub(super) fn horizon(&self) -> Duration {
        let window = self.window.map_or(Duration::ZERO, |window| window.length * 2);
        let held = self.at_most_every.unwrap_or_default().min(HELD_LOOKBACK);
        let known = match &self.condition {
            Condition::Reading(_) | Condition::Silent { .. } => Duration::ZERO,
            Condition::Anomaly { learn, .. } => *learn * 2,
            Condition::All { within, .. } => within.unwrap_or(HELD_LOOKBACK),
            Condition::Any { .. } => HELD_LOOKBACK,
        };
        let waits = window + known + self.hold_for.max(self.clear.hold_for) + held;
        // What was held back of flapping alerts follows from the readings, too.
        waits.max(flapping::WITHIN) + LATENESS + SLACK
    }
}

impl Member {
    /// Whether it is about `source`.
    pub(super) fn is(&self, source: &Source) -> bool {
        self.source == source.name
            && self.on.as_ref().map_or(!source.is_derived(), |kind| *kind == source.kind)
    }
}

impl Test {
    /// Whether it holds for a value; `None` if it says nothing about such a value.
    pub(super) fn holds(&self, value: &Value) -> Option<bool> {
        match (self, value) {
            (Self::Outside(range), Value::Number(number)) => Some(range.excludes(*number)),
            (Self::Is(is), Value::State(state)) => Some(is == state),
            (Self::Outside(_), Value::State(_)) | (Self::Is(_), Value::Number(_)) => None,
        }
    }
}

impl Range {
    /// Whether a number lies out of the range.
    pub(super) fn excludes(self, number: f64) -> bool {
        self.above.is_some_and(|above| number > above)
            || self.below.is_some_and(|below| number < below)
    }

    pub(super) fn limited(self, limit: &Limit) -> Self {
        Self { above: limit.above.or(self.above), below: limit.below.or(self.below) }
    }
}

impl Clear {
    /// Whether an alert that was raised out of `range` stays raised. A side on which the range has no
    /// threshold raised nothing, and what clears that side says nothing.
    pub(super) fn keeps(&self, number: f64, range: Range) -> bool {
        range.excludes(number)
            || range.above.and(self.below).is_some_and(|below| number >= below)
            || range.below.and(self.above).is_some_and(|above| number <= above)
    }
}
