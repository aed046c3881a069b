//! A device with the real rules and visits, and a simulated store of readings and decisions for
//! restarts.

use std::collections::BTreeSet;

use crate::history::{Entry, Heard, millis};
use crate::imports::*;
use crate::inputs::Step;
use crate::scenario::{SOURCES, value, visits};
use crate::visits::Seen;

/// The start of the reference axis, in milliseconds since 1970. The axis never steps.
const AXIS: i64 = 1_795_000_020_000;
/// The up-time of the kernel at the start of the history.
const UP_MS: u64 = 3_600_000;

/// The device.
pub(crate) struct Device {
    sources: Sources,
    pub(crate) rules: Rules,
    pub(crate) visits: Visits,
    catalogue: Vec<RuleSpec>,
    /// The indices of the configured rules in the catalogue, in the order of the configuration.
    configured: Vec<usize>,
    /// Rules added or removed by a reload: their decisions depend on the time of the reload.
    pub(crate) changed: BTreeSet<String>,
    /// Sources with a late first reading after a silence longer than the horizon, before a restart:
    /// the engine documents that the lateness is forgotten.
    pub(crate) forgotten: BTreeSet<usize>,
    /// Sources silent for longer than the horizon, before a restart.
    pub(crate) gone: BTreeSet<usize>,
    boot: KernelBoot,
    started_ms: u64,
    /// The total time for which the device was off.
    off_ms: i64,
    now_ms: u64,
    pub(crate) history: Vec<Entry>,
    /// The transitions of the rules, each with the time of the decision.
    pub(crate) decided: Vec<(Transition, ArrivalTime)>,
    pub(crate) happened: Vec<VisitEvent>,
    /// The index in the history of the first reading known to the rules.
    from: usize,
    /// The durable lengths of `history`, `decided` and `happened`.
    durable: (usize, usize, usize),
    /// The number of restarts and reloads.
    pub(crate) restarts: usize,
}

impl Device {
    pub(crate) fn new(catalogue: Vec<RuleSpec>, configured: Vec<usize>) -> Self {
        let sources = Sources::default();
        for named in &SOURCES {
            let source = Source::new(named.name, named.kind).expect("a good name");
            sources.intern_source(source).expect("there is room");
        }
        let chosen = configured.iter().map(|at| catalogue[*at].clone()).collect();
        let mut device = Self {
            sources,
            rules: Rules::new(chosen).expect("rules without faults"),
            visits: Visits::new(visits()),
            catalogue,
            configured,
            changed: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            gone: BTreeSet::new(),
            boot: KernelBoot(1),
            started_ms: 0,
            off_ms: 0,
            now_ms: UP_MS,
            history: Vec::new(),
            decided: Vec::new(),
            happened: Vec::new(),
            from: 0,
            durable: (0, 0, 0),
            restarts: 0,
        };
        device.begin(0);
        device
    }

    pub(crate) fn rules(&self) -> Vec<RuleSpec> {
        self.configured.iter().map(|at| self.catalogue[*at].clone()).collect()
    }

    pub(crate) fn take(&mut self, step: &Step) {
        match step {
            Step::Reading { pause_ms, source, word, late_ms } => {
                self.now_ms += pause_ms;
                self.hear(*source, *word, *late_ms);
            }
            Step::Stretch { source, count, every_ms, first, then } => {
                for nth in 0..*count {
                    self.now_ms += every_ms;
                    self.hear(*source, if nth % 3 == 0 { *then } else { *first }, 0);
                }
            }
            Step::Pause { ms } => self.now_ms += ms,
            Step::Tick { ms } => {
                self.now_ms += ms;
                self.tick();
            }
            Step::Deadline { within_ms } => self.wait_for_deadline(*within_ms),
            Step::Commit => self.commit(),
            Step::Restart { crash, pause_ms } => {
                self.end(*crash);
                self.now_ms += pause_ms;
                self.start();
            }
            Step::KernelStart { crash, off_ms } => {
                self.end(*crash);
                self.now_ms += off_ms;
                self.off_ms += i64::try_from(*off_ms).expect("a test is short");
                self.started_ms = self.now_ms - 5_000;
                self.boot.0 += 1;
                self.start();
            }
            Step::Reload { toggled, rotate } => self.reload(*toggled, *rotate),
        }
    }

    /// Returns the present monotonic time.
    pub(crate) fn now(&self) -> ArrivalTime {
        ArrivalTime { boot: self.boot, mono: Mono(self.now_ms - self.started_ms) }
    }

    fn axis(&self) -> Wall {
        Wall(AXIS + i64::try_from(self.now_ms).expect("a test is short"))
    }

    fn hear(&mut self, source: usize, word: u8, late_ms: i64) {
        let (value, detail) = value(source, word);
        let dated = SOURCES[source].dated;
        let event = if dated { Wall(self.axis().0 - late_ms) } else { self.axis() };
        let has_contact = detail.is_none();
        let is_too_late = self.axis().0 - event.0 > millis(LATENESS);
        let at = self.now();
        let heard = Heard { at, event, dated, source, value, has_contact, is_too_late };
        let input = reading(&heard);
        let input = TimedReading { reading: &input, boot: self.boot, event };
        let mut decided = Vec::new();
        self.rules.fold_reading(&input, &self.sources, &mut decided);
        self.visits.fold_reading(&input, &self.sources, &mut self.happened);
        self.note(decided);
        self.history.push(Entry::Heard(heard));
    }

    fn tick(&mut self) {
        let (now, mut decided) = (self.now(), Vec::new());
        self.rules.advance_time(self.boot, now.mono, &mut decided);
        self.visits.advance_time(self.boot, now.mono, &mut self.happened);
        self.note(decided);
        self.history.push(Entry::Passed(now));
    }

    /// Ticks at the next deadline, if the deadline lies within `within_ms`. Nothing is decided
    /// between two deadlines.
    fn wait_for_deadline(&mut self, within_ms: u64) {
        let until = self.now().mono.0 + within_ms;
        let due = [self.rules.next_deadline(), self.visits.next_due()];
        if let Some(due) = due.into_iter().flatten().min().filter(|due| due.0 <= until) {
            self.now_ms = self.now_ms.max(self.started_ms + due.0);
            self.tick();
        }
    }

    fn note(&mut self, decided: Vec<Transition>) {
        let now = self.now();
        self.decided.extend(decided.into_iter().map(|transition| (transition, now)));
    }

    fn commit(&mut self) {
        self.durable = (self.history.len(), self.decided.len(), self.happened.len());
    }

    fn end(&mut self, crash: bool) {
        if !crash {
            self.commit();
        }
        self.history.truncate(self.durable.0);
        self.decided.truncate(self.durable.1);
        self.happened.truncate(self.durable.2);
    }

    /// Starts the agent, from the stored alerts and the last stored readings.
    fn start(&mut self) {
        let past: Vec<PastAlert<'_>> =
            self.decided.iter().filter_map(|(one, at)| past(one, *at)).collect();
        let rebuild = Rules::begin_rebuild(self.rules(), past, &self.sources);
        let mut rebuild = rebuild.expect("rules without faults");
        // Readings once forgotten stay forgotten.
        self.from = self.from.max(self.first_within(millis(rebuild.history_length())));
        let from = self.from;
        self.note_forgotten(from);
        for heard in self.history[from..].iter().filter_map(Entry::heard) {
            let input = reading(heard);
            let input = TimedReading { reading: &input, boot: heard.at.boot, event: heard.event };
            rebuild.fold_stored(&input, &self.sources);
        }
        self.rules = rebuild.finish_rebuild();
        self.visits = self.remembered_visits();
        self.restarts += 1;
        self.begin(from);
    }

    fn begin(&mut self, from: usize) {
        let (at, axis) = (self.now(), self.axis());
        self.rules.await_sources(self.boot, at.mono, axis, &self.sources);
        self.history.push(Entry::Began { at, axis, from });
    }

    /// Returns the index in the history of the first reading within the horizon. The event clock of
    /// a source stands still while the device is off.
    fn first_within(&self, horizon: i64) -> usize {
        let (mut first, mut newest) = (self.history.len(), None);
        for (place, entry) in self.history.iter().enumerate().rev() {
            let Some(heard) = entry.heard() else { continue };
            let newest = *newest.get_or_insert(heard.event);
            if heard.event.0 + horizon + self.off_ms < newest.0 {
                break;
            }
            first = place;
        }
        first
    }

    fn note_forgotten(&mut self, from: usize) {
        let (before, kept) = self.history.split_at(from);
        for source in 0..SOURCES.len() {
            let is_own = |heard: &&Heard| heard.source == source;
            let was_known = before.iter().filter_map(Entry::heard).any(|heard| is_own(&heard));
            let first = kept.iter().filter_map(Entry::heard).find(is_own);
            match first {
                Some(first) if was_known && first.is_too_late => _ = self.forgotten.insert(source),
                None if was_known => _ = self.gone.insert(source),
                Some(_) | None => {}
            }
        }
    }

    fn remembered_visits(&self) -> Visits {
        let (mut visits, mut dropped) = (Visits::new(visits()), Vec::new());
        for heard in self.history.iter().filter_map(Entry::heard) {
            let input = reading(heard);
            let input = TimedReading { reading: &input, boot: heard.at.boot, event: heard.event };
            visits.fold_reading(&input, &self.sources, &mut dropped);
        }
        visits.finish_rebuild(|source| {
            let mut told = ReportedVisits::default();
            for happening in &self.happened {
                match happening {
                    VisitEvent::Began(visit) if visit.source == source => {
                        told.began = Some(visit.start)
                    }
                    VisitEvent::Ended(visit) if visit.source == source => {
                        told.ended = Some(visit.start)
                    }
                    VisitEvent::Began(_) | VisitEvent::Ended(_) => {}
                }
            }
            told
        });
        visits
    }

    fn reload(&mut self, toggled: Option<usize>, rotate: usize) {
        if let Some(toggled) = toggled {
            let rule = toggled % self.catalogue.len();
            self.changed.insert(self.catalogue[rule].name.to_string());
            match self.configured.iter().position(|at| *at == rule) {
                Some(at) => drop(self.configured.remove(at)),
                None => self.configured.push(rule),
            }
        }
        let length = self.configured.len().max(1);
        self.configured.rotate_left(rotate % length);
        // All decisions are stored before the rules are replaced.
        self.commit();
        self.start();
    }

    /// Returns the index of a source.
    pub(crate) fn place(source: SourceId) -> usize {
        usize::try_from(source.0).expect("a small number")
    }
}

fn reading(heard: &Heard) -> Reading {
    let lost = || Box::new(HeartDetail { contact: Contact::Lost, energy_kj: None, rr: Vec::new() });
    Reading {
        source: SourceId(u32::try_from(heard.source).expect("a small number")),
        mono: heard.at.mono,
        time: heard.dated.then_some(heard.event),
        value: heard.value.clone(),
        detail: (!heard.has_contact).then(lost),
    }
}

/// Returns the stored alert of a transition, if an alert was published.
fn past(transition: &Transition, at: ArrivalTime) -> Option<PastAlert<'_>> {
    let is_dated = SOURCES[Device::place(transition.source)].dated;
    (transition.report != Publication::Held).then(|| PastAlert {
        rule: &transition.rule.name,
        source: transition.source,
        state: transition.state,
        time: transition.time,
        arrival: is_dated.then_some(at),
        window_end: transition.window.map(|(_, end)| end),
    })
}

/// Converts a visit to the type of the reference.
pub(crate) fn seen(visit: &Visit, is_over: bool) -> Seen {
    Seen {
        source: Device::place(visit.source),
        is_over,
        start: visit.start,
        end: visit.end,
        openings: visit.openings,
        boot: visit.boot,
    }
}
