//! P6 on a slow link: an alert waits for one message, and a slow link is no dead one.

use pulsegate_standin::{Arrival, Door, Faults};
use pulsegate_tests::agent_process::lane_count;
use pulsegate_tests::cloud::{Cloud, Tally};
use pulsegate_tests::link::Link;
use pulsegate_tests::{PATIENCE, inbox};

use crate::watch::Watch;
use crate::{Feeder, seeds};

const RULE: &str = r#"
[[rule]]
name  = "heart rate out of range"
on    = "heart_rate"
above = 120
then  = ["alert"]
"#;
/// A message of 20 KiB takes more than a second.
const SLOW: u64 = 16 * 1024;
const BACKLOG: u64 = 2_000;

/// Without a limit of bytes, the whole backlog is on its way at once.
#[tokio::test]
async fn an_alert_waits_for_one_message_on_a_slow_link() {
    let cloud = Cloud::with_faults(seeds(0)[0], Faults::default()).await;
    let link = Link::to(cloud.broker.port()).await;
    let device = cloud.device_at(link.port()).set("link", "ack_timeout", "\"5s\"").with(RULE);
    cloud.broker.set_doors(Door::Closed);
    let mut agent = device.started().await;
    let mut feeder = Feeder::on(&agent, "meter").await;
    feeder.feed(BACKLOG).await;
    link.slow_down(SLOW);
    cloud.broker.set_doors(Door::Open);
    let readings = |arrivals: &[Arrival]| {
        let is_reading = |arrival: &&Arrival| arrival.topic.ends_with("/readings");
        arrivals.iter().filter(is_reading).map(|arrival| arrival.payload.len()).collect::<Vec<_>>()
    };
    cloud.wait("the backlog drains", PATIENCE, |seen| readings(&seen.arrivals).len() >= 2).await;
    let connections = link.connections();

    let mut inbox = agent.inbox().await;
    inbox.exchange(&inbox::reading("7", "heart_rate", 150.0)).await.expect("an answer");
    let before_alert = readings(&cloud.journal.contents().arrivals).len();
    let alert = |arrival: &Arrival| arrival.topic.ends_with("/alerts");
    cloud.wait("the alert arrives", PATIENCE, |seen| seen.arrivals.iter().any(alert)).await;

    let arrivals = cloud.journal.contents().arrivals;
    let at = arrivals.iter().position(alert).expect("it has arrived");
    let overtook = readings(&arrivals[..at]).split_off(before_alert);
    assert!(overtook.len() <= 1, "messages of {overtook:?} bytes went before the alert");
    let mut arrived = Tally::default();
    arrived.take(&arrivals[..at], "/readings");
    assert!(arrived.unique() < BACKLOG, "the backlog was gone before the alert");
    let status = Watch::default().catch_up(&mut agent, &cloud).await;
    assert_eq!(lane_count(&status, "readings", "delivered"), BACKLOG + 1);
    assert_eq!(link.connections(), connections, "{}", cloud.broker.fault_log());
}

/// The message takes longer than the broker has to answer.
#[tokio::test]
async fn a_message_that_takes_long_on_a_slow_link_ends_no_connection() {
    let cloud = Cloud::with_faults(seeds(0)[0], Faults::default()).await;
    let link = Link::to(cloud.broker.port()).await;
    let device = cloud
        .device_at(link.port())
        .set("link", "ack_timeout", "\"5s\"")
        .set("link", "keep_alive", "\"60s\"")
        .set("publish.readings", "batch", "{ bytes = \"120KiB\" }");
    cloud.broker.set_doors(Door::Closed);
    let mut agent = device.started().await;
    let mut feeder = Feeder::on(&agent, "meter").await;
    feeder.feed(1_000).await;
    link.slow_down(SLOW);
    cloud.broker.set_doors(Door::Open);
    agent.wait_status("the link is up", PATIENCE, |s| s["link"]["state"] == "up").await;
    let connections = link.connections();

    Watch::default().catch_up(&mut agent, &cloud).await;

    let contents = cloud.journal.contents();
    let largest = contents.arrivals.iter().map(|arrival| arrival.payload.len() as u64).max();
    assert!(largest > Some(6 * SLOW), "{largest:?}: not longer than the broker has");
    assert_eq!(link.connections(), connections, "{}", cloud.broker.fault_log());
}
