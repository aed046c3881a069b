//! P4: the window bounds what is on its way, and `link.repeat` what a crash sends twice. And the end: what is on its
//! way when the agent is told to stop is delivered, and the stop ends in time.

use std::time::{Duration, Instant};

use pulsegate_standin::{Door, Faults, Limits};
use pulsegate_tests::agent_process::lane_count;
use pulsegate_tests::cloud::{Cloud, Tally};
use pulsegate_tests::{PATIENCE, inbox};
use serde_json::Value;

use crate::watch::Watch;
use crate::{Feeder, SMALL_BATCHES, seeds};

const WINDOW: u64 = 16;
/// The default of `link.repeat`.
const DEFAULT_REPEAT: u64 = 2_000;
/// As TimeoutStopSec of the unit says.
const STOP_TIME: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_crash_in_a_drain_sends_no_more_than_the_window_twice() {
    let seed = seeds(0)[0];
    let mut random = fastrand::Rng::with_seed(seed);
    let ack_delay = Duration::ZERO..=Duration::from_millis(20);
    let cloud = Cloud::with_faults(seed, Faults { ack_delay, ..Faults::default() }).await;
    let device = cloud.device().set("publish.readings", "batch", SMALL_BATCHES);
    cloud.broker.set_doors(Door::Closed);
    let mut agent = device.started().await;
    let mut feeder = Feeder::on(&agent, "meter").await;
    feeder.feed(20_000).await;
    cloud.broker.set_doors(Door::Open);

    let mut arrived = Tally::default();
    for kill in 1..=6 {
        let more = cloud.journal.contents().arrivals.len() + random.usize(20..200);
        cloud.wait("the drain goes on", PATIENCE, |seen| seen.arrivals.len() >= more).await;
        agent.sigkill().await;
        agent = device.started().await;
        let contents = cloud.journal.contents();
        arrived.take(&contents.arrivals, "/readings");
        let a_message = arrived.most_in_a_message();
        let duplicates = arrived.duplicates();
        assert!(duplicates <= kill * WINDOW * a_message, "{duplicates} after {kill} kills");
    }
    let status = Watch::default().catch_up(&mut agent, &cloud).await;

    assert_eq!(lane_count(&status, "readings", "recorded"), feeder.fed);
    arrived.take(&cloud.journal.contents().arrivals, "/readings");
    assert_eq!(arrived.unique(), feeder.fed);
    assert!(arrived.duplicates() <= 6 * WINDOW * arrived.most_in_a_message());
}

#[tokio::test]
async fn a_crash_in_a_drain_sends_no_more_than_the_configured_readings_twice() {
    let seed = seeds(0)[0];
    for repeat in [200, DEFAULT_REPEAT] {
        let mut random = fastrand::Rng::with_seed(seed);
        let ack_delay = Duration::ZERO..=Duration::from_millis(20);
        let cloud = Cloud::with_faults(seed, Faults { ack_delay, ..Faults::default() }).await;
        let mut device = cloud.device();
        if repeat != DEFAULT_REPEAT {
            device = device.set("link", "repeat", &repeat.to_string());
        }
        cloud.broker.set_doors(Door::Closed);
        let mut agent = device.started().await;
        let mut feeder = Feeder::on(&agent, "meter").await;
        feeder.feed(20_000).await;
        cloud.broker.set_doors(Door::Open);

        let mut arrived = Tally::default();
        for kill in 1..=2 {
            let more = cloud.journal.contents().arrivals.len() + random.usize(5..30);
            cloud.wait("the drain goes on", PATIENCE, |seen| seen.arrivals.len() >= more).await;
            agent.sigkill().await;
            agent = device.started().await;
            arrived.take(&cloud.journal.contents().arrivals, "/readings");
            let duplicates = arrived.duplicates();
            assert!(duplicates <= kill * repeat, "{duplicates} after {kill} kills, {repeat}");
        }
        Watch::default().catch_up(&mut agent, &cloud).await;

        arrived.take(&cloud.journal.contents().arrivals, "/readings");
        assert_eq!(arrived.unique(), feeder.fed);
        let duplicates = arrived.duplicates();
        assert!(duplicates <= 2 * repeat, "{duplicates} after two kills, {repeat}");
    }
}

#[tokio::test]
async fn a_topic_for_each_of_many_sources_stays_within_the_window() {
    let cloud = Cloud::start(seeds(0)[0], |options| {
        let ack_delay = Duration::from_millis(20)..=Duration::from_millis(60);
        options.faults = Faults { ack_delay, ..Faults::default() };
        options.limits = Limits { in_flight: Some(17), ..Limits::default() };
    })
    .await;
    let topic = "\"pulsegate/{thing}/{source}/readings\"";
    let device = cloud.device().set("publish.readings", "topic", topic);
    let mut agent = device.started().await;
    let mut inbox = agent.inbox().await;
    let mut watch = Watch::default();

    let line = |n: u32| inbox::reading(&format!("s{}", n % 50), "count", f64::from(n)).to_string();
    for portion in 0..4 {
        let lines: Vec<String> = (portion * 100..portion * 100 + 100).map(line).collect();
        assert_eq!(inbox.exchange_all(&lines).await.len(), 100);
        let status = watch.look(&agent, &cloud).await;
        assert!(status["publisher"]["in_flight"].as_u64() <= Some(WINDOW), "{status:#}");
    }
    let status = watch.catch_up(&mut agent, &cloud).await;

    assert_eq!(lane_count(&status, "readings", "delivered"), 400);
    assert_eq!(cloud.broker.connection_records().len(), 1, "{}", cloud.broker.fault_log());
}

/// Sources take turns, and there are five times as many topics as the window has messages.
#[tokio::test]
async fn messages_to_many_topics_fill_up_far_from_the_broker() {
    const SOURCES: u32 = 60;
    const EACH: u32 = 20;
    let cloud = Cloud::start(seeds(0)[0], |options| {
        let ack_delay = Duration::from_millis(200)..=Duration::from_millis(200);
        options.faults = Faults { ack_delay, ..Faults::default() };
        options.limits = Limits { in_flight: Some(17), ..Limits::default() };
    })
    .await;
    let topic = "\"pulsegate/{thing}/{source}/readings\"";
    let device = cloud.device().set("publish.readings", "topic", topic);
    cloud.broker.set_doors(Door::Closed);
    let mut agent = device.started().await;
    let mut inbox = agent.inbox().await;
    let line =
        |n: u32| inbox::reading(&format!("s{}", n % SOURCES), "count", f64::from(n)).to_string();
    let lines: Vec<String> = (0..SOURCES * EACH).map(line).collect();
    assert_eq!(inbox.exchange_all(&lines).await.len(), lines.len());

    cloud.broker.set_doors(Door::Open);
    Watch::default().catch_up(&mut agent, &cloud).await;

    let contents = cloud.journal.contents();
    let of_readings = contents.arrivals.iter().filter(|one| one.topic.ends_with("/readings"));
    let messages = of_readings.count();
    assert!(messages * 5 <= lines.len(), "{messages} messages for {} readings", lines.len());
    assert_eq!(cloud.broker.connection_records().len(), 1, "{}", cloud.broker.fault_log());
}

#[tokio::test]
async fn a_stop_delivers_what_waits_for_company_first() {
    let cloud = Cloud::start(seeds(0)[0], |_| {}).await;
    let device = cloud.device().set("publish.readings", "batch", "{ delay = \"1h\" }").set(
        "buffer",
        "commit_interval",
        "\"60s\"",
    );
    let mut agent = device.started().await;
    agent.wait_status("the link is up", PATIENCE, |s| s["link"]["state"] == "up").await;
    let mut inbox = agent.inbox().await;
    for n in 0..30 {
        assert!(
            inbox.sender.send(&inbox::reading("meter", "count", f64::from(n)).to_string()).await
        );
    }
    let taken_in = |status: &Value| status["drivers"][0]["lines"] == 30;
    agent.wait_status("the readings were taken in", PATIENCE, taken_in).await;

    assert!(agent.stop().await.success());

    let mut answers = 0;
    while inbox.answers.next().await.is_some() {
        answers += 1;
    }
    assert_eq!(answers, 30, "each is answered before the end");
    let mut arrived = Tally::default();
    arrived.take(&cloud.journal.contents().arrivals, "/readings");
    assert_eq!(arrived.unique(), 30);
}

#[tokio::test]
async fn a_stop_under_load_ends_in_time_and_loses_nothing() {
    let cloud = Cloud::start(seeds(0)[0], |_| {}).await;
    let device = cloud.device().set("link", "limits", "\"aws\"").unset("link", "keep_alive");
    cloud.broker.set_doors(Door::Closed);
    let mut agent = device.started().await;
    let mut feeder = Feeder::on(&agent, "meter").await;
    feeder.feed(60_000).await;
    cloud.broker.set_doors(Door::Open);
    agent.wait_status("the link is up", PATIENCE, |s| s["link"]["state"] == "up").await;

    let mut other = agent.inbox().await;
    let load = async {
        let line = inbox::reading("other", "count", 1.0).to_string();
        while other.sender.send(&line).await {
            tokio::task::yield_now().await;
        }
    };
    #[expect(clippy::disallowed_methods, reason = "measures the agent's end")]
    let asked = Instant::now();
    agent.sigterm();
    let (status, ()) = tokio::join!(agent.wait(STOP_TIME), load);
    assert!(status.success() && asked.elapsed() < STOP_TIME);

    let device = device.set("link", "limits", "\"none\"");
    let mut agent = device.started().await;
    let status = Watch::default().catch_up(&mut agent, &cloud).await;
    assert!(lane_count(&status, "readings", "recorded") >= feeder.fed);
}
