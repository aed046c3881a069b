//! The conditions `all` and `any`: the newest readings of several sources together.
//!
//! Evaluates on each reading at once, with the newest reading of each member by event time. `all`
//! begins to hold if the newest readings of all members hold and lie `within` of each other. A
//! raised alert is cleared only by a reading against the condition, not by a later repetition of a
//! reading. The alert names the first member with a holding reading, and has the value of the same
//! member.

use std::time::Duration;

use pulsegate_sensors::SourceId;

use super::judge::{Judge, RuleFinding, TransitionSink};
use super::{Condition, RuleSpec};
use crate::record::reading::Value;
use crate::time::Wall;

#[derive(Debug, Clone)]
pub(super) struct Combination {
    all: bool,
    within: Duration,
    /// The newest reading of each member, by member index.
    newest: Vec<Option<MemberReading>>,
}

#[derive(Debug, Clone)]
struct MemberReading {
    source: SourceId,
    event: Wall,
    value: Value,
    holds: bool,
}

impl Combination {
    pub(super) fn new(rule: &RuleSpec) -> Self {
        let (all, within) = match &rule.condition {
            Condition::All { within, .. } => (true, *within),
            Condition::Any { .. }
            | Condition::Reading(_)
            | Condition::Silent { .. }
            | Condition::Anomaly { .. } => (false, None),
        };
        let newest = vec![None; rule.members().unwrap_or_default().len()];
        Self { all, within: within.unwrap_or(Duration::MAX), newest }
    }

    /// Takes a reading of the member with index `member`.
    pub(super) fn judge_member(
        &mut self,
        (member, source): (usize, SourceId),
        event: Wall,
        value: &Value,
        judge: &mut Judge,
        sink: &mut TransitionSink<'_>,
    ) {
        let test = judge.rule().members().and_then(|members| members.get(member));
        let Some(holds) = test.and_then(|member| member.test.holds_for(value)) else { return };
        let newest = &mut self.newest[member];
        if newest.as_ref().is_some_and(|newest| event < newest.event) {
            sink.counts.late += 1;
            return;
        }
        *newest = Some(MemberReading { source, event, value: value.clone(), holds });
        let time = self.known_members().map(|told| told.event).max().unwrap_or(event);
        judge.release_pending(time, sink);
        let held = judge.is_raised() || judge.is_pending();
        let holds = if held { self.goes_on(judge) } else { self.begins_to_hold() };
        if !held {
            let first = self.known_members().find(|told| told.holds);
            judge.speak_for(first.map_or(source, |told| told.source));
        }
        let own = self.known_members().find(|told| told.source == judge.alert_source());
        let value = own.map_or(value, |told| &told.value).clone();
        judge.apply_finding(holds, || RuleFinding::new(value, time), sink);
    }

    pub(super) fn forget_members(&mut self) {
        self.newest.fill(None);
    }

    fn known_members(&self) -> impl Iterator<Item = &MemberReading> {
        self.newest.iter().flatten()
    }

    /// Returns `true` if the condition begins to hold.
    fn begins_to_hold(&self) -> bool {
        if !self.all {
            return self.known_members().any(|told| told.holds);
        }
        let events = || self.known_members().map(|told| told.event);
        let apart = events().min().zip(events().max()).map(|(first, last)| last.since(first));
        self.newest.iter().all(|told| told.as_ref().is_some_and(|told| told.holds))
            && apart.is_some_and(|apart| apart <= self.within)
    }

    /// Returns `true` if a raised or pending condition still holds. A member may be unknown after a
    /// restart; a raised alert then stays until a reading against the condition.
    fn goes_on(&self, judge: &Judge) -> bool {
        if self.all {
            return self.known_members().all(|told| told.holds);
        }
        let known = self.known_members().any(|told| told.source == judge.alert_source());
        !known || self.known_members().any(|told| told.holds)
    }
}
