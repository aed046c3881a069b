//! The database in memory for new records while the file takes no writes. It has the same tables,
//! continues with the next places, and is moved into the file as soon as the file takes writes.

use pulsegate_core::record::lane::Lane;
use pulsegate_core::time::Mono;
use pulsegate_sensors::{SourceId, Sources};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params, params_from_iter};

use super::cursor::Record as _;
use super::database::Database;
use super::load::{END_SEQ, LaneRow};
use super::retention;
use super::rows::StoredReadings;
use super::withheld::{self, Withheld, is_pending_sql, is_settled_sql};
use super::write::{self, LaneWriter};

/// Columns of a gap, without its id. The first three identify a gap in [`move_gaps`].
const GAP: &str = "lane, first, last, count, reason, epoch, mono_ms";

/// The state of the file while its records cannot be read.
#[derive(Debug, Clone)]
pub(crate) struct DetachedFile {
    /// By lane: the watermark in the file.
    pub(crate) watermarks: [u64; 3],
    /// The withheld sources of the file: a source may have settled records beyond the watermark of
    /// its lane.
    pub(crate) withheld: Withheld,
    /// The last place assigned to a record of the file.
    pub(crate) last_seq: u64,
    /// True if the file was carried over into a new file since then, whose accounts differ.
    pub(crate) is_carried_over: bool,
}

impl DetachedFile {
    /// Adapts the watermarks to a new file with the lanes `now`, in place of a file with the lanes
    /// `was`.
    pub(crate) fn carry_over(&mut self, now: &[LaneRow; 3], was: &[LaneRow; 3]) {
        for ((watermark, now), was) in self.watermarks.iter_mut().zip(now).zip(was) {
            if now.watermark < was.watermark {
                // The account was begun anew.
                *watermark = now.watermark;
            }
        }
        self.is_carried_over = true;
    }

    /// Returns the lanes with pending records in a file with these `lanes`, and their watermarks.
    pub(crate) fn pending_lanes(&self, lanes: &[LaneRow; 3]) -> Vec<(Lane, u64)> {
        let watermarks = Lane::ALL.into_iter().zip(self.watermarks);
        watermarks.filter(|(lane, watermark)| *watermark < lanes[lane.index()].last).collect()
    }
}

/// Counts the pending records in `memory`, by lane.
pub(crate) fn count_pending(memory: &Database) -> rusqlite::Result<[u64; 3]> {
    let mut pending = [0; 3];
    for lane in Lane::ALL {
        let watermark = memory.lanes[lane.index()].watermark;
        pending[lane.index()] = withheld::count_pending(&memory.connection, lane, watermark)?;
    }
    Ok(pending)
}

/// Counts the pending records in the file continued by `memory`, by lane: all but the records in
/// memory.
pub(crate) fn count_pending_in_file(memory: &Database) -> rusqlite::Result<[u64; 3]> {
    let in_memory = count_pending(memory)?;
    Ok(Lane::ALL.map(|lane| {
        let lane = lane.index();
        memory.lanes[lane].pending.saturating_sub(in_memory[lane])
    }))
}

/// Counts the records of a lane behind the place `after`.
pub(crate) fn count_behind(database: &Database, lane: Lane, after: u64) -> rusqlite::Result<u64> {
    let count = format!("SELECT count(*) FROM {} WHERE seq > ?1", lane.as_str());
    database.connection.prepare_cached(&count)?.query_row([after], |row| row.get(0))
}

/// Deletes delivered records from memory, to make room for records still to be delivered.
pub(crate) fn forget_delivered(memory: &Database) -> rusqlite::Result<()> {
    for lane in Lane::ALL {
        let (table, waits) = (lane.as_str(), is_pending_sql(lane, lane.as_str()));
        let delete = format!("DELETE FROM {table} WHERE seq <= ?1 AND NOT {waits}");
        memory.connection.execute(&delete, [memory.lanes[lane.index()].watermark])?;
    }
    Ok(())
}

/// Makes room in a file on a full disk: moves the log into the database, and forgets delivered
/// records until `bytes` are free inside the file or nothing delivered is left.
pub(crate) fn make_room(file: &mut Database, bytes: u64, now: Mono) -> rusqlite::Result<()> {
    file.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    while file.free_bytes()? < bytes && retention::forget_delivered(file, now)? {}
    file.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// Moves all records from memory into the file continued by memory, in a transaction. If pending
/// records wait in the file (`apart`), the watermark goes back to them, and records delivered from
/// memory are not moved: the file would have them sent again.
pub(crate) fn move_into(
    file: &mut Database,
    memory: &Database,
    apart: Option<&DetachedFile>,
) -> rusqlite::Result<()> {
    let clock = memory.timeline.segments(file.epoch).to_vec();
    let (mut lanes, mut withheld) = (memory.lanes, memory.withheld.clone());
    let (doubtful, before) = (file.doubtful, file.lanes);
    let last_seq = apart.map_or(file.last_seq, |apart| apart.last_seq);
    let is_carried_over = apart.is_some_and(|apart| apart.is_carried_over);
    let mut conditions = [const { String::new() }; 3];
    if let Some(apart) = apart {
        for (lane, watermark) in apart.pending_lanes(&before) {
            conditions[lane.index()] = format!("WHERE {}", waiting_condition(memory, lane));
            lanes[lane.index()].watermark = watermark;
            withheld.go_back(lane, watermark, &apart.withheld);
        }
    }
    file.run_transaction(|writer| {
        for lane in [Lane::Readings, Lane::Alerts, Lane::Events] {
            // A commit whose fsync failed may turn up in the file after all.
            let table = lane.as_str();
            writer.tx.execute(&format!("DELETE FROM {table} WHERE seq > ?1"), [last_seq])?;
            copy_table(&memory.connection, writer.tx, table, &conditions[lane.index()])?;
        }
        let of_alerts = match &*conditions[Lane::Alerts.index()] {
            "" => String::new(),
            condition => format!("WHERE seq IN (SELECT seq FROM alerts {condition})"),
        };
        copy_table(&memory.connection, writer.tx, "scores", &of_alerts)?;
        copy_table(&memory.connection, writer.tx, "alert_arrivals", &of_alerts)?;
        copy_table(&memory.connection, writer.tx, "standing", "")?;
        move_gaps(&memory.connection, writer.tx, None)?;
        memory.untold.write_untold(writer.tx)?;
        withheld.write_withheld(writer.tx)?;
        write::write_clock(writer.tx, writer.epoch, &clock)?;
        if apart.is_some() {
            // The last place may belong to a record that is not moved.
            write::write_meta_value(writer.tx, END_SEQ, memory.last_seq)?;
        }
        for lane in Lane::ALL {
            let (row, was) = (&mut lanes[lane.index()], before[lane.index()]);
            if is_carried_over || was.watermark < doubtful[lane.index()].0 {
                row.set_pending(withheld::count_pending(writer.tx, lane, row.watermark)?);
            }
        }
        *writer.lanes = lanes;
        writer.last_seq = memory.last_seq;
        Ok(())
    })?;
    file.timeline = memory.timeline.clone();
    file.untold = memory.untold.clone();
    (file.withheld, file.stored_withheld) = (withheld.clone(), withheld);
    (file.forgotten, file.given_up, file.growing) = ([0; 3], [0; 3], None);
    Ok(())
}

/// Moves the watermarks in the file to the progress of delivery, while other records still have to
/// wait in memory. Delivered records can then be forgotten, and a crash does not send them again.
/// The accounts of lanes and of withheld sources move too.
pub(crate) fn move_watermarks(file: &mut Database, memory: &Database) -> rusqlite::Result<()> {
    let mut moved = Vec::new();
    let pending = count_pending_in_file(memory)?;
    let withheld = memory.stored_withheld.up_to(file.lanes.map(|row| row.last));
    let before = file.stored_withheld.clone();
    file.run_transaction(|writer| {
        withheld.write_withheld(writer.tx)?;
        for lane in Lane::ALL {
            let (row, now) = (&mut writer.lanes[lane.index()], memory.lanes[lane.index()]);
            let through = now.watermark.min(row.last).max(row.watermark);
            if through == row.watermark && withheld.is_same(lane, &before) {
                continue;
            }
            row.watermark = through;
            // A source may have settled more than the lane.
            row.dropped += move_gaps(&memory.connection, writer.tx, Some((lane, row.last)))?;
            // Records of the file that are not pending are settled; the other counts in memory
            // include records in memory.
            row.pending = pending[lane.index()];
            let settled = row.recorded.saturating_sub(row.dropped + row.pending);
            row.filtered = now.filtered.min(settled.saturating_sub(row.delivered));
            row.delivered = settled - row.filtered;
            moved.push((lane, row.last));
        }
        Ok(())
    })?;
    file.stored_withheld = withheld;
    for (lane, last) in moved {
        let delete = "DELETE FROM gaps WHERE lane = ?1 AND last <= ?2";
        memory.connection.execute(delete, params![lane.index(), last])?;
        // Records settled by a source may lie before the last forgotten record.
        file.forgotten[lane.index()] = 0;
    }
    Ok(())
}

/// Copies the rows of a table for which a condition holds. Replaces the rows already written by the
/// triggers of an alert.
fn copy_table(
    from: &Connection,
    into: &Connection,
    table: &str,
    condition: &str,
) -> rusqlite::Result<()> {
    let mut select = from.prepare(&format!("SELECT * FROM {table} {condition}"))?;
    let columns = select.column_count();
    let places = vec!["?"; columns].join(", ");
    let mut insert = into.prepare(&format!("INSERT OR REPLACE INTO {table} VALUES ({places})"))?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        insert.execute(params_from_iter(row_values(row, columns)?))?;
    }
    Ok(())
}

/// Copies rows of the ledger: all, or the rows of a lane up to a place. Returns the sum of their
/// counts.
fn move_gaps(
    from: &Connection,
    into: &Connection,
    only: Option<(Lane, u64)>,
) -> rusqlite::Result<u64> {
    let mut select = from.prepare(&format!("SELECT {GAP} FROM gaps ORDER BY id"))?;
    let insert = format!("INSERT INTO gaps({GAP}) VALUES (?, ?, ?, ?, ?, ?, ?)");
    let mut insert = into.prepare(&insert)?;
    let mut rows = select.query([])?;
    let mut counted = 0;
    while let Some(row) = rows.next()? {
        let (lane, last): (usize, u64) = (row.get(0)?, row.get(2)?);
        if only.is_none_or(|(only, through)| lane == only.index() && last <= through) {
            counted += row.get::<_, u64>(3)?;
            insert.execute(params_from_iter(row_values(row, 7)?))?;
        }
    }
    Ok(counted)
}

fn row_values(row: &Row<'_>, columns: usize) -> rusqlite::Result<Vec<Value>> {
    (0..columns).map(|column| row.get(column)).collect()
}

/// Writes the pending records of memory, and the accounts of delivered records, into a file not
/// continued by memory. The records get new places, and the numbers of the file's sources.
pub(crate) fn adopt_memory(
    file: &mut Database,
    memory: &Database,
    ours: &Sources,
    theirs: &Sources,
) -> anyhow::Result<()> {
    let mut numbers = Vec::new();
    for source in ours.list_since(0) {
        numbers.push(theirs.intern_source((*source).clone())?.0);
    }
    for segment in memory.timeline.segments(memory.epoch) {
        file.timeline.restore_segment(file.epoch, *segment);
    }
    let clock = file.timeline.segments(file.epoch).to_vec();
    file.run_transaction(|writer| {
        for lane in Lane::ALL {
            let settled = memory.lanes[lane.index()];
            writer.count_records(lane, settled.delivered + settled.filtered);
            writer.lanes[lane.index()].move_to_delivered(settled.delivered);
            writer.lanes[lane.index()].move_to_filtered(settled.filtered);
        }
        adopt_gaps(writer, &memory.connection)?;
        adopt_readings(writer, memory, &numbers)?;
        adopt_alerts(writer, memory, &numbers)?;
        adopt_events(writer, memory)?;
        // The last place may belong to a delivered record, which has no row.
        write::write_meta_value(writer.tx, END_SEQ, writer.last_seq)?;
        write::write_clock(writer.tx, writer.epoch, &clock)
    })?;
    Ok(())
}

fn adopt_gaps(writer: &mut LaneWriter<'_>, memory: &Connection) -> rusqlite::Result<()> {
    let mut select = memory.prepare("SELECT lane, count, reason, mono_ms FROM gaps ORDER BY id")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (index, count): (usize, u64) = (row.get(0)?, row.get(1)?);
        let lane = Lane::ALL.get(index).copied().unwrap_or(Lane::Readings);
        let first = writer.last_seq + 1;
        writer.count_records(lane, count);
        writer.lanes[lane.index()].move_to_dropped(count);
        let insert = format!("INSERT INTO gaps({GAP}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)");
        let (reason, mono): (String, u64) = (row.get(2)?, row.get(3)?);
        writer.tx.execute(
            &insert,
            params![index, first, writer.last_seq, count, reason, writer.epoch.0, mono],
        )?;
    }
    Ok(())
}

fn adopt_readings(
    writer: &mut LaneWriter<'_>,
    memory: &Database,
    numbers: &[u32],
) -> rusqlite::Result<()> {
    let mut readings = select_readings(memory, &waiting_condition(memory, Lane::Readings))?;
    for reading in &mut readings {
        reading.source = SourceId(renumber_source(numbers, reading.source.0));
    }
    writer.write_readings(&readings)
}

/// Returns the SQL condition for a record still to be delivered.
fn waiting_condition(memory: &Database, lane: Lane) -> String {
    let (table, watermark) = (lane.as_str(), memory.lanes[lane.index()].watermark);
    let (is_pending, is_settled) = (is_pending_sql(lane, table), is_settled_sql(lane, table));
    format!("(({table}.seq > {watermark} AND NOT {is_settled}) OR {is_pending})")
}

/// Returns the readings in memory for which a condition holds.
pub(crate) fn select_readings(
    memory: &Database,
    condition: &str,
) -> rusqlite::Result<Vec<pulsegate_core::record::reading::Reading>> {
    let mut record = StoredReadings::default();
    memory
        .connection
        .prepare(&format!("{} WHERE {condition} ORDER BY seq", StoredReadings::SELECT))?
        .query_map([], |row| record.read_row(row).cloned())?
        .collect()
}

fn adopt_alerts(
    writer: &mut LaneWriter<'_>,
    memory: &Database,
    numbers: &[u32],
) -> rusqlite::Result<()> {
    let waits = waiting_condition(memory, Lane::Alerts);
    let mut select = memory.connection.prepare(&format!(
        "SELECT alerts.*, score FROM alerts LEFT JOIN scores USING (seq)
         WHERE {waits} ORDER BY alerts.seq"
    ))?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        writer.count_records(Lane::Alerts, 1);
        let mut alert = row_values(row, 10)?;
        alert[0] = place_value(writer.last_seq);
        alert[2] = Value::Integer(i64::from(renumber_source(numbers, row.get(2)?)));
        if alert[9] != Value::Null {
            alert[9] = Value::Integer(i64::from(writer.epoch.0));
        }
        let insert = "INSERT INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        writer.tx.prepare_cached(insert)?.execute(params_from_iter(alert))?;
        if let Some(score) = row.get::<_, Option<f64>>(10)? {
            let insert = "INSERT OR REPLACE INTO scores VALUES (?1, ?2)";
            writer.tx.execute(insert, params![writer.last_seq, score])?;
        }
    }
    Ok(())
}

fn adopt_events(writer: &mut LaneWriter<'_>, memory: &Database) -> rusqlite::Result<()> {
    let waits = waiting_condition(memory, Lane::Events);
    let select = format!("SELECT * FROM events WHERE {waits} ORDER BY seq");
    let mut select = memory.connection.prepare(&select)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        writer.count_records(Lane::Events, 1);
        let mut event = row_values(row, 5)?;
        (event[0], event[2]) =
            (place_value(writer.last_seq), Value::Integer(i64::from(writer.epoch.0)));
        let insert = "INSERT INTO events VALUES (?, ?, ?, ?, ?)";
        writer.tx.prepare_cached(insert)?.execute(params_from_iter(event))?;
    }
    Ok(())
}

fn place_value(seq: u64) -> Value {
    Value::Integer(i64::try_from(seq).unwrap_or(i64::MAX))
}

fn renumber_source(numbers: &[u32], id: u32) -> u32 {
    usize::try_from(id).ok().and_then(|id| numbers.get(id)).copied().unwrap_or(id)
}
