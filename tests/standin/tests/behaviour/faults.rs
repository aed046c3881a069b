//! The faults strike as asked for, repeat with their seed, and the account of acknowledgements is exact.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use pulsegate_standin::faults::Poison;
use pulsegate_standin::{Cut, End, Faults, OnConnect, SessionPresent};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::Packet;

use crate::bed::{Bed, Client, SOON};

async fn bed_with(faults: Faults) -> Bed {
    Bed::new(|options| {
        options.seed = 7;
        options.faults = faults;
    })
    .await
}

async fn publish_many(client: &mut Client, count: u16) {
    for id in 1..=count {
        client.publish(id, "a", &id.to_be_bytes()).await;
    }
}

/// The packet ids that the broker says it acknowledged.
fn on_record(bed: &Bed) -> HashSet<u16> {
    bed.journal.acknowledged().iter().map(|arrival| arrival.packet_id).collect()
}

#[tokio::test]
async fn acknowledgements_come_shuffled_but_all() {
    let ack_delay = Duration::ZERO..=Duration::from_millis(50);
    let bed = bed_with(Faults { ack_delay, ..Faults::default() }).await;
    let (mut client, _) = bed.connect("box").await;

    publish_many(&mut client, 50).await;

    let acks = client.expect_acks(50).await;
    assert!(!acks.is_sorted(), "seed 7 drew 50 ordered delays");
    assert_eq!(acks.iter().copied().collect::<HashSet<_>>(), on_record(&bed));
}

#[tokio::test]
async fn acknowledgements_come_after_their_delay_and_in_order() {
    let delay = Duration::from_millis(300);
    let bed = bed_with(Faults { ack_delay: delay..=delay, ..Faults::default() }).await;
    let (mut client, _) = bed.connect("box").await;
    let before = tokio::time::Instant::now();

    publish_many(&mut client, 20).await;

    assert_eq!(client.expect_acks(20).await, (1..=20).collect::<Vec<_>>());
    assert!(before.elapsed() >= delay);
}

#[tokio::test]
async fn withheld_acknowledgements_never_come_and_are_not_on_record() {
    let bed = bed_with(Faults { ack_withheld: 0.5, ..Faults::default() }).await;
    let (mut client, _) = bed.connect("box").await;
    publish_many(&mut client, 50).await;
    client.send(Packet::PingReq).await;

    let mut acks = HashSet::new();
    while let Some(Packet::PubAck(ack)) = client.next().await {
        acks.insert(ack.pkid);
    }

    assert_eq!(bed.journal.contents().arrivals.len(), 50);
    assert_eq!(acks, on_record(&bed));
    assert_eq!(bed.broker.fault_log().events.len(), 50 - acks.len());
    assert!((10..40).contains(&acks.len()), "{}", acks.len());
}

#[tokio::test]
async fn the_same_seed_withholds_the_same_ones() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let bed = bed_with(Faults { ack_withheld: 0.5, ..Faults::default() }).await;
        let (mut client, _) = bed.connect("box").await;
        publish_many(&mut client, 50).await;
        bed.journal.wait_until(|seen| seen.arrivals.len() == 50, SOON).await.unwrap();
        let log = bed.broker.fault_log();
        runs.push(log.events.into_iter().map(|event| event.what).collect::<Vec<_>>());
    }

    assert_eq!(runs[0], runs[1]);
}

#[tokio::test]
async fn connack_lies_about_the_session() {
    let bed =
        bed_with(Faults { session_present: SessionPresent::Always, ..Faults::default() }).await;
    assert!(bed.connect("box").await.1.session_present);
    let clean = bed.connect_as("box", |connect| connect.clean_session = true).await;
    assert!(!clean.1.session_present, "MQTT lets nobody claim a session that was not asked for");

    bed.broker.set_faults(Faults { session_present: SessionPresent::Never, ..Faults::default() });
    drop(bed.connect("other").await);
    assert!(!bed.connect("other").await.1.session_present);

    bed.broker.set_faults(Faults { session_present: SessionPresent::Random, ..Faults::default() });
    let mut claims = HashSet::new();
    for _ in 0..32 {
        claims.insert(bed.connect("box").await.1.session_present);
    }
    assert_eq!(claims.len(), 2);
}

#[tokio::test]
async fn a_cut_after_publishes_leaves_the_last_one_taken_but_not_acknowledged() {
    let bed = bed_with(Faults { cuts: vec![Cut::AfterPublishes(3)], ..Faults::default() }).await;
    let (mut client, _) = bed.connect("box").await;

    for id in 1..=2 {
        client.publish(id, "a", b"").await;
        client.expect_acks(1).await;
    }
    client.publish(3, "a", b"").await;

    assert_eq!(client.next().await, None);
    assert_eq!(bed.journal.contents().arrivals.len(), 3);
    assert_eq!(on_record(&bed), HashSet::from([1, 2]));
}

#[tokio::test]
async fn a_cut_amid_a_publish_leaves_no_trace_of_it() {
    let bed = bed_with(Faults { cuts: vec![Cut::AfterBytes(50_000)], ..Faults::default() }).await;
    let (mut client, _) = bed.connect("box").await;

    client.publish(1, "a", &[0; 30_000]).await;
    client.publish(2, "a", &[0; 30_000]).await;

    while client.next().await.is_some() {}
    assert_eq!(bed.end(0).await, End::Fault("cut after bytes"));
    assert_eq!(bed.journal.contents().arrivals.len(), 1);
}

#[tokio::test]
async fn a_cut_inside_an_acknowledgement_sends_half_of_it() {
    let bed = bed_with(Faults { cuts: vec![Cut::InsideAck(1)], ..Faults::default() }).await;
    let (mut client, _) = bed.connect("box").await;

    publish_many(&mut client, 2).await;

    assert_eq!(client.expect_acks(1).await, [1]);
    assert_eq!(client.next().await, None);
    assert_eq!(client.torn(), [0x40, 0x02]);
    assert_eq!(on_record(&bed), HashSet::from([1]));
}

#[tokio::test]
async fn random_cuts_lose_some_and_take_others_without_acknowledging() {
    let bed = bed_with(Faults { cuts: vec![Cut::AtRandom(0.2)], ..Faults::default() }).await;
    let mut acknowledged = 0;
    for _ in 0..40 {
        let (mut client, _) = bed.connect("box").await;
        for id in 1.. {
            client.publish(id, "a", b"").await;
            match client.next().await {
                Some(Packet::PubAck(ack)) if ack.pkid == id => acknowledged += 1,
                None => break,
                other => panic!("{other:?}"),
            }
        }
    }

    let arrived = bed.journal.contents().arrivals.len();
    assert_eq!(bed.journal.acknowledged().len(), acknowledged, "{}", bed.broker.fault_log());
    assert!(arrived > acknowledged && arrived < acknowledged + 40, "{arrived} {acknowledged}");
}

#[tokio::test]
async fn a_poisonous_message_costs_the_connection_each_time() {
    let poison =
        vec![Poison::Topic("*/bad".to_owned()), Poison::Payload(Bytes::from_static(b"venom"))];
    let bed = bed_with(Faults { poison, ..Faults::default() }).await;

    for (topic, payload) in [("a/bad", &b"x"[..]), ("a/good", b"some venom here")] {
        let (mut client, _) = bed.connect("box").await;
        client.publish(1, "a/good", b"x").await;
        client.expect_acks(1).await;
        client.publish(2, topic, payload).await;
        assert_eq!(client.next().await, None);
    }

    assert_eq!(bed.journal.contents().arrivals.len(), 2);
}

#[tokio::test]
async fn a_connect_is_ignored_or_dropped() {
    let bed = bed_with(Faults { on_connect: OnConnect::Close, ..Faults::default() }).await;
    assert_eq!(bed.knock("box", |_| {}).await.next().await, None);

    bed.broker.set_faults(Faults { on_connect: OnConnect::Ignore, ..Faults::default() });
    let client = bed.knock("box", |_| {}).await;
    let ignored = |log: &pulsegate_standin::faults::FaultLog| {
        log.events.iter().any(|event| event.what.contains("ignored"))
    };
    bed.broker.wait_until(|_| ignored(&bed.broker.fault_log()), SOON).await.unwrap();
    assert_eq!(bed.broker.connections(), 0);
    assert!(bed.broker.connection_records()[1].ended.is_none());
    drop(client);
}

#[tokio::test]
async fn connack_comes_late_and_before_anything_else() {
    let delay = Duration::from_millis(300);
    let bed = Bed::new(|_| {}).await;
    let (mut client, _) = bed.connect("box").await;
    client.listen("orders").await;
    drop(client);
    bed.end(0).await;
    for _ in 0..300 {
        bed.broker.publish("orders", "waiting");
    }
    bed.broker.set_faults(Faults { connack_delay: delay, ..Faults::default() });
    let before = tokio::time::Instant::now();

    let (mut client, connack) = bed.connect("box").await;

    assert!(before.elapsed() >= delay);
    assert!(connack.session_present);
    assert_eq!(&*client.expect_message().await.payload, b"waiting");
}

#[tokio::test]
async fn a_message_is_delivered_again_under_a_new_id() {
    let bed = bed_with(Faults { redelivered: 1.0, ..Faults::default() }).await;
    let (mut client, _) = bed.connect("box").await;
    client.listen("orders").await;

    bed.broker.publish("orders", "once");

    let (first, second) = (client.expect_message().await, client.expect_message().await);
    assert_eq!(first.payload, second.payload);
    assert_ne!(first.pkid, second.pkid);
    client.send(Packet::PingReq).await;
    assert_eq!(client.next().await, Some(Packet::PingResp));
}

#[tokio::test]
async fn an_oversize_message_is_sent_to_a_client() {
    let bed = Bed::new(|_| {}).await;
    let (mut client, _) = bed.connect("box").await;

    for bytes in [130 * 1024, 200 * 1024] {
        assert!(bed.broker.deliver("box", "jobs", vec![0; bytes], QoS::AtLeastOnce));
        assert_eq!(client.expect_message().await.payload.len(), bytes);
    }
    assert!(!bed.broker.deliver("nobody", "jobs", "", QoS::AtLeastOnce));
}

#[tokio::test]
async fn a_silent_connection_stays_open_and_dead_until_it_is_cut() {
    let bed = bed_with(Faults { silent_after: Some(2), ..Faults::default() }).await;
    let (mut client, _) = bed.connect("box").await;
    client.publish(1, "a", b"").await;
    client.expect_acks(1).await;

    client.publish(2, "a", b"").await;
    client.publish(3, "a", b"").await;
    bed.journal.wait_until(|seen| seen.arrivals.len() == 2, SOON).await.unwrap();
    client.send(Packet::PingReq).await;
    let quiet = tokio::time::timeout(Duration::from_millis(200), client.next()).await;

    assert!(quiet.is_err(), "{quiet:?}");
    assert_eq!(bed.broker.connections(), 1);
    bed.broker.cut();
    assert_eq!(client.next().await, None);
    assert_eq!(bed.end(0).await, End::Cut);
    assert_eq!(bed.journal.contents().arrivals.len(), 2);
}

#[tokio::test]
async fn connections_fall_silent_and_are_cut_on_command() {
    let bed = Bed::new(|_| {}).await;
    let (mut one, _) = bed.connect("one").await;
    let (mut two, _) = bed.connect("two").await;

    assert!(bed.broker.cut_client("one"));
    assert_eq!(one.next().await, None);
    assert!(!bed.broker.cut_client("one"));

    bed.broker.fall_silent();
    two.send(Packet::PingReq).await;
    assert!(tokio::time::timeout(Duration::from_millis(200), two.next()).await.is_err());
}
