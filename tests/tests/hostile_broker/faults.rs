//! P2, P3, P4: whatever the broker does, nothing counts as delivered that it did not acknowledge,
//! nothing is lost, the accounts balance all the while, and a cut costs at most a window of messages.

use std::time::Duration;

use pulsegate_standin::{Cut, Door, Faults, OnConnect, SessionPresent};
use pulsegate_tests::agent_process::lane_count;
use pulsegate_tests::cloud::Cloud;
use pulsegate_tests::{PATIENCE, eventually};
use rumqttc::mqttbytes::QoS;

use crate::watch::{Watch, repeated_messages};
use crate::{Feeder, SMALL_BATCHES, seeds};

const WINDOW: usize = 16;
/// Fed at once; about six messages.
const PORTION: u64 = 60;
/// Fed at least while the faults last.
const LEAST: u64 = 600;

/// Feeds under `faults` until they have struck `strikes` times, mends the broker, and waits until
/// everything has arrived.
async fn survives(seed: u64, faults: Faults, strikes: usize) {
    let cloud = Cloud::with_faults(seed, faults).await;
    let device = cloud.device().set("publish.readings", "batch", SMALL_BATCHES);
    let mut agent = device.started().await;
    let mut feeder = Feeder::on(&agent, "meter").await;
    let mut watch = Watch::default();

    let under_faults = async {
        while feeder.fed < LEAST || cloud.broker.fault_log().events.len() < strikes {
            feeder.feed(PORTION).await;
            watch.look(&agent, &cloud).await;
        }
    };
    tokio::time::timeout(PATIENCE, under_faults).await.unwrap_or_else(|_| {
        panic!("too few faults struck: {}", cloud.broker.fault_log());
    });
    cloud.broker.set_faults(Faults::default());
    cloud.broker.cut();
    let status = watch.catch_up(&mut agent, &cloud).await;

    assert_eq!(lane_count(&status, "readings", "recorded"), feeder.fed);
    assert_eq!(status["publisher"]["quarantined"], 0, "{}", cloud.broker.fault_log());
    let connections = cloud.broker.connection_records().len();
    assert!(repeated_messages(&cloud) <= connections * WINDOW, "{}", cloud.broker.fault_log());
    assert!(agent.stop().await.success());
}

#[tokio::test]
async fn acknowledgements_in_random_order_settle_the_messages_that_they_name() {
    for seed in seeds(1) {
        let ack_delay = Duration::ZERO..=Duration::from_millis(150);
        survives(seed, Faults { ack_delay, ..Faults::default() }, 0).await;
    }
}

#[tokio::test]
async fn what_is_never_acknowledged_is_sent_again_on_another_connection() {
    let ack_delay = Duration::ZERO..=Duration::from_millis(30);
    let faults = Faults { ack_withheld: 0.05, ack_delay, ..Faults::default() };
    survives(seeds(0)[0], faults, 2).await;
}

#[tokio::test]
async fn a_broker_that_accepts_and_never_answers_is_left() {
    survives(seeds(0)[0], Faults { silent_after: Some(4), ..Faults::default() }, 2).await;
}

#[tokio::test]
async fn connections_cut_after_some_publishes_lose_nothing() {
    for after in [3, 8] {
        let cuts = vec![Cut::AfterPublishes(after)];
        survives(seeds(0)[0], Faults { cuts, ..Faults::default() }, 4).await;
    }
}

#[tokio::test]
async fn connections_cut_amid_a_packet_lose_nothing() {
    for bytes in [2_500, 7_777] {
        let cuts = vec![Cut::AfterBytes(bytes)];
        survives(seeds(0)[0], Faults { cuts, ..Faults::default() }, 3).await;
    }
}

#[tokio::test]
async fn connections_cut_inside_an_acknowledgement_lose_nothing() {
    for after in [2, 6] {
        let cuts = vec![Cut::InsideAck(after)];
        survives(seeds(0)[0], Faults { cuts, ..Faults::default() }, 3).await;
    }
}

#[tokio::test]
async fn a_broker_that_lies_about_the_session_is_not_believed() {
    for seed in seeds(1) {
        let faults = Faults {
            session_present: SessionPresent::Random,
            cuts: vec![Cut::AfterPublishes(10)],
            ..Faults::default()
        };
        survives(seed, faults, 5).await;
    }
}

#[tokio::test]
async fn a_slow_welcome_that_is_cut_soon_loses_nothing() {
    let faults = Faults {
        connack_delay: Duration::from_secs(2),
        cuts: vec![Cut::AfterPublishes(12)],
        ..Faults::default()
    };
    survives(seeds(0)[0], faults, 2).await;
}

#[tokio::test]
async fn refused_ignored_and_closed_connects_lose_nothing() {
    let cloud = Cloud::with_faults(seeds(0)[0], Faults::default()).await;
    let device = cloud.device().set("link", "connect_timeout", "\"1s\"");
    let mut agent = device.started().await;
    let mut feeder = Feeder::on(&agent, "meter").await;
    let mut watch = Watch::default();

    for on_connect in
        [OnConnect::Refuse(5), OnConnect::Refuse(7), OnConnect::Close, OnConnect::Ignore]
    {
        let before = cloud.broker.connection_records().len();
        cloud.broker.set_faults(Faults { on_connect, ..Faults::default() });
        cloud.broker.cut();
        let turned_down = |records: &[_]| records.len() >= before + 2;
        cloud.broker.wait_until(turned_down, PATIENCE).await.expect("it tries again");
        feeder.feed(PORTION).await;
        let status = watch.look(&agent, &cloud).await;
        assert_eq!(status["link"]["state"], "down", "{status:#}");
        assert!(status["link"]["last_error"].is_string(), "{status:#}");
    }
    cloud.broker.set_faults(Faults::default());
    cloud.broker.set_doors(Door::Closed);
    cloud.broker.cut();
    feeder.feed(PORTION).await;
    cloud.broker.set_doors(Door::Open);
    let status = watch.catch_up(&mut agent, &cloud).await;

    assert_eq!(lane_count(&status, "readings", "delivered"), feeder.fed);
}

#[tokio::test]
async fn packets_of_any_size_and_garbage_from_the_broker_do_not_stop_it() {
    let cloud = Cloud::with_faults(seeds(0)[0], Faults::default()).await;
    // With the limits of AWS the agent takes no larger packets than AWS would send.
    let device = cloud.device().set("link", "limits", "\"aws\"").unset("link", "keep_alive");
    let mut agent = device.started().await;
    let mut feeder = Feeder::on(&agent, "meter").await;
    let mut watch = Watch::default();
    let mut random = fastrand::Rng::with_seed(seeds(0)[0]);
    let noise = |random: &mut fastrand::Rng, bytes: usize| -> Vec<u8> {
        (0..bytes).map(|_| random.u8(..)).collect()
    };

    for bytes in [130 * 1024, 200 * 1024, 3 << 20] {
        connected(&cloud).await;
        let payload = noise(&mut random, bytes);
        cloud.broker.deliver(pulsegate_tests::cloud::THING, "a/b", payload, QoS::AtMostOnce);
        feeder.feed(PORTION).await;
        watch.look(&agent, &cloud).await;
    }
    for bytes in [1, 7, 1_000] {
        connected(&cloud).await;
        let garbage = noise(&mut random, bytes);
        cloud.broker.send_raw(pulsegate_tests::cloud::THING, garbage);
        feeder.feed(PORTION).await;
        watch.look(&agent, &cloud).await;
    }
    // Half a packet leaves the agent waiting for the rest.
    cloud.broker.cut();
    let status = watch.catch_up(&mut agent, &cloud).await;

    assert_eq!(lane_count(&status, "readings", "delivered"), feeder.fed);
    assert_eq!(status["publisher"]["quarantined"], 0);
}

#[tokio::test]
async fn a_message_to_the_agent_that_comes_again_and_again_changes_nothing() {
    let faults = Faults { redelivered: 1.0, ..Faults::default() };
    let cloud = Cloud::with_faults(seeds(0)[0], faults).await;
    let device = cloud.device();
    let mut agent = device.started().await;
    let mut feeder = Feeder::on(&agent, "meter").await;
    let mut watch = Watch::default();

    connected(&cloud).await;
    for _ in 0..20 {
        cloud.broker.deliver(pulsegate_tests::cloud::THING, "a/b", "again", QoS::AtLeastOnce);
    }
    feeder.feed(PORTION).await;
    let status = watch.catch_up(&mut agent, &cloud).await;

    assert_eq!(lane_count(&status, "readings", "delivered"), feeder.fed);
    assert_eq!(cloud.broker.connection_records().len(), 1);
}

async fn connected(cloud: &Cloud) {
    let up = async || (cloud.broker.connections() == 1).then_some(());
    eventually("the agent is connected", PATIENCE, up).await;
}
