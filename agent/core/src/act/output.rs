//! Outputs: lamps, buzzers, relays and displays that rules and visits switch.
//!
//! An output is on during an alert or a visit, pulses at a trigger, or shows a count: the number of
//! raised alerts, or the openings of the visit under way. The level of an output, pulses aside,
//! follows from the [`Standing`] alone, so the level is correct after a restart. An output limited
//! to the night or to the day stays off while night and day cannot be told apart.

mod night;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::act::standing::{ActionCause, ActionTrigger, Standing};
use crate::rules::{Action, Drive, RuleSpec};
use crate::time::{Mono, Wall};
use crate::visits::{VisitAction, VisitSpec};
pub use night::{Hours, Light, NightJudge, NightSpec, STALE_AFTER};

/// The interval at which night is told from day again, while an output depends on the answer.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The specification of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputSpec {
    /// The id of the output.
    pub id: Box<str>,
    /// The greatest number on the output: 1 for a line. A greater number is shown as `most`.
    pub most: u32,
    /// The part of the day in which the output may be on; `None` allows both.
    pub only: Option<Only>,
    /// The length of a pulse.
    pub pulse: Duration,
}

/// The part of the day in which an output may be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Only {
    /// By night, as `[night]` decides.
    Night,
    /// By day, as `[night]` decides.
    Day,
}

/// All outputs, each with the rules and visits that drive the output.
#[derive(Debug, Clone)]
pub struct Outputs {
    outputs: Vec<DrivenOutput>,
    night: Option<NightJudge>,
}

#[derive(Debug, Clone)]
struct DrivenOutput {
    spec: OutputSpec,
    wishes: Vec<(ActionCause, Drive)>,
    pulse_until: Option<Mono>,
}

/// The levels to which the outputs must be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels {
    /// The levels in the order of the specifications; 0 is off.
    pub values: Vec<u32>,
    /// The time at which the levels may change without any trigger.
    pub due: Option<Mono>,
}

impl Outputs {
    /// Creates the outputs, driven by the actions of `rules` and `visits`.
    #[must_use]
    pub fn new(
        outputs: Vec<OutputSpec>,
        rules: &[RuleSpec],
        visits: &[VisitSpec],
        night: Option<NightSpec>,
    ) -> Self {
        let of_rules = rules.iter().flat_map(|rule| {
            rule.then.iter().filter_map(|action| match action {
                Action::Output(id, drive) => {
                    Some((id, ActionCause::Rule(rule.name.clone()), *drive))
                }
                Action::Alert | Action::Capture(_) | Action::Record(_) => None,
            })
        });
        let of_visits = visits.iter().flat_map(|visit| {
            visit.then.iter().filter_map(|action| match action {
                VisitAction::Output(id, drive) => {
                    Some((id, ActionCause::Visit(visit.source.clone()), *drive))
                }
                VisitAction::Capture(..) => None,
            })
        });
        let all: Vec<_> = of_rules.chain(of_visits).collect();
        let output = |spec: OutputSpec| {
            let own = all.iter().filter(|(id, ..)| **id == spec.id);
            let wishes = own.map(|(_, cause, drive)| (cause.clone(), *drive)).collect();
            DrivenOutput { spec, wishes, pulse_until: None }
        };
        let outputs = outputs.into_iter().map(output).collect();
        Self { outputs, night: night.map(NightJudge::new) }
    }

    /// Starts the pulses that `turn` triggers.
    pub fn handle_trigger(&mut self, turn: &ActionTrigger, now: Mono) {
        if matches!(turn, ActionTrigger::Visit { moment, .. } if *moment != crate::visits::Moment::Opening)
        {
            return;
        }
        for output in &mut self.outputs {
            let pulses =
                |(cause, drive): &(ActionCause, Drive)| *drive == Drive::Pulse && turn.is_of(cause);
            if output.wishes.iter().any(pulses) {
                output.pulse_until = Some(now + output.spec.pulse);
            }
        }
    }

    /// Returns the levels for `standing` at `now`. `wall` is the time of a trusted wall clock,
    /// `None` if the clock is not trusted.
    pub fn compute_levels(&mut self, standing: &Standing, now: Mono, wall: Option<Wall>) -> Levels {
        let is_night =
            self.night.as_mut().and_then(|night| night.decide_night(standing.light, now, wall));
        let mut levels = Levels { values: Vec::new(), due: None };
        for output in &mut self.outputs {
            let wanted = output.wanted_level(standing, now);
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

    /// Returns the last decision between night (`true`) and day; `None` if no decision was possible
    /// or needed.
    #[must_use]
    pub fn is_night(&self) -> Option<bool> {
        self.night.as_ref().and_then(NightJudge::was_night)
    }
}

impl DrivenOutput {
    /// Returns the level without regard to night and day. Several causes switch the output on once;
    /// several counts add up.
    fn wanted_level(&mut self, standing: &Standing, now: Mono) -> u32 {
        self.pulse_until = self.pulse_until.filter(|until| now < *until);
        let (mut on, mut sum) = (u32::from(self.pulse_until.is_some()), 0_u32);
        for (cause, drive) in &self.wishes {
            match drive {
                Drive::On => on = on.max(standing.count_active(cause).min(1)),
                Drive::Count => sum = sum.saturating_add(standing.count_active(cause)),
                Drive::Pulse => {}
            }
        }
        on.max(sum).min(self.spec.most)
    }
}

#[cfg(test)]
mod tests;
