//! `all` and `any`: the newest readings of several sources together.
//!
//! It answers at once: the newest reading of each source counts, in whatever order they arrive. All
//! hold together if the readings by which they do are `within` of each other; an alert that is
//! raised is cleared only by a reading that says otherwise, not by one that repeats itself later.
//! The alert is in the name of the first member that holds, with the value of that one.

use std::time::Duration;

use pulsegate_sensors::SourceId;

use super::judge::{Finding, Judge, Sink};
use super::{Condition, RuleSpec};
use crate::record::reading::Value;
use crate::time::Wall;

#[derive(Debug, Clone)]
pub(super) struct Joint {
    all: bool,
    within: Duration,
    /// The newest reading of each member.
    newest: Vec<Option<Told>>,
}

#[derive(Debug, Clone)]
struct Told {
    source: SourceId,
    event: Wall,
    value: Value,
    holds: bool,
}

impl Joint {
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

    /// Takes a reading of the member number `member`.
    pub(super) fn take(
        &mut self,
        (member, source): (usize, SourceId),
        event: Wall,
        value: &Value,
        judge: &mut Judge,
        sink: &mut Sink<'_>,
    ) {
        let test = judge.rule().members().and_then(|members| members.get(member));
        let Some(holds) = test.and_then(|member| member.test.holds(value)) else { return };
        let newest = &mut self.newest[member];
        if newest.as_ref().is_some_and(|newest| event < newest.event) {
            sink.counts.late += 1;
            return;
        }
        *newest = Some(Told { source, event, value: value.clone(), holds });
        let time = self.known().map(|told| told.event).max().unwrap_or(event);
        judge.release(time, sink);
        let held = judge.is_raised() || judge.is_pending();
        let holds = if held { self.goes_on(judge) } else { self.holds() };
        if !held {
            let first = self.known().find(|told| told.holds);
            judge.speak_for(first.map_or(source, |told| told.source));
        }
        let own = self.known().find(|told| told.source == judge.source());
        let value = own.map_or(value, |told| &told.value).clone();
        judge.decide(holds, || Finding::new(value, time), sink);
    }

    pub(super) fn restart(&mut self) {
        self.newest.fill(None);
    }

    fn known(&self) -> impl Iterator<Item = &Told> {
        self.newest.iter().flatten()
    }

    /// Whether it comes to hold.
    fn holds(&self) -> bool {
        if !self.all {
            return self.known().any(|told| told.holds);
        }
        let events = || self.known().map(|told| told.event);
        let apart = events().min().zip(events().max()).map(|(first, last)| last.since(first));
        self.newest.iter().all(|told| told.as_ref().is_some_and(|told| told.holds))
            && apart.is_some_and(|apart| apart <= self.within)
    }

    /// Whether it still holds. After a restart a member may be unknown: what was raised holds
    /// until something speaks against it.
    fn goes_on(&self, judge: &Judge) -> bool {
        if self.all {
            return self.known().all(|told| told.holds);
        }
        let known = self.known().any(|told| told.source == judge.source());
        !known || self.known().any(|told| told.holds)
    }
}
