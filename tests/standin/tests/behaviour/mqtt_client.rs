//! The agent's own MQTT client against the stand-in.

use std::time::Duration;

use pulsegate_standin::journal::Contents;
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
        let mut waiting = JoinSet::new();
        for number in 0..200_u32 {
            let payload = number.to_be_bytes().to_vec();
            let notice = client
                .publish_tracked("a", payload.clone(), PublishOptions::at_least_once())
                .await
                .unwrap();
            waiting.spawn(async move { (payload, notice.wait_completion_async().await) });
        }
        let enough = |seen: &Contents| seen.acknowledged.len() >= 100;
        while bed.journal.wait_until(enough, Duration::from_millis(200)).await.is_err() {
            bed.broker.cut(); // the client waits for ever for an acknowledgement that was withheld
        }
        bed.broker.set_faults(Faults::default());
        bed.broker.cut();

        let settled = async {
            let mut delivered = Vec::new();
            while let Some(settled) = waiting.join_next().await {
                if let (payload, Ok(())) = settled.unwrap() {
                    delivered.push(payload);
                }
            }
            delivered
        };
        let delivered = tokio::time::timeout(SOON, settled).await.expect("notices that settle");

        let acknowledged = bed.journal.acknowledged();
        for payload in &delivered {
            let proven = acknowledged.iter().any(|arrival| arrival.payload == payload[..]);
            assert!(proven, "{payload:?} was never acknowledged\n{}", bed.broker.fault_log());
        }
        assert!(delivered.len() >= 50, "{} of 200, seed {seed}", delivered.len());
    }
}
