//! Carrying a damaged database over into a new one: row by row, leaping over what is damaged, and
//! closing the accounts of the lanes over what is lost.

use std::path::Path;

use pulsegate_core::lane::{DropReason, Gap, Lane};
use pulsegate_core::reading::Seq;
use pulsegate_sensors::{MAX_SOURCES, Sources};
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, Row, params, params_from_iter};

use super::bounds::{self, MAX_PLACE};
use super::database::Database;
use super::load::{self, BASE_SEQ, END_SEQ, FILTERED, LaneRow, UNTOLD_GAP};
use super::{schema, take, withheld};

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
/// Where a page is damaged, the walk looks again this much further on, and then twice as far.
const FIRST_LEAP: u64 = 16;
/// Bounds the rows of one table of the frame, whatever its pages refer to: more than a store of ten
/// years has.
const MAX_FRAME_ROWS: u64 = 1_000_000;
/// Rows in one transaction, and between two signs of life.
const STEP_ROWS: u64 = 10_000;

/// How much to carry over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Everything,
    /// When there is no room for them: the damaged database still has them.
    WithoutReadings,
}

/// What was read of one lane.
#[derive(Debug, Default)]
struct Walked {
    /// The places that could not be read, from one to the other.
    holes: Vec<(u64, u64)>,
}

/// Carries over what can be read of `from`, and what is `known` of it.
///
/// # Errors
/// When the new database cannot be written.
pub(super) fn over(
    from: &Path,
    into: &Connection,
    known: Option<&Database>,
    sources: &Sources,
    extent: Extent,
    alive: &mut dyn FnMut(),
) -> rusqlite::Result<()> {
    let mut walked: [Walked; 3] = Default::default();
    let mut is_account_told = known.is_some();
    match schema::open_reader(from) {
        Ok(damaged) => {
            for table in FRAME {
                let copied = copy(&damaged, into, table, Part::Whole)?;
                is_account_told |= table == "lanes" && copied.rows == 3;
                if let Some(error) = copied.damage {
                    tracing::warn!(table, %error, "part of the store's frame is lost");
                }
            }
            let end = known.map_or(0, |known| known.last_seq).max(end_told(&damaged, into)?);
            write_meta(into, END_SEQ, end)?;
            for lane in Lane::ALL {
                if lane != Lane::Readings || extent == Extent::Everything {
                    walked[lane.index()] = walk(&damaged, into, lane, end, alive)?;
                }
            }
        }
        Err(error) => tracing::error!(%error, "nothing can be carried over"),
    }
    into.execute_batch("BEGIN")?;
    if let Some(known) = known {
        write_known(into, known)?;
    }
    name_sources(into, sources)?;
    close_accounts(into, is_account_told, &walked)?;
    into.execute_batch("COMMIT")
}

/// The last place that was given to a record, as far as the damaged database tells.
fn end_told(damaged: &Connection, into: &Connection) -> rusqlite::Result<u64> {
    let frame = load::last_seq(into, &load::read_lanes(into)?)?;
    let rows = Lane::ALL.into_iter().filter_map(|lane| bound(damaged, lane, "DESC"));
    Ok(rows.chain([frame]).max().unwrap_or(0))
}

fn bound(damaged: &Connection, lane: Lane, order: &str) -> Option<u64> {
    let select = format!("SELECT seq FROM {} ORDER BY seq {order} LIMIT 1", lane.as_str());
    damaged.query_row(&select, [], |row| row.get(0)).ok().filter(|seq| *seq < MAX_PLACE)
}

/// Copies the records of a lane, leaping over what is damaged.
fn walk(
    damaged: &Connection,
    into: &Connection,
    lane: Lane,
    end: u64,
    alive: &mut dyn FnMut(),
) -> rusqlite::Result<Walked> {
    let table = lane.as_str();
    let mut walked = Walked::default();
    let mut at = bound(damaged, lane, "ASC").unwrap_or(1);
    // Without a last one that can be read, the leaps find what there is.
    let last = bound(damaged, lane, "DESC").unwrap_or(MAX_PLACE);
    let mut leap = FIRST_LEAP;
    while at <= last {
        alive();
        let copied = copy(damaged, into, table, Part::Rising(at, last))?;
        if let Some(reached) = copied.reached {
            (at, leap) = (reached + 1, FIRST_LEAP);
        }
        if copied.damage.is_none() {
            if copied.rows < STEP_ROWS {
                break;
            }
            continue;
        }
        let to = at.saturating_add(leap - 1).min(last);
        let hole = (at, back_to(damaged, into, table, (at, to), alive)?.min(end));
        match walked.holes.last_mut() {
            Some(before) if before.1 + 1 == at => before.1 = hole.1,
            _ => walked.holes.push(hole),
        }
        (at, leap) = (to + 1, leap.saturating_mul(2));
    }
    walked.holes.retain(|(first, last)| first <= last);
    Ok(walked)
}

/// Copies the rows behind a damaged place `at`, from `to` backwards. Returns the last place that could
/// not be read.
fn back_to(
    damaged: &Connection,
    into: &Connection,
    table: &str,
    (at, to): (u64, u64),
    alive: &mut dyn FnMut(),
) -> rusqlite::Result<u64> {
    let mut unread = to;
    loop {
        alive();
        let back = copy(damaged, into, table, Part::Falling(at, unread))?;
        unread = back.reached.map_or(unread, |reached| reached.saturating_sub(1));
        if back.damage.is_some() || back.rows < STEP_ROWS || unread < at {
            return Ok(unread);
        }
    }
}

/// The rows that one copy reads.
#[derive(Debug, Clone, Copy)]
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
struct Copied {
    rows: u64,
    /// The last place that was copied, of a table with places.
    reached: Option<u64>,
    damage: Option<rusqlite::Error>,
}

/// Copies rows until the end or the first damage.
///
/// # Errors
/// When they cannot be written.
fn copy(
    from: &Connection,
    into: &Connection,
    table: &str,
    mut part: Part,
) -> rusqlite::Result<Copied> {
    let mut copied = Copied { rows: 0, reached: None, damage: None };
    let select = from.prepare(&format!("SELECT * FROM {table} {}", part.condition()));
    let mut select = match select {
        Ok(select) => select,
        Err(damage) => return Ok(Copied { damage: Some(damage), ..copied }),
    };
    let columns = select.column_count();
    let places = vec!["?"; columns].join(", ");
    into.execute_batch("BEGIN")?;
    let mut insert = into.prepare(&format!("INSERT OR REPLACE INTO {table} VALUES ({places})"))?;
    let mut rows = select.query([])?;
    loop {
        let values = match rows.next() {
            Ok(Some(row)) => sound(table, row, columns),
            Ok(None) => break,
            Err(damage) => Err(damage),
        };
        match values {
            Ok(values) => {
                let place = values.first().and_then(place);
                match part.behind(from, table, place) {
                    Ok(rest) => part = rest,
                    Err(damage) => {
                        copied.damage = Some(damage);
                        break;
                    }
                }
                match insert.execute(params_from_iter(values)) {
                    Ok(_) => (copied.reached, copied.rows) = (place, copied.rows + 1),
                    // What no table of ours takes was never written by us.
                    Err(damage) if is_refused(&damage) => {
                        copied.damage = Some(damage);
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            Err(damage) => {
                copied.damage = Some(damage);
                break;
            }
        }
    }
    into.execute_batch("COMMIT")?;
    Ok(copied)
}

fn is_refused(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch))
}

fn place(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(place) => u64::try_from(*place).ok(),
        Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => None,
    }
}

/// The values of a row that can be what was once written: read as they will be read again.
fn sound(table: &str, row: &Row<'_>, columns: usize) -> rusqlite::Result<Vec<Value>> {
    // Numbers that are never negative, by table.
    let counts: &[usize] = match table {
        "readings" => &[0, 1, 2],
        "alerts" => &[0, 2, 3],
        "events" => &[0, 2, 3],
        "kernel_boots" | "scores" | "starts" => &[0],
        "alert_arrivals" => &[0, 1],
        "withheld" => &[0, 1, 2],
        "clock" => &[0, 1, 3],
        "boots" | "lanes" => &[0, 1, 2],
        "gaps" => &[0, 1, 2, 3, 4, 6],
        _ => &[],
    };
    for column in counts {
        let count = row.get::<_, u64>(*column)?;
        if count >= MAX_PLACE {
            return Err(rusqlite::Error::IntegralValueOutOfRange(*column, i64::MAX));
        }
    }
    let numbered = match table {
        "readings" => Some(1),
        "alerts" => Some(2),
        "sources" => Some(0),
        _ => None,
    };
    if let Some(column) = numbered
        && row.get::<_, usize>(column)? >= MAX_SOURCES
    {
        return Err(rusqlite::Error::IntegralValueOutOfRange(column, i64::MAX));
    }
    match table {
        "readings" => drop((take::read_value(row, 3)?, take::read_detail(row, 5)?)),
        "alerts" => drop(take::read_value(row, 5)?),
        "events" => drop(take::read_members(row, 4)?),
        _ => {}
    }
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
            let trusted = segment.trust == pulsegate_core::timeline::Trust::Trusted;
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
    for (lane, source, after) in known.withheld.rows() {
        into.execute(
            "INSERT OR IGNORE INTO withheld VALUES (?1, ?2, ?3)",
            params![lane.index(), source, after],
        )?;
    }
    write_meta(into, FILTERED, known.lanes[Lane::Readings.index()].filtered)?;
    for (id, source) in known.sources().since(0).iter().enumerate() {
        into.execute(
            "INSERT OR REPLACE INTO sources VALUES (?1, ?2, ?3)",
            params![id, source.name, source.kind],
        )?;
    }
    Ok(())
}

/// Every number that a record has gets a source: a reading whose source is lost is nobody else's.
fn name_sources(into: &Connection, known: &Sources) -> rusqlite::Result<()> {
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
fn close_accounts(into: &Connection, is_told: bool, walked: &[Walked; 3]) -> rusqlite::Result<()> {
    let mut lanes = load::read_lanes(into)?;
    let mut end = load::last_seq(into, &lanes)?;
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

/// The pending records of a lane that could not be read: the places that no other lane has.
fn holes(
    into: &Connection,
    lane: Lane,
    watermark: u64,
    walked: &[Walked; 3],
) -> rusqlite::Result<Vec<Gap>> {
    let mut gaps = Vec::new();
    for (first, last) in &walked[lane.index()].holes {
        let first = *first.max(&(watermark + 1));
        if first > *last {
            continue;
        }
        let mut count = last + 1 - first;
        for other in Lane::ALL.into_iter().filter(|other| *other != lane) {
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
