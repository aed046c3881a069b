//! A clock that is not set, P8: what a device without a clock chip and without network time does.
//! That of this machine cannot be changed; `auto` finds nobody here who vouches for it, unless it
//! has a clock chip, and then there is nothing to see.

use std::path::Path;

use pulsegate_tests::PATIENCE;
use pulsegate_tests::agent_process::lane_count;
use pulsegate_tests::date;
use pulsegate_tests::inbox::reading;
use pulsegate_tests::site::Site;
use serde_json::{Value, json};

const RULE: &str = "[[rule]]\nname = \"open\"\non = \"lid\"\nis = \"open\"\n";

#[tokio::test]
async fn alerts_go_at_once_and_flagged_while_readings_wait_for_the_clock() {
    let site = Site::start().await;
    let device = site.device().set("clock", "trust", "\"auto\"").with(RULE);
    let mut agent = device.started().await;
    agent.wait_status("the link is up", PATIENCE, |status| status["link"]["state"] == "up").await;
    let status = agent.status().await.expect("it answers");
    if status["clock"]["set"] == true {
        assert!(vouched_for(), "nobody vouches for this clock: {status:#}");
        return;
    }
    assert!(status["degraded"].to_string().contains("the clock is not set"), "{status:#}");

    let open = json!({ "source": "feeder", "kind": "lid", "value": "open" }).to_string();
    let own = json!({ "source": "a", "kind": "n", "value": 1, "time": date::at("10:00:00") });
    let lines = [open, own.to_string(), reading("b", "n", 1.0).to_string()];
    agent.inbox().await.store(&lines).await;
    let one = |alerts: &[Value]| !alerts.is_empty();
    let alerts = site.subscriber.wait_records("/alerts", PATIENCE, one).await;

    assert_eq!(alerts[0]["clock"], "unset");
    let status = agent.status().await.expect("it answers");
    assert!(status["link"]["for_s"].as_u64() < Some(50), "too slow to tell: {status:#}");
    assert_eq!(lane_count(&status, "readings", "pending"), 3, "they wait for the right time");

    // A stop does not wait: what is sent then is flagged, but for the time that came with it.
    agent.stop().await;
    let all = |records: &[Value]| records.len() >= 3;
    let records = site.subscriber.wait_records("/readings", PATIENCE, all).await;
    let flags: Vec<&Value> = records.iter().map(|record| &record["clock"]).collect();
    assert_eq!(flags, [&json!("unset"), &Value::Null, &json!("unset")]);
    assert_eq!(records[1]["time"], date::at("10:00:00.000"));
}

/// A restart in which the clock is set corrects what was taken before, in the same kernel start.
#[tokio::test]
async fn readings_from_before_the_clock_was_set_are_published_with_the_right_time() {
    let mut site = Site::start().await;
    let device = site.device().set("clock", "trust", "\"auto\"");
    site.broker.stop().await;
    let mut agent = device.started().await;
    agent.inbox().await.store(&[reading("a", "n", 1.0).to_string()]).await;
    agent.stop().await;

    site.broker.start_again().await;
    let device = device.set("clock", "trust", "\"system\"");
    let _agent = device.started().await;
    let one = |records: &[Value]| !records.is_empty();
    let records = site.subscriber.wait_records("/readings", PATIENCE, one).await;

    assert_eq!(records[0]["clock"], Value::Null, "the clock is set by now: {}", records[0]);
}

/// Whether somebody says that the clock is right.
fn vouched_for() -> bool {
    let asked = std::process::Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .output();
    Path::new("/sys/class/rtc/rtc0").exists()
        || Path::new("/run/systemd/timesync/synchronized").exists()
        || asked.is_ok_and(|output| output.stdout.starts_with(b"yes"))
}
