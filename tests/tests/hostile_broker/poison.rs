//! P5: the link survives any message, and nothing is condemned for what others did.

use std::time::Duration;

use pulsegate_standin::faults::Poison;
use pulsegate_standin::{Cut, Faults, Policy};
use pulsegate_tests::PATIENCE;
use pulsegate_tests::agent_process::lane_count;
use pulsegate_tests::cloud::{Cloud, Tally};
use serde_json::Value;

use crate::watch::{Watch, gaps};
use crate::{Feeder, SMALL_BATCHES, seeds};

#[tokio::test]
async fn a_message_that_the_broker_hangs_up_on_becomes_a_gap_and_the_rest_goes_on() {
    quarantine_one_record("array").await;
}

#[tokio::test]
async fn a_reading_in_columns_that_the_broker_hangs_up_on_becomes_a_gap_of_its_own() {
    quarantine_one_record("columns").await;
}

async fn quarantine_one_record(format: &str) {
    let poison = vec![Poison::Payload("cursed".into())];
    let cloud = Cloud::with_faults(seeds(0)[0], Faults { poison, ..Faults::default() }).await;
    let device = cloud.device().set("publish.readings", "batch", SMALL_BATCHES);
    let device = device.set("publish.readings", "format", &format!("{format:?}"));
    let mut agent = device.started().await;
    let mut feeder = Feeder::on(&agent, "meter").await;
    let mut cursed = Feeder::on(&agent, "cursed").await;
    let mut watch = Watch::default();

    feeder.feed(100).await;
    let cursed = cursed.feed(1).await.remove(0);
    feeder.feed(100).await;
    let quarantined = |status: &Value| status["publisher"]["quarantined"] == 1;
    agent.wait_status("the message is quarantined", PATIENCE, quarantined).await;
    feeder.feed(100).await;
    let status = watch.catch_up(&mut agent, &cloud).await;

    let gaps = gaps(&cloud);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let gap = &gaps[0];
    assert_eq!((&gap["lane"], &gap["reason"]), (&"readings".into(), &"quarantine".into()), "{gap}");
    assert_eq!(gap["topic"], "pulsegate/box/readings", "{gap}");
    assert!(gap["start"].is_string() && gap["end"].is_string(), "{gap}");
    let place = |id: &Value| id.as_str().and_then(|id| id.rsplit_once('-')?.1.parse::<u64>().ok());
    assert!(place(&gap["first"]) <= place(&cursed.as_str().into()), "{gap}, not {cursed}");
    assert!(place(&gap["last"]) >= place(&cursed.as_str().into()), "{gap}, not {cursed}");

    let dropped = lane_count(&status, "readings", "dropped");
    assert_eq!(gap["count"], dropped, "{gap}");
    let mut arrived = Tally::default();
    arrived.take(&cloud.journal.contents().arrivals, "/readings");
    assert_eq!(arrived.unique() + dropped, feeder.fed + 1);
    assert!(arrived.get(&cursed).is_none());
    assert_eq!(dropped, 1, "only the record itself");
    // Three in company, some to find the record among its neighbours, and three alone.
    assert!(cloud.cuts() <= 16, "{}", cloud.broker.fault_log());
}

#[tokio::test]
async fn a_topic_is_tried_again_and_is_free_once_it_is_allowed() {
    let policy = Policy::publish_only(&["pulsegate/box/status"]);
    let cloud = Cloud::start(seeds(0)[0], |options| options.policy = policy).await;
    let device = cloud.device().set("publish.readings", "batch", SMALL_BATCHES);
    let mut agent = device.started().await;
    let mut feeder = Feeder::on(&agent, "meter").await;
    let mut watch = Watch::default();

    feeder.feed(200).await;
    let tried = |records: &[_]| records.len() >= 8;
    cloud.broker.wait_until(tried, PATIENCE).await.expect("it tries again");
    let status = watch.look(&agent, &cloud).await;
    assert_eq!(status["publisher"]["quarantined"], 0, "where nothing passes, nothing is condemned");
    cloud.broker.set_policy(Policy::open());
    let status = watch.catch_up(&mut agent, &cloud).await;

    assert_eq!(lane_count(&status, "readings", "delivered"), feeder.fed);
}

#[tokio::test]
async fn a_thing_that_may_not_say_how_it_is_delivers_its_readings() {
    let policy = Policy::publish_only(&["pulsegate/box/readings"]);
    let cloud = Cloud::start(seeds(0)[0], |options| options.policy = policy).await;
    let device = cloud.device();
    let mut agent = device.started().await;
    let mut feeder = Feeder::on(&agent, "meter").await;
    let mut watch = Watch::default();

    feeder.feed(50).await;
    let status = watch.catch_up(&mut agent, &cloud).await;

    assert_eq!(lane_count(&status, "readings", "delivered"), feeder.fed);
}

#[tokio::test]
async fn a_thing_whose_first_connections_die_says_that_it_is_online_all_the_same() {
    let cuts = vec![Cut::AfterPublishes(1)];
    let cloud = Cloud::with_faults(seeds(0)[0], Faults { cuts, ..Faults::default() }).await;
    let _agent = cloud.device().started().await;
    let died = |records: &[_]| records.len() >= 4;
    cloud.broker.wait_until(died, PATIENCE).await.expect("it tries again");

    cloud.broker.set_faults(Faults::default());
    cloud
        .wait("it says so", PATIENCE, |seen| {
            let online = seen.arrivals.iter().filter(|arrival| arrival.topic.ends_with("/status"));
            online.clone().any(|arrival| {
                seen.acknowledged.contains(&arrival.number) && arrival.retain && !arrival.will
            })
        })
        .await;
}

#[tokio::test]
async fn cuts_at_any_moment_condemn_no_message() {
    let seed = seeds(0)[0];
    let mut random = fastrand::Rng::with_seed(seed);
    let ack_delay = Duration::ZERO..=Duration::from_millis(40);
    let cloud = Cloud::with_faults(seed, Faults { ack_delay, ..Faults::default() }).await;
    let device = cloud.device().set("publish.readings", "batch", SMALL_BATCHES);
    let mut agent = device.started().await;
    let mut feeder = Feeder::on(&agent, "meter").await;
    let mut watch = Watch::default();

    let mut cuts = 0;
    while cuts < 8 {
        feeder.feed(random.u64(1..80)).await;
        watch.look(&agent, &cloud).await;
        if cloud.broker.connections() == 1 && random.bool() {
            cloud.broker.cut();
            cuts += 1;
        }
    }
    let status = watch.catch_up(&mut agent, &cloud).await;

    assert_eq!(status["publisher"]["quarantined"], 0, "{status:#}");
    assert_eq!(lane_count(&status, "readings", "delivered"), feeder.fed);
}

#[tokio::test]
async fn a_broker_that_cuts_at_every_fiftieth_publish_costs_next_to_nothing() {
    let (mut cuts, mut quarantined) = (0, 0);
    for seed in seeds(2) {
        let faults = Faults { cuts: vec![Cut::AtRandom(0.02)], ..Faults::default() };
        let cloud = Cloud::with_faults(seed, faults).await;
        let device = cloud.device().set("publish.readings", "batch", SMALL_BATCHES);
        let mut agent = device.started().await;
        let mut feeder = Feeder::on(&agent, "meter").await;
        let mut watch = Watch::default();

        while cloud.cuts() < 5 {
            feeder.feed(100).await;
            watch.look(&agent, &cloud).await;
        }
        cloud.broker.set_faults(Faults::default());
        let status = watch.catch_up(&mut agent, &cloud).await;

        let dropped = lane_count(&status, "readings", "dropped");
        let told: u64 = gaps(&cloud).iter().filter_map(|gap| gap["count"].as_u64()).sum();
        assert_eq!(dropped, told);
        cuts += cloud.cuts();
        quarantined += status["publisher"]["quarantined"].as_u64().expect("a count");
    }
    assert!(quarantined * 5 <= cuts as u64, "{quarantined} condemned in {cuts} cuts");
}
