//! The visits of one source: its last state, and the visit under way.

use std::collections::BTreeMap;
use std::sync::Arc;

use pulsegate_sensors::SourceId;

use super::{First, Happening, LATENESS, SETTLING, Told, Visit, VisitSpec};
use crate::record::reading::Value;
use crate::rules::{EventClock, Input, KernelBoot, MAX_LEAP, Verdict};
use crate::time::{Mono, Wall};

/// Bounds the waiting states of a program that sends thousands of states a second.
const MAX_WAITING: usize = 4_096;

#[derive(Debug, Clone)]
pub(super) struct Watch {
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
    running: Option<Running>,
    told: Told,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    start: Wall,
    last: Wall,
    openings: u32,
}

impl Watch {
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
            told: Told::default(),
        }
    }

    pub(super) fn source(&self) -> SourceId {
        self.source
    }

    /// Takes a reading with a state. A state older than the last applied state is too late and
    /// dropped.
    pub(super) fn take(&mut self, input: &Input<'_>, out: &mut Vec<Happening>) {
        let Value::State(state) = &input.reading.value else { return };
        let (boot, mono, event) = (input.boot, input.reading.mono, input.event);
        self.pass(boot, mono, out);
        self.own_time = input.reading.time.is_some();
        let new = || EventClock::assumed(boot, mono, event);
        let verdict = self.clock.get_or_insert_with(new).judge(boot, mono, event);
        self.boot = boot;
        match verdict {
            Verdict::Good => {}
            Verdict::Doubtful => return,
            Verdict::Back => self.turn_back(out),
        }
        if self.newest.is_some_and(|newest| event < newest) {
            return;
        }
        self.arrivals += 1;
        self.waiting.insert((event, self.arrivals), **state == *self.spec.opening);
        self.pass(boot, mono, out);
    }

    /// Advances time to `now`.
    pub(super) fn pass(&mut self, boot: KernelBoot, now: Mono, out: &mut Vec<Happening>) {
        if !self.own_time && boot != self.boot {
            self.end(out);
            self.clock = None;
            self.newest = None;
            return;
        }
        let Some(clock) = &self.clock else { return };
        let time = clock.at(boot, now);
        let settled = if self.own_time { time - LATENESS } else { time };
        self.settle(settled, out);
        if self.ends_at().is_some_and(|end| end <= time) {
            self.end(out);
        }
    }

    /// Returns the time of the next decision without another reading.
    pub(super) fn deadline(&self, boot: KernelBoot) -> Option<Mono> {
        if !self.own_time && boot != self.boot {
            return self.running.map(|_| Mono(0));
        }
        let settles = self.waiting.keys().next().map(|(event, _)| *event + LATENESS);
        let due = settles.into_iter().chain(self.ends_at()).min()?;
        self.clock.as_ref().map(|clock| clock.when(boot, due))
    }

    /// Takes over the stored reports. A report far ahead of the clock dates from before the clock
    /// of the source was set back.
    pub(super) fn resume(&mut self, told: Told) {
        let newest = self.clock.as_ref().map(EventClock::newest);
        let believed = |told: &Wall| newest.is_none_or(|newest| *told <= newest + MAX_LEAP);
        self.told = Told { began: told.began.filter(believed), ended: told.ended.filter(believed) };
    }

    fn settle(&mut self, settled: Wall, out: &mut Vec<Happening>) {
        while let Some(entry) = self.waiting.first_entry() {
            let (event, _) = *entry.key();
            if event > settled && self.waiting.len() <= MAX_WAITING {
                return;
            }
            let Some((_, opens)) = self.waiting.pop_first() else { return };
            self.apply(event, opens, out);
        }
    }

    fn apply(&mut self, event: Wall, opens: bool, out: &mut Vec<Happening>) {
        self.newest = Some(event);
        let was_open = self.is_open.replace(opens).unwrap_or(self.spec.first == First::Level);
        if !opens || was_open {
            return;
        }
        if self.running.is_some_and(|running| running.last + self.spec.gap <= event) {
            self.end(out);
        }
        match &mut self.running {
            Some(running) => {
                running.last = event;
                running.openings = running.openings.saturating_add(1);
            }
            none => {
                let running = Running { start: event, last: event, openings: 1 };
                *none = Some(running);
                if self.spec.live && self.told.began.is_none_or(|told| told < event) {
                    out.push(Happening::Began(self.visit(running)));
                }
            }
        }
    }

    /// Returns the time at which the end of the visit under way is certain.
    fn ends_at(&self) -> Option<Wall> {
        let late = if self.own_time { LATENESS } else { SETTLING };
        self.running.map(|running| running.last + self.spec.gap + late)
    }

    fn end(&mut self, out: &mut Vec<Happening>) {
        let Some(running) = self.running.take() else { return };
        if self.is_untold(&running) {
            out.push(Happening::Ended(self.visit(running)));
        }
    }

    /// Settles all states and ends the visit, because the clock of the source was set back: earlier
    /// event times cannot be compared with later readings.
    fn turn_back(&mut self, out: &mut Vec<Happening>) {
        self.settle(Wall(i64::MAX), out);
        self.end(out);
        self.newest = None;
        self.told = Told::default();
    }

    /// Returns the visit under way. After a start, time may pass again up to the end of a visit
    /// already reported as ended; such a visit is left out.
    pub(super) fn under_way(&self) -> Option<Visit> {
        self.running.filter(|running| self.is_untold(running)).map(|running| self.visit(running))
    }

    fn is_untold(&self, running: &Running) -> bool {
        self.told.ended.is_none_or(|told| told < running.start)
    }

    fn visit(&self, running: Running) -> Visit {
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
