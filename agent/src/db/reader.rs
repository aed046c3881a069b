//! Looking at the store from outside: the commands `readings`, `alerts` and `visits`, beside a running agent
//! or without one.

use std::path::Path;

use pulsegate_core::record::event::{VISIT, VisitMembers};
use pulsegate_core::record::id::RecordId;
use pulsegate_core::record::lane::Account;
use pulsegate_core::record::reading::{HeartDetail, Seq, Value};
use pulsegate_core::rules::KernelBoot;
use pulsegate_core::time::Wall;
use pulsegate_core::time::timeline::{Epoch, Timeline, Trust};
use pulsegate_core::visits::{self, Facts};
use rusqlite::{Connection, Params, Row, params};

use super::bounds;
use super::load::{self, BootRow};
use super::rows::{owned, read_detail, read_value};
use super::schema;

const READINGS: &str = "SELECT readings.seq, name, kind, value, mono_ms, time_ms, detail
    FROM readings JOIN sources ON sources.id = readings.source";
const ALERTS: &str = "SELECT seq, rule, coalesce(name, source), raised, severity, value,
    window_start_ms, window_end_ms, time_ms, epoch, score
    FROM alerts LEFT JOIN sources ON sources.id = alerts.source LEFT JOIN scores USING (seq)";
const VISITS: &str = "SELECT seq, members, epoch, mono_ms FROM events WHERE event = 'visit'";
/// Whom a visit was to.
const VISITED: &str = "json_extract('{' || members || '}', '$.source')";
const FIRST: &str = "ORDER BY 1 LIMIT ?2";
const LAST: &str = "ORDER BY 1 DESC LIMIT ?2";

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
    pub(crate) source: String,
    pub(crate) kind: String,
    pub(crate) value: Value,
    pub(crate) detail: Option<HeartDetail>,
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

    /// The last `limit` readings, of one source if it is named.
    pub(crate) fn readings(
        &self,
        source: Option<&str>,
        limit: u32,
    ) -> rusqlite::Result<Named<ReadingFound>> {
        let select = format!("{READINGS} WHERE ?1 IS NULL OR name = ?1 {LAST}");
        let mut found = self.found(&select, params![source, limit], |row| self.reading(row))?;
        found.reverse();
        Ok(found)
    }

    /// The first `limit` readings behind the place `after`.
    pub(crate) fn readings_behind(
        &self,
        after: Seq,
        limit: u32,
    ) -> rusqlite::Result<Named<ReadingFound>> {
        let select = format!("{READINGS} WHERE readings.seq > ?1 {FIRST}");
        risen(after, self.found(&select, params![after.0, limit], |row| self.reading(row))?)
    }

    /// The last `limit` alerts, of one source if it is named.
    pub(crate) fn alerts(
        &self,
        source: Option<&str>,
        limit: u32,
    ) -> rusqlite::Result<Named<AlertFound>> {
        let select = format!("{ALERTS} WHERE ?1 IS NULL OR name = ?1 {LAST}");
        let mut found = self.found(&select, params![source, limit], |row| self.alert(row))?;
        found.reverse();
        Ok(found)
    }

    /// The first `limit` alerts behind the place `after`.
    pub(crate) fn alerts_behind(
        &self,
        after: Seq,
        limit: u32,
    ) -> rusqlite::Result<Named<AlertFound>> {
        let select = format!("{ALERTS} WHERE alerts.seq > ?1 {FIRST}");
        risen(after, self.found(&select, params![after.0, limit], |row| self.alert(row))?)
    }

    /// The last `limit` visits, to one source if it is named.
    pub(crate) fn visits(
        &self,
        source: Option<&str>,
        limit: u32,
    ) -> rusqlite::Result<Named<VisitFound>> {
        let select = format!("{VISITS} AND (?1 IS NULL OR {VISITED} = ?1) {LAST}");
        let mut found = self.found(&select, params![source, limit], |row| self.visit(row))?;
        found.reverse();
        Ok(found)
    }

    /// The first `limit` visits behind the place `after`.
    pub(crate) fn visits_behind(
        &self,
        after: Seq,
        limit: u32,
    ) -> rusqlite::Result<Named<VisitFound>> {
        let select = format!("{VISITS} AND events.seq > ?1 {FIRST}");
        risen(after, self.found(&select, params![after.0, limit], |row| self.visit(row))?)
    }

    fn found<T>(
        &self,
        select: &str,
        parameters: impl Params,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<Option<T>>,
    ) -> rusqlite::Result<Named<T>> {
        let mut select = self.connection.prepare_cached(select)?;
        let mut rows = select.query(parameters)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let seq = bounds::read_place(row, 0)?;
            let id = RecordId { boot: self.boot_of(seq).boot, seq: Seq(seq) };
            found.extend(read(row)?.map(|record| (id, record)));
        }
        Ok(found)
    }

    fn reading(&self, row: &Row<'_>) -> rusqlite::Result<Option<ReadingFound>> {
        let (time, trust) = match bounds::read_optional_time(row, 5)? {
            Some(own) => (Wall(own), Trust::Trusted),
            None => {
                let epoch = self.boot_of(bounds::read_place(row, 0)?).epoch;
                self.timeline.wall(epoch, bounds::read_mono(row, 4)?)
            }
        };
        Ok(Some(ReadingFound {
            source: row.get(1)?,
            kind: row.get(2)?,
            value: owned(read_value(row, 3)?),
            detail: read_detail(row, 6)?,
            time,
            trust,
        }))
    }

    fn alert(&self, row: &Row<'_>) -> rusqlite::Result<Option<AlertFound>> {
        let epoch = bounds::read_optional_epoch(row, 9)?;
        let time_at = |column| bounds::read_optional_time(row, column);
        let window = time_at(6)?.zip(time_at(7)?);
        let found = AlertFound {
            rule: row.get(1)?,
            source: row.get(2)?,
            raised: row.get(3)?,
            severity: row.get(4)?,
            value: owned(read_value(row, 5)?),
            score: row.get(10)?,
            window: window.map(|(start, end)| (Wall(start), Wall(end))),
            time: Wall(bounds::read_time(row, 8)?),
            trust: Trust::Trusted,
        };
        Ok(Some(found.corrected(&self.timeline, epoch)))
    }

    fn visit(&self, row: &Row<'_>) -> rusqlite::Result<Option<VisitFound>> {
        let Some(stored) = VisitMembers::read(VISIT, bounds::read_members(row, 1)?) else {
            return Ok(None);
        };
        let (told, _) = self.timeline.wall(bounds::read_epoch(row, 2)?, bounds::read_mono(row, 3)?);
        Ok(Some(VisitFound { told: Some(told), ..VisitFound::correct(stored, &self.timeline) }))
    }

    pub(crate) fn boot_of(&self, seq: u64) -> BootRow {
        load::boot_of(&self.boots, seq)
    }
}

/// Records behind the place `after`, if their places rise. On a damaged page they may not, and who
/// reads on behind the last one would never come to the end.
fn risen<T>(after: Seq, found: Named<T>) -> rusqlite::Result<Named<T>> {
    let places = std::iter::once(after).chain(found.iter().map(|(id, _)| id.seq));
    if places.is_sorted_by(|before, next| before < next) {
        Ok(found)
    } else {
        Err(bounds::out_of_bounds(0))
    }
}

impl AlertFound {
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
