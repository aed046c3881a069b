//! Visits: folded over readings as they arrive, and over the last stored readings at a start.
//! Visits are stored as events with times on the axis of their decision, so they are published with
//! the right times once these are known (P8).

use std::collections::HashMap;

use pulsegate_core::cloud::record_text::{ClockText, ObjectText};
use pulsegate_core::record::event::{Event, VisitMembers};
use pulsegate_core::record::reading::{Reading, Value};
use pulsegate_core::rules::{KernelBoot, TimedReading};
use pulsegate_core::time::timeline::{ClockTrust, Epoch, Timeline};
use pulsegate_core::time::{Mono, Wall};
use pulsegate_core::visits::{ReportedVisits, Visit, VisitEvent, VisitFormat, Visits};
use pulsegate_sensors::{SourceId, Sources};

use crate::db;
use crate::db::cursor::{LAST_PLACE, Select};
use crate::db::database::{Database, EventRow};
use crate::db::reader::VisitFound;
use crate::db::rows::{StoredEvents, StoredReadings};

/// Rows read back at a start, from each of the last two runs of the kernel (P9).
const LOOKBACK_ROWS: u32 = 50_000;
/// Time for which readings may have been on their way into the store when the agent ended.
const SLACK: std::time::Duration = std::time::Duration::from_secs(60);

/// The visits under way, and their formats.
pub(crate) struct VisitFold {
    visits: Visits,
    formats: Vec<VisitFormat>,
    happenings: Vec<VisitEvent>,
}

impl VisitFold {
    /// Restores the visits to their state after the last stored reading.
    pub(crate) fn rebuild_visits(
        formats: &[VisitFormat],
        database: &Database,
        sources: &Sources,
    ) -> Self {
        let mut fold = Self::new(formats);
        if let Err(error) = refold_visits(&mut fold.visits, database, sources) {
            tracing::warn!(%error, "visits begin without their history");
            return Self::new(formats);
        }
        fold
    }

    /// Begins without history.
    pub(crate) fn new(formats: &[VisitFormat]) -> Self {
        let visits = Visits::new(formats.iter().map(|format| format.spec.clone()).collect());
        Self { visits, formats: formats.to_vec(), happenings: Vec::new() }
    }

    /// Folds readings in, and adds the decisions to `events`.
    pub(crate) fn fold_visit_readings(
        &mut self,
        readings: &[Reading],
        database: &Database,
        sources: &Sources,
        events: &mut Vec<EventRow>,
    ) {
        if self.visits.is_idle() {
            return;
        }
        for reading in readings {
            let input = TimedReading::new(reading, &database.timeline, database.epoch);
            self.fold_into_events(&input, sources, events);
        }
    }

    /// Folds a reading in.
    pub(crate) fn fold_into_events(
        &mut self,
        input: &TimedReading<'_>,
        sources: &Sources,
        events: &mut Vec<EventRow>,
    ) {
        self.visits.fold_reading(input, sources, &mut self.happenings);
        self.hand_over(input.reading.mono, sources, events);
    }

    /// Passes time without a reading.
    pub(crate) fn tick_visits(
        &mut self,
        boot: KernelBoot,
        now: Mono,
        sources: &Sources,
        events: &mut Vec<EventRow>,
    ) {
        self.visits.advance_time(boot, now, &mut self.happenings);
        self.hand_over(now, sources, events);
    }

    /// Returns the next time at which [`VisitFold::tick_visits`] can decide something.
    pub(crate) fn next_visit_deadline(&self) -> Option<Mono> {
        self.visits.next_due()
    }

    /// Returns the visits under way.
    pub(crate) fn under_way(&self) -> impl Iterator<Item = Visit> {
        self.visits.under_way()
    }

    fn hand_over(&mut self, mono: Mono, sources: &Sources, events: &mut Vec<EventRow>) {
        for happening in self.happenings.drain(..) {
            let mut put = |event| events.push(EventRow { event, mono });
            let members = |visit, live| visit_members(visit, &self.formats, sources, live);
            match happening {
                VisitEvent::Began(visit) => {
                    put(Event::Live(members(&visit, Some(true))));
                }
                VisitEvent::Ended(visit) => {
                    put(Event::Visit(members(&visit, None)));
                    if visit.spec.live {
                        put(Event::Live(members(&visit, Some(false))));
                    }
                }
            }
        }
    }
}

/// The identity of a visit: source, run of the kernel, first and last opening, and number of
/// openings.
pub(crate) type VisitKey = (String, Option<u32>, i64, i64, u32);

/// Returns the members of the event of a visit.
fn visit_members(
    visit: &Visit,
    formats: &[VisitFormat],
    sources: &Sources,
    live: Option<bool>,
) -> VisitMembers {
    let format = formats.iter().find(|format| format.spec.source == visit.spec.source);
    let source = sources.get(visit.source);
    VisitMembers {
        source: source.map_or_else(String::new, |source| source.name.to_string()),
        start_ms: visit.start.0,
        end_ms: visit.end.0,
        openings: visit.openings,
        units: visit.units(),
        unit: format.and_then(|format| format.unit.as_deref()).map(str::to_owned),
        epoch: visit.boot.map(|boot| boot.0),
        live,
    }
}

/// Returns the identity of a stored visit, equal to the identity when decided again.
pub(crate) fn key_of(visit: &VisitMembers) -> VisitKey {
    (visit.source.clone(), visit.epoch, visit.start_ms, visit.end_ms, visit.openings)
}

/// Writes the members of the record of a stored visit, with corrected times. Returns the trust in
/// these times.
pub(crate) fn write_visit(
    stored: VisitMembers,
    timeline: &Timeline,
    formats: &[VisitFormat],
    clock: &mut ClockText,
    object: &mut ObjectText<'_>,
) -> ClockTrust {
    let live = stored.live;
    let visit = VisitFound::from_stored(stored, timeline);
    object.add_text("source", &visit.source);
    object.add_text("visit", &visit.id);
    if let Some(live) = live {
        object.add_text("state", if live { "on" } else { "off" });
        object.add_time("start", visit.start, clock);
        return visit.trust;
    }
    let facts = visit.report_facts();
    object.add_time("start", visit.start, clock);
    object.add_time("end", visit.end, clock);
    object.add_number("openings", f64::from(visit.openings));
    object.add_decimal("units", visit.units);
    object.add_decimal("seconds", facts.duration_seconds());
    if let Some(unit) = &visit.unit {
        object.add_text("unit", unit);
    }
    if let Some(text) = visit.report_text(formats) {
        object.add_text("text", &text);
    }
    visit.trust
}

impl VisitFound {
    /// Returns the visit in the operator's words, if configured.
    pub(crate) fn report_text(&self, formats: &[VisitFormat]) -> Option<String> {
        let format = formats.iter().find(|format| *format.spec.source == *self.source);
        let (report, zone) = format?.report.as_ref()?;
        Some(report.render_visit(&self.report_facts(), zone))
    }
}

fn refold_visits(visits: &mut Visits, database: &Database, sources: &Sources) -> db::Result<()> {
    if visits.is_idle() {
        return Ok(());
    }
    let gaps: HashMap<u32, std::time::Duration> = (0..)
        .zip(sources.list_since(0))
        .filter_map(|(id, source)| Some((id, visits.gap_of(&source)?)))
        .collect();
    let mut from = LAST_PLACE;
    for (epoch, first, last) in last_epochs(database) {
        let first = find_fold_start(database, &gaps, first, last)?;
        from = from.min(first);
        let mut select =
            Select::<StoredReadings>::select_between(&database.connection, first, last)?;
        let mut cursor = select.open_cursor()?;
        while let Some((_, reading)) = cursor.read_next()? {
            if gaps.contains_key(&reading.source.0) {
                let input = TimedReading::new(reading, &database.timeline, epoch);
                visits.fold_reading(&input, sources, &mut Vec::new());
            }
        }
    }
    let told = read_reported_visits(database, from)?;
    let name = |id| sources.get(id).map(|source| source.name.to_string());
    visits.finish_rebuild(|id: SourceId| {
        name(id).and_then(|name| told.get(&name).copied()).unwrap_or_default()
    });
    Ok(())
}

/// Returns the last two runs of the kernel, the older first, with the first and last place of their
/// records.
fn last_epochs(database: &Database) -> Vec<(Epoch, u64, u64)> {
    let mut epochs: Vec<(Epoch, u64, u64)> = Vec::new();
    let mut last = LAST_PLACE;
    for boot in database.boots.iter().rev() {
        let known = epochs.len();
        match epochs.last_mut() {
            Some((epoch, first, _)) if *epoch == boot.epoch => *first = boot.first_seq,
            Some(_) if known == 2 => break,
            Some(_) | None => epochs.push((boot.epoch, boot.first_seq, last)),
        }
        last = boot.first_seq.saturating_sub(1);
    }
    epochs.reverse();
    epochs
}

/// Finds the place between `first` and `last` from which to fold: before it, every source was quiet
/// for longer than its gap. Includes the state of each source before.
fn find_fold_start(
    database: &Database,
    gaps: &HashMap<u32, std::time::Duration>,
    first: u64,
    last: u64,
) -> db::Result<u64> {
    let mut select = Select::<StoredReadings>::select_backward(&database.connection, first, last)?
        .at_most(LOOKBACK_ROWS);
    let mut cursor = select.open_cursor()?;
    let (mut begin, mut newest) = (last, None);
    // By source: the earliest of the states that may belong to a visit under way.
    let mut open: HashMap<u32, Option<Mono>> = gaps.keys().map(|id| (*id, None)).collect();
    while let Some((seq, reading)) = cursor.read_next()? {
        begin = seq;
        let (source, mono) = (reading.source.0, reading.mono);
        let newest = *newest.get_or_insert(mono);
        let (Some(gap), Some(earliest)) = (gaps.get(&source), open.get_mut(&source)) else {
            continue;
        };
        if !matches!(reading.value, Value::State(_)) {
            continue;
        }
        if mono + *gap + SLACK < earliest.unwrap_or(newest) {
            open.remove(&source);
        } else {
            *earliest = Some(mono);
        }
        if open.is_empty() {
            break;
        }
    }
    Ok(begin)
}

/// Returns the last reported visit of each source from the place `from` on.
fn read_reported_visits(
    database: &Database,
    from: u64,
) -> db::Result<HashMap<String, ReportedVisits>> {
    let mut select = Select::<StoredEvents>::from(&database.connection, from)?;
    let mut cursor = select.open_cursor()?;
    let mut told: HashMap<String, ReportedVisits> = HashMap::new();
    while let Some((_, event)) = cursor.read_next()? {
        let Some(stored) = VisitMembers::from_text(event.event, event.members) else { continue };
        let start = Some(Wall(stored.start_ms));
        let known = told.entry(stored.source).or_default();
        match stored.live {
            Some(true) => known.began = start,
            None => known.ended = start,
            Some(false) => {}
        }
    }
    Ok(told)
}
