//! Retention: forgets delivered records above their age or when the store reaches its cap, then
//! gives up the oldest pending records outside the publisher's hands, readings first.
//!
//! Works in small steps between commits, so no step holds up an alert. Freed pages are used again;
//! the file does not shrink.

use std::time::Duration;

use pulsegate_core::record::lane::{DropReason, Gap, Lane};
use pulsegate_core::record::reading::Seq;
use pulsegate_core::time::timeline::{ClockTrust, Epoch};
use pulsegate_core::time::{Mono, Wall};
use rusqlite::{OptionalExtension as _, Row, params};

use super::database::Database;
use super::ledger;
use super::withheld::{self, Claim, SettledSources, SourceMark, Withheld, is_pending_sql};
use crate::config::Buffer;

/// Records given up or forgotten in a step: some milliseconds on a slow card.
const STEP_ROWS: u64 = 2_000;
/// Published gaps kept in the ledger.
const LEDGER_ROWS: u64 = 10_000;
/// Order in which lanes lose records for the cap, the least missed first.
const FORGOTTEN_FIRST: [Lane; 3] = [Lane::Readings, Lane::Events, Lane::Alerts];

/// The situation for a step.
pub(crate) struct RetentionView<'a> {
    pub(crate) keep: &'a Buffer,
    /// Bytes allowed for records: the cap of the configuration, or less on a small partition.
    pub(crate) cap_bytes: u64,
    /// By lane: records up to here are in the publisher's hands.
    pub(crate) in_hand: [Seq; 3],
    pub(crate) now: Mono,
}

/// Takes a step. Returns true if there may be more to do.
pub(crate) fn run_step(
    database: &mut Database,
    look: &RetentionView<'_>,
) -> rusqlite::Result<bool> {
    let (used, _) = database.measure_size()?;
    let over = used > look.cap_bytes;
    if over {
        if forget_delivered(database, look.now)? {
            return Ok(true);
        }
        for lane in FORGOTTEN_FIRST {
            if give_up_withheld(database, lane, look, None)?
                || give_up_oldest(database, lane, look, None)?
            {
                return Ok(true);
            }
        }
    }
    if let Some(ttl) = look.keep.ttl
        && (give_up_withheld(database, Lane::Readings, look, Some(ttl))?
            || give_up_oldest(database, Lane::Readings, look, Some(ttl))?)
    {
        return Ok(true);
    }
    for lane in FORGOTTEN_FIRST {
        if forget_lane(database, lane, Some(look.keep.history), look.now)? {
            return Ok(true);
        }
    }
    forget_frame(database)?;
    Ok(false)
}

/// Forgets some delivered records, whatever their age. Returns true if there were any.
pub(crate) fn forget_delivered(database: &mut Database, now: Mono) -> rusqlite::Result<bool> {
    for lane in FORGOTTEN_FIRST {
        if forget_lane(database, lane, None, now)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Forgets the oldest delivered records of a lane: those above `age`, or whatever their age.
fn forget_lane(
    database: &mut Database,
    lane: Lane,
    age: Option<Duration>,
    now: Mono,
) -> rusqlite::Result<bool> {
    let watermark = database.lanes[lane.index()].watermark;
    // Marks waiting for a commit do not count yet: a power cut would undo them.
    let is_whole = database.stored_withheld.is_empty(lane);
    let from = if is_whole { 0 } else { database.forgotten[lane.index()] };
    let found = find_oldest(database, lane, (from, watermark), (age, now), |_, _| Claim::Free)?;
    let Some(last) = found.places.last().copied() else { return Ok(false) };
    let table = lane.as_str();
    let mut delete = format!("DELETE FROM {table} WHERE seq <= ?1");
    if !is_whole {
        delete = format!("{delete} AND seq > ?2 AND NOT {}", is_pending_sql(lane, table));
        let mut delete = database.connection.prepare_cached(&delete)?;
        delete.execute([last, from])?;
        drop(delete);
        database.forgotten[lane.index()] = last;
        return Ok(true);
    }
    database.connection.prepare_cached(&delete)?.execute([last])?;
    Ok(true)
}

/// Gives up the oldest withheld records of a lane outside the publisher's hands.
fn give_up_withheld(
    database: &mut Database,
    lane: Lane,
    look: &RetentionView<'_>,
    older_than: Option<Duration>,
) -> rusqlite::Result<bool> {
    let sources: Vec<u32> = database.withheld.withheld_sources(lane).collect();
    let Some(after) = database.withheld.first_after(lane, &sources) else { return Ok(false) };
    let span = (after.max(database.given_up[lane.index()]), database.lanes[lane.index()].watermark);
    let withheld = &database.withheld;
    let claim = |source, seq| withheld.find_claim(lane, source, seq).unwrap_or(Claim::Settled);
    let found = find_oldest(database, lane, span, (older_than, look.now), claim)?;
    database.given_up[lane.index()] = found.looked_to;
    let Some(last) = found.places.last().copied() else { return Ok(found.is_cut_short) };
    give_up_places(database, lane, look, (older_than, &found.places))?;
    // A mark waiting for a commit is not overtaken: its records would be counted nowhere in
    // between.
    let idle = |source: &u32| {
        let of = |withheld: &Withheld| withheld.first_after(lane, &[*source]);
        database.withheld.is_idle(lane, *source)
            && of(&database.withheld) == of(&database.stored_withheld)
    };
    let sources: Vec<u32> = database.withheld.withheld_sources(lane).filter(idle).collect();
    let (delivered, filtered, gaps) = (0, 0, Vec::new());
    let settled = SettledSources { lane, sources, through: last, delivered, filtered, gaps };
    let mark = SourceMark::Settle(settled);
    database.run_transaction(|writer| withheld::write_source_mark(writer, &mark, look.now))?;
    database.withheld.apply_mark(&mark);
    database.stored_withheld.apply_mark(&mark);
    Ok(true)
}

/// Gives up the oldest pending records of a lane outside the publisher's hands.
fn give_up_oldest(
    database: &mut Database,
    lane: Lane,
    look: &RetentionView<'_>,
    older_than: Option<Duration>,
) -> rusqlite::Result<bool> {
    let watermark = database.lanes[lane.index()].watermark;
    let from = look.in_hand[lane.index()].0.max(watermark);
    // The event about this loss may still be extended.
    let growing = database.growing.as_ref().filter(|_| lane == Lane::Events);
    let through = growing.map_or(database.last_seq, |growing| growing.event.0 - 1);
    let withheld = &database.withheld;
    let claim = |source, seq| withheld.find_claim(lane, source, seq).unwrap_or(Claim::Free);
    let mut found = find_oldest(database, lane, (from, through), (older_than, look.now), claim)?;
    // Skips records settled by a withheld source beyond the watermark.
    while found.places.is_empty() && found.is_cut_short {
        let span = (found.looked_to, through);
        found = find_oldest(database, lane, span, (older_than, look.now), claim)?;
    }
    if found.places.is_empty() {
        return Ok(false);
    }
    give_up_places(database, lane, look, (older_than, &found.places))?;
    Ok(true)
}

/// Gives up the records at one or more places.
fn give_up_places(
    database: &mut Database,
    lane: Lane,
    look: &RetentionView<'_>,
    (older_than, places): (Option<Duration>, &[u64]),
) -> rusqlite::Result<()> {
    let reason = if older_than.is_some() { DropReason::Ttl } else { DropReason::Cap };
    let (first, last) = (places.first().copied(), places.last().copied());
    let (first, last) = (Seq(first.unwrap_or(0)), Seq(last.unwrap_or(0)));
    let count = places.len() as u64;
    let gap = Gap { lane, first, last, count, reason };
    ledger::give_up_records(database, &gap, places, look.in_hand[Lane::Events.index()], look.now)?;
    tracing::warn!(count, lane = lane.as_str(), reason = gap.reason.as_str(), "given up");
    Ok(())
}

/// The oldest records of a lane within a span that are free to be given up or forgotten.
struct Oldest {
    places: Vec<u64>,
    /// The last place looked at.
    looked_to: u64,
    /// True if there may be more records behind.
    is_cut_short: bool,
}

/// Looks at the oldest records in `(after, through]`, [`STEP_ROWS`] at most; with an age, only at
/// older records. `claim` returns the claim on the record of a source and place. Ends before a
/// record in hand, unless nothing was found before.
fn find_oldest(
    database: &Database,
    lane: Lane,
    (after, through): (u64, u64),
    (age, now): (Option<Duration>, Mono),
    claim: impl Fn(u32, u64) -> Claim,
) -> rusqlite::Result<Oldest> {
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
    let mut rows = select.query([after, through])?;
    let mut oldest = Oldest { places: Vec::new(), looked_to: after, is_cut_short: false };
    let mut looked = 0;
    while let Some(row) = rows.next()? {
        if let Some(age) = age
            && !is_older(database, &RecordArrival::read_arrival(row)?, age, now)
        {
            return Ok(oldest);
        }
        let seq = row.get(0)?;
        match claim(row.get(4)?, seq) {
            Claim::Free => oldest.places.push(seq),
            Claim::InHand if !oldest.places.is_empty() => return Ok(oldest),
            Claim::InHand | Claim::Settled => {}
        }
        (looked, oldest.looked_to) = (looked + 1, seq);
    }
    oldest.is_cut_short = looked == STEP_ROWS;
    Ok(oldest)
}

/// The arrival of a record in the store, which differs from a time given by another program.
enum RecordArrival {
    /// A place and a monotonic time in the run of the kernel of the place.
    Mono(u64, Mono),
    /// On the axis of the rules in this run of the kernel: a rule decides when readings arrive.
    Reference(Epoch, Wall),
    /// Unknown, because another program's readings of an alert are lost. The time of the alert
    /// stands in.
    Wall(Wall),
}

impl RecordArrival {
    fn read_arrival(row: &Row<'_>) -> rusqlite::Result<Self> {
        let epoch: Option<u32> = row.get(3)?;
        Ok(match (row.get::<_, Option<u64>>(1)?, row.get::<_, Option<i64>>(2)?, epoch) {
            (_, Some(time), Some(epoch)) => Self::Reference(Epoch(epoch), Wall(time)),
            (Some(mono), _, _) => Self::Mono(row.get(0)?, Mono(mono)),
            (None, time, _) => Self::Wall(Wall(time.unwrap_or(0))),
        })
    }
}

/// Returns true if a record arrived longer than `age` ago. Across runs of the kernel only trusted
/// clocks can tell; without them, no record counts as old.
fn is_older(database: &Database, arrival: &RecordArrival, age: Duration, now: Mono) -> bool {
    let timeline = &database.timeline;
    let (today, trust_today) = timeline.wall_time(database.epoch, now);
    let (then, trust) = match arrival {
        RecordArrival::Mono(seq, mono) => match database.boot_of(*seq).epoch {
            epoch if epoch == database.epoch => return now.since(*mono) > age,
            epoch => timeline.wall_time(epoch, *mono),
        },
        RecordArrival::Reference(epoch, time) if *epoch == database.epoch => {
            return *time + age < timeline.reference_time(*epoch, now);
        }
        RecordArrival::Reference(epoch, time) => timeline.correct_reference(*epoch, *time),
        RecordArrival::Wall(time) => (*time, ClockTrust::Trusted),
    };
    trust == ClockTrust::Trusted && trust_today == ClockTrust::Trusted && then + age < today
}

/// Deletes rows of the frame needed only by forgotten records.
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
        // The newest row stays, so its id and its place are not assigned again.
        let delete = "DELETE FROM gaps WHERE id <= ?1 - ?2 AND last < ?3";
        connection.prepare_cached(delete)?.execute(params![newest, LEDGER_ROWS, published])?;
    }
    // A raised alert is remembered until cleared.
    let delete = "DELETE FROM standing WHERE seq < ?1 AND (raised = 0 OR EXISTS (
                  SELECT 1 FROM standing AS cleared WHERE cleared.rule = standing.rule
                  AND cleared.source = standing.source AND NOT cleared.raised
                  AND cleared.seq > standing.seq))";
    connection.prepare_cached(delete)?.execute([first])?;
    database.forget_boots(first)
}
