//! Outputs, by the agent as it runs: SQ-3 and NB-1 of the acceptance scenarios; P7 for outputs. Files
//! stand in for lines, so that what is on them can be read.

#![expect(clippy::disallowed_methods, reason = "a test may write files")]

use std::path::Path;

use pulsegate_tests::PATIENCE;
use pulsegate_tests::agent_process::{Agent, Device};
use pulsegate_tests::site::Site;
use pulsegate_tests::within;
use serde_json::{Value, json};

/// A feeder with a display, and a nest with an IR lamp for the night and a lamp for the day.
const OUTPUTS: &str = r#"
[[output]]
id = "display"
file = "{dir}/display"
[[output]]
id = "infrared"
file = "{dir}/infrared"
only = "night"
[[output]]
id = "visible"
file = "{dir}/visible"
only = "day"
[[output]]
id = "buzzer"
file = "{dir}/buzzer"
[night]
source = "light"
below = 10
above = 30
[[visit]]
source = "feeder"
gap = "5s"
then = ["output:display:count"]
[[visit]]
source = "nest"
is = "active"
gap = "3s"
live = true
then = ["output:infrared", "output:visible"]
[[rule]]
name = "too warm"
source = "air"
above = 30
then = ["alert", "output:buzzer"]
"#;

fn state(source: &str, state: &str) -> String {
    json!({ "source": source, "kind": "lid", "value": state }).to_string()
}

fn number(source: &str, number: f64) -> String {
    json!({ "source": source, "kind": "number", "value": number }).to_string()
}

/// Waits until an output is at `value`, by what is on its line.
async fn wait_at(device: &Device, output: &str, value: &str) {
    let path = device.dir().join(output);
    let read = async || Some(level(&path)).filter(|level| level == value);
    let found = within(PATIENCE, read).await;
    found.unwrap_or_else(|| panic!("`{output}` is not {value} but {}", level(&path)));
}

fn level(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// What an agent says of an output.
fn output<'a>(status: &'a Value, id: &str) -> &'a Value {
    let outputs = status["outputs"].as_array().expect("outputs");
    outputs.iter().find(|output| output["output"] == id).expect("the output")
}

async fn wait_says(agent: &mut Agent, id: &str, value: u64) {
    let says = |status: &Value| output(status, id)["value"] == value;
    agent.wait_status(id, PATIENCE, says).await;
}

/// SQ-3.
#[tokio::test]
async fn a_visit_of_nine_openings_counts_to_nine_and_back_to_0() {
    let site = Site::start().await;
    let device = site.device().with(OUTPUTS);
    let mut agent = device.started().await;
    let mut inbox = agent.inbox().await;
    wait_at(&device, "display", "0").await;

    for opening in 1..=9 {
        inbox.store(&[state("feeder", "open"), state("feeder", "closed")]).await;
        wait_at(&device, "display", &opening.to_string()).await;
    }
    wait_says(&mut agent, "display", 9).await;

    wait_at(&device, "display", "0").await;
    let is_visit = |records: &[Value]| records.iter().any(|record| record["event"] == "visit");
    let events = site.subscriber.wait_records("/events", PATIENCE, is_visit).await;
    let visit = events.iter().find(|event| event["event"] == "visit").expect("a visit");
    assert_eq!(visit["openings"], 9);
}

/// NB-1.
#[tokio::test]
async fn movement_at_night_switches_infrared_and_never_visible_light() {
    let site = Site::start().await;
    let device = site.device().with(OUTPUTS);
    let mut agent = device.started().await;
    let mut inbox = agent.inbox().await;
    let moves = [state("nest", "active"), state("nest", "idle")];
    let live = async |count: usize, word: &str| {
        let is_live = |record: &&Value| record["event"] == "live" && record["state"] == word;
        let enough = |records: &[Value]| records.iter().filter(is_live).count() >= count;
        site.subscriber.wait_records("/events", PATIENCE, enough).await;
    };

    inbox.store(&moves).await;
    live(1, "off").await;
    let switched = |status: &Value, id: &str| output(status, id)["switched"].clone();
    let status = agent.status().await.expect("a status");
    let neither = (switched(&status, "infrared"), switched(&status, "visible"));
    assert_eq!(neither, (json!(0), json!(0)), "nobody knew whether it was night");

    inbox.store(&[number("light", 3.0)]).await;
    inbox.store(&moves).await;
    wait_at(&device, "infrared", "1").await;
    // The lamp is seen by the source of light, and is not taken for the day.
    inbox.store(&[number("light", 20.0)]).await;
    live(2, "off").await;
    wait_at(&device, "infrared", "0").await;
    let status = agent.status().await.expect("a status");
    assert_eq!(switched(&status, "visible"), 0, "by night");
    assert_eq!(status["night"], true);

    inbox.store(&[number("light", 300.0)]).await;
    inbox.store(&moves).await;
    wait_at(&device, "visible", "1").await;
    live(3, "off").await;
    wait_at(&device, "visible", "0").await;
    let status = agent.status().await.expect("a status");
    assert_eq!(switched(&status, "infrared"), 2, "on and off, that one night");
    agent.stop().await;
}

#[tokio::test]
async fn a_reload_switches_what_is_new_and_lets_go_of_what_is_not_wanted() {
    let site = Site::start().await;
    let device = site.device().with(OUTPUTS);
    let mut agent = device.started().await;
    agent.inbox().await.store(&[number("air", 40.0)]).await;
    wait_at(&device, "buzzer", "1").await;

    let device = device.with(
        "[[output]]\nid = \"lamp\"\nfile = \"{dir}/lamp\"\n\
         [[rule]]\nname = \"warm\"\nsource = \"air\"\nabove = 20\nthen = [\"output:lamp\"]\n",
    );
    let config = device.config().replace("\"output:buzzer\"", "\"output:lamp\"");
    std::fs::write(device.config_path(), config).expect("a configuration");
    agent.sighup();

    wait_at(&device, "buzzer", "0").await;
    wait_at(&device, "lamp", "1").await;
    agent.inbox().await.store(&[number("air", 25.0)]).await;
    let cleared = |records: &[Value]| records.iter().any(|record| record["state"] == "cleared");
    site.subscriber.wait_records("/alerts", PATIENCE, cleared).await;
    assert_eq!(level(&device.dir().join("lamp")), "1", "the other rule still wants it");
    agent.inbox().await.store(&[number("air", 10.0)]).await;
    wait_at(&device, "lamp", "0").await;
}

/// P7: what an alert switched on is on again after a power cut, and off when the agent was asked to
/// stop; an output that cannot be switched is told, and switched once it can.
#[tokio::test]
async fn an_output_follows_its_alert_through_power_cuts_and_faults() {
    let site = Site::start().await;
    let device = site.device().with(OUTPUTS).with(
        "[[output]]\nid = \"siren\"\nfile = \"{dir}/later/siren\"\n\
         [[rule]]\nname = \"much too warm\"\nsource = \"air\"\nabove = 50\n\
         then = [\"alert\", \"output:siren\", \"output:buzzer\"]\n",
    );
    let mut agent = device.started().await;

    agent.inbox().await.store(&[number("air", 60.0)]).await;
    wait_at(&device, "buzzer", "1").await;
    let lost = |records: &[Value]| {
        let mut lost = records.iter().filter(|record| record["event"] == "output_lost");
        lost.any(|event| event["output"] == "siren")
    };
    site.subscriber.wait_records("/events", PATIENCE, lost).await;
    let status = agent.status().await.expect("a status");
    let degraded = status["degraded"].to_string();
    assert!(degraded.contains("output `siren`: not found"), "{degraded}");

    agent.sigkill().await;
    std::fs::create_dir(device.dir().join("later")).expect("a directory");
    let mut agent = device.started().await;
    wait_at(&device, "later/siren", "1").await;
    wait_at(&device, "buzzer", "1").await;

    agent.inbox().await.store(&[number("air", 40.0)]).await;
    wait_at(&device, "later/siren", "0").await;
    wait_at(&device, "buzzer", "1").await;
    assert!(agent.stop().await.success());
    assert_eq!(level(&device.dir().join("buzzer")), "0", "off at the end");
}
