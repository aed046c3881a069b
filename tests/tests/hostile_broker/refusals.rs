//! P5: a broker that refuses a topic, or messages of some size: what it refuses waits, is told, and is
//! delivered once it is allowed; everything else goes on.

use std::time::Duration;

use pulsegate_standin::{Faults, Policy};
use pulsegate_tests::agent_process::lane_count;
use pulsegate_tests::cloud::{Cloud, Tally};
use pulsegate_tests::mosquitto::Options;
use pulsegate_tests::site::{Site, THING};
use pulsegate_tests::{PATIENCE, inbox};
use serde_json::Value;

use crate::watch::Watch;
use crate::{Feeder, SMALL_BATCHES, seeds};

const SECRET: &str = "pulsegate/box/secret";
/// Readings of the refused topic.
const SECRETS: u64 = 100;
/// The agent's window, and the readings in a message of the size that the tests set.
const MOST_TWICE: u64 = 16 * 20;
/// The longest pause between two trials, and a busy machine.
const LONG: Duration = Duration::from_secs(120);

fn is_withheld(topic: &'static str) -> impl FnMut(&Value) -> bool {
    move |status| {
        let withheld = status["withheld"].as_array();
        withheld.is_some_and(|all| all.iter().any(|one| one["topic"] == topic))
    }
}

fn secrets(count: u64) -> Vec<String> {
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let line = |n: u64| inbox::reading("meter", "secret", n as f64).to_string();
    (0..count).map(line).collect()
}

#[tokio::test]
async fn a_forbidden_topic_waits_through_a_restart_and_is_delivered_once_it_is_allowed() {
    let allowed = ["readings", "events", "alerts", "status"].map(|t| format!("pulsegate/box/{t}"));
    let policy = Policy::publish_only(&allowed.each_ref().map(String::as_str));
    let cloud = Cloud::start(seeds(0)[0], |options| options.policy = policy).await;
    let device = cloud.device().set("publish.readings", "batch", SMALL_BATCHES).set(
        "publish.secret",
        "topic",
        "\"pulsegate/{thing}/secret\"",
    );
    let mut agent = device.started().await;
    let mut feeder = Feeder::on(&agent, "meter").await;
    let mut watch = Watch::default();
    let mut inbox = agent.inbox().await;
    for portion in secrets(SECRETS).chunks(5) {
        feeder.feed(20).await;
        assert_eq!(inbox.exchange_all(portion).await.len(), portion.len());
    }
    let mut arrived = Tally::default();
    let fed = feeder.fed;
    cloud
        .wait("every other reading arrives", PATIENCE, |contents| {
            arrived.take(&contents.arrivals, "/readings");
            arrived.unique() == fed
        })
        .await;
    let status = agent.wait_status("it is told", PATIENCE, is_withheld(SECRET)).await;
    assert!(status["degraded"].to_string().contains(SECRET), "{status:#}");
    let settled = |status: &Value| lane_count(status, "readings", "pending") == SECRETS;
    agent.wait_status("nothing else waits", PATIENCE, settled).await;

    agent.sigkill().await;
    let mut agent = device.started().await;
    let mut feeder = Feeder { inbox: agent.inbox().await, source: "meter", fed };
    feeder.feed(200).await;
    let fed = feeder.fed;
    cloud
        .wait("the others go on", PATIENCE, |contents| {
            arrived.take(&contents.arrivals, "/readings");
            arrived.unique() == fed
        })
        .await;
    assert!(arrived.duplicates() <= MOST_TWICE, "{} came twice", arrived.duplicates());
    let status = watch.look(&agent, &cloud).await;
    assert_eq!(lane_count(&status, "readings", "dropped"), 0, "{status:#}");

    cloud.broker.set_policy(Policy::open());
    let all = |status: &Value| lane_count(status, "readings", "delivered") == fed + SECRETS;
    let status = agent.wait_status("all is delivered", LONG, all).await;
    assert_eq!(status["lanes"]["readings"]["balanced"], true, "{status:#}");
    assert_eq!(lane_count(&status, "readings", "pending"), 0);
    let mut secret = Tally::default();
    secret.take(&cloud.journal.contents().arrivals, "/secret");
    assert_eq!(secret.unique(), SECRETS);
    let free = |status: &Value| status["withheld"].as_array().is_some_and(Vec::is_empty);
    agent.wait_status("nothing is withheld", PATIENCE, free).await;
    assert!(agent.stop().await.success());
}

/// Mosquitto before 2.0.12 acknowledges a publish that its list forbids, and hangs up then.
#[tokio::test]
async fn a_broker_that_acknowledges_what_it_forbids_is_not_believed() {
    let topics = ["pulsegate/box/readings", "pulsegate/box/events"];
    let options = Options::default().thing_writing(THING, &topics);
    let site = Site::start_with(options).await;
    let device = site.device().set("publish.secret", "topic", "\"pulsegate/{thing}/secret\"");
    let mut agent = device.started().await;
    let mut inbox = agent.inbox().await;
    let lines = secrets(20);
    assert_eq!(inbox.exchange_all(&lines).await.len(), lines.len());
    let mut feeder = Feeder::on(&agent, "meter").await;
    feeder.feed(50).await;

    site.subscriber.wait_records("/readings", PATIENCE, |records| records.len() >= 50).await;
    let both =
        |status: &Value| is_withheld(SECRET)(status) && is_withheld("pulsegate/box/status")(status);
    let status = agent.wait_status("both are told", PATIENCE, both).await;

    assert_eq!(lane_count(&status, "readings", "dropped"), 0);
    let pending = |status: &Value| {
        lane_count(status, "readings", "pending") == 20
            && lane_count(status, "readings", "delivered") == 50
    };
    agent.wait_status("what was forbidden is pending", PATIENCE, pending).await;
}

#[tokio::test]
async fn a_broker_that_takes_small_messages_only_gets_the_whole_backlog() {
    const BACKLOG: u64 = 3_000;
    let options = Options::default().thing(THING).line("max_packet_size 4000");
    let site = Site::start_with(options).await;
    let mut site = site;
    site.broker.stop().await;
    let device = site.device().set("publish.readings", "batch", "{ bytes = \"100KiB\" }");
    let mut agent = device.started().await;
    let mut feeder = Feeder::on(&agent, "meter").await;
    feeder.feed(BACKLOG).await;

    site.broker.start_again().await;

    let all = |status: &Value| lane_count(status, "readings", "delivered") == BACKLOG;
    let status = agent.wait_status("all is delivered", LONG, all).await;
    assert_eq!(lane_count(&status, "readings", "dropped"), 0);
    let bytes = status["publisher"]["max_message_bytes"].as_u64();
    assert!(bytes.is_some_and(|bytes| bytes < 4_000), "{status:#}");
    assert!(status["degraded"].to_string().contains("smaller ones"), "{status:#}");
}

/// A path that resets whatever is sent.
#[tokio::test]
async fn connections_that_live_for_two_seconds_condemn_nothing() {
    const CUTS: u32 = 8;
    let ack_delay = Duration::from_millis(500)..=Duration::from_millis(500);
    let cloud = Cloud::with_faults(seeds(0)[0], Faults { ack_delay, ..Faults::default() }).await;
    let device = cloud.device().set("publish.readings", "batch", SMALL_BATCHES);
    let mut agent = device.started().await;
    let mut feeder = Feeder::on(&agent, "meter").await;
    let mut watch = Watch::default();

    for _ in 0..CUTS {
        let up = |status: &Value| status["link"]["state"] == "up";
        agent.wait_status("it is connected", PATIENCE, up).await;
        let mut interval = tokio::time::interval(Duration::from_millis(100));
        for _ in 0..20 {
            interval.tick().await;
            feeder.feed(5).await;
        }
        cloud.broker.cut();
    }
    let status = watch.catch_up(&mut agent, &cloud).await;

    assert_eq!(status["publisher"]["quarantined"], 0, "{status:#}");
    assert_eq!(lane_count(&status, "readings", "delivered"), feeder.fed);
}

/// Acknowledgements take longer than the greeting is waited for.
#[tokio::test]
async fn a_greeting_that_is_acknowledged_late_is_no_refusal_when_the_connection_ends() {
    const CUTS: u64 = 4;
    let ack_delay = Duration::from_secs(3)..=Duration::from_secs(3);
    let cloud = Cloud::with_faults(seeds(0)[0], Faults { ack_delay, ..Faults::default() }).await;
    let device = cloud.device().set("publish.readings", "batch", SMALL_BATCHES);
    let mut agent = device.started().await;
    let mut feeder = Feeder::on(&agent, "meter").await;

    for _ in 0..CUTS {
        feeder.feed(1).await;
        let fed = feeder.fed;
        let arrived = |status: &Value| lane_count(status, "readings", "delivered") == fed;
        agent.wait_status("the reading is delivered", PATIENCE, arrived).await;
        cloud.broker.cut();
        let down = |status: &Value| status["link"]["state"] == "down";
        let status = agent.wait_status("the link is down", PATIENCE, down).await;
        assert!(!is_withheld("pulsegate/box/status")(&status), "{status:#}");
    }
}
