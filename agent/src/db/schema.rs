//! The tables. Migrations only add, so the version before can still read.
//!
//! A reading is as small as possible, because every byte is written twice to a card that wears out:
//! no text, no wall time of ours, no delivery state, and no index but its place.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use super::bounds::MAX_ROW_BYTES;
use super::disk::Room;
use crate::platform::durable;
use crate::platform::pulse::Pulse;

/// Bytes of a page, the least written by a commit. Small pages wear the card less (BENCHMARKS.md).
const PAGE_BYTES: u32 = 1024;
/// Pages in the write-ahead log before moving them into the database, if the partition is unknown.
const CHECKPOINT_PAGES: u64 = 4096;
/// Bounds the log left behind by a long transaction, if the partition is unknown.
const JOURNAL_LIMIT_BYTES: u64 = 8 << 20;
/// Bounds SQLite's own memory, in KiB.
const CACHE_KIB: i32 = 512;
/// Steps of SQLite between two beats: less than a second on a processor a hundred times slower than the slowest
/// Raspberry Pi, and too many to cost a commit anything.
const BEAT_STEPS: i32 = 10_000;

/// The tables added by each version of the schema. `user_version` counts the versions.
pub(crate) const MIGRATIONS: &[&str] = &["
CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE kernel_boots(
    epoch INTEGER PRIMARY KEY, boot_id TEXT NOT NULL UNIQUE, reference_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE clock(
    epoch INTEGER NOT NULL, since_ms INTEGER NOT NULL, offset_ms INTEGER NOT NULL,
    trusted INTEGER NOT NULL, PRIMARY KEY(epoch, since_ms)
) STRICT, WITHOUT ROWID;
CREATE TABLE boots(
    boot INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, first_seq INTEGER NOT NULL
) STRICT;
CREATE TABLE sources(id INTEGER PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL) STRICT;
CREATE TABLE lanes(
    lane INTEGER PRIMARY KEY, watermark INTEGER NOT NULL, recorded INTEGER NOT NULL,
    delivered INTEGER NOT NULL, dropped INTEGER NOT NULL
) STRICT;
CREATE TABLE readings(
    seq INTEGER PRIMARY KEY, source INTEGER NOT NULL, mono_ms INTEGER NOT NULL,
    value ANY NOT NULL, time_ms INTEGER, detail BLOB
) STRICT;
CREATE TABLE alerts(
    seq INTEGER PRIMARY KEY, rule TEXT NOT NULL, source INTEGER NOT NULL, raised INTEGER NOT NULL,
    severity TEXT NOT NULL, value ANY NOT NULL, window_start_ms INTEGER, window_end_ms INTEGER,
    time_ms INTEGER NOT NULL, epoch INTEGER
) STRICT;
CREATE TABLE events(
    seq INTEGER PRIMARY KEY, event TEXT NOT NULL, epoch INTEGER NOT NULL, mono_ms INTEGER NOT NULL, members TEXT NOT NULL
) STRICT;
CREATE TABLE gaps(
    id INTEGER PRIMARY KEY, lane INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    count INTEGER NOT NULL, reason TEXT NOT NULL, epoch INTEGER NOT NULL, mono_ms INTEGER NOT NULL
) STRICT;
INSERT INTO lanes VALUES (0, 0, 0, 0, 0), (1, 0, 0, 0, 0), (2, 0, 0, 0, 0);
",
// The last alert raised and the last one cleared of each rule and source: all that a start needs to
// know of the alerts, however many there are (P9), and it outlives them. A trigger, so that a
// version that knows nothing of this table keeps it as well.
"
CREATE TABLE standing(
    rule TEXT NOT NULL, source INTEGER NOT NULL, raised INTEGER NOT NULL, seq INTEGER NOT NULL,
    severity TEXT NOT NULL, value ANY NOT NULL, window_end_ms INTEGER, time_ms INTEGER NOT NULL,
    PRIMARY KEY(rule, source, raised)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER stands AFTER INSERT ON alerts BEGIN
    INSERT OR REPLACE INTO standing VALUES (
        new.rule, new.source, new.raised, new.seq, new.severity, new.value, new.window_end_ms, new.time_ms
    );
END;
INSERT OR REPLACE INTO standing
    SELECT rule, source, raised, seq, severity, value, window_end_ms, time_ms FROM alerts ORDER BY seq;
",
// How unlike those before the reading of an alert was, where its rule asked that. A table of its
// own, and a trigger, so that a version that knows nothing of it writes and forgets alerts as ever.
"
CREATE TABLE scores(seq INTEGER PRIMARY KEY, score REAL NOT NULL) STRICT;
CREATE TRIGGER forgets AFTER DELETE ON alerts BEGIN DELETE FROM scores WHERE seq = old.seq; END;
",
// When an alert arrived whose time another program gave (`epoch` is null): retention goes by arrival.
// That is when the newest reading before it arrived, since the reading that raised an alert is written
// before the alert, in the same transaction. A trigger, so that a version that knows nothing of this
// table fills it as well; what is carried over from a damaged store is there before its alert.
"
CREATE TABLE alert_arrivals(seq INTEGER PRIMARY KEY, mono_ms INTEGER NOT NULL) STRICT;
CREATE TRIGGER arrives AFTER INSERT ON alerts WHEN new.epoch IS NULL BEGIN
    INSERT OR IGNORE INTO alert_arrivals
        SELECT new.seq, mono_ms FROM readings WHERE seq < new.seq ORDER BY seq DESC LIMIT 1;
END;
CREATE TRIGGER forgets_arrival AFTER DELETE ON alerts BEGIN
    DELETE FROM alert_arrivals WHERE seq = old.seq;
END;
INSERT OR IGNORE INTO alert_arrivals SELECT * FROM (
    SELECT seq, (SELECT mono_ms FROM readings WHERE readings.seq < alerts.seq
        ORDER BY readings.seq DESC LIMIT 1) AS mono_ms FROM alerts WHERE epoch IS NULL
) WHERE mono_ms IS NOT NULL;
",
// Of each start of the agent: the random part of its record ids, and the thing that its records belong to.
"
CREATE TABLE starts(boot INTEGER PRIMARY KEY, suffix TEXT NOT NULL, thing TEXT NOT NULL) STRICT;
CREATE TRIGGER forgets_start AFTER DELETE ON boots BEGIN
    DELETE FROM starts WHERE boot = old.boot;
END;
",
// Gaps whose event was given up itself: one row for a lane and a reason, with the members of the event.
"
CREATE TABLE untold_gaps(
    lane TEXT NOT NULL, reason TEXT NOT NULL, members TEXT NOT NULL, PRIMARY KEY(lane, reason)
) STRICT, WITHOUT ROWID;
",
// Sources whose topic the broker refuses: their own watermark in their lane. A version that knows
// nothing of this table takes what is withheld for delivered, and keeps it as history.
"
CREATE TABLE withheld(
    lane INTEGER NOT NULL, source INTEGER NOT NULL, after INTEGER NOT NULL, PRIMARY KEY(lane, source)
) STRICT, WITHOUT ROWID;
",
// The pending records of each lane, counted with every change. A row without the number was last
// written by a version that knows nothing of the count: then the number follows from the others.
// Such a version reads and writes the view. It writes no row of the lane of readings (2) for a
// change of `filtered` alone.
"
ALTER TABLE lanes RENAME TO accounts;
ALTER TABLE accounts ADD COLUMN pending INTEGER;
CREATE VIEW lanes AS SELECT lane, watermark, recorded, delivered, dropped FROM accounts;
CREATE TRIGGER writes_lanes INSTEAD OF INSERT ON lanes BEGIN
    INSERT OR REPLACE INTO accounts
        VALUES (new.lane, new.watermark, new.recorded, new.delivered, new.dropped, NULL);
END;
CREATE TRIGGER filters AFTER INSERT ON meta WHEN new.key = 'filtered' BEGIN
    UPDATE accounts SET pending = NULL WHERE lane = 2;
END;
"];

/// Tables read from outside and added after the first version: the version, and the table or a
/// view in its place.
const LATER: &[(usize, &str)] = &[
    (3, "TABLE scores(seq INTEGER PRIMARY KEY, score REAL NOT NULL)"),
    (4, "TABLE alert_arrivals(seq INTEGER PRIMARY KEY, mono_ms INTEGER NOT NULL)"),
    (5, "TABLE starts(boot INTEGER PRIMARY KEY, suffix TEXT NOT NULL, thing TEXT NOT NULL)"),
    (7, "TABLE withheld(lane INTEGER NOT NULL, source INTEGER NOT NULL, after INTEGER NOT NULL)"),
    (8, "VIEW accounts AS SELECT *, NULL AS pending FROM lanes"),
];

/// Opens the database for the only writer, and migrates the tables. Long statements beat `pulse`.
pub(crate) fn open_writer(path: &Path, pulse: &Pulse) -> rusqlite::Result<Connection> {
    // SQLite would make it for everybody to read, and gives its log the permissions of the database.
    // Why a file cannot be made, SQLite says as well.
    durable::create_private(path).ok();
    let mut connection = Connection::open(path)?;
    harden_connection(&connection)?;
    beat_in_statements(&mut connection, pulse)?;
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // In WAL mode NORMAL may lose the last commits in a power cut; FULL fsyncs each (P1).
    connection.pragma_update(None, "synchronous", "FULL")?;
    let room = Room::measure_at(path);
    let log = room.map(|room| room.log_bytes / u64::from(PAGE_BYTES));
    connection.pragma_update(None, "wal_autocheckpoint", log.unwrap_or(CHECKPOINT_PAGES))?;
    let limit = room.map_or(JOURNAL_LIMIT_BYTES, |room| room.log_limit_bytes());
    connection.pragma_update(None, "journal_size_limit", limit)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    // Finds a damaged page when it is read, not when something of it makes no sense.
    connection.pragma_update(None, "cell_size_check", "ON")?;
    migrate_tables(&connection)?;
    Ok(connection)
}

/// Makes the statements of a connection beat `pulse` while they progress. A long statement is no
/// hang, but a statement waiting for the card is.
pub(crate) fn beat_in_statements(
    connection: &mut Connection,
    pulse: &Pulse,
) -> rusqlite::Result<()> {
    let pulse = pulse.clone();
    let beat = move || {
        pulse.beat();
        false
    };
    connection.progress_handler(BEAT_STEPS, Some(beat))
}

/// Held while a reader opens a database, and while another database takes its place. Both are
/// short.
static IN_PLACE: Mutex<()> = Mutex::new(());

/// Keeps the files of the database from being replaced or opened until the guard is dropped.
/// Otherwise a reader could open the old database together with the log index of the new one. On
/// closing, the reader would release the writer's locks on the index, because the locks belong to
/// the process; the next connection would then begin the index anew.
pub(crate) fn keep_in_place() -> MutexGuard<'static, ()> {
    IN_PLACE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the database for reading, beside a running agent or without an agent. Tables missing in an
/// older version are empty.
pub(crate) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let in_place = keep_in_place();
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    harden_connection(&connection)?;
    connection.pragma_update(None, "cell_size_check", "ON")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // The first that is read: it opens the log and its index.
    let version = read_version(&connection)?;
    drop(in_place);
    for (_, table) in LATER.iter().filter(|(since, _)| version < *since) {
        connection.execute_batch(&format!("CREATE TEMP {table}"))?;
    }
    Ok(connection)
}

/// Makes SQLite distrust the file: a foreign schema runs no function with side effects, and no
/// statement can write to the schema.
fn harden_connection(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_ROW_BYTES)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    Ok(())
}

/// Returns the number of [`MIGRATIONS`] in the database.
fn read_version(connection: &Connection) -> rusqlite::Result<usize> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings the tables up to the latest version, in one commit: a new store has one fsync for all
/// versions.
pub(crate) fn migrate_tables(connection: &Connection) -> rusqlite::Result<()> {
    let latest = MIGRATIONS.len();
    let missing = MIGRATIONS.get(read_version(connection)?..).unwrap_or_default().concat();
    if missing.is_empty() {
        return Ok(());
    }
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {missing} PRAGMA user_version = {latest}; COMMIT;"
    ))
}
