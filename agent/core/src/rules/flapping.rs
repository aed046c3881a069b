//! Alerts of one rule and source that come too often: a value that swings about its limit.
//!
//! Up to [`MAX_ALERTS`] within [`WITHIN`] are told one by one. Of more, only the last is kept, and told
//! as soon as there is room for it if it is still news; the others are counted. So the last alert
//! that is told always says how things are, at most a minute late. The state follows from the
//! times of the alerts that were told, which are in the store: a restart makes no difference.
//!
//! Whatever else follows a rule, an output or a camera, sees each transition at once.

use std::collections::VecDeque;
use std::time::Duration;

use std::sync::Arc;

use pulsegate_sensors::SourceId;

use super::{AlertState, RuleSpec, Transition};
use crate::time::Wall;

/// Whether an alert tells of a transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Report {
    /// Yes.
    Now,
    /// Not now, since too many came before it: only what acts by the rule sees it.
    Held,
    /// It is told now, and was held back before: what acts by the rule saw it then.
    Later,
}

/// A rule begins or ceases to flap for a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Flap {
    /// The rule.
    pub rule: Arc<RuleSpec>,
    /// Of whose readings.
    pub source: SourceId,
    /// Transitions that were held back since it began.
    pub suppressed: u64,
    /// Whether it ceases.
    pub is_over: bool,
}

/// Alerts told within [`WITHIN`]. A rule about each of ten readings a second of which one in a hundred
/// is extreme makes twelve transitions a minute now and then; a door or a person never does.
pub const MAX_ALERTS: usize = 20;
/// See [`MAX_ALERTS`].
pub const WITHIN: Duration = Duration::from_secs(60);

/// What one rule told of one source lately.
#[derive(Debug, Clone, Default)]
pub(super) struct Damper {
    /// When alerts were told, in their order; at most [`MAX_ALERTS`].
    told: VecDeque<Wall>,
    /// The state that was told last.
    state: Option<AlertState>,
    /// The last transition, if it differs from what was told.
    held: Option<Transition>,
    /// Since the flapping began: transitions that were not told, and the time of the last one.
    flapping: Option<(u64, Wall)>,
}

impl Damper {
    /// Takes over an alert of the store.
    pub(super) fn resume(&mut self, state: AlertState, time: Wall) {
        self.note(state, time);
    }

    /// Whether a transition is to be told now; if not, it is kept.
    pub(super) fn tells(&mut self, transition: &Transition) -> bool {
        let (state, time) = (transition.state, transition.time);
        // What lies ahead was told before the source's time was set back.
        self.told.retain(|told| *told <= time && time < *told + WITHIN);
        if self.told.len() < MAX_ALERTS && self.state != Some(state) {
            self.held = None;
            self.note(state, time);
            return true;
        }
        let count = self.flapping.map_or(0, |(count, _)| count);
        self.flapping = Some((count + 1, time));
        self.held = (self.state != Some(state)).then(|| transition.clone());
        false
    }

    /// When there is something to do: a transition to tell, or an end to notice.
    pub(super) fn due(&self) -> Option<Wall> {
        let calm = self.flapping.map(|(_, last)| last + WITHIN);
        let room = self.told.front().filter(|_| self.held.is_some()).map(|first| *first + WITHIN);
        room.into_iter().chain(calm).min()
    }

    /// Lets time pass: returns the transition that there is room for by then.
    pub(super) fn pass(&mut self, time: Wall) -> Option<Transition> {
        if self.told.front().is_some_and(|first| time < *first + WITHIN) {
            return None;
        }
        let held = self.held.take()?;
        self.note(held.state, held.time);
        Some(Transition { report: Report::Later, ..held })
    }

    /// The beginning, if the flapping began with this transition.
    pub(super) fn begun(&self, transition: &Transition) -> Option<Flap> {
        let (suppressed, _) = self.flapping.filter(|(count, _)| *count == 1)?;
        let (rule, source) = (Arc::clone(&transition.rule), transition.source);
        Some(Flap { rule, source, suppressed, is_over: false })
    }

    /// Ends the flapping if nothing was held back for a while before `time`. Returns how many
    /// transitions were.
    pub(super) fn end(&mut self, time: Wall) -> Option<u64> {
        let (suppressed, _) = self.flapping.take_if(|(_, last)| *last + WITHIN <= time)?;
        Some(suppressed)
    }

    /// The source's time was set back.
    pub(super) fn forget_after(&mut self, time: Wall) {
        self.told.retain(|told| *told <= time);
    }

    fn note(&mut self, state: AlertState, time: Wall) {
        if self.told.len() == MAX_ALERTS {
            self.told.pop_front();
        }
        self.told.push_back(time);
        self.state = Some(state);
    }
}
