//! Any content in place of the database: the agent starts, sets the file aside once, and carries
//! over all readable records with their ids. Lost records are in the accounts and in an event (P3,
//! P4, P7).

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;

use super::*;
use crate::db::database::{CommitWork, Database};

pub(super) const PAGE: u64 = 1024;
/// The smallest reading takes 14 bytes of one.
pub(super) const ROWS_A_PAGE: usize = 72;
/// The first byte of a page with rows (SQLite file format, section 1.6).
const LEAF: u8 = 0x0d;

/// A device with history: 4,000 readings in two starts, the first 1,000 or so delivered, some
/// events and alerts between them, stopped in order.
pub(super) async fn device_with_history() -> (Device, BTreeMap<String, Json>) {
    let mut device = Device::new();
    device.rules = vec![rules::above(200.0)];
    for _ in 0..2 {
        let agent = device.start();
        for round in 0..20 {
            agent.append((0..100).map(|beat| f64::from(60 + (round * 100 + beat) % 90))).await;
            agent.event("door").await;
        }
        agent.append([250.0, 70.0]).await;
        agent.stop().await;
    }
    let agent = device.start();
    let mut at = 0;
    for _ in 0..20 {
        (at, _) = agent.deliver(Lane::Readings, at).await;
    }
    assert!(at > 500);
    let pending = everything_pending(&agent).await;
    agent.stop().await;
    (device, pending)
}

pub(super) async fn everything_pending(agent: &Running) -> BTreeMap<String, Json> {
    let mut all = BTreeMap::new();
    for lane in Lane::ALL {
        let watermark = agent.account(lane).delivered;
        let after = if watermark == 0 { 0 } else { agent.watermark(lane) };
        for record in agent.take_all(lane, after).await {
            all.insert(record["seq"].as_str().unwrap().to_owned(), record);
        }
    }
    all
}

impl Running {
    fn watermark(&self, lane: Lane) -> u64 {
        let connection = rusqlite::Connection::open(&self.store.path).unwrap();
        let select = "SELECT watermark FROM lanes WHERE lane = ?1";
        connection.query_row(select, [lane.index()], |row| row.get(0)).unwrap()
    }

    /// Reads every lane, and once more if the damage shows only then.
    pub(super) async fn pending(&self) -> BTreeMap<String, Json> {
        // A salvage, and the gaps that tell of it, may come while it is taken.
        let mut before = everything_pending(self).await;
        loop {
            self.settle().await;
            let pending = everything_pending(self).await;
            if pending.len() == before.len() {
                return pending;
            }
            before = pending;
        }
    }
}

fn gaps(pending: &BTreeMap<String, Json>) -> Vec<&Json> {
    pending.values().filter(|record| record["event"] == "gap").collect()
}

/// The pages, counted from 0, that hold rows and are not the root of a table.
pub(super) fn leaves(path: &Path) -> Vec<u64> {
    let connection = rusqlite::Connection::open(path).unwrap();
    let mut select =
        connection.prepare("SELECT rootpage - 1 FROM sqlite_schema WHERE rootpage > 0").unwrap();
    let roots = select.query_map([], |row| row.get(0)).unwrap();
    let roots: Vec<u64> = roots.collect::<Result<_, _>>().unwrap();
    let content = std::fs::read(path).unwrap();
    let pages = (0..).zip(content.chunks(1024)).skip(1);
    pages.filter(|(at, page)| page[0] == LEAF && !roots.contains(at)).map(|(at, _)| at).collect()
}

/// The number of rows on a page (SQLite file format, section 1.6).
pub(super) fn rows_of_page(path: &Path, page: u64) -> usize {
    let mut count = [0; 2];
    std::fs::File::open(path).unwrap().read_exact_at(&mut count, page * PAGE + 3).unwrap();
    usize::from(u16::from_be_bytes(count))
}

pub(super) fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

/// Starts on a damaged store, and checks what always holds. Returns what is pending.
pub(super) async fn survives(
    device: &Device,
    before: &BTreeMap<String, Json>,
    what: &str,
) -> BTreeMap<String, Json> {
    let agent = device.start();
    agent.append([61.0, 62.0]).await;
    let pending = agent.pending().await;
    agent.assert_balanced().await;
    let is_set_aside = agent.store.watch_progress().borrow().set_aside.is_some();
    assert_eq!(device.set_aside().len(), usize::from(is_set_aside), "{what}");
    let lost = before.keys().filter(|id| !pending.contains_key(*id)).count();
    let is_said = pending.values().any(|record| record["event"] == "store_damaged");
    assert_eq!(is_said, is_set_aside, "{what}");
    assert!(lost == 0 || is_said, "{what}: {lost} lost without a word");
    let boot = agent.store.boot.counter();
    for (id, record) in &pending {
        let known = before.get(id);
        assert!(
            known.is_some() || place(id).0 == boot,
            "{what}: `{id}` was never recorded: {record}"
        );
    }
    agent.stop().await;

    // The next start finds it whole.
    let agent = device.start();
    assert_eq!(agent.store.watch_progress().borrow().set_aside, None, "{what}: damaged again");
    agent.assert_balanced().await;
    agent.stop().await;
    pending
}

/// The log of a damaged database may have the only readable copy of a page, and pages moved over others would hide
/// what was there.
#[test]
fn a_damaged_database_is_left_without_moving_its_log_into_it() {
    let device = Device::new();
    let options = device.options();
    let sources = Arc::new(Sources::default());
    let source = sources.intern_source(Source::new("7", "heart_rate").unwrap()).unwrap();
    let mut database =
        Database::open_database(&options.path, &options.identity, sources, &options.pulse).unwrap();
    let readings = vec![number(source, Mono(1), 72.0)];
    database.commit_work(&CommitWork { readings, ..CommitWork::default() }).unwrap();
    let log = crate::db::disk::log_path(&options.path);
    let content = || [std::fs::read(&options.path).unwrap(), std::fs::read(&log).unwrap()];
    let before = content();

    database.abandon_file().unwrap();

    assert!(content() == before, "a file of the database was changed");
    assert!(!before[1].is_empty());
}

#[tokio::test]
async fn a_page_that_is_lost_costs_its_own_rows_and_nothing_else() {
    let (device, before) = device_with_history().await;
    let leaves = leaves(&device.path());
    let mut seed = fastrand::Rng::with_seed(7);

    for round in 0..12 {
        let device = device.killed();
        // The last page of all is the one that was written last.
        let page =
            if round == 0 { *leaves.last().unwrap() } else { *seed.choice(&leaves).unwrap() };
        let garbage: Vec<u8> = match round % 3 {
            0 => vec![0; 1024],
            1 => (0..1024).map(|_| seed.u8(..)).collect(),
            _ => vec![0xff; 1024],
        };
        let rows = rows_of_page(&device.path(), page);
        overwrite(&device.path(), page * PAGE, &garbage);

        let what = format!("page {page}, round {round}");
        let pending = survives(&device, &before, &what).await;

        let lost: Vec<_> = before.keys().filter(|id| !pending.contains_key(*id)).collect();
        assert!(lost.len() <= rows, "{what}: {} of {rows} lost", lost.len());
        for (id, record) in &pending {
            assert!(before.get(id).is_none_or(|known| known == record), "{what}: {id} changed");
        }
        let told: u64 = gaps(&pending).iter().map(|gap| gap["count"].as_u64().unwrap()).sum();
        assert_eq!(told, lost.len() as u64, "{what}: {:?}", gaps(&pending));
        assert!(gaps(&pending).iter().all(|gap| gap["reason"] == "corruption"));
    }
}

#[tokio::test]
async fn a_page_that_holds_what_another_page_holds_costs_its_own_rows_and_nothing_else() {
    let (device, before) = device_with_history().await;
    let leaves = leaves(&device.path());
    let content = std::fs::read(device.path()).unwrap();
    let (early, middle, late) =
        (leaves[leaves.len() / 4], leaves[leaves.len() / 2], leaves[leaves.len() - 3]);

    for (from, to) in [(early, middle), (middle, early), (middle, late), (late, middle)] {
        let device = device.killed();
        let start = usize::try_from(from * PAGE).unwrap();
        overwrite(&device.path(), to * PAGE, &content[start..start + 1024]);

        let what = format!("page {to} holds what page {from} holds");
        let pending = survives(&device, &before, &what).await;

        let lost = before.keys().filter(|id| !pending.contains_key(*id)).count();
        assert!(lost <= ROWS_A_PAGE, "{what}: {lost} lost");
        for (id, record) in &pending {
            assert!(before.get(id).is_none_or(|known| known == record), "{what}: {id} changed");
        }
    }
}

#[tokio::test]
async fn damage_that_was_met_before_is_met_again() {
    let (device, _) = device_with_history().await;
    let sql = |statement: &'static str| {
        let device = device.killed();
        let connection = rusqlite::Connection::open(device.path()).unwrap();
        connection.execute_batch(statement).unwrap();
        device
    };
    let written = |at: u64, bytes: &'static [u8]| {
        let device = device.killed();
        overwrite(&device.path(), at, bytes);
        device
    };
    let met = [
        // SQLite then takes it for a file that must not be written.
        ("version", written(18, &[3, 3])),
        // An event that is not JSON would make its whole message unreadable.
        ("members", sql("UPDATE events SET members = '\"source\":' || char(1)")),
        // Numbers that no row of ours has.
        ("mono", sql("UPDATE readings SET mono_ms = -1 WHERE seq % 500 = 0")),
        ("source", sql("UPDATE readings SET source = 1 << 40 WHERE seq = 3000")),
        // A table by its number took all the memory there is.
        ("number", sql("UPDATE readings SET source = 3000000000 WHERE seq > 4030")),
        ("value", sql("UPDATE readings SET value = x'00' WHERE seq = 3000")),
        ("boots", sql("UPDATE boots SET first_seq = -5 WHERE boot = 2")),
        ("accounts", sql("DELETE FROM accounts WHERE lane = 1")),
    ];
    for (what, device) in met {
        let agent = device.start();
        agent.append([61.0]).await;
        agent.pending().await;
        agent.append([62.0]).await;
        agent.assert_balanced().await;
        assert_eq!(device.set_aside().len(), 1, "{what}");
        agent.stop().await;
        let agent = device.start();
        assert_eq!(agent.store.watch_progress().borrow().set_aside, None, "{what}: damaged again");
        agent.stop().await;
    }
}

#[tokio::test]
async fn a_number_that_no_row_can_hold_is_left_and_told() {
    let (device, before) = device_with_history().await;
    let numbers = [
        "UPDATE sources SET id = 4294967296",
        "UPDATE sources SET id = 1000000",
        "UPDATE sources SET name = char(27) || '[2J'",
        "INSERT INTO sources SELECT id + 7, name, kind FROM sources",
        "UPDATE readings SET seq = 9223372036854775807 WHERE seq = 3000",
        "UPDATE readings SET seq = 9007199254740991 WHERE seq = 3000",
        "UPDATE readings SET seq = 4503599627370496 WHERE seq = 3000",
        "UPDATE readings SET seq = -3 WHERE seq = 3000",
        "UPDATE readings SET time_ms = -9223372036854775808 WHERE seq % 500 = 0",
        "UPDATE readings SET mono_ms = 9223372036854775807 WHERE seq % 500 = 0",
        "UPDATE readings SET value = printf('%.*c', 2000000, 'a') WHERE seq = 3000",
        "UPDATE readings SET detail = zeroblob(100000) WHERE seq = 3000",
        "UPDATE events SET epoch = 4294967295",
        "UPDATE events SET members = printf('\"a\":\"%.*c\"', 900000, 'a') WHERE seq > 4000",
        "UPDATE boots SET boot = 4294967295 WHERE boot = 2",
        "UPDATE boots SET epoch = 4294967295",
        "UPDATE boots SET first_seq = 9223372036854775807 WHERE boot = 2",
        "UPDATE kernel_boots SET epoch = 4294967295",
        "UPDATE boots SET boot = 2147483647 WHERE boot = 2",
        "UPDATE boots SET first_seq = 9007199254740991 WHERE boot = 2",
        "UPDATE kernel_boots SET reference_ms = 9223372036854775807",
        "UPDATE accounts SET watermark = -1",
        "UPDATE accounts SET watermark = 9223372036854775807",
        "UPDATE accounts SET delivered = -1",
        "UPDATE accounts SET delivered = 9007199254740991",
        "UPDATE accounts SET delivered = delivered + 1",
        "UPDATE accounts SET watermark = watermark + 1000 WHERE lane = 2",
        "UPDATE accounts SET recorded = 9223372036854775807",
        "UPDATE accounts SET dropped = 1 << 40",
        "INSERT INTO meta VALUES ('base_seq', -9)",
        "INSERT INTO meta VALUES ('base_seq', 1 << 60)",
        "INSERT INTO meta VALUES ('end_seq', 9223372036854775807)",
        "INSERT INTO meta VALUES ('filtered', 1 << 62)",
    ];
    for statement in numbers {
        println!("{statement}");
        let device = device.killed();
        let connection = rusqlite::Connection::open(device.path()).unwrap();
        connection.execute_batch(statement).unwrap();
        drop(connection);

        let agent = device.start();
        agent.append([61.0]).await;
        agent.pending().await;
        agent.append([62.0]).await;
        agent.assert_balanced().await;
        let progress = agent.store.watch_progress().borrow().clone();
        assert_eq!(device.set_aside().len(), 1, "{statement}");
        assert!(progress.set_aside.is_some(), "{statement}");
        let is_sane = |id: &String| place(id).1 < 1 << 52;
        let pending = agent.pending().await;
        assert!(pending.keys().all(is_sane), "{statement}");
        assert!(pending.len() > before.len() / 2, "{statement}: {} are left", pending.len());
        agent.stop().await;

        let agent = device.start();
        assert_eq!(
            agent.store.watch_progress().borrow().set_aside,
            None,
            "{statement}: damaged again"
        );
        agent.assert_balanced().await;
        agent.stop().await;
    }
}

#[tokio::test]
async fn rows_that_make_no_sense_are_left_alone_and_counted() {
    let (device, before) = device_with_history().await;
    {
        let connection = rusqlite::Connection::open(device.path()).unwrap();
        let hostile = "UPDATE readings SET mono_ms = -1 WHERE seq % 100 = 0 AND seq > 3000";
        assert!(connection.execute(hostile, []).unwrap() > 5);
    }

    let agent = device.start();
    let pending = agent.pending().await;
    let lost = before.keys().filter(|id| !pending.contains_key(*id)).count() as u64;
    assert!(lost > 5);
    assert_eq!(agent.store.watch_progress().borrow().left_rows, lost);
    let damaged = pending.values().find(|record| record["event"] == "store_damaged").unwrap();
    assert_eq!(damaged["left_rows"], lost);
    let told: u64 = gaps(&pending).iter().map(|gap| gap["count"].as_u64().unwrap()).sum();
    assert_eq!(told, lost);
    agent.assert_balanced().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_first_start_that_is_killed_before_its_first_commit_lost_no_store() {
    let device = Device::new();
    let agent = device.start();
    let killed = device.killed();
    agent.stop().await;

    let agent = killed.start();
    let receipt = agent.append([61.0]).await;

    assert_eq!(counter(&receipt), 2);
    let events = agent.take_all(Lane::Events, 0).await;
    assert!(events.iter().all(|event| event["event"] != "store_lost"), "{events:?}");
    agent.stop().await;
}

#[tokio::test]
async fn bytes_that_flip_anywhere_never_stop_the_agent() {
    let (device, before) = device_with_history().await;
    let length = std::fs::metadata(device.path()).unwrap().len();
    // The first went backwards in a leaf page, and never came to an end.
    for mut random in [fastrand::Rng::with_seed(91_522_606_514_648), random()] {
        flip_bytes(&device, length, &mut random).await;
    }
    drop(before);
}

async fn flip_bytes(device: &Device, length: u64, random: &mut fastrand::Rng) {
    for round in 0..25 {
        let device = device.killed();
        for _ in 0..random.u32(1..40) {
            // Every third is in the header or the schema, where it hurts most.
            let end = if round % 3 == 0 { 4 * PAGE } else { length };
            overwrite(&device.path(), random.u64(..end), &[random.u8(..)]);
        }
        let agent = device.start();
        agent.append([61.0]).await;
        agent.pending().await;
        agent.append([62.0]).await;
        assert!(device.set_aside().len() <= 1, "round {round}");
        agent.stop().await;
    }
}

#[tokio::test]
async fn a_file_that_is_cut_off_or_is_no_database_is_set_aside() {
    let (device, before) = device_with_history().await;
    let length = std::fs::metadata(device.path()).unwrap().len();

    for cut in [1, 17, 100, 1_023, 1_024, 5_000, length / 2 + 3, length - PAGE, length - 1] {
        let device = device.killed();
        let file = std::fs::OpenOptions::new().write(true).open(device.path()).unwrap();
        file.set_len(cut).unwrap();
        survives(&device, &before, &format!("cut at {cut}")).await;
    }
    for garbage in [vec![0; 9_000], b"not a database at all".repeat(300)] {
        let device = device.killed();
        std::fs::write(device.path(), garbage).unwrap();
        survives_empty(&device, 1).await;
    }
    drop(before);
}

/// Nothing can be carried over: the names go on after the boot counter.
async fn survives_empty(device: &Device, set_aside: usize) {
    let agent = device.start();
    let receipt = agent.append([61.0]).await;
    assert_eq!(counter(&receipt), 4, "the boot counter lies beside the store");
    let events = agent.take_all(Lane::Events, 0).await;
    assert!(events[0]["event"].as_str().unwrap().starts_with("store_"), "{events:?}");
    agent.assert_balanced().await;
    assert_eq!(device.set_aside().len(), set_aside);
    agent.stop().await;
}

#[tokio::test]
async fn an_empty_file_a_folder_or_nothing_at_all_is_no_reason_not_to_start() {
    let (device, _) = device_with_history().await;

    let empty = device.killed();
    std::fs::write(empty.path(), b"").unwrap();
    survives_empty(&empty, 0).await;

    let folder = device.killed();
    std::fs::remove_file(folder.path()).unwrap();
    std::fs::create_dir(folder.path()).unwrap();
    std::fs::write(folder.path().join("something"), b"of somebody's").unwrap();
    survives_empty(&folder, 1).await;
    assert!(folder.set_aside()[0].join("something").exists());

    let nothing = device.killed();
    std::fs::remove_file(nothing.path()).unwrap();
    survives_empty(&nothing, 0).await;
}

#[tokio::test]
async fn damage_that_shows_only_when_a_lane_is_read_or_written_is_mended_in_the_middle_of_work() {
    let (device, before) = device_with_history().await;
    let leaves = leaves(&device.path());
    let root_of = |table: &str| -> u64 {
        let connection = rusqlite::Connection::open(device.path()).unwrap();
        let select = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        connection.query_row(select, [table], |row| row.get(0)).unwrap()
    };
    let middle = leaves[leaves.len() / 2];

    for (what, page) in
        [("read", middle), ("write", root_of("gaps") - 1), ("frame", root_of("accounts") - 1)]
    {
        let device = device.killed();
        let agent = device.start();
        let first = agent.append([61.0]).await;
        overwrite(&device.path(), page * PAGE, &[0; 1024]);
        agent.refresh(&device);

        // An event is written to its account too.
        agent.event("door").await;
        agent.settle().await;
        let pending = agent.pending().await;
        let second = agent.append([62.0]).await;

        assert_eq!(second.start, first.start, "{what}: the same start");
        assert!(second.first_seq > first.first_seq, "{what}: places rise");
        agent.assert_balanced().await;
        let lost = before.keys().filter(|id| !pending.contains_key(*id)).count();
        let told: u64 = gaps(&pending).iter().map(|gap| gap["count"].as_u64().unwrap()).sum();
        assert_eq!(told, lost as u64, "{what}");
        assert!(device.set_aside().len() <= 1, "{what}");
        agent.stop().await;
        let agent = device.start();
        let names = ids(&agent.take_all(Lane::Readings, 0).await);
        let name = |receipt: Receipt| format!("{}-{}", receipt.start, receipt.first_seq);
        assert!(names.contains(&name(first)) && names.contains(&name(second)), "{what}");
        agent.assert_balanced().await;
        agent.stop().await;
    }
}

impl Running {
    /// Makes the writer see what is on disk: another connection that writes empties its cache.
    pub(super) fn refresh(&self, device: &Device) {
        let connection = rusqlite::Connection::open(device.path()).unwrap();
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('refresh', 1)", []).unwrap();
    }
}

#[tokio::test]
async fn what_was_in_hand_when_its_rows_were_lost_is_counted_once() {
    let (device, _) = device_with_history().await;
    let agent = device.start();
    agent.append([61.0]).await;
    let watermark = agent.watermark(Lane::Readings);
    let pass = agent.store.watch_progress().borrow().pass.number;
    let (through, records) = agent.take(Lane::Readings, watermark).await;
    // Rows of the message that is on its way, and of those behind it.
    let leaves = leaves(&device.path());
    for page in &leaves[leaves.len() / 8..leaves.len() / 2] {
        overwrite(&device.path(), page * PAGE, &[0; 1024]);
    }
    agent.refresh(&device);
    agent.take(Lane::Readings, through).await;
    agent.settle().await;
    assert_eq!(device.set_aside().len(), 1);
    agent.assert_balanced().await;

    let delivered = records.len() as u64;
    let mark = Mark {
        lane: Lane::Readings,
        through: Seq(through),
        delivered,
        filtered: 0,
        gaps: Vec::new(),
    };
    let before = agent.account(Lane::Readings);
    let marked = agent.store.mark_all(vec![mark], Vec::new(), true, pass).await;
    marked.unwrap().await.unwrap();
    assert_eq!(agent.account(Lane::Readings), before, "the pass of the mark is over");
    let (_, again) = agent.deliver(Lane::Readings, watermark).await;

    let account = agent.account(Lane::Readings);
    assert_eq!(account.delivered, before.delivered + again.len() as u64);
    agent.assert_balanced().await;
    agent.stop().await;
}

/// A store with a thousand pending readings, of which every third vanished without a trace.
async fn device_with_vanished_readings(is_log_kept: bool) -> (Device, u64) {
    let device = Device::new();
    let agent = device.start();
    agent.append((0..1_000).map(f64::from)).await;
    agent.stop().await;
    let connection = rusqlite::Connection::open(device.path()).unwrap();
    let keeps_log = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(keeps_log, is_log_kept).unwrap();
    let vanished = connection.execute("DELETE FROM readings WHERE seq % 3 = 0", []).unwrap();
    (device, u64::try_from(vanished).unwrap())
}

async fn assert_lost(agent: &Running, lost: u64) {
    agent.settle().await;
    let account = agent.account(Lane::Readings);
    assert_eq!((account.recorded, account.dropped), (1_000, lost), "{account:?}");
    let pending = agent.pending().await;
    let told: u64 = gaps(&pending).iter().map(|gap| gap["count"].as_u64().unwrap()).sum();
    assert_eq!(told, lost);
    agent.assert_balanced().await;
}

#[tokio::test]
async fn the_look_through_after_a_stop_out_of_order_finds_records_that_are_missing() {
    let (device, vanished) = device_with_vanished_readings(true).await;

    let agent = device.start();
    agent.until("a new store", |progress| progress.set_aside.is_some()).await;

    assert_lost(&agent, vanished).await;
    agent.stop().await;
}

#[tokio::test]
async fn records_that_are_missing_are_a_gap_at_the_latest_when_their_lane_is_delivered() {
    let (device, vanished) = device_with_vanished_readings(false).await;

    let agent = device.start();
    let mut at = 0;
    while agent.store.watch_progress().borrow().set_aside.is_none() {
        let (through, records) = agent.deliver(Lane::Readings, at).await;
        assert!(!records.is_empty(), "all is delivered, and nothing was found");
        at = through;
        agent.settle().await;
    }

    assert_lost(&agent, vanished).await;
    agent.stop().await;
}
