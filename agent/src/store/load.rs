//! What is read from a database when it is opened: little, and as much with ten readings in it as
//! with ten million.

use pulsegate_core::lane::{Account, Lane};
use pulsegate_core::reading::Boot;
use pulsegate_core::time::{Mono, Wall};
use pulsegate_core::timeline::{Epoch, Segment, Timeline, Trust};
use pulsegate_sensors::{Source, Sources};
use rusqlite::{Connection, OptionalExtension as _};

use super::withheld;

/// The place before the first record, in a database that was begun after another was lost.
pub(super) const BASE_SEQ: &str = "base_seq";
/// A place that was given away in the database before, if no record tells.
pub(super) const END_SEQ: &str = "end_seq";

/// The first row of the ledger that no event tells of yet.
pub(super) const UNTOLD_GAP: &str = "untold_gap";

/// How many readings were not published by choice.
pub(super) const FILTERED: &str = "filtered";

/// A row of `lanes`, and the last record of that lane.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LaneRow {
    pub(super) watermark: u64,
    pub(super) recorded: u64,
    pub(super) delivered: u64,
    pub(super) dropped: u64,
    pub(super) filtered: u64,
    pub(super) last: u64,
}

/// A row of `boots`: the records from `first_seq` on were written in that start of the agent.
#[derive(Debug, Clone, Copy)]
pub(super) struct BootRow {
    pub(super) first_seq: u64,
    pub(super) boot: Boot,
    pub(super) epoch: Epoch,
}

/// The start of the agent in which the record `seq` was written.
pub(super) fn boot_of(boots: &[BootRow], seq: u64) -> BootRow {
    let after = boots.partition_point(|boot| boot.first_seq <= seq);
    let nowhere = BootRow { first_seq: 0, boot: Boot::without_suffix(0), epoch: Epoch(0) };
    boots.get(after.saturating_sub(1)).copied().unwrap_or(nowhere)
}

/// The accounts of the lanes, from one snapshot. What is pending is counted, so that the account
/// can be wrong: its cost grows with the backlog, and only whoever asks pays it.
pub(super) fn accounts(connection: &mut Connection) -> rusqlite::Result<[Account; 3]> {
    let snapshot = connection.transaction()?;
    let lanes = read_lanes(&snapshot)?;
    let mut accounts = [Account::default(); 3];
    for lane in Lane::ALL {
        let row = lanes[lane.index()];
        accounts[lane.index()] = Account {
            recorded: row.recorded,
            delivered: row.delivered,
            pending: withheld::count_pending(&snapshot, lane, row.watermark)?,
            dropped: row.dropped,
            filtered: row.filtered,
        };
    }
    Ok(accounts)
}

/// The last place that was given to a record.
pub(super) fn last_seq(connection: &Connection, lanes: &[LaneRow; 3]) -> rusqlite::Result<u64> {
    let given_up: Option<u64> =
        connection.query_row("SELECT max(last) FROM gaps", [], |row| row.get(0))?;
    let begun: Option<u64> =
        connection.query_row("SELECT max(first_seq) - 1 FROM boots", [], |row| row.get(0))?;
    let told = [given_up, begun, read_meta(connection, BASE_SEQ)?, read_meta(connection, END_SEQ)?];
    let ends = lanes.iter().map(|lane| lane.last.max(lane.watermark));
    Ok(ends.chain(told.into_iter().flatten()).max().unwrap_or(0))
}

/// The highest time that the axis of the rules has come to.
pub(super) fn newest_reference(
    connection: &Connection,
    boots: &[BootRow],
    timeline: &Timeline,
) -> rusqlite::Result<Option<Wall>> {
    let last = |select: &str| {
        connection
            .query_row(select, [], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, i64>(1)?)))
            .optional()
    };
    let reading = last("SELECT seq, mono_ms FROM readings ORDER BY seq DESC LIMIT 1")?;
    let event = last("SELECT seq, mono_ms FROM events ORDER BY seq DESC LIMIT 1")?;
    let alert =
        last("SELECT seq, iif(epoch IS NULL, 0, time_ms) FROM alerts ORDER BY seq DESC LIMIT 1")?;
    let begun = timeline.newest_reference();
    let at = |(seq, mono): (u64, i64)| {
        let mono = Mono(u64::try_from(mono).unwrap_or(0));
        timeline.reference(boot_of(boots, seq).epoch, mono)
    };
    let told = [reading.map(at), event.map(at), alert.map(|(_, time)| Wall(time)), begun];
    Ok(told.into_iter().flatten().max())
}

/// The last time that was trusted, as far as the newest records and the clock's segments tell.
pub(super) fn last_trusted(
    connection: &Connection,
    boots: &[BootRow],
    timeline: &Timeline,
) -> rusqlite::Result<Option<Wall>> {
    let mut told = timeline.last_set();
    for table in ["readings", "events"] {
        let newest = format!("SELECT seq, mono_ms FROM {table} ORDER BY seq DESC LIMIT 1");
        let at = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u64>(0)?, Mono(row.get(1)?)));
        let newest = connection.query_row(&newest, [], at).optional()?;
        let time = newest.map(|(seq, mono)| timeline.wall(boot_of(boots, seq).epoch, mono));
        told = told.max(time.filter(|(_, trust)| *trust == Trust::Trusted).map(|(time, _)| time));
    }
    Ok(told)
}

pub(super) fn read_lanes(connection: &Connection) -> rusqlite::Result<[LaneRow; 3]> {
    let mut lanes = [LaneRow::default(); 3];
    for lane in Lane::ALL {
        let table = lane.as_str();
        let last: Option<u64> =
            connection.query_row(&format!("SELECT max(seq) FROM {table}"), [], |row| row.get(0))?;
        lanes[lane.index()] = connection.query_row(
            "SELECT watermark, recorded, delivered, dropped FROM lanes WHERE lane = ?1",
            [lane.index()],
            |row| {
                Ok(LaneRow {
                    watermark: row.get(0)?,
                    recorded: row.get(1)?,
                    delivered: row.get(2)?,
                    dropped: row.get(3)?,
                    filtered: 0,
                    last: last.unwrap_or(0),
                })
            },
        )?;
    }
    // Only readings have filters, and not every device has any: a row of its own, if needed.
    lanes[Lane::Readings.index()].filtered = read_meta(connection, FILTERED)?.unwrap_or(0);
    // Every place in the store belongs to one lane, so the readings are what the others leave.
    let end = last_seq(connection, &lanes)?;
    let base = read_meta(connection, BASE_SEQ)?.unwrap_or(0);
    let others: u64 = [Lane::Alerts, Lane::Events].map(|l| lanes[l.index()].recorded).iter().sum();
    lanes[Lane::Readings.index()].recorded = end.saturating_sub(base + others);
    Ok(lanes)
}

pub(super) fn read_meta(connection: &Connection, key: &str) -> rusqlite::Result<Option<u64>> {
    connection
        .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
        .optional()
}

pub(super) fn read_boots(connection: &Connection) -> rusqlite::Result<Vec<BootRow>> {
    connection
        .prepare(
            "SELECT first_seq, boot, epoch, coalesce(suffix, '')
             FROM boots LEFT JOIN starts USING (boot) ORDER BY first_seq, boot",
        )?
        .query_map([], |row| {
            Ok(BootRow {
                first_seq: row.get(0)?,
                boot: Boot::restored(row.get(1)?, row.get_ref(3)?.as_str()?),
                epoch: Epoch(row.get(2)?),
            })
        })?
        .collect()
}

pub(super) fn read_timeline(connection: &Connection) -> rusqlite::Result<Timeline> {
    let mut timeline = Timeline::default();
    let mut boots =
        connection.prepare("SELECT epoch, reference_ms FROM kernel_boots ORDER BY 1")?;
    let mut rows = boots.query([])?;
    while let Some(row) = rows.next()? {
        timeline.begin(Epoch(row.get(0)?), row.get(1)?);
    }
    let mut clock = connection.prepare(
        "SELECT epoch, since_ms, offset_ms, trusted FROM clock ORDER BY epoch, since_ms",
    )?;
    let mut rows = clock.query([])?;
    while let Some(row) = rows.next()? {
        let trust = if row.get(3)? { Trust::Trusted } else { Trust::Unset };
        let segment = Segment { since: Mono(row.get(1)?), offset_ms: row.get(2)?, trust };
        timeline.restore(Epoch(row.get(0)?), segment);
    }
    Ok(timeline)
}

/// Stands for a source of which only the number is known.
pub(super) fn lost_source(id: usize) -> Source {
    Source { name: format!("source-{id}").into(), kind: "unknown".into() }
}

/// Gives the stored sources the numbers that they had; the configured ones come after.
pub(super) fn load_sources(connection: &Connection, sources: &Sources) -> rusqlite::Result<usize> {
    let mut select = connection.prepare("SELECT name, kind, id FROM sources ORDER BY id")?;
    let mut rows = select.query([])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let source = Source { name: row.get(0)?, kind: row.get(1)? };
        // A number that is missing stays missing: the readings that have it are nobody else's.
        while count < row.get(2)? {
            sources.intern(lost_source(count)).ok();
            count += 1;
        }
        // A full table cannot take what it already gave a number to; nothing else can fail here.
        sources.intern(source).ok();
        count += 1;
    }
    Ok(count)
}
