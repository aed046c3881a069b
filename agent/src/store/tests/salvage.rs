//! A salvage that is cut off in the middle, or meets names, places and pages that are lost (P4, P7).

use super::damage::{PAGE, ROWS_A_PAGE, device_with_history, leaves, overwrite, survives};
use super::*;
use crate::store::salvage::{SalvageProgress, replace};

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
    std::fs::write(crate::durable::beside(&writing.path(), "salvage"), &complete[..5_000]).unwrap();
    survives(&writing, &before, "while it was written").await;
    assert!(!crate::durable::beside(&writing.path(), "salvage").exists());

    // It was complete, and the old one still in its place, with its log.
    let swapping = device.killed();
    std::fs::write(crate::durable::beside(&swapping.path(), "new"), &complete).unwrap();
    std::fs::write(swapping.folder.path().join("pulsegate.db-wal"), &damaged[..4_000]).unwrap();
    let agent = swapping.start();
    agent.append([63.0]).await;
    assert_eq!(agent.store.progress().borrow().set_aside, None);
    agent.assert_balanced().await;
    agent.stop().await;
}

#[tokio::test]
async fn readings_of_a_source_whose_name_is_lost_are_nobody_elses() {
    let (device, _) = device_with_history().await;
    {
        let connection = rusqlite::Connection::open(device.path()).unwrap();
        connection.execute("DELETE FROM sources", []).unwrap();
        connection.execute("DELETE FROM lanes", []).unwrap();
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
    let (store, thread) = Store::open(options.clone(), &sources).unwrap();
    let agent = Running { store, thread, sources };
    assert!(agent.store.progress().borrow().fault.is_some(), "says what is wrong");
    let belt = agent.source("7", "heart_rate");
    let reading = number(belt, clock::mono(), 72.0);
    let (answer, answered) = oneshot::channel();
    agent.store.append(vec![reading], Some(answer)).await.unwrap();
    agent.store.flush().await.unwrap();
    // It is published from memory meanwhile.
    let (through, records) = agent.deliver(Lane::Readings, 0).await;
    assert_eq!(records[0]["bpm"], 72);
    agent.store.append(vec![number(belt, clock::mono(), 73.0)], None).await.unwrap();
    agent.store.flush().await.unwrap();
    assert_eq!(agent.take(Lane::Readings, through).await.1[0]["bpm"], 73);
    let account = agent.account(Lane::Readings).await;
    assert_eq!((account.recorded, account.delivered, account.pending), (2, 1, 1));

    std::fs::create_dir_all(&place).unwrap();

    tokio::time::timeout(PATIENCE, answered).await.unwrap().unwrap().unwrap();
    // The process ends, and systemd starts it anew, with the numbers of the store.
    tokio::task::spawn_blocking(|| agent.thread.join().unwrap()).await.unwrap();
    let sources = Arc::new(Sources::default());
    let (store, thread) = Store::open(options, &sources).unwrap();
    let agent = Running { store, thread, sources };
    assert_eq!(agent.take_all(Lane::Readings, 0).await[0]["bpm"], 73);
    let account = agent.account(Lane::Readings).await;
    assert_eq!((account.recorded, account.delivered, account.pending), (2, 1, 1));
    agent.assert_balanced().await;
    agent.stop().await;
}

#[tokio::test]
async fn after_an_unclean_stop_the_whole_database_is_looked_through_beside_the_work() {
    let (device, before) = device_with_history().await;
    let agent = device.start();
    assert_eq!(agent.store.progress().borrow().checked, Checked::NotNeeded);
    agent.append([61.0]).await;
    let (sound, damaged) = (device.killed(), device.killed());
    agent.stop().await;
    // A page of the delivered history, which nobody reads any more.
    let page = leaves(&device.killed().path())[5];
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
    replace(&device.path(), None, &Sources::default(), &pulse, &mut tell).unwrap();

    let done: Vec<u64> = told.iter().map(|progress| progress.done).collect();
    assert!(done.is_sorted(), "{told:?}");
    assert!(told.iter().all(|progress| progress.done <= progress.of), "{told:?}");
    let last = told.last().unwrap();
    assert!(last.percent() > 95 && last.of >= before.len() as u64, "{told:?}");
}
