//! A damaged database: set aside under a dated name, read as far as it can be, and replaced.
//!
//! What is carried over keeps its place and its boot, so that the cloud can still tell what it has.
//! What could not be read becomes a gap with the reason `corruption`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use pulsegate_core::lane::{DropReason, Gap, Lane};
use pulsegate_core::reading::Seq;
use pulsegate_sensors::Sources;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, params_from_iter};

use super::database::{Database, Identity};
use super::{load, retention, schema};
use crate::{clock, durable};

/// Tables that tell what the records mean: carried over before them.
const FRAME: [&str; 6] = ["meta", "kernel_boots", "clock", "boots", "sources", "lanes"];
/// Where a page is damaged, the walk looks again this much further on, and then twice as far.
const FIRST_LEAP: u64 = 64;

/// Whether an error means that the database, not the disk or the request, is at fault.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        || matches!(
            error,
            rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::FromSqlConversionFailure(..)
        )
}

/// Opens the database at `path`; a damaged one is replaced. Returns what was set aside, if
/// anything was.
///
/// # Errors
/// When there is no way to have a database here, damaged or not.
pub(super) fn open(
    path: &Path,
    identity: &Identity,
    sources: &Arc<Sources>,
) -> anyhow::Result<(Database, Option<String>)> {
    match Database::open(path, identity, Arc::clone(sources)) {
        Ok(database) => Ok((database, None)),
        Err(error) if is_damage(&error) || is_missing_table(&error) => {
            tracing::error!(%error, "the store is damaged");
            let (database, set_aside) = replace(path, identity, sources)?;
            Ok((database, Some(set_aside)))
        }
        Err(error) => {
            Err(error).with_context(|| format!("cannot open the store `{}`", path.display()))
        }
    }
}

/// Sets the database at `path` aside and begins a new one with what can be read of it.
///
/// # Errors
/// When there is no way to have a database here.
pub(super) fn replace(
    path: &Path,
    identity: &Identity,
    sources: &Arc<Sources>,
) -> anyhow::Result<(Database, String)> {
    let aside = set_aside(path)?;
    let name = aside.file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
    let fresh = schema::open_writer(path)
        .with_context(|| format!("cannot begin a new store `{}`", path.display()))?;
    let carried = carry_over(&aside, &fresh);
    drop(fresh);
    let mut database = Database::open(path, identity, Arc::clone(sources))
        .with_context(|| format!("cannot open the new store `{}`", path.display()))?;
    match carried {
        Ok(holes) => {
            for hole in holes {
                let members = retention::gap_members(&database, &hole)?;
                database.give_up(&hole, clock::mono(), &members)?;
            }
            tracing::warn!(set_aside = name, "what could be read was carried over");
        }
        Err(error) => tracing::error!(%error, set_aside = name, "nothing could be carried over"),
    }
    Ok((database, name))
}

/// A database that was cut off so early, or so badly, that its tables are not there.
fn is_missing_table(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::QueryReturnedNoRows)
        || error.sqlite_error_code() == Some(ErrorCode::Unknown)
}

fn set_aside(path: &Path) -> anyhow::Result<PathBuf> {
    let date = pulsegate_core::record::ClockText::format(clock::wall()).replace(':', "");
    let aside = durable::beside(path, &format!("damaged-{date}"));
    for suffix in ["", "-wal", "-shm"] {
        let mut from = path.as_os_str().to_owned();
        let mut to = aside.as_os_str().to_owned();
        from.push(suffix);
        to.push(suffix);
        let from = PathBuf::from(from);
        if from.exists() {
            durable::rename(&from, Path::new(&to))
                .with_context(|| format!("cannot set `{}` aside", from.display()))?;
        }
    }
    Ok(aside)
}

/// Copies what can be read. Returns the holes in the readings.
fn carry_over(from: &Path, into: &Connection) -> rusqlite::Result<Vec<Gap>> {
    let damaged = schema::open_reader(from)?;
    for table in FRAME {
        // What is lost of the frame is begun anew; the records are worth more.
        if let Err((_, error)) = copy(&damaged, into, table, "1", &[]) {
            tracing::warn!(table, %error, "part of the store's frame is lost");
        }
    }
    for table in ["alerts", "events"] {
        let read = walk(&damaged, into, table)?;
        tracing::info!(table, rows = read.rows, "carried over");
    }
    let read = walk(&damaged, into, "readings")?;
    tracing::info!(table = "readings", rows = read.rows, "carried over");
    let watermark = load::read_lanes(into)?[Lane::Readings.index()].watermark;
    let mut holes = Vec::new();
    for (first, last) in read.holes {
        let first = first.max(watermark + 1);
        let others: u64 = into.query_row(
            "SELECT (SELECT count(*) FROM alerts WHERE seq BETWEEN ?1 AND ?2)
                  + (SELECT count(*) FROM events WHERE seq BETWEEN ?1 AND ?2)",
            [first, last],
            |row| row.get(0),
        )?;
        if first <= last && last + 1 - first > others {
            let count = last + 1 - first - others;
            let (first, last) = (Seq(first), Seq(last));
            let reason = DropReason::Corruption;
            holes.push(Gap { lane: Lane::Readings, first, last, count, reason });
        }
    }
    Ok(holes)
}

struct Walked {
    rows: u64,
    /// Places between the first and the last row read that could not be read.
    holes: Vec<(u64, u64)>,
}

/// Copies the rows of a table with a place, leaping over what is damaged.
fn walk(from: &Connection, into: &Connection, table: &str) -> rusqlite::Result<Walked> {
    let bound = |order: &str| -> Option<u64> {
        let select = format!("SELECT seq FROM {table} ORDER BY seq {order} LIMIT 1");
        from.query_row(&select, [], |row| row.get(0)).ok()
    };
    let mut walked = Walked { rows: 0, holes: Vec::new() };
    let (Some(first), Some(last)) = (bound("ASC").or(Some(1)), bound("DESC")) else {
        return Ok(walked);
    };
    let (mut at, mut leap) = (first, FIRST_LEAP);
    while at <= last {
        let rows = match copy(from, into, table, "seq BETWEEN ?1 AND ?2", &[at, last]) {
            Ok(rows) => {
                walked.rows += rows;
                break;
            }
            Err((rows, _damage)) => rows,
        };
        if rows > 0 {
            let reached = format!("SELECT max(seq) FROM {table}");
            at = into.query_row(&reached, [], |row| row.get::<_, u64>(0))? + 1;
            leap = FIRST_LEAP;
        }
        walked.rows += rows;
        let end = (at + leap - 1).min(last);
        match walked.holes.last_mut() {
            Some(hole) if hole.1 + 1 == at => hole.1 = end,
            _ => walked.holes.push((at, end)),
        }
        (at, leap) = (end + 1, leap.saturating_mul(2));
    }
    Ok(walked)
}

/// Copies rows until the end or the first damage; says how many in both cases.
fn copy(
    from: &Connection,
    into: &Connection,
    table: &str,
    condition: &str,
    bounds: &[u64],
) -> Result<u64, (u64, rusqlite::Error)> {
    let mut copied = 0;
    let mut run = || -> rusqlite::Result<()> {
        let order = if bounds.is_empty() { "" } else { "ORDER BY seq" };
        let mut select =
            from.prepare(&format!("SELECT * FROM {table} WHERE {condition} {order}"))?;
        let columns = select.column_count();
        let places = vec!["?"; columns].join(", ");
        let mut insert =
            into.prepare(&format!("INSERT OR REPLACE INTO {table} VALUES ({places})"))?;
        let mut rows = select.query(params_from_iter(bounds))?;
        while let Some(row) = rows.next()? {
            let values: Vec<Value> =
                (0..columns).map(|column| row.get(column)).collect::<Result<_, _>>()?;
            insert.execute(params_from_iter(values))?;
            copied += 1;
        }
        Ok(())
    };
    into.execute_batch("BEGIN").map_err(|error| (0, error))?;
    let outcome = run();
    into.execute_batch("COMMIT").map_err(|error| (0, error))?;
    outcome.map(|()| copied).map_err(|error| (copied, error))
}
