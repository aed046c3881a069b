//! Heart-rate belts on athletes, as other programs' readings with their own times: an hour of them
//! takes a second. HR-1 to HR-6 and HR-8 of the acceptance scenarios, and EV-1.

use std::collections::BTreeMap;
use std::time::Duration;

use pulsegate_tests::agent_process::{Agent, Device};
use pulsegate_tests::date;
use pulsegate_tests::inbox::heart_rate;
use pulsegate_tests::mosquitto::Options;
use pulsegate_tests::site::{Site, THING};
use pulsegate_tests::{PATIENCE, choose_seed, records};
use serde_json::{Value, json};

/// Long enough after a window for it to be judged.
const LATE: i64 = 6_000;

/// The rule of the scenarios, and one by which a test knows that all before it was judged.
const RULES: &str = r#"
[[rule]]
name = "heart rate out of range"
on = "heart_rate"
window = { tumbling = "60s", take = "mean" }
above = 120
below = 40

[[rule]]
name = "judged"
source = "sentinel"
on = "sentinel"
above = 0
"#;

/// HR-1.
#[tokio::test]
async fn ten_monitors_for_a_minute_arrive_as_their_cloud_wants_them() {
    let site = Site::start_with(Options::default().thing_with(THING, &["iot/heartrate"])).await;
    let device = site.device().with(
        r#"[publish.heart_rate]
           topic = "iot/heartrate"
           fields = { value_time = "time", id = "source", colvalue = "bpm" }"#,
    );
    let agent = device.started().await;

    let lines = a_minute_of_ten();
    agent.inbox().await.store(&lines).await;
    let found = |records: &[Value]| records.len() >= 600;
    let records = site.subscriber.wait_records("iot/heartrate", PATIENCE, found).await;

    assert_eq!(records.len(), 600);
    let mut by_monitor = BTreeMap::<u32, usize>::new();
    for record in &records {
        let keys: Vec<&String> = record.as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["colvalue", "id", "value_time"], "{record}");
        let id = record["id"].as_str().expect("a string").parse().expect("an integer");
        assert!((60..=140).contains(&record["colvalue"].as_i64().expect("an integer")), "{record}");
        *by_monitor.entry(id).or_default() += 1;
    }
    assert_eq!(by_monitor, (1..=10).map(|id| (id, 60)).collect());
    let messages = site.subscriber.messages();
    let readings = messages.iter().filter(|message| message.topic == "iot/heartrate");
    let bytes: usize = readings.map(|message| message.payload.len()).sum();
    assert!((58..=66).contains(&(bytes / 600)), "{} bytes a record", bytes / 600);
}

/// HR-1 in the record's own form, with what removes duplicates in it.
#[tokio::test]
async fn a_record_without_wishes_names_itself_and_takes_some_100_bytes() {
    let site = Site::start().await;
    let device = site.device();
    let agent = device.started().await;

    let ids = agent.inbox().await.store(&a_minute_of_ten()).await;
    let found = |records: &[Value]| records.len() >= 600;
    let records = site.subscriber.wait_records("/readings", PATIENCE, found).await;

    let sequences: Vec<&str> = records.iter().filter_map(|record| record["seq"].as_str()).collect();
    assert_eq!(sequences, ids, "in order, each once, under the ids that the inbox gave");
    assert_eq!(records[0]["kind"], "heart_rate");
    assert_eq!(records[0]["time"], date::at("10:00:00.000"));
    let messages = site.subscriber.messages();
    let readings = messages.iter().filter(|message| message.topic == "pulsegate/box/readings");
    let bytes: usize = readings.map(|message| message.payload.len()).sum();
    assert!((92..=106).contains(&(bytes / 600)), "{} bytes a record", bytes / 600);
}

/// HR-2, above: strictly, and by the mean of the window.
#[tokio::test]
async fn a_mean_beyond_a_limit_raises_one_alert_and_one_on_it_none() {
    let spike = |second| if second == 30 { 240.0 } else { 80.0 };
    let court = Court::open(RULES).await;

    let alerts = court
        .judge(vec![
            minute("over", |_| 121.0),
            minute("on-120", |_| 120.0),
            minute("barely-over", |second| if second == 59 { 121.0 } else { 120.0 }),
            minute("on-40", |_| 40.0),
            minute("under", |_| 39.0),
            minute("spiked", spike),
        ])
        .await;

    let raised: BTreeMap<&str, f64> = alerts
        .iter()
        .filter(|alert| alert["state"] == "raised")
        .map(|alert| (alert["source"].as_str().unwrap(), alert["value"].as_f64().unwrap()))
        .collect();
    assert_eq!(raised.len(), 3, "{alerts:#?}");
    assert_eq!(raised["over"], 121.0);
    assert_eq!(raised["under"], 39.0);
    assert!((raised["barely-over"] - 120.0167).abs() < 0.001, "{raised:?}");
    assert_eq!(alerts.len(), 3, "none twice, and none is cleared without a good window");
}

/// HR-3.
#[tokio::test]
async fn a_wearer_has_limits_of_his_own() {
    let rules = RULES.replacen(
        "\n[[rule]]\nname = \"judged\"",
        "\n[[rule.limits]]\nsource = \"7\"\nabove = 150\n\n[[rule]]\nname = \"judged\"",
        1,
    );
    let court = Court::open(&rules).await;

    let alerts = court.judge(vec![minute("7", |_| 130.0), minute("8", |_| 130.0)]).await;

    assert_eq!(alerts.len(), 1, "{alerts:#?}");
    assert_eq!((&alerts[0]["source"], &alerts[0]["state"]), (&json!("8"), &json!("raised")));
}

/// HR-4, in one stream of readings, as monitors send them.
#[tokio::test]
async fn windows_are_each_monitors_own() {
    let court = Court::open(RULES).await;
    let (three, seven) = (minute("3", |_| 130.0), minute("7", |_| 80.0));
    let mixed = three.into_iter().zip(seven).flat_map(|(three, seven)| [three, seven]);

    let alerts = court.judge(vec![mixed.collect()]).await;

    assert_eq!(alerts.len(), 1, "{alerts:#?}");
    assert_eq!(alerts[0]["source"], "3");
    assert_eq!(alerts[0]["value"], 130.0);
    assert_eq!(alerts[0]["window_start"], date::at("10:00:00.000"));
    assert_eq!(alerts[0]["window_end"], date::at("10:01:00.000"));
}

/// HR-6.
#[tokio::test]
async fn ten_minutes_beyond_a_limit_raise_at_most_one_alert_a_window() {
    let ten_minutes = || -> Vec<String> {
        (0..600).map(|second| heart_rate("3", 130.0, date::ten() + second * 1_000)).collect()
    };
    let court = Court::open(RULES).await;
    let alerts = court.judge(vec![ten_minutes()]).await;
    let windows: Vec<&Value> = alerts.iter().map(|alert| &alert["window_start"]).collect();
    let mut unique = windows.clone();
    unique.dedup();
    assert_eq!(windows, unique, "{alerts:#?}");
    assert_eq!(alerts[0]["state"], "raised");
    assert!((1..=10).contains(&alerts.len()));

    let rules = RULES.replacen("below = 40", "below = 40\nat_most_every = \"10m\"", 1);
    let court = Court::open(&rules).await;
    // Rates that come and go raise and clear, but for the cool-down.
    let unsteady = (0..600).map(|second| {
        let bpm = if (second / 60) % 2 == 0 { 130.0 } else { 80.0 };
        heart_rate("4", bpm, date::ten() + second * 1_000)
    });
    let alerts = court.judge(vec![ten_minutes(), unsteady.collect()]).await;
    for source in ["3", "4"] {
        let raised = |alert: &&Value| alert["source"] == source && alert["state"] == "raised";
        assert_eq!(alerts.iter().filter(raised).count(), 1, "{source}: {alerts:#?}");
    }
}

/// HR-8.
#[tokio::test]
async fn a_batch_is_an_array_or_lines_of_flat_objects() {
    for (format, first) in [("array", b'['), ("lines", b'{')] {
        let site = Site::start().await;
        let device = site.device().set("publish.readings", "format", &format!("{format:?}"));
        let agent = device.started().await;

        agent.inbox().await.store(&a_minute_of_ten()).await;
        let found = |records: &[Value]| records.len() >= 600;
        let records = site.subscriber.wait_records("/readings", PATIENCE, found).await;

        assert_eq!(records.len(), 600);
        for record in records {
            for (key, value) in record.as_object().expect("an object") {
                assert!(!value.is_object() && !value.is_array(), "not flat: {record}");
                assert_eq!(*key, key.to_lowercase());
            }
        }
        for message in site.subscriber.messages() {
            if message.topic.ends_with("/readings") {
                assert_eq!(message.payload[0], first);
                let whole = serde_json::from_slice::<Value>(&message.payload).is_ok();
                assert!(
                    whole == (format == "array") || records::parse(&message.payload).len() == 1
                );
            }
        }
    }
}

/// EV-1: the same windows, whatever the order within the lateness that is allowed for.
#[tokio::test]
async fn readings_shuffled_and_five_seconds_late_give_the_same_alerts() {
    let seed = choose_seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut readings: Vec<(i64, String)> = Vec::new();
    for source in ["1", "2", "3"] {
        for second in 0..600 {
            // A mean of 120 in the long run: about every other window is beyond it.
            let bpm = f64::from(random.u8(100..=140));
            readings.push((second * 1_000, heart_rate(source, bpm, date::ten() + second * 1_000)));
        }
    }
    readings.sort_by_key(|(at, _)| *at);
    let in_order: Vec<String> = readings.iter().map(|(_, line)| line.clone()).collect();
    // Each is late by up to the allowance, so that they overtake each other.
    readings.sort_by_cached_key(|(at, _)| at + random.i64(0..5_000));
    let shuffled: Vec<String> = readings.into_iter().map(|(_, line)| line).collect();
    assert_ne!(in_order, shuffled, "seed {seed}");

    let expected = Court::open(RULES).await.judge(vec![in_order]).await;
    let found = Court::open(RULES).await.judge(vec![shuffled]).await;

    let told = |alerts: &[Value]| -> Vec<String> {
        let mut told: Vec<String> = alerts
            .iter()
            .map(|alert| {
                let mut alert = alert.clone();
                // Its number depends on how many readings came before it.
                alert.as_object_mut().expect("an object").remove("seq");
                alert.to_string()
            })
            .collect();
        told.sort();
        told
    };
    assert!(!expected.is_empty(), "seed {seed}");
    assert_eq!(told(&expected), told(&found), "seed {seed}");
}

/// HR-5, P13: what the operator wrote beside the ids stays on the device.
#[tokio::test]
async fn nothing_about_a_person_leaves_the_device() {
    const PERSONAL: [&str; 4] = ["Ada Lovelace", "+44 20 7946 0000", "51.5074", "ada@lovelace"];
    let rules = format!(
        "# 7 is worn by Ada Lovelace, +44 20 7946 0000, at 51.5074 N; ada@lovelace\n{RULES}\n\
         # Ada Lovelace: 7\n"
    );
    let court = Court::open(&rules).await;

    let alerts = court.judge(vec![minute("7", |_| 150.0)]).await;

    let keys: Vec<&String> = alerts[0].as_object().expect("an object").keys().collect();
    let expected = [
        "rule",
        "seq",
        "severity",
        "source",
        "state",
        "time",
        "value",
        "window_end",
        "window_start",
    ];
    assert_eq!(keys, expected);
    court.agent.status().await.expect("it answers");
    for message in court.site.subscriber.messages() {
        let text = format!("{} {}", message.topic, String::from_utf8_lossy(&message.payload));
        for word in PERSONAL {
            assert!(!text.contains(word), "`{word}` in {text}");
        }
    }
    for word in PERSONAL {
        assert!(!court.device.log().contains(word), "`{word}` in the log");
    }
}

/// The same rule on a live belt, with the clock of the machine: P1, P6.
#[tokio::test]
async fn a_simulated_belt_raises_and_clears_an_alert_as_its_heart_goes() {
    let site = Site::start().await;
    let device = site.device().with(
        r#"
        [[simulated]]
        id = "7"
        kind = "heart_rate"
        every = "100ms"
        mean = 150
        spread = 2
        steps = [{ at = "5s", mean = 70 }]

        [[rule]]
        name = "heart rate out of range"
        on = "heart_rate"
        window = { tumbling = "2s", take = "mean" }
        above = 120
        "#,
    );
    let _agent = device.started().await;

    let states = |alerts: &[Value]| -> Vec<String> {
        alerts.iter().filter_map(|alert| alert["state"].as_str().map(str::to_owned)).collect()
    };
    let both = |alerts: &[Value]| states(alerts).contains(&"cleared".to_owned());
    let alerts = site.subscriber.wait_records("/alerts", PATIENCE, both).await;

    assert_eq!(states(&alerts), ["raised", "cleared"]);
    assert!(alerts[0]["value"].as_f64().unwrap() > 120.0, "{alerts:#?}");
    let records = site.subscriber.records("/readings");
    assert!(records.iter().all(|record| record["bpm"].is_u64()), "a heart rate is whole");
}

/// An agent under rules, and everybody who hears of its alerts.
struct Court {
    site: Site,
    device: Device,
    agent: Agent,
}

impl Court {
    async fn open(rules: &str) -> Self {
        let site = Site::start().await;
        let device = site.device().with(rules);
        let agent = device.started().await;
        Self { site, device, agent }
    }

    /// Hands in readings, one stream after the other, and returns the alerts that they caused.
    async fn judge(&self, streams: Vec<Vec<String>>) -> Vec<Value> {
        let mut inbox = self.agent.inbox().await;
        let mut last = BTreeMap::<String, i64>::new();
        for stream in &streams {
            for line in stream {
                let line: Value = serde_json::from_str(line).expect("JSON");
                let (source, time) =
                    (line["source"].as_str().expect("a source"), line["time"].as_i64());
                let newest = last.entry(source.to_owned()).or_default();
                *newest = time.expect("a time").max(*newest);
            }
            inbox.store(stream).await;
        }
        // A late reading closes the last windows, and is alone in its own.
        let closing: Vec<String> = last
            .iter()
            .map(|(source, time)| heart_rate(source, 80.0, time - time % 60_000 + 60_000 + LATE))
            .collect();
        inbox.store(&closing).await;
        inbox.store(&[json!({"source":"sentinel","kind":"sentinel","value":1}).to_string()]).await;
        let judged = |alerts: &[Value]| alerts.iter().any(|alert| alert["rule"] == "judged");
        let deadline = Duration::from_secs(60);
        let mut alerts = self.site.subscriber.wait_records("/alerts", deadline, judged).await;
        alerts.retain(|alert| alert["rule"] != "judged");
        alerts
    }
}

/// A minute of a monitor, a reading a second.
fn minute(source: &str, bpm: impl Fn(i64) -> f64) -> Vec<String> {
    (0..60).map(|second| heart_rate(source, bpm(second), date::ten() + second * 1_000)).collect()
}

/// Ten monitors, 1 to 10, between 60 and 140 beats, once a second.
fn a_minute_of_ten() -> Vec<String> {
    let line = |second: i64, id: i64| {
        let bpm = 60 + (second * 7 + id * 13) % 81;
        format!(
            r#"{{"source":"{id}","kind":"heart_rate","value":{bpm},"time":{}}}"#,
            date::ten() + second * 1_000
        )
    };
    (0..60).flat_map(|second| (1..=10).map(move |id| line(second, id))).collect()
}
