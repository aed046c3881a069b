//! Outputs: lamps, buzzers, relays and displays that rules and visits switch.
//!
//! An output is on while anything wants it, for a moment when something happens, or shows a count:
//! how many alerts are raised, or the openings of the visit under way. What an output should be
//! follows from what stands ([`Standing`]) and nothing else, but for pulses; so it is right again
//! after a restart. One that is for the night only, or for the day, stays off as long as nobody
//! knows which of them it is.

mod night;

use std::time::Duration;

use crate::act::standing::{Cause, Standing, Turn};
use crate::rules::{Action, Drive, RuleSpec};
use crate::time::{Mono, Wall};
use crate::visits::{VisitAction, VisitSpec};
pub use night::{Hours, Light, Night, NightSpec, STALE_AFTER};

/// How often night is told from day anew while it makes a difference.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// An output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputSpec {
    /// Its id.
    pub id: Box<str>,
    /// The greatest number that it can show: 1 for a line. More is shown as that, not from 0 again.
    pub most: u32,
    /// When it may be on; always if absent.
    pub only: Option<Only>,
    /// How long a pulse is.
    pub pulse: Duration,
}

/// When an output may be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Only {
    /// By night.
    Night,
    /// By day.
    Day,
}

/// Every output, and what wants it.
#[derive(Debug, Clone)]
pub struct Outputs {
    outputs: Vec<Output>,
    night: Option<Night>,
}

#[derive(Debug, Clone)]
struct Output {
    spec: OutputSpec,
    wishes: Vec<(Cause, Drive)>,
    pulse_until: Option<Mono>,
}

/// What the outputs should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels {
    /// In the order of the specifications; 0 is off.
    pub values: Vec<u32>,
    /// When to ask again, if nothing happens before.
    pub due: Option<Mono>,
}

impl Outputs {
    /// Takes the outputs, and what rules and visits want of them.
    #[must_use]
    pub fn new(
        outputs: Vec<OutputSpec>,
        rules: &[RuleSpec],
        visits: &[VisitSpec],
        night: Option<NightSpec>,
    ) -> Self {
        let of_rules = rules.iter().flat_map(|rule| {
            rule.then.iter().filter_map(|action| match action {
                Action::Output(id, drive) => Some((id, Cause::Rule(rule.name.clone()), *drive)),
                Action::Alert | Action::Capture(_) | Action::Record(_) => None,
            })
        });
        let of_visits = visits.iter().flat_map(|visit| {
            visit.then.iter().filter_map(|action| match action {
                VisitAction::Output(id, drive) => {
                    Some((id, Cause::Visit(visit.source.clone()), *drive))
                }
                VisitAction::Capture(..) => None,
            })
        });
        let all: Vec<_> = of_rules.chain(of_visits).collect();
        let output = |spec: OutputSpec| {
            let own = all.iter().filter(|(id, ..)| **id == spec.id);
            let wishes = own.map(|(_, cause, drive)| (cause.clone(), *drive)).collect();
            Output { spec, wishes, pulse_until: None }
        };
        let outputs = outputs.into_iter().map(output).collect();
        Self { outputs, night: night.map(Night::new) }
    }

    /// Something happened: pulses begin.
    pub fn handle_turn(&mut self, turn: &Turn, now: Mono) {
        if matches!(turn, Turn::Visit { moment, .. } if *moment != crate::visits::Moment::Opening) {
            return;
        }
        for output in &mut self.outputs {
            let pulses =
                |(cause, drive): &(Cause, Drive)| *drive == Drive::Pulse && turn.is_of(cause);
            if output.wishes.iter().any(pulses) {
                output.pulse_until = Some(now + output.spec.pulse);
            }
        }
    }

    /// What the outputs should be. `wall` is the wall clock, if it can be believed.
    pub fn levels(&mut self, standing: &Standing, now: Mono, wall: Option<Wall>) -> Levels {
        let is_night = self.night.as_mut().and_then(|night| night.ask(standing.light, now, wall));
        let mut levels = Levels { values: Vec::new(), due: None };
        for output in &mut self.outputs {
            let wanted = output.wanted(standing, now);
            let mut due = output.pulse_until;
            if output.spec.only.is_some() && wanted > 0 {
                due = Some(due.map_or(now + LOOK_EVERY, |due| due.min(now + LOOK_EVERY)));
            }
            levels.due = levels.due.into_iter().chain(due).min();
            let may = match output.spec.only {
                None => true,
                Some(Only::Night) => is_night == Some(true),
                Some(Only::Day) => is_night == Some(false),
            };
            levels.values.push(if may { wanted } else { 0 });
        }
        levels
    }

    /// Whether it is night, as far as that was ever asked and is known.
    #[must_use]
    pub fn is_night(&self) -> Option<bool> {
        self.night.as_ref().and_then(Night::last)
    }
}

impl Output {
    /// Several that switch it make it on once; several counts add up.
    fn wanted(&mut self, standing: &Standing, now: Mono) -> u32 {
        self.pulse_until = self.pulse_until.filter(|until| now < *until);
        let (mut on, mut sum) = (u32::from(self.pulse_until.is_some()), 0_u32);
        for (cause, drive) in &self.wishes {
            match drive {
                Drive::On => on = on.max(standing.count(cause).min(1)),
                Drive::Count => sum = sum.saturating_add(standing.count(cause)),
                Drive::Pulse => {}
            }
        }
        on.max(sum).min(self.spec.most)
    }
}

#[cfg(test)]
mod tests;
