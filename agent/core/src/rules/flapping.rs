//! Alerts of one rule and source that come too often: a value that swings about its limit.
//!
//! Up to [`MAX_ALERTS`] within [`WITHIN`] are told one by one. Of more, only the last is kept, and told
//! as soon as there is room for it if it is still news; the others are counted. So the last alert
//! that is told always says how things are, at most a minute late. The state follows from the
//! times and arrivals of the alerts that were told, which are in the store: a restart makes no
//! difference.
//!
//! Event times alone would let a program give its lines times that lie far enough apart. So arrivals
//! count as well, at the same pace in the long run, but with a reserve ([`BACKLOG_ALERTS`]): a program
//! that was cut off hands over in a second what happened within an hour, and its alerts are true.
//!
//! Whatever else follows a rule, an output or a camera, sees each transition at once.

use std::collections::VecDeque;
use std::time::Duration;

use std::sync::Arc;

use pulsegate_sensors::SourceId;

use super::{AlertState, KernelBoot, LATENESS, RuleSpec, Transition};
use crate::time::{Mono, Wall};

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
/// Alerts that may be told at once, whatever their event times: as many as a value makes that crossed
/// its limit four times a minute for an hour, and 2 MB on the card if each were a commit of its own.
/// The reserve comes back at the pace of [`MAX_ALERTS`] in [`WITHIN`], so that what is told as it
/// happens never uses it up.
pub const BACKLOG_ALERTS: u32 = 240;
/// The arrival time in which one alert of the reserve comes back.
const PACE: Duration = Duration::from_secs(3);
const _: () = assert!(PACE.as_secs() * MAX_ALERTS as u64 == WITHIN.as_secs());
/// Room for as many alerts as are told in a minute.
const ENOUGH: u32 = 20;
const _: () = assert!(ENOUGH as usize == MAX_ALERTS && BACKLOG_ALERTS > 2 * ENOUGH);

/// When something came to be known, by the clock that no program sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The kernel start that `mono` belongs to.
    pub boot: KernelBoot,
    /// The monotonic time.
    pub mono: Mono,
}

/// How many alerts may be told by arrival.
#[derive(Debug, Clone, Copy, Default)]
struct Allowance {
    /// When the reserve will be whole again; `None` before the first alert.
    whole_at: Option<Arrival>,
}

impl Allowance {
    fn spend(&mut self, now: Arrival) {
        let before = self.mono_in(now.boot).unwrap_or(now.mono);
        self.whole_at = Some(Arrival { mono: before.max(now.mono) + PACE, ..now });
    }

    /// When there is room for so many alerts.
    fn room_at(&self, boot: KernelBoot, alerts: u32) -> Mono {
        let left = PACE * (BACKLOG_ALERTS - alerts);
        self.mono_in(boot).map_or(Mono(0), |whole_at| whole_at - left)
    }

    fn has_room(&self, now: Arrival, alerts: u32) -> bool {
        self.room_at(now.boot, alerts) <= now.mono
    }

    /// Another kernel start restores the reserve: monotonic times compare only within one, and no
    /// program starts the kernel.
    fn mono_in(&self, boot: KernelBoot) -> Option<Mono> {
        self.whole_at.filter(|whole_at| whole_at.boot == boot).map(|whole_at| whole_at.mono)
    }
}

/// What one rule told of one source lately.
#[derive(Debug, Clone, Default)]
pub(super) struct Damper {
    /// When alerts were told, in their order; at most [`MAX_ALERTS`].
    told: VecDeque<Wall>,
    /// What arrivals allow.
    allowance: Allowance,
    /// The state that was told last.
    state: Option<AlertState>,
    /// The last transition, if it differs from what was told.
    held: Option<Transition>,
    /// Since the flapping began: transitions that were not told, and the time of the last one.
    flapping: Option<(u64, Wall)>,
}

impl Damper {
    /// Takes over an alert of the store.
    pub(super) fn resume(&mut self, state: AlertState, time: Wall, arrival: Option<Arrival>) {
        self.note(state, time);
        if let Some(arrival) = arrival {
            self.allowance.spend(arrival);
        }
    }

    /// Whether a transition is to be told now; if not, it is kept.
    pub(super) fn tells(&mut self, transition: &Transition, now: Arrival) -> bool {
        let (state, time) = (transition.state, transition.time);
        // What lies ahead was told before the source's time was set back.
        self.told.retain(|told| *told <= time && time < *told + WITHIN);
        let has_room = self.told.len() < MAX_ALERTS && self.allowance.has_room(now, 1);
        if has_room && self.state != Some(state) {
            self.held = None;
            self.note(state, time);
            self.allowance.spend(now);
            return true;
        }
        let count = self.flapping.map_or(0, |(count, _)| count);
        self.flapping = Some((count + 1, time));
        self.held = (self.state != Some(state)).then(|| transition.clone());
        false
    }

    /// When there is something to do, a transition to tell or an end to notice: each as an event time and
    /// a monotonic time, both of which must have come.
    pub(super) fn due(&self, boot: KernelBoot) -> impl Iterator<Item = (Wall, Mono)> {
        let calm = self.calm_at().map(|calm| (calm, self.allowance.room_at(boot, ENOUGH)));
        let room = self.told.front().map_or(Wall(i64::MIN), |first| *first + WITHIN);
        let room = self.held.is_some().then(|| (room, self.allowance.room_at(boot, 1)));
        room.into_iter().chain(calm)
    }

    /// Lets time pass: returns the transition that there is room for by then.
    pub(super) fn pass(&mut self, time: Wall, now: Arrival) -> Option<Transition> {
        let has_room = self.told.front().is_none_or(|first| *first + WITHIN <= time)
            && self.allowance.has_room(now, 1);
        let held = self.held.take_if(|_| has_room)?;
        self.allowance.spend(now);
        // If it lies ahead, the source's time was set back since. What it says holds still.
        let is_ahead = time + LATENESS < held.time;
        let at = if is_ahead { time } else { held.time };
        self.note(held.state, at);
        Some(Transition { report: Report::Later, time: at, ..held })
    }

    /// The beginning, if the flapping began with this transition.
    pub(super) fn begun(&self, transition: &Transition) -> Option<Flap> {
        let (suppressed, _) = self.flapping.filter(|(count, _)| *count == 1)?;
        let (rule, source) = (Arc::clone(&transition.rule), transition.source);
        Some(Flap { rule, source, suppressed, is_over: false })
    }

    /// Ends the flapping if nothing was held back for a while before `time`, and arrivals allow as much
    /// as is told in a minute: else times that lie far apart would end it with each line. Returns
    /// how many transitions were held back.
    pub(super) fn end(&mut self, time: Wall, now: Arrival) -> Option<u64> {
        let calm = self.calm_at().is_some_and(|calm| calm <= time);
        let is_over = calm && self.allowance.has_room(now, ENOUGH);
        let (suppressed, _) = self.flapping.take_if(|_| is_over)?;
        Some(suppressed)
    }

    /// The source's time was set back: event times after `time` say nothing any more. What arrivals
    /// allow, and what is news, stays.
    pub(super) fn forget_after(&mut self, time: Wall) {
        self.told.retain(|told| *told <= time);
        if let Some((_, last)) = &mut self.flapping
            && *last > time
        {
            *last = Wall(i64::MIN);
        }
    }

    /// The event time from which on nothing was held back for a while.
    fn calm_at(&self) -> Option<Wall> {
        self.flapping.map(|(_, last)| last + WITHIN)
    }

    fn note(&mut self, state: AlertState, time: Wall) {
        if self.told.len() == MAX_ALERTS {
            self.told.pop_front();
        }
        self.told.push_back(time);
        self.state = Some(state);
    }
}
