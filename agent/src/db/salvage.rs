//! A damaged database: set aside under a dated name, read as far as possible, and replaced.
//!
//! The new database is written beside the damaged one in durable steps, and takes its place only
//! when complete. After a power cut in between, either the damaged database is still in place, and
//! the next start continues the salvage, or the new database is. Records carried over keep their
//! places and starts, so the cloud can recognise duplicates. Unreadable records become gaps with
//! the reason `corruption`.

use std::ffi::OsString;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use pulsegate_sensors::Sources;
use rusqlite::ErrorCode;

use super::carry::{self, Extent, SalvageState};
use super::database::{Database, WriterIdentity};
use super::error::is_damage;
use super::{disk, schema};
use crate::platform::pulse::Pulse;
use crate::platform::{clock, durable};

/// The suffix of SQLite's rollback journal, which exists until a new file is switched to a write-ahead log.
const JOURNAL: &str = "-journal";
/// File name of the new database while it is written, and once complete.
const WRITING: &str = "salvage";
const COMPLETE: &str = "new";
/// Suffix in the file name of a damaged database, before the date.
const ASIDE: &str = "damaged-";
/// Damaged databases kept for examination. Each is as large as the store may be (P10).
const KEPT_ASIDE: usize = 2;
/// Bytes of the smallest page. SQLite takes a file without a page for a new database.
const MIN_BYTES: u64 = 512;
/// Offset in the header of the versions for writing and for reading, and the highest known version
/// (SQLite file format, section 1.3.3).
const VERSIONS_AT: u64 = 18;
const WAL_VERSION: u8 = 2;
/// Suffixes of the files of a database.
const SUFFIXES: [&str; 3] = ["-wal", "-shm", ""];

/// The progress of a salvage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SalvageProgress {
    /// Records read until now.
    pub(crate) done: u64,
    /// Upper bound of the records, as far as the damaged database tells.
    pub(crate) of: u64,
}

impl SalvageProgress {
    /// Returns the completed part in percent.
    pub(crate) fn done_percent(self) -> u64 {
        self.done.min(self.of).saturating_mul(100).checked_div(self.of).unwrap_or(100)
    }
}

/// Receives the progress of a salvage after each step.
pub(crate) type TellProgress<'a> = &'a mut dyn FnMut(SalvageProgress);

/// The fate of a damaged database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replaced {
    /// The present name of the damaged database.
    pub(crate) set_aside: String,
    /// Number of invalid rows left behind.
    pub(crate) left_rows: u64,
}

/// Opens the database at `path`. Returns the fault of a damaged database, or of a database whose
/// salvage was cut off. Long work beats `pulse`. Unless a file `is_expected` at `path`, makes the
/// file, and refuses a file made meanwhile.
///
/// # Errors
/// When the file cannot be opened or read for another reason than damage, or when a file was not
/// expected.
pub(crate) fn open_whole(
    path: &Path,
    is_expected: bool,
    identity: &WriterIdentity,
    sources: &Arc<Sources>,
    pulse: &Pulse,
) -> anyhow::Result<Result<Database, String>> {
    finish_replacement(path)
        .with_context(|| format!("cannot finish the new store `{}`", path.display()))?;
    let unfinished = find_unfinished(path)?;
    let fault = match check_whole(path) {
        _ if unfinished.is_some() => "its salvage was cut off, and goes on".to_owned(),
        Ok(()) => {
            if !is_expected {
                durable::create_new(path)
                    .with_context(|| format!("cannot make the store `{}`", path.display()))?;
            }
            match Database::open_database(path, identity, Arc::clone(sources), pulse) {
                Ok(database) => return Ok(Ok(database)),
                Err(error) if is_damage(&error) || is_missing_table(&error) => error.to_string(),
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot open the store `{}`", path.display()));
                }
            }
        }
        Err(fault) => fault.to_owned(),
    };
    // SQLite also reports an unreadable page as damage.
    disk::check_readable(path)
        .with_context(|| format!("cannot read the store `{}`", path.display()))?;
    tracing::error!(fault, "the store is damaged");
    Ok(Err(fault))
}

/// Works like [`open_whole`], but replaces a damaged database first and reports the progress to
/// `tell`.
#[cfg(test)]
pub(crate) fn open(
    path: &Path,
    identity: &WriterIdentity,
    sources: &Arc<Sources>,
    pulse: &Pulse,
    tell: TellProgress<'_>,
) -> anyhow::Result<(Database, Option<Replaced>)> {
    if let Ok(database) = open_whole(path, true, identity, sources, pulse)? {
        return Ok((database, None));
    }
    let replaced = replace_database(path, None, sources, pulse, tell)?;
    let database = Database::open_database(path, identity, Arc::clone(sources), pulse)
        .with_context(|| format!("cannot open the new store `{}`", path.display()))?;
    Ok((database, Some(replaced)))
}

/// Sets the database at `path` aside and puts a new one in its place, with all readable rows of the
/// old database and the facts `known` from memory. Beats `pulse`, and reports the progress to
/// `tell`.
///
/// # Errors
/// When no database can be written here. The damaged database then keeps its place.
pub(crate) fn replace_database(
    path: &Path,
    known: Option<&Database>,
    sources: &Sources,
    pulse: &Pulse,
    tell: TellProgress<'_>,
) -> anyhow::Result<Replaced> {
    let unfinished = find_unfinished(path)?;
    let begun = unfinished.as_ref().map(|(_, extent)| *extent);
    let aside = unfinished.map_or_else(|| set_aside(path), |(aside, _)| Ok(aside))?;
    let name = name_of(&aside).to_string_lossy().into_owned();
    let writing = durable::append_extension(path, WRITING);
    let mut write = |extent| write_new(&aside, &writing, known, sources, extent, (pulse, tell));
    let mut written = write(begun.unwrap_or(Extent::Everything));
    if let Err(error) = &written
        && begun.is_some()
        && is_damage(error)
    {
        tracing::error!(set_aside = name, %error, "what was carried over before is damaged as well");
        forget_unfinished(path)?;
        written = write(Extent::Everything);
    }
    let is_full = |error: &rusqlite::Error| error.sqlite_error_code() == Some(ErrorCode::DiskFull);
    if written.as_ref().is_err_and(is_full) {
        tracing::error!(set_aside = name, "no room for the readings of the damaged store");
        forget_unfinished(path)?;
        written = write(Extent::WithoutReadings);
    }
    if written.as_ref().is_err_and(is_full) {
        forget_unfinished(path)?;
    }
    let left_rows =
        written.with_context(|| format!("cannot write a new store beside `{}`", path.display()))?;
    durable::sync_file(&writing)?;
    durable::rename_file(&writing, &durable::append_extension(path, COMPLETE))?;
    finish_replacement(path)?;
    forget_older(path);
    tracing::warn!(set_aside = name, left_rows, "what could be read was carried over");
    Ok(Replaced { set_aside: name, left_rows })
}

/// Finds faults not reported by SQLite: an empty file with records in its log would count as a new
/// database, and a file of a future version as read-only.
fn check_whole(path: &Path) -> Result<(), &'static str> {
    let Ok(metadata) = std::fs::metadata(path) else { return Ok(()) };
    if metadata.is_dir() {
        return Err("it is a folder");
    }
    let has_log = std::fs::metadata(suffixed_path(path, "-wal")).is_ok_and(|log| log.len() > 0);
    match metadata.len() {
        0 if has_log => Err("its file is empty"),
        1..MIN_BYTES => Err("its file is cut off"),
        _ => match std::fs::File::open(path).and_then(|file| {
            let mut versions = [0; 2];
            file.read_exact_at(&mut versions, VERSIONS_AT).map(|()| versions)
        }) {
            Ok(versions) if versions.iter().any(|version| *version > WAL_VERSION) => {
                Err("its file is of a version that does not exist")
            }
            // SQLite reports a file that cannot be read.
            Ok(_) | Err(_) => Ok(()),
        },
    }
}

/// Returns true if the error means that tables are missing: the database was cut off early or
/// badly.
fn is_missing_table(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::QueryReturnedNoRows)
        || error.sqlite_error_code() == Some(ErrorCode::Unknown)
}

/// Finds the database set aside by an interrupted salvage, and the extent of the salvage. Removes
/// the new database if it belongs to another salvage or cannot be continued. The new database is
/// not checked as a whole, because the check would take longer the further the salvage is. Damage
/// in the new database is found once it is in its place, and the database set aside is kept until
/// then.
fn find_unfinished(path: &Path) -> anyhow::Result<Option<(PathBuf, Extent)>> {
    let writing = durable::append_extension(path, WRITING);
    // A file with a rollback journal was cut off before its first commit, and no reader can open such a file.
    let is_begun = writing.exists() && !suffixed_path(&writing, JOURNAL).exists();
    let load = || SalvageState::load_reached(&schema::open_reader(&writing)?);
    let reached = match is_begun.then(load).transpose() {
        Ok(reached) => reached.flatten(),
        Err(error) if is_damage(&error) => None,
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read `{}`", writing.display()));
        }
    };
    let found = reached.and_then(|SalvageState { set_aside, extent, .. }| {
        let aside = list_set_aside(path).into_iter().find(|aside| *name_of(aside) == *set_aside)?;
        let damaged = std::fs::metadata(&aside).ok()?;
        let is_its = match std::fs::metadata(path) {
            Ok(file) => (file.dev(), file.ino()) == (damaged.dev(), damaged.ino()),
            // The database was moved, on a file system without hard links.
            Err(_) => damaged.is_file() && damaged.nlink() == 1,
        };
        is_its.then_some((aside, extent))
    });
    if found.is_none() {
        forget_unfinished(path)?;
    }
    Ok(found)
}

/// Removes an incomplete new database.
fn forget_unfinished(path: &Path) -> anyhow::Result<()> {
    let writing = durable::append_extension(path, WRITING);
    // The file first: a file left without its log would look like a salvage to continue.
    let remove = |suffix| durable::remove_file(&suffixed_path(&writing, suffix));
    ["", JOURNAL, "-wal", "-shm"]
        .into_iter()
        .try_for_each(remove)
        .with_context(|| format!("cannot remove `{}`, which is not complete", writing.display()))
}

/// Moves a complete new database to its place.
fn finish_replacement(path: &Path) -> std::io::Result<()> {
    let complete = durable::append_extension(path, COMPLETE);
    if !complete.exists() {
        return Ok(());
    }
    let _in_place = schema::keep_in_place();
    // The log of the old database must not be applied to the new one.
    durable::remove_file(&suffixed_path(path, "-wal"))?;
    durable::remove_file(&suffixed_path(path, "-shm"))?;
    if path.is_dir() {
        durable::rename_file(path, &unused_name(path))?;
    }
    durable::rename_file(&complete, path)
}

fn write_new(
    from: &Path,
    into: &Path,
    known: Option<&Database>,
    sources: &Sources,
    extent: Extent,
    (pulse, tell): (&Pulse, TellProgress<'_>),
) -> rusqlite::Result<u64> {
    let fresh = schema::open_writer(into, pulse)?;
    let left_rows = carry::carry_database(from, &fresh, known, sources, extent, (pulse, tell))?;
    fresh.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    fresh.close().map_err(|(_, error)| error)?;
    Ok(left_rows)
}

/// Gives the database a second, dated name, once for each damage. On a file system without hard
/// links the file is moved.
fn set_aside(path: &Path) -> anyhow::Result<PathBuf> {
    let inode = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    let aside = list_set_aside(path).into_iter().find(|aside| inode(aside) == inode(path));
    let aside = aside.unwrap_or_else(|| unused_name(path));
    for suffix in ["-wal", ""] {
        let (from, to) = (suffixed_path(path, suffix), suffixed_path(&aside, suffix));
        if from.exists() && inode(&from) != inode(&to) {
            durable::link_file(&from, &to)
                .or_else(|_| durable::rename_file(&from, &to))
                .with_context(|| format!("cannot set `{}` aside", from.display()))?;
        }
    }
    Ok(aside)
}

/// Returns an unused dated name. A clock that is not set can show the same time twice.
fn unused_name(path: &Path) -> PathBuf {
    let date =
        pulsegate_core::cloud::record_text::ClockText::format_time(clock::wall()).replace(':', "");
    let names = (1_u32..).map(|n| match n {
        1 => durable::append_extension(path, &format!("{ASIDE}{date}")),
        n => durable::append_extension(path, &format!("{ASIDE}{date}-{n}")),
    });
    names
        .into_iter()
        .find(|name| !name.exists())
        .unwrap_or_else(|| durable::append_extension(path, ASIDE))
}

/// Returns the databases set aside, the latest last.
fn list_set_aside(path: &Path) -> Vec<PathBuf> {
    let Some(folder) = path.parent() else { return Vec::new() };
    let mut begin = name_of(path).to_owned();
    begin.push(format!(".{ASIDE}"));
    let begin = begin.to_string_lossy().into_owned();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with(&begin) && !name.ends_with("-wal") && !name.ends_with("-shm")
        })
        .map(|entry| (entry.metadata().and_then(|file| file.modified()).ok(), entry.path()))
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

fn forget_older(path: &Path) {
    let aside = list_set_aside(path);
    for aside in aside.iter().rev().skip(KEPT_ASIDE) {
        for suffix in SUFFIXES {
            durable::remove_file(&suffixed_path(aside, suffix)).ok();
        }
    }
}

fn name_of(path: &Path) -> &std::ffi::OsStr {
    path.file_name().unwrap_or_default()
}

fn suffixed_path(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
