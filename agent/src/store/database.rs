//! The database as its one writer sees it: the connection, and what must be known of its content
//! to append to it without reading it.
//!
//! Every change is one [`Work`] in one transaction. What is kept in memory changes only after the
//! transaction committed, so a refused commit can simply be tried again.

use std::path::Path;
use std::sync::Arc;

use pulsegate_core::delivery::Mark;
use pulsegate_core::lane::{DropReason, Gap, Lane};
use pulsegate_core::reading::{Boot, Reading, Seq, Value};
use pulsegate_core::time::{Mono, Wall};
use pulsegate_core::timeline::{Epoch, Segment, Timeline, Trust};
use pulsegate_sensors::{Source, Sources};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, ToSql, Transaction, params};

use super::load::{self, BootRow, LaneRow};
use super::{detail, schema};

/// Who is writing: this start of the agent, on this run of the kernel.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The start.
    pub(crate) boot: Boot,
    /// The run of the kernel.
    pub(crate) kernel_boot_id: String,
    /// Wall minus monotonic time at the start, right or wrong.
    pub(crate) reference_ms: i64,
}

/// An alert as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AlertRow {
    pub(crate) rule: Box<str>,
    pub(crate) source: u32,
    pub(crate) raised: bool,
    pub(crate) severity: &'static str,
    pub(crate) value: Value,
    pub(crate) window: Option<(Wall, Wall)>,
    pub(crate) time: Wall,
    /// Whether the times lie on the reference axis of this kernel boot, and want correcting.
    pub(crate) derived: bool,
}

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EventRow {
    /// `gap`, `source_lost`, ...
    pub(crate) event: &'static str,
    /// When it happened.
    pub(crate) mono: Mono,
    /// Its other members, as JSON without braces.
    pub(crate) members: String,
}

/// What one transaction writes.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) readings: Vec<Reading>,
    /// Readings that arrived after those and were given up before they could be written.
    pub(super) unwritten: u64,
    pub(super) alerts: Vec<AlertRow>,
    pub(super) events: Vec<EventRow>,
    pub(super) marks: Vec<Mark>,
    pub(super) clock: Vec<Segment>,
}

impl Work {
    /// How many alerts and events it holds.
    pub(super) fn decided(&self) -> usize {
        self.alerts.len() + self.events.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.readings.is_empty()
            && self.unwritten == 0
            && self.alerts.is_empty()
            && self.events.is_empty()
            && self.marks.is_empty()
            && self.clock.is_empty()
    }
}

/// See the module.
pub(super) struct Database {
    pub(super) connection: Connection,
    pub(super) lanes: [LaneRow; 3],
    pub(super) boots: Vec<BootRow>,
    pub(super) timeline: Timeline,
    pub(super) epoch: Epoch,
    pub(super) last_seq: u64,
    sources: Arc<Sources>,
    sources_stored: usize,
    unwritten_boot: Option<Identity>,
}

impl Database {
    /// Opens the store, migrates it, and begins a boot in it. Its cost does not depend on how much
    /// is stored (P9).
    pub(super) fn open(
        path: &Path,
        identity: &Identity,
        sources: Arc<Sources>,
    ) -> rusqlite::Result<Self> {
        let connection = schema::open_writer(path)?;
        let lanes = load::read_lanes(&connection)?;
        let last_seq = load::last_seq(&connection, &lanes)?;
        let sources_stored = load::load_sources(&connection, &sources)?;
        let mut database = Self {
            boots: load::read_boots(&connection)?,
            timeline: load::read_timeline(&connection)?,
            connection,
            lanes,
            epoch: Epoch(0),
            last_seq,
            sources,
            sources_stored,
            unwritten_boot: None,
        };
        database.begin_boot(identity)?;
        Ok(database)
    }

    /// The highest boot that the store knows of.
    pub(super) fn last_boot(path: &Path) -> rusqlite::Result<Option<u32>> {
        let connection = schema::open_reader(path)?;
        connection.query_row("SELECT max(boot) FROM boots", [], |row| row.get(0))
    }

    /// Begins this start of the agent, on paper: it is written with the first commit, so that a
    /// store on a full disk opens as well.
    fn begin_boot(&mut self, identity: &Identity) -> rusqlite::Result<()> {
        let known: Option<u32> = self
            .connection
            .query_row(
                "SELECT epoch FROM kernel_boots WHERE boot_id = ?1",
                [&identity.kernel_boot_id],
                |row| row.get(0),
            )
            .optional()?;
        let select = "SELECT coalesce(max(epoch), 0) + 1 FROM kernel_boots";
        let epoch = match known {
            Some(epoch) => Epoch(epoch),
            None => Epoch(self.connection.query_row(select, [], |row| row.get(0))?),
        };
        if known.is_none() {
            self.timeline.begin(epoch, identity.reference_ms);
        }
        self.epoch = epoch;
        self.boots.push(BootRow { first_seq: self.last_seq + 1, boot: identity.boot, epoch });
        self.unwritten_boot = Some(identity.clone());
        Ok(())
    }

    /// Writes everything or nothing. Returns the place of the first reading.
    pub(super) fn commit(&mut self, work: &Work) -> rusqlite::Result<Seq> {
        let mut lanes = self.lanes;
        let mut last_seq = self.last_seq;
        let first = Seq(last_seq + 1);
        let tx = self.connection.transaction()?;
        if let Some(identity) = &self.unwritten_boot {
            insert_boot(&tx, identity, self.epoch, first)?;
        }
        let new_sources = self.sources.since(self.sources_stored);
        insert_sources(&tx, self.sources_stored, &new_sources)?;
        last_seq = insert_readings(&tx, last_seq, &work.readings)?;
        let readings = &mut lanes[Lane::Readings.index()];
        readings.recorded += work.readings.len() as u64;
        readings.last = if work.readings.is_empty() { readings.last } else { last_seq };
        let mut writer = LaneWriter { tx: &tx, lanes: &mut lanes, last_seq, epoch: self.epoch };
        writer.unwritten(work.unwritten)?;
        work.alerts.iter().try_for_each(|alert| writer.alert(alert))?;
        work.events.iter().try_for_each(|event| writer.event(event))?;
        work.marks.iter().try_for_each(|mark| writer.mark(mark))?;
        last_seq = writer.last_seq;
        for segment in &work.clock {
            insert_segment(&tx, self.epoch, *segment)?;
        }
        write_lanes(&tx, &self.lanes, &lanes)?;
        tx.commit()?;
        self.lanes = lanes;
        self.last_seq = last_seq;
        self.sources_stored += new_sources.len();
        self.unwritten_boot = None;
        Ok(first)
    }

    /// Gives up `gap` on the way: deletes its records, counts them and says so in an event.
    pub(super) fn give_up(&mut self, gap: &Gap, mono: Mono, members: &str) -> rusqlite::Result<()> {
        let mut lanes = self.lanes;
        let tx = self.connection.transaction()?;
        let table = gap.lane.as_str();
        tx.prepare_cached(&format!("DELETE FROM {table} WHERE seq BETWEEN ?1 AND ?2"))?
            .execute(params![gap.first.0, gap.last.0])?;
        let (epoch, last_seq) = (self.epoch, self.last_seq);
        let mut writer = LaneWriter { tx: &tx, lanes: &mut lanes, last_seq, epoch };
        writer.gap(gap, mono)?;
        writer.event(&EventRow { event: "gap", mono, members: members.to_owned() })?;
        let last_seq = writer.last_seq;
        write_lanes(&tx, &self.lanes, &lanes)?;
        tx.commit()?;
        self.lanes = lanes;
        self.last_seq = last_seq;
        Ok(())
    }

    /// The start of the agent in which the record `seq` was written.
    pub(super) fn boot_of(&self, seq: u64) -> BootRow {
        load::boot_of(&self.boots, seq)
    }

    /// Bytes in use and bytes on disk.
    pub(super) fn size(&self) -> rusqlite::Result<(u64, u64)> {
        let pragma =
            |name: &str| self.connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
        let (pages, free, page) =
            (pragma("page_count")?, pragma("freelist_count")?, pragma("page_size")?);
        Ok(((pages - free) * page, pages * page))
    }
}

/// Writes the records that are few.
struct LaneWriter<'a> {
    tx: &'a Transaction<'a>,
    lanes: &'a mut [LaneRow; 3],
    last_seq: u64,
    epoch: Epoch,
}

impl LaneWriter<'_> {
    fn next(&mut self, lane: Lane) -> u64 {
        self.last_seq += 1;
        let row = &mut self.lanes[lane.index()];
        row.recorded += 1;
        row.last = self.last_seq;
        self.last_seq
    }

    fn unwritten(&mut self, count: u64) -> rusqlite::Result<()> {
        if count == 0 {
            return Ok(());
        }
        let gap = Gap {
            lane: Lane::Readings,
            first: Seq(self.last_seq + 1),
            last: Seq(self.last_seq + count),
            count,
            reason: DropReason::DiskFull,
        };
        self.last_seq += count;
        let row = &mut self.lanes[Lane::Readings.index()];
        row.recorded += count;
        row.last = self.last_seq;
        self.gap(&gap, Mono(0))
    }

    fn alert(&mut self, alert: &AlertRow) -> rusqlite::Result<()> {
        let seq = self.next(Lane::Alerts);
        let insert = "INSERT INTO alerts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        self.tx.prepare_cached(insert)?.execute(params![
            seq,
            alert.rule,
            alert.source,
            alert.raised,
            alert.severity,
            SqlValue(&alert.value),
            alert.window.map(|(start, _)| start.0),
            alert.window.map(|(_, end)| end.0),
            alert.time.0,
            alert.derived.then_some(self.epoch.0),
        ])?;
        Ok(())
    }

    fn event(&mut self, event: &EventRow) -> rusqlite::Result<()> {
        let seq = self.next(Lane::Events);
        let insert = "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5)";
        self.tx.prepare_cached(insert)?.execute(params![
            seq,
            event.event,
            self.epoch.0,
            event.mono.0,
            event.members
        ])?;
        Ok(())
    }

    fn mark(&mut self, mark: &Mark) -> rusqlite::Result<()> {
        let row = &mut self.lanes[mark.lane.index()];
        row.watermark = row.watermark.max(mark.through.0);
        row.delivered += mark.delivered;
        mark.gaps.iter().try_for_each(|gap| self.gap(gap, Mono(0)))
    }

    fn gap(&mut self, gap: &Gap, mono: Mono) -> rusqlite::Result<()> {
        self.lanes[gap.lane.index()].dropped += gap.count;
        let insert = "INSERT INTO gaps(lane, first, last, count, reason, epoch, mono_ms)
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.tx.prepare_cached(insert)?.execute(params![
            gap.lane.index(),
            gap.first.0,
            gap.last.0,
            gap.count,
            gap.reason.as_str(),
            self.epoch.0,
            mono.0,
        ])?;
        Ok(())
    }
}

/// A value as SQLite keeps it: a whole number in as few bytes as it needs.
struct SqlValue<'a>(&'a Value);

/// Above it, not every whole f64 is an integer that reads back as the same f64.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

impl ToSql for SqlValue<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Number(number) if number.fract() == 0.0 && number.abs() < MAX_WHOLE =>
            {
                #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53: exact")]
                ValueRef::Integer(*number as i64)
            }
            Value::Number(number) => ValueRef::Real(*number),
            Value::State(state) => ValueRef::Text(state.as_bytes()),
        }))
    }
}

/// Readings of one commit lie side by side: only the first names its place, and SQLite gives the
/// others the next ones without looking for them.
fn insert_readings(tx: &Transaction<'_>, last: u64, readings: &[Reading]) -> rusqlite::Result<u64> {
    let mut insert = tx.prepare_cached("INSERT INTO readings VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    let mut place = Some(last + 1);
    for reading in readings {
        insert.execute(params![
            place.take(),
            reading.source.0,
            reading.mono.0,
            SqlValue(&reading.value),
            reading.time.map(|time| time.0),
            reading.detail.as_deref().map(detail::encode),
        ])?;
    }
    let end = last + readings.len() as u64;
    // The account and the answers to the inbox rely on it.
    assert!(
        readings.is_empty() || u64::try_from(tx.last_insert_rowid()) == Ok(end),
        "readings lie side by side"
    );
    Ok(end)
}

fn insert_boot(
    tx: &Transaction<'_>,
    identity: &Identity,
    epoch: Epoch,
    first: Seq,
) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT OR IGNORE INTO kernel_boots VALUES (?1, ?2, ?3)",
        params![epoch.0, identity.kernel_boot_id, identity.reference_ms],
    )?;
    tx.execute(
        "INSERT INTO boots VALUES (?1, ?2, ?3)",
        params![identity.boot.0, epoch.0, first.0],
    )?;
    Ok(())
}

fn insert_sources(
    tx: &Transaction<'_>,
    from: usize,
    sources: &[Arc<Source>],
) -> rusqlite::Result<()> {
    for (id, source) in (from..).zip(sources) {
        tx.prepare_cached("INSERT INTO sources VALUES (?1, ?2, ?3)")?.execute(params![
            id,
            source.name,
            source.kind
        ])?;
    }
    Ok(())
}

fn insert_segment(tx: &Transaction<'_>, epoch: Epoch, segment: Segment) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO clock VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        epoch.0,
        segment.since.0,
        segment.offset_ms,
        segment.trust == Trust::Trusted
    ])?;
    Ok(())
}

/// Writes the rows that changed. That readings were recorded is no reason: their number follows
/// from the places of the records, and writing it would cost a page in every commit.
fn write_lanes(
    tx: &Transaction<'_>,
    before: &[LaneRow; 3],
    after: &[LaneRow; 3],
) -> rusqlite::Result<()> {
    for lane in Lane::ALL {
        let (old, new) = (before[lane.index()], after[lane.index()]);
        let recorded = lane != Lane::Readings && old.recorded != new.recorded;
        let moved = old.watermark != new.watermark
            || old.delivered != new.delivered
            || old.dropped != new.dropped;
        if recorded || moved {
            tx.prepare_cached("INSERT OR REPLACE INTO lanes VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![
                    lane.index(),
                    new.watermark,
                    new.recorded,
                    new.delivered,
                    new.dropped
                ])?;
        }
    }
    Ok(())
}
