//! Subscriptions, deliveries, wills, takeovers, and what outlives a connection.

use std::time::Duration;

use pulsegate_standin::End;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{LastWill, Packet};

use crate::bed::{Bed, SOON, publish};

#[tokio::test]
async fn a_listener_hears_what_it_subscribed_to_and_nothing_else() {
    let bed = Bed::new(|_| {}).await;
    let (mut listener, _) = bed.connect("listener").await;
    listener.listen("pulsegate/+/readings").await;
    let (mut device, _) = bed.connect("box").await;

    device.publish(1, "pulsegate/box/events", b"no").await;
    device.publish(2, "pulsegate/box/readings", b"yes").await;

    let heard = listener.expect_message().await;
    assert_eq!((&*heard.topic, &*heard.payload), (&b"pulsegate/box/readings"[..], &b"yes"[..]));
    assert_eq!((heard.qos, heard.dup, heard.retain), (QoS::AtLeastOnce, false, false));
    listener.acknowledge(&heard).await;
    assert_eq!(device.expect_acks(2).await, [1, 2]);
}

#[tokio::test]
async fn a_will_is_delivered_when_the_connection_breaks() {
    let bed = Bed::new(|_| {}).await;
    let (mut listener, _) = bed.connect("listener").await;
    listener.listen("status").await;
    let will = LastWill::new("status", "gone", QoS::AtLeastOnce, false);
    let (device, _) = bed.connect_as("box", |connect| connect.last_will = Some(will)).await;

    drop(device);

    assert_eq!(&*listener.expect_message().await.payload, b"gone");
    assert_eq!(bed.end(1).await, End::PeerClosed);
    let connects = bed.broker.connects();
    assert_eq!(connects[1].will.as_ref().map(|will| &*will.topic), Some("status"));
    assert!(bed.journal.contents().arrivals[0].will);
}

#[tokio::test]
async fn a_will_is_forgotten_at_a_disconnect() {
    let bed = Bed::new(|_| {}).await;
    let will = LastWill::new("status", "gone", QoS::AtLeastOnce, false);
    let (mut device, _) = bed.connect_as("box", |connect| connect.last_will = Some(will)).await;

    device.send(Packet::Disconnect).await;

    assert_eq!(bed.end(0).await, End::Disconnect);
    assert!(bed.journal.contents().arrivals.is_empty());
}

#[tokio::test]
async fn a_newcomer_of_the_same_name_takes_over() {
    let bed = Bed::new(|_| {}).await;
    let (mut older, _) = bed.connect("box").await;
    older.listen("orders").await;

    let (mut newer, connack) = bed.connect("box").await;

    assert!(connack.session_present);
    assert_eq!(older.next().await, None);
    assert_eq!(bed.end(0).await, End::TakenOver);
    bed.broker.publish("orders", "still subscribed");
    assert_eq!(&*newer.expect_message().await.payload, b"still subscribed");
    assert_eq!(bed.broker.connections(), 1);
}

#[tokio::test]
async fn a_session_keeps_qos_1_messages_for_the_absent() {
    let bed = Bed::new(|_| {}).await;
    let (mut device, connack) = bed.connect("box").await;
    assert!(!connack.session_present);
    device.listen("orders").await;
    bed.broker.publish("orders", "first");
    let unacknowledged = device.expect_message().await;
    drop(device);
    bed.end(0).await;
    bed.broker.publish("orders", "second");

    let (mut device, connack) = bed.connect("box").await;

    assert!(connack.session_present);
    let again = device.expect_message().await;
    assert_eq!(&*again.payload, b"first");
    assert!(!again.dup && again.pkid != unacknowledged.pkid);
    assert_eq!(&*device.expect_message().await.payload, b"second");
}

#[tokio::test]
async fn a_clean_session_ends_with_its_connection_and_with_the_next() {
    let bed = Bed::new(|_| {}).await;
    let (mut device, _) = bed.connect("box").await;
    device.listen("orders").await;
    drop(device);
    bed.end(0).await;

    let (clean, connack) = bed.connect_as("box", |connect| connect.clean_session = true).await;
    assert!(!connack.session_present);
    drop(clean);
    bed.end(1).await;

    let (_device, connack) = bed.connect("box").await;
    assert!(!connack.session_present);
}

#[tokio::test]
async fn a_session_can_be_forgotten() {
    let bed = Bed::new(|_| {}).await;
    drop(bed.connect("box").await);
    bed.end(0).await;

    bed.broker.forget_sessions();

    assert!(!bed.connect("box").await.1.session_present);
}

#[tokio::test]
async fn a_session_expires() {
    let bed = Bed::new(|options| options.limits.session_expiry = Duration::ZERO).await;
    drop(bed.connect("box").await);
    bed.end(0).await;

    assert!(!bed.connect("box").await.1.session_present);
}

#[tokio::test]
async fn at_most_a_hundred_messages_are_in_flight_to_a_client() {
    let bed = Bed::new(|_| {}).await;
    let (mut device, _) = bed.connect("box").await;
    device.listen("orders").await;
    for _ in 0..101 {
        bed.broker.publish("orders", "go");
    }
    let mut received = Vec::new();
    for _ in 0..100 {
        received.push(device.expect_message().await);
    }
    device.send(Packet::PingReq).await;
    assert_eq!(device.next().await, Some(Packet::PingResp));

    device.acknowledge(&received[0]).await;

    assert_eq!(&*device.expect_message().await.payload, b"go");
}

#[tokio::test]
async fn a_retained_message_waits_for_its_own_topic_only() {
    let bed = Bed::new(|_| {}).await;
    let (mut device, _) = bed.connect("box").await;
    let mut retained = publish(1, "status", b"online");
    retained.retain = true;
    device.send(Packet::Publish(retained)).await;
    device.expect_acks(1).await;

    device.listen("+").await; // a later wildcard is not sent it
    device.subscribe(&["status"]).await;
    let mut answers = [device.next().await, device.next().await];
    answers.sort_by_key(|answer| matches!(answer, Some(Packet::Publish(_))));

    let [Some(Packet::SubAck(_)), Some(Packet::Publish(message))] = &answers else {
        panic!("{answers:?}")
    };
    assert!(message.retain);
    assert_eq!(&*message.payload, b"online");
}

#[tokio::test]
async fn the_records_show_every_attempt_in_order() {
    let bed = Bed::new(|_| {}).await;
    drop(bed.connect_as("box", |connect| connect.keep_alive = 30).await);
    bed.end(0).await;
    drop(bed.connect("box").await);
    bed.broker.wait_until(|records| records.len() == 2, SOON).await.unwrap();

    let records = bed.broker.connection_records();

    assert!(records[0].at <= records[1].at);
    let connect = records[0].connect.as_ref().unwrap();
    assert_eq!(
        (connect.client.as_str(), connect.keep_alive, connect.clean_session),
        ("box", 30, true)
    );
    assert_eq!(connect.session_present, Some(false));
}
