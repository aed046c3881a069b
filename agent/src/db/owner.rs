//! The thing of a store. The thing of a store differs from the agent's when a card is cloned or a
//! device is renamed.
//!
//! Records not delivered under the name of a thing are not published as another thing's, unless the
//! configuration asks for it. By default such a store is set aside as a whole, under the name of
//! its thing, and taken up again when the agent starts under the same name. A store without pending
//! records continues under any name.

use std::path::{Path, PathBuf};

use pulsegate_core::cloud::delivery::Mark;
use pulsegate_core::record::event::{Event, ThingChangedMembers};
use pulsegate_core::record::lane::{DropReason, Gap, Lane};
use pulsegate_core::record::reading::Seq;
use pulsegate_core::time::Mono;
use rusqlite::{Connection, OptionalExtension as _};

use super::database::{CommitWork, Database};
use super::withheld::{self, SettledSources, SourceMark};
use super::{begun, load, schema};
use crate::config::Backlog;
use crate::platform::durable;

/// Suffix in the file name of a store set aside, before the name of its thing.
const ASIDE: &str = "of-";

/// A store of another thing was found at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ThingChange {
    /// The other thing.
    pub(crate) from: String,
    /// By lane: records not delivered under the other name.
    pub(crate) pending: [u64; 3],
    /// Their fate.
    pub(crate) backlog: Backlog,
}

/// The store for this start of the agent.
#[derive(Debug)]
pub(crate) struct StoreChoice {
    pub(crate) path: PathBuf,
    /// Set if the store was another thing's until now, with pending records.
    pub(crate) change: Option<ThingChange>,
    /// True if the store is not the same as in the start before.
    pub(crate) is_another: bool,
}

/// Decides on the store of the agent for `thing`. `path` is the usual place of a store.
pub(crate) fn choose_store(path: &Path, thing: &str, backlog: Backlog) -> StoreChoice {
    let ours = aside_path(path, thing);
    let change = match belongs_to(path) {
        Some((from, pending)) if from != thing => Some(ThingChange { from, pending, backlog }),
        Some(_) => return StoreChoice { path: path.to_owned(), change: None, is_another: false },
        None => None,
    };
    let keeps = |change: &ThingChange| backlog == Backlog::Keep && change.is_pending();
    let leaves = change.as_ref().filter(|change| keeps(change) || ours.exists());
    let moved = leaves.map_or(Ok(()), |change| set_aside(path, &change.from));
    let taken_up = moved.and_then(|()| take_up(&ours, path));
    let is_another = leaves.is_some() || taken_up.as_ref().is_ok_and(|taken_up| *taken_up);
    let change = change.filter(ThingChange::is_pending);
    match taken_up {
        Ok(_) => StoreChoice { path: path.to_owned(), change, is_another },
        Err(error) => {
            // The other thing's store stays where it is, and is tried again at the next start.
            tracing::error!(%error, "the store of another thing cannot be set aside");
            StoreChoice { path: ours, change, is_another: true }
        }
    }
}

/// Returns the stores set aside beside `path` with pending records: their files, things, and
/// pending records by lane.
pub(crate) fn kept_aside(path: &Path) -> Vec<(PathBuf, String, [u64; 3])> {
    let prefix = name_of(&aside_path(path, ""));
    let entries = path.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    let files = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    let stores = files.filter(|file| {
        let name = name_of(file);
        name.starts_with(&prefix) && !name.ends_with("-wal") && !name.ends_with("-shm")
    });
    let mut kept: Vec<_> = stores
        .filter_map(|file| belongs_to(&file).map(|(thing, pending)| (file, thing, pending)))
        .filter(|(_, _, pending)| pending.iter().any(|count| *count > 0))
        .collect();
    kept.sort();
    kept
}

/// The records given up by the first commit of a start.
#[derive(Debug, Default)]
pub(crate) struct DroppedBacklog {
    pub(crate) marks: Vec<Mark>,
    /// The same marks for withheld sources, whose records are given up with their lane.
    pub(crate) source_marks: Vec<SourceMark>,
}

impl DroppedBacklog {
    /// Gives up all pending records from before this start.
    pub(crate) fn backlog_of(database: &Database) -> rusqlite::Result<Self> {
        let mut dropped = Self::default();
        for lane in Lane::ALL {
            let (connection, row) = (&database.connection, database.lanes[lane.index()]);
            let count = row.pending;
            if count == 0 {
                continue;
            }
            let (table, sources) =
                (lane.as_str(), Vec::from_iter(database.withheld.withheld_sources(lane)));
            let select = format!(
                "SELECT min(seq) FROM {table} WHERE seq > ?1 OR {}",
                withheld::is_pending_sql(lane, table)
            );
            let first: Option<u64> =
                connection.query_row(&select, [row.watermark], |row| row.get(0))?;
            let through = row.last.max(row.watermark);
            // The account may count more records than there are rows.
            let first = first.unwrap_or_else(|| (through + 1).saturating_sub(count).max(1));
            let (first, last, reason) = (Seq(first), Seq(through), DropReason::OtherThing);
            let gaps = vec![Gap { lane, first, last, count, reason }];
            dropped.marks.push(Mark { lane, through: last, delivered: 0, filtered: 0, gaps });
            let (delivered, filtered, gaps) = (0, 0, Vec::new());
            let settled = SettledSources { lane, sources, through, delivered, filtered, gaps };
            dropped.source_marks.push(SourceMark::Settle(settled));
        }
        Ok(dropped)
    }

    /// Gives up all pending records of a file opened after the start, at once.
    pub(crate) fn drop_backlog_of(file: &mut Database, now: Mono) -> rusqlite::Result<()> {
        let Self { marks, source_marks } = Self::backlog_of(file)?;
        for mark in &source_marks {
            file.apply_source_mark(mark);
        }
        file.commit_work(&CommitWork { marks, source_marks, now, ..CommitWork::default() })
            .map(|_| ())
    }

    /// Returns the watermarks from which publishing begins, behind the records given up.
    pub(crate) fn first_watermarks(&self, database: &Database) -> [Seq; 3] {
        let mut watermarks = database.lanes.map(|lane| Seq(lane.watermark));
        for mark in &self.marks {
            watermarks[mark.lane.index()] = mark.through;
        }
        watermarks
    }
}

impl ThingChange {
    fn is_pending(&self) -> bool {
        self.pending.iter().any(|count| *count > 0)
    }

    /// Returns the event about the change.
    pub(crate) fn to_event(&self) -> Event {
        let [alerts, events, readings] = self.pending;
        Event::ThingChanged(ThingChangedMembers {
            from: self.from.to_string(),
            backlog: self.backlog.as_str().to_owned(),
            alerts,
            events,
            readings,
        })
    }
}

/// Returns the thing of the last start on a store, and its pending records by lane. `None` for a
/// missing store, and for a store last written by an earlier version, which is taken for this
/// thing's.
fn belongs_to(path: &Path) -> Option<(String, [u64; 3])> {
    let read = || -> rusqlite::Result<Option<(String, [u64; 3])>> {
        let connection = schema::open_reader(path)?;
        let last = "SELECT coalesce(thing, '') FROM boots LEFT JOIN starts USING (boot)
                    ORDER BY first_seq DESC, boot DESC LIMIT 1";
        let thing: Option<String> = connection.query_row(last, [], |row| row.get(0)).optional()?;
        let Some(thing) = thing.filter(|thing| !thing.is_empty()) else { return Ok(None) };
        let pending = load::read_lanes(&connection)?.map(|lane| lane.pending);
        Ok(Some((thing, pending)))
    };
    read().ok().flatten()
}

/// Keeps the store at `path` aside for `thing`.
fn set_aside(path: &Path, thing: &str) -> anyhow::Result<()> {
    let aside = aside_path(path, thing);
    anyhow::ensure!(!aside.exists(), "`{}` is in the way", aside.display());
    fold_log(path)?;
    begun::remove_mark(path)?;
    durable::rename_file(path, &aside)?;
    tracing::warn!(thing, file = %aside.display(), "the store of another thing is kept aside");
    Ok(())
}

/// Takes up a store set aside, if there is one and its usual place is free. Returns true if it did.
fn take_up(aside: &Path, path: &Path) -> anyhow::Result<bool> {
    let is_there = aside.exists() && !path.exists();
    if is_there {
        fold_log(aside)?;
        durable::rename_file(aside, path)?;
        tracing::info!("the store that was kept aside for this thing is taken up again");
    }
    Ok(is_there)
}

/// Moves the log of a store into its file, so the file can be renamed alone.
fn fold_log(path: &Path) -> anyhow::Result<()> {
    let connection = Connection::open(path)?;
    let busy: bool =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    anyhow::ensure!(!busy, "`{}` is in use", path.display());
    connection.close().map_err(|(_, error)| error)?;
    for suffix in ["-wal", "-shm"] {
        durable::remove_file(&path.with_file_name(name_of(path) + suffix))?;
    }
    Ok(())
}

/// Returns the path for a store of `thing` while another thing's store has the usual place.
fn aside_path(path: &Path, thing: &str) -> PathBuf {
    let thing = thing.replace(['/', '\0'], "_");
    path.with_file_name(format!("{}.{ASIDE}{thing}", name_of(path)))
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
