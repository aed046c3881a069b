//! Limits the published alerts of one rule and source, if a value swings about its limit.
//!
//! Up to [`MAX_ALERTS`] within [`WITHIN`] are published one by one. Further alerts are held back
//! and counted. Only the last of them is kept, and published once there is room, if the state then
//! differs from the published state. The last published alert therefore always gives the current
//! state, at most a minute late. The state of the limit follows from the times and arrivals of the
//! stored alerts, so a restart makes no difference.
//!
//! A program could evade a limit on event times alone by giving times far apart. Arrivals are
//! therefore limited as well, at the same pace in the long run, but with a reserve
//! ([`BACKLOG_ALERTS`]): a program without connection for an hour delivers the events of the hour
//! within a second, and the alerts of these events are justified.
//!
//! Outputs and cameras of a rule see each transition at once.

use std::collections::VecDeque;
use std::time::Duration;

use std::sync::Arc;

use pulsegate_sensors::SourceId;

use super::{AlertState, KernelBoot, LATENESS, RuleSpec, Transition};
use crate::time::{Mono, Wall};

/// The publication of a transition as an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Publication {
    /// An alert is published now.
    Now,
    /// Too many alerts came before: only outputs and cameras see the transition.
    Held,
    /// The alert was held back and is published now; outputs and cameras have already seen the
    /// transition.
    Later,
}

/// The beginning or the end of flapping, for one rule and source.
#[derive(Debug, Clone, PartialEq)]
pub struct Flap {
    /// The rule.
    pub rule: Arc<RuleSpec>,
    /// The source of the readings.
    pub source: SourceId,
    /// Transitions held back since the flapping began.
    pub suppressed: u64,
    /// `true` at the end of flapping.
    pub is_over: bool,
}

/// The most alerts published within [`WITHIN`]. A rule on single readings, with ten readings a
/// second and one extreme value in a hundred, occasionally makes twelve transitions a minute; a
/// door or a person never does.
pub const MAX_ALERTS: usize = 20;
/// The span of the limit [`MAX_ALERTS`].
pub const WITHIN: Duration = Duration::from_secs(60);
/// The most alerts published at once, regardless of event times: the alerts of a value crossing its
/// limit four times a minute for an hour, or 2 MB on the card with one commit per alert. The
/// reserve refills at the pace of [`MAX_ALERTS`] in [`WITHIN`], so live alerts never use up the
/// reserve.
pub const BACKLOG_ALERTS: u32 = 240;
/// The arrival time in which one alert of the reserve refills.
const PACE: Duration = Duration::from_secs(3);
const _: () = assert!(PACE.as_secs() * MAX_ALERTS as u64 == WITHIN.as_secs());
/// The free alerts of the reserve required to end the flapping: the most alerts of a minute.
const ENOUGH: u32 = 20;
const _: () = assert!(ENOUGH as usize == MAX_ALERTS && BACKLOG_ALERTS > 2 * ENOUGH);

/// The monotonic time at which a record arrived or a decision was made; no program sets this clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArrivalTime {
    /// The kernel start of `mono`.
    pub boot: KernelBoot,
    /// The monotonic time.
    pub mono: Mono,
}

/// The reserve of alerts, by arrival.
#[derive(Debug, Clone, Copy, Default)]
struct AlertReserve {
    /// The time at which the reserve will be full again; `None` before the first alert.
    whole_at: Option<ArrivalTime>,
}

impl AlertReserve {
    fn spend_one(&mut self, now: ArrivalTime) {
        let before = self.mono_in(now.boot).unwrap_or(now.mono);
        self.whole_at = Some(ArrivalTime { mono: before.max(now.mono) + PACE, ..now });
    }

    /// Returns the time at which the reserve has room for `alerts` alerts.
    fn room_at(&self, boot: KernelBoot, alerts: u32) -> Mono {
        let left = PACE * (BACKLOG_ALERTS - alerts);
        self.mono_in(boot).map_or(Mono(0), |whole_at| whole_at - left)
    }

    fn has_room(&self, now: ArrivalTime, alerts: u32) -> bool {
        self.room_at(now.boot, alerts) <= now.mono
    }

    /// Returns the time at which the reserve is full, within kernel start `boot`. Another kernel
    /// start restores the reserve: monotonic times compare only within one kernel start, and no
    /// program starts the kernel.
    fn mono_in(&self, boot: KernelBoot) -> Option<Mono> {
        self.whole_at.filter(|whole_at| whole_at.boot == boot).map(|whole_at| whole_at.mono)
    }
}

/// The recently published alerts of one rule and source, and the last alert held back.
#[derive(Debug, Clone, Default)]
pub(super) struct Damper {
    /// The event times of published alerts, in the order of publication; at most [`MAX_ALERTS`].
    told: VecDeque<Wall>,
    /// The reserve by arrival.
    allowance: AlertReserve,
    /// The last published state.
    state: Option<AlertState>,
    /// The last transition, if its state differs from the published state. Boxed, since it is rare
    /// and each rule has a damper for each source.
    held: Option<Box<Transition>>,
    /// The number of transitions held back since the flapping began, and the event time of the
    /// last.
    flapping: Option<(u64, Wall)>,
}

impl Damper {
    /// Takes over a stored alert, at a rebuild.
    pub(super) fn restore_published(
        &mut self,
        state: AlertState,
        time: Wall,
        arrival: Option<ArrivalTime>,
    ) {
        self.note_published(state, time);
        if let Some(arrival) = arrival {
            self.allowance.spend_one(arrival);
        }
    }

    /// Returns `true` if an alert is to be published for `transition` now; otherwise counts the
    /// transition and keeps it if its state is news.
    pub(super) fn admit_alert(&mut self, transition: &Transition, now: ArrivalTime) -> bool {
        let (state, time) = (transition.state, transition.time);
        // A later event time dates from before the clock of the source was set back.
        self.told.retain(|told| *told <= time && time < *told + WITHIN);
        let has_room = self.told.len() < MAX_ALERTS && self.allowance.has_room(now, 1);
        if has_room && self.state != Some(state) {
            self.held = None;
            self.note_published(state, time);
            self.allowance.spend_one(now);
            return true;
        }
        let count = self.flapping.map_or(0, |(count, _)| count);
        self.flapping = Some((count + 1, time));
        self.held = (self.state != Some(state)).then(|| Box::new(transition.clone()));
        false
    }

    /// Returns the deadlines of a held-back alert and of the end of the flapping. Each deadline is
    /// an event time and a monotonic time; both must be reached.
    pub(super) fn list_deadlines(&self, boot: KernelBoot) -> impl Iterator<Item = (Wall, Mono)> {
        let calm = self.calm_at().map(|calm| (calm, self.allowance.room_at(boot, ENOUGH)));
        let room = self.told.front().map_or(Wall(i64::MIN), |first| *first + WITHIN);
        let room = self.held.is_some().then(|| (room, self.allowance.room_at(boot, 1)));
        room.into_iter().chain(calm)
    }

    /// Advances event time to `time`. Returns the held-back transition, if there is room for its
    /// alert.
    pub(super) fn release_held(&mut self, time: Wall, now: ArrivalTime) -> Option<Transition> {
        let has_room = self.told.front().is_none_or(|first| *first + WITHIN <= time)
            && self.allowance.has_room(now, 1);
        let held = *self.held.take_if(|_| has_room)?;
        self.allowance.spend_one(now);
        // A held transition in the future dates from before the clock of the source was set back.
        // The state of the transition still holds.
        let is_ahead = time + LATENESS < held.time;
        let at = if is_ahead { time } else { held.time };
        self.note_published(held.state, at);
        Some(Transition { report: Publication::Later, time: at, ..held })
    }

    /// Returns the beginning of flapping, if the flapping began with `transition`.
    pub(super) fn flap_begun_by(&self, transition: &Transition) -> Option<Flap> {
        let (suppressed, _) = self.flapping.filter(|(count, _)| *count == 1)?;
        let (rule, source) = (Arc::clone(&transition.rule), transition.source);
        Some(Flap { rule, source, suppressed, is_over: false })
    }

    /// Ends the flapping if nothing was held back for [`WITHIN`] before `time` and the reserve has
    /// room for a minute of alerts: otherwise event times far apart would end the flapping with
    /// each line. Returns the number of transitions held back.
    pub(super) fn end_flapping(&mut self, time: Wall, now: ArrivalTime) -> Option<u64> {
        let calm = self.calm_at().is_some_and(|calm| calm <= time);
        let is_over = calm && self.allowance.has_room(now, ENOUGH);
        let (suppressed, _) = self.flapping.take_if(|_| is_over)?;
        Some(suppressed)
    }

    /// Drops event times after `time`, because the clock of the source was set back. The reserve
    /// and the held transition stay.
    pub(super) fn forget_after(&mut self, time: Wall) {
        self.told.retain(|told| *told <= time);
        if let Some((_, last)) = &mut self.flapping
            && *last > time
        {
            *last = Wall(i64::MIN);
        }
    }

    /// Returns the event time at which nothing has been held back for [`WITHIN`].
    fn calm_at(&self) -> Option<Wall> {
        self.flapping.map(|(_, last)| last + WITHIN)
    }

    fn note_published(&mut self, state: AlertState, time: Wall) {
        if self.told.len() == MAX_ALERTS {
            self.told.pop_front();
        }
        self.told.push_back(time);
        self.state = Some(state);
    }
}
