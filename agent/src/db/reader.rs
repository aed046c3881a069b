//! Looking at the store from outside: the commands `readings`, `alerts` and `visits`, beside a running agent
//! or without one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::Arc;

use pulsegate_core::record::event::VisitMembers;
use pulsegate_core::record::id::RecordId;
use pulsegate_core::record::lane::Account;
use pulsegate_core::record::reading::{Reading, Seq, Value};
use pulsegate_core::rules::KernelBoot;
use pulsegate_core::time::Wall;
use pulsegate_core::time::timeline::{Epoch, Timeline, Trust};
use pulsegate_core::visits::{self, Facts};
use pulsegate_sensors::{Source, SourceId};
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::cursor::{LAST_PLACE, Record, Select};
use super::load::{self, BootRow};
use super::rows::{StoredAlert, StoredAlerts, StoredEvent, StoredEvents, StoredReadings};
use super::schema;

/// A connection that cannot write.
pub(crate) struct Reader {
    pub(crate) connection: Connection,
    pub(crate) boots: Vec<BootRow>,
    pub(crate) timeline: Timeline,
}

/// Some records, the oldest first, each with its name.
pub(crate) type Named<T> = Vec<(RecordId, T)>;

/// A reading that was found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReadingFound {
    pub(crate) source: Arc<Source>,
    pub(crate) reading: Reading,
    pub(crate) time: Wall,
    pub(crate) trust: Trust,
}

/// An alert that was found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AlertFound {
    pub(crate) rule: String,
    pub(crate) source: String,
    pub(crate) raised: bool,
    pub(crate) severity: String,
    pub(crate) value: Value,
    /// How unlike those before it is, if its rule asked that.
    pub(crate) score: Option<f64>,
    pub(crate) window: Option<(Wall, Wall)>,
    pub(crate) time: Wall,
    pub(crate) trust: Trust,
}

impl Reader {
    /// Opens the store at `path`.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = schema::open_reader(path)?;
        let (boots, timeline) = (load::read_boots(&connection)?, load::read_timeline(&connection)?);
        Ok(Self { connection, boots, timeline })
    }

    /// The accounts of the lanes.
    pub(crate) fn accounts(&mut self) -> rusqlite::Result<[Account; 3]> {
        load::accounts(&mut self.connection)
    }

    /// The place of the last record.
    pub(crate) fn last(&self) -> rusqlite::Result<Seq> {
        let last = "SELECT max(seq) FROM (SELECT max(seq) AS seq FROM readings UNION ALL
            SELECT max(seq) FROM alerts UNION ALL SELECT max(seq) FROM events)";
        self.connection
            .query_row(last, [], |row| Ok(Seq(row.get::<_, Option<u64>>(0)?.unwrap_or(0))))
    }

    /// The places of the first and the last reading.
    pub(crate) fn reading_span(&self) -> rusqlite::Result<Option<(u64, u64)>> {
        let select = "SELECT min(seq), max(seq) FROM readings";
        self.connection.query_row(select, [], |row| {
            Ok(row.get::<_, Option<u64>>(0)?.zip(row.get::<_, Option<u64>>(1)?))
        })
    }

    /// The last `limit` readings, of one source if it is named.
    pub(crate) fn readings(
        &self,
        source: Option<&str>,
        limit: u32,
    ) -> rusqlite::Result<Named<ReadingFound>> {
        let mut found = self.readings_of(self.backward()?, source, limit)?;
        found.reverse();
        Ok(found)
    }

    /// The first `limit` readings behind the place `after`.
    pub(crate) fn readings_behind(
        &self,
        after: Seq,
        limit: u32,
    ) -> rusqlite::Result<Named<ReadingFound>> {
        self.readings_of(self.behind(after)?, None, limit)
    }

    fn readings_of(
        &self,
        select: Select<'_, StoredReadings>,
        of: Option<&str>,
        limit: u32,
    ) -> rusqlite::Result<Named<ReadingFound>> {
        let mut names = SourceNames::new(&self.connection);
        self.found(select, limit, |seq, reading: &mut Reading| {
            let Some(source) = names.find(reading.source)? else { return Ok(None) };
            if of.is_some_and(|of| *source.name != *of) {
                return Ok(None);
            }
            let (time, trust) = match reading.time {
                Some(own) => (own, Trust::Trusted),
                None => self.timeline.wall(self.boot_of(seq).epoch, reading.mono),
            };
            let (source, reading) = (Arc::clone(source), reading.clone());
            Ok(Some(ReadingFound { source, reading, time, trust }))
        })
    }

    /// The last `limit` alerts, of one source if it is named.
    pub(crate) fn alerts(
        &self,
        source: Option<&str>,
        limit: u32,
    ) -> rusqlite::Result<Named<AlertFound>> {
        let mut found = self.alerts_of(self.backward()?, source, limit)?;
        found.reverse();
        Ok(found)
    }

    /// The first `limit` alerts behind the place `after`.
    pub(crate) fn alerts_behind(
        &self,
        after: Seq,
        limit: u32,
    ) -> rusqlite::Result<Named<AlertFound>> {
        self.alerts_of(self.behind(after)?, None, limit)
    }

    fn alerts_of(
        &self,
        select: Select<'_, StoredAlerts>,
        of: Option<&str>,
        limit: u32,
    ) -> rusqlite::Result<Named<AlertFound>> {
        let mut names = SourceNames::new(&self.connection);
        self.found(select, limit, |_, alert: StoredAlert<'_>| {
            let source = names.find(alert.source)?;
            if of.is_some_and(|of| source.is_none_or(|source| *source.name != *of)) {
                return Ok(None);
            }
            let epoch = alert.epoch;
            let found = AlertFound::new(alert, source.map(|source| &*source.name));
            Ok(Some(found.corrected(&self.timeline, epoch)))
        })
    }

    /// The last `limit` visits, to one source if it is named.
    pub(crate) fn visits(
        &self,
        source: Option<&str>,
        limit: u32,
    ) -> rusqlite::Result<Named<VisitFound>> {
        let mut found = self.visits_of(self.backward()?, source, limit)?;
        found.reverse();
        Ok(found)
    }

    /// The first `limit` visits behind the place `after`.
    pub(crate) fn visits_behind(
        &self,
        after: Seq,
        limit: u32,
    ) -> rusqlite::Result<Named<VisitFound>> {
        self.visits_of(self.behind(after)?, None, limit)
    }

    fn visits_of(
        &self,
        select: Select<'_, StoredEvents>,
        of: Option<&str>,
        limit: u32,
    ) -> rusqlite::Result<Named<VisitFound>> {
        self.found(select, limit, |_, event: StoredEvent<'_>| {
            let Some(visit) = event.visit() else { return Ok(None) };
            if of.is_some_and(|of| visit.source != of) {
                return Ok(None);
            }
            let (told, _) = self.timeline.wall(event.epoch, event.mono);
            Ok(Some(VisitFound { told: Some(told), ..VisitFound::correct(visit, &self.timeline) }))
        })
    }

    fn backward<R: Record>(&self) -> rusqlite::Result<Select<'_, R>> {
        Select::backward(&self.connection, 0, LAST_PLACE)
    }

    fn behind<R: Record>(&self, after: Seq) -> rusqlite::Result<Select<'_, R>> {
        Select::from(&self.connection, after.0.saturating_add(1))
    }

    /// Reads records until `limit` of them are found.
    fn found<R: Record, T>(
        &self,
        mut select: Select<'_, R>,
        limit: u32,
        mut find: impl FnMut(u64, R::Lent<'_>) -> rusqlite::Result<Option<T>>,
    ) -> rusqlite::Result<Named<T>> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (mut cursor, mut found) = (select.open()?, Vec::new());
        while found.len() < limit {
            let Some((seq, record)) = cursor.read_next()? else { break };
            let id = RecordId { boot: self.boot_of(seq).boot, seq: Seq(seq) };
            found.extend(find(seq, record)?.map(|record| (id, record)));
        }
        Ok(found)
    }

    pub(crate) fn boot_of(&self, seq: u64) -> BootRow {
        load::boot_of(&self.boots, seq)
    }
}

/// Looks through the whole database at `path`, and asks every `steps` steps of SQLite whether to break it off.
/// Returns a description of the first fault.
///
/// # Errors
/// When the database cannot be read, or the look was broken off: see [`is_interrupted`](super::error::is_interrupted).
pub(crate) fn find_damage(
    path: &Path,
    steps: i32,
    is_over: impl FnMut() -> bool + Send + 'static,
) -> rusqlite::Result<Option<String>> {
    let mut connection = schema::open_reader(path)?;
    connection.progress_handler(steps, Some(is_over))?;
    let told: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    Ok((told != "ok").then_some(told))
}

/// The stored sources, each read when it is first met.
pub(crate) struct SourceNames<'c> {
    connection: &'c Connection,
    known: HashMap<SourceId, Option<Arc<Source>>>,
}

impl<'c> SourceNames<'c> {
    pub(crate) fn new(connection: &'c Connection) -> Self {
        Self { connection, known: HashMap::new() }
    }

    /// Finds the source with this number; none if the table lost it.
    pub(crate) fn find(&mut self, id: SourceId) -> rusqlite::Result<Option<&Arc<Source>>> {
        let known = match self.known.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let select = "SELECT name, kind FROM sources WHERE id = ?1";
                let mut select = self.connection.prepare_cached(select)?;
                let read = |row: &Row<'_>| Ok(Source { name: row.get(0)?, kind: row.get(1)? });
                new.insert(select.query_row([id.0], read).optional()?.map(Arc::new))
            }
        };
        Ok(known.as_ref())
    }
}

impl AlertFound {
    /// Makes one of a stored alert, whose times are not corrected yet. A source without a name is told by its number.
    pub(crate) fn new(stored: StoredAlert<'_>, source: Option<&str>) -> Self {
        Self {
            rule: stored.rule.to_owned(),
            source: source.map_or_else(|| stored.source.0.to_string(), str::to_owned),
            raised: stored.raised,
            severity: stored.severity.to_owned(),
            score: stored.score,
            window: stored.window(),
            time: stored.time,
            trust: Trust::Trusted,
            value: stored.value,
        }
    }

    /// Turns its times, which lie on the axis of a kernel boot, into what they were.
    pub(crate) fn corrected(mut self, timeline: &Timeline, epoch: Option<Epoch>) -> Self {
        let Some(epoch) = epoch else { return self };
        let correct = |time| timeline.corrected(epoch, time);
        self.window = self.window.map(|(start, end)| (correct(start).0, correct(end).0));
        (self.time, self.trust) = correct(self.time);
        self
    }
}

/// A stored visit with its times as they are known by now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct VisitFound {
    pub(crate) id: Box<str>,
    pub(crate) source: String,
    pub(crate) start: Wall,
    pub(crate) end: Wall,
    pub(crate) openings: u32,
    pub(crate) units: f64,
    pub(crate) unit: Option<String>,
    /// When it was told, if it was.
    pub(crate) told: Option<Wall>,
    pub(crate) trust: Trust,
}

impl VisitFound {
    /// Corrects the times of a stored visit.
    pub(crate) fn correct(stored: VisitMembers, timeline: &Timeline) -> Self {
        let correct = |time: i64| match stored.epoch {
            Some(epoch) => timeline.corrected(Epoch(epoch), Wall(time)),
            None => (Wall(time), Trust::Trusted),
        };
        let ((start, trust), (end, _)) = (correct(stored.start_ms), correct(stored.end_ms));
        let id = visits::id(&stored.source, stored.epoch.map(KernelBoot), Wall(stored.start_ms));
        Self {
            id,
            start,
            end,
            trust,
            source: stored.source,
            openings: stored.openings,
            units: stored.units,
            unit: stored.unit,
            told: None,
        }
    }

    /// The facts that a report names.
    pub(crate) fn facts(&self) -> Facts<'_> {
        Facts {
            source: &self.source,
            openings: self.openings,
            units: self.units,
            unit: self.unit.as_deref().unwrap_or(""),
            start: self.start,
            end: self.end,
        }
    }

    /// From the first opening to the last.
    pub(crate) fn seconds(&self) -> f64 {
        self.facts().seconds()
    }
}
