//! What stands at the moment: alerts that are raised, visits under way, how bright it is.
//!
//! Whoever acts on it is shown the whole, as often as it changes, and compares it with what he saw
//! before: a look that is missed loses a step of a count, and neither a beginning nor an end. After a
//! start it is as before, and nothing has happened yet. Nothing here knows of lines and cameras.

use std::collections::{BTreeMap, BTreeSet};

use pulsegate_sensors::SourceId;

use crate::rules::{Action, AlertState, RuleSpec, Transition};
use crate::time::Mono;
use crate::visits::{Moment, Visit};

/// See the module.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Standing {
    /// The alerts.
    pub alerts: Alerts,
    /// By source: the visit under way, or the last.
    visits: BTreeMap<Box<str>, VisitNow>,
    /// The newest reading of the source that tells night from day, and when it came.
    pub light: Option<(f64, Mono)>,
    /// The visits that were under way when the agent started, once that is known: what stands at the
    /// start has not just happened.
    remembered: Option<BTreeMap<Box<str>, VisitNow>>,
}

/// The alerts that are raised, of rules that do more than tell of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alerts {
    /// By rule and source.
    raised: BTreeSet<(Box<str>, SourceId)>,
    /// By rule: how often it was raised since the agent started, and for which source last.
    raises: BTreeMap<Box<str>, (u64, SourceId)>,
}

/// The visit of a source that is under way, or was the last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct VisitNow {
    id: Box<str>,
    openings: u32,
    is_over: bool,
}

/// What makes something happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// A rule, by its name.
    Rule(Box<str>),
    /// The visits to a source, by its id.
    Visit(Box<str>),
}

/// What happened between two looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// A rule was raised.
    Raised {
        /// Its name.
        rule: Box<str>,
        /// In whose name.
        source: SourceId,
    },
    /// A visit began, went on with an opening, or ended.
    Visit {
        /// The id of its source.
        source: Box<str>,
        /// Its own.
        visit: Box<str>,
        /// Which of them.
        moment: Moment,
    },
}

impl Turn {
    /// What made it happen.
    #[must_use]
    pub fn is_of(&self, cause: &Cause) -> bool {
        match (self, cause) {
            (Self::Raised { rule, .. }, Cause::Rule(name)) => rule == name,
            (Self::Visit { source, .. }, Cause::Visit(name)) => source == name,
            (Self::Raised { .. }, Cause::Visit(_)) | (Self::Visit { .. }, Cause::Rule(_)) => false,
        }
    }
}

impl Alerts {
    /// Takes over what the rules remember after a start, in the place of what was raised.
    pub fn resume<'a>(&mut self, raised: impl Iterator<Item = (&'a RuleSpec, SourceId)>) {
        let acting = raised.filter(|(rule, _)| acts(rule));
        self.raised = acting.map(|(rule, source)| (rule.name.clone(), source)).collect();
    }

    /// Takes a transition. Returns whether it makes a difference.
    pub fn take(&mut self, transition: &Transition) -> bool {
        if !acts(&transition.rule) {
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
    /// Takes the visits that were under way when the agent started.
    pub fn begin(&mut self, under_way: impl Iterator<Item = Visit>) {
        self.take_visits(under_way);
        self.remembered = Some(self.visits.clone());
    }

    /// Takes the visits that are under way. Returns whether they make a difference.
    pub fn take_visits(&mut self, under_way: impl Iterator<Item = Visit>) -> bool {
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

    /// How many alerts of a rule are raised, or how many openings the visit under way has.
    #[must_use]
    pub fn count(&self, cause: &Cause) -> u32 {
        match cause {
            Cause::Rule(name) => {
                let of_rule = self.alerts.raised.iter().filter(|(rule, _)| rule == name).count();
                u32::try_from(of_rule).unwrap_or(u32::MAX)
            }
            Cause::Visit(source) => {
                let visit = self.visits.get(source).filter(|visit| !visit.is_over);
                visit.map_or(0, |visit| visit.openings)
            }
        }
    }

    /// What happened since it was as `before`; since the start, if that was before it.
    #[must_use]
    pub fn since(&self, before: &Self) -> Vec<Turn> {
        let mut turns = Vec::new();
        let Some(remembered) = &self.remembered else { return turns };
        let visits = if before.remembered.is_some() { &before.visits } else { remembered };
        for (rule, (times, source)) in &self.alerts.raises {
            let seen = before.alerts.raises.get(rule).map_or(0, |(times, _)| *times);
            if *times > seen {
                turns.push(Turn::Raised { rule: rule.clone(), source: *source });
            }
        }
        for (source, visit) in &self.visits {
            visit.since(visits.get(source), source, &mut turns);
        }
        turns
    }
}

impl VisitNow {
    fn since(&self, before: Option<&Self>, source: &str, turns: &mut Vec<Turn>) {
        let mut put = |visit: &Self, moment| {
            turns.push(Turn::Visit { source: source.into(), visit: visit.id.clone(), moment });
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

/// Whether a rule does more than tell of itself.
fn acts(rule: &RuleSpec) -> bool {
    rule.then.iter().any(|action| match action {
        Action::Capture(_) | Action::Output(..) => true,
        Action::Alert | Action::Record(_) => false,
    })
}

#[cfg(test)]
mod tests;
