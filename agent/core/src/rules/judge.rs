//! Turns findings into transitions, for one rule and one source.
//!
//! An alert is raised as the condition begins to hold, and cleared as the condition ceases to hold;
//! nothing is repeated in between. Either transition may have to wait: a raise for `for` and for
//! the cool-down of `at_most_every`, a clear for the `for` of `clear`. If the condition lasts until
//! the end of the wait, the transition happens then; otherwise there is no transition.

use std::sync::Arc;
use std::time::Duration;

use pulsegate_sensors::SourceId;

use super::flapping::{ArrivalTime, Damper, Flap, Publication};
use super::{
    Action, AlertState, Evaluation, KernelBoot, PastAlert, Range, RuleCounts, RuleSpec, Test,
    Transition,
};
use crate::record::reading::Value;
use crate::time::{Mono, Wall};

/// The destination of decisions. If `out` is `None`, as in a rebuild, nothing is decided: all
/// decisions on these readings were made before.
#[derive(Debug)]
pub(super) struct TransitionSink<'a> {
    /// The arrival time of the decision.
    pub(super) now: ArrivalTime,
    pub(super) out: Option<&'a mut Vec<Transition>>,
    pub(super) counts: &'a mut RuleCounts,
    pub(super) flaps: &'a mut Vec<Flap>,
    pub(super) trace: Option<&'a mut Trace>,
}

/// The recorded evaluations of one rule.
#[derive(Debug, Clone)]
pub(super) struct Trace {
    pub(super) rule: Box<str>,
    pub(super) asked: Vec<Evaluation>,
}

/// A value for the condition to be evaluated on.
#[derive(Debug, Clone)]
pub(super) struct RuleFinding {
    pub(super) value: Value,
    /// The anomaly score, if the condition has a score.
    pub(super) score: Option<f64>,
    pub(super) window: Option<(Wall, Wall)>,
    pub(super) time: Wall,
}

impl RuleFinding {
    pub(super) fn new(value: Value, time: Wall) -> Self {
        Self { value, score: None, window: None, time }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Judge {
    rule: Arc<RuleSpec>,
    source: SourceId,
    /// The range whose outside raises an alert.
    range: Range,
    raised: bool,
    last_raise: Option<Wall>,
    /// The event time of the last transition.
    turned: Option<Wall>,
    /// The first finding in favour of the next transition, while the transition waits. Boxed, since
    /// it is rare and each rule has a judge for each source.
    pending: Option<Box<RuleFinding>>,
    damper: Damper,
}

impl Judge {
    /// Creates the judge of `rule` for `source`, with `range` for numbers.
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

    /// Takes over a stored alert, at a rebuild.
    pub(super) fn restore_alert(&mut self, alert: &PastAlert<'_>) {
        self.raised = alert.state == AlertState::Raised;
        self.source = alert.source;
        self.turned = self.turned.max(Some(alert.time));
        self.damper.restore_published(alert.state, alert.time, alert.arrival);
        if self.raised {
            self.last_raise = Some(alert.time);
        }
    }

    pub(super) fn rule(&self) -> &Arc<RuleSpec> {
        &self.rule
    }

    /// Returns `true` if the condition holds for `value`, or, of a raised alert, still holds;
    /// `None` if the condition does not apply to the type of `value`.
    pub(super) fn condition_holds(&self, value: &Value) -> Option<bool> {
        match (value, self.rule.test()?) {
            (Value::Number(number), Test::Outside(_)) if self.raised => {
                Some(self.rule.clear.keeps_raised(*number, self.range))
            }
            (Value::Number(number), Test::Outside(_)) => Some(self.range.excludes_number(*number)),
            (_, test) => test.holds_for(value),
        }
    }

    /// Decides on a finding. Calls `find` only if the finding makes a difference.
    pub(super) fn apply_finding(
        &mut self,
        holds: bool,
        find: impl FnOnce() -> RuleFinding,
        sink: &mut TransitionSink<'_>,
    ) {
        if let Some(trace) = sink.trace.as_mut().filter(|trace| trace.rule == self.rule.name) {
            let finding = find();
            trace.asked.push(Evaluation {
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

    fn decide_on(
        &mut self,
        holds: bool,
        find: impl FnOnce() -> RuleFinding,
        sink: &mut TransitionSink<'_>,
    ) {
        if holds == self.raised {
            self.pending = None;
            return;
        }
        let finding = find();
        let is_new = self.pending.is_none();
        let since = self.pending.get_or_insert_with(|| Box::new(finding.clone())).time;
        if self.transition_time(since) <= finding.time {
            self.make_transition(finding, sink);
        } else if is_new && self.cooling_until(since).is_some() && sink.out.is_some() {
            sink.counts.suppressed += 1;
        }
    }

    /// Makes the pending transition, if its wait ended by `time`.
    pub(super) fn release_pending(&mut self, time: Wall, sink: &mut TransitionSink<'_>) {
        if let Some(turn) = self.pending_until().filter(|turn| *turn <= time)
            && let Some(pending) = self.pending.clone()
        {
            self.make_transition(RuleFinding { time: turn, ..*pending }, sink);
        }
    }

    /// Gives up the pending transition. The wait starts again with the next finding.
    pub(super) fn drop_pending(&mut self) {
        self.pending = None;
    }

    /// Gives up a pending transition whose wait began before the last transition.
    pub(super) fn drop_outdated_pending(&mut self) {
        let turned = self.turned;
        self.pending.take_if(|pending| turned > Some(pending.time));
    }

    /// Returns the end of the wait of the pending transition.
    pub(super) fn pending_until(&self) -> Option<Wall> {
        self.pending.as_ref().map(|pending| self.transition_time(pending.time))
    }

    /// Returns the event time of the last transition.
    pub(super) fn last_transition_time(&self) -> Option<Wall> {
        self.turned
    }

    /// Drops event times after `time`, because the clock of the source was set back.
    pub(super) fn forget_after(&mut self, time: Wall) {
        self.turned = self.turned.filter(|turned| *turned <= time);
        self.damper.forget_after(time);
    }

    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    pub(super) fn alert_source(&self) -> SourceId {
        self.source
    }

    /// Sets the source named by the alert, for a rule over several sources.
    pub(super) fn speak_for(&mut self, source: SourceId) {
        self.source = source;
    }

    pub(super) fn is_raised(&self) -> bool {
        self.raised
    }

    /// Returns the time of the next transition, if the condition lasts from `since` on.
    fn transition_time(&self, since: Wall) -> Wall {
        if self.raised {
            return since + self.rule.clear.hold_for;
        }
        let held = since + self.rule.hold_for;
        self.cooling_until(held).unwrap_or(held)
    }

    /// Makes the next transition. Without `out`, leaves the transition pending.
    fn make_transition(&mut self, finding: RuleFinding, sink: &mut TransitionSink<'_>) {
        if sink.out.is_none() {
            return;
        }
        // Publish a held-back alert first, so that a tick in between makes no difference.
        self.catch_up(finding.time, sink);
        self.pending = None;
        self.raised = !self.raised;
        self.turned = Some(finding.time);
        let state = if self.raised { AlertState::Raised } else { AlertState::Cleared };
        if self.raised {
            self.last_raise = Some(finding.time);
        }
        let RuleFinding { value, score, window, time } = finding;
        let (rule, source) = (Arc::clone(&self.rule), self.source);
        let report = Publication::Now;
        let mut transition = Transition { rule, source, state, value, score, window, time, report };
        if self.publishes_alerts() && !self.damper.admit_alert(&transition, sink.now) {
            transition.report = Publication::Held;
            sink.counts.flapping += 1;
            sink.flaps.extend(self.damper.flap_begun_by(&transition));
        }
        if let Some(out) = &mut sink.out {
            out.push(transition);
        }
    }

    /// Returns `true` if the rule publishes alerts.
    fn publishes_alerts(&self) -> bool {
        self.rule.then.contains(&Action::Alert)
    }

    /// Publishes the held-back alert, if there is room by `time` and the state is still news.
    pub(super) fn catch_up(&mut self, time: Wall, sink: &mut TransitionSink<'_>) {
        let Some(out) = &mut sink.out else { return };
        let ended = self.damper.end_flapping(time, sink.now);
        sink.flaps.extend(ended.map(|suppressed| Flap {
            rule: Arc::clone(&self.rule),
            source: self.source,
            suppressed,
            is_over: true,
        }));
        out.extend(self.damper.release_held(time, sink.now));
    }

    /// Returns the deadlines of [`Judge::catch_up`]. Each deadline is an event time and a monotonic
    /// time; both must be reached.
    pub(super) fn catches_up_at(&self, boot: KernelBoot) -> impl Iterator<Item = (Wall, Mono)> {
        self.damper.list_deadlines(boot)
    }

    /// Returns the end of the cool-down around `time`. A last raise later than `time` cools
    /// nothing: the clock of the source was set back since.
    fn cooling_until(&self, time: Wall) -> Option<Wall> {
        let every = self.rule.at_most_every.filter(|every| *every > Duration::ZERO)?;
        let last = self.last_raise.filter(|last| *last <= time)?;
        Some(last + every).filter(|end| !self.raised && time < *end)
    }
}
