//! One agent a state directory: a second one ends at once and changes nothing, and the kernel lets go of
//! the lock however the first one ends.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use pulsegate_tests::agent_process::{Device, lane_count};
use pulsegate_tests::inbox::reading;
use pulsegate_tests::site::Site;
use pulsegate_tests::{PATIENCE, choose_seed};

/// `EX_TEMPFAIL` of sysexits.h.
const STATE_IN_USE: i32 = 75;
/// Agents that are killed while the next one starts.
const TAKEOVERS: u64 = 10;

/// A copy of `device` that shares nothing with it but the state directory.
fn beside(site: &Site, device: &Device) -> Device {
    let state_dir = format!("{:?}", device.state_dir());
    site.device().set("", "state_dir", &state_dir)
}

fn line(bpm: f64) -> String {
    reading("belt", "heart_rate", bpm).to_string()
}

/// Names, sizes and times of change of all files below `folder`.
fn files(folder: &Path) -> BTreeMap<String, (u64, SystemTime)> {
    let entries = std::fs::read_dir(folder).expect("the state directory");
    let file = |entry: std::fs::DirEntry| {
        let metadata = entry.metadata().expect("a file that nobody removes");
        let modified = metadata.modified().expect("a time of change");
        (entry.file_name().to_string_lossy().into_owned(), (metadata.len(), modified))
    };
    entries.map(|entry| file(entry.expect("an entry"))).collect()
}

#[tokio::test]
async fn a_second_agent_on_one_state_directory_ends_at_once_and_changes_nothing() {
    let mut site = Site::start().await;
    site.broker.stop().await;
    let device = site.device();
    let mut first = device.started().await;
    let mut inbox = first.inbox().await;
    let values: Vec<_> = (0..20).map(|beat| line(60.0 + f64::from(beat))).collect();
    inbox.store(&values).await;
    let before = files(&device.state_dir());

    let second = beside(&site, &device);
    let mut agent = second.start();
    let status = agent.wait(PATIENCE).await;

    assert_eq!(status.code(), Some(STATE_IN_USE), "{}", second.log());
    let said = format!(
        "another agent (pid {}) works on {}; stop it first: systemctl stop pulsegate",
        first.pid(),
        device.state_dir().display()
    );
    assert!(second.log().contains(&said), "{said}\n{}", second.log());
    assert_eq!(files(&device.state_dir()), before, "something was changed");
    assert!(!second.inbox_path().exists(), "a socket was bound");

    inbox.store(&values).await;
    let status = first.status().await.expect("it answers");
    assert_eq!(lane_count(&status, "readings", "recorded"), 40);
    assert_eq!(lane_count(&status, "readings", "pending"), 40);
    assert!(first.stop().await.success());
    second.started().await.stop().await;
}

#[tokio::test]
async fn a_killed_agent_leaves_no_lock_behind_and_nothing_that_it_answered_is_lost() {
    let seed = choose_seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut site = Site::start().await;
    site.broker.stop().await;
    let device = site.device().set("buffer", "commit_interval", "\"10ms\"");
    let other = beside(&site, &device).set("buffer", "commit_interval", "\"10ms\"");
    let mut stored = 0;
    for round in 0..TAKEOVERS {
        let (one, two) = if round % 2 == 0 { (&device, &other) } else { (&other, &device) };
        let mut first = one.started().await;
        first.inbox().await.store(&[line(70.0)]).await;
        stored += 1;

        let mut second = two.start();
        tokio::time::sleep(Duration::from_millis(random.u64(..60))).await;
        first.sigkill().await;
        // It came too early, or takes over: the lock is free either way.
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let ended = loop {
            match (second.exited(), second.ask().await) {
                (Some(status), _) => break Some(status),
                (None, Some(_)) => break None,
                (None, None) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
            assert!(tokio::time::Instant::now() < deadline, "{}", two.log());
        };
        if let Some(status) = ended {
            assert_eq!(status.code(), Some(STATE_IN_USE), "{}", two.log());
            second = two.started().await;
        }
        let status = second.status().await.expect("it answers");
        assert_eq!(lane_count(&status, "readings", "recorded"), stored, "{status:#}");
        assert_eq!(lane_count(&status, "events", "recorded"), 0, "{status:#}");
        second.sigkill().await;
    }
}
