//! Facts read when a database is opened: as little with ten million readings as with ten.

use std::collections::HashSet;

use pulsegate_core::record::lane::{Lane, RecordAccount};
use pulsegate_core::record::reading::Boot;
use pulsegate_core::time::timeline::{ClockTrust, Epoch, Segment, Timeline};
use pulsegate_core::time::{Mono, Wall};
use pulsegate_sensors::{Source, SourceId, Sources};
use rusqlite::{Connection, OptionalExtension as _};

use super::bounds::{self, MAX_FRAME_ROWS, RisingPlaces};
use super::withheld::{self, Withheld};

/// The place before the first record, in a database begun after the loss of another database.
pub(crate) const BASE_SEQ: &str = "base_seq";
/// The last place assigned by an earlier database, where no record has the place.
pub(crate) const END_SEQ: &str = "end_seq";

/// The first row of the ledger without an event.
pub(crate) const UNTOLD_GAP: &str = "untold_gap";

/// Number of readings not published by choice.
pub(crate) const FILTERED: &str = "filtered";

/// A row of `accounts`, and the last record of the lane. Each record counts as pending until it
/// moves to another count, so the account always adds up (P3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LaneRow {
    pub(crate) watermark: u64,
    pub(crate) recorded: u64,
    pub(crate) delivered: u64,
    pub(crate) pending: u64,
    pub(crate) dropped: u64,
    pub(crate) filtered: u64,
    pub(crate) last: u64,
}

impl LaneRow {
    /// Counts new records, the last at the place `last`.
    pub(crate) fn add_pending(&mut self, count: u64, last: u64) {
        self.recorded += count;
        self.pending += count;
        self.last = last;
    }

    /// Counts pending records as delivered. With more than are pending the account no longer adds
    /// up, which [`check_accounts`] reports. The same holds for the other counts.
    pub(crate) fn move_to_delivered(&mut self, count: u64) {
        self.pending = self.pending.saturating_sub(count);
        self.delivered += count;
    }

    /// Counts pending records as filtered.
    pub(crate) fn move_to_filtered(&mut self, count: u64) {
        self.pending = self.pending.saturating_sub(count);
        self.filtered += count;
    }

    /// Counts pending records as dropped.
    pub(crate) fn move_to_dropped(&mut self, count: u64) {
        self.pending = self.pending.saturating_sub(count);
        self.dropped += count;
    }

    /// Sets the pending records to a number that was counted; the others are delivered. Records
    /// counted twice, as lost by a salvage and by the marks before it, count once.
    pub(crate) fn set_pending(&mut self, pending: u64) {
        self.pending = pending;
        let rest = self.recorded.saturating_sub(pending);
        self.dropped = self.dropped.min(rest);
        let settled = rest - self.dropped;
        self.filtered = self.filtered.min(settled);
        self.delivered = settled - self.filtered;
    }

    pub(crate) fn account(&self) -> RecordAccount {
        RecordAccount {
            recorded: self.recorded,
            delivered: self.delivered,
            pending: self.pending,
            dropped: self.dropped,
            filtered: self.filtered,
        }
    }

    /// Returns true if the account adds up, and the lane has as many places behind its watermarks
    /// as pending records. `first_after` is the least watermark of its withheld sources.
    fn is_sound(&self, first_after: Option<u64>) -> bool {
        let settled = first_after.map_or(self.watermark, |after| after.min(self.watermark));
        self.account().is_balanced() && self.pending <= self.last.saturating_sub(settled)
    }
}

/// A row of `boots`: a start of the agent, and the place of its first record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BootRow {
    pub(crate) first_seq: u64,
    pub(crate) boot: Boot,
    pub(crate) epoch: Epoch,
}

/// Returns the start of the agent that wrote the record `seq`.
pub(crate) fn boot_of(boots: &[BootRow], seq: u64) -> BootRow {
    let after = boots.partition_point(|boot| boot.first_seq <= seq);
    let nowhere = BootRow { first_seq: 0, boot: Boot::without_suffix(0), epoch: Epoch(0) };
    boots.get(after.saturating_sub(1)).copied().unwrap_or(nowhere)
}

/// Reads the accounts of the lanes in a snapshot; `status` has them from the running agent.
#[cfg(any(test, feature = "demo"))]
pub(crate) fn load_accounts(connection: &mut Connection) -> rusqlite::Result<[RecordAccount; 3]> {
    let snapshot = connection.transaction()?;
    Ok(read_lanes(&snapshot)?.map(|row| row.account()))
}

/// Counts the pending records, and returns a lane with fewer than its account says. The cost grows
/// with the backlog.
pub(crate) fn find_missing_records(connection: &mut Connection) -> rusqlite::Result<Option<Lane>> {
    let snapshot = connection.transaction()?;
    let lanes = read_lanes(&snapshot)?;
    for lane in Lane::ALL {
        let row = lanes[lane.index()];
        if withheld::count_pending(&snapshot, lane, row.watermark)? < row.pending {
            return Ok(Some(lane));
        }
    }
    Ok(None)
}

/// Checks the accounts as far as possible without counting records.
///
/// # Errors
/// When an account does not add up, or more records are pending than there are places for.
pub(crate) fn check_accounts(lanes: &[LaneRow; 3], withheld: &Withheld) -> rusqlite::Result<()> {
    let is_sound = |lane: Lane| {
        let sources: Vec<u32> = withheld.withheld_sources(lane).collect();
        lanes[lane.index()].is_sound(withheld.first_after(lane, &sources))
    };
    if Lane::ALL.into_iter().all(is_sound) { Ok(()) } else { Err(bounds::out_of_bounds(0)) }
}

/// Returns the last assigned place.
pub(crate) fn last_seq(connection: &Connection, lanes: &[LaneRow; 3]) -> rusqlite::Result<u64> {
    let highest = |select: &str| {
        connection.query_row(select, [], |row| bounds::read_place(row, 0)).optional()
    };
    let given_up = highest("SELECT last FROM gaps ORDER BY last DESC LIMIT 1")?;
    let begun = highest("SELECT first_seq FROM boots ORDER BY first_seq DESC LIMIT 1")?
        .map(|first| first.saturating_sub(1));
    let told = [given_up, begun, read_meta(connection, BASE_SEQ)?, read_meta(connection, END_SEQ)?];
    let ends = lanes.iter().map(|lane| lane.last.max(lane.watermark));
    Ok(ends.chain(told.into_iter().flatten()).max().unwrap_or(0))
}

/// Returns the latest time reached on the axis of the rules.
pub(crate) fn newest_reference(
    connection: &Connection,
    boots: &[BootRow],
    timeline: &Timeline,
) -> rusqlite::Result<Option<Wall>> {
    let last = |select: &str| {
        connection
            .query_row(select, [], |row| {
                Ok((bounds::read_place(row, 0)?, bounds::read_time(row, 1)?))
            })
            .optional()
    };
    let reading = last("SELECT seq, mono_ms FROM readings ORDER BY seq DESC LIMIT 1")?;
    let event = last("SELECT seq, mono_ms FROM events ORDER BY seq DESC LIMIT 1")?;
    let alert =
        last("SELECT seq, iif(epoch IS NULL, 0, time_ms) FROM alerts ORDER BY seq DESC LIMIT 1")?;
    let begun = timeline.newest_reference();
    let at = |(seq, mono): (u64, i64)| {
        let mono = Mono(u64::try_from(mono).unwrap_or(0));
        timeline.reference_time(boot_of(boots, seq).epoch, mono)
    };
    let told = [reading.map(at), event.map(at), alert.map(|(_, time)| Wall(time)), begun];
    Ok(told.into_iter().flatten().max())
}

/// Returns the last trusted time, as far as known from the newest records and the segments of the
/// clock.
pub(crate) fn last_trusted(
    connection: &Connection,
    boots: &[BootRow],
    timeline: &Timeline,
) -> rusqlite::Result<Option<Wall>> {
    let mut told = timeline.last_set();
    for table in ["readings", "events"] {
        let newest = format!("SELECT seq, mono_ms FROM {table} ORDER BY seq DESC LIMIT 1");
        let at = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u64>(0)?, Mono(row.get(1)?)));
        let newest = connection.query_row(&newest, [], at).optional()?;
        let time = newest.map(|(seq, mono)| timeline.wall_time(boot_of(boots, seq).epoch, mono));
        told =
            told.max(time.filter(|(_, trust)| *trust == ClockTrust::Trusted).map(|(time, _)| time));
    }
    Ok(told)
}

pub(crate) fn read_lanes(connection: &Connection) -> rusqlite::Result<[LaneRow; 3]> {
    let mut lanes = [LaneRow::default(); 3];
    let mut stored_pending = [None; 3];
    for lane in Lane::ALL {
        let table = lane.as_str();
        let last: Option<u64> = connection
            .query_row(&format!("SELECT seq FROM {table} ORDER BY seq DESC LIMIT 1"), [], |row| {
                bounds::read_place(row, 0)
            })
            .optional()?;
        let row = connection
            .query_row(
                "SELECT watermark, recorded, delivered, dropped, pending
                 FROM accounts WHERE lane = ?1",
                [lane.index()],
                |row| {
                    stored_pending[lane.index()] = bounds::read_optional_place(row, 4)?;
                    Ok(LaneRow {
                        watermark: bounds::read_place(row, 0)?,
                        recorded: bounds::read_place(row, 1)?,
                        delivered: bounds::read_place(row, 2)?,
                        pending: 0,
                        dropped: bounds::read_place(row, 3)?,
                        filtered: 0,
                        last: last.unwrap_or(0),
                    })
                },
            )
            .optional()?;
        // Every store has an account of each lane.
        lanes[lane.index()] = row.ok_or_else(|| bounds::out_of_bounds(0))?;
    }
    let stored_recorded = lanes.map(|row| row.recorded);
    // Only readings have filters, and not on every device: the number is a row of its own where
    // needed.
    lanes[Lane::Readings.index()].filtered = read_meta(connection, FILTERED)?.unwrap_or(0);
    // Every place belongs to one lane, so the number of readings is the rest.
    let end = last_seq(connection, &lanes)?;
    let base = read_meta(connection, BASE_SEQ)?.unwrap_or(0);
    let others: u64 = [Lane::Alerts, Lane::Events].map(|l| lanes[l.index()].recorded).iter().sum();
    lanes[Lane::Readings.index()].recorded = end.saturating_sub(base + others);
    for ((row, pending), recorded) in lanes.iter_mut().zip(stored_pending).zip(stored_recorded) {
        row.pending = match pending {
            // Readings recorded since the row was written change no row.
            Some(pending) => pending + row.recorded.saturating_sub(recorded),
            None => row.recorded.saturating_sub(row.delivered + row.dropped + row.filtered),
        };
    }
    Ok(lanes)
}

pub(crate) fn read_meta(connection: &Connection, key: &str) -> rusqlite::Result<Option<u64>> {
    connection
        .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| bounds::read_place(row, 0))
        .optional()
}

pub(crate) fn read_boots(connection: &Connection) -> rusqlite::Result<Vec<BootRow>> {
    connection
        .prepare(
            "SELECT first_seq, boot, epoch, coalesce(suffix, '')
             FROM boots LEFT JOIN starts USING (boot) ORDER BY first_seq, boot LIMIT ?1",
        )?
        .query_map([MAX_FRAME_ROWS], |row| {
            Ok(BootRow {
                first_seq: bounds::read_place(row, 0)?,
                boot: Boot::from_stored(bounds::read_start(row, 1)?, bounds::read_name(row, 3)?),
                epoch: bounds::read_epoch(row, 2)?,
            })
        })?
        .collect()
}

pub(crate) fn read_timeline(connection: &Connection) -> rusqlite::Result<Timeline> {
    let mut timeline = Timeline::default();
    let mut boots =
        connection.prepare("SELECT epoch, reference_ms FROM kernel_boots ORDER BY 1 LIMIT ?1")?;
    let mut rows = boots.query([MAX_FRAME_ROWS])?;
    while let Some(row) = rows.next()? {
        timeline.add_boot(bounds::read_epoch(row, 0)?, bounds::read_time(row, 1)?);
    }
    let mut clock = connection.prepare(
        "SELECT epoch, since_ms, offset_ms, trusted FROM clock ORDER BY epoch, since_ms LIMIT ?1",
    )?;
    let mut rows = clock.query([MAX_FRAME_ROWS])?;
    while let Some(row) = rows.next()? {
        let trust = if row.get(3)? { ClockTrust::Trusted } else { ClockTrust::Unset };
        let (since, offset_ms) = (bounds::read_mono(row, 1)?, bounds::read_time(row, 2)?);
        timeline.restore_segment(bounds::read_epoch(row, 0)?, Segment { since, offset_ms, trust });
    }
    Ok(timeline)
}

/// Returns a source to stand in for a source known by number only.
pub(crate) fn lost_source(id: usize) -> Source {
    Source { name: format!("source-{id}").into(), kind: "unknown".into() }
}

/// Registers the stored sources under their numbers, before the configured sources. Returns their
/// count.
///
/// # Errors
/// When a number is out of bounds, or two numbers have the same name. Then no source is registered.
pub(crate) fn load_sources(connection: &Connection, sources: &Sources) -> rusqlite::Result<usize> {
    let mut select = connection.prepare("SELECT id, name, kind FROM sources ORDER BY id")?;
    let mut rows = select.query([])?;
    let mut numbers = RisingPlaces::default();
    let (mut stored, mut known) = (Vec::new(), HashSet::new());
    while let Some(row) = rows.next()? {
        numbers.read_rising(row, 0)?;
        let SourceId(id) = bounds::read_source(row, 0)?;
        // A missing number stays missing, because its readings belong to no other source.
        stored.extend((stored.len()..id as usize).map(lost_source));
        stored.push(bounds::read_source_names(row, 1)?);
    }
    if !stored.iter().all(|source| known.insert(source)) {
        return Err(bounds::out_of_bounds(0));
    }
    let count = stored.len();
    for (id, source) in (0..).zip(stored) {
        if sources.intern_source(source) != Ok(SourceId(id)) {
            return Err(bounds::out_of_bounds(0));
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_number_of_pending_records_counts_each_record_once() {
        let counts = || (0..6_u64).flat_map(|one| (0..6_u64).map(move |other| (one, other)));
        for ((recorded, pending), (dropped, filtered)) in
            counts().flat_map(|first| counts().map(move |second| (first, second)))
        {
            if pending > recorded {
                continue;
            }
            let before = LaneRow { recorded, dropped, filtered, ..LaneRow::default() };
            let mut row = before;

            row.set_pending(pending);

            assert!(row.account().is_balanced(), "{before:?} became {row:?}");
            assert_eq!((row.recorded, row.pending), (recorded, pending));
            if dropped + filtered + pending <= recorded {
                assert_eq!((row.dropped, row.filtered), (dropped, filtered));
            }
        }
    }
}
