//! What a rule says, as the configuration maps to it, and which combinations make no sense.
//!
//! Names of sources and cameras are the configuration's to check: only it knows them all.

use std::time::Duration;

use pulsegate_sensors::Source;

use super::LATENESS;

/// The shortest window: with [`LATENESS`] it bounds how many are open at once.
pub const MIN_WINDOW: Duration = Duration::from_secs(1);
/// The longest window: it bounds how much a start must read back.
pub const MAX_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
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
    /// A raise comes at the earliest that long after the one before, per source.
    pub at_most_every: Option<Duration>,
    /// How bad it is.
    pub severity: Severity,
    /// What is done when it is raised.
    pub then: Vec<Action>,
}

/// When a rule holds: above the one or below the other, strictly; or when the state is the word.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Condition {
    /// Holds for numbers greater than this.
    pub above: Option<f64>,
    /// Holds for numbers less than this.
    pub below: Option<f64>,
    /// Holds for this state.
    pub is: Option<Box<str>>,
}

/// The thresholds of one source. A side that is not set is the rule's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    /// The source's id.
    pub source: Box<str>,
    /// Replaces [`Condition::above`].
    pub above: Option<f64>,
    /// Replaces [`Condition::below`].
    pub below: Option<f64>,
}

/// Windows that follow each other without overlap, on the grid of event time: a window of a
/// minute starts with the minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSpec {
    /// From [`MIN_WINDOW`] to [`MAX_WINDOW`].
    pub length: Duration,
    /// What is taken over the readings in it.
    pub take: Take,
}

/// What is taken over the readings of a window. A window without readings has no mean, least or
/// greatest value and changes nothing; its count is 0.
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

/// What a rule does when it is raised.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Publishes an alert.
    Alert,
    /// Takes a picture with this camera.
    Capture(Box<str>),
}

/// Why a rule makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    /// It covers nothing.
    #[error("needs `on` (a kind of source) or `source` (one of them)")]
    CoversNothing,
    /// It has no condition.
    #[error("needs a condition: `above`, `below` or `is`")]
    NoCondition,
    /// It has two conditions of different kinds.
    #[error("`is` is about a state, `above` and `below` are about a number: use one of them")]
    StateAndNumber,
    /// It takes a number over states.
    #[error("`is` is about a state, of which a window has none: use `above` or `below`")]
    StateInWindow,
    /// It has thresholds for a state.
    #[error("`is` has no thresholds that `limits` could replace")]
    LimitOnState,
    /// It always holds.
    #[error("always holds: every number is above {above} or below {below}")]
    AlwaysHolds {
        /// The upper threshold.
        above: f64,
        /// The lower threshold.
        below: f64,
    },
    /// A threshold is not a number.
    #[error("{0} is not a threshold")]
    NotFinite(f64),
    /// The window is too short.
    #[error("a window is at least {} s long", MIN_WINDOW.as_secs())]
    ShortWindow,
    /// The window is too long.
    #[error("a window is at most {} h long", MAX_WINDOW.as_secs() / 3600)]
    LongWindow,
    /// Two limits are for the same source.
    #[error("has more than one limit for `{0}`")]
    LimitTwice(Box<str>),
    /// Two rules have the same name.
    #[error("another rule has the same name")]
    NameTwice,
}

/// A rule that cannot be run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("rule `{rule}` {fault}")]
pub struct InvalidRule {
    /// Its name.
    pub rule: Box<str>,
    /// Why.
    pub fault: Fault,
}

/// Checks each rule, and that their names differ.
pub(super) fn check(specs: &[RuleSpec]) -> Result<(), InvalidRule> {
    for (index, spec) in specs.iter().enumerate() {
        let twice = specs[..index].iter().any(|other| other.name == spec.name);
        let fault = spec.faults().into_iter().next().or(twice.then_some(Fault::NameTwice));
        if let Some(fault) = fault {
            return Err(InvalidRule { rule: spec.name.clone(), fault });
        }
    }
    Ok(())
}

impl RuleSpec {
    /// Everything about this rule that makes no sense.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let Condition { above, below, is } = &self.condition;
        let is_number = above.is_some() || below.is_some();
        let is_limited = self.limits.iter().any(|l| l.above.is_some() || l.below.is_some());
        let mut faults = Vec::new();
        let mut fault_if = |wrong: bool, fault: Fault| {
            if wrong {
                faults.push(fault);
            }
        };
        fault_if(self.on.is_none() && self.source.is_none(), Fault::CoversNothing);
        fault_if(is.is_none() && !is_number && !is_limited, Fault::NoCondition);
        fault_if(is.is_some() && is_number, Fault::StateAndNumber);
        fault_if(is.is_some() && self.window.is_some(), Fault::StateInWindow);
        fault_if(is.is_some() && !self.limits.is_empty(), Fault::LimitOnState);
        if let Some(window) = self.window {
            fault_if(window.length < MIN_WINDOW, Fault::ShortWindow);
            fault_if(window.length > MAX_WINDOW, Fault::LongWindow);
        }
        faults.extend(threshold_faults(*above, *below));
        for (index, limit) in self.limits.iter().enumerate() {
            if self.limits[..index].iter().any(|other| other.source == limit.source) {
                faults.push(Fault::LimitTwice(limit.source.clone()));
            }
            if limit.above.is_some() || limit.below.is_some() {
                faults.extend(threshold_faults(limit.above.or(*above), limit.below.or(*below)));
            }
        }
        faults
    }

    /// Whether this rule covers `source`. One that names no kind means what is measured, not what
    /// is derived of it.
    #[must_use]
    pub fn covers(&self, source: &Source) -> bool {
        self.on.as_ref().map_or(!source.is_derived(), |kind| *kind == source.kind)
            && self.source.as_ref().is_none_or(|name| *name == source.name)
    }

    /// The thresholds for the source of this name: above, below.
    pub(super) fn thresholds(&self, source: &str) -> (Option<f64>, Option<f64>) {
        let Condition { above, below, is: _ } = self.condition;
        match self.limits.iter().find(|limit| &*limit.source == source) {
            Some(limit) => (limit.above.or(above), limit.below.or(below)),
            None => (above, below),
        }
    }

    /// How far back a rebuild must look: to the start of the last window that held a reading and
    /// of the empty one after it, and to what a cool-down holds back.
    pub(super) fn horizon(&self) -> Duration {
        let window = self.window.map_or(Duration::ZERO, |window| window.length * 2);
        let held = self.at_most_every.unwrap_or_default().min(HELD_LOOKBACK);
        window + held + LATENESS + SLACK
    }
}

fn threshold_faults(above: Option<f64>, below: Option<f64>) -> Vec<Fault> {
    let mut faults: Vec<_> = above
        .into_iter()
        .chain(below)
        .filter(|threshold| !threshold.is_finite())
        .map(Fault::NotFinite)
        .collect();
    if let (Some(above), Some(below)) = (above, below)
        && above < below
    {
        faults.push(Fault::AlwaysHolds { above, below });
    }
    faults
}
