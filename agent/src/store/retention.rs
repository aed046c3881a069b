//! What is given up, and what is forgotten: delivered history after its time, and the oldest
//! readings when the store reaches its cap or they their time to live.
//!
//! Done in small steps between commits, so that no step holds up an alert. Freed pages are used
//! again; the file itself does not shrink.

use pulsegate_core::lane::{DropReason, Gap, Lane};
use pulsegate_core::reading::Seq;
use pulsegate_core::record::ClockText;
use pulsegate_core::time::Mono;
use pulsegate_core::timeline::Trust;
use rusqlite::{OptionalExtension as _, params};

use super::Keep;
use super::database::Database;

/// Readings given up or forgotten in one step: some milliseconds on a slow card.
const STEP_ROWS: u64 = 2_000;
/// Gaps that are remembered in the ledger after they were published.
const LEDGER_ROWS: u64 = 10_000;

/// Takes one step. Returns whether there may be more to do.
pub(super) fn step(
    database: &mut Database,
    keep: &Keep,
    in_hand: Seq,
    now: Mono,
) -> rusqlite::Result<bool> {
    let (used, _) = database.size()?;
    if used > keep.max_bytes {
        return Ok(forget(database, None, now)? || give_up(database, in_hand, now, None)?);
    }
    if let Some(ttl) = keep.ttl
        && give_up(database, in_hand, now, Some(ttl))?
    {
        return Ok(true);
    }
    forget(database, Some(keep.history), now)
}

/// Forgets the oldest delivered readings: those older than `age`, or whatever their age.
fn forget(
    database: &mut Database,
    age: Option<std::time::Duration>,
    now: Mono,
) -> rusqlite::Result<bool> {
    let watermark = database.lanes[Lane::Readings.index()].watermark;
    let Some((_, end)) = oldest(database, Seq(0), watermark)? else {
        return forget_others(database, age, now);
    };
    if let Some(age) = age
        && !is_older(database, end, age, now)?
    {
        return forget_others(database, Some(age), now);
    }
    let delete = "DELETE FROM readings WHERE seq <= ?1";
    let count = database.connection.prepare_cached(delete)?.execute([end])?;
    Ok(count > 0)
}

/// Alerts, events and ledger rows that were delivered go with the readings of their time.
fn forget_others(
    database: &Database,
    age: Option<std::time::Duration>,
    _now: Mono,
) -> rusqlite::Result<bool> {
    let first: Option<u64> =
        database.connection.query_row("SELECT min(seq) FROM readings", [], |row| row.get(0))?;
    let Some(first) = first.filter(|_| age.is_some()) else { return Ok(false) };
    for lane in [Lane::Alerts, Lane::Events] {
        let end = first.min(database.lanes[lane.index()].watermark);
        let delete = format!("DELETE FROM {} WHERE seq < ?1", lane.as_str());
        database.connection.prepare_cached(&delete)?.execute([end])?;
    }
    let oldest_gaps = "DELETE FROM gaps WHERE id <= (SELECT max(id) FROM gaps) - ?1 AND last < ?2";
    database.connection.prepare_cached(oldest_gaps)?.execute(params![LEDGER_ROWS, first])?;
    Ok(false)
}

/// Gives up the oldest pending readings that are not in hand.
fn give_up(
    database: &mut Database,
    in_hand: Seq,
    now: Mono,
    older_than: Option<std::time::Duration>,
) -> rusqlite::Result<bool> {
    let watermark = database.lanes[Lane::Readings.index()].watermark;
    let from = Seq(in_hand.0.max(watermark));
    let Some((first, last)) = oldest(database, from, database.last_seq)? else { return Ok(false) };
    let reason = match older_than {
        Some(ttl) if !is_older(database, last, ttl, now)? => return Ok(false),
        Some(_) => DropReason::Ttl,
        None => DropReason::Cap,
    };
    let count = "SELECT count(*) FROM readings WHERE seq BETWEEN ?1 AND ?2";
    let count = database
        .connection
        .prepare_cached(count)?
        .query_row(params![first, last], |row| row.get(0))?;
    let gap = Gap { lane: Lane::Readings, first: Seq(first), last: Seq(last), count, reason };
    let members = gap_members(database, &gap)?;
    database.give_up(&gap, now, &members)?;
    tracing::warn!(count, reason = gap.reason.as_str(), "readings given up");
    Ok(true)
}

/// The first and last of the oldest [`STEP_ROWS`] readings in `(after, through]`.
fn oldest(database: &Database, after: Seq, through: u64) -> rusqlite::Result<Option<(u64, u64)>> {
    let connection = &database.connection;
    let first = "SELECT seq FROM readings WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT 1";
    let first: Option<u64> = connection
        .prepare_cached(first)?
        .query_row(params![after.0, through], |row| row.get(0))
        .optional()?;
    let Some(first) = first else { return Ok(None) };
    let last = "SELECT max(seq) FROM readings WHERE seq BETWEEN ?1 AND ?2";
    let end = through.min(first + STEP_ROWS - 1);
    let last = connection.prepare_cached(last)?.query_row(params![first, end], |row| row.get(0))?;
    Ok(Some((first, last)))
}

/// Whether the reading `seq` was recorded longer than `age` ago. Between two runs of the kernel
/// only trusted clocks can tell; while they cannot, nothing counts as old.
fn is_older(
    database: &Database,
    seq: u64,
    age: std::time::Duration,
    now: Mono,
) -> rusqlite::Result<bool> {
    let select = "SELECT mono_ms FROM readings WHERE seq = ?1";
    let mono =
        Mono(database.connection.prepare_cached(select)?.query_row([seq], |row| row.get(0))?);
    let epoch = database.boot_of(seq).epoch;
    if epoch == database.epoch {
        return Ok(now.since(mono) > age);
    }
    let ((then, trust), (today, trust_today)) =
        (database.timeline.wall(epoch, mono), database.timeline.wall(database.epoch, now));
    Ok(trust == Trust::Trusted && trust_today == Trust::Trusted && then + age < today)
}

/// The members of a gap's event: lane, first and last record, how many, why, and the time span.
pub(super) fn gap_members(database: &Database, gap: &Gap) -> rusqlite::Result<String> {
    let id = |seq: Seq| format!("{}-{}", database.boot_of(seq.0).boot.0, seq.0);
    let mut members = format!(
        r#""lane":"{}","first":"{}","last":"{}","count":{},"reason":"{}""#,
        gap.lane.as_str(),
        id(gap.first),
        id(gap.last),
        gap.count,
        gap.reason.as_str()
    );
    if let DropReason::Quarantine { topic } = &gap.reason {
        let topic = serde_json::Value::from(&**topic);
        members.push_str(&format!(r#","topic":{topic}"#));
    }
    for (key, seq) in [("start", gap.first), ("end", gap.last)] {
        if let Some(time) = time_of(database, gap.lane, seq)? {
            members.push_str(&format!(r#","{key}":"{}""#, ClockText::format(time)));
        }
    }
    Ok(members)
}

/// When a record was taken, if it can still be read.
fn time_of(
    database: &Database,
    lane: Lane,
    seq: Seq,
) -> rusqlite::Result<Option<pulsegate_core::time::Wall>> {
    let select = match lane {
        Lane::Readings => "SELECT mono_ms, time_ms FROM readings WHERE seq = ?1",
        Lane::Alerts => "SELECT 0, time_ms FROM alerts WHERE seq = ?1",
        Lane::Events => "SELECT mono_ms, NULL FROM events WHERE seq = ?1",
    };
    let row: Option<(u64, Option<i64>)> = database
        .connection
        .prepare_cached(select)?
        .query_row([seq.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(row.map(|(mono, given)| match given {
        Some(given) => pulsegate_core::time::Wall(given),
        None => database.timeline.wall(database.boot_of(seq.0).epoch, Mono(mono)).0,
    }))
}
