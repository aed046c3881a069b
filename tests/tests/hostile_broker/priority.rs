//! P6: alerts first, at the pace that AWS allows.

use std::time::Duration;

use pulsegate_standin::{Arrival, Door, Faults, Limits};
use pulsegate_tests::agent_process::lane_count;
use pulsegate_tests::cloud::Cloud;
use pulsegate_tests::{PATIENCE, inbox};

use crate::{Feeder, seeds};

const BACKLOG: u64 = 100_000;
const SECOND: Duration = Duration::from_secs(1);

const RULE: &str = r#"
[[rule]]
name  = "heart rate out of range"
on    = "heart_rate"
above = 120
then  = ["alert"]
"#;

#[tokio::test]
async fn a_backlog_delays_no_alert_and_keeps_to_the_limits_of_aws() {
    let ack_delay = Duration::from_millis(20)..=Duration::from_millis(80);
    let cloud = Cloud::start(seeds(0)[0], |options| {
        options.faults = Faults { ack_delay, ..Faults::default() };
        // The window, and the thing's word that it is online: one more ends the connection.
        options.limits = Limits { in_flight: Some(17), ..Limits::default() };
    })
    .await;
    // The largest messages that fit: whoever counts only what went before sends too much.
    let device = cloud
        .device()
        .set("link", "limits", "\"aws\"")
        .unset("link", "keep_alive")
        .set("publish.readings", "batch", "{ bytes = \"125KiB\" }")
        .with(RULE);
    cloud.broker.set_doors(Door::Closed);
    let mut agent = device.started().await;
    let mut feeder = Feeder::on(&agent, "meter").await;
    feeder.feed(BACKLOG).await;

    cloud.broker.set_doors(Door::Open);
    let draining = |arrivals: &[Arrival]| {
        arrivals.iter().filter(|arrival| arrival.topic.ends_with("/readings")).count() >= 10
    };
    cloud.wait("the backlog drains", PATIENCE, |seen| draining(&seen.arrivals)).await;
    for bpm in [150, 70, 160, 70] {
        let seen = cloud.journal.contents().arrivals.len();
        let line = inbox::reading("7", "heart_rate", f64::from(bpm));
        let mut inbox = agent.inbox().await;
        inbox.exchange(&line).await.expect("an answer");
        let alert = |arrival: &Arrival| arrival.topic.ends_with("/alerts");
        let told = |arrivals: &[Arrival]| arrivals[seen..].iter().any(alert);
        cloud.wait("the alert arrives", PATIENCE, |seen| told(&seen.arrivals)).await;
    }

    // The backlog, which takes longer than four alerts that wait their turn, is the clock: a busy machine delays both.
    let status = agent.wait_status("it answers", PATIENCE, |_| true).await;
    assert!(lane_count(&status, "readings", "pending") > BACKLOG / 10, "{status:#}");
    assert_eq!(cloud.broker.connection_records().len(), 1, "{}", cloud.broker.fault_log());
    keeps_the_pace(&cloud.journal.contents().arrivals);
}

/// The pace lets one message of readings go in a second, and ten are in hand at once.
#[tokio::test]
async fn an_alert_overtakes_the_readings_that_wait_for_the_pace() {
    let cloud = Cloud::with_faults(seeds(0)[0], Faults::default()).await;
    let device = cloud
        .device()
        .set("link", "limits", "\"aws\"")
        .unset("link", "keep_alive")
        .set("link", "bytes_per_second", "\"5KiB\"")
        .set("publish.readings", "topic", "\"pulsegate/{thing}/{source}/readings\"")
        .set("publish.readings", "batch", "{ bytes = \"5KiB\", delay = \"1h\" }")
        .with(RULE);
    let agent = device.started().await;
    let mut inbox = agent.inbox().await;
    let line = |n: u32| inbox::reading(&format!("s{}", n % 10), "count", f64::from(n)).to_string();
    let lines: Vec<String> = (0..2_000).map(line).collect();
    assert_eq!(inbox.exchange_all(&lines).await.len(), lines.len());
    let readings = |arrivals: &[Arrival]| {
        arrivals.iter().filter(|arrival| arrival.topic.ends_with("/readings")).count()
    };
    cloud.wait("the backlog drains", PATIENCE, |seen| readings(&seen.arrivals) >= 1).await;

    inbox.exchange(&inbox::reading("7", "heart_rate", 150.0)).await.expect("an answer");
    let before = readings(&cloud.journal.contents().arrivals);
    let alert = |arrival: &Arrival| arrival.topic.ends_with("/alerts");
    cloud.wait("the alert arrives", PATIENCE, |seen| seen.arrivals.iter().any(alert)).await;

    let arrivals = cloud.journal.contents().arrivals;
    let at = arrivals.iter().position(alert).expect("it has arrived");
    let overtook = readings(&arrivals[..at]) - before;
    assert!(overtook <= 3, "{overtook} messages of readings went before the alert");
}

/// In any second, not only those of a clock.
fn keeps_the_pace(arrivals: &[Arrival]) {
    let mut first = 0;
    let mut bytes = 0;
    for (last, arrival) in arrivals.iter().enumerate() {
        bytes += arrival.payload.len();
        while arrival.at - arrivals[first].at >= SECOND {
            bytes -= arrivals[first].payload.len();
            first += 1;
        }
        assert!(last - first < 100, "{} messages in the second to {:?}", last - first, arrival.at);
        assert!(bytes <= 512 * 1024, "{bytes} bytes in the second to {:?}", arrival.at);
    }
}
