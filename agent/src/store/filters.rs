//! The filters during a walk through the stored readings. A walk may be abandoned, and is then
//! repeated with the filters in their state before.

mod recordings;

use std::sync::Arc;
use std::time::Duration;

use pulsegate_core::cloud::filter::{Filter, FilterOutcome, FilterSpec};
use pulsegate_core::cloud::record_text::RecordStamp;
use pulsegate_core::record::id::RecordId;
use pulsegate_core::record::reading::{Reading, Seq, Value};
use pulsegate_core::time::Wall;
use pulsegate_sensors::{Source, SourceId, Sources};

use crate::db;
use crate::db::cursor::Select;
use crate::db::database::Database;
use crate::db::rows::StoredReadings;
use recordings::Recordings;

/// Rows read at a start to restore periods still under way (P9).
const LOOKBACK_ROWS: u32 = 50_000;

/// The readings held back from publishing.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Filters {
    /// By kind of reading.
    pub(crate) kinds: Vec<(Box<str>, FilterSpec)>,
    /// For all other kinds.
    pub(crate) readings: FilterSpec,
    /// By rule: time after an alert for which all readings of its source pass.
    pub(crate) recordings: Vec<(Box<str>, Duration)>,
}

impl Filters {
    fn filter_for(&self, source: &Source) -> Option<Filter> {
        let own = self.kinds.iter().find(|(kind, _)| *kind == source.kind);
        Filter::new(own.map_or(&self.readings, |(_, spec)| spec), source)
    }

    fn iter_specs(&self) -> impl Iterator<Item = &FilterSpec> {
        self.kinds.iter().map(|(_, spec)| spec).chain([&self.readings])
    }
}

/// The filters of all sources, and their states.
pub(super) struct FilterWalk {
    filters: Filters,
    recordings: Recordings,
    sources: Arc<Sources>,
    /// True if all readings pass.
    is_open: bool,
    is_primed: bool,
    /// By number of the source; as long as the number of sources seen.
    slots: Vec<Option<Slot>>,
    walk: u64,
}

struct Slot {
    filter: Filter,
    /// State at the start of the walk, and before the last reading.
    at_start: Filter,
    before: Filter,
    walk: u64,
}

impl FilterWalk {
    pub(super) fn new(filters: Filters, sources: Arc<Sources>) -> Self {
        let is_open = filters.iter_specs().all(FilterSpec::is_open);
        let recordings = Recordings::new(filters.recordings.clone());
        let is_primed = is_open;
        Self { filters, recordings, sources, is_open, is_primed, slots: Vec::new(), walk: 0 }
    }

    /// Begins a walk behind `after`. Before the first walk, reads back the readings of periods
    /// still under way.
    pub(super) fn begin_walk(&mut self, database: &Database, after: Seq) -> db::Result<()> {
        self.walk += 1;
        if !self.is_open {
            self.recordings.note_new_alerts(database, after, &self.sources)?;
        }
        if !self.is_primed {
            self.is_primed = true;
            self.prime_periods(database, after)?;
        }
        Ok(())
    }

    /// Returns true if a reading passes. With averaging, a passing reading is replaced by the mean.
    /// `event` is the reading's time on the axis of the rules.
    pub(super) fn admit_reading(
        &mut self,
        event: Wall,
        reading: &mut Reading,
        stamp: &mut RecordStamp,
    ) -> bool {
        if self.is_open {
            return true;
        }
        let (walk, source) = (self.walk, reading.source);
        let is_recorded = self.recordings.covers_reading(source, event, &self.sources);
        let Some((slot, kind)) = self.find_slot(source) else { return true };
        if slot.walk != walk {
            slot.walk = walk;
            slot.at_start = slot.filter.clone();
        }
        slot.before = slot.filter.clone();
        if is_recorded {
            return true;
        }
        let plausible = is_plausible(reading, &kind);
        match slot.filter.filter_reading(&reading.value, (stamp.time, event), plausible) {
            FilterOutcome::AsItIs => true,
            FilterOutcome::Filtered => false,
            FilterOutcome::Mean { value, time } => {
                reading.value = Value::Number(value);
                stamp.time = time;
                reading.detail = None;
                true
            }
        }
    }

    /// Resets the filters of these sources, whose readings are read again from an earlier place.
    pub(super) fn begin_anew(&mut self, sources: &[u32]) {
        for source in sources {
            let id = SourceId(*source);
            let filter = self.sources.get(id).and_then(|source| self.filters.filter_for(&source));
            if let (Some(Some(slot)), Some(filter)) = (self.slots.get_mut(id.0 as usize), filter) {
                slot.filter = filter;
            }
        }
    }

    /// Undoes the last reading, which found no room: the next walk begins with the same reading.
    pub(super) fn take_back(&mut self, source: SourceId) {
        if let Some(Some(slot)) = self.slots.get_mut(source.0 as usize) {
            slot.filter = slot.before.clone();
        }
    }

    /// Undoes the whole walk.
    pub(super) fn abandon_walk(&mut self) {
        for slot in self.slots.iter_mut().flatten().filter(|slot| slot.walk == self.walk) {
            slot.filter = slot.at_start.clone();
        }
    }

    fn find_slot(&mut self, id: SourceId) -> Option<(&mut Slot, Arc<Source>)> {
        let at = id.0 as usize;
        while self.slots.len() <= at {
            let next = SourceId(u32::try_from(self.slots.len()).ok()?);
            let filter = self.sources.get(next).and_then(|source| self.filters.filter_for(&source));
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

    fn prime_periods(&mut self, database: &Database, after: Seq) -> db::Result<()> {
        let periods = self.filters.iter_specs().filter_map(|spec| spec.mean_every);
        let Some(longest) = periods.max() else { return Ok(()) };
        let Some(first) = begin_of(database, after, longest)? else { return Ok(()) };
        let mut select =
            Select::<StoredReadings>::select_between(&database.connection, first, after.0)?;
        let mut cursor = select.open_cursor()?;
        while let Some((seq, reading)) = cursor.read_next()? {
            let at = database.boot_of(seq);
            let event = reading.event_time(&database.timeline, at.epoch);
            let (time, trust) = reading.wall_time(&database.timeline, at.epoch);
            let id = RecordId { boot: at.boot, seq: Seq(seq) };
            self.admit_reading(event, reading, &mut RecordStamp { id, time, trust });
        }
        self.slots.iter_mut().flatten().for_each(|slot| slot.filter.forget_last());
        // None of these walks can be undone any more.
        self.walk += 1;
        Ok(())
    }
}

/// Returns false for a monitor without skin contact or rate, whose value says nothing of a heart.
fn is_plausible(reading: &Reading, source: &Source) -> bool {
    let none = &*source.kind == "heart_rate" && reading.value == Value::Number(0.0);
    reading.is_plausible() && !none
}

/// Returns the first reading that lies within `period` before the last reading up to `after`.
fn begin_of(database: &Database, after: Seq, period: Duration) -> db::Result<Option<u64>> {
    let mut select = Select::<StoredReadings>::select_backward(&database.connection, 0, after.0)?
        .at_most(LOOKBACK_ROWS);
    let mut cursor = select.open_cursor()?;
    let (mut begin, mut newest) = (None, None);
    while let Some((seq, reading)) = cursor.read_next()? {
        if newest.get_or_insert(reading.mono).since(reading.mono) > period {
            break;
        }
        begin = Some(seq);
    }
    Ok(begin)
}
