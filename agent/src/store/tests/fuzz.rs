//! Random damage to the file between random operations: the store opens, appends, is read, marked
//! and closed, its accounts balance in the end, and repaired damage does not come back (P3, P7).
//!
//! A seed makes a sequence: hostile values in rows and broken pages before each of one or two
//! starts of the agent, with operations between them. `SEED=` runs one seed alone. A failing seed
//! does not stop the others; a seed that does not end ends the run.

use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};

use fastrand::Rng;
use rusqlite::Connection;

use super::*;

/// How many seeds the tests of this file run, all together, unless `PULSEGATE_FUZZ_SEEDS` says how many.
const SEEDS: u64 = 240;
/// In so many tests, which run at the same time.
const PARTS: u64 = 8;
/// Seeds that failed once.
const FAILED_ONCE: &[u64] = &[163, 1146, 3515, 5049, 5688, 9781];
/// No store is opened whose places reach this far: half of what they are bounded by.
const OPENED_BELOW: u64 = 1 << 52;
/// What a seed may take: it takes some hundredths of a second.
const ENDS_WITHIN: Duration = Duration::from_secs(60);
const PAGE: usize = 1024;

/// Two states of one store, the second some commits later: pages of the first are stale in it.
struct Template {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Template {
    async fn make() -> Self {
        let device = device();
        let agent = device.start();
        agent.append((0..60).map(f64::from)).await;
        agent.event("door").await;
        agent.append([250.0, 70.0]).await;
        agent.deliver(Lane::Readings, 0).await;
        agent.stop().await;
        let before = std::fs::read(device.path()).unwrap();
        let agent = device.start();
        let lid = agent.source("lid", "lid");
        let open = Value::State("open".into());
        let reading =
            Reading { source: lid, mono: clock::mono(), time: None, value: open, detail: None };
        agent.offer(vec![reading]).await.unwrap();
        for _ in 0..3 {
            agent.append((0..50).map(f64::from)).await;
            agent.event("door").await;
        }
        agent.append([251.0]).await;
        agent.deliver(Lane::Events, 0).await;
        agent.deliver(Lane::Alerts, 0).await;
        agent.stop().await;
        Self { before, after: std::fs::read(device.path()).unwrap() }
    }
}

/// A device in memory, where there is such a place.
fn device() -> Device {
    let (memory, meant) = (Path::new("/dev/shm"), std::env::temp_dir());
    let folder = if meant.starts_with(memory) { meant.as_path() } else { memory };
    let folder = tempfile::tempdir_in(folder).or_else(|_| tempfile::tempdir()).unwrap();
    let mut device = Device::at(folder);
    device.rules = vec![rules::above(200.0)];
    device.keep.commit_interval = Duration::from_millis(1);
    device
}

/// A device as a kill leaves it.
fn killed(before: &Device) -> Device {
    let killed = device();
    copy_files(before.folder.path(), killed.folder.path());
    killed
}

/// How many seeds to run.
///
/// # Panics
/// When `PULSEGATE_FUZZ_SEEDS` is no number: then nobody knows how many were meant.
fn seeds() -> u64 {
    let seeds = std::env::var("PULSEGATE_FUZZ_SEEDS");
    seeds.map_or(SEEDS, |seeds| seeds.parse().expect("`PULSEGATE_FUZZ_SEEDS` is a number"))
}

fn run_part(part: u64) {
    let mut seeds: Vec<u64> = (part..seeds()).step_by(usize::try_from(PARTS).unwrap()).collect();
    if part == 0 {
        seeds.extend(FAILED_ONCE);
    }
    if let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        seeds = vec![seed];
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let template = runtime.block_on(Template::make());
    let begins = end_what_hangs();
    let mut failed = Vec::new();
    for seed in &seeds {
        begins.send(*seed).unwrap();
        println!("SEED={seed}");
        let random = &mut Rng::with_seed(*seed);
        let live = || runtime.block_on(live_through(&template, random));
        if catch_unwind(AssertUnwindSafe(live)).is_err() {
            say(&format!("SEED={seed} failed"));
            failed.push(seed);
        }
    }
    say(&format!("part {}: {} seeds, {} failed", part + 1, seeds.len(), failed.len()));
    assert!(failed.is_empty(), "these failed, each again with `SEED=`: {failed:?}");
}

/// Ends the process when a seed does not end: a store that hangs cannot be made to stop. Returns where to
/// say that a seed begins.
fn end_what_hangs() -> Sender<u64> {
    let (begins, begun) = channel();
    std::thread::spawn(move || {
        let mut seed = None;
        loop {
            match begun.recv_timeout(ENDS_WITHIN) {
                Ok(next) => seed = Some(next),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    say(&format!("SEED={seed:?} does not end within {ENDS_WITHIN:?}"));
                    std::process::abort();
                }
            }
        }
    });
    begins
}

/// Writes a line that is read also when the tests pass, or are ended.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").ok();
}

async fn live_through(template: &Template, random: &mut Rng) {
    let mut device = device();
    std::fs::write(device.path(), &template.after).unwrap();
    std::fs::write(device.folder.path().join("boot"), "2").unwrap();
    std::fs::write(device.folder.path().join("pulsegate.db.begun"), "").unwrap();
    for _ in 0..random.u32(1..3) {
        for _ in 0..random.u32(1..4) {
            damage(&device.path(), template, random);
        }
        let agent = device.start();
        let was_damaged = live(&agent, random).await;
        let is_killed = random.u32(..4) == 0;
        let killed = is_killed.then(|| killed(&device));
        agent.stop().await;
        device = killed.unwrap_or(device);

        let agent = device.start();
        if was_damaged {
            let progress = agent.store.watch_progress().borrow().clone();
            assert_eq!(progress.set_aside, None, "damaged again");
        }
        settle(&agent).await;
        agent.stop().await;
    }
}

/// Where delivery is: it begins anew with each pass.
struct Publisher {
    pass: u64,
    taken: [Seq; 3],
}

impl Publisher {
    fn follow(&mut self, agent: &Running) -> [Seq; 3] {
        let progress = agent.store.watch_progress();
        let pass = &progress.borrow().pass;
        if pass.number != self.pass {
            (self.pass, self.taken) = (pass.number, pass.watermarks);
        }
        self.taken
    }

    /// Takes and acknowledges up to a message full.
    async fn deliver(&mut self, agent: &Running, lane: Lane) {
        let after = self.follow(agent)[lane.index()].0;
        let (through, records) = agent.take(lane, after).await;
        if records.is_empty() {
            return;
        }
        let (through, delivered) = (Seq(through), records.len() as u64);
        let mark = Mark { lane, through, delivered, filtered: 0, gaps: Vec::new() };
        let marked = agent.store.mark_all(vec![mark], Vec::new(), true, self.pass).await;
        marked.unwrap().await.unwrap();
        self.taken[lane.index()] = through;
    }
}

/// Works for a while. Returns if the store turned out to be damaged, and is sound now. One that was opened just
/// below the bound of its places, and grew beyond it, is replaced once more by the next start.
async fn live(agent: &Running, random: &mut Rng) -> bool {
    let first = agent.append([61.0]).await;
    let mut publisher = Publisher { pass: 0, taken: agent.store.watermarks };
    for _ in 0..random.u32(1..6) {
        let lane = Lane::ALL[random.usize(..3)];
        match random.u32(..6) {
            0 => drop(agent.append((0..random.u32(1..30)).map(f64::from)).await),
            1 => agent.event("door").await,
            2 => drop(agent.take(lane, publisher.follow(agent)[lane.index()].0).await),
            3 => publisher.deliver(agent, lane).await,
            4 => agent.store.commit_now().await.unwrap(),
            _ => drop(agent.store.lane_accounts()),
        }
    }
    agent.settle().await;
    settle(agent).await;
    let last = agent.append([62.0]).await;
    agent.settle().await;
    assert!(last.first_seq > first.first_seq, "places rise: {first:?}, then {last:?}");
    let was_damaged = agent.store.watch_progress().borrow().set_aside.is_some();
    if was_damaged {
        let told: u32 = Connection::open(&agent.store.path)
            .unwrap()
            .query_row("SELECT count(*) FROM events WHERE event = 'store_damaged'", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert!(told > 0, "damage that no event tells of");
    }
    was_damaged && last.first_seq < OPENED_BELOW
}

/// The accounts balance in the end; where they do not, that is damage, and mended.
async fn settle(agent: &Running) {
    for _ in 0..2 {
        if agent.store.lane_accounts().iter().all(RecordAccount::is_balanced) {
            return;
        }
        agent.settle().await;
    }
    let accounts = agent.store.lane_accounts();
    assert!(accounts.iter().all(RecordAccount::is_balanced), "{accounts:?}");
}

fn damage(path: &Path, template: &Template, random: &mut Rng) {
    if random.u32(..3) == 0 {
        break_pages(path, template, random);
    } else {
        change_rows(path, random);
    }
}

/// Flips bytes, puts a page where another belongs, an old one where a new one belongs, or cuts it off.
fn break_pages(path: &Path, template: &Template, random: &mut Rng) {
    let mut content = std::fs::read(path).unwrap();
    let pages = content.len() / PAGE;
    if pages < 2 {
        return;
    }
    let (from, to) = (random.usize(..pages), random.usize(..pages));
    let what = random.u32(..6);
    println!("break {what}: page {from}, page {to}");
    let page = |at: usize| at * PAGE..(at + 1) * PAGE;
    match what {
        0 | 1 => {
            let bytes = if random.bool() { page(to) } else { 0..content.len() };
            for _ in 0..random.u32(1..20) {
                content[random.usize(bytes.clone())] = random.u8(..);
            }
        }
        2 => content.copy_within(page(from), to * PAGE),
        3 => content[page(to)].fill(0),
        4 if template.before.len() >= page(to).end => {
            content[page(to)].copy_from_slice(&template.before[page(to)]);
        }
        4 => content.truncate(page(to).start),
        _ => content.truncate(random.usize(1..content.len())),
    }
    std::fs::write(path, content).unwrap();
}

/// Columns of integers and texts, by table.
const COLUMNS: &[(&str, &[&str])] = &[
    ("meta", &["key", "value"]),
    ("kernel_boots", &["epoch", "boot_id", "reference_ms"]),
    ("clock", &["epoch", "since_ms", "offset_ms", "trusted"]),
    ("boots", &["boot", "epoch", "first_seq"]),
    ("sources", &["id", "name", "kind"]),
    ("lanes", &["lane", "watermark", "recorded", "delivered", "dropped"]),
    ("readings", &["seq", "source", "mono_ms", "value", "time_ms", "detail"]),
    (
        "alerts",
        &[
            "seq",
            "rule",
            "source",
            "raised",
            "severity",
            "value",
            "window_start_ms",
            "window_end_ms",
            "time_ms",
            "epoch",
        ],
    ),
    ("events", &["seq", "event", "epoch", "mono_ms", "members"]),
    ("gaps", &["id", "lane", "first", "last", "count", "reason", "epoch", "mono_ms"]),
    ("standing", &["rule", "source", "raised", "seq", "severity", "value", "time_ms"]),
    ("scores", &["seq", "score"]),
];

/// Whole statements that no agent runs.
const STATEMENTS: &[&str] = &[
    "DELETE FROM accounts WHERE lane = 1",
    "DELETE FROM accounts",
    "DELETE FROM boots",
    "DELETE FROM kernel_boots",
    "DELETE FROM sources",
    "DELETE FROM readings WHERE seq % 3 = 0",
    "DELETE FROM events",
    "DROP TABLE gaps",
    "DROP TABLE accounts",
    "DROP TABLE scores",
    "DROP TABLE standing",
    "DROP TRIGGER stands",
    "PRAGMA user_version = 0",
    "PRAGMA user_version = 99",
    "PRAGMA user_version = -1",
    "INSERT INTO readings VALUES (9223372036854775807, 0, 0, 0, NULL, NULL)",
    "INSERT INTO readings VALUES (9007199254740990, 0, 0, 0, NULL, NULL)",
    "INSERT INTO readings VALUES (2251799813685247, 0, 0, 0, NULL, NULL)",
    "INSERT INTO readings VALUES (-5, 0, 0, 0, NULL, NULL)",
    "INSERT INTO events VALUES (300000, 'door', 1, 0, '')",
    "INSERT OR REPLACE INTO meta VALUES ('end_seq', 9223372036854775807)",
    "INSERT OR REPLACE INTO meta VALUES ('base_seq', 9007199254740991)",
    "INSERT OR REPLACE INTO meta VALUES ('base_seq', 100)",
    "INSERT OR REPLACE INTO meta VALUES ('filtered', -1)",
    "INSERT OR REPLACE INTO meta VALUES ('filtered', 50)",
    "INSERT OR REPLACE INTO meta VALUES ('untold_gap', 0)",
    "INSERT INTO gaps VALUES (1, 2, 5, 3, 9, 'cap', 0, 0)",
    "INSERT INTO gaps VALUES (9223372036854775807, 2, 3, 5, 2, 'cap', 0, 0)",
    "INSERT OR REPLACE INTO kernel_boots VALUES (4294967295, 'another', 0)",
    "INSERT OR REPLACE INTO kernel_boots VALUES (2147483647, 'another', 0)",
    "INSERT OR REPLACE INTO boots VALUES (4294967295, 1, 50)",
    "INSERT OR REPLACE INTO boots VALUES (2147483647, 1, 9007199254740991)",
    "INSERT OR REPLACE INTO sources VALUES (4294967296, 'far', 'number')",
    "INSERT OR REPLACE INTO sources VALUES (9999, 'far', 'number')",
    "INSERT OR REPLACE INTO sources SELECT id + 7, name, kind FROM sources",
    "INSERT OR REPLACE INTO sources VALUES (4, 'source-3', 'unknown')",
    "CREATE TRIGGER evil AFTER INSERT ON readings BEGIN SELECT RAISE(ABORT, 'no'); END",
    "CREATE TRIGGER evil AFTER INSERT ON readings BEGIN DELETE FROM readings; END",
];

/// A value as SQL, at times one that follows from the value that was there.
fn hostile(column: &str, random: &mut Rng) -> String {
    let fixed = [
        "-1",
        "0",
        "1",
        "2",
        "9999",
        "10000",
        "2147483647",
        "2147483648",
        "4294967295",
        "4294967296",
        "2251799813685247",
        "4503599627370496",
        "9007199254740991",
        "9007199254740992",
        "9223372036854775807",
        "-9223372036854775808",
        "NULL",
        "0.5",
        "1e308",
        "9e999",
        "x'00'",
        "x'ffffffffff'",
        "zeroblob(5000)",
        "''",
        "'door'",
        "'\"a\":1'",
        "'\"a\":'",
        "char(27) || '[2J'",
        "printf('%.*c', 70000, 'a')",
        "printf('%.*c', 2000000, 'a')",
    ];
    match random.u32(..5) {
        0 => format!("{column} + 1"),
        1 => format!("{column} * {}", random.i32(-3..1_000)),
        _ => (*random.choice(&fixed).unwrap()).to_owned(),
    }
}

fn change_rows(path: &Path, random: &mut Rng) {
    let Ok(connection) = Connection::open(path) else { return };
    let is_loose = random.bool();
    let schema = if is_loose { loosen(&connection) } else { Vec::new() };
    let mut statement = String::new();
    if random.u32(..4) == 0 {
        statement.push_str(random.choice(STATEMENTS).unwrap());
    } else {
        let (table, columns) = random.choice(COLUMNS).unwrap();
        let column = random.choice(*columns).unwrap();
        let value = hostile(column, random);
        write!(statement, "UPDATE OR REPLACE {table} SET {column} = {value}").unwrap();
        match random.u32(..3) {
            0 => {}
            1 => {
                let (first, rest) = (columns[0], random.u32(..3));
                write!(statement, " WHERE ({first} + {rest}) % 3 = 0").unwrap();
            }
            _ => {
                let (first, skip) = (columns[0], random.u32(..40));
                let row = format!("(SELECT {first} FROM {table} LIMIT 1 OFFSET {skip})");
                write!(statement, " WHERE {first} = {row}").unwrap();
            }
        }
    }
    println!("{statement}");
    // What SQLite itself refuses, nobody can write this way.
    connection.execute_batch(&statement).ok();
    tighten(&connection, &schema);
}

/// Lets any column take any value. Returns the schema as it was.
fn loosen(connection: &Connection) -> Vec<(String, String)> {
    let schema = || -> rusqlite::Result<Vec<(String, String)>> {
        let strict = "SELECT name, sql FROM sqlite_schema WHERE sql LIKE '%STRICT%'";
        let mut strict = connection.prepare(strict)?;
        strict.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    let schema = schema().unwrap_or_default();
    let loose = "PRAGMA writable_schema = ON;
        UPDATE sqlite_schema SET sql = replace(replace(replace(sql, ') STRICT, WITHOUT', ') WITHOUT'),
            ') STRICT', ')'), 'NOT NULL', '') WHERE sql LIKE '%STRICT%';
        PRAGMA writable_schema = RESET";
    connection.execute_batch(loose).ok();
    schema
}

fn tighten(connection: &Connection, schema: &[(String, String)]) {
    if schema.is_empty() {
        return;
    }
    connection.execute_batch("PRAGMA writable_schema = ON").ok();
    for (name, sql) in schema {
        let update = "UPDATE sqlite_schema SET sql = ?2 WHERE name = ?1";
        connection.execute(update, [name, sql]).ok();
    }
    connection.execute_batch("PRAGMA writable_schema = RESET").ok();
}

/// SQLite tells of it without the place in a statement that it tells of otherwise.
#[tokio::test]
async fn a_trigger_that_makes_no_sense_is_damage_when_it_runs() {
    let mut device = Device::new();
    device.rules = vec![rules::above(200.0)];
    let agent = device.start();
    agent.append([60.0]).await;
    agent.stop().await;
    Connection::open(device.path())
        .unwrap()
        .execute_batch(
            "DROP TRIGGER stands;
             CREATE TRIGGER stands AFTER INSERT ON alerts BEGIN
                 INSERT INTO scores VALUES (new.seq, new.epoc);
             END;",
        )
        .unwrap();

    let agent = device.start();
    agent.append([250.0]).await;

    assert_eq!(device.set_aside().len(), 1);
    assert_eq!(agent.account(Lane::Alerts).recorded, 1);
    assert_eq!(agent.account(Lane::Readings).recorded, 2);
    agent.assert_balanced().await;
    agent.stop().await;
}

/// One test for each part, so that they run at the same time.
macro_rules! parts {
    ($($name:ident: $part:literal),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                run_part($part);
            }
        )*
        const _: () = assert!([$($part),*].len() as u64 == PARTS);
    };
}

parts! {
    any_damage_between_any_operations_is_lived_through_part_1: 0,
    any_damage_between_any_operations_is_lived_through_part_2: 1,
    any_damage_between_any_operations_is_lived_through_part_3: 2,
    any_damage_between_any_operations_is_lived_through_part_4: 3,
    any_damage_between_any_operations_is_lived_through_part_5: 4,
    any_damage_between_any_operations_is_lived_through_part_6: 5,
    any_damage_between_any_operations_is_lived_through_part_7: 6,
    any_damage_between_any_operations_is_lived_through_part_8: 7,
}
