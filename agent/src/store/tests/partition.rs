//! A partition smaller than the configured limit, and a partition that another program keeps full:
//! the store always keeps enough room to move a watermark and to delete records (P3, P10).
//!
//! The tests need a file system of their own, and therefore a process of their own: see
//! `full_disk`.

use super::full_disk::{CHILD, Filling, may_mount, run_child_test};
use super::*;
use crate::db::schema;

/// Readings without a link: more than the partition takes.
const CHUNK: u32 = 2_000;
const CHUNKS: u32 = 200;
const OFFLINE: u64 = CHUNK as u64 * CHUNKS as u64;

fn run_on_partition(size: &str, test: &str) {
    if !may_mount() {
        println!("no file system of one's own here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mount = format!(r#"mount -t tmpfs -o size={size} none "$0" && exec "$@""#);
    let shell = format!(r#"exec unshare -rm sh -c '{mount}' "${CHILD}" "$@""#);
    run_child_test(&shell, &format!("store::tests::partition::{test}"), folder.path());
}

#[test]
fn a_backlog_larger_than_its_partition_drains_with_a_gap_for_what_was_dropped() {
    run_on_partition("12m", "child_with_a_backlog");
}

#[test]
fn watermarks_move_and_history_is_forgotten_though_the_disk_is_full_before_every_write() {
    run_on_partition("8m", "child_on_a_disk_that_is_always_full");
}

#[test]
fn another_program_that_fills_the_disk_costs_no_reading() {
    run_on_partition("8m", "child_beside_a_program_that_fills_the_disk");
}

#[test]
fn a_store_at_its_cap_stays_there_after_a_long_read_and_after_thousands_of_readings_from_memory() {
    run_on_partition("12m", "child_at_its_cap");
}

/// Delivers everything behind the places that were reached.
async fn drain(agent: &Running, reached: &mut [u64; 3], filling: Option<&Filling>) {
    for lane in [Lane::Events, Lane::Readings] {
        let through = &mut reached[lane.index()];
        loop {
            if let Some(filling) = filling {
                filling.fill();
            }
            let (next, records) = agent.deliver(lane, *through).await;
            if records.is_empty() {
                break;
            }
            *through = next;
        }
    }
}

/// The watermark of the readings, in the file.
fn durable_watermark(path: &Path) -> u64 {
    let connection = schema::open_reader(path).unwrap();
    let select = "SELECT watermark FROM lanes WHERE lane = 2";
    connection.query_row(select, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn child_with_a_backlog() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let device = Device::at(tempfile::tempdir_in(folder).unwrap());
    let agent = device.start();
    for chunk in 0..CHUNKS {
        let values = (0..CHUNK).map(|i| f64::from(chunk * CHUNK + i) + 0.5);
        agent.append(values).await;
        let progress = agent.store.watch_progress().borrow().clone();
        assert_eq!(progress.fault, None, "{progress:?}");
        assert!(progress.cap_bytes < device.keep.max_bytes);
    }
    let account = agent.account(Lane::Readings);
    assert!(account.is_balanced() && account.dropped > 0, "{account:?}");
    assert!(account.pending > OFFLINE / 3, "too much was dropped: {account:?}");

    drain(&agent, &mut [0; 3], None).await;

    let account = agent.account(Lane::Readings);
    assert_eq!((account.recorded, account.pending), (OFFLINE, 0), "{account:?}");
    assert!(account.is_balanced(), "{account:?}");
    assert!(durable_watermark(&device.path()) > OFFLINE / 2, "nothing is sent again");
    agent.stop().await;
    println!("the child came to its end");
}

#[tokio::test]
async fn child_on_a_disk_that_is_always_full() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let filling = Filling::File(Path::new(&folder).join("filling"));
    let device = Device::at(tempfile::tempdir_in(&folder).unwrap());
    let agent = device.start();
    for _ in 0..20 {
        agent.append((0..CHUNK).map(|i| f64::from(i) + 0.5)).await;
    }
    let mut recorded = u64::from(20 * CHUNK);
    let mut reached = [0; 3];

    for round in 0..20 {
        filling.fill();
        agent
            .store
            .append_readings(agent.belt((0..CHUNK).map(|i| f64::from(i) + 0.5)), None)
            .await
            .unwrap();
        agent.store.commit_now().await.unwrap();
        recorded += u64::from(CHUNK);
        drain(&agent, &mut reached, Some(&filling)).await;
        filling.fill();
        agent.store.commit_now().await.unwrap();
        agent.store.commit_now().await.unwrap();
        let account = agent.account(Lane::Readings);
        assert_eq!((account.recorded, account.pending), (recorded, 0), "{round}: {account:?}");
        assert_eq!((account.dropped, account.delivered), (0, recorded), "{round}: {account:?}");
    }
    assert!(durable_watermark(&device.path()) >= u64::from(20 * CHUNK), "no watermark moved");
    let killed = device.killed();
    filling.make_room();
    agent.store.commit_now().await.unwrap();
    agent.until("the file is taken up", |progress| !progress.is_in_memory).await;
    assert_eq!(agent.account(Lane::Readings).recorded, recorded);
    agent.assert_balanced().await;
    agent.stop().await;

    let agent = killed.start();
    agent.assert_balanced().await;
    assert_eq!(agent.store.watch_progress().borrow().set_aside, None);
    agent.stop().await;
    println!("the child came to its end");
}

/// The store is too young to hold its log and its ballast in full, and has no link.
#[tokio::test]
async fn child_beside_a_program_that_fills_the_disk() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let filling = Filling::File(Path::new(&folder).join("filling"));
    let device = Device::at(tempfile::tempdir_in(&folder).unwrap());
    let agent = device.start();
    agent.append((0..20).map(|i| f64::from(i) + 0.5)).await;
    let mut recorded = 20;

    // Small commits for which the ballast makes room, then more than fits.
    for count in [20; 50].into_iter().chain([CHUNK; 20]) {
        filling.fill();
        agent
            .store
            .append_readings(agent.belt((0..count).map(|i| f64::from(i) + 0.5)), None)
            .await
            .unwrap();
        agent.store.commit_now().await.unwrap();
        recorded += u64::from(count);
        let account = agent.account(Lane::Readings);
        assert_eq!((account.pending, account.dropped), (recorded, 0), "{account:?}");
    }
    let progress = agent.store.watch_progress().borrow().clone();
    assert_eq!(progress.fault.map(|fault| fault.as_str()), Some("full"), "it fits");
    filling.make_room();
    agent.store.commit_now().await.unwrap();
    agent.until("the file is taken up", |progress| !progress.is_in_memory).await;

    drain(&agent, &mut [0; 3], None).await;

    let account = agent.account(Lane::Readings);
    assert_eq!((account.delivered, account.dropped), (recorded, 0), "{account:?}");
    agent.stop().await;
    println!("the child came to its end");
}

#[tokio::test]
async fn child_at_its_cap() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let filling = Filling::File(Path::new(&folder).join("filling"));
    let device = Device::at(tempfile::tempdir_in(&folder).unwrap());
    let agent = device.start();
    let chunk = || agent.belt((0..CHUNK).map(|i| f64::from(i) + 0.5));
    let progress = || agent.store.watch_progress().borrow().clone();
    let log_bytes =
        || std::fs::metadata(device.folder.path().join("pulsegate.db-wal")).unwrap().len();

    // Somebody reads for long, and the log grows meanwhile.
    agent.append([60.5]).await;
    let reader = schema::open_reader(&device.path()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM readings;").unwrap();
    // The start saw a partition with some files less.
    let limit = progress().room.unwrap().log_limit_bytes() + (64 << 10);
    while log_bytes() <= 2 * limit {
        agent.offer(chunk()).await.unwrap();
    }
    drop(reader);
    // The ballast gives what the disk does not, so that the store would reach its cap without memory if it were nearer.
    while progress().used_bytes + (9 << 18) < progress().cap_bytes {
        agent.offer(chunk()).await.unwrap();
    }
    assert!(log_bytes() <= limit, "{} bytes of the log stay", log_bytes());

    // Memory takes what the full disk does not, and has more than the store may still grow by.
    while progress().waiting < 20 * u64::from(CHUNK) {
        filling.fill();
        agent.offer(chunk()).await.unwrap();
    }
    filling.make_room();
    agent.store.commit_now().await.unwrap();
    agent.until("the file is taken up", |progress| !progress.is_in_memory).await;
    for _ in 0..20 {
        assert!(agent.offer(chunk()).await.unwrap().is_durable, "{:?}", progress());
    }

    let now = progress();
    let room = now.room.unwrap();
    assert_eq!(now.fault, None);
    assert!(now.used_bytes <= now.cap_bytes + (64 << 10), "the reserve is used up: {now:?}");
    assert!(!room.is_full(), "{room:?}");
    agent.assert_balanced().await;
    agent.stop().await;
    println!("the child came to its end");
}
