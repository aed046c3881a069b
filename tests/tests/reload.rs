//! A configuration that changes while the agent runs: what is good takes effect without a restart,
//! what is bad leaves the old one in force, and `status` says so.

use std::path::Path;

use pulsegate_tests::PATIENCE;
use pulsegate_tests::agent_process::{Agent, Device};
use pulsegate_tests::inbox::reading;
use pulsegate_tests::mosquitto::Options;
use pulsegate_tests::site::{Site, THING};
use serde_json::{Value, json};

const RULE: &str = "[[rule]]\nname = \"hot\"\non = \"temperature\"\nabove = 30\n";

#[tokio::test]
async fn a_new_rule_takes_effect() {
    let site = Site::start().await;
    let mut running = Running::start(site.device()).await;
    running.take(40.0).await;

    running.change(|text| format!("{text}\n{RULE}"));
    // A rule judges what comes from then on; nobody tells when that is.
    let alerts = loop {
        running.take(20.0).await;
        running.take(41.0).await;
        let alerts = site.subscriber.records("/alerts");
        if !alerts.is_empty() {
            break alerts;
        }
    };

    assert_eq!((&alerts[0]["rule"], &alerts[0]["state"]), (&json!("hot"), &json!("raised")));
    assert_eq!(running.agent.status().await.expect("it answers")["degraded"], json!([]));
}

#[tokio::test]
async fn a_new_source_starts_and_one_that_is_gone_ends() {
    let site = Site::start().await;
    let simulated = |id: &str| {
        format!("[[simulated]]\nid = {id:?}\nkind = \"number\"\nevery = \"50ms\"\nseed = 1\n")
    };
    let mut running = Running::start(site.device().with(&simulated("old"))).await;
    let has = |source: &'static str| {
        move |records: &[Value]| records.iter().any(|record| record["source"] == source)
    };
    site.subscriber.wait_records("/readings", PATIENCE, has("old")).await;

    running.change(|text| text.replace("\"old\"", "\"new\""));
    site.subscriber.wait_records("/readings", PATIENCE, has("new")).await;
    let records = site.subscriber.wait_records("/readings", PATIENCE, |records| {
        records.iter().filter(|record| record["source"] == "new").count() >= 20
    });
    let records = records.await;

    let last_old = records.iter().rposition(|record| record["source"] == "old").expect("some");
    let first_new = records.iter().position(|record| record["source"] == "new").expect("some");
    assert!(last_old < first_new + 5, "the old one goes on");
    assert_eq!(running.connection().await, 1, "the link was left alone");
}

#[tokio::test]
async fn a_new_topic_is_used_over_the_same_connection() {
    let site = Site::start_with(Options::default().thing_with(THING, &["lab/#"])).await;
    let mut running = Running::start(site.device()).await;
    running.take(20.0).await;
    let one = |records: &[Value]| !records.is_empty();
    site.subscriber.wait_records("/readings", PATIENCE, one).await;

    running.change(|text| {
        text.replace("[publish.readings]", "[publish.readings]\ntopic = \"lab/{source}/{kind}\"")
    });
    loop {
        running.take(21.0).await;
        if !site.subscriber.records("lab/room/temperature").is_empty() {
            break;
        }
    }

    assert_eq!(running.connection().await, 1);
}

#[tokio::test]
async fn a_broken_configuration_leaves_the_old_one_in_force_until_it_is_mended() {
    let site = Site::start().await;
    let mut running = Running::start(site.device().with(RULE)).await;
    running.agent.wait_status("the link is up", PATIENCE, is_up).await;

    running.change(|text| text.replace("above = 30", "abov = 30"));
    running
        .agent
        .wait_status("it says so", PATIENCE, |status| {
            status["degraded"].to_string().contains("the old one stays in force")
        })
        .await;
    running.take(40.0).await;
    let one = |alerts: &[Value]| !alerts.is_empty();
    site.subscriber.wait_records("/alerts", PATIENCE, one).await;

    running.change(|text| text.replace("abov = 30", "above = 30"));
    running
        .agent
        .wait_status("it is mended", PATIENCE, |status| status["degraded"] == json!([]))
        .await;
    assert_eq!(running.connection().await, 1);
}

/// NC-2 on a running agent.
#[tokio::test]
async fn a_placeholder_in_a_reload_is_refused() {
    let site = Site::start().await;
    let mut running = Running::start(site.device()).await;

    running.change(|text| {
        text.replace("\"localhost\"", "\"<prefix>-ats.iot.eu-west-1.amazonaws.com\"")
    });

    let status = running
        .agent
        .wait_status("it says so", PATIENCE, |status| {
            status["degraded"].to_string().contains("has a fault")
        })
        .await;
    assert!(status["degraded"].to_string().contains("pulsegate check"), "{status:#}");
    running.agent.wait_status("the link is up", PATIENCE, is_up).await;
}

#[tokio::test]
async fn another_identity_begins_another_connection() {
    let site = Site::start().await;
    let other = site.certs.device(THING);
    let mut running = Running::start(site.device()).await;
    running.agent.wait_status("the link is up", PATIENCE, is_up).await;

    let (old, new) = (&site.identity.files, &other.files);
    running.change(|text| {
        text.replace(
            old.certificate.to_str().expect("UTF-8"),
            new.certificate.to_str().expect("UTF-8"),
        )
        .replace(old.private_key.to_str().expect("UTF-8"), new.private_key.to_str().expect("UTF-8"))
    });

    running
        .agent
        .wait_status("it connects again", PATIENCE, |status| {
            is_up(status) && status["link"]["connection"] == 2
        })
        .await;
    running.take(20.0).await;
    let one = |records: &[Value]| !records.is_empty();
    site.subscriber.wait_records("/readings", PATIENCE, one).await;
}

#[tokio::test]
async fn a_source_that_is_no_longer_wanted_is_no_trouble() {
    const NUMBER: &str = "[[number]]\nid = \"air\"\nfile = \"{dir}/nothing\"\nevery = \"100ms\"\n";
    let site = Site::start().await;
    let mut running = Running::start(site.device().with(NUMBER)).await;
    let troubled = |status: &Value| status["degraded"].to_string().contains("source `air`");
    running.agent.wait_status("it is missed", PATIENCE, troubled).await;

    running.change(|text| text.split("[[number]]").next().expect("a first part").to_owned());

    running.agent.wait_status("it is not any more", PATIENCE, |status| !troubled(status)).await;
}

#[tokio::test]
async fn what_needs_a_restart_is_said() {
    let site = Site::start().await;
    let mut running = Running::start(site.device()).await;

    running.change(|text| text.replace("thing = \"box\"", "thing = \"crate\""));

    let status = running
        .agent
        .wait_status("it says so", PATIENCE, |status| {
            status["degraded"].to_string().contains("`thing` changes only with a restart")
        })
        .await;
    assert_eq!(status["thing"], "box");
}

/// A device whose agent runs, with a configuration that a test edits.
struct Running {
    device: Device,
    agent: Agent,
}

impl Running {
    async fn start(device: Device) -> Self {
        let agent = device.started().await;
        Self { device, agent }
    }

    /// Changes the configuration, and says so.
    fn change(&mut self, edit: impl FnOnce(String) -> String) {
        let path = self.device.config_path();
        let old = std::fs::read_to_string(&path).expect("it was written");
        let new = edit(old.clone());
        assert_ne!(old, new, "nothing was changed");
        replace(&path, &new);
        self.agent.sighup();
    }

    /// Hands in a temperature.
    async fn take(&self, celsius: f64) {
        self.agent.inbox().await.store(&[temperature(celsius)]).await;
    }

    /// The number of its connection.
    async fn connection(&mut self) -> Value {
        let status = self.agent.wait_status("the link is up", PATIENCE, is_up).await;
        status["link"]["connection"].clone()
    }
}

fn temperature(celsius: f64) -> String {
    reading("room", "temperature", celsius).to_string()
}

fn is_up(status: &Value) -> bool {
    status["link"]["state"] == "up"
}

#[expect(clippy::disallowed_methods, reason = "a test's file need not be durable")]
fn replace(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a file of ours");
}
