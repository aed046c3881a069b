//! Constant cost (P9): the bytes that a start and a commit read and write do not depend on the
//! backlog.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::db::database::{CommitWork, Database};
use crate::db::{load, schema};
use crate::store::fold::Fold;

/// Bytes that this thread has read and written through system calls so far.
fn io_bytes() -> (u64, u64) {
    let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    let told = |key: &str| {
        let line = io.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().parse().unwrap()
    };
    (told("rchar:"), told("wchar:"))
}

/// A device with so many pending readings.
fn device_with_backlog(readings: u64) -> Device {
    let mut device = Device::new();
    device.rules = vec![rules::above(200.0)];
    {
        let options = device.options();
        let mut database = Database::open_database(
            &options.path,
            &options.identity,
            Arc::new(Sources::default()),
            &options.pulse,
        )
        .unwrap();
        database.commit_work(&CommitWork { clock: true, ..CommitWork::default() }).unwrap();
        let fill =
            "WITH RECURSIVE n(seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < ?1)
                    INSERT INTO readings SELECT seq, 0, seq * 1000, 72, NULL, NULL FROM n";
        database.connection.execute(fill, [readings]).unwrap();
        let fill =
            "INSERT INTO alerts SELECT ?1 + seq, 'r', 0, seq % 2, 'info', 1, NULL, NULL, seq, 1
                    FROM readings WHERE seq <= ?1 / 10";
        let alerts = database.connection.execute(fill, [readings]).unwrap();
        let account = "INSERT OR REPLACE INTO lanes VALUES (0, 0, ?1, 0, 0)";
        database.connection.execute(account, [alerts]).unwrap();
    }
    device
}

/// What it costs to open a store with so many pending readings, and to append one more.
fn cost(readings: u64) -> (u64, u64) {
    let device = device_with_backlog(readings);
    let options = device.options();
    let before = io_bytes();

    let mut database = Database::open_database(
        &options.path,
        &options.identity,
        Arc::new(Sources::default()),
        &options.pulse,
    )
    .unwrap();
    Fold::rebuild_fold(&device.rules, &database, clock::mono(), &mut Vec::new());
    let readings = vec![number(SourceId(0), clock::mono(), 72.0)];
    database.commit_work(&CommitWork { readings, ..CommitWork::default() }).unwrap();
    let (read, written) = io_bytes();
    (read - before.0, written - before.1)
}

#[test]
fn opening_and_appending_cost_the_same_with_a_million_readings_queued_as_with_a_hundred() {
    let (few_read, few_written) = cost(100);
    let (many_read, many_written) = cost(1_000_000);

    // A deeper tree is a page more on each way down.
    let allowance = 64 * 1024;
    assert!(many_read <= few_read + allowance, "{few_read} and {many_read} bytes read");
    assert!(
        many_written <= few_written + allowance,
        "{few_written} and {many_written} bytes written"
    );
}

/// The steps in which SQLite reads the accounts of a store with so many pending readings.
fn steps_of_accounts(readings: u64) -> u64 {
    let device = device_with_backlog(readings);
    let mut connection = schema::open_reader(&device.path()).unwrap();
    let steps = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&steps);
    let count = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        false
    };
    connection.progress_handler(1, Some(count)).unwrap();
    let account = load::load_accounts(&mut connection).unwrap()[Lane::Readings.index()];
    assert!(account.pending >= readings, "{account:?}");
    steps.load(Ordering::Relaxed)
}

#[test]
fn the_accounts_of_a_million_pending_readings_take_as_many_steps_as_those_of_a_hundred() {
    let (few, many) = (steps_of_accounts(100), steps_of_accounts(1_000_000));

    assert!(few > 0 && many <= few, "{few} and {many} steps");
}
