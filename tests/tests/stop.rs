//! Stops: TL-1 of the acceptance scenarios, and what the thing says of itself on its status topic.

use std::path::Path;
use std::time::Duration;

use pulsegate_tests::agent_process::{Device, lane_count};
use pulsegate_tests::date;
use pulsegate_tests::inbox::heart_rate;
use pulsegate_tests::link::Link;
use pulsegate_tests::site::Site;
use pulsegate_tests::subscriber::Subscriber;
use pulsegate_tests::{PATIENCE, eventually, records};
use serde_json::Value;

/// The unit's TimeoutStopSec.
const STOP: Duration = Duration::from_secs(20);
/// Within this an agent without work ends, also on a machine that is busy: far less than a salvage.
const SIGNAL_OBEYED: Duration = Duration::from_secs(10);

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

/// A stop has an order: the measuring ends, everything is committed, inbox clients are answered, the rest is sent, and
/// the thing says goodbye.
#[tokio::test]
async fn a_stop_commits_answers_and_sends_before_it_says_goodbye() {
    let site = Site::start().await;
    let device = site
        .device()
        .set("buffer", "commit_interval", "\"60s\"")
        .set("publish.readings", "batch", "{ delay = \"1h\" }")
        .with("[[simulated]]\nid = \"7\"\nkind = \"heart_rate\"\nevery = \"10ms\"\n");
    let mut agent = device.started().await;
    said(&site.subscriber, &["online"]).await;
    let mut inbox = agent.inbox().await;
    assert!(inbox.sender.send(&heart_rate("8", 72.0, date::ten())).await);
    let taken = |status: &Value| {
        let driver = |name: &str| {
            let drivers = status["drivers"].as_array().expect("drivers");
            drivers.iter().find(|driver| driver["driver"] == name).cloned().unwrap_or_default()
        };
        driver("inbox")["lines"] == 1 && status["sources"][0]["readings"].as_u64() >= Some(50)
    };
    agent.wait_status("the line and fifty readings", PATIENCE, taken).await;

    agent.sigterm();
    let answer = inbox.answers.next().await.expect("an answer before the inbox ends");
    let status = agent.wait(STOP).await;

    assert!(status.success(), "{status}");
    said(&site.subscriber, &["online", "offline"]).await;
    let messages = site.subscriber.messages();
    assert!(messages.last().expect("some").topic.ends_with("/status"), "the goodbye is the last");
    let published = site.subscriber.records("/readings");
    let published = records::sequences(&published);
    assert!(published.contains(answer["id"].as_str().expect("an id")), "{answer}");
    let config = device.config_path();
    let output =
        device.run(&["readings", "--json", "-n", "100000", "--config", config.to_str().unwrap()]);
    let kept: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(published, records::sequences(&kept), "all that was kept was sent");
}

/// Carrying a damaged store over takes minutes for a large one, for which neither a start nor a stop waits (A18).
#[tokio::test]
async fn a_stop_in_the_middle_of_carrying_over_a_damaged_store_is_obeyed_at_once() {
    let mut site = Site::start().await;
    site.broker.stop().await;
    let device = site.device();
    let mut agent = device.started().await;
    agent.inbox().await.store(&five_hundred()[..1]).await;
    agent.stop().await;
    let readings = damage_large_store(&device.state_dir().join("pulsegate.db"));
    let begun = || exists(&device, "pulsegate.db.salvage").then_some(());

    let mut agent = device.start();
    eventually("it is carried over", PATIENCE, async || begun()).await;
    agent.sigterm();
    let status = agent.wait(SIGNAL_OBEYED).await;

    assert!(status.success(), "{status}");
    assert!(exists(&device, "pulsegate.db.salvage"), "it was stopped in the middle");
    let mut agent = device.start();
    let all = |status: &Value| lane_count(status, "readings", "pending") == readings;
    let carried_over = async || {
        // One that did not wait for the salvage ends when the new store is there, and systemd starts it anew.
        if agent.exited().is_some() {
            agent = device.start();
        }
        agent.status().await.filter(all).map(drop)
    };
    eventually("all is carried over", 2 * PATIENCE, carried_over).await;
    assert!(agent.stop().await.success());
}

fn exists(device: &Device, file: &str) -> bool {
    device.state_dir().join(file).exists()
}

/// Fills a store with so many readings that carrying them over takes seconds, and takes the account of
/// a lane away. Returns the number of readings.
fn damage_large_store(path: &Path) -> u64 {
    let store = rusqlite::Connection::open(path).expect("a store");
    store
        .execute_batch(
            "INSERT INTO readings
                 WITH RECURSIVE more(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM more WHERE n < 400000)
                 SELECT last.seq + n, source, mono_ms, value, time_ms, detail FROM more,
                     (SELECT * FROM readings ORDER BY seq DESC LIMIT 1) AS last;
             DELETE FROM accounts WHERE lane = 1;",
        )
        .expect("a store that takes readings");
    let count = "SELECT count(*) FROM readings";
    store.query_row(count, [], |row| row.get(0)).expect("a number")
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
