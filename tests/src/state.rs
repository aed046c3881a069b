//! The files of a state directory, after the agent that worked on it has ended.

use std::collections::BTreeSet;
use std::path::Path;

/// Every file that a sound agent leaves.
const FILES: [&str; 7] = [
    "boot",
    "reached",
    "pulsegate.db",
    "pulsegate.db.ballast",
    "pulsegate.db.begun",
    "pulsegate.db-shm",
    "pulsegate.db-wal",
];

/// Checks that SQLite finds no fault with the store of `state_dir`, and that nothing else was left there: no damaged
/// store that was set aside, no half-written file.
///
/// # Panics
/// When that is not so.
pub fn assert_sound(state_dir: &Path) {
    let database = rusqlite::Connection::open(state_dir.join("pulsegate.db"));
    let database = database.expect("the store opens");
    let verdict = database.pragma_query_value(None, "integrity_check", |row| row.get(0));
    assert_eq!(verdict, Ok(String::from("ok")));
    drop(database);
    let files = std::fs::read_dir(state_dir).expect("the state directory");
    let names: BTreeSet<String> =
        files.flatten().map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    let strange: Vec<&String> =
        names.iter().filter(|name| !FILES.contains(&name.as_str())).collect();
    assert!(strange.is_empty(), "left behind: {strange:?}");
}
