//! Carrying a damaged database over into a new database: copies rows, leaps over damage, and closes
//! the accounts of the lanes over lost records.

mod steps;

use std::path::Path;

use pulsegate_core::record::lane::{DropReason, Gap, Lane};
use pulsegate_core::record::reading::Seq;
use pulsegate_sensors::Sources;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, Row, params, params_from_iter};

use super::bounds::{self, Closeness, MAX_FRAME_ROWS, MAX_PLACE};
use super::database::Database;
use super::load::{self, BASE_SEQ, END_SEQ, FILTERED, LaneRow, UNTOLD_GAP};
use super::salvage::TellProgress;
use super::{schema, withheld, write};
use crate::platform::pulse::Pulse;
use steps::{DamageWalk, STEP_ROWS, Steps};
pub(crate) use steps::{SalvageState, forget_steps};

/// The frame: tables needed to interpret the records, carried over before the records.
const FRAME: [&str; 13] = [
    "meta",
    "kernel_boots",
    "clock",
    "boots",
    "starts",
    "sources",
    "accounts",
    "gaps",
    "untold_gaps",
    "standing",
    "scores",
    "alert_arrivals",
    "withheld",
];
/// Bounds the gaps of a lane in the ledger. Beyond the bound the last gap grows over intact records
/// too.
const MAX_HOLES: usize = 1_000;
/// Bounds the records of a page: a small reading takes 14 bytes of 1024.
const MAX_PAGE_ROWS: u64 = 73;
const PAGE_BYTES: u64 = 1024;

/// The part of a database to carry over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Everything,
    /// All but the readings, for lack of room. The damaged database still has the readings.
    WithoutReadings,
}

/// Ranges of places in a lane whose records could not be carried over; both ends are included.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Holes(Vec<(u64, u64)>);

impl Holes {
    fn add_hole(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        let is_full = self.0.len() >= MAX_HOLES;
        match self.0.last_mut() {
            Some(hole) if is_full || hole.1 + 1 == first || last + 1 == hole.0 => {
                *hole = (hole.0.min(first), hole.1.max(last));
            }
            _ => self.0.push((first, last)),
        }
    }

    /// Returns the ranges in order, merged where they touch, and cut off at `end`.
    fn in_order(mut self, end: u64) -> Self {
        self.0.sort_unstable();
        let mut holes = Self::default();
        for (first, last) in self.0 {
            match holes.0.last_mut() {
                Some(hole) if first <= hole.1 + 1 => hole.1 = hole.1.max(last.min(end)),
                _ => holes.add_hole(first, last.min(end)),
            }
        }
        holes
    }
}

/// Carries over all readable rows of `from`, and the content `known` from memory. Continues where
/// an earlier salvage into the same database was cut off. Returns the number of invalid rows left
/// behind.
///
/// # Errors
/// When the new database cannot be written, or the state of the earlier salvage cannot be read.
pub(crate) fn carry_database(
    from: &Path,
    into: &Connection,
    known: Option<&Database>,
    sources: &Sources,
    extent: Extent,
    (pulse, tell): (&Pulse, TellProgress<'_>),
) -> rusqlite::Result<u64> {
    let close = if known.is_some() { Closeness::Below } else { Closeness::FarBelow };
    let begun = SalvageState::load_reached(into)?;
    if let Some(SalvageState { is_closed: true, left_rows, .. }) = begun {
        return Ok(left_rows);
    }
    let is_begun = begun.is_some();
    let set_aside = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let reached = begun.unwrap_or_else(|| SalvageState::begin_salvage(set_aside, extent));
    let mut steps = Steps::begin_steps(into, reached, tell)?;
    if !is_begun {
        steps::make_tables(into)?;
    }
    match schema::open_reader(from) {
        Ok(mut damaged) => {
            schema::beat_in_statements(&mut damaged, pulse)?;
            if !is_begun {
                copy_frame(&damaged, into, close, &mut steps.reached)?;
            }
            let known_end = known.map_or(0, |known| known.last_seq);
            let end = known_end.max(end_told(&damaged, into, close)?);
            write_meta(into, END_SEQ, end)?;
            steps.most_rows = count_at_most(from, &damaged, end, close);
            steps.end_step()?;
            while let Some(lane) = Lane::ALL.get(steps.reached.lane) {
                if *lane != Lane::Readings || extent == Extent::Everything {
                    copy_lane(&damaged, into, *lane, close, &mut steps)?;
                }
                let holes = &mut steps.reached.holes[lane.index()];
                *holes = std::mem::take(holes).in_order(end);
                (steps.reached.lane, steps.reached.walk) =
                    (steps.reached.lane + 1, DamageWalk::begin_at(0));
                steps.end_step()?;
            }
        }
        Err(error) => tracing::error!(%error, "nothing can be carried over"),
    }
    if let Some(known) = known {
        write_known(into, known)?;
    }
    name_sources(into, sources)?;
    let is_account_told = steps.reached.is_account_told || known.is_some();
    close_accounts(into, is_account_told, &steps.reached.holes)?;
    steps.close_salvage()
}

/// Copies the tables of the frame.
fn copy_frame(
    damaged: &Connection,
    into: &Connection,
    close: Closeness,
    reached: &mut SalvageState,
) -> rusqlite::Result<()> {
    for table in FRAME {
        let copied = copy_rows(damaged, into, table, CopyPart::Whole, close)?;
        reached.left_rows += copied.left_rows;
        reached.is_account_told |= table == "accounts" && copied.rows - copied.left_rows == 3;
        if let Some(error) = copied.damage {
            tracing::warn!(table, %error, "part of the store's frame is lost");
        }
    }
    Ok(())
}

/// Returns an upper bound of the records in the damaged database `from`: the number of places
/// between the first record and `end`, and the number of records with room on its pages.
fn count_at_most(from: &Path, damaged: &Connection, end: u64, close: Closeness) -> u64 {
    let firsts =
        Lane::ALL.into_iter().filter_map(|lane| outermost_place(damaged, lane, "ASC", close));
    let places = firsts.min().map_or(0, |first| (end + 1).saturating_sub(first));
    let bytes = std::fs::metadata(from).map_or(0, |file| file.len());
    places.min((bytes / PAGE_BYTES).saturating_mul(MAX_PAGE_ROWS))
}

/// Returns the last assigned place, as far as the damaged database tells.
fn end_told(damaged: &Connection, into: &Connection, close: Closeness) -> rusqlite::Result<u64> {
    let frame = load::last_seq(into, &load::read_lanes(into)?)?;
    let rows =
        Lane::ALL.into_iter().filter_map(|lane| outermost_place(damaged, lane, "DESC", close));
    Ok(rows.chain([frame]).max().unwrap_or(0))
}

fn outermost_place(damaged: &Connection, lane: Lane, order: &str, close: Closeness) -> Option<u64> {
    let select = format!("SELECT seq FROM {} ORDER BY seq {order} LIMIT 1", lane.as_str());
    damaged.query_row(&select, [], |row| row.get(0)).ok().filter(|seq| close.holds_place(*seq))
}

/// Copies the records of a lane, leaps over damage, and notes the places without a copied record.
fn copy_lane(
    damaged: &Connection,
    into: &Connection,
    lane: Lane,
    close: Closeness,
    steps: &mut Steps<'_>,
) -> rusqlite::Result<()> {
    if steps.reached.walk.at == 0 {
        steps.reached.walk =
            DamageWalk::begin_at(outermost_place(damaged, lane, "ASC", close).unwrap_or(1));
    }
    // If the last record cannot be read, the walk leaps on up to the bound.
    let last = outermost_place(damaged, lane, "DESC", close).unwrap_or(MAX_PLACE);
    loop {
        let DamageWalk { at, leap, back } = steps.reached.walk;
        let part = match back {
            Some((_, back_at)) => CopyPart::Falling(at, back_at),
            None if at > last => return Ok(()),
            None => CopyPart::Rising(at, last),
        };
        let copied = copy_rows(damaged, into, lane.as_str(), part, close)?;
        steps.note_rows(copied.rows, copied.left_rows);
        let is_over = copied.damage.is_some() || copied.rows < STEP_ROWS;
        let holes = &mut steps.reached.holes[lane.index()];
        copied.left.0.iter().for_each(|(first, last)| holes.add_hole(*first, *last));
        steps.reached.walk = match (back, copied.reached) {
            (None, reached) => {
                let next =
                    reached.map_or(steps.reached.walk, |reached| DamageWalk::begin_at(reached + 1));
                if is_over && copied.damage.is_none() {
                    return Ok(());
                }
                let to = next.at.saturating_add(next.leap - 1).min(last);
                DamageWalk { back: copied.damage.map(|_| (to, to)), ..next }
            }
            (Some((to, back_at)), reached) => {
                let back_at = reached.map_or(back_at, |reached| reached.saturating_sub(1));
                if is_over || back_at < at {
                    holes.add_hole(at, back_at);
                    DamageWalk { at: to + 1, leap: leap.saturating_mul(2), back: None }
                } else {
                    DamageWalk { at, leap, back: Some((to, back_at)) }
                }
            }
        };
        steps.end_if_due()?;
    }
}

/// The rows read by a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CopyPart {
    /// All of a table of the frame.
    Whole,
    /// The places between the two, both included, from the first on: at most [`STEP_ROWS`] rows.
    Rising(u64, u64),
    /// The same from the last on.
    Falling(u64, u64),
}

impl CopyPart {
    fn sql_condition(self) -> String {
        match self {
            Self::Whole => format!("LIMIT {MAX_FRAME_ROWS}"),
            Self::Rising(from, to) => {
                format!("WHERE seq BETWEEN {from} AND {to} ORDER BY seq LIMIT {STEP_ROWS}")
            }
            Self::Falling(from, to) => {
                format!("WHERE seq BETWEEN {from} AND {to} ORDER BY seq DESC LIMIT {STEP_ROWS}")
            }
        }
    }

    /// Returns the rows that can follow the row at `place` of `table`.
    ///
    /// # Errors
    /// When the row cannot be at this position. On a damaged page, rows of another page may appear:
    /// by following such a row the walk would leap over intact rows, or never end.
    fn rest_behind(
        self,
        damaged: &Connection,
        table: &str,
        place: Option<u64>,
    ) -> rusqlite::Result<Self> {
        match (self, place) {
            (Self::Whole, _) => Ok(self),
            (Self::Rising(from, to), Some(place)) if (from..=to).contains(&place) => {
                bounds::check_left_out(damaged, table, from.saturating_sub(1), place)?;
                Ok(Self::Rising(place + 1, to))
            }
            (Self::Falling(from, to), Some(place)) if (from..=to).contains(&place) => {
                Ok(Self::Falling(from, place.saturating_sub(1)))
            }
            (Self::Rising(..) | Self::Falling(..), _) => Err(bounds::out_of_bounds(0)),
        }
    }
}

/// The outcome of a copy.
#[derive(Debug, Default)]
struct Copied {
    /// Number of rows read.
    rows: u64,
    /// The last place read, for a table with places.
    reached: Option<u64>,
    /// Number of invalid rows; their places are in `left`, for a table with places.
    left_rows: u64,
    left: Holes,
    damage: Option<rusqlite::Error>,
}

/// Copies rows until the end or the first damage. Invalid rows are left behind.
///
/// # Errors
/// When the new database cannot be written.
fn copy_rows(
    from: &Connection,
    into: &Connection,
    table: &str,
    mut part: CopyPart,
    close: Closeness,
) -> rusqlite::Result<Copied> {
    let mut copied = Copied::default();
    let mut select = match from.prepare(&format!("SELECT * FROM {table} {}", part.sql_condition()))
    {
        Ok(select) => select,
        Err(damage) => return Ok(Copied { damage: Some(damage), ..copied }),
    };
    let columns = select.column_count();
    // A damaged schema can leave a column out, or name another.
    if columns != into.prepare(&format!("SELECT * FROM {table}"))?.column_count() {
        return Ok(Copied { damage: Some(bounds::out_of_bounds(columns)), ..copied });
    }
    let places = vec!["?"; columns].join(", ");
    let mut insert = into.prepare(&format!("INSERT OR REPLACE INTO {table} VALUES ({places})"))?;
    let mut rows = select.query([])?;
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => break,
            Err(damage) => {
                copied.damage = Some(damage);
                break;
            }
        };
        let place = bounds::read_place(row, 0).ok().filter(|_| part != CopyPart::Whole);
        match part.rest_behind(from, table, place) {
            Ok(rest) => part = rest,
            Err(damage) => {
                copied.damage = Some(damage);
                break;
            }
        }
        (copied.rows, copied.reached) = (copied.rows + 1, place);
        let is_carried = match read_sound_row(table, row, columns, close) {
            Ok(values) => match insert.execute(params_from_iter(values)) {
                Ok(_) => true,
                // The agent never wrote a row refused by its own table.
                Err(error) if is_refused(&error) => false,
                Err(error) => return Err(error),
            },
            Err(_) => false,
        };
        if !is_carried {
            copied.left_rows += 1;
            place.into_iter().for_each(|place| copied.left.add_hole(place, place));
        }
    }
    Ok(copied)
}

fn is_refused(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch))
}

/// Returns the values of a row whose values are all within their bounds.
fn read_sound_row(
    table: &str,
    row: &Row<'_>,
    columns: usize,
    close: Closeness,
) -> rusqlite::Result<Vec<Value>> {
    bounds::check_row(table, row, close)?;
    (0..columns).map(|column| row.get(column)).collect()
}

/// Writes the content known from memory when the damaged database was open.
fn write_known(into: &Connection, known: &Database) -> rusqlite::Result<()> {
    for (epoch, reference_ms) in known.timeline.references() {
        let boot_id = match epoch == known.epoch {
            true => known.identity.kernel_boot_id.clone(),
            false => format!("lost-{}", epoch.0),
        };
        into.execute(
            "DELETE FROM kernel_boots WHERE boot_id = ?1 AND epoch <> ?2",
            params![boot_id, epoch.0],
        )?;
        into.execute(
            "INSERT OR IGNORE INTO kernel_boots VALUES (?1, ?2, ?3)",
            params![epoch.0, boot_id, reference_ms],
        )?;
        for segment in known.timeline.segments(epoch) {
            let trusted = segment.trust == pulsegate_core::time::timeline::ClockTrust::Trusted;
            into.execute(
                "INSERT OR REPLACE INTO clock VALUES (?1, ?2, ?3, ?4)",
                params![epoch.0, segment.since.0, segment.offset_ms, trusted],
            )?;
        }
    }
    for boot in &known.boots {
        into.execute(
            "INSERT OR REPLACE INTO boots VALUES (?1, ?2, ?3)",
            params![boot.boot.counter(), boot.epoch.0, boot.first_seq],
        )?;
        into.execute(
            "INSERT OR IGNORE INTO starts VALUES (?1, ?2, '')",
            params![boot.boot.counter(), boot.boot.suffix()],
        )?;
    }
    for lane in Lane::ALL {
        write::write_account(into, lane, &known.lanes[lane.index()])?;
    }
    // In the committed form: the accounts know nothing of later marks.
    known.stored_withheld.write_withheld(into)?;
    write_meta(into, FILTERED, known.lanes[Lane::Readings.index()].filtered)?;
    into.execute("DELETE FROM sources", [])?;
    for (id, source) in known.known_sources().list_since(0).iter().enumerate() {
        into.execute(
            "INSERT OR REPLACE INTO sources VALUES (?1, ?2, ?3)",
            params![id, source.name, source.kind],
        )?;
    }
    Ok(())
}

/// Makes a source for each number used by a record, so a reading with a lost source is not
/// attributed to another source. Of two sources with the same name the first keeps the name, and no
/// source has a name reserved for a lost source.
fn name_sources(into: &Connection, known: &Sources) -> rusqlite::Result<()> {
    into.execute_batch(
        "DELETE FROM sources WHERE kind = 'unknown' AND name LIKE 'source-%';
         DELETE FROM sources WHERE id NOT IN (SELECT min(id) FROM sources GROUP BY name, kind);",
    )?;
    let highest: Option<usize> = into.query_row(
        "SELECT max(source) FROM (SELECT max(source) AS source FROM readings
         UNION ALL SELECT max(source) FROM alerts)",
        [],
        |row| row.get(0),
    )?;
    for id in 0..highest.map_or(0, |highest| highest + 1).max(known.len()) {
        let source = load::lost_source(id);
        into.execute(
            "INSERT OR IGNORE INTO sources VALUES (?1, ?2, ?3)",
            params![id, source.name, source.kind],
        )?;
    }
    Ok(())
}

/// Balances the account of each lane. A record counted as recorded, but neither delivered, dropped
/// nor present, is lost and becomes a gap. A lost account is begun anew, as if nothing had been
/// delivered.
fn close_accounts(into: &Connection, is_told: bool, walked: &[Holes; 3]) -> rusqlite::Result<()> {
    let mut lanes = load::read_lanes(into)?;
    let mut end = load::last_seq(into, &lanes)?;
    let settled: u64 = lanes.iter().map(|row| row.delivered + row.dropped + row.filtered).sum();
    // No more records can have been settled than there were places.
    let is_told = is_told && settled <= end;
    if settled > end {
        let anew = |row: LaneRow| LaneRow { last: row.last, ..LaneRow::default() };
        lanes = lanes.map(anew);
        into.execute("DELETE FROM withheld", [])?;
    }
    let mut gaps = Vec::new();
    for lane in Lane::ALL {
        let row = &mut lanes[lane.index()];
        row.pending = withheld::count_pending(into, lane, row.watermark)?;
        let holes = find_holes(into, lane, row.watermark, walked)?;
        let in_holes = holes.iter().map(|gap| gap.count).sum();
        let accounted = row.delivered + row.dropped + row.filtered + row.pending;
        let lost = match (is_told, lane) {
            (true, _) => row.recorded.saturating_sub(accounted),
            (false, Lane::Readings) => in_holes,
            // Only the lost account could tell which of the places were of this lane.
            (false, Lane::Alerts | Lane::Events) => 0,
        };
        row.recorded = accounted + lost;
        row.dropped += lost;
        if lost == in_holes {
            gaps.extend(holes);
        } else if lost > 0 {
            let first = holes.first().map_or(Seq(row.watermark + 1), |hole| hole.first);
            let reason = DropReason::Corruption;
            gaps.push(Gap { lane, first, last: Seq(end), count: lost, reason });
        }
    }
    // The number of readings follows from the places and is not stored.
    write_meta(into, FILTERED, lanes[Lane::Readings.index()].filtered)?;
    let recorded = lanes.iter().map(|row| row.recorded).sum();
    end = end.max(recorded);
    write_meta(into, END_SEQ, end)?;
    write_meta(into, BASE_SEQ, end - recorded)?;
    for gap in &gaps {
        let row = write_gap(into, gap)?;
        into.execute("INSERT OR IGNORE INTO meta VALUES (?1, ?2)", params![UNTOLD_GAP, row])?;
    }
    let write = |lane: Lane| write::write_account(into, lane, &lanes[lane.index()]);
    Lane::ALL.into_iter().try_for_each(write)
}

/// Returns the pending records of a lane that could not be carried over: places unused by all
/// lanes.
fn find_holes(
    into: &Connection,
    lane: Lane,
    watermark: u64,
    walked: &[Holes; 3],
) -> rusqlite::Result<Vec<Gap>> {
    let mut gaps = Vec::new();
    for (first, last) in &walked[lane.index()].0 {
        let first = *first.max(&(watermark + 1));
        if first > *last {
            continue;
        }
        let mut count = last + 1 - first;
        for other in Lane::ALL {
            let there =
                format!("SELECT count(*) FROM {} WHERE seq BETWEEN ?1 AND ?2", other.as_str());
            count -= into.query_row(&there, [first, *last], |row| row.get::<_, u64>(0))?.min(count);
        }
        if count > 0 {
            let (first, last) = (Seq(first), Seq(*last));
            gaps.push(Gap { lane, first, last, count, reason: DropReason::Corruption });
        }
    }
    Ok(gaps)
}

/// Adds a row to the ledger. The event about the gap follows when the new database is open.
fn write_gap(into: &Connection, gap: &Gap) -> rusqlite::Result<i64> {
    into.execute(
        "INSERT INTO gaps(lane, first, last, count, reason, epoch, mono_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, 0, 0)",
        params![gap.lane.index(), gap.first.0, gap.last.0, gap.count, gap.reason.as_str()],
    )?;
    Ok(into.last_insert_rowid())
}

fn write_meta(into: &Connection, key: &str, value: u64) -> rusqlite::Result<()> {
    into.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", params![key, value])?;
    Ok(())
}
