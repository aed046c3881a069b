//! The present state for outputs and cameras: raised alerts, visits under way, and the brightness.
//!
//! Outputs and cameras receive the complete state at each change, and compare the new state with
//! the last one seen. A missed state loses a step of a count, but neither a beginning nor an end.
//! After a start, the state is as before the start, without any trigger. This module knows neither
//! lines nor cameras.

use std::collections::{BTreeMap, BTreeSet};

use pulsegate_sensors::SourceId;

use crate::rules::{Action, AlertState, RuleSpec, Transition};
use crate::time::Mono;
use crate::visits::{Moment, Visit};

/// The present state: raised alerts, visits and brightness.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Standing {
    /// The raised alerts.
    pub alerts: Alerts,
    /// The visit under way, or else the last visit, by source.
    visits: BTreeMap<Box<str>, VisitNow>,
    /// The newest brightness, and the time of its arrival.
    pub light: Option<(f64, Mono)>,
    /// The visits under way at the start of the agent, once known. Their beginnings and earlier
    /// openings trigger nothing, because both happened before the start.
    remembered: Option<BTreeMap<Box<str>, VisitNow>>,
}

/// The raised alerts of rules that drive an output or a camera.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alerts {
    /// The raised alerts, by rule and source.
    raised: BTreeSet<(Box<str>, SourceId)>,
    /// The number of raises since the start of the agent and the source of the last raise, by rule.
    raises: BTreeMap<Box<str>, (u64, SourceId)>,
}

/// The visit under way at a source, or else the last visit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct VisitNow {
    id: Box<str>,
    openings: u32,
    is_over: bool,
}

/// The cause of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActionCause {
    /// The rule with this name.
    Rule(Box<str>),
    /// The visits to the source with this id.
    Visit(Box<str>),
}

/// A trigger of actions: a difference between two states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActionTrigger {
    /// A rule was raised.
    Raised {
        /// The name of the rule.
        rule: Box<str>,
        /// The source named by the alert.
        source: SourceId,
    },
    /// A visit began, went on with an opening, or ended.
    Visit {
        /// The id of the source.
        source: Box<str>,
        /// The id of the visit.
        visit: Box<str>,
        /// The beginning, an opening, or the end.
        moment: Moment,
    },
}

impl ActionTrigger {
    /// Returns `true` if `cause` is the cause of this trigger.
    #[must_use]
    pub fn is_of(&self, cause: &ActionCause) -> bool {
        match (self, cause) {
            (Self::Raised { rule, .. }, ActionCause::Rule(name)) => rule == name,
            (Self::Visit { source, .. }, ActionCause::Visit(name)) => source == name,
            (Self::Raised { .. }, ActionCause::Visit(_))
            | (Self::Visit { .. }, ActionCause::Rule(_)) => false,
        }
    }
}

impl Alerts {
    /// Replaces the raised alerts by `raised`, the alerts of the rules after a rebuild.
    pub fn restore_raised<'a>(&mut self, raised: impl Iterator<Item = (&'a RuleSpec, SourceId)>) {
        let acting = raised.filter(|(rule, _)| has_local_action(rule));
        self.raised = acting.map(|(rule, source)| (rule.name.clone(), source)).collect();
    }

    /// Takes a transition. Returns `true` if the rule drives an output or a camera.
    pub fn apply_transition(&mut self, transition: &Transition) -> bool {
        if !has_local_action(&transition.rule) {
            return false;
        }
        let (rule, source) = (transition.rule.name.clone(), transition.source);
        match transition.state {
            AlertState::Raised => {
                let raises = self.raises.entry(rule.clone()).or_insert((0, source));
                *raises = (raises.0 + 1, source);
                self.raised.insert((rule, source));
            }
            AlertState::Cleared => {
                self.raised.remove(&(rule, source));
            }
        }
        true
    }
}

impl Standing {
    /// Takes the visits under way at the start of the agent.
    pub fn restore_visits(&mut self, under_way: impl Iterator<Item = Visit>) {
        self.update_visits(under_way);
        self.remembered = Some(self.visits.clone());
    }

    /// Replaces the visits under way; all other visits are over. Returns `true` if any visit
    /// changed.
    pub fn update_visits(&mut self, under_way: impl Iterator<Item = Visit>) -> bool {
        let mut visits = self.visits.clone();
        visits.values_mut().for_each(|visit| visit.is_over = true);
        for visit in under_way {
            let now = VisitNow { id: visit.id(), openings: visit.openings, is_over: false };
            visits.insert(visit.spec.source.clone(), now);
        }
        let changed = visits != self.visits;
        self.visits = visits;
        changed
    }

    /// Returns the number of raised alerts of a rule, or the openings of the visit under way at a
    /// source.
    #[must_use]
    pub fn count_active(&self, cause: &ActionCause) -> u32 {
        match cause {
            ActionCause::Rule(name) => {
                let of_rule = self.alerts.raised.iter().filter(|(rule, _)| rule == name).count();
                u32::try_from(of_rule).unwrap_or(u32::MAX)
            }
            ActionCause::Visit(source) => {
                let visit = self.visits.get(source).filter(|visit| !visit.is_over);
                visit.map_or(0, |visit| visit.openings)
            }
        }
    }

    /// Returns the triggers since `before`; since the start of the agent, if `before` is older.
    /// Returns none until the visits at the start are known.
    #[must_use]
    pub fn triggers_since(&self, before: &Self) -> Vec<ActionTrigger> {
        let mut turns = Vec::new();
        let Some(remembered) = &self.remembered else { return turns };
        let visits = if before.remembered.is_some() { &before.visits } else { remembered };
        for (rule, (times, source)) in &self.alerts.raises {
            let seen = before.alerts.raises.get(rule).map_or(0, |(times, _)| *times);
            if *times > seen {
                turns.push(ActionTrigger::Raised { rule: rule.clone(), source: *source });
            }
        }
        for (source, visit) in &self.visits {
            visit.push_triggers(visits.get(source), source, &mut turns);
        }
        turns
    }
}

impl VisitNow {
    fn push_triggers(&self, before: Option<&Self>, source: &str, turns: &mut Vec<ActionTrigger>) {
        let mut put = |visit: &Self, moment| {
            turns.push(ActionTrigger::Visit {
                source: source.into(),
                visit: visit.id.clone(),
                moment,
            });
        };
        let same = before.filter(|before| before.id == self.id);
        if let Some(before) = before.filter(|before| same.is_none() && !before.is_over) {
            put(before, Moment::End);
        }
        if same.is_none() {
            put(self, Moment::Begin);
        }
        if same.is_none_or(|before| before.openings < self.openings) {
            put(self, Moment::Opening);
        }
        if self.is_over && same.is_none_or(|before| !before.is_over) {
            put(self, Moment::End);
        }
    }
}

/// Returns `true` if the rule drives an output or a camera.
fn has_local_action(rule: &RuleSpec) -> bool {
    rule.then.iter().any(|action| match action {
        Action::Capture(_) | Action::Output(..) => true,
        Action::Alert | Action::Record(_) => false,
    })
}

#[cfg(test)]
mod tests;
