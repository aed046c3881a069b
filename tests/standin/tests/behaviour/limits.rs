//! Each limit of the service ends the connection of whoever breaks it.

use std::time::Duration;

use pulsegate_standin::{End, Limits, Policy, Violation};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{ConnectReturnCode, Packet, SubscribeReasonCode};

use crate::bed::{Bed, Client, publish};

async fn connected(limits: Limits) -> (Bed, Client) {
    let bed = Bed::new(|options| options.limits = limits).await;
    let (client, _) = bed.connect("box").await;
    (bed, client)
}

async fn assert_closed(bed: &Bed, mut client: Client, violation: Violation) {
    assert_eq!(client.next().await, None);
    assert_eq!(bed.end(0).await, End::Violated(violation));
}

#[tokio::test]
async fn a_payload_over_128_kib_closes() {
    let (bed, mut client) = connected(Limits::default()).await;
    client.publish(1, "a", &vec![0; 131_072]).await;
    assert_eq!(client.expect_acks(1).await, [1]);

    client.publish(2, "a", &vec![0; 131_073]).await;

    assert_closed(&bed, client, Violation::Payload(131_073)).await;
}

#[tokio::test]
async fn a_packet_far_too_large_closes_before_it_is_read() {
    let (bed, mut client) = connected(Limits::default()).await;

    client.send_bytes(&[0x32, 0xFF, 0xFF, 0xFF, 0x7F]).await;

    assert_closed(&bed, client, Violation::Payload(268_435_455)).await;
}

#[tokio::test]
async fn a_topic_too_long_or_too_deep_closes() {
    let (bed, mut client) = connected(Limits::default()).await;
    client.publish(1, &"t".repeat(257), b"").await;
    assert_closed(&bed, client, Violation::TopicLength(257)).await;

    let (bed, mut client) = connected(Limits::default()).await;
    client.publish(1, "a/b/c/d/e/f/g/h/i", b"").await;
    assert_closed(&bed, client, Violation::TopicDepth(8)).await;
}

#[tokio::test]
async fn qos_2_closes_and_is_not_granted() {
    let (bed, mut client) = connected(Limits::default()).await;
    let mut subscribe = rumqttc::mqttbytes::v4::Subscribe::new("a", QoS::ExactlyOnce);
    subscribe.pkid = 1;
    client.send(Packet::Subscribe(subscribe)).await;
    let answer = client.next().await;
    let Some(Packet::SubAck(suback)) = answer else { panic!("{answer:?}") };
    assert_eq!(suback.return_codes, [SubscribeReasonCode::Failure]);

    let mut message = publish(2, "a", b"");
    message.qos = QoS::ExactlyOnce;
    client.send(Packet::Publish(message)).await;

    assert_closed(&bed, client, Violation::QosTwo).await;
}

#[tokio::test]
async fn a_ninth_filter_in_one_subscribe_closes() {
    let (bed, mut client) = connected(Limits::default()).await;
    client.subscribe(&["1", "2", "3", "4", "5", "6", "7", "8"]).await;
    assert!(matches!(client.next().await, Some(Packet::SubAck(_))));

    client.subscribe(&["1", "2", "3", "4", "5", "6", "7", "8", "9"]).await;

    assert_closed(&bed, client, Violation::Filters(9)).await;
}

#[tokio::test]
async fn a_fifty_first_subscription_closes() {
    let (bed, mut client) = connected(Limits::default()).await;
    for number in 0..50 {
        client.listen(&number.to_string()).await;
    }
    client.listen("49").await; // again: still fifty

    client.subscribe(&["fifty-first"]).await;

    assert_closed(&bed, client, Violation::Subscriptions(51)).await;
}

#[tokio::test]
async fn more_than_a_hundred_in_flight_closes() {
    let (bed, mut client) = connected(Limits::default()).await;
    bed.broker.set_faults(pulsegate_standin::Faults { ack_withheld: 1.0, ..Default::default() });
    for id in 1..=101 {
        client.publish(id, "a", b"").await;
    }

    assert_closed(&bed, client, Violation::InFlight(100)).await;
    assert_eq!(bed.journal.contents().arrivals.len(), 100);
    assert!(bed.journal.acknowledged().is_empty());
}

#[tokio::test]
async fn a_forbidden_topic_closes_and_the_allowed_ones_do_not() {
    let bed = Bed::new(|options| {
        options.policy = Policy::publish_only(&["pulsegate/${iot:Connection.Thing.ThingName}/*"]);
    })
    .await;
    let (mut client, _) = bed.connect("box").await;
    client.publish(1, "pulsegate/box/readings", b"").await;
    assert_eq!(client.expect_acks(1).await, [1]);
    client.listen("$aws/things/box/jobs/notify").await;

    client.publish(2, "pulsegate/other/readings", b"").await;

    let subject = "pulsegate/other/readings".to_owned();
    assert_closed(&bed, client, Violation::Forbidden { action: "publish to", subject }).await;
}

#[tokio::test]
async fn a_forbidden_filter_closes() {
    let bed = Bed::new(|options| options.policy = Policy::publish_only(&["*"])).await;
    let (mut client, _) = bed.connect("box").await;

    client.subscribe(&["#"]).await;

    let subject = "#".to_owned();
    assert_closed(&bed, client, Violation::Forbidden { action: "subscribe to", subject }).await;
}

#[tokio::test]
async fn the_services_own_topics_are_closed() {
    let (bed, mut client) = connected(Limits::default()).await;
    client.publish(1, "$aws/rules/ingest/box", b"").await;
    assert_eq!(client.expect_acks(1).await, [1]);
    let mut retained = publish(2, "$aws/things/box/shadow/update", b"");
    retained.retain = true;
    client.send(Packet::Publish(retained)).await;
    assert_closed(&bed, client, Violation::RetainReserved).await;

    let (bed, mut client) = connected(Limits::default()).await;
    client.publish(1, "$SYS/broker", b"").await;
    let subject = "$SYS/broker".to_owned();
    assert_closed(&bed, client, Violation::Forbidden { action: "publish to", subject }).await;
}

#[tokio::test]
async fn a_second_connect_within_a_second_closes_when_asked_for() {
    let limits = Limits { one_connect_a_second: true, ..Limits::default() };
    let (bed, _client) = connected(limits).await;

    let mut second = bed.knock("box", |_| {}).await;

    assert_eq!(second.next().await, None);
    assert_eq!(bed.end(1).await, End::Violated(Violation::ConnectRate));
    assert_eq!(bed.broker.connections(), 1);
}

#[tokio::test]
async fn publishes_over_the_rate_are_dropped_without_an_answer_when_asked_for() {
    let limits = Limits { publishes_a_second: Some(10), ..Limits::default() };
    let (bed, mut client) = connected(limits).await;
    for id in 1..=30 {
        client.publish(id, "a", b"").await;
    }
    client.send(Packet::PingReq).await;

    let mut acks = 0;
    while !matches!(client.next().await, Some(Packet::PingResp)) {
        acks += 1;
    }

    assert!(acks <= 20, "{acks} of 30 in at most two seconds of ten");
    assert_eq!(bed.journal.contents().arrivals.len(), acks);
}

#[tokio::test]
async fn silence_beyond_the_keep_alive_closes() {
    let limits = Limits { keep_alive: Some(1..=2), ..Limits::default() };
    let bed = Bed::new(|options| options.limits = limits).await;
    let (mut client, _) = bed.connect_as("box", |connect| connect.keep_alive = 0).await;

    assert_eq!(client.next().await, None);

    assert_eq!(bed.end(0).await, End::KeepAlive);
    let ended = bed.broker.connection_records()[0].ended.clone().unwrap().0;
    assert!(ended >= Duration::from_secs(3), "{ended:?}");
}

#[tokio::test]
async fn bytes_that_are_not_mqtt_close() {
    let (bed, mut client) = connected(Limits::default()).await;
    client.send_bytes(&[0xF3, 0x02, 0x00, 0x00]).await;

    assert_eq!(client.next().await, None);
    assert!(matches!(bed.end(0).await, End::Violated(Violation::Protocol(_))));
}

#[tokio::test]
async fn a_refusal_is_a_code_or_a_bare_close() {
    let bed = Bed::new(|_| {}).await;
    bed.broker.refuse(5);
    let (mut client, connack) = bed.connect("box").await;
    assert_eq!(connack.code, ConnectReturnCode::NotAuthorized);
    assert_eq!(client.next().await, None);
    assert_eq!(bed.end(0).await, End::Refused(5));

    bed.broker.refuse(7);
    let mut client = bed.knock("box", |_| {}).await;
    assert_eq!(client.next().await, None); // the codec does not know 7
    assert_eq!(client.torn(), [] as [u8; 0]);
    assert_eq!(bed.end(1).await, End::Refused(7));

    let bed = Bed::new(|options| {
        options.refusal = None;
        options.policy = Policy::publish_only(&[]);
        options.limits.client_id_is_common_name = false;
    })
    .await;
    bed.broker.set_policy(Policy::from_json(r#"{"Statement":[]}"#).unwrap());
    let mut client = bed.knock("box", |_| {}).await;
    assert_eq!(client.next().await, None);
    assert!(matches!(bed.end(0).await, End::Violated(Violation::Forbidden { .. })));
}
