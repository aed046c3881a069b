//! Rules on several sources, on silence and without a threshold, by the agent as it runs: SO-1, AN-1.

use std::time::Duration;

use pulsegate_tests::date;
use pulsegate_tests::site::Site;
use pulsegate_tests::{PATIENCE, choose_seed};
use serde_json::{Value, json};
use tokio::time::Instant;

/// How long a rule waits that waits for late readings.
const LATENESS: Duration = Duration::from_secs(5);

fn state(source: &str, state: &str, time: i64) -> String {
    json!({ "source": source, "kind": "state", "value": state, "time": time }).to_string()
}

fn of<'a>(alerts: &'a [Value], rule: &str) -> Vec<(&'a str, &'a str, &'a str)> {
    let word = |alert: &'a Value, key| alert[key].as_str().expect("a string");
    let own = alerts.iter().filter(|alert| alert["rule"] == rule);
    own.map(|alert| (word(alert, "state"), word(alert, "source"), word(alert, "time"))).collect()
}

#[tokio::test]
async fn so_1_headlights_left_on_are_one_alert_at_once_in_whatever_order_it_is_told() {
    let site = Site::start().await;
    let device = site.device().with(
        r#"
[[rule]]
name = "headlights left on"
all = [
    { source = "engine", is = "off" },
    { source = "door", is = "closed" },
    { source = "headlights", is = "on" },
]
within = "5s"
"#,
    );
    let mut agent = device.started().await;
    let mut inbox = agent.inbox().await;
    let drive = [("engine", "on"), ("door", "open"), ("headlights", "off")];
    inbox.store(&drive.map(|(source, word)| state(source, word, date::ten()))).await;

    // The door comes last though it was closed first, and everything is told twice.
    let told =
        [("headlights", "on", 64_000), ("engine", "off", 62_000), ("door", "closed", 60_000)];
    let lines = told.map(|(source, word, at)| state(source, word, date::ten() + at));
    inbox.store(&lines[..2]).await;
    inbox.store(&lines[2..]).await;
    let answered = Instant::now();
    let alerts = site.subscriber.wait_records("/alerts", PATIENCE, |all| !all.is_empty()).await;
    assert!(answered.elapsed() < LATENESS, "{:?}", answered.elapsed());
    inbox.store(&lines).await;
    inbox.store(&[state("door", "open", date::ten() + 90_000)]).await;

    assert_eq!(alerts.len(), 1, "{alerts:?}");
    let both = site.subscriber.wait_records("/alerts", PATIENCE, |all| all.len() > 1).await;
    let times = ["10:01:04.000", "10:01:30.000"].map(date::at);
    let said = [("raised", "engine", &*times[0]), ("cleared", "engine", &*times[1])];
    assert_eq!(of(&both, "headlights left on"), said);
    agent.stop().await;
}

#[tokio::test]
async fn an_1_anomalies_are_found_without_a_threshold_once_it_has_learnt() {
    let site = Site::start().await;
    let device = site.device().with(
        r#"
[[rule]]
name = "threshold"
on = "level"
above = 50

[[rule]]
name = "anomaly"
on = "level"
anomaly = { learn = "10m" }
"#,
    );
    let mut agent = device.started().await;
    let seed = choose_seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut line = |second: i64| {
        let wild = random.u32(..100) == 0 && second < 9_999;
        let (least, most) = if wild { (100.0, 120.0) } else { (10.0, 20.0) };
        let value = least + (most - least) * random.f64();
        let time = date::ten() + second * 1_000;
        json!({ "source": "tank", "kind": "level", "value": value, "time": time }).to_string()
    };
    let lines: Vec<String> = (0..10_000).map(&mut line).collect();

    agent.inbox().await.store(&lines).await;

    let recorded = |status: &Value| {
        let alerts = &status["lanes"]["alerts"];
        alerts["pending"] == 0 && alerts["delivered"].as_u64().is_some_and(|count| count > 200)
    };
    agent.wait_status("the alerts are delivered", PATIENCE, recorded).await;
    let alerts = site.subscriber.records("/alerts");
    let learnt = date::at("10:10:00.000");
    let after = |rule| of(&alerts, rule).into_iter().filter(|(_, _, time)| **time > *learnt);
    assert!(after("threshold").count() > 100);
    let (found, expected): (Vec<_>, Vec<_>) =
        (after("anomaly").collect(), after("threshold").collect());
    assert_eq!(found, expected);
    assert!(alerts.iter().all(|alert| alert["score"].is_number() == (alert["rule"] == "anomaly")));
    agent.stop().await;
}

#[tokio::test]
async fn a_configured_source_that_never_speaks_is_told_of() {
    let site = Site::start().await;
    let device = site.device().with(
        r#"
[[number]]
id = "air"
file = "/nowhere/at/all"
every = "1h"

[[rule]]
name = "silent"
on = "number"
silent_for = "1s"
"#,
    );
    let mut agent = device.started().await;

    let alerts = site.subscriber.wait_records("/alerts", PATIENCE, |all| !all.is_empty()).await;

    assert_eq!(alerts[0]["source"], "air");
    assert_eq!((&alerts[0]["state"], &alerts[0]["value"]), (&json!("raised"), &json!(1)));
    agent.stop().await;
}

#[tokio::test]
async fn a_value_that_swings_about_its_limit_is_told_as_flapping_and_how_it_ends() {
    let site = Site::start().await;
    let rule = "[[rule]]\nname = \"hot\"\non = \"level\"\nabove = 100\n";
    let device = site.device().with(rule);
    let mut agent = device.started().await;
    let mut inbox = agent.inbox().await;
    let level = |value: i32, at: i64| {
        json!({ "source": "tank", "kind": "level", "value": value, "time": date::ten() + at })
            .to_string()
    };
    // 8 s in which the value changes sides 2,000 times a second.
    let swing = (0..16_001).map(|n| level(if n % 2 == 0 { 200 } else { 60 }, n / 2));
    inbox.store(&swing.collect::<Vec<_>>()).await;
    let flaps = |status: &Value| {
        status["degraded"].to_string().contains("rule `hot` flaps for source `tank`")
    };
    agent.wait_status("it is told", PATIENCE, flaps).await;

    inbox.store(&[level(200, 80_000)]).await;

    let status = agent
        .wait_status("it is over", PATIENCE, |status| {
            !flaps(status) && status["lanes"]["alerts"]["pending"] == 0
        })
        .await;
    assert_eq!(status["rules"]["suppressed_alerts"], 16_001 - 20);
    let alerts = site.subscriber.records("/alerts");
    assert_eq!(alerts.len(), 21);
    let states = of(&alerts, "hot");
    assert_eq!(states.iter().filter(|(state, ..)| *state == "raised").count(), 11);
    assert_eq!(states.last().map(|(state, ..)| *state), Some("raised"), "as it is");
    let told = |events: &[Value]| {
        let words = events.iter().filter_map(|event| event["event"].as_str());
        words.filter(|word| word.starts_with("rule_")).map(str::to_owned).collect::<Vec<_>>()
    };
    let all_told = |events: &[Value]| told(events).len() == 2;
    let events = site.subscriber.wait_records("/events", PATIENCE, all_told).await;
    assert_eq!(told(&events), ["rule_flapping", "rule_settled"]);
    agent.stop().await;
}
