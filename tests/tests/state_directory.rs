//! A state directory that is not what it should be: another thing's, as on a cloned card, or one in memory.

use std::process::Output;

use pulsegate_tests::PATIENCE;
use pulsegate_tests::agent_process::{Agent, Device, lane_count};
use pulsegate_tests::inbox::reading;
use pulsegate_tests::site::Site;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Values that the other thing recorded: no value of the device that starts on its store.
const OTHERS: [f64; 3] = [1001.5, 1002.5, 1003.5];

/// A device with the state directory of another thing, which recorded [`OTHERS`] and had no link.
async fn cloned(site: &Site) -> (Device, Device) {
    let identity = site.certs.device("other");
    let other = Device::new("other").identity(&identity.files).broker(1, &site.ca());
    let mut agent = other.started().await;
    store(&agent, &OTHERS).await;
    agent.stop().await;
    let device = site.device().set("", "state_dir", &format!("{:?}", other.state_dir()));
    (other, device)
}

/// Nothing is published under a name that it was not recorded under.
#[tokio::test]
async fn what_another_thing_recorded_is_kept_and_told_and_not_published_under_the_new_name() {
    let site = Site::start().await;
    let (_other, device) = cloned(&site).await;

    let mut agent = device.started().await;
    store(&agent, &[5.5]).await;
    let delivered = |status: &Value| {
        lane_count(status, "readings", "delivered") == 1
            && lane_count(status, "readings", "pending") == 0
    };
    let status = agent.wait_status("its own reading is delivered", PATIENCE, delivered).await;

    site.subscriber.wait_records("/readings", PATIENCE, |records| !records.is_empty()).await;
    assert_eq!(published(&site), [json!(5.5)]);
    let told = "3 readings, 0 events and 0 alerts of thing `other` were not delivered";
    assert!(status["degraded"].to_string().contains(told), "{:#}", status["degraded"]);
    let checked = check(&device);
    assert_eq!(checked.status.code(), Some(0), "a warning is no fault: {checked:?}");
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.contains(told) && checked.contains("warning"), "{checked}");

    // Neither does another start publish them.
    agent.stop().await;
    let mut agent = device.started().await;
    store(&agent, &[6.5]).await;
    agent
        .wait_status("its next reading is delivered", PATIENCE, |status| {
            lane_count(status, "readings", "delivered") == 2
        })
        .await;
    site.subscriber.wait_records("/readings", PATIENCE, |records| records.len() >= 2).await;
    assert_eq!(published(&site), [json!(5.5), json!(6.5)]);
}

/// The loss of a store is told by an event; the store that is begun in its place is no older copy of it.
#[tokio::test]
async fn a_store_that_was_lost_is_not_told_as_one_that_went_back_in_time() {
    let site = Site::start().await;
    let device = site.device().broker(1, &site.ca());
    for _ in 0..2 {
        let mut agent = device.started().await;
        store(&agent, &OTHERS).await;
        agent.stop().await;
    }
    for file in std::fs::read_dir(device.state_dir()).expect("the state directory is read") {
        let path = file.expect("an entry").path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pulsegate.db")) {
            std::fs::remove_file(path).expect("it is removed");
        }
    }

    let mut agent = device.started().await;
    store(&agent, &[5.5]).await;
    let checked = check(&device);
    agent.stop().await;
    let mut agent = device.started().await;
    let status = agent.wait_status("it answers", PATIENCE, |_| true).await;

    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(!checked.contains("went back in time"), "{checked}");
    let degraded = status["degraded"].to_string();
    assert!(!degraded.contains("went back in time"), "{degraded}");
}

#[tokio::test]
async fn a_state_directory_in_memory_is_told_by_check_and_status() {
    let Ok(memory) = TempDir::with_prefix_in("pulsegate-state-", "/dev/shm") else {
        return; // Such a machine has no file system in memory at the usual place.
    };
    let site = Site::start().await;
    let state_dir = memory.path().display().to_string();
    let device = site.device().set("", "state_dir", &format!("{state_dir:?}"));
    let told = format!("`{state_dir}` lies on a tmpfs");

    let mut agent = device.started().await;
    let status = agent.wait_status("it answers", PATIENCE, |_| true).await;
    let checked = check(&device);
    agent.stop().await;

    assert!(status["degraded"].to_string().contains(&told), "{:#}", status["degraded"]);
    assert_eq!(checked.status.code(), Some(0), "a warning is no fault: {checked:?}");
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.contains(&told), "{checked}");
    assert!(checked.contains("put it on a partition that keeps its files"), "{checked}");
}

async fn store(agent: &Agent, values: &[f64]) {
    let lines = values.iter().map(|value| reading("room", "temperature", *value).to_string());
    agent.inbox().await.store(&lines.collect::<Vec<_>>()).await;
}

/// The values of all readings that anybody published, under any name.
fn published(site: &Site) -> Vec<Value> {
    let records = site.subscriber.records("/readings");
    records.iter().map(|record| record["value"].clone()).collect()
}

fn check(device: &Device) -> Output {
    device.run(&["check", "--config", device.config_path().to_str().expect("UTF-8")])
}
