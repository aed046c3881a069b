//! The filters at work: on a walk through the readings of the store, which may turn out to be in
//! vain and is then walked again.

mod recordings;

use std::sync::Arc;
use std::time::Duration;

use pulsegate_core::cloud::filter::{Filter, FilterSpec, Passage};
use pulsegate_core::cloud::record_text::{ReadingRow, ValueRef};
use pulsegate_core::record::reading::Seq;
use pulsegate_core::time::timeline::{Epoch, Trust};
use pulsegate_core::time::{Mono, Wall};
use pulsegate_sensors::{Contact, Source, SourceId, Sources};

use crate::db::bounds::{self, Rising};
use crate::db::database::Database;
use crate::db::rows::{read_detail, read_value};
use recordings::Recordings;

/// Bounds what a start reads back of the periods that are not over (P9).
const LOOKBACK_ROWS: u32 = 50_000;

/// What is held back.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Filters {
    /// By kind of reading.
    pub(crate) kinds: Vec<(Box<str>, FilterSpec)>,
    /// Of the other kinds.
    pub(crate) readings: FilterSpec,
    /// By rule: for how long from an alert on nothing is held back of its source.
    pub(crate) recordings: Vec<(Box<str>, Duration)>,
}

impl Filters {
    fn of(&self, source: &Source) -> Option<Filter> {
        let own = self.kinds.iter().find(|(kind, _)| *kind == source.kind);
        Filter::new(own.map_or(&self.readings, |(_, spec)| spec), source)
    }

    fn all(&self) -> impl Iterator<Item = &FilterSpec> {
        self.kinds.iter().map(|(_, spec)| spec).chain([&self.readings])
    }
}

/// See the module.
pub(super) struct Sieve {
    filters: Filters,
    recordings: Recordings,
    sources: Arc<Sources>,
    /// Whether everything passes.
    is_open: bool,
    is_primed: bool,
    /// By number of the source; as long as the sources seen so far.
    slots: Vec<Option<Slot>>,
    walk: u64,
}

struct Slot {
    filter: Filter,
    /// How it was when the walk began, and before the last reading.
    at_start: Filter,
    before: Filter,
    walk: u64,
}

impl Sieve {
    pub(super) fn new(filters: Filters, sources: Arc<Sources>) -> Self {
        let is_open = filters.all().all(FilterSpec::is_open);
        let recordings = Recordings::new(filters.recordings.clone());
        let is_primed = is_open;
        Self { filters, recordings, sources, is_open, is_primed, slots: Vec::new(), walk: 0 }
    }

    /// Begins a walk behind `after`. Before the first, the readings before it are looked at: they
    /// began the periods that are not over.
    pub(super) fn begin(&mut self, database: &Database, after: Seq) -> rusqlite::Result<()> {
        self.walk += 1;
        if !self.is_open {
            self.recordings.begin(database, after, &self.sources)?;
        }
        if !self.is_primed {
            self.is_primed = true;
            self.prime(database, after)?;
        }
        Ok(())
    }

    /// Whether a reading passes; it may pass as a mean. `event` is its time on the axis of the
    /// rules.
    pub(super) fn passes(
        &mut self,
        source: SourceId,
        event: Wall,
        reading: &mut ReadingRow<'_>,
    ) -> bool {
        if self.is_open {
            return true;
        }
        let walk = self.walk;
        let is_recorded = self.recordings.cover(source, event, &self.sources);
        let Some((slot, kind)) = self.slot(source) else { return true };
        if slot.walk != walk {
            slot.walk = walk;
            slot.at_start = slot.filter.clone();
        }
        slot.before = slot.filter.clone();
        if is_recorded {
            return true;
        }
        let plausible = is_plausible(reading, &kind);
        match slot.filter.take(reading.value, (reading.time, event), plausible) {
            Passage::AsItIs => true,
            Passage::Filtered => false,
            Passage::Mean { value, time } => {
                reading.value = ValueRef::Number(value);
                reading.time = time;
                reading.detail = None;
                true
            }
        }
    }

    /// The readings of these sources are walked through again from an earlier place: their filters
    /// begin anew.
    pub(super) fn begin_anew(&mut self, sources: &[u32]) {
        for source in sources {
            let id = SourceId(*source);
            let filter = self.sources.get(id).and_then(|source| self.filters.of(&source));
            if let (Some(Some(slot)), Some(filter)) = (self.slots.get_mut(id.0 as usize), filter) {
                slot.filter = filter;
            }
        }
    }

    /// The last reading that passed found no room: the next walk begins with it.
    pub(super) fn take_back(&mut self, source: SourceId) {
        if let Some(Some(slot)) = self.slots.get_mut(source.0 as usize) {
            slot.filter = slot.before.clone();
        }
    }

    /// The whole walk was in vain.
    pub(super) fn abandon(&mut self) {
        for slot in self.slots.iter_mut().flatten().filter(|slot| slot.walk == self.walk) {
            slot.filter = slot.at_start.clone();
        }
    }

    fn slot(&mut self, id: SourceId) -> Option<(&mut Slot, Arc<Source>)> {
        let at = id.0 as usize;
        while self.slots.len() <= at {
            let next = SourceId(u32::try_from(self.slots.len()).ok()?);
            let filter = self.sources.get(next).and_then(|source| self.filters.of(&source));
            self.slots.push(filter.map(|filter| Slot {
                at_start: filter.clone(),
                before: filter.clone(),
                filter,
                walk: 0,
            }));
        }
        let slot = self.slots.get_mut(at)?.as_mut()?;
        Some((slot, self.sources.get(id)?))
    }

    fn prime(&mut self, database: &Database, after: Seq) -> rusqlite::Result<()> {
        let periods = self.filters.all().filter_map(|spec| spec.mean_every);
        let Some(longest) = periods.max() else { return Ok(()) };
        let Some(first) = begin_of(database, after, longest)? else { return Ok(()) };
        let mut select = database.connection.prepare(
            "SELECT seq, source, mono_ms, value, time_ms, detail FROM readings
             WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq",
        )?;
        let mut rows = select.query([first, after.0])?;
        let mut places = Rising::default();
        while let Some(row) = rows.next()? {
            let seq = places.read(row, 0)?;
            let at = database.boot_of(seq);
            let (mono, own) = (bounds::read_mono(row, 2)?, bounds::read_optional_time(row, 4)?);
            let (time, trust) = match own {
                Some(given) => (Wall(given), Trust::Trusted),
                None => database.timeline.wall(at.epoch, mono),
            };
            let detail = read_detail(row, 5)?;
            let mut reading = ReadingRow {
                boot: at.boot,
                seq: Seq(seq),
                value: read_value(row, 3)?,
                detail: detail.as_ref(),
                time,
                trust,
            };
            let event = event(database, at.epoch, mono, own);
            self.passes(bounds::read_source(row, 1)?, event, &mut reading);
        }
        self.slots.iter_mut().flatten().for_each(|slot| slot.filter.forget_last());
        // None of these walks can be in vain any more.
        self.walk += 1;
        Ok(())
    }
}

/// The time of a reading on the axis of the rules: its own, if it brought one.
pub(super) fn event(database: &Database, epoch: Epoch, mono: Mono, own: Option<i64>) -> Wall {
    own.map_or_else(|| database.timeline.reference(epoch, mono), Wall)
}

/// A monitor without skin contact, or without a rate to tell, says nothing of a heart.
fn is_plausible(reading: &ReadingRow<'_>, source: &Source) -> bool {
    let lost = reading.detail.is_some_and(|detail| detail.contact == Contact::Lost);
    let none = &*source.kind == "heart_rate" && reading.value == ValueRef::Number(0.0);
    !lost && !none
}

/// The first of the readings up to `after` that lie within `period` of the last of them.
fn begin_of(database: &Database, after: Seq, period: Duration) -> rusqlite::Result<Option<u64>> {
    let mut select = database
        .connection
        .prepare("SELECT seq, mono_ms FROM readings WHERE seq <= ?1 ORDER BY seq DESC LIMIT ?2")?;
    let mut rows = select.query([after.0, u64::from(LOOKBACK_ROWS)])?;
    let (mut begin, mut newest) = (None, None);
    while let Some(row) = rows.next()? {
        let mono = bounds::read_mono(row, 1)?;
        if newest.get_or_insert(mono).since(mono) > period {
            break;
        }
        begin = Some(bounds::read_place(row, 0)?);
    }
    Ok(begin)
}
