//! From findings to transitions, for one rule and one source.
//!
//! An alert is raised when the condition comes to hold and cleared when it ceases to; in between
//! nothing is repeated. `at_most_every` holds a raise back: if the condition still holds when the
//! cool-down ends, it is raised then; if not, it is not heard of, and neither is its clear.

use std::sync::Arc;
use std::time::Duration;

use pulsegate_sensors::{Source, SourceId};

use super::{AlertState, Counts, RuleSpec, Transition};
use crate::reading::Value;
use crate::time::Wall;

/// Where decisions go. Without `out` nothing is decided: a rebuild remembers, and what it sees was
/// decided before.
#[derive(Debug)]
pub(super) struct Sink<'a> {
    pub(super) out: Option<&'a mut Vec<Transition>>,
    pub(super) counts: &'a mut Counts,
}

/// What the condition was asked about.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub(super) value: Value,
    pub(super) window: Option<(Wall, Wall)>,
    pub(super) time: Wall,
}

#[derive(Debug, Clone)]
pub(super) struct Judge {
    rule: Arc<RuleSpec>,
    source: SourceId,
    /// Infinite where the rule has no threshold.
    above: f64,
    below: f64,
    raised: bool,
    last_raise: Option<Wall>,
    /// The condition holds, and a cool-down keeps it from being raised.
    held: Option<Finding>,
}

impl Judge {
    pub(super) fn new(rule: &Arc<RuleSpec>, source: &Source, id: SourceId) -> Self {
        let (above, below) = rule.thresholds(&source.name);
        Self {
            rule: Arc::clone(rule),
            source: id,
            above: above.unwrap_or(f64::INFINITY),
            below: below.unwrap_or(f64::NEG_INFINITY),
            raised: false,
            last_raise: None,
            held: None,
        }
    }

    /// Takes over what the store knows of this alert.
    pub(super) fn resume(&mut self, state: AlertState, time: Wall) {
        self.raised = state == AlertState::Raised;
        if self.raised {
            self.last_raise = Some(time);
        }
    }

    pub(super) fn rule(&self) -> &RuleSpec {
        &self.rule
    }

    /// Whether the condition holds for a value; `None` if it says nothing about such a value.
    pub(super) fn holds(&self, value: &Value) -> Option<bool> {
        match (value, &self.rule.condition.is) {
            (Value::Number(number), None) => Some(*number > self.above || *number < self.below),
            (Value::State(state), Some(is)) => Some(state == is),
            (Value::Number(_), Some(_)) | (Value::State(_), None) => None,
        }
    }

    /// Decides on a finding; `find` is asked for it only if it makes a difference.
    pub(super) fn decide(
        &mut self,
        holds: bool,
        find: impl FnOnce() -> Finding,
        sink: &mut Sink<'_>,
    ) {
        match (self.raised, holds) {
            (true, true) => {}
            (false, false) => self.held = None,
            (true, false) => {
                if let Some(out) = &mut sink.out {
                    self.raised = false;
                    out.push(self.transition(AlertState::Cleared, find()));
                }
            }
            (false, true) => self.rise(find(), sink),
        }
    }

    /// Raises what a cool-down held back, if that ended by `time`.
    pub(super) fn release(&mut self, time: Wall, sink: &mut Sink<'_>) {
        if let Some(end) = self.released_at()
            && end <= time
            && let Some(held) = self.held.take()
        {
            self.rise(Finding { time: end, ..held }, sink);
        }
    }

    /// When what is held back can be raised.
    pub(super) fn released_at(&self) -> Option<Wall> {
        let held = self.held.as_ref()?;
        Some(self.cooling_until(held.time).unwrap_or(held.time))
    }

    pub(super) fn is_raised(&self) -> bool {
        self.raised
    }

    pub(super) fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    fn rise(&mut self, finding: Finding, sink: &mut Sink<'_>) {
        let cooling = self.cooling_until(finding.time).is_some();
        let Some(out) = &mut sink.out else {
            self.held.get_or_insert(finding);
            return;
        };
        if cooling {
            if self.held.is_none() {
                sink.counts.suppressed += 1;
            }
            self.held.get_or_insert(finding);
            return;
        }
        self.raised = true;
        self.last_raise = Some(finding.time);
        self.held = None;
        out.push(self.transition(AlertState::Raised, finding));
    }

    /// The end of the cool-down that `time` lies in. A raise that lies ahead cools nothing: the
    /// source's time was set back since.
    fn cooling_until(&self, time: Wall) -> Option<Wall> {
        let every = self.rule.at_most_every.filter(|every| *every > Duration::ZERO)?;
        let last = self.last_raise.filter(|last| *last <= time)?;
        Some(last + every).filter(|end| time < *end)
    }

    fn transition(&self, state: AlertState, finding: Finding) -> Transition {
        let Finding { value, window, time } = finding;
        Transition { rule: Arc::clone(&self.rule), source: self.source, state, value, window, time }
    }
}
