//! Carrying a damaged database over into a new one: row by row, leaping over what is damaged, and
//! closing the accounts of the lanes over what is lost.

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
use super::{schema, withheld};
use crate::platform::pulse::Pulse;
pub(crate) use steps::{Reached, forget};
use steps::{STEP_ROWS, Steps, Walk};

/// Tables that tell what the records mean: carried over before them.
const FRAME: [&str; 13] = [
    "meta",
    "kernel_boots",
    "clock",
    "boots",
    "starts",
    "sources",
    "lanes",
    "gaps",
    "untold_gaps",
    "standing",
    "scores",
    "alert_arrivals",
    "withheld",
];
/// Bounds what the ledger takes of one lane: beyond it the last gap grows over what is between.
const MAX_HOLES: usize = 1_000;
/// The most records that a page can hold: a small reading takes 14 bytes of its 1024.
const MAX_PAGE_ROWS: u64 = 73;
const PAGE_BYTES: u64 = 1024;

/// How much to carry over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Everything,
    /// When there is no room for them: the damaged database still has them.
    WithoutReadings,
}

/// The places of a lane that could not be carried over, from one to the other.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Holes(Vec<(u64, u64)>);

impl Holes {
    fn add(&mut self, first: u64, last: u64) {
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

    /// In order, each apart from the next, and none beyond `end`.
    fn in_order(mut self, end: u64) -> Self {
        self.0.sort_unstable();
        let mut holes = Self::default();
        for (first, last) in self.0 {
            match holes.0.last_mut() {
                Some(hole) if first <= hole.1 + 1 => hole.1 = hole.1.max(last.min(end)),
                _ => holes.add(first, last.min(end)),
            }
        }
        holes
    }
}

/// Carries over what can be read of `from`, and what is `known` of it, going on where a salvage into the same
/// database was cut off. Returns how many rows could be read and made no sense.
///
/// # Errors
/// When the new database cannot be written, or what an earlier salvage wrote cannot be read.
pub(crate) fn over(
    from: &Path,
    into: &Connection,
    known: Option<&Database>,
    sources: &Sources,
    extent: Extent,
    (pulse, tell): (&Pulse, TellProgress<'_>),
) -> rusqlite::Result<u64> {
    let close = if known.is_some() { Closeness::Below } else { Closeness::FarBelow };
    let begun = Reached::load(into)?;
    if let Some(Reached { is_closed: true, left_rows, .. }) = begun {
        return Ok(left_rows);
    }
    let is_begun = begun.is_some();
    let set_aside = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let reached = begun.unwrap_or_else(|| Reached::begin(set_aside, extent));
    let mut steps = Steps::begin(into, reached, tell)?;
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
            steps.end()?;
            while let Some(lane) = Lane::ALL.get(steps.reached.lane) {
                if *lane != Lane::Readings || extent == Extent::Everything {
                    walk(&damaged, into, *lane, close, &mut steps)?;
                }
                let holes = &mut steps.reached.holes[lane.index()];
                *holes = std::mem::take(holes).in_order(end);
                (steps.reached.lane, steps.reached.walk) = (steps.reached.lane + 1, Walk::begin(0));
                steps.end()?;
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
    steps.close()
}

/// Copies the tables that tell what the records mean.
fn copy_frame(
    damaged: &Connection,
    into: &Connection,
    close: Closeness,
    reached: &mut Reached,
) -> rusqlite::Result<()> {
    for table in FRAME {
        let copied = copy(damaged, into, table, Part::Whole, close)?;
        reached.left_rows += copied.left_rows;
        reached.is_account_told |= table == "lanes" && copied.rows - copied.left_rows == 3;
        if let Some(error) = copied.damage {
            tracing::warn!(table, %error, "part of the store's frame is lost");
        }
    }
    Ok(())
}

/// The records that the damaged database in the file `from` holds at most: no more than places between the
/// first and the `end`, and no more than fit on its pages.
fn count_at_most(from: &Path, damaged: &Connection, end: u64, close: Closeness) -> u64 {
    let firsts = Lane::ALL.into_iter().filter_map(|lane| bound(damaged, lane, "ASC", close));
    let places = firsts.min().map_or(0, |first| (end + 1).saturating_sub(first));
    let bytes = std::fs::metadata(from).map_or(0, |file| file.len());
    places.min((bytes / PAGE_BYTES).saturating_mul(MAX_PAGE_ROWS))
}

/// The last place that was given to a record, as far as the damaged database tells.
fn end_told(damaged: &Connection, into: &Connection, close: Closeness) -> rusqlite::Result<u64> {
    let frame = load::last_seq(into, &load::read_lanes(into)?)?;
    let rows = Lane::ALL.into_iter().filter_map(|lane| bound(damaged, lane, "DESC", close));
    Ok(rows.chain([frame]).max().unwrap_or(0))
}

fn bound(damaged: &Connection, lane: Lane, order: &str, close: Closeness) -> Option<u64> {
    let select = format!("SELECT seq FROM {} ORDER BY seq {order} LIMIT 1", lane.as_str());
    damaged.query_row(&select, [], |row| row.get(0)).ok().filter(|seq| close.holds_place(*seq))
}

/// Copies the records of a lane, leaping over what is damaged, and notes the places that could not be carried
/// over.
fn walk(
    damaged: &Connection,
    into: &Connection,
    lane: Lane,
    close: Closeness,
    steps: &mut Steps<'_>,
) -> rusqlite::Result<()> {
    if steps.reached.walk.at == 0 {
        steps.reached.walk = Walk::begin(bound(damaged, lane, "ASC", close).unwrap_or(1));
    }
    // Without a last one that can be read, the leaps find what there is.
    let last = bound(damaged, lane, "DESC", close).unwrap_or(MAX_PLACE);
    loop {
        let Walk { at, leap, back } = steps.reached.walk;
        let part = match back {
            Some((_, back_at)) => Part::Falling(at, back_at),
            None if at > last => return Ok(()),
            None => Part::Rising(at, last),
        };
        let copied = copy(damaged, into, lane.as_str(), part, close)?;
        steps.took(copied.rows, copied.left_rows);
        let is_over = copied.damage.is_some() || copied.rows < STEP_ROWS;
        let holes = &mut steps.reached.holes[lane.index()];
        copied.left.0.iter().for_each(|(first, last)| holes.add(*first, *last));
        steps.reached.walk = match (back, copied.reached) {
            (None, reached) => {
                let next = reached.map_or(steps.reached.walk, |reached| Walk::begin(reached + 1));
                if is_over && copied.damage.is_none() {
                    return Ok(());
                }
                let to = next.at.saturating_add(next.leap - 1).min(last);
                Walk { back: copied.damage.map(|_| (to, to)), ..next }
            }
            (Some((to, back_at)), reached) => {
                let back_at = reached.map_or(back_at, |reached| reached.saturating_sub(1));
                if is_over || back_at < at {
                    holes.add(at, back_at);
                    Walk { at: to + 1, leap: leap.saturating_mul(2), back: None }
                } else {
                    Walk { at, leap, back: Some((to, back_at)) }
                }
            }
        };
        steps.end_if_due()?;
    }
}

/// The rows that one copy reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All of a table of the frame.
    Whole,
    /// The places between the two, both included, from the first on: at most [`STEP_ROWS`] rows.
    Rising(u64, u64),
    /// The same from the last on.
    Falling(u64, u64),
}

impl Part {
    fn condition(self) -> String {
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

    /// The rows that can still follow after the row at `place` of `table`.
    ///
    /// # Errors
    /// When that row cannot be here: on a damaged page lies what belongs elsewhere, and following it
    /// the walk would leap over sound rows, or never end.
    fn behind(
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

/// How far a copy came.
#[derive(Debug, Default)]
struct Copied {
    /// Rows that were read.
    rows: u64,
    /// The last place that was read, of a table with places.
    reached: Option<u64>,
    /// Rows that were read and made no sense, and their places, of a table with places.
    left_rows: u64,
    left: Holes,
    damage: Option<rusqlite::Error>,
}

/// Copies rows until the end or the first damage. Rows that make no sense are left.
///
/// # Errors
/// When they cannot be written.
fn copy(
    from: &Connection,
    into: &Connection,
    table: &str,
    mut part: Part,
    close: Closeness,
) -> rusqlite::Result<Copied> {
    let mut copied = Copied::default();
    let mut select = match from.prepare(&format!("SELECT * FROM {table} {}", part.condition())) {
        Ok(select) => select,
        Err(damage) => return Ok(Copied { damage: Some(damage), ..copied }),
    };
    let columns = select.column_count();
    // The text of a damaged schema can leave a column out, or name another.
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
        let place = bounds::read_place(row, 0).ok().filter(|_| part != Part::Whole);
        match part.behind(from, table, place) {
            Ok(rest) => part = rest,
            Err(damage) => {
                copied.damage = Some(damage);
                break;
            }
        }
        (copied.rows, copied.reached) = (copied.rows + 1, place);
        let is_carried = match sound(table, row, columns, close) {
            Ok(values) => match insert.execute(params_from_iter(values)) {
                Ok(_) => true,
                // What no table of ours takes was never written by us.
                Err(error) if is_refused(&error) => false,
                Err(error) => return Err(error),
            },
            Err(_) => false,
        };
        if !is_carried {
            copied.left_rows += 1;
            place.into_iter().for_each(|place| copied.left.add(place, place));
        }
    }
    Ok(copied)
}

fn is_refused(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch))
}

/// The values of a row that can be what was once written.
fn sound(
    table: &str,
    row: &Row<'_>,
    columns: usize,
    close: Closeness,
) -> rusqlite::Result<Vec<Value>> {
    bounds::check_row(table, row, close)?;
    (0..columns).map(|column| row.get(column)).collect()
}

/// What the damaged database was known to hold, by whoever had it open.
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
            let trusted = segment.trust == pulsegate_core::time::timeline::Trust::Trusted;
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
        write_lane(into, lane, &known.lanes[lane.index()])?;
    }
    // As it was committed: the accounts know nothing of the marks that were not.
    known.stored_withheld.write(into)?;
    write_meta(into, FILTERED, known.lanes[Lane::Readings.index()].filtered)?;
    into.execute("DELETE FROM sources", [])?;
    for (id, source) in known.sources().since(0).iter().enumerate() {
        into.execute(
            "INSERT OR REPLACE INTO sources VALUES (?1, ?2, ?3)",
            params![id, source.name, source.kind],
        )?;
    }
    Ok(())
}

/// Every number that a record has gets a source: a reading whose source is lost is nobody else's. Of two
/// sources with one name the first keeps it, and no source has a name that stands for a lost one.
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

/// Gives each lane an account that balances: what was recorded and is neither delivered, dropped
/// nor here any more is lost, and becomes a gap. An account that is lost itself is begun anew, as
/// if nothing had been delivered yet.
fn close_accounts(into: &Connection, is_told: bool, walked: &[Holes; 3]) -> rusqlite::Result<()> {
    let mut lanes = load::read_lanes(into)?;
    let mut end = load::last_seq(into, &lanes)?;
    let settled: u64 = lanes.iter().map(|row| row.delivered + row.dropped + row.filtered).sum();
    // No more can have been settled than there were places.
    let is_told = is_told && settled <= end;
    if settled > end {
        let anew = |row: LaneRow| LaneRow { last: row.last, ..LaneRow::default() };
        lanes = lanes.map(anew);
        into.execute("DELETE FROM withheld", [])?;
    }
    let mut gaps = Vec::new();
    for lane in Lane::ALL {
        let row = &mut lanes[lane.index()];
        let pending = withheld::count_pending(into, lane, row.watermark)?;
        let holes = holes(into, lane, row.watermark, walked)?;
        let in_holes = holes.iter().map(|gap| gap.count).sum();
        let accounted = row.delivered + row.dropped + row.filtered + pending;
        let lost = match (is_told, lane) {
            (true, _) => row.recorded.saturating_sub(accounted),
            (false, Lane::Readings) => in_holes,
            // Which of the places were theirs, only the account could tell.
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
    // The number of the readings follows from the places.
    write_meta(into, FILTERED, lanes[Lane::Readings.index()].filtered)?;
    let recorded = lanes.iter().map(|row| row.recorded).sum();
    end = end.max(recorded);
    write_meta(into, END_SEQ, end)?;
    write_meta(into, BASE_SEQ, end - recorded)?;
    for gap in &gaps {
        let row = write_gap(into, gap)?;
        into.execute("INSERT OR IGNORE INTO meta VALUES (?1, ?2)", params![UNTOLD_GAP, row])?;
    }
    Lane::ALL.into_iter().try_for_each(|lane| write_lane(into, lane, &lanes[lane.index()]))
}

/// The pending records of a lane that could not be carried over: the places that no lane has.
fn holes(
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

/// Adds a row to the ledger; by whom it is published is decided when the new database is open.
fn write_gap(into: &Connection, gap: &Gap) -> rusqlite::Result<i64> {
    into.execute(
        "INSERT INTO gaps(lane, first, last, count, reason, epoch, mono_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, 0, 0)",
        params![gap.lane.index(), gap.first.0, gap.last.0, gap.count, gap.reason.as_str()],
    )?;
    Ok(into.last_insert_rowid())
}

fn write_lane(into: &Connection, lane: Lane, row: &LaneRow) -> rusqlite::Result<()> {
    into.execute(
        "INSERT OR REPLACE INTO lanes VALUES (?1, ?2, ?3, ?4, ?5)",
        params![lane.index(), row.watermark, row.recorded, row.delivered, row.dropped],
    )?;
    Ok(())
}

fn write_meta(into: &Connection, key: &str, value: u64) -> rusqlite::Result<()> {
    into.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", params![key, value])?;
    Ok(())
}
