//! The agent's own MQTT client against the stand-in.

use std::time::Duration;

use pulsegate_standin::tls::client_config;
use pulsegate_standin::{Cut, Faults, SessionPresent};
use rumqttc::{AsyncClient, EventLoop, MqttOptions, PublishOptions, Transport};
use tokio::task::JoinSet;

use crate::bed::{Bed, SOON};

fn client(bed: &Bed, thing: &str) -> (AsyncClient, EventLoop) {
    let identity = bed.pki.device(thing).unwrap();
    let tls = client_config(&bed.pki.ca_pem(), Some(&identity), None).unwrap();
    let mut options = MqttOptions::new(thing, ("localhost", bed.broker.port()));
    options
        .set_transport(Transport::tls_with_config(tls.into()))
        .set_clean_session(false)
        .set_inflight(50)
        .set_max_packet_size(150_000, 150_000);
    AsyncClient::builder(options).capacity(10).build()
}

/// Polls for ever, over broken connections too.
fn poll(mut events: EventLoop) -> JoinSet<()> {
    let mut polling = JoinSet::new();
    polling.spawn(async move {
        loop {
            if events.poll().await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await; // its backoff
            }
        }
    });
    polling
}

#[tokio::test]
async fn publishes_and_is_acknowledged_over_mutual_tls() {
    let bed = Bed::new(|_| {}).await;
    let (client, events) = client(&bed, "box");
    let _polling = poll(events);

    let notice = client
        .publish_tracked("pulsegate/box/readings", "[1]", PublishOptions::at_least_once())
        .await
        .unwrap();
    tokio::time::timeout(SOON, notice.wait_completion_async()).await.unwrap().unwrap();

    let acknowledged = bed.journal.acknowledged();
    assert_eq!(acknowledged.len(), 1);
    assert_eq!(&*acknowledged[0].payload, b"[1]");
}

#[tokio::test]
async fn a_hostile_broker_acknowledges_nothing_that_it_did_not_take() {
    for seed in 1..=5 {
        let bed = Bed::new(|options| {
            options.seed = seed;
            options.faults = Faults {
                ack_delay: Duration::ZERO..=Duration::from_millis(5),
                ack_withheld: 0.02,
                session_present: SessionPresent::Random,
                cuts: vec![Cut::AtRandom(0.02)],
                ..Faults::default()
            };
        })
        .await;
        let (client, events) = client(&bed, "box");
        let _polling = poll(events);
        let cutting = async {
            loop {
                // Else the client waits for ever for an acknowledgement that was withheld.
                tokio::time::sleep(Duration::from_millis(200)).await;
                bed.broker.cut();
            }
        };
        let delivered = tokio::time::timeout(SOON, async {
            tokio::select! {
                delivered = publish_all(&client, 200) => delivered,
                () = cutting => Vec::new(),
            }
        });
        let delivered = delivered.await.expect("every publish is settled in the end");

        let acknowledged = bed.journal.acknowledged();
        for payload in &delivered {
            let proven = acknowledged.iter().any(|arrival| arrival.payload == payload[..]);
            assert!(proven, "{payload:?} was never acknowledged\n{}", bed.broker.fault_log());
        }
        assert!(!delivered.is_empty(), "seed {seed}");
    }
}

/// Publishes numbers from 0, and returns those that the client takes as acknowledged.
async fn publish_all(client: &AsyncClient, count: u32) -> Vec<[u8; 4]> {
    let mut waiting = JoinSet::new();
    for number in 0..count {
        let payload = number.to_be_bytes();
        let notice = client
            .publish_tracked("a", payload.to_vec(), PublishOptions::at_least_once())
            .await
            .unwrap();
        waiting.spawn(async move { (payload, notice.wait_completion_async().await) });
    }
    let mut delivered = Vec::new();
    while let Some(settled) = waiting.join_next().await {
        if let (payload, Ok(())) = settled.unwrap() {
            delivered.push(payload);
        }
    }
    delivered
}
