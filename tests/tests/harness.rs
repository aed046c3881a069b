//! The harness itself, with `mosquitto_pub` of Debian in the agent's place.

use std::process::{Command, Stdio};

use jiff::{Timestamp, ToSpan as _};
use pulsegate_tests::certs::{Certs, HOST, Issued, Validity};
use pulsegate_tests::inbox::reading;
use pulsegate_tests::link::Link;
use pulsegate_tests::mosquitto::{Mosquitto, Options};
use pulsegate_tests::site::Site;
use pulsegate_tests::{PATIENCE, eventually, leftover, records};
use tokio::task::{LocalSet, spawn_local};

#[tokio::test]
async fn a_thing_reaches_the_watcher_on_its_own_topics_and_no_other() {
    let certs = Certs::new();
    let device = certs.device("box");
    let broker = Mosquitto::start(&certs, Options::default().thing("box")).await;
    let subscriber = broker.subscribe("#").await;

    assert!(publish(broker.port(), &certs, &device, "pulsegate/other/readings", "[{}]").await);
    let payload = r#"[{"seq":"1-1"},{"seq":"1-2"}]"#;
    assert!(publish(broker.port(), &certs, &device, "pulsegate/box/readings", payload).await);

    let records =
        subscriber.wait_records("/readings", PATIENCE, |records| records.len() >= 2).await;
    assert_eq!(records::sequences(&records), ["1-1", "1-2"].into());
    assert_eq!(subscriber.len(), 1);
}

#[tokio::test]
async fn strangers_the_expired_and_the_revoked_are_refused() {
    let certs = Certs::new();
    let stranger = Certs::new().device("box");
    let expired = certs.device_with("box", Validity::Expired);
    let revoked = certs.device("box");
    let good = certs.device("box");
    let list = certs.revocation_list(&[&revoked]);
    let options = Options::default().thing("box").revocation_list(list);
    let broker = Mosquitto::start(&certs, options).await;

    for refused in [&stranger, &expired, &revoked] {
        assert!(!publish(broker.port(), &certs, refused, "pulsegate/box/readings", "{}").await);
    }
    assert!(publish(broker.port(), &certs, &good, "pulsegate/box/readings", "{}").await);
}

#[tokio::test]
async fn a_persistent_broker_keeps_what_the_watcher_missed_over_a_restart() {
    let certs = Certs::new();
    let device = certs.device("box");
    let mut broker = Mosquitto::start(&certs, Options::default().thing("box").persistent()).await;
    let subscriber = broker.subscribe("pulsegate/box/#").await;

    broker.stop().await;
    broker.start_again().await;
    assert!(publish(broker.port(), &certs, &device, "pulsegate/box/events", r#"{"n":1}"#).await);

    subscriber.wait_records("/events", PATIENCE, |records| records.len() == 1).await;
}

#[tokio::test]
async fn a_cut_link_passes_nothing_until_it_is_mended() {
    let certs = Certs::new();
    let device = certs.device("box");
    let broker = Mosquitto::start(&certs, Options::default().thing("box")).await;
    let link = Link::to(broker.port()).await;

    link.cut();
    assert!(!publish(link.port(), &certs, &device, "pulsegate/box/events", "{}").await);
    link.mend();
    assert!(publish(link.port(), &certs, &device, "pulsegate/box/events", "{}").await);

    assert_eq!(link.connections(), 2);
}

#[tokio::test]
async fn a_frozen_link_holds_bytes_back_and_loses_none() {
    let certs = Certs::new();
    let device = certs.device("box");
    let broker = Mosquitto::start(&certs, Options::default().thing("box")).await;
    let subscriber = broker.subscribe("#").await;
    let link = Link::to(broker.port()).await;

    link.freeze();
    let publish = publish(link.port(), &certs, &device, "pulsegate/box/events", "{}");
    let mend = async {
        eventually("a client connects", PATIENCE, async || (link.connections() == 1).then_some(()))
            .await;
        assert!(subscriber.is_empty());
        link.mend();
    };
    let (published, ()) = tokio::join!(publish, mend);

    assert!(published);
    subscriber.wait_records("/events", PATIENCE, |records| records.len() == 1).await;
}

/// So a run of the suite in another year (`make test-later`) is one for the agent too.
#[tokio::test]
async fn the_agent_has_the_clock_of_its_test() {
    let site = Site::start().await;
    let mut agent = site.device().started().await;
    let before = Timestamp::now();

    let status = agent.wait_status("it answers", PATIENCE, |_| true).await;

    let time = status["clock"]["time"].as_str().expect("a time");
    let time: Timestamp = time.parse().expect("RFC 3339");
    // Records tell milliseconds.
    assert!(time >= before - 1.millisecond() && time <= Timestamp::now(), "{time} for {before}");
}

/// F2: the agent, its camera's program, that program's children, and those that left its process group.
#[tokio::test]
async fn a_test_that_fails_leaves_no_process_and_no_file() {
    let site = Site::start().await;
    let camera = r#"
[[camera]]
id = "nest"
capture = { command = ["sh", "-c", "(setsid sleep 600 &) ; touch {dir}/begun; sleep 600; : {path}"] }
[[rule]]
name = "warm"
source = "air"
above = 30
then = ["capture:nest"]
"#;
    let device = site.device().with(camera);
    let dir = device.dir().to_owned();
    let begun = dir.join("begun");

    let failing = async move {
        let agent = device.started().await;
        agent.inbox().await.store(&[reading("air", "number", 31.0).to_string()]).await;
        let begins = async || begun.exists().then_some(());
        eventually("the camera's program begins", PATIENCE, begins).await;
        let running: Vec<_> = leftover::mentioning(device.dir()).into_iter().collect();
        assert!(running.len() >= 3, "the agent and its programs: {running:?}");
        panic!("as a test that fails");
    };
    let failed = LocalSet::new().run_until(async { spawn_local(failing).await }).await;

    let reason = failed.expect_err("it fails").into_panic();
    assert_eq!(reason.downcast_ref(), Some(&"as a test that fails"));
    let ended = async || leftover::mentioning(&dir).is_empty().then_some(());
    eventually("nothing mentions the device any more", PATIENCE, ended).await;
    assert!(!dir.exists());
}

/// Whether the broker took the message.
async fn publish(port: u16, certs: &Certs, device: &Issued, topic: &str, payload: &str) -> bool {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-h", HOST, "-p", &port.to_string(), "-q", "1", "-t", topic, "-m", payload]);
    command.arg("--cafile").arg(certs.ca());
    command.arg("--cert").arg(&device.files.certificate);
    command.arg("--key").arg(&device.files.private_key);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let status = tokio::process::Command::from(command).status().await;
    status.expect("mosquitto_pub is missing: run `tests/install-packages`").success()
}
