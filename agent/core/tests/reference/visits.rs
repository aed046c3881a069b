//! The expected visits, computed from the complete history each time.

use crate::history::*;
use crate::imports::*;
use crate::scenario::SOURCES;

/// A beginning or an end of a visit: its source, times, openings, and the kernel start of its times.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) source: usize,
    pub(crate) is_over: bool,
    pub(crate) start: Wall,
    pub(crate) end: Wall,
    pub(crate) openings: u32,
    pub(crate) boot: Option<KernelBoot>,
}

/// Returns the beginnings and ends of the visits to one source, and the visit under way.
pub(crate) fn expected(spec: &VisitSpec, history: &[Entry]) -> (Vec<Seen>, Option<Seen>) {
    let source = SOURCES.iter().position(|one| *one.name == *spec.source).expect("a known source");
    let mut walk = Walk {
        spec,
        source,
        clock: SourceClock::default(),
        boot: None,
        waiting: Vec::new(),
        newest: None,
        is_open: spec.first == First::Level,
        under_way: None,
        seen: Vec::new(),
    };
    for entry in history {
        match entry {
            Entry::Heard(heard) if heard.source == source => walk.hear(heard),
            Entry::Heard(_) | Entry::Passed(_) => walk.pass(entry.at()),
            Entry::Began { .. } => {}
        }
    }
    (walk.seen, walk.under_way)
}

struct Walk<'a> {
    spec: &'a VisitSpec,
    source: usize,
    clock: SourceClock,
    boot: Option<KernelBoot>,
    /// The states that an earlier state may still precede.
    waiting: Vec<(Wall, bool)>,
    newest: Option<Wall>,
    is_open: bool,
    under_way: Option<Seen>,
    seen: Vec<Seen>,
}

impl Walk<'_> {
    fn is_dated(&self) -> bool {
        SOURCES[self.source].dated
    }

    fn hear(&mut self, heard: &Heard) {
        self.pass(heard.at);
        self.boot = Some(heard.at.boot);
        self.clock.tell(heard.event, heard.at);
        if self.newest.is_some_and(|newest| heard.event < newest) {
            return;
        }
        self.waiting.push((heard.event, heard.value == Value::State("open".into())));
        self.pass(heard.at);
    }

    fn pass(&mut self, at: ArrivalTime) {
        if !self.is_dated() && self.boot.is_some_and(|boot| boot != at.boot) {
            // The length of the power cut is unknown.
            self.end();
            (self.clock, self.newest, self.boot) = (SourceClock::default(), None, None);
        }
        let Some(time) = self.clock.at(at) else { return };
        let late = if self.is_dated() { millis(LATENESS) } else { 0 };
        self.waiting.sort_by_key(|(event, _)| *event);
        while self.waiting.first().is_some_and(|(event, _)| event.0 <= time.0 - late) {
            let (event, opens) = self.waiting.remove(0);
            self.change(event, opens, at);
        }
        let slack = if self.is_dated() { late } else { millis(SETTLING) };
        let gap = millis(self.spec.gap);
        if self.under_way.as_ref().is_some_and(|visit| visit.end.0 + gap + slack <= time.0) {
            self.end();
        }
    }

    fn change(&mut self, event: Wall, opens: bool, at: ArrivalTime) {
        self.newest = Some(event);
        let was_open = std::mem::replace(&mut self.is_open, opens);
        if !opens || was_open {
            return;
        }
        let gap = millis(self.spec.gap);
        if self.under_way.as_ref().is_some_and(|visit| event.0 - visit.end.0 >= gap) {
            self.end();
        }
        if let Some(visit) = &mut self.under_way {
            (visit.end, visit.openings) = (event, visit.openings + 1);
            return;
        }
        let boot = (!self.is_dated()).then_some(at.boot);
        let (source, openings) = (self.source, 1);
        let visit = Seen { source, is_over: false, start: event, end: event, openings, boot };
        self.seen.push(visit.clone());
        self.under_way = Some(visit);
    }

    fn end(&mut self) {
        let over = self.under_way.take().map(|visit| Seen { is_over: true, ..visit });
        self.seen.extend(over);
    }
}
