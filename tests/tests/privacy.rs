//! Opaque people: P13, PH-1 and HR-5. A device whose operator forbids some texts, whose belt has
//! a name that tells a person, and every byte that leaves it.

use pulsegate_tests::PATIENCE;
use pulsegate_tests::site::Site;
use serde_json::Value;

const FORBIDDEN: [&str; 3] = ["Anna Smith", "+49 170 1234567", "52.520008"];

const DEVICE: &str = r#"
[privacy]
forbidden = ["Anna Smith", "+49 170 1234567", "52.520008"]

# By its name alone the belt is found: that is the one place where it may stand.
[[heart_rate]]
id   = "8"
name = "Belt of Anna Smith"

[[simulated]]
id    = "7"
kind  = "heart_rate"
every = "20ms"
rr    = true
variability = true

[[simulated]]
id    = "feeder"
kind  = "lid"
every = "1s"
visit = { gap = "5s", live = true, report = { text = "{source} {units} {start}" } }

[[rule]]
name  = "alive"
on    = "heart_rate"
above = 1

[publish.events]
add = { site = "garden-1" }
"#;

fn assert_clean(what: &str, bytes: &[u8]) {
    let plain = |text: &str| -> String {
        let kept = |c: &char| c.is_alphanumeric();
        text.chars().filter(kept).flat_map(char::to_lowercase).collect()
    };
    let text = plain(&String::from_utf8_lossy(bytes));
    for forbidden in FORBIDDEN {
        assert!(!text.contains(&plain(forbidden)), "`{forbidden}` is in {what}");
    }
}

#[tokio::test]
async fn nothing_that_is_forbidden_leaves_the_device() {
    let site = Site::start().await;
    let device = site.device().set("log", "level", "\"debug\"").with(DEVICE);
    let mut agent = device.started().await;

    // What other programs tell may name somebody, too.
    let told = [
        r#"{"source":"anna-smith","kind":"mood","value":1}"#,
        r#"{"source":"9","kind":"of_anna_smith","value":1}"#,
        r#"{"source":"9","kind":"caller","value":"+49 170 / 1234567"}"#,
    ];
    for answer in agent.inbox().await.exchange_all(&told.map(str::to_owned)).await {
        assert!(answer["error"].is_string(), "{answer}");
    }
    let any = |records: &[Value]| records.len() > 1;
    site.subscriber.wait_records("/readings", PATIENCE, any).await;
    site.subscriber.wait_records("/events", PATIENCE, any).await;
    site.subscriber.wait_records("/alerts", PATIENCE, |alerts| !alerts.is_empty()).await;
    let status = agent.status().await.expect("a status");
    agent.stop().await;

    for message in site.subscriber.messages() {
        assert_clean("a topic", message.topic.as_bytes());
        assert_clean("a payload", &message.payload);
    }
    assert_clean("the status", status.to_string().as_bytes());
    assert_clean("the log", device.log().as_bytes());
    assert!(device.log().contains("started"), "there is a log to look at");
}

#[tokio::test]
async fn a_configuration_that_would_tell_a_person_is_refused_without_repeating_it() {
    let site = Site::start().await;
    let device = site.device().with(DEVICE).with("[[number]]\nid = \"anna-smith\"\nfile = \"x\"\n");
    let mut agent = device.start();

    let status = agent.wait(PATIENCE).await;

    assert_eq!(status.code(), Some(78));
    assert!(device.log().contains("privacy.forbidden"), "{}", device.log());
    assert_clean("the log", device.log().as_bytes());
}
