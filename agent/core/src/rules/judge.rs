//! From findings to transitions, for one rule and one source.
//!
//! An alert is raised when the condition comes to hold and cleared when it ceases to; in between
//! nothing is repeated. Either turn may have to wait: a raise for `for` and for the cool-down of
//! `at_most_every`, a clear for the `for` of `clear`. If what would turn it lasts that long, it
//! turns then; if not, nothing is heard of it.

use std::sync::Arc;
use std::time::Duration;

use pulsegate_sensors::SourceId;

use super::flapping::{Arrival, Damper, Flap, Report};
use super::{
    Action, AlertState, Asked, Counts, KernelBoot, PastAlert, Range, RuleSpec, Test, Transition,
};
use crate::record::reading::Value;
use crate::time::{Mono, Wall};

/// Where decisions go. Without `out` nothing is decided: a rebuild remembers, and what it sees was
/// decided before.
#[derive(Debug)]
pub(super) struct Sink<'a> {
    /// When this is decided.
    pub(super) now: Arrival,
    pub(super) out: Option<&'a mut Vec<Transition>>,
    pub(super) counts: &'a mut Counts,
    pub(super) flaps: &'a mut Vec<Flap>,
    pub(super) trace: Option<&'a mut Trace>,
}

/// What one rule was asked about.
#[derive(Debug, Clone)]
pub(super) struct Trace {
    pub(super) rule: Box<str>,
    pub(super) asked: Vec<Asked>,
}

/// What the condition was asked about.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub(super) value: Value,
    /// How unlike those before it is, if that was asked.
    pub(super) score: Option<f64>,
    pub(super) window: Option<(Wall, Wall)>,
    pub(super) time: Wall,
}

impl Finding {
    pub(super) fn new(value: Value, time: Wall) -> Self {
        Self { value, score: None, window: None, time }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Judge {
    rule: Arc<RuleSpec>,
    source: SourceId,
    /// What raises.
    range: Range,
    raised: bool,
    last_raise: Option<Wall>,
    /// When it was last raised or cleared.
    turned: Option<Wall>,
    /// The first finding of those that would turn it, but have to last.
    pending: Option<Finding>,
    damper: Damper,
}

impl Judge {
    /// Judges the numbers of a source by `range`.
    pub(super) fn new(rule: &Arc<RuleSpec>, range: Range, source: SourceId) -> Self {
        let rule = Arc::clone(rule);
        Self {
            rule,
            source,
            range,
            raised: false,
            last_raise: None,
            turned: None,
            pending: None,
            damper: Damper::default(),
        }
    }

    /// Takes over what the store knows of this alert.
    pub(super) fn resume(&mut self, alert: &PastAlert<'_>) {
        self.raised = alert.state == AlertState::Raised;
        self.source = alert.source;
        self.turned = self.turned.max(Some(alert.time));
        self.damper.resume(alert.state, alert.time, alert.arrival);
        if self.raised {
            self.last_raise = Some(alert.time);
        }
    }

    pub(super) fn rule(&self) -> &Arc<RuleSpec> {
        &self.rule
    }

    /// Whether the condition holds for a value, or while it is raised, still does; `None` if it
    /// says nothing about such a value.
    pub(super) fn holds(&self, value: &Value) -> Option<bool> {
        match (value, self.rule.test()?) {
            (Value::Number(number), Test::Outside(_)) if self.raised => {
                Some(self.rule.clear.keeps(*number, self.range))
            }
            (Value::Number(number), Test::Outside(_)) => Some(self.range.excludes(*number)),
            (_, test) => test.holds(value),
        }
    }

    /// Decides on a finding; `find` is asked for it only if it makes a difference.
    pub(super) fn decide(
        &mut self,
        holds: bool,
        find: impl FnOnce() -> Finding,
        sink: &mut Sink<'_>,
    ) {
        if let Some(trace) = sink.trace.as_mut().filter(|trace| trace.rule == self.rule.name) {
            let finding = find();
            trace.asked.push(Asked {
                source: self.source,
                value: finding.value.clone(),
                score: finding.score,
                time: finding.time,
                holds,
            });
            return self.decide_on(holds, || finding, sink);
        }
        self.decide_on(holds, find, sink);
    }

    fn decide_on(&mut self, holds: bool, find: impl FnOnce() -> Finding, sink: &mut Sink<'_>) {
        if holds == self.raised {
            self.pending = None;
            return;
        }
        let finding = find();
        let is_new = self.pending.is_none();
        let since = self.pending.get_or_insert_with(|| finding.clone()).time;
        if self.turn_of(since) <= finding.time {
            self.turn(finding, sink);
        } else if is_new && self.cooling_until(since).is_some() && sink.out.is_some() {
            sink.counts.suppressed += 1;
        }
    }

    /// Turns what had to last until `time` or less, and lasted.
    pub(super) fn release(&mut self, time: Wall, sink: &mut Sink<'_>) {
        if let Some(turn) = self.turns_at().filter(|turn| *turn <= time)
            && let Some(pending) = self.pending.clone()
        {
            self.turn(Finding { time: turn, ..pending }, sink);
        }
    }

    /// What has to last begins anew.
    pub(super) fn lapse(&mut self) {
        self.pending = None;
    }

    /// A turn that would have to last from before the last transition is given up.
    pub(super) fn lapse_before_turned(&mut self) {
        let turned = self.turned;
        self.pending.take_if(|pending| turned > Some(pending.time));
    }

    /// When what has to last has lasted.
    pub(super) fn turns_at(&self) -> Option<Wall> {
        self.pending.as_ref().map(|pending| self.turn_of(pending.time))
    }

    /// When it was last raised or cleared.
    pub(super) fn turned(&self) -> Option<Wall> {
        self.turned
    }

    /// The source's time was set back: what it did after `time` says nothing of what is to come.
    pub(super) fn forget_after(&mut self, time: Wall) {
        self.turned = self.turned.filter(|turned| *turned <= time);
        self.damper.forget_after(time);
    }

    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    pub(super) fn source(&self) -> SourceId {
        self.source
    }

    /// Says in whose name it is raised, where a rule looks at several sources.
    pub(super) fn speak_for(&mut self, source: SourceId) {
        self.source = source;
    }

    pub(super) fn is_raised(&self) -> bool {
        self.raised
    }

    /// When it turns if what would turn it lasts from `since` on.
    fn turn_of(&self, since: Wall) -> Wall {
        if self.raised {
            return since + self.rule.clear.hold_for;
        }
        let held = since + self.rule.hold_for;
        self.cooling_until(held).unwrap_or(held)
    }

    /// While nothing is decided, what would turn it stays pending.
    fn turn(&mut self, finding: Finding, sink: &mut Sink<'_>) {
        if sink.out.is_none() {
            return;
        }
        // So that it makes no difference whether time passed in between.
        self.catch_up(finding.time, sink);
        self.pending = None;
        self.raised = !self.raised;
        self.turned = Some(finding.time);
        let state = if self.raised { AlertState::Raised } else { AlertState::Cleared };
        if self.raised {
            self.last_raise = Some(finding.time);
        }
        let Finding { value, score, window, time } = finding;
        let (rule, source) = (Arc::clone(&self.rule), self.source);
        let report = Report::Now;
        let mut transition = Transition { rule, source, state, value, score, window, time, report };
        if self.tells() && !self.damper.tells(&transition, sink.now) {
            transition.report = Report::Held;
            sink.counts.flapping += 1;
            sink.flaps.extend(self.damper.begun(&transition));
        }
        if let Some(out) = &mut sink.out {
            out.push(transition);
        }
    }

    /// Whether alerts tell of what it decides.
    fn tells(&self) -> bool {
        self.rule.then.contains(&Action::Alert)
    }

    /// Tells what was held back and still is news, if there is room for it by `time`.
    pub(super) fn catch_up(&mut self, time: Wall, sink: &mut Sink<'_>) {
        let Some(out) = &mut sink.out else { return };
        let ended = self.damper.end(time, sink.now);
        sink.flaps.extend(ended.map(|suppressed| Flap {
            rule: Arc::clone(&self.rule),
            source: self.source,
            suppressed,
            is_over: true,
        }));
        out.extend(self.damper.pass(time, sink.now));
    }

    /// When [`Judge::catch_up`] is of use: event times, each with a monotonic time that must have come too.
    pub(super) fn catches_up_at(&self, boot: KernelBoot) -> impl Iterator<Item = (Wall, Mono)> {
        self.damper.due(boot)
    }

    /// The end of the cool-down that `time` lies in. A raise that lies ahead cools nothing: the
    /// source's time was set back since.
    fn cooling_until(&self, time: Wall) -> Option<Wall> {
        let every = self.rule.at_most_every.filter(|every| *every > Duration::ZERO)?;
        let last = self.last_raise.filter(|last| *last <= time)?;
        Some(last + every).filter(|end| !self.raised && time < *end)
    }
}
