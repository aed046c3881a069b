//! A disk that is really full: a file system of 4 MiB where an ordinary user may mount one, and a
//! limit on the size of files everywhere. Records are published from memory, which holds them up to
//! a bound; beyond the bound they are given up and reported. No other record is lost (P3, P7).
//!
//! Both tests need a process of their own: this test binary again, run with one test and an
//! environment variable that marks the child.

use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;

pub(super) const CHILD: &str = "PULSEGATE_TEST_FULL_DISK";
const WAITING: u64 = 50_000;

/// What makes the disk full.
pub(super) enum Filling {
    /// A file that takes all the room there is, in a file system of its own.
    File(PathBuf),
    /// No file may grow any more.
    Limit(Rlimit),
}

impl Filling {
    pub(super) fn fill(&self) {
        match self {
            Self::File(path) => {
                use std::io::Write as _;
                let mut file =
                    std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
                for size in [1 << 16, 1 << 10, 1] {
                    while file.write_all(&vec![0; size]).is_ok() {}
                }
            }
            Self::Limit(limit) => {
                // Enough for the index of the log, in the place of ballast.
                let current = Some(40 << 10);
                setrlimit(Resource::Fsize, Rlimit { current, ..*limit }).unwrap();
            }
        }
    }

    pub(super) fn make_room(&self) {
        match self {
            Self::File(path) => std::fs::remove_file(path).unwrap(),
            Self::Limit(limit) => setrlimit(Resource::Fsize, *limit).unwrap(),
        }
    }
}

/// Whether an ordinary user may have a file system of his own here.
pub(super) fn may_mount() -> bool {
    let may = Command::new("unshare").args(["-rm", "true"]).status();
    may.is_ok_and(|status| status.success())
}

/// Runs [`child`] under `shell`, which ends by becoming `"$@"`.
fn run_child(shell: &str, folder: &Path) {
    run_child_test(shell, "store::tests::full_disk::child", folder);
}

/// Runs a test that is a child under `shell`.
pub(super) fn run_child_test(shell: &str, test: &str, folder: &Path) {
    let output = Command::new("sh")
        .args(["-c", shell, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}\n{complained}");
    assert!(said.contains("the child came to its end"), "{said}");
}

#[test]
fn a_disk_that_takes_no_more_costs_only_what_memory_cannot_hold() {
    let folder = tempfile::tempdir().unwrap();
    // The signal would end the process; without it the write fails.
    run_child(r#"trap "" XFSZ; exec "$@""#, folder.path());
}

#[test]
fn a_full_file_system_costs_only_what_memory_cannot_hold() {
    let folder = tempfile::tempdir().unwrap();
    if may_mount() {
        let mount = r#"mount -t tmpfs -o size=4m none "$0" && mkdir "$0/own" && exec "$@""#;
        let shell = format!(r#"exec unshare -rm sh -c '{mount}' "${CHILD}" "$@""#);
        run_child(&shell, folder.path());
    } else {
        // Where that is forbidden, the other way is all there is.
        run_child(r#"trap "" XFSZ; exec "$@""#, folder.path());
    }
}

/// Does nothing unless it is the child.
#[tokio::test]
async fn child() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let folder = PathBuf::from(folder);
    let filling = match folder.join("own").exists() {
        true => Filling::File(folder.join("filling")),
        false => Filling::Limit(getrlimit(Resource::Fsize)),
    };
    let mut device = Device::at(tempfile::tempdir_in(&folder).unwrap());
    device.rules = vec![rules::above(200.0)];
    waits_and_gives_up(&device, &filling).await;
    starts_on_it(&device, &filling).await;
    println!("the child came to its end");
}

async fn waits_and_gives_up(device: &Device, filling: &Filling) {
    let agent = device.start();
    agent.append((0..500).map(|_| 72.0)).await;
    let (mut through, _) = agent.deliver(Lane::Readings, 0).await;
    let mut recorded = 500;

    // There is ballast to be dropped before the disk is really full.
    while agent.store.watch_progress().borrow().fault.is_none() {
        filling.fill();
        agent.store.append_readings(agent.belt((0..1_000).map(|_| 73.0)), None).await.unwrap();
        agent.store.request_commit().await.unwrap();
        recorded += 1_000;
        agent.take(Lane::Events, 0).await;
    }
    filling.fill();
    let fault = agent.store.watch_progress().borrow().fault.clone().unwrap();
    assert!(fault.to_string().len() > fault.as_str().len(), "{fault}");

    // What is alive goes out from memory, alerts before all.
    let (answer, answered) = oneshot::channel();
    agent.store.append_readings(agent.belt([250.0]), Some(answer)).await.unwrap();
    recorded += 1;
    agent.store.commit_now().await.unwrap();
    let receipt = tokio::time::timeout(PATIENCE, answered).await.unwrap().unwrap().unwrap();
    assert!(!receipt.is_durable, "it is in memory");
    let alerts = agent.take_all(Lane::Alerts, 0).await;
    assert!(alerts.iter().any(|alert| alert["value"] == 250), "the alert waits: {alerts:?}");
    let events = agent.take_all(Lane::Events, 0).await;
    assert_eq!(events.iter().filter(|event| event["event"] == "store_in_memory").count(), 1);
    loop {
        let (next, records) = agent.deliver(Lane::Readings, through).await;
        if records.is_empty() {
            break;
        }
        through = next;
    }
    let before = agent.account(Lane::Readings);
    assert_eq!((before.delivered, before.dropped), (recorded, 0), "{before:?}");
    agent.assert_balanced().await;

    // What was delivered may have made room for some of it in the file.
    filling.fill();
    for _ in 0..WAITING / 1_000 + 40 {
        agent.store.append_readings(agent.belt((0..1_000).map(|_| 74.0)), None).await.unwrap();
        recorded += 1_000;
    }
    agent.store.append_readings(agent.belt([251.0]), None).await.unwrap();
    recorded += 1;
    // Another program is told at once.
    assert!(agent.offer(agent.belt((0..1_000).map(|_| 75.0))).await.is_err());
    agent.assert_balanced().await;
    agent.store.commit_now().await.unwrap();
    let alerts = agent.take_all(Lane::Alerts, 0).await;
    assert!(alerts.iter().any(|alert| alert["value"] == 251), "rules stopped: {alerts:?}");

    filling.make_room();
    agent.store.commit_now().await.unwrap();
    agent.until("room", |progress| progress.fault.is_none() && progress.waiting == 0).await;
    agent.append([76.0]).await;
    recorded += 1;

    let account = agent.account(Lane::Readings);
    assert_eq!(account.recorded, recorded, "what was refused was never recorded");
    let waited = account.pending - 1;
    assert!(waited >= WAITING - 2_000, "{waited} waited: {account:?}");
    assert!(account.dropped >= before.dropped + 9_000, "{account:?}");
    agent.assert_balanced().await;
    let events = agent.take_all(Lane::Events, 0).await;
    let gaps: Vec<_> = events.iter().filter(|gap| gap["reason"] == "disk_full").collect();
    assert_eq!(gaps.len(), 1);
    let told = events.iter().filter(|event| event["event"] == "gap" && event["lane"] == "readings");
    let told: u64 = told.filter_map(|gap| gap["count"].as_u64()).sum();
    assert_eq!(told, account.dropped, "{events:?}");
    assert!(gaps[0]["start"].is_string() && gaps[0]["end"].is_string());
    assert!(events.iter().any(|event| event["event"] == "store_on_disk"));
    agent.stop().await;
}

async fn starts_on_it(device: &Device, filling: &Filling) {
    filling.fill();
    let agent = device.start();
    let watermark = agent.store.watermarks[Lane::Readings.index()].0;
    assert!(watermark > 0, "what was delivered is known");
    assert!(!agent.take(Lane::Readings, watermark).await.1.is_empty(), "what is pending goes out");
    filling.fill();
    agent.store.append_readings(agent.belt((0..100).map(|_| 77.0)), None).await.unwrap();

    filling.make_room();

    agent.append([78.0]).await;
    agent.assert_balanced().await;
    let records = agent.take_all(Lane::Readings, watermark).await;
    assert_eq!(records.iter().filter(|record| record["bpm"] == 77).count(), 100);
    agent.stop().await;
}
