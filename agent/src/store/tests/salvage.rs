//! A salvage that is interrupted, or that meets lost names, places and pages (P4, P7).

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::damage::{
    PAGE, ROWS_A_PAGE, device_with_history, leaves, overwrite, rows_of_page, survives,
};
use super::*;
use crate::db::salvage::{Replaced, SalvageProgress, open, open_whole, replace_database};
use crate::db::schema;

#[tokio::test]
async fn a_power_cut_in_the_middle_of_a_salvage_leaves_the_old_store_or_the_new_one() {
    let (device, before) = device_with_history().await;
    let leaf = leaves(&device.path())[30];
    overwrite(&device.path(), leaf * PAGE, &[0; 1024]);
    let damaged = std::fs::read(device.path()).unwrap();
    let mended = device.killed();
    survives(&mended, &before, "without a power cut").await;
    let complete = std::fs::read(mended.path()).unwrap();

    // The new one was being written.
    let writing = device.killed();
    std::fs::write(
        crate::platform::durable::append_extension(&writing.path(), "salvage"),
        &complete[..5_000],
    )
    .unwrap();
    survives(&writing, &before, "while it was written").await;
    assert!(!crate::platform::durable::append_extension(&writing.path(), "salvage").exists());

    // It was complete, and the old one still in its place, with its log.
    let swapping = device.killed();
    std::fs::write(crate::platform::durable::append_extension(&swapping.path(), "new"), &complete)
        .unwrap();
    std::fs::write(swapping.folder.path().join("pulsegate.db-wal"), &damaged[..4_000]).unwrap();
    let agent = swapping.start();
    agent.append([63.0]).await;
    assert_eq!(agent.store.watch_progress().borrow().set_aside, None);
    agent.assert_balanced().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_power_cut_while_the_file_of_a_salvage_was_made_leaves_no_journal_behind() {
    let (device, before) = device_with_history().await;
    let writing = crate::platform::durable::append_extension(&device.path(), "salvage");
    let journal = device.folder.path().join("pulsegate.db.salvage-journal");
    leave_hot_journal(&writing);
    assert!(journal.exists());

    survives(&device, &before, "with a journal of the new file").await;

    assert!(!writing.exists() && !journal.exists());
}

/// Leaves a database at `path` in the middle of a transaction: with a journal that a reader cannot roll back.
fn leave_hot_journal(path: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other");
    let connection = rusqlite::Connection::open(&other).unwrap();
    let fill = "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) \
        SELECT randomblob(1000) FROM n;";
    let begin =
        format!("CREATE TABLE t(x); {fill} PRAGMA cache_size = 10; BEGIN; DELETE FROM t; {fill}");
    connection.execute_batch(&begin).unwrap();
    let journal = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push("-journal");
        PathBuf::from(name)
    };
    std::fs::copy(&other, path).unwrap();
    std::fs::copy(journal(&other), journal(path)).unwrap();
}

#[tokio::test]
async fn readings_of_a_source_whose_name_is_lost_are_nobody_elses() {
    let (device, _) = device_with_history().await;
    {
        let connection = rusqlite::Connection::open(device.path()).unwrap();
        connection.execute("DELETE FROM sources", []).unwrap();
        connection.execute("DELETE FROM accounts", []).unwrap();
    }

    let agent = device.start();
    let other = agent.source("another", "heart_rate");
    agent.offer(vec![number(other, clock::mono(), 99.0)]).await.unwrap();

    let records = agent.take_all(Lane::Readings, 0).await;
    let of_another: Vec<_> =
        records.iter().filter(|record| record["source"] == "another").collect();
    assert_eq!(of_another.len(), 1);
    assert_eq!(records[0]["source"], "source-0");
    agent.assert_balanced().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_store_that_cannot_be_had_yet_is_looked_for_until_it_can() {
    let device = Device::new();
    let place = device.folder.path().join("not").join("mounted");
    let mut options = device.options();
    options.path = place.join(FILE);
    let sources = Arc::new(Sources::default());
    let (store, thread) = Store::open_on_thread(options.clone(), &sources).unwrap();
    let agent = Running { store, thread, sources };
    assert!(agent.store.watch_progress().borrow().fault.is_some(), "says what is wrong");
    let belt = agent.source("7", "heart_rate");
    let reading = number(belt, clock::mono(), 72.0);
    let (answer, answered) = oneshot::channel();
    agent.store.append_readings(vec![reading], Some(answer)).await.unwrap();
    agent.store.commit_now().await.unwrap();
    // It is published from memory meanwhile.
    let receipt = tokio::time::timeout(PATIENCE, answered).await.unwrap().unwrap().unwrap();
    assert!(!receipt.is_durable);
    let (through, records) = agent.deliver(Lane::Readings, 0).await;
    assert_eq!(records[0]["bpm"], 72);
    assert_eq!(records[0]["seq"], format!("{}-{}", receipt.start, receipt.first_seq));
    agent.store.append_readings(vec![number(belt, clock::mono(), 73.0)], None).await.unwrap();
    agent.store.commit_now().await.unwrap();
    assert_eq!(agent.take(Lane::Readings, through).await.1[0]["bpm"], 73);
    let account = agent.account(Lane::Readings);
    assert_eq!((account.recorded, account.delivered, account.pending), (2, 1, 1));

    std::fs::create_dir_all(&place).unwrap();

    // The process ends, and systemd starts it anew, with the numbers of the store.
    tokio::task::spawn_blocking(|| agent.thread.join().unwrap()).await.unwrap();
    let sources = Arc::new(Sources::default());
    let (store, thread) = Store::open_on_thread(options, &sources).unwrap();
    let agent = Running { store, thread, sources };
    assert_eq!(agent.take_all(Lane::Readings, 0).await[0]["bpm"], 73);
    let account = agent.account(Lane::Readings);
    assert_eq!((account.recorded, account.delivered, account.pending), (2, 1, 1));
    agent.assert_balanced().await;
    agent.stop().await;
}

#[tokio::test]
async fn after_an_unclean_stop_the_whole_database_is_looked_through_beside_the_work() {
    let (device, before) = device_with_history().await;
    let agent = device.start();
    assert_eq!(agent.store.watch_progress().borrow().checked, Checked::NotNeeded);
    agent.append([61.0]).await;
    let (sound, damaged) = (device.killed(), device.killed());
    agent.stop().await;
    // A page of the delivered history, which nobody reads any more.
    let pages = leaves(&device.path());
    let page = *pages.iter().find(|page| rows_of_page(&device.path(), **page) > 40).unwrap();
    overwrite(&damaged.path(), page * PAGE, &[0; 1024]);

    let agent = sound.start();
    agent.until("no damage", |progress| progress.checked == Checked::Sound).await;
    agent.stop().await;
    assert!(sound.set_aside().is_empty());

    let agent = damaged.start();
    let progress = agent.until("damage", |progress| progress.set_aside.is_some()).await;
    assert_eq!(progress.checked, Checked::Damaged);
    agent.append([62.0]).await;
    let pending = agent.pending().await;
    assert!(before.keys().filter(|id| !pending.contains_key(*id)).count() <= ROWS_A_PAGE);
    agent.assert_balanced().await;
    assert_eq!(damaged.set_aside().len(), 1);
    agent.stop().await;
}

/// As many steps of SQLite as counting some 100,000 records takes.
const LONG: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
    SELECT count(*) FROM n";

/// The watchdog killed a salvage whose last statements took longer than it waits.
#[tokio::test]
async fn a_long_statement_of_the_store_beats_its_pulse() {
    let (device, _) = device_with_history().await;
    let pulse = Pulse::default();
    let connection = schema::open_writer(&device.path(), &pulse).unwrap();
    let before = pulse.beats();

    let counted: u64 = connection.query_row(LONG, [], |row| row.get(0)).unwrap();

    assert_eq!(counted, 100_000);
    assert!(pulse.beats() > before + 10, "{} beats", pulse.beats() - before);
}

#[tokio::test]
async fn a_salvage_tells_how_far_it_is() {
    let (device, before) = device_with_history().await;
    let leaf = leaves(&device.path())[30];
    overwrite(&device.path(), leaf * PAGE, &[0; 1024]);
    let (pulse, mut told) = (Pulse::default(), Vec::new());

    let mut tell = |progress: SalvageProgress| told.push(progress);
    replace_database(&device.path(), None, &Sources::default(), &pulse, &mut tell).unwrap();

    let done: Vec<u64> = told.iter().map(|progress| progress.done).collect();
    assert!(done.is_sorted(), "{told:?}");
    assert!(told.iter().all(|progress| progress.done <= progress.of), "{told:?}");
    let last = told.last().unwrap();
    assert!(last.done_percent() > 95 && last.of >= before.len() as u64, "{told:?}");
}

/// A device with several steps of readings, some alerts and events among them, and damage on pages of each
/// kind.
async fn damaged_device_of_many_steps() -> Device {
    let mut device = Device::new();
    device.rules = vec![rules::above(200.0)];
    let agent = device.start();
    for round in 0..9_u32 {
        agent.append((0..5_000).map(|beat| f64::from(60 + (round * 7 + beat) % 90))).await;
        agent.append([250.0, 70.0]).await;
        agent.event("door").await;
    }
    agent.deliver(Lane::Readings, 0).await;
    agent.stop().await;
    let pages = std::fs::read(device.path()).unwrap();
    let is_inner = |at: &u64| pages[usize::try_from(at * PAGE).unwrap()] == 0x05;
    let inner = (leaves(&device.path())[400]..).find(is_inner).unwrap();
    let hostile = "UPDATE readings SET mono_ms = -1 WHERE seq % 4000 = 0";
    rusqlite::Connection::open(device.path()).unwrap().execute(hostile, []).unwrap();
    let leaves = leaves(&device.path());
    for page in [leaves[30], leaves[31], leaves[leaves.len() - 90], inner] {
        overwrite(&device.path(), page * PAGE, &[0; 1024]);
    }
    device
}

/// The device as a power cut leaves it now: two names of one file stay two names.
fn cut(device: &Device) -> Device {
    let cut = device.killed();
    if let (Some(aside), true) = (cut.set_aside().first(), cut.path().exists()) {
        std::fs::remove_file(cut.path()).unwrap();
        std::fs::hard_link(aside, cut.path()).unwrap();
    }
    cut
}

/// Opens the store as a start does that finds a salvage cut off. Returns what was set aside, and the progress that
/// was told.
fn open_store(device: &Device) -> (Option<Replaced>, Vec<SalvageProgress>) {
    let (options, mut told) = (device.options(), Vec::new());
    let mut tell = |progress| told.push(progress);
    let (identity, sources) = (&options.identity, Arc::new(Sources::default()));
    let (_, replaced) = open(&options.path, identity, &sources, &options.pulse, &mut tell).unwrap();
    (replaced, told)
}

/// Replaces the store as a start does that met the damage.
fn replace_store(device: &Device, tell: &mut dyn FnMut(SalvageProgress)) -> Replaced {
    let sources = Sources::default();
    let replaced =
        replace_database(&device.path(), None, &sources, &Pulse::default(), tell).unwrap();
    assert_eq!(open_store(device).0, None, "damaged again");
    replaced
}

/// Every row of every table.
fn rows(path: &Path) -> BTreeMap<String, Vec<String>> {
    let connection = rusqlite::Connection::open(path).unwrap();
    let mut tables = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        .unwrap();
    let tables = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let all_of = |table: &str| {
        let mut select = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = select.column_count();
        let text = |row: &rusqlite::Row<'_>| {
            let values = (0..columns).map(|column| format!("{:?}", row.get_ref(column).unwrap()));
            Ok(Vec::from_iter(values).join(" "))
        };
        let rows = select.query_map([], text).unwrap();
        rows.collect::<Result<Vec<_>, _>>().unwrap()
    };
    tables.map(Result::unwrap).map(|table| (table.clone(), all_of(&table))).collect()
}

/// The lane that a salvage walks through, the place that it reached, and that on its way back from a leap.
fn reached(device: &Device) -> (u64, u64, Option<u64>) {
    let new = crate::platform::durable::append_extension(&device.path(), "salvage");
    let connection = rusqlite::Connection::open(new).unwrap();
    let select = "SELECT lane, place, back_at FROM salvage";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    connection.query_row(select, [], read).unwrap()
}

/// The rowid of the first row on a leaf page (SQLite file format, sections 1.5 and 1.6).
fn first_rowid(path: &Path, page: u64) -> u64 {
    let mut content = [0; 1024];
    std::fs::File::open(path).unwrap().read_exact_at(&mut content, page * PAGE).unwrap();
    let cell = usize::from(u16::from_be_bytes([content[8], content[9]]));
    let varint = |mut at: usize| {
        let mut value = 0;
        loop {
            value = value << 7 | u64::from(content[at] & 0x7f);
            at += 1;
            if content[at - 1] & 0x80 == 0 {
                return (value, at);
            }
        }
    };
    varint(varint(cell).1).0
}

#[tokio::test]
async fn a_salvage_that_is_cut_off_after_any_step_goes_on_behind_it() {
    let device = damaged_device_of_many_steps().await;
    let whole = device.killed();
    let mut told = Vec::new();
    let replaced = replace_store(&whole, &mut |progress| told.push(progress));
    let expected = rows(&whole.path());
    assert!(expected["gaps"].len() >= 4 && replaced.left_rows > 5, "{:?}", expected["gaps"]);
    assert!(told.len() > 12, "{told:?}");

    let mut cuts = Vec::new();
    let mut tell = |progress| cuts.push((cut(&device), progress));
    replace_store(&device, &mut tell);
    assert_eq!(cuts.len(), told.len());

    let mut is_on_the_way_back = false;
    for (device, progress) in cuts {
        let (lane, place, back) = reached(&device);
        is_on_the_way_back |= back.is_some();
        // Nobody reads again what was carried over: it can be lost meanwhile.
        if lane == 2 && place > 0 {
            let done: Vec<u64> = leaves(&device.path());
            let firsts = done.iter().map(|page| first_rowid(&device.path(), *page));
            let pages = Vec::from_iter(done.iter().copied().zip(firsts));
            // Pages with smaller ones are of the schema.
            let is_before = |first: u64| first > 100 && first + (ROWS_A_PAGE as u64) < place;
            for (page, _) in pages.iter().filter(|(_, first)| is_before(*first)) {
                overwrite(&device.path(), page * PAGE, &[0; 1024]);
            }
        }
        let (again, told) = open_store(&device);
        let again = again.expect("it goes on");
        let what = format!("cut at {progress:?}, lane {lane}, place {place}");
        assert_eq!(again.left_rows, replaced.left_rows, "{what}");
        assert!(told.iter().all(|step| step.done >= progress.done), "{what}: {told:?}");
        assert!(rows(&device.path()) == expected, "{what}: another result");
        assert_eq!(device.set_aside().len(), 1, "{what}");
        assert!(
            !crate::platform::durable::append_extension(&device.path(), "salvage").exists(),
            "{what}"
        );
    }
    assert!(is_on_the_way_back, "no step ends behind a leap");
}

#[tokio::test]
async fn a_salvage_goes_on_though_its_store_was_moved_and_nothing_has_its_place() {
    let device = damaged_device_of_many_steps().await;
    let whole = device.killed();
    let replaced = replace_store(&whole, &mut |_| ());
    let mut cuts = Vec::new();
    let mut tell = |_| cuts.push(cut(&device));
    replace_store(&device, &mut tell);
    let device = cuts.swap_remove(8);
    // As on a file system without second names.
    std::fs::remove_file(device.path()).unwrap();

    let (options, sources) = (device.options(), Arc::new(Sources::default()));
    let found =
        open_whole(&options.path, false, &options.identity, &sources, &options.pulse).unwrap();

    assert!(found.is_err(), "an empty store has its place");
    let (again, _) = open_store(&device);
    assert_eq!(again.expect("it goes on").left_rows, replaced.left_rows);
    assert!(rows(&device.path()) == rows(&whole.path()), "another result");
}

#[tokio::test]
async fn a_new_store_of_another_damaged_one_is_not_gone_on_with() {
    let device = damaged_device_of_many_steps().await;
    let whole = device.killed();
    replace_store(&whole, &mut |_| ());
    let expected = rows(&whole.path());
    let mut half = None;
    let mut tell = |progress: SalvageProgress| {
        // Two files, where there was one with two names: another store has its place.
        half = half.take().or_else(|| (progress.done_percent() > 50).then(|| device.killed()));
    };
    replace_store(&device, &mut tell);
    let half = half.expect("there is a step in the middle");

    let mut told = Vec::new();
    replace_store(&half, &mut |progress| told.push(progress));

    assert!(told[0].done_percent() < 5, "begins anew: {told:?}");
    assert!(rows(&half.path()) == expected, "another result");
}

#[tokio::test]
async fn a_salvage_goes_on_in_a_new_store_only_if_that_is_sound() {
    let device = damaged_device_of_many_steps().await;
    let whole = device.killed();
    replace_store(&whole, &mut |_| ());
    let expected = rows(&whole.path());
    let mut half = None;
    let mut tell = |progress: SalvageProgress| {
        half = half.take().or_else(|| (progress.done_percent() > 50).then(|| cut(&device)));
    };
    replace_store(&device, &mut tell);
    let half = half.expect("there is a step in the middle");
    let new = crate::platform::durable::append_extension(&half.path(), "salvage");
    rusqlite::Connection::open(&new)
        .unwrap()
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    let last = *leaves(&new).last().unwrap();
    overwrite(&new, last * PAGE, &[0xff; 1024]);

    assert!(open_store(&half).0.is_some(), "it goes on");

    assert!(rows(&half.path()) == expected, "another result");
}

/// A device with 20,000 readings that are pending, of which a page in the middle will be found damaged.
async fn running_with_damage(
    device: &Device,
) -> (Running, watch::Receiver<Option<SalvageProgress>>) {
    let agent = device.start();
    for _ in 0..4 {
        agent.append((0..5_000).map(|beat| f64::from(60 + beat % 90))).await;
    }
    agent.stop().await;
    let leaves = leaves(&device.path());
    overwrite(&device.path(), leaves[leaves.len() / 2] * PAGE, &[0; 1024]);
    let options = device.options();
    let salvaging = options.salvaging.subscribe();
    let sources = Arc::new(Sources::default());
    let (store, thread) = Store::open_on_thread(options, &sources).unwrap();
    (Running { store, thread, sources }, salvaging)
}

#[tokio::test]
async fn an_alert_and_a_reading_that_arrive_while_a_damaged_store_is_carried_over_go_out_at_once() {
    let mut device = Device::new();
    device.rules = vec![rules::above(200.0)];
    let (agent, salvaging) = running_with_damage(&device).await;
    // The salvage cannot tell how far it is, and waits.
    let gate = salvaging.borrow();
    let mut found = agent.take_all(Lane::Readings, 0).await;
    let progress = agent.until("damage", |progress| progress.fault.is_some()).await;
    assert_eq!(progress.fault.as_ref().map(DiskFault::as_str), Some("damaged"));
    let behind = progress.pass.watermarks;
    assert!(found.len() < 15_000, "the damage was not met");

    let (answer, answered) = oneshot::channel();
    agent.store.append_readings(agent.belt([250.0]), Some(answer)).await.unwrap();
    agent.store.commit_now().await.unwrap();
    let alert = agent.take(Lane::Alerts, behind[Lane::Alerts.index()].0).await.1;
    let (through, live) = agent.deliver(Lane::Readings, behind[Lane::Readings.index()].0).await;

    assert_eq!((alert.len(), live.len()), (1, 1), "they wait for the salvage");
    assert_eq!((&alert[0]["value"], &live[0]["bpm"]), (&250.into(), &250.into()));
    assert!(agent.store.watch_progress().borrow().set_aside.is_none(), "it was over before");
    agent.assert_balanced().await;
    let receipt = tokio::time::timeout(PATIENCE, answered).await.unwrap().unwrap().unwrap();
    assert!(!receipt.is_durable, "there is no store yet");
    drop(gate);
    assert_eq!((receipt.first_seq, live[0]["seq"].as_str()), (through, Some(&*ids(&live)[0])));
    agent.settle().await;
    let progress = agent.store.watch_progress().borrow().clone();
    assert!(progress.set_aside.is_some() && !progress.is_in_memory, "{progress:?}");
    let from = progress.pass.watermarks[Lane::Readings.index()].0;
    let rest = agent.take_all(Lane::Readings, from).await;
    assert!(rest.len() >= 20_000 - ROWS_A_PAGE, "{} are left", rest.len());
    assert!(!ids(&rest).contains(&ids(&live)[0]), "sent again");
    found.extend(rest);
    let known: std::collections::BTreeSet<_> = ids(&found).into_iter().collect();
    assert!(known.len() >= 20_000 - ROWS_A_PAGE);
    agent.assert_balanced().await;
    let account = agent.account(Lane::Readings);
    assert_eq!((account.recorded, account.delivered), (20_001, 1), "{account:?}");
    assert_eq!(agent.take_all(Lane::Alerts, 0).await.len(), 1, "it was not marked");
    agent.stop().await;
    let again = device.start();
    again.assert_balanced().await;
    assert_eq!(again.store.watch_progress().borrow().set_aside, None, "damaged again");
    again.stop().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_salvage_and_the_next_start_has_the_store() {
    let device = Device::new();
    let (agent, salvaging) = running_with_damage(&device).await;
    let gate = salvaging.borrow();
    agent.take_all(Lane::Readings, 0).await;
    agent.until("damage", |progress| progress.fault.is_some()).await;

    let stopped = tokio::time::timeout(PATIENCE, agent.stop_without_salvage()).await;
    stopped.expect("it waits for the salvage");

    drop(gate);
    let mut salvaging = salvaging;
    let ended = async { while salvaging.changed().await.is_ok() {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("the salvage never ends");
    let again = device.start();
    again.append([61.0]).await;
    assert!(again.account(Lane::Readings).pending >= 20_000 - ROWS_A_PAGE as u64);
    again.assert_balanced().await;
    again.stop().await;
}

#[tokio::test]
async fn a_start_on_a_large_damaged_store_goes_on_in_memory_and_takes_up_the_new_one_by_itself() {
    let (device, before) = device_with_history().await;
    let leaf = leaves(&device.path())[30];
    overwrite(&device.path(), leaf * PAGE, &[0; 1024]);
    let connection = rusqlite::Connection::open(device.path()).unwrap();
    connection.execute_batch("DROP TABLE gaps").unwrap();
    drop(connection);
    let options = StoreOptions { salvage_patience: Duration::ZERO, ..device.options() };
    let salvaging = options.salvaging.subscribe();
    let gate = salvaging.borrow();
    let sources = Arc::new(Sources::default());
    let (store, thread) = Store::open_on_thread(options, &sources).unwrap();
    let agent = Running { store, thread, sources };
    let fault = agent.store.watch_progress().borrow().fault.clone();
    assert_eq!(fault.as_ref().map(DiskFault::as_str), Some("damaged"));

    let (answer, answered) = oneshot::channel();
    agent.store.append_readings(agent.belt([251.0, 70.0]), Some(answer)).await.unwrap();
    agent.store.commit_now().await.unwrap();
    let live = agent.take_all(Lane::Readings, 0).await;
    assert_eq!(live.len(), 2, "they wait for the salvage");
    assert!(before.keys().all(|id| *id != ids(&live)[0]), "a name again");
    drop(gate);

    let receipt = tokio::time::timeout(PATIENCE, answered).await.unwrap().unwrap().unwrap();
    assert!(!receipt.is_durable, "there is no store yet");
    // The process ends, and systemd starts it anew, with the numbers of the store.
    tokio::task::spawn_blocking(|| agent.thread.join().unwrap()).await.unwrap();
    let again = device.start();
    let pending = again.pending().await;
    let values = pending.values().filter(|record| record["bpm"] == 251);
    assert_eq!(values.count(), 1);
    assert!(pending.values().any(|record| record["event"] == "store_damaged"), "no word of it");
    assert!(before.keys().filter(|id| !pending.contains_key(*id)).count() <= ROWS_A_PAGE);
    again.assert_balanced().await;
    assert_eq!(device.set_aside().len(), 1);
    again.stop().await;
}
