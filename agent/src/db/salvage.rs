//! A damaged database: set aside under a dated name, read as far as it can be, and replaced.
//!
//! The new database is written beside the old one in durable steps, and takes its place only when it is
//! complete: a power cut in between leaves the damaged one, whose salvage the next start goes on with, or
//! the new one. What is carried over keeps its place and its boot, so that the cloud can still tell what it
//! has. What could not be read becomes a gap with the reason `corruption`.

use std::ffi::OsString;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use pulsegate_sensors::Sources;
use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_ERROR;

use super::carry::{self, Extent, Reached};
use super::database::{Database, Identity};
use super::{disk, schema};
use crate::platform::pulse::Pulse;
use crate::platform::{clock, durable};

/// The new database while it is written, and when it is complete.
const WRITING: &str = "salvage";
const COMPLETE: &str = "new";
/// How the names of what was set aside go on.
const ASIDE: &str = "damaged-";
/// Damaged databases that are kept to be looked at; each is as large as the store may be (P10).
const KEPT_ASIDE: usize = 2;
/// No page is smaller; SQLite takes a file that has none for a new one.
const MIN_BYTES: u64 = 512;
/// Where the header tells the versions for writing and for reading, and the highest there is
/// (SQLite file format, section 1.3.3).
const VERSIONS_AT: u64 = 18;
const WAL_VERSION: u8 = 2;
/// The files of one database.
const SUFFIXES: [&str; 3] = ["-wal", "-shm", ""];

/// Whether an error means that the database, not the disk or the request, is at fault.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error;
    let code = error.sqlite_error_code();
    let damaged = matches!(
        code,
        Some(
            ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                // A place that was given twice: what tells the next place cannot be believed.
                | ErrorCode::ConstraintViolation
                // A text or a row that is longer than any of ours.
                | ErrorCode::TooBig
        )
    );
    // What is stored cannot be what was written.
    let nonsense = [
        matches!(error, Error::InvalidColumnType(..) | Error::FromSqlConversionFailure(..)),
        matches!(error, Error::IntegralValueOutOfRange(..) | Error::Utf8Error(..)),
        // Our statements are right, so the tables are wrong.
        matches!(error, Error::SqlInputError { .. }),
        matches!(error, Error::StatementChangedRows(_)),
        // So are the triggers: a fault in one has no place in the statement that runs it.
        matches!(error, Error::SqliteFailure(code, _) if code.extended_code == SQLITE_ERROR),
    ];
    damaged || nonsense.contains(&true)
}

/// How far a salvage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SalvageProgress {
    /// Records that were read so far.
    pub(crate) done: u64,
    /// Records that there are at most, as far as the damaged database tells.
    pub(crate) of: u64,
}

impl SalvageProgress {
    /// The part that is done, in percent.
    pub(crate) fn percent(self) -> u64 {
        self.done.min(self.of).saturating_mul(100).checked_div(self.of).unwrap_or(100)
    }
}

/// Takes how far a salvage is, after each of its steps.
pub(crate) type TellProgress<'a> = &'a mut dyn FnMut(SalvageProgress);

/// What became of a damaged database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replaced {
    /// The name that it has now.
    pub(crate) set_aside: String,
    /// Rows that could be read and made no sense; they were left.
    pub(crate) left_rows: u64,
}

/// Opens the database at `path`. Returns the fault of one that is damaged, or whose salvage was cut off. Long
/// work beats `pulse`. Unless a file `is_expected` at `path`, the file is made here, and one that came meanwhile is
/// not opened.
///
/// # Errors
/// When the file cannot be opened or read, damaged or not; when there is one that was not expected.
pub(crate) fn open_whole(
    path: &Path,
    is_expected: bool,
    identity: &Identity,
    sources: &Arc<Sources>,
    pulse: &Pulse,
) -> anyhow::Result<Result<Database, String>> {
    finish(path).with_context(|| format!("cannot finish the new store `{}`", path.display()))?;
    let unfinished = unfinished(path)?;
    let fault = match whole(path) {
        _ if unfinished.is_some() => "its salvage was cut off, and goes on".to_owned(),
        Ok(()) => {
            if !is_expected {
                durable::create_new(path)
                    .with_context(|| format!("cannot make the store `{}`", path.display()))?;
            }
            match Database::open(path, identity, Arc::clone(sources), pulse) {
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
    // SQLite says the same of a page that the disk does not give.
    disk::check_readable(path)
        .with_context(|| format!("cannot read the store `{}`", path.display()))?;
    tracing::error!(fault, "the store is damaged");
    Ok(Err(fault))
}

/// As [`open_whole`]; a damaged database is replaced first, and how far that is goes to `tell`.
#[cfg(test)]
pub(crate) fn open(
    path: &Path,
    identity: &Identity,
    sources: &Arc<Sources>,
    pulse: &Pulse,
    tell: TellProgress<'_>,
) -> anyhow::Result<(Database, Option<Replaced>)> {
    if let Ok(database) = open_whole(path, true, identity, sources, pulse)? {
        return Ok((database, None));
    }
    let replaced = replace(path, None, sources, pulse, tell)?;
    let database = Database::open(path, identity, Arc::clone(sources), pulse)
        .with_context(|| format!("cannot open the new store `{}`", path.display()))?;
    Ok((database, Some(replaced)))
}

/// Sets the database at `path` aside and puts a new one in its place, with what can be read of the
/// old one and what is known of it. Beats `pulse`, and tells how far it is to `tell`.
///
/// # Errors
/// When there is no way to have a database here; the damaged one then keeps its place.
pub(crate) fn replace(
    path: &Path,
    known: Option<&Database>,
    sources: &Sources,
    pulse: &Pulse,
    tell: TellProgress<'_>,
) -> anyhow::Result<Replaced> {
    let unfinished = unfinished(path)?;
    let begun = unfinished.as_ref().map(|(_, extent)| *extent);
    let aside = unfinished.map_or_else(|| set_aside(path), |(aside, _)| Ok(aside))?;
    let name = name_of(&aside).to_string_lossy().into_owned();
    let writing = durable::beside(path, WRITING);
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
    durable::sync(&writing)?;
    durable::rename(&writing, &durable::beside(path, COMPLETE))?;
    finish(path)?;
    forget_older(path);
    tracing::warn!(set_aside = name, left_rows, "what could be read was carried over");
    Ok(Replaced { set_aside: name, left_rows })
}

/// Finds what SQLite takes for something else: an empty file with records beside it for a new one, a
/// file of a version to come for one that must not be written.
fn whole(path: &Path) -> Result<(), &'static str> {
    let Ok(metadata) = std::fs::metadata(path) else { return Ok(()) };
    if metadata.is_dir() {
        return Err("it is a folder");
    }
    let has_log = std::fs::metadata(with(path, "-wal")).is_ok_and(|log| log.len() > 0);
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
            // A file that cannot be read is found out by SQLite.
            Ok(_) | Err(_) => Ok(()),
        },
    }
}

/// A database that was cut off so early, or so badly, that its tables are not there.
fn is_missing_table(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::QueryReturnedNoRows)
        || error.sqlite_error_code() == Some(ErrorCode::Unknown)
}

/// The set-aside database whose salvage was cut off, and how much of it is carried over. A new database of
/// another one, or one that cannot be gone on with, is removed. It is not looked through: that would take longer
/// the further it is, and damage in it is found when it has its place, while the set-aside one is kept.
fn unfinished(path: &Path) -> anyhow::Result<Option<(PathBuf, Extent)>> {
    let writing = durable::beside(path, WRITING);
    let load = || Reached::load(&schema::open_reader(&writing)?);
    let reached = match writing.exists().then(load).transpose() {
        Ok(reached) => reached.flatten(),
        Err(error) if is_damage(&error) => None,
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read `{}`", writing.display()));
        }
    };
    let found = reached.and_then(|Reached { set_aside, extent, .. }| {
        let aside = older(path).into_iter().find(|aside| *name_of(aside) == *set_aside)?;
        let damaged = std::fs::metadata(&aside).ok()?;
        let is_its = match std::fs::metadata(path) {
            Ok(file) => (file.dev(), file.ino()) == (damaged.dev(), damaged.ino()),
            // It was moved, where a file can have no second name.
            Err(_) => damaged.is_file() && damaged.nlink() == 1,
        };
        is_its.then_some((aside, extent))
    });
    if found.is_none() {
        forget_unfinished(path)?;
    }
    Ok(found)
}

/// Removes a new database that is not complete.
fn forget_unfinished(path: &Path) -> anyhow::Result<()> {
    let writing = durable::beside(path, WRITING);
    // The file first: without its log it would look as if it could be gone on with.
    let remove = |suffix| durable::remove(&with(&writing, suffix));
    ["", "-wal", "-shm"]
        .into_iter()
        .try_for_each(remove)
        .with_context(|| format!("cannot remove `{}`, which is not complete", writing.display()))
}

/// Puts a new database that is complete in its place.
fn finish(path: &Path) -> std::io::Result<()> {
    let complete = durable::beside(path, COMPLETE);
    if !complete.exists() {
        return Ok(());
    }
    let _in_place = schema::keep_in_place();
    // The log of the old one must not be taken for the new one's.
    durable::remove(&with(path, "-wal"))?;
    durable::remove(&with(path, "-shm"))?;
    if path.is_dir() {
        durable::rename(path, &unused_name(path))?;
    }
    durable::rename(&complete, path)
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
    let left_rows = carry::over(from, &fresh, known, sources, extent, (pulse, tell))?;
    fresh.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    fresh.close().map_err(|(_, error)| error)?;
    Ok(left_rows)
}

/// Gives the database a second, dated name, once for one damage. A file system that knows no
/// second names has it moved.
fn set_aside(path: &Path) -> anyhow::Result<PathBuf> {
    let inode = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    let aside = older(path).into_iter().find(|aside| inode(aside) == inode(path));
    let aside = aside.unwrap_or_else(|| unused_name(path));
    for suffix in ["-wal", ""] {
        let (from, to) = (with(path, suffix), with(&aside, suffix));
        if from.exists() && inode(&from) != inode(&to) {
            durable::link(&from, &to)
                .or_else(|_| durable::rename(&from, &to))
                .with_context(|| format!("cannot set `{}` aside", from.display()))?;
        }
    }
    Ok(aside)
}

/// A dated name that nothing has yet: a clock that is not set tells the same time twice.
fn unused_name(path: &Path) -> PathBuf {
    let date =
        pulsegate_core::cloud::record_text::ClockText::format(clock::wall()).replace(':', "");
    let names = (1_u32..).map(|n| match n {
        1 => durable::beside(path, &format!("{ASIDE}{date}")),
        n => durable::beside(path, &format!("{ASIDE}{date}-{n}")),
    });
    names.into_iter().find(|name| !name.exists()).unwrap_or_else(|| durable::beside(path, ASIDE))
}

/// What was set aside, the latest damage last.
fn older(path: &Path) -> Vec<PathBuf> {
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
    let aside = older(path);
    for aside in aside.iter().rev().skip(KEPT_ASIDE) {
        for suffix in SUFFIXES {
            durable::remove(&with(aside, suffix)).ok();
        }
    }
}

fn name_of(path: &Path) -> &std::ffi::OsStr {
    path.file_name().unwrap_or_default()
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
