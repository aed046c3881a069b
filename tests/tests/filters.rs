//! What the cloud sees of the readings, while the device keeps them all: P3 with filters, and SO-2.

use std::path::PathBuf;

use pulsegate_tests::agent_process::{Agent, Device, lane_count};
use pulsegate_tests::date;
use pulsegate_tests::site::Site;
use pulsegate_tests::{PATIENCE, choose_seed};
use serde_json::{Value, json};

fn number(source: &str, value: f64, second: i64) -> String {
    let time = date::ten() + second * 1_000;
    json!({ "source": source, "kind": "air", "value": value, "time": time }).to_string()
}

/// Once everything is settled: the account of the readings, which must balance.
async fn settled(agent: &mut Agent, recorded: u64) -> Value {
    let done = |status: &Value| {
        lane_count(status, "readings", "recorded") == recorded
            && lane_count(status, "readings", "pending") == 0
    };
    let mut agent_status = agent.wait_status("nothing is pending", PATIENCE, done).await;
    let account = agent_status["lanes"]["readings"].take();
    assert_eq!(account["balanced"], true, "{account}");
    account
}

fn in_history(device: &Device) -> usize {
    let config: PathBuf = device.config_path();
    let config = config.to_str().expect("UTF-8");
    let listed = device.run(&["readings", "-n", "100000", "--json", "--config", config]);
    String::from_utf8(listed.stdout).expect("UTF-8").lines().count()
}

async fn values(site: &Site, count: usize) -> Vec<(Value, Value)> {
    let enough = |records: &[Value]| records.len() >= count;
    let records = site.subscriber.wait_records("/readings", PATIENCE, enough).await;
    records.iter().map(|record| (record["source"].clone(), record["value"].clone())).collect()
}

#[tokio::test]
async fn what_is_dropped_and_what_hardly_changed_stays_on_the_device_and_is_counted() {
    let site = Site::start().await;
    let device = site.device().with(
        r#"
[publish.air]
drop = [{ source = "noise" }, { outside = [-40, 60] }]
min_change = 0.5
"#,
    );
    let mut agent = device.started().await;

    let mut lines: Vec<String> = (0..100).map(|second| number("noise", 1.0, second)).collect();
    let air = [20.0, 20.25, 20.5, 85.0, 20.75, 21.0];
    lines.extend((0..).zip(air).map(|(second, value)| number("out", value, second)));
    agent.inbox().await.store(&lines).await;
    let account = settled(&mut agent, 106).await;

    assert_eq!((&account["delivered"], &account["filtered"]), (&json!(3), &json!(103)));
    let out = json!("out");
    let expected = [20.0, 20.5, 21.0].map(|value| (out.clone(), json!(value)));
    let passed = values(&site, 3).await;
    let close =
        |(a, b): (&(Value, Value), &(Value, Value))| a.0 == b.0 && a.1.as_f64() == b.1.as_f64();
    assert!(passed.len() == 3 && passed.iter().zip(&expected).all(close), "{passed:?}");
    assert_eq!(in_history(&device), 106);

    agent.stop().await;
    let mut agent = device.started().await;
    let account = settled(&mut agent, 106).await;
    assert_eq!(account["filtered"], 103, "the number survives a restart");
    assert_eq!(site.subscriber.records("/readings").len(), 3, "and nothing is published again");
}

#[tokio::test]
async fn the_mean_of_each_minute_is_published_also_across_a_restart() {
    let site = Site::start().await;
    let device = site.device().with("[publish.air]\nmean_every = \"1m\"\n");
    let mut agent = device.started().await;

    // 0, 1, ... 89: one minute and a half.
    let value = |second: i64| f64::from(i32::try_from(second).expect("small"));
    let lines: Vec<String> = (0..90).map(|second| number("a", value(second), second)).collect();
    agent.inbox().await.store(&lines).await;
    settled(&mut agent, 90).await;
    agent.stop().await;
    let mut agent = device.started().await;
    let lines: Vec<String> = (90..121).map(|second| number("a", value(second), second)).collect();
    agent.inbox().await.store(&lines).await;
    let account = settled(&mut agent, 121).await;

    let enough = |records: &[Value]| records.len() >= 2;
    let records = site.subscriber.wait_records("/readings", PATIENCE, enough).await;
    let told: Vec<_> = records.iter().map(|r| (r["time"].as_str(), r["value"].as_f64())).collect();
    assert_eq!(
        told,
        [
            (Some(&*date::at("10:01:00.000")), Some(29.5)),
            (Some(&*date::at("10:02:00.000")), Some(89.5)),
        ]
    );
    assert_eq!((&account["delivered"], &account["filtered"]), (&json!(2), &json!(119)));
}

/// `record`: from an alert on, for ten seconds, nothing is held back, also across a restart; the mean
/// is of the other readings.
#[tokio::test]
async fn from_an_alert_on_the_readings_of_its_source_are_published_in_full() {
    let site = Site::start().await;
    let device = site.device().with(
        r#"
[publish.air]
mean_every = "1m"
[[rule]]
name = "gust"
source = "a"
above = 50
then = ["alert", "record:10s"]
"#,
    );
    let mut agent = device.started().await;
    let value = |second: i64| if second == 30 { 60.0 } else { 2.0 };
    let lines = |source: &str, seconds: std::ops::Range<i64>| -> Vec<String> {
        seconds.map(|second| number(source, value(second), second)).collect()
    };

    // The other is as windy, and no rule looks at it.
    agent.inbox().await.store(&lines("b", 0..35)).await;
    agent.inbox().await.store(&lines("a", 0..35)).await;
    settled(&mut agent, 70).await;
    agent.stop().await;
    let mut agent = device.started().await;
    agent.inbox().await.store(&lines("a", 35..61)).await;
    let account = settled(&mut agent, 96).await;

    let enough = |records: &[Value]| records.len() >= 11;
    let records = site.subscriber.wait_records("/readings", PATIENCE, enough).await;
    let of_a: Vec<_> =
        records.iter().map(|r| (r["time"].as_str().unwrap_or(""), r["value"].as_f64())).collect();
    let recorded = |second: i64| (date::at(&format!("10:00:{second}.000")), Some(value(second)));
    let mut expected: Vec<_> = (30..40).map(recorded).collect();
    expected.push((date::at("10:01:00.000"), Some(2.0)));
    let expected: Vec<_> = expected.iter().map(|(time, value)| (time.as_str(), *value)).collect();
    assert_eq!(of_a, expected);
    assert!(records.iter().all(|record| record["source"] == "a"), "{records:?}");
    assert_eq!((&account["delivered"], &account["filtered"]), (&json!(11), &json!(85)));
}

/// Messages fill up, walks are in vain and begun again: what passes is what a loop over the readings
/// says.
#[tokio::test]
async fn a_thousand_readings_in_small_messages_are_filtered_as_a_loop_would() {
    let seed = choose_seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let site = Site::start().await;
    let batch = "{ bytes = \"1KiB\", delay = \"100ms\" }";
    let device = site.device().set("publish.readings", "batch", batch);
    let device = device.with("[publish.air]\nmin_change = 2\n");
    let mut agent = device.started().await;

    let (mut lines, mut expected) = (Vec::new(), Vec::new());
    let (mut levels, mut last) = ([50_i32; 3], [None::<i32>; 3]);
    for second in 0..1_000 {
        let at = random.usize(..3);
        levels[at] += random.i32(-2..=2);
        let (name, level) = (["a", "b", "c"][at], levels[at]);
        lines.push(number(name, f64::from(level), second));
        if last[at].is_none_or(|last| (level - last).abs() >= 2) {
            last[at] = Some(level);
            expected.push((json!(name), json!(level)));
        }
    }
    let mut inbox = agent.inbox().await;
    for chunk in lines.chunks(37) {
        inbox.store(chunk).await;
    }
    let account = settled(&mut agent, 1_000).await;

    assert_eq!(account["delivered"], json!(expected.len()));
    let passed = values(&site, expected.len()).await;
    let of = |all: &[(Value, Value)], name: &str| -> Vec<Value> {
        all.iter().filter(|(source, _)| source == name).map(|(_, value)| value.clone()).collect()
    };
    for name in ["a", "b", "c"] {
        assert_eq!(of(&passed, name), of(&expected, name), "{name}");
    }
}

/// SO-2, in every lane.
#[tokio::test]
async fn fixed_fields_are_added_to_every_record_and_nothing_else_changes() {
    let site = Site::start().await;
    let device = site.device().set("publish.readings", "add", r#"{ site = "garden", floor = 3 }"#);
    let device = device.with(
        r#"
[publish.alerts]
add = { site = "garden" }

[publish.events]
add = { firmware = 1.5 }

[[visit]]
source = "door"
gap = "1s"

[[rule]]
name = "warm"
on = "air"
above = 30
"#,
    );
    let agent = device.started().await;

    let door = json!({ "source": "door", "kind": "lid", "value": "open" }).to_string();
    agent.inbox().await.store(&[number("a", 31.0, 0), door]).await;
    let any = |records: &[Value]| !records.is_empty();
    let readings = site.subscriber.wait_records("/readings", PATIENCE, any).await;
    let alerts = site.subscriber.wait_records("/alerts", PATIENCE, any).await;
    let events = site.subscriber.wait_records("/events", PATIENCE, any).await;

    let mut reading = readings[0].clone();
    assert!(reading.as_object_mut().expect("an object").remove("seq").is_some());
    assert_eq!(
        reading,
        json!({
            "source": "a", "kind": "air", "time": date::at("10:00:00.000"), "value": 31,
            "site": "garden", "floor": 3,
        })
    );
    assert_eq!((&alerts[0]["site"], &alerts[0]["rule"]), (&json!("garden"), &json!("warm")));
    assert_eq!((&events[0]["firmware"], &events[0]["event"]), (&json!(1.5), &json!("visit")));
    for record in readings.iter().chain(&alerts).chain(&events) {
        let flat = |value: &Value| !value.is_object() && !value.is_array();
        assert!(record.as_object().expect("an object").values().all(flat), "{record}");
    }
}
