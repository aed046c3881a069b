//! Heart-rate variability through the whole agent: a recorded heart, played back a hundred times as
//! fast, becomes readings of their own kinds, and rules can be about them.

use pulsegate_tests::PATIENCE;
use pulsegate_tests::site::Site;
use serde_json::Value;

const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/rr-60min.csv");

fn monitor(variability: bool) -> String {
    format!(
        r#"
[[simulated]]
id = "7"
kind = "heart_rate"
every = "10ms"
replay = {RECORDING:?}
variability = {variability}
"#
    )
}

const RULES: &str = r#"
[[rule]]
name = "some variability"
on = "heart_rate.rmssd"
above = 1

[[rule]]
name = "what is measured"
source = "7"
above = 300
"#;

/// The mean of the first minute of the recording, in milliseconds.
fn first_minute() -> f64 {
    let text = std::fs::read_to_string(RECORDING).expect("the recording");
    let beats = text.lines().skip(1).map(|line| line.parse::<f64>().expect("milliseconds"));
    let mut elapsed = 0.0;
    let minute: Vec<f64> = beats
        .take_while(|beat| {
            let before = elapsed;
            elapsed += beat;
            before < 60_000.0
        })
        .collect();
    minute.iter().sum::<f64>() / f64::from(u32::try_from(minute.len()).expect("a minute"))
}

fn of_kind<'a>(records: &'a [Value], kind: &str) -> Option<&'a Value> {
    records.iter().find(|record| record["kind"] == kind)
}

#[tokio::test]
async fn variability_becomes_readings_of_its_own_kinds_that_rules_can_use() {
    let site = Site::start().await;
    let device = site.device().with(&monitor(true)).with(RULES);
    let agent = device.started().await;

    let five = |records: &[Value]| of_kind(records, "heart_rate.pnn50_5m").is_some();
    let records = site.subscriber.wait_records("/readings", PATIENCE, five).await;

    let mean = &of_kind(&records, "heart_rate.mean_rr").expect("a mean")["value"];
    let near = (mean.as_f64().expect("a number") - first_minute()).abs() < 0.03 * first_minute();
    assert!(near, "{mean} is not {}", first_minute());
    for kind in ["sdnn", "rmssd", "pnn50", "mean_rate", "ectopic", "lost", "rmssd_5m"] {
        let record = of_kind(&records, &format!("heart_rate.{kind}")).expect(kind);
        assert_eq!(record["source"], "7");
        assert!(record["value"].is_number(), "{record}");
    }
    let raised = |alerts: &[Value]| !alerts.is_empty();
    let alerts = site.subscriber.wait_records("/alerts", PATIENCE, raised).await;
    assert!(alerts.iter().all(|alert| alert["rule"] == "some variability"), "{alerts:#?}");
    drop(agent);
}

#[tokio::test]
async fn nothing_is_derived_unless_asked_for() {
    let site = Site::start().await;
    let device = site.device().with(&monitor(false));
    let agent = device.started().await;

    // At some 77 beats a minute this is more than one.
    let minute = |records: &[Value]| records.len() >= 200;
    let records = site.subscriber.wait_records("/readings", PATIENCE, minute).await;

    assert!(records.iter().all(|record| record["kind"] == "heart_rate"));
    drop(agent);
}
