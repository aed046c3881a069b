//! What is forgotten, and what is given up: delivered history after its time or when the store
//! reaches its cap, then the oldest that is pending and in nobody's hands, readings first.
//!
//! Done in small steps between commits, so that no step holds up an alert. Freed pages are used
//! again; the file itself does not shrink.

use std::time::Duration;

use pulsegate_core::lane::{DropReason, Gap, Lane};
use pulsegate_core::reading::Seq;
use pulsegate_core::time::{Mono, Wall};
use pulsegate_core::timeline::{Epoch, Trust};
use rusqlite::{OptionalExtension as _, Row, params};

use super::Keep;
use super::database::Database;
use super::ledger;
use super::withheld::{self, Settled, SourceMark, is_pending_sql};

/// Records given up or forgotten in one step: some milliseconds on a slow card.
const STEP_ROWS: u64 = 2_000;
/// Gaps that are remembered in the ledger after they were published.
const LEDGER_ROWS: u64 = 10_000;
/// What is forgotten for the cap, the least missed first.
const FORGOTTEN_FIRST: [Lane; 3] = [Lane::Readings, Lane::Events, Lane::Alerts];

/// What a step has to know.
pub(super) struct Look<'a> {
    pub(super) keep: &'a Keep,
    /// Bytes that records may use: what the configuration allows, or less where the partition is small.
    pub(super) cap_bytes: u64,
    /// By lane: records up to here are in the publisher's hands.
    pub(super) in_hand: [Seq; 3],
    pub(super) now: Mono,
}

/// Takes one step. Returns whether there may be more to do.
pub(super) fn step(database: &mut Database, look: &Look<'_>) -> rusqlite::Result<bool> {
    let (used, _) = database.size()?;
    let over = used > look.cap_bytes;
    if over {
        if forget_delivered(database, look.now)? {
            return Ok(true);
        }
        for lane in FORGOTTEN_FIRST {
            if give_up_withheld(database, lane, look, None)? || give_up(database, lane, look, None)?
            {
                return Ok(true);
            }
        }
    }
    if let Some(ttl) = look.keep.ttl
        && (give_up_withheld(database, Lane::Readings, look, Some(ttl))?
            || give_up(database, Lane::Readings, look, Some(ttl))?)
    {
        return Ok(true);
    }
    for lane in FORGOTTEN_FIRST {
        if forget(database, lane, Some(look.keep.history), look.now)? {
            return Ok(true);
        }
    }
    forget_frame(database)?;
    Ok(false)
}

/// Forgets some delivered records, whatever their age. Returns whether there were any.
pub(super) fn forget_delivered(database: &mut Database, now: Mono) -> rusqlite::Result<bool> {
    for lane in FORGOTTEN_FIRST {
        if forget(database, lane, None, now)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Forgets the oldest delivered records of a lane: those older than `age`, or whatever their age.
fn forget(
    database: &mut Database,
    lane: Lane,
    age: Option<Duration>,
    now: Mono,
) -> rusqlite::Result<bool> {
    let watermark = database.lanes[lane.index()].watermark;
    let is_whole = database.withheld.is_empty(lane);
    let from = if is_whole { 0 } else { database.forgotten[lane.index()] };
    let Some(oldest) = oldest(database, lane, (Seq(from), watermark), age, now)? else {
        return Ok(false);
    };
    let table = lane.as_str();
    let mut delete = format!("DELETE FROM {table} WHERE seq <= ?1");
    if !is_whole {
        delete = format!("{delete} AND seq > ?2 AND NOT {}", is_pending_sql(lane, table));
        let mut delete = database.connection.prepare_cached(&delete)?;
        delete.execute([oldest.last, from])?;
        drop(delete);
        database.forgotten[lane.index()] = oldest.last;
        return Ok(true);
    }
    database.connection.prepare_cached(&delete)?.execute([oldest.last])?;
    Ok(true)
}

/// Gives up the oldest records of a lane that are withheld and not in hand.
fn give_up_withheld(
    database: &mut Database,
    lane: Lane,
    look: &Look<'_>,
    older_than: Option<Duration>,
) -> rusqlite::Result<bool> {
    let sources: Vec<u32> = database.withheld.sources(lane).collect();
    let Some(after) = database.withheld.first_after(lane, &sources) else { return Ok(false) };
    let span =
        (Seq(after.max(database.given_up[lane.index()])), database.lanes[lane.index()].watermark);
    let found = oldest_withheld(database, lane, span, older_than, look.now)?;
    database.given_up[lane.index()] = found.looked_to;
    let Some(Oldest { first, last, count }) = found.oldest else { return Ok(found.is_cut_short) };
    let reason = if older_than.is_some() { DropReason::Ttl } else { DropReason::Cap };
    let gap = Gap { lane, first: Seq(first), last: Seq(last), count, reason };
    ledger::give_up(database, &gap, look.in_hand[Lane::Events.index()], look.now)?;
    let idle = |source: &u32| !database.withheld.is_in_hand(lane, *source);
    let sources: Vec<u32> = database.withheld.sources(lane).filter(idle).collect();
    let mark = SourceMark::Settle(Settled {
        lane,
        sources,
        through: last,
        delivered: 0,
        filtered: 0,
        gaps: Vec::new(),
    });
    database.write(|writer| withheld::write(writer, &mark, look.now))?;
    database.withheld.apply(&mark);
    tracing::warn!(count, lane = lane.as_str(), reason = gap.reason.as_str(), "given up, withheld");
    Ok(true)
}

/// What a look at withheld records found.
struct FoundWithheld {
    oldest: Option<Oldest>,
    looked_to: u64,
    /// Whether there may be more behind it.
    is_cut_short: bool,
}

/// Finds the oldest records in `(after, through]` that are withheld, up to the first that is in hand.
fn oldest_withheld(
    database: &Database,
    lane: Lane,
    (after, through): (Seq, u64),
    age: Option<Duration>,
    now: Mono,
) -> rusqlite::Result<FoundWithheld> {
    let rows = match lane {
        Lane::Readings => "seq, mono_ms, NULL, NULL, source FROM readings",
        Lane::Events => "seq, mono_ms, NULL, NULL, 0 FROM events",
        Lane::Alerts => {
            "seq, mono_ms, time_ms, epoch, source FROM alerts LEFT JOIN alert_arrivals USING (seq)"
        }
    };
    let select =
        format!("SELECT {rows} WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT {STEP_ROWS}");
    let mut select = database.connection.prepare_cached(&select)?;
    let mut rows = select.query(params![after.0, through])?;
    let mut found = FoundWithheld { oldest: None, looked_to: after.0, is_cut_short: false };
    let mut looked = 0;
    while let Some(row) = rows.next()? {
        let (seq, source) = (row.get(0)?, row.get(4)?);
        if let Some(age) = age
            && !is_older(database, &Arrival::read(row)?, age, now)
        {
            return Ok(found);
        }
        if database.withheld.is_pending(lane, source, seq) {
            if database.withheld.is_in_hand(lane, source) {
                if found.oldest.is_some() {
                    return Ok(found);
                }
            } else {
                let oldest = found.oldest.get_or_insert(Oldest { first: seq, last: seq, count: 0 });
                (oldest.last, oldest.count) = (seq, oldest.count + 1);
            }
        }
        looked += 1;
        found.looked_to = seq;
    }
    found.is_cut_short = looked == STEP_ROWS;
    Ok(found)
}

/// Gives up the oldest pending records of a lane that are not in hand.
fn give_up(
    database: &mut Database,
    lane: Lane,
    look: &Look<'_>,
    older_than: Option<Duration>,
) -> rusqlite::Result<bool> {
    let watermark = database.lanes[lane.index()].watermark;
    let from = Seq(look.in_hand[lane.index()].0.max(watermark));
    // The event that tells of what is given up is still written to.
    let growing = database.growing.as_ref().filter(|_| lane == Lane::Events);
    let span = (from, growing.map_or(database.last_seq, |growing| growing.event.0 - 1));
    let Some(oldest) = oldest(database, lane, span, older_than, look.now)? else {
        return Ok(false);
    };
    let reason = if older_than.is_some() { DropReason::Ttl } else { DropReason::Cap };
    let (first, last, count) = (Seq(oldest.first), Seq(oldest.last), oldest.count);
    let gap = Gap { lane, first, last, count, reason };
    ledger::give_up(database, &gap, look.in_hand[Lane::Events.index()], look.now)?;
    tracing::warn!(count, lane = lane.as_str(), reason = gap.reason.as_str(), "given up");
    Ok(true)
}

/// The oldest records of a lane within a span, at most [`STEP_ROWS`] of them.
struct Oldest {
    first: u64,
    last: u64,
    count: u64,
}

/// Finds the oldest records in `(after, through]`; with an age, only those that are older.
fn oldest(
    database: &Database,
    lane: Lane,
    (after, through): (Seq, u64),
    age: Option<Duration>,
    now: Mono,
) -> rusqlite::Result<Option<Oldest>> {
    let rows = match lane {
        Lane::Readings => "seq, mono_ms, NULL, NULL FROM readings",
        Lane::Events => "seq, mono_ms, NULL, NULL FROM events",
        Lane::Alerts => {
            "seq, mono_ms, time_ms, epoch FROM alerts LEFT JOIN alert_arrivals USING (seq)"
        }
    };
    let select =
        format!("SELECT {rows} WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT {STEP_ROWS}");
    let mut select = database.connection.prepare_cached(&select)?;
    let mut rows = select.query(params![after.0, through])?;
    let mut oldest: Option<Oldest> = None;
    while let Some(row) = rows.next()? {
        if let Some(age) = age
            && !is_older(database, &Arrival::read(row)?, age, now)
        {
            break;
        }
        let seq = row.get(0)?;
        let found = oldest.get_or_insert(Oldest { first: seq, last: seq, count: 0 });
        (found.last, found.count) = (seq, found.count + 1);
    }
    Ok(oldest)
}

/// When a record was stored. The time that another program gave with it says nothing of that.
enum Arrival {
    /// In the run of the kernel that its place tells.
    Mono(u64, Mono),
    /// On the axis of the rules in this run of the kernel: a rule decides when readings arrive.
    Reference(Epoch, Wall),
    /// Unknown: an alert from the readings of another program, which are lost. Its own time stands in.
    Wall(Wall),
}

impl Arrival {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let epoch: Option<u32> = row.get(3)?;
        Ok(match (row.get::<_, Option<u64>>(1)?, row.get::<_, Option<i64>>(2)?, epoch) {
            (_, Some(time), Some(epoch)) => Self::Reference(Epoch(epoch), Wall(time)),
            (Some(mono), _, _) => Self::Mono(row.get(0)?, Mono(mono)),
            (None, time, _) => Self::Wall(Wall(time.unwrap_or(0))),
        })
    }
}

/// Whether a record arrived longer than `age` ago. Between two runs of the kernel only trusted
/// clocks can tell; while they cannot, nothing counts as old.
fn is_older(database: &Database, arrival: &Arrival, age: Duration, now: Mono) -> bool {
    let timeline = &database.timeline;
    let (today, trust_today) = timeline.wall(database.epoch, now);
    let (then, trust) = match arrival {
        Arrival::Mono(seq, mono) => match database.boot_of(*seq).epoch {
            epoch if epoch == database.epoch => return now.since(*mono) > age,
            epoch => timeline.wall(epoch, *mono),
        },
        Arrival::Reference(epoch, time) if *epoch == database.epoch => {
            return *time + age < timeline.reference(*epoch, now);
        }
        Arrival::Reference(epoch, time) => timeline.corrected(*epoch, *time),
        Arrival::Wall(time) => (*time, Trust::Trusted),
    };
    trust == Trust::Trusted && trust_today == Trust::Trusted && then + age < today
}

/// Forgets what only forgotten records needed.
fn forget_frame(database: &mut Database) -> rusqlite::Result<()> {
    let connection = &database.connection;
    let mut first = database.last_seq + 1;
    for lane in Lane::ALL {
        let select = format!("SELECT seq FROM {} ORDER BY seq LIMIT 1", lane.as_str());
        let found = connection.prepare_cached(&select)?.query_row([], |row| row.get(0));
        first = found.optional()?.map_or(first, |found: u64| found.min(first));
    }
    let newest = "SELECT max(id) FROM gaps";
    let newest: Option<u64> = connection.prepare_cached(newest)?.query_row([], |row| row.get(0))?;
    let published = database.lanes[Lane::Events.index()].watermark;
    if newest.unwrap_or(0) > LEDGER_ROWS {
        // The newest row stays: its number must not be given again, nor its place.
        let delete = "DELETE FROM gaps WHERE id <= ?1 - ?2 AND last < ?3";
        connection.prepare_cached(delete)?.execute(params![newest, LEDGER_ROWS, published])?;
    }
    // An alert that is still raised is remembered for as long as it is.
    let delete = "DELETE FROM standing WHERE seq < ?1 AND (raised = 0 OR EXISTS (
                  SELECT 1 FROM standing AS cleared WHERE cleared.rule = standing.rule
                  AND cleared.source = standing.source AND NOT cleared.raised
                  AND cleared.seq > standing.seq))";
    connection.prepare_cached(delete)?.execute([first])?;
    database.forget_boots(first)
}
