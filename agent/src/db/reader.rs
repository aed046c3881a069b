//! Reading the store from outside: for the commands `readings`, `alerts` and `visits`, beside a
//! running agent or without an agent.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::Arc;

use pulsegate_core::record::event::VisitMembers;
use pulsegate_core::record::id::RecordId;
use pulsegate_core::record::reading::{Reading, Seq, Value};
use pulsegate_core::rules::KernelBoot;
use pulsegate_core::time::Wall;
use pulsegate_core::time::timeline::{ClockTrust, Epoch, Timeline};
use pulsegate_core::visits::{self, Facts};
use pulsegate_sensors::{Source, SourceId};
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::cursor::{LAST_PLACE, Record, Select};
use super::load::{self, BootRow};
use super::rows::{StoredAlert, StoredAlerts, StoredEvents, StoredReadings};
use super::schema;

/// A read-only connection.
pub(crate) struct Reader {
    pub(crate) connection: Connection,
    pub(crate) boots: Vec<BootRow>,
    pub(crate) timeline: Timeline,
}

/// The wanted records of a lane.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Choice<'a> {
    /// The last records, of the named source or of all, and their number at most.
    Last(Option<&'a str>, u32),
    /// The first records behind a place, and their number at most.
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

/// Records with their ids, the oldest first.
pub(crate) type NamedRecords<T> = Vec<(RecordId, T)>;

/// A reading found in the store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReadingFound {
    pub(crate) source: Arc<Source>,
    pub(crate) reading: Reading,
    pub(crate) time: Wall,
    pub(crate) trust: ClockTrust,
}

/// An alert found in the store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AlertFound {
    pub(crate) rule: String,
    pub(crate) source: String,
    pub(crate) raised: bool,
    pub(crate) severity: String,
    pub(crate) value: Value,
    /// The anomaly score; `None` unless the rule computes a score.
    pub(crate) score: Option<f64>,
    pub(crate) window: Option<(Wall, Wall)>,
    pub(crate) time: Wall,
    pub(crate) trust: ClockTrust,
}

impl Reader {
    /// Opens the store at `path`.
    ///
    /// # Errors
    /// When the store is missing or cannot be read.
    pub(crate) fn open_readonly(path: &Path) -> rusqlite::Result<Self> {
        let connection = schema::open_reader(path)?;
        let (boots, timeline) = (load::read_boots(&connection)?, load::read_timeline(&connection)?);
        Ok(Self { connection, boots, timeline })
    }

    /// Reads the accounts of the lanes.
    #[cfg(any(test, feature = "demo"))]
    pub(crate) fn read_accounts(
        &mut self,
    ) -> rusqlite::Result<[pulsegate_core::record::lane::RecordAccount; 3]> {
        load::load_accounts(&mut self.connection)
    }

    /// Returns the place of the last record.
    pub(crate) fn last_record_place(&self) -> rusqlite::Result<Seq> {
        let last = "SELECT max(seq) FROM (SELECT max(seq) AS seq FROM readings UNION ALL
            SELECT max(seq) FROM alerts UNION ALL SELECT max(seq) FROM events)";
        self.connection
            .query_row(last, [], |row| Ok(Seq(row.get::<_, Option<u64>>(0)?.unwrap_or(0))))
    }

    /// Returns the places of the first and the last reading.
    pub(crate) fn reading_span(&self) -> rusqlite::Result<Option<(u64, u64)>> {
        let select = "SELECT min(seq), max(seq) FROM readings";
        self.connection.query_row(select, [], |row| {
            Ok(row.get::<_, Option<u64>>(0)?.zip(row.get::<_, Option<u64>>(1)?))
        })
    }

    /// Returns readings of known sources.
    pub(crate) fn last_readings(
        &self,
        wanted: Choice<'_>,
    ) -> rusqlite::Result<NamedRecords<ReadingFound>> {
        let mut names = SourceNames::new(&self.connection);
        self.find_records::<StoredReadings, _>(wanted, |seq, reading| {
            let Some(source) = names.find_source(reading.source)? else { return Ok(None) };
            if !wanted.is_of(&source.name) {
                return Ok(None);
            }
            let (time, trust) = reading.wall_time(&self.timeline, self.boot_of(seq).epoch);
            let (source, reading) = (Arc::clone(source), reading.clone());
            Ok(Some(ReadingFound { source, reading, time, trust }))
        })
    }

    /// Returns alerts.
    pub(crate) fn last_alerts(
        &self,
        wanted: Choice<'_>,
    ) -> rusqlite::Result<NamedRecords<AlertFound>> {
        let mut names = SourceNames::new(&self.connection);
        self.find_records::<StoredAlerts, _>(wanted, |_, alert| {
            let source = names.find_source(alert.source)?.map(|source| &*source.name);
            if !wanted.is_of(source.unwrap_or_default()) {
                return Ok(None);
            }
            let epoch = alert.epoch;
            Ok(Some(AlertFound::new(alert, source).correct_times(&self.timeline, epoch)))
        })
    }

    /// Returns visits.
    pub(crate) fn last_visits(
        &self,
        wanted: Choice<'_>,
    ) -> rusqlite::Result<NamedRecords<VisitFound>> {
        self.find_records::<StoredEvents, _>(wanted, |_, event| {
            let visit = event.ended_visit().filter(|visit| wanted.is_of(&visit.source));
            Ok(visit.map(|visit| {
                let (told, _) = self.timeline.wall_time(event.epoch, event.mono);
                VisitFound { told: Some(told), ..VisitFound::from_stored(visit, &self.timeline) }
            }))
        })
    }

    /// Reads records until the wanted number is found.
    fn find_records<R: Record, T>(
        &self,
        wanted: Choice<'_>,
        mut find: impl FnMut(u64, R::Lent<'_>) -> rusqlite::Result<Option<T>>,
    ) -> rusqlite::Result<NamedRecords<T>> {
        let connection = &self.connection;
        let (mut select, limit) = match wanted {
            Choice::Last(_, limit) => {
                (Select::<R>::select_backward(connection, 0, LAST_PLACE)?, limit)
            }
            Choice::Behind(after, limit) => {
                (Select::from(connection, after.0.saturating_add(1))?, limit)
            }
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (mut cursor, mut found) = (select.open_cursor()?, Vec::new());
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

/// Searches the whole database at `path` for damage and for missing records. Every `steps` steps of SQLite, asks whether to
/// stop. Returns a description of the first fault.
///
/// # Errors
/// When the database cannot be read, or the search was stopped: see
/// [`is_interrupted`](super::error::is_interrupted).
pub(crate) fn find_damage(
    path: &Path,
    steps: i32,
    is_over: impl FnMut() -> bool + Send + 'static,
) -> rusqlite::Result<Option<String>> {
    let mut connection = schema::open_reader(path)?;
    connection.progress_handler(steps, Some(is_over))?;
    let told: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if told != "ok" {
        return Ok(Some(told));
    }
    let lane = load::find_missing_records(&mut connection)?;
    Ok(lane.map(|lane| format!("pending records of the lane `{}` are missing", lane.as_str())))
}

/// The stored sources, each read on first use.
pub(crate) struct SourceNames<'c> {
    connection: &'c Connection,
    known: HashMap<SourceId, Option<Arc<Source>>>,
}

impl<'c> SourceNames<'c> {
    pub(crate) fn new(connection: &'c Connection) -> Self {
        Self { connection, known: HashMap::new() }
    }

    /// Returns the source with this number; `None` if its row is lost.
    pub(crate) fn find_source(&mut self, id: SourceId) -> rusqlite::Result<Option<&Arc<Source>>> {
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
    /// Makes a found alert of a stored one, with times still to be corrected. A source without a
    /// name is given by number.
    pub(crate) fn new(stored: StoredAlert, source: Option<&str>) -> Self {
        Self {
            window: stored.decided_window(),
            rule: stored.rule.into(),
            source: source.map_or_else(|| stored.source.0.to_string(), str::to_owned),
            raised: stored.raised,
            severity: stored.severity.into(),
            score: stored.score,
            time: stored.time,
            trust: ClockTrust::Trusted,
            value: stored.value,
        }
    }

    /// Corrects the times, given on the reference axis of a kernel run.
    pub(crate) fn correct_times(mut self, timeline: &Timeline, epoch: Option<Epoch>) -> Self {
        let Some(epoch) = epoch else { return self };
        let correct = |time| timeline.correct_reference(epoch, time);
        self.window = self.window.map(|(start, end)| (correct(start).0, correct(end).0));
        (self.time, self.trust) = correct(self.time);
        self
    }
}

/// A stored visit with corrected times.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct VisitFound {
    pub(crate) id: Box<str>,
    pub(crate) source: String,
    pub(crate) start: Wall,
    pub(crate) end: Wall,
    pub(crate) openings: u32,
    pub(crate) units: f64,
    pub(crate) unit: Option<String>,
    /// Time of the event; `None` in a replay.
    pub(crate) told: Option<Wall>,
    pub(crate) trust: ClockTrust,
}

impl VisitFound {
    /// Makes a visit of a stored one, with corrected times.
    pub(crate) fn from_stored(stored: VisitMembers, timeline: &Timeline) -> Self {
        let correct = |time: i64| match stored.epoch {
            Some(epoch) => timeline.correct_reference(Epoch(epoch), Wall(time)),
            None => (Wall(time), ClockTrust::Trusted),
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

    /// Returns the facts for a report.
    pub(crate) fn report_facts(&self) -> Facts<'_> {
        Facts {
            source: &self.source,
            openings: self.openings,
            units: self.units,
            unit: self.unit.as_deref().unwrap_or(""),
            start: self.start,
            end: self.end,
        }
    }

    /// Returns the seconds from the first opening to the last.
    pub(crate) fn duration_seconds(&self) -> f64 {
        self.report_facts().duration_seconds()
    }
}
