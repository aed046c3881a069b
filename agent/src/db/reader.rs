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
use super::rows::{StoredAlert, StoredAlerts, StoredEvents, StoredReadings};
use super::schema;

/// A connection that cannot write.
pub(crate) struct Reader {
    pub(crate) connection: Connection,
    pub(crate) boots: Vec<BootRow>,
    pub(crate) timeline: Timeline,
}

/// The records that are wanted of a lane.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Choice<'a> {
    /// The last ones, of the named source or of all, and how many at most.
    Last(Option<&'a str>, u32),
    /// The first ones behind a place, and how many at most.
    Behind(Seq, u32),
}

impl Choice<'_> {
    fn is_of(&self, source: &str) -> bool {
        match self {
            Self::Last(Some(wanted), _) => *wanted == source,
            Self::Last(None, _) | Self::Behind(..) => true,
        }
    }
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

    /// Returns readings of known sources.
    pub(crate) fn readings(&self, wanted: Choice<'_>) -> rusqlite::Result<Named<ReadingFound>> {
        let mut names = SourceNames::new(&self.connection);
        self.found::<StoredReadings, _>(wanted, |seq, reading| {
            let Some(source) = names.find(reading.source)? else { return Ok(None) };
            if !wanted.is_of(&source.name) {
                return Ok(None);
            }
            let (time, trust) = reading.wall_time(&self.timeline, self.boot_of(seq).epoch);
            let (source, reading) = (Arc::clone(source), reading.clone());
            Ok(Some(ReadingFound { source, reading, time, trust }))
        })
    }

    /// Returns alerts.
    pub(crate) fn alerts(&self, wanted: Choice<'_>) -> rusqlite::Result<Named<AlertFound>> {
        let mut names = SourceNames::new(&self.connection);
        self.found::<StoredAlerts, _>(wanted, |_, alert| {
            let source = names.find(alert.source)?.map(|source| &*source.name);
            if !wanted.is_of(source.unwrap_or_default()) {
                return Ok(None);
            }
            let epoch = alert.epoch;
            Ok(Some(AlertFound::new(alert, source).corrected(&self.timeline, epoch)))
        })
    }

    /// Returns visits.
    pub(crate) fn visits(&self, wanted: Choice<'_>) -> rusqlite::Result<Named<VisitFound>> {
        self.found::<StoredEvents, _>(wanted, |_, event| {
            let visit = event.visit().filter(|visit| wanted.is_of(&visit.source));
            Ok(visit.map(|visit| {
                let (told, _) = self.timeline.wall(event.epoch, event.mono);
                VisitFound { told: Some(told), ..VisitFound::correct(visit, &self.timeline) }
            }))
        })
    }

    /// Reads records until as many are found as are wanted.
    fn found<R: Record, T>(
        &self,
        wanted: Choice<'_>,
        mut find: impl FnMut(u64, R::Lent<'_>) -> rusqlite::Result<Option<T>>,
    ) -> rusqlite::Result<Named<T>> {
        let connection = &self.connection;
        let (mut select, limit) = match wanted {
            Choice::Last(_, limit) => (Select::<R>::backward(connection, 0, LAST_PLACE)?, limit),
            Choice::Behind(after, limit) => {
                (Select::from(connection, after.0.saturating_add(1))?, limit)
            }
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (mut cursor, mut found) = (select.open()?, Vec::new());
        while found.len() < limit {
            let Some((seq, record)) = cursor.read_next()? else { break };
            let id = RecordId { boot: self.boot_of(seq).boot, seq: Seq(seq) };
            found.extend(find(seq, record)?.map(|record| (id, record)));
        }
        if matches!(wanted, Choice::Last(..)) {
            found.reverse();
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
    pub(crate) fn new(stored: StoredAlert, source: Option<&str>) -> Self {
        Self {
            window: stored.window(),
            rule: stored.rule.into(),
            source: source.map_or_else(|| stored.source.0.to_string(), str::to_owned),
            raised: stored.raised,
            severity: stored.severity.into(),
            score: stored.score,
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
