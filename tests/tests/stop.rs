//! Stops: TL-1 of the acceptance scenarios, and what the thing says of itself on its status topic.

use std::time::Duration;

use pulsegate_tests::agent_process::lane_count;
use pulsegate_tests::date;
use pulsegate_tests::inbox::heart_rate;
use pulsegate_tests::link::Link;
use pulsegate_tests::site::Site;
use pulsegate_tests::subscriber::Subscriber;
use pulsegate_tests::{PATIENCE, records};
use serde_json::Value;

/// The unit's TimeoutStopSec.
const STOP: Duration = Duration::from_secs(20);

/// TL-1, P1, P2, P3: without a link.
#[tokio::test]
async fn five_hundred_unsent_readings_survive_a_stop_and_arrive_after_it() {
    let mut site = Site::start().await;
    let device = site.device();
    site.broker.stop().await;
    let mut agent = device.started().await;
    let ids = agent.inbox().await.store(&five_hundred()).await;

    agent.sigterm();
    let status = agent.wait(STOP).await;
    assert!(status.success(), "{status}");

    let mut agent = device.started().await;
    let status = agent.status().await.expect("it answers");
    assert_eq!(lane_count(&status, "readings", "recorded"), 500);
    assert_eq!(lane_count(&status, "readings", "pending"), 500);
    site.broker.start_again().await;
    let records = site.subscriber.wait_records("/readings", PATIENCE, |all| all.len() >= 500).await;
    assert_eq!(sequences(&records), ids);
    let status = agent.wait_status("all is delivered", PATIENCE, delivered(500)).await;
    assert_eq!(lane_count(&status, "readings", "dropped"), 0);
}

/// TL-1: with a link, what waited for company is sent before the goodbye.
#[tokio::test]
async fn a_stop_sends_what_is_left_and_marks_it_delivered() {
    let site = Site::start().await;
    let device = site.device().set("publish.readings", "batch", "{ delay = \"1h\" }");
    let mut agent = device.started().await;
    agent.wait_status("the link is up", PATIENCE, |status| status["link"]["state"] == "up").await;
    let few = &five_hundred()[..50]; // less than a batch
    let ids = agent.inbox().await.store(few).await;
    assert!(site.subscriber.records("/readings").is_empty());

    let status = agent.stop().await;
    assert!(status.success(), "{status}");

    let records = site.subscriber.wait_records("/readings", PATIENCE, |all| !all.is_empty()).await;
    assert_eq!(sequences(&records), ids);
    let mut agent = device.started().await;
    agent.wait_status("it was marked", PATIENCE, delivered(50)).await;
    agent.stop().await;
    assert_eq!(site.subscriber.records("/readings").len(), 50, "nothing was sent twice");
}

/// TL-1, in the middle of a delivery over a link that takes everything and answers nothing.
#[tokio::test]
async fn a_stop_over_a_frozen_link_ends_in_time_and_loses_nothing() {
    let site = Site::start().await;
    let link = Link::to(site.broker.port()).await;
    let device = site.device_on(link.port());
    let mut agent = device.started().await;
    agent.wait_status("the link is up", PATIENCE, |status| status["link"]["state"] == "up").await;
    link.freeze();
    let ids = agent.inbox().await.store(&five_hundred()).await;

    agent.sigterm();
    let status = agent.wait(STOP).await;
    assert!(status.success(), "{status}");

    link.mend();
    let mut agent = device.started().await;
    let status = agent.wait_status("all is delivered", PATIENCE, delivered(500)).await;
    assert_eq!(lane_count(&status, "readings", "recorded"), 500);
    let records = site.subscriber.records("/readings");
    let unique = records::sequences(&records);
    assert!(ids.iter().all(|id| unique.contains(id.as_str())), "one is lost");
}

#[tokio::test]
async fn the_thing_says_that_it_is_online_and_offline() {
    let site = Site::start().await;
    let device = site.device();

    let mut agent = device.started().await;
    said(&site.subscriber, &["online"]).await;
    agent.stop().await;

    said(&site.subscriber, &["online", "offline"]).await;
}

#[tokio::test]
async fn a_subscriber_that_comes_later_hears_the_last_status() {
    let site = Site::start().await;
    let device = site.device();

    let mut agent = device.started().await;
    said(&site.subscriber, &["online"]).await;
    said(&site.broker.subscribe("#").await, &["online"]).await;
    agent.sigkill().await;
    said(&site.subscriber, &["online", "lost"]).await;

    said(&site.broker.subscribe("#").await, &["lost"]).await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test's file need not be durable")]
async fn a_reload_that_changes_the_link_says_goodbye_instead_of_leaving_a_will() {
    let site = Site::start().await;
    let device = site.device();
    let mut agent = device.started().await;
    said(&site.subscriber, &["online"]).await;

    let path = device.config_path();
    let text = std::fs::read_to_string(&path).expect("it was written");
    std::fs::write(&path, text.replace("[link]", "[link]\nkeep_alive = \"50s\"")).expect("a file");
    agent.sighup();

    said(&site.subscriber, &["online", "offline", "online"]).await;
}

#[tokio::test]
async fn the_broker_says_of_a_killed_thing_that_it_is_lost() {
    let site = Site::start().await;
    let device = site.device();

    let mut agent = device.started().await;
    said(&site.subscriber, &["online"]).await;
    agent.sigkill().await;

    said(&site.subscriber, &["online", "lost"]).await;
}

/// What was accepted without an answer, as drivers do, is committed by a stop too.
#[tokio::test]
async fn the_last_reading_of_a_driver_is_not_lost_in_a_stop() {
    let mut site = Site::start().await;
    site.broker.stop().await;
    let device = site
        .device()
        .set("buffer", "commit_interval", "\"60s\"")
        .with("[[simulated]]\nid = \"7\"\nkind = \"heart_rate\"\nevery = \"10ms\"\n");
    let mut agent = device.started().await;
    let taken = |status: &Value| status["sources"][0]["readings"].as_u64() >= Some(50);
    let status = agent.wait_status("fifty readings", PATIENCE, taken).await;
    let measured = status["sources"][0]["readings"].as_u64().expect("a number");
    agent.stop().await;

    let output = device.run(&[
        "readings",
        "--json",
        "-n",
        "100000",
        "--config",
        device.config_path().to_str().unwrap(),
    ]);

    let kept = String::from_utf8_lossy(&output.stdout).lines().count();
    assert!(kept as u64 >= measured, "{kept} of {measured}");
}

fn five_hundred() -> Vec<String> {
    (0..500).map(|second| heart_rate("7", 72.0, date::ten() + second * 1_000)).collect()
}

fn delivered(count: u64) -> impl FnMut(&Value) -> bool {
    move |status| lane_count(status, "readings", "delivered") == count
}

fn sequences(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["seq"].as_str().expect("a seq")).collect()
}

/// Waits until the thing was said to be just this, in order.
async fn said(subscriber: &Subscriber, states: &[&str]) {
    let found = |all: &[Value]| all.len() >= states.len();
    let records = subscriber.wait_records("/status", PATIENCE, found).await;
    let said: Vec<&str> = records.iter().filter_map(|record| record["status"].as_str()).collect();
    assert_eq!(said, states);
}
