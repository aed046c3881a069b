//! The visits of one source: its last state, and the visit under way.

use std::collections::BTreeMap;
use std::sync::Arc;

use pulsegate_sensors::SourceId;

use super::{First, LATENESS, ReportedVisits, SETTLING, Visit, VisitEvent, VisitSpec};
use crate::record::reading::Value;
use crate::rules::{EventClock, KernelBoot, MAX_LEAP, TimeVerdict, TimedReading};
use crate::time::{Mono, Wall};

/// Bounds the waiting states of a program that sends thousands of states a second.
const MAX_WAITING: usize = 4_096;

#[derive(Debug, Clone)]
pub(super) struct VisitWatch {
    spec: Arc<VisitSpec>,
    source: SourceId,
    /// `true` if the readings have times of their own.
    own_time: bool,
    boot: KernelBoot,
    clock: Option<EventClock>,
    /// States that an earlier state may still overtake, by event time and order of arrival: `true`
    /// for an opening state.
    waiting: BTreeMap<(Wall, u64), bool>,
    arrivals: u64,
    /// The event time of the last applied state.
    newest: Option<Wall>,
    is_open: Option<bool>,
    running: Option<RunningVisit>,
    told: ReportedVisits,
}

#[derive(Debug, Clone, Copy)]
struct RunningVisit {
    start: Wall,
    last: Wall,
    openings: u32,
}

impl VisitWatch {
    pub(super) fn new(spec: Arc<VisitSpec>, source: SourceId) -> Self {
        Self {
            spec,
            source,
            own_time: false,
            boot: KernelBoot::default(),
            clock: None,
            waiting: BTreeMap::new(),
            arrivals: 0,
            newest: None,
            is_open: None,
            running: None,
            told: ReportedVisits::default(),
        }
    }

    pub(super) fn source(&self) -> SourceId {
        self.source
    }

    /// Takes a reading with a state. A state older than the last applied state is too late and
    /// dropped.
    pub(super) fn apply_reading(&mut self, input: &TimedReading<'_>, out: &mut Vec<VisitEvent>) {
        let Value::State(state) = &input.reading.value else { return };
        let (boot, mono, event) = (input.boot, input.reading.mono, input.event);
        self.advance_to(boot, mono, out);
        self.own_time = input.reading.time.is_some();
        let new = || EventClock::new_assumed(boot, mono, event);
        let verdict = self.clock.get_or_insert_with(new).judge_event(boot, mono, event);
        self.boot = boot;
        match verdict {
            TimeVerdict::Good => {}
            TimeVerdict::Doubtful => return,
            TimeVerdict::Back => self.turn_back(out),
        }
        if self.newest.is_some_and(|newest| event < newest) {
            return;
        }
        self.arrivals += 1;
        self.waiting.insert((event, self.arrivals), **state == *self.spec.opening);
        self.advance_to(boot, mono, out);
    }

    /// Advances time to `now`.
    pub(super) fn advance_to(&mut self, boot: KernelBoot, now: Mono, out: &mut Vec<VisitEvent>) {
        if !self.own_time && boot != self.boot {
            self.end_visit(out);
            self.clock = None;
            self.newest = None;
            return;
        }
        let Some(clock) = &self.clock else { return };
        let time = clock.time_at(boot, now);
        let settled = if self.own_time { time - LATENESS } else { time };
        self.apply_settled(settled, out);
        if self.ends_at().is_some_and(|end| end <= time) {
            self.end_visit(out);
        }
    }

    /// Returns the time of the next decision without another reading.
    pub(super) fn earliest_deadline(&self, boot: KernelBoot) -> Option<Mono> {
        if !self.own_time && boot != self.boot {
            return self.running.map(|_| Mono(0));
        }
        let settles = self.waiting.keys().next().map(|(event, _)| *event + LATENESS);
        let due = settles.into_iter().chain(self.ends_at()).min()?;
        self.clock.as_ref().map(|clock| clock.reached_at(boot, due))
    }

    /// Takes over the stored reports. A report far ahead of the clock dates from before the clock
    /// of the source was set back.
    pub(super) fn restore_reports(&mut self, told: ReportedVisits) {
        let newest = self.clock.as_ref().map(EventClock::newest_event);
        let believed = |told: &Wall| newest.is_none_or(|newest| *told <= newest + MAX_LEAP);
        self.told = ReportedVisits {
            began: told.began.filter(believed),
            ended: told.ended.filter(believed),
        };
    }

    fn apply_settled(&mut self, settled: Wall, out: &mut Vec<VisitEvent>) {
        while let Some(entry) = self.waiting.first_entry() {
            let (event, _) = *entry.key();
            if event > settled && self.waiting.len() <= MAX_WAITING {
                return;
            }
            let Some((_, opens)) = self.waiting.pop_first() else { return };
            self.apply_state(event, opens, out);
        }
    }

    fn apply_state(&mut self, event: Wall, opens: bool, out: &mut Vec<VisitEvent>) {
        self.newest = Some(event);
        let was_open = self.is_open.replace(opens).unwrap_or(self.spec.first == First::Level);
        if !opens || was_open {
            return;
        }
        if self.running.is_some_and(|running| running.last + self.spec.gap <= event) {
            self.end_visit(out);
        }
        match &mut self.running {
            Some(running) => {
                running.last = event;
                running.openings = running.openings.saturating_add(1);
            }
            none => {
                let running = RunningVisit { start: event, last: event, openings: 1 };
                *none = Some(running);
                if self.spec.live && self.told.began.is_none_or(|told| told < event) {
                    out.push(VisitEvent::Began(self.build_visit(running)));
                }
            }
        }
    }

    /// Returns the time at which the end of the visit under way is certain.
    fn ends_at(&self) -> Option<Wall> {
        let late = if self.own_time { LATENESS } else { SETTLING };
        self.running.map(|running| running.last + self.spec.gap + late)
    }

    fn end_visit(&mut self, out: &mut Vec<VisitEvent>) {
        let Some(running) = self.running.take() else { return };
        if self.is_untold(&running) {
            out.push(VisitEvent::Ended(self.build_visit(running)));
        }
    }

    /// Settles all states and ends the visit, because the clock of the source was set back: earlier
    /// event times cannot be compared with later readings.
    fn turn_back(&mut self, out: &mut Vec<VisitEvent>) {
        self.apply_settled(Wall(i64::MAX), out);
        self.end_visit(out);
        self.newest = None;
        self.told = ReportedVisits::default();
    }

    /// Returns the visit under way. After a start, time may pass again up to the end of a visit
    /// already reported as ended; such a visit is left out.
    pub(super) fn under_way(&self) -> Option<Visit> {
        self.running
            .filter(|running| self.is_untold(running))
            .map(|running| self.build_visit(running))
    }

    fn is_untold(&self, running: &RunningVisit) -> bool {
        self.told.ended.is_none_or(|told| told < running.start)
    }

    fn build_visit(&self, running: RunningVisit) -> Visit {
        Visit {
            spec: Arc::clone(&self.spec),
            source: self.source,
            start: running.start,
            end: running.last,
            openings: running.openings,
            boot: (!self.own_time).then_some(self.boot),
        }
    }
}
