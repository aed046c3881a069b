//! The gap ledger: each loss of records is a row, and an event to be published (P3).
//!
//! While the event is not taken by the publisher, adjacent losses extend the same row and event: a
//! month without a link costs the ledger a row, not thousands (P10).

use pulsegate_core::cloud::record_text::ClockText;
use pulsegate_core::record::event::{Event, GapMembers};
use pulsegate_core::record::id::RecordId;
use pulsegate_core::record::lane::{DropReason, Gap, Lane};
use pulsegate_core::record::reading::{Boot, Seq};
use pulsegate_core::time::{Mono, Wall};
use rusqlite::{OptionalExtension as _, Row, params};

use super::bounds::{self, RisingPlaces};
use super::database::{Database, EventRow, Unwritten};
use super::load::UNTOLD_GAP;
use super::untold::GapReports;
use super::withheld::Claim;
use super::write::LaneWriter;

/// The newest row with its event.
#[derive(Debug, Clone)]
pub(crate) struct Growing {
    row: i64,
    pub(crate) event: Seq,
    gap: Gap,
    start: Option<Wall>,
}

/// Bounds the search for pending records between two gaps: with more records there, a new row is begun.
const MAX_BETWEEN: u64 = 10_000;

/// Gives up the records of `gap` at `places`: deletes and counts them, and reports them in an
/// event. Records of other sources may lie between the places, and stay. Events up to `in_hand` may
/// be on their way and are not changed.
pub(crate) fn give_up_records(
    database: &mut Database,
    gap: &Gap,
    places: &[u64],
    in_hand: Seq,
    now: Mono,
) -> rusqlite::Result<()> {
    let given_up = gap;
    let grown = find_growing(database, gap, in_hand)?;
    let mut span = gap_span(database, gap)?;
    let gap = match &grown {
        Some(grown) => {
            let start = grown.start.or(span.map(|(start, _)| start));
            span = start.zip(span.map(|(_, end)| end));
            let count = grown.gap.count + gap.count;
            &Gap { last: gap.last, count, ..grown.gap.clone() }
        }
        None => gap,
    };
    let start = span.map(|(start, _)| start);
    let id = |seq: Seq| record_id(database.boot_of(seq.0).boot, seq);
    let members = build_gap_members(gap, &id(gap.first), &id(gap.last), span);
    let mut telling = GapReports::from_untold(database);
    telling.fold_events_of(database, given_up, now)?;
    let delete = format!("DELETE FROM {} WHERE seq = ?1", gap.lane.as_str());
    let (row, event) = database.run_transaction(|writer| {
        let mut delete = writer.tx.prepare_cached(&delete)?;
        places.iter().try_for_each(|place| delete.execute([place]).map(drop))?;
        drop(delete);
        telling.write_reports(writer)?;
        match &grown {
            Some(grown) => {
                grow_gap(writer, grown, gap, &members)?;
                Ok((grown.row, grown.event))
            }
            None => {
                let row = writer.write_gap_row(gap, now)?;
                writer.write_event(&EventRow { event: Event::Gap(members), mono: now })?;
                Ok((row, Seq(writer.last_seq)))
            }
        }
    })?;
    database.untold = telling.into_untold();
    database.growing = Some(Growing { row, event, gap: gap.clone(), start });
    Ok(())
}

/// Returns the newest row if `gap` can extend the row.
fn find_growing(database: &Database, gap: &Gap, in_hand: Seq) -> rusqlite::Result<Option<Growing>> {
    let Some(growing) = &database.growing else { return Ok(None) };
    let alike = growing.gap.lane == gap.lane && growing.gap.reason == gap.reason;
    if !alike || growing.event <= in_hand || growing.gap.last >= gap.first {
        return Ok(None);
    }
    let is_next = !has_pending(database, gap.lane, (growing.gap.last.0, gap.first.0))?;
    Ok(is_next.then(|| growing.clone()))
}

/// Returns true if a record between two places is pending, or if there are too many records to
/// check.
fn has_pending(
    database: &Database,
    lane: Lane,
    (after, before): (u64, u64),
) -> rusqlite::Result<bool> {
    let (withheld, watermark) = (&database.withheld, database.lanes[lane.index()].watermark);
    let after = if withheld.is_empty(lane) { after.max(watermark) } else { after };
    let source = match lane {
        Lane::Alerts | Lane::Readings => "source",
        Lane::Events => "0",
    };
    let select = format!(
        "SELECT seq, {source} FROM {} WHERE seq > ?1 AND seq < ?2 ORDER BY seq LIMIT {MAX_BETWEEN}",
        lane.as_str()
    );
    let mut select = database.connection.prepare_cached(&select)?;
    let mut rows = select.query([after, before])?;
    let mut looked = 0;
    while let Some(row) = rows.next()? {
        let seq: u64 = row.get(0)?;
        let is_pending = match withheld.find_claim(lane, row.get(1)?, seq) {
            Some(claim) => claim != Claim::Settled,
            None => seq > watermark,
        };
        if is_pending {
            return Ok(true);
        }
        looked += 1;
    }
    Ok(looked == MAX_BETWEEN)
}

fn grow_gap(
    writer: &mut LaneWriter<'_>,
    grown: &Growing,
    gap: &Gap,
    members: &GapMembers,
) -> rusqlite::Result<()> {
    writer.lanes[gap.lane.index()].move_to_dropped(gap.count - grown.gap.count);
    writer
        .tx
        .prepare_cached("UPDATE gaps SET last = ?2, count = ?3 WHERE id = ?1")?
        .execute(params![grown.row, gap.last.0, gap.count])?;
    writer
        .tx
        .prepare_cached("UPDATE events SET members = ?2 WHERE seq = ?1")?
        .execute(params![grown.event.0, members.to_text()])?;
    Ok(())
}

/// Assigns places to records given up before they could be written, and reports the gap.
pub(crate) fn write_unwritten(
    writer: &mut LaneWriter<'_>,
    boot: Boot,
    lane: Lane,
    lost: &Unwritten,
) -> rusqlite::Result<()> {
    if lost.count == 0 {
        return Ok(());
    }
    let first = Seq(writer.last_seq + 1);
    writer.count_records(lane, lost.count);
    let (last, count) = (Seq(writer.last_seq), lost.count);
    let gap = Gap { lane, first, last, count, reason: DropReason::DiskFull };
    writer.write_gap_row(&gap, lost.until)?;
    let members =
        build_gap_members(&gap, &record_id(boot, first), &record_id(boot, last), lost.span);
    writer.write_event(&EventRow { event: Event::Gap(members), mono: lost.until })
}

/// Returns the gaps without an event: losses found in the replacement of a damaged database.
pub(crate) fn read_untold(database: &Database) -> rusqlite::Result<Vec<GapMembers>> {
    let select = "SELECT lane, first, last, count, id FROM gaps
                  WHERE id >= (SELECT value FROM meta WHERE key = ?1) ORDER BY id";
    let mut select = database.connection.prepare(select)?;
    let mut rows = select.query([UNTOLD_GAP])?;
    let mut told = Vec::new();
    let mut rows_rise = RisingPlaces::default();
    while let Some(row) = rows.next()? {
        rows_rise.read_rising(row, 4)?;
        let index: usize = row.get(0)?;
        let lane = Lane::ALL.get(index).copied().unwrap_or(Lane::Readings);
        let (first, last) = (Seq(bounds::read_place(row, 1)?), Seq(bounds::read_place(row, 2)?));
        let count = bounds::read_place(row, 3)?;
        let gap = Gap { lane, first, last, count, reason: DropReason::Corruption };
        told.push(gap_members(database, &gap)?);
    }
    Ok(told)
}

/// Writes an event for each of these gaps.
pub(crate) fn write_untold_events(
    writer: &mut LaneWriter<'_>,
    untold: &[GapMembers],
    now: Mono,
) -> rusqlite::Result<()> {
    for members in untold {
        writer.write_event(&EventRow { event: Event::Gap(members.clone()), mono: now })?;
    }
    if !untold.is_empty() {
        writer.tx.execute("DELETE FROM meta WHERE key = ?1", [UNTOLD_GAP])?;
    }
    Ok(())
}

/// Returns the members of the event of a gap.
pub(crate) fn gap_members(database: &Database, gap: &Gap) -> rusqlite::Result<GapMembers> {
    let id = |seq: Seq| record_id(database.boot_of(seq.0).boot, seq);
    Ok(build_gap_members(gap, &id(gap.first), &id(gap.last), gap_span(database, gap)?))
}

fn record_id(boot: Boot, seq: Seq) -> String {
    RecordId { boot, seq }.to_string()
}

/// Builds the members: lane, first and last record, count, reason, and span of time.
fn build_gap_members(gap: &Gap, first: &str, last: &str, span: Option<(Wall, Wall)>) -> GapMembers {
    let topic = match &gap.reason {
        DropReason::Quarantine { topic } => Some(String::from(&**topic)),
        DropReason::Cap
        | DropReason::Ttl
        | DropReason::Corruption
        | DropReason::DiskFull
        | DropReason::OtherThing => None,
    };
    GapMembers {
        lane: gap.lane.as_str().to_owned(),
        first: first.to_owned(),
        last: last.to_owned(),
        count: gap.count,
        reason: gap.reason.as_str().to_owned(),
        topic,
        start: span.map(|(start, _)| ClockText::format_time(start)),
        end: span.map(|(_, end)| ClockText::format_time(end)),
    }
}

/// Returns the span of time of a gap: the times of its records, or of records beside the gap.
fn gap_span(database: &Database, gap: &Gap) -> rusqlite::Result<Option<(Wall, Wall)>> {
    let start = time_of(database, gap.lane, "<= ?1 ORDER BY seq DESC", gap.first)?;
    let end = time_of(database, gap.lane, ">= ?1 ORDER BY seq", gap.last)?;
    Ok(start.or(end).zip(end.or(start)))
}

fn time_of(
    database: &Database,
    lane: Lane,
    near: &str,
    seq: Seq,
) -> rusqlite::Result<Option<Wall>> {
    let columns = match lane {
        Lane::Readings => "seq, mono_ms, time_ms, NULL",
        Lane::Alerts => "seq, 0, time_ms, epoch",
        Lane::Events => "seq, mono_ms, NULL, NULL",
    };
    let select = format!("SELECT {columns} FROM {} WHERE seq {near} LIMIT 1", lane.as_str());
    let read = |row: &Row<'_>| -> rusqlite::Result<Wall> {
        let time = bounds::read_optional_time(row, 2)?;
        let epoch = bounds::read_optional_epoch(row, 3)?;
        let timeline = &database.timeline;
        Ok(match (time, epoch) {
            (Some(time), Some(epoch)) => timeline.correct_reference(epoch, Wall(time)).0,
            (Some(time), None) => Wall(time),
            (None, _) => {
                let epoch = database.boot_of(bounds::read_place(row, 0)?).epoch;
                timeline.wall_time(epoch, bounds::read_mono(row, 1)?).0
            }
        })
    };
    database.connection.prepare_cached(&select)?.query_row([seq.0], read).optional()
}
