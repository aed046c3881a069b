//! Looking at the store from outside: the commands `readings`, `alerts` and `visits`, beside a running agent
//! or without one.

use std::path::Path;

use pulsegate_core::lane::Account;
use pulsegate_core::reading::{HeartDetail, Value};
use pulsegate_core::time::{Mono, Wall};
use pulsegate_core::timeline::{Epoch, Timeline, Trust};
use rusqlite::{Connection, params};

use super::fold::owned;
use super::load::{self, BootRow};
use super::schema;
use super::take::{read_detail, read_value};
use super::visits::{Stored, VISIT, VisitFound};

/// A connection that cannot write.
pub(crate) struct Reader {
    connection: Connection,
    boots: Vec<BootRow>,
    timeline: Timeline,
}

/// A reading that was found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReadingFound {
    pub(crate) id: String,
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
    pub(crate) id: String,
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

    /// The last `limit` readings, of one source if it is named, the oldest first.
    pub(crate) fn readings(
        &self,
        source: Option<&str>,
        limit: u32,
    ) -> rusqlite::Result<Vec<ReadingFound>> {
        let mut select = self.connection.prepare(
            "SELECT readings.seq, name, kind, value, mono_ms, time_ms, detail
             FROM readings JOIN sources ON sources.id = readings.source
             WHERE ?1 IS NULL OR name = ?1 ORDER BY readings.seq DESC LIMIT ?2",
        )?;
        let mut rows = select.query(params![source, limit])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let seq = row.get(0)?;
            let own: Option<i64> = row.get(5)?;
            let (time, trust) = match own {
                Some(own) => (Wall(own), Trust::Trusted),
                None => self.timeline.wall(self.boot_of(seq).epoch, Mono(row.get(4)?)),
            };
            found.push(ReadingFound {
                id: self.id(seq),
                source: row.get(1)?,
                kind: row.get(2)?,
                value: owned(read_value(row, 3)?),
                detail: read_detail(row, 6)?,
                time,
                trust,
            });
        }
        found.reverse();
        Ok(found)
    }

    /// The last `limit` alerts, of one source if it is named, the oldest first.
    pub(crate) fn alerts(
        &self,
        source: Option<&str>,
        limit: u32,
    ) -> rusqlite::Result<Vec<AlertFound>> {
        let mut select = self.connection.prepare(
            "SELECT seq, rule, coalesce(name, source), raised, severity, value, window_start_ms,
             window_end_ms, time_ms, epoch, score
             FROM alerts LEFT JOIN sources ON sources.id = alerts.source
             LEFT JOIN scores USING (seq)
             WHERE ?1 IS NULL OR name = ?1 ORDER BY seq DESC LIMIT ?2",
        )?;
        let mut rows = select.query(params![source, limit])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let epoch: Option<u32> = row.get(9)?;
            let correct = |time: i64| match epoch {
                Some(epoch) => self.timeline.corrected(Epoch(epoch), Wall(time)),
                None => (Wall(time), Trust::Trusted),
            };
            let (time, trust) = correct(row.get(8)?);
            let window = row.get::<_, Option<i64>>(6)?.zip(row.get::<_, Option<i64>>(7)?);
            found.push(AlertFound {
                id: self.id(row.get(0)?),
                rule: row.get(1)?,
                source: row.get(2)?,
                raised: row.get(3)?,
                severity: row.get(4)?,
                value: owned(read_value(row, 5)?),
                score: row.get(10)?,
                window: window.map(|(start, end)| (correct(start).0, correct(end).0)),
                time,
                trust,
            });
        }
        found.reverse();
        Ok(found)
    }

    /// The last `limit` visits, to one source if it is named, the oldest first, each with its id.
    pub(crate) fn visits(
        &self,
        source: Option<&str>,
        limit: u32,
    ) -> rusqlite::Result<Vec<(String, VisitFound)>> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut select = self
            .connection
            .prepare("SELECT seq, members FROM events WHERE event = ?1 ORDER BY seq DESC")?;
        let mut rows = select.query([VISIT])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()?.filter(|_| found.len() < limit) {
            let id = self.id(row.get(0)?);
            let stored = Stored::read(VISIT, row.get_ref(1)?.as_str()?);
            let visit = stored.map(|stored| (id, stored.found(&self.timeline)));
            let is_asked = |visit: &VisitFound| source.is_none_or(|name| name == visit.source);
            found.extend(visit.filter(|(_, visit)| is_asked(visit)));
        }
        found.reverse();
        Ok(found)
    }

    fn id(&self, seq: u64) -> String {
        format!("{}-{seq}", self.boot_of(seq).boot.0)
    }

    fn boot_of(&self, seq: u64) -> BootRow {
        load::boot_of(&self.boots, seq)
    }
}
