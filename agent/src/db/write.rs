//! The writes of a transaction: the rows of a `Work`, each at its place, and the accounts of the
//! lanes.

use std::sync::Arc;

use pulsegate_core::cloud::delivery::Mark;
use pulsegate_core::record::lane::{Gap, Lane};
use pulsegate_core::record::reading::{Reading, Seq, Value};
use pulsegate_core::time::Mono;
use pulsegate_core::time::timeline::{ClockTrust, Epoch, Segment};
use pulsegate_sensors::Source;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, Transaction, params};

use super::database::{AlertRow, EventRow, WriterIdentity};
use super::detail;
use super::load::{FILTERED, LaneRow};

/// Writes records in the order of their places.
pub(crate) struct LaneWriter<'a> {
    pub(crate) tx: &'a Transaction<'a>,
    pub(crate) lanes: &'a mut [LaneRow; 3],
    pub(crate) last_seq: u64,
    pub(crate) epoch: Epoch,
}

impl LaneWriter<'_> {
    pub(crate) fn write_readings(&mut self, readings: &[Reading]) -> rusqlite::Result<()> {
        let insert = "INSERT INTO readings VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let mut insert = self.tx.prepare_cached(insert)?;
        // Only the first names its place: SQLite assigns the next places without searching.
        let mut place = Some(self.last_seq + 1);
        for reading in readings {
            insert.execute(params![
                place.take(),
                reading.source.0,
                reading.mono.0,
                SqlValue(&reading.value),
                reading.time.map(|time| time.0),
                reading.detail.as_deref().map(detail::encode_detail),
            ])?;
        }
        let end = self.last_seq + readings.len() as u64;
        if !readings.is_empty() && u64::try_from(self.tx.last_insert_rowid()) != Ok(end) {
            // A row exists above the last place: the answers to the inbox would name other records.
            return Err(rusqlite::Error::StatementChangedRows(readings.len()));
        }
        self.count_records(Lane::Readings, readings.len() as u64);
        Ok(())
    }

    /// Assigns places to `count` records of a lane, whether or not their rows are written, and
    /// counts the records as recorded.
    pub(crate) fn count_records(&mut self, lane: Lane, count: u64) {
        if count > 0 {
            self.last_seq += count;
            self.lanes[lane.index()].add_pending(count, self.last_seq);
        }
    }

    pub(crate) fn write_alert(&mut self, alert: &AlertRow) -> rusqlite::Result<()> {
        self.count_records(Lane::Alerts, 1);
        let insert = "INSERT INTO alerts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        self.tx.prepare_cached(insert)?.execute(params![
            self.last_seq,
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
        if let Some(score) = alert.score {
            let insert = "INSERT OR REPLACE INTO scores VALUES (?1, ?2)";
            self.tx.prepare_cached(insert)?.execute(params![self.last_seq, score])?;
        }
        Ok(())
    }

    pub(crate) fn write_event(&mut self, event: &EventRow) -> rusqlite::Result<()> {
        self.count_records(Lane::Events, 1);
        let text = event.event.to_text();
        let insert = "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5)";
        self.tx.prepare_cached(insert)?.execute(params![
            self.last_seq,
            text.word,
            self.epoch.0,
            event.mono.0,
            text.members
        ])?;
        Ok(())
    }

    pub(crate) fn write_watermark(&mut self, mark: &Mark, now: Mono) -> rusqlite::Result<()> {
        let row = &mut self.lanes[mark.lane.index()];
        row.watermark = row.watermark.max(mark.through.0);
        row.move_to_delivered(mark.delivered);
        row.move_to_filtered(mark.filtered);
        mark.gaps.iter().try_for_each(|gap| self.write_gap_row(gap, now).map(drop))
    }

    /// Adds a row to the ledger. Returns its id.
    pub(crate) fn write_gap_row(&mut self, gap: &Gap, now: Mono) -> rusqlite::Result<i64> {
        self.lanes[gap.lane.index()].move_to_dropped(gap.count);
        let insert = "INSERT INTO gaps(lane, first, last, count, reason, epoch, mono_ms)
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.tx.prepare_cached(insert)?.execute(params![
            gap.lane.index(),
            gap.first.0,
            gap.last.0,
            gap.count,
            gap.reason.as_str(),
            self.epoch.0,
            now.0,
        ])?;
        Ok(self.tx.last_insert_rowid())
    }
}

/// A value in the stored form: a whole number takes only the bytes needed.
struct SqlValue<'a>(&'a Value);

/// Bound below which every whole f64 reads back from an integer unchanged.
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

/// Writes this start of the agent from the place `first` on. A start without records is deleted.
pub(crate) fn write_boot(
    tx: &Transaction<'_>,
    identity: &WriterIdentity,
    epoch: Epoch,
    first: Seq,
) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT OR IGNORE INTO kernel_boots VALUES (?1, ?2, ?3)",
        params![epoch.0, identity.kernel_boot_id, identity.reference_ms],
    )?;
    tx.execute("DELETE FROM boots WHERE first_seq = ?1", [first.0])?;
    tx.execute(
        "INSERT OR IGNORE INTO boots VALUES (?1, ?2, ?3)",
        params![identity.boot.counter(), epoch.0, first.0],
    )?;
    tx.execute(
        "INSERT OR REPLACE INTO starts VALUES (?1, ?2, ?3)",
        params![identity.boot.counter(), identity.boot.suffix(), identity.thing],
    )?;
    Ok(())
}

pub(crate) fn write_sources(
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

/// Writes all segments of the clock in a run of the kernel: they are few, and seldom change.
pub(crate) fn write_clock(
    tx: &Transaction<'_>,
    epoch: Epoch,
    segments: &[Segment],
) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM clock WHERE epoch = ?1")?.execute([epoch.0])?;
    for segment in segments {
        let insert = "INSERT OR REPLACE INTO clock VALUES (?1, ?2, ?3, ?4)";
        tx.prepare_cached(insert)?.execute(params![
            epoch.0,
            segment.since.0,
            segment.offset_ms,
            segment.trust == ClockTrust::Trusted
        ])?;
    }
    Ok(())
}

/// Writes a number of the whole store.
pub(crate) fn write_meta_value(
    tx: &Transaction<'_>,
    key: &str,
    value: u64,
) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?
        .execute(params![key, value])?;
    Ok(())
}

/// Writes the changed rows. A recorded reading is no change: the counts of recorded and pending
/// readings follow from the places, and writing them would cost a page in every commit.
pub(crate) fn write_lanes(
    tx: &Transaction<'_>,
    before: &[LaneRow; 3],
    after: &[LaneRow; 3],
) -> rusqlite::Result<()> {
    for lane in Lane::ALL {
        let (old, new) = (before[lane.index()], after[lane.index()]);
        let recorded = lane != Lane::Readings && old.recorded != new.recorded;
        let moved = old.watermark != new.watermark
            || old.delivered != new.delivered
            || old.dropped != new.dropped
            || old.filtered != new.filtered;
        if old.filtered != new.filtered {
            // Before the account, whose pending records a trigger forgets.
            write_meta_value(tx, FILTERED, new.filtered)?;
        }
        if recorded || moved {
            write_account(tx, lane, &new)?;
        }
    }
    Ok(())
}

/// Writes the account of a lane, all but the filtered records.
pub(crate) fn write_account(
    connection: &Connection,
    lane: Lane,
    row: &LaneRow,
) -> rusqlite::Result<()> {
    let LaneRow { watermark, recorded, delivered, pending, dropped, .. } = row;
    connection
        .prepare_cached("INSERT OR REPLACE INTO accounts VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![lane.index(), watermark, recorded, delivered, dropped, pending])?;
    Ok(())
}
