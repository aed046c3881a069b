//! The agent as a person sets it up: a configuration of ten lines, a belt in reach, a sensor that
//! is a file, and a broker over mutual TLS.

use std::path::PathBuf;
use std::time::Duration;

use pulsegate_tests::PATIENCE;
use pulsegate_tests::agent_process::Device;
use pulsegate_tests::fake_bluez::{Belt, FakeBluez};
use pulsegate_tests::site::{Site, THING};
use serde_json::{Value, json};

const ADDRESS: &str = "A0:9E:1A:01:02:03";
const NAME: &str = "Polar H10 0102";
const BEAT: Duration = Duration::from_millis(100);
/// 72 beats a minute, with skin contact and one RR interval of 812/1024 s.
const SEVENTY_TWO: &[u8] = &[0x16, 72, 0x2c, 0x03];

#[tokio::test]
async fn ten_lines_publish_a_heart_rate_and_a_number() {
    let room = Room::furnish().await;
    room.write_temperature("21437\n");
    let text = room.ten_lines();
    assert_eq!(text.lines().count(), 10, "{text}");
    let mut agent = room.device.start_as(&text);

    // The readings of a default configuration go after five seconds.
    let both = |records: &[Value]| {
        let kinds = |kind: &str| records.iter().any(|record| record["kind"] == kind);
        kinds("heart_rate") && kinds("number")
    };
    let records = room.site.subscriber.wait_records("/readings", PATIENCE, both).await;

    let of = |source: &str| records.iter().find(|record| record["source"] == source).expect("one");
    assert_eq!(of("7")["bpm"], 72);
    assert_eq!((&of("air")["value"], &of("air")["unit"]), (&json!(21.437), &json!("celsius")));
    let status = agent.stop().await;
    assert!(status.success(), "{status}");
}

/// P13, and one event each when a source goes and when it returns.
#[tokio::test]
async fn a_belt_that_walks_away_and_returns_is_two_events_and_no_address() {
    let room = Room::furnish().await;
    let device = room.site.device().env("DBUS_SYSTEM_BUS_ADDRESS", room.bluez.address());
    let device = device
        .set("bluetooth", "silence", "\"5s\"")
        .with(&format!("[[heart_rate]]\nid = \"7\"\naddress = {ADDRESS:?}\n"));
    let mut agent = device.started().await;
    let beats = |records: &[Value]| records.len() >= 5;
    room.site.subscriber.wait_records("/readings", PATIENCE, beats).await;
    let status = agent
        .wait_status("the monitor is connected", PATIENCE, |status| {
            monitor(status)["connected"] == true
        })
        .await;
    assert_eq!(monitor(&status)["source"], "7");
    assert_eq!(status["degraded"], json!([]));

    room.belt.leave().await.expect("the bus is up");
    let lost = |events: &[Value]| events.iter().any(|event| event["event"] == "source_lost");
    room.site.subscriber.wait_records("/events", PATIENCE, lost).await;
    let status = agent.status().await.expect("it answers");
    let degraded = status["degraded"].to_string();
    assert!(degraded.contains("source `7`"), "{degraded}");
    room.belt.come_back().await.expect("the bus is up");
    let returned =
        |events: &[Value]| events.iter().any(|event| event["event"] == "source_returned");
    let events = room.site.subscriber.wait_records("/events", PATIENCE, returned).await;

    let told: Vec<(&Value, &Value)> =
        events.iter().map(|event| (&event["event"], &event["source"])).collect();
    assert_eq!(
        told,
        [(&json!("source_lost"), &json!("7")), (&json!("source_returned"), &json!("7"))]
    );
    assert!(events[0]["reason"].is_string() && events[1]["seconds"].as_f64() > Some(0.0));
    agent.stop().await;
    room.nothing_names_the_belt(&device);
}

/// P7: without BlueZ, or before it is up, the agent runs and says what it misses.
#[tokio::test]
async fn an_agent_without_bluetooth_starts_and_does_the_rest() {
    let room = Room::furnish().await;
    room.write_temperature("21437\n");
    let device = room.site.device().env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent");
    let device = device.with(&format!(
        "[[heart_rate]]\nid = \"7\"\naddress = {ADDRESS:?}\n\n\
         [[number]]\nid = \"air\"\nfile = {:?}\nevery = \"100ms\"\n",
        room.thermometer()
    ));
    let mut agent = device.started().await;

    let some = |records: &[Value]| records.len() >= 3;
    let records = room.site.subscriber.wait_records("/readings", PATIENCE, some).await;

    assert!(records.iter().all(|record| record["source"] == "air"));
    agent
        .wait_status("it says that there is no monitor", PATIENCE, |status| {
            status["degraded"].to_string().contains("source `7`")
        })
        .await;
    assert!(agent.stop().await.success());
}

/// A site with an adapter, a belt that beats, and a thermometer.
struct Room {
    site: Site,
    bluez: FakeBluez,
    belt: Belt,
    device: Device,
}

impl Room {
    async fn furnish() -> Self {
        let site = Site::start().await;
        let bluez = FakeBluez::start().await.expect("a bus");
        bluez.add_adapter("hci0", "00:1A:7D:DA:71:13").await.expect("an adapter");
        let belt = bluez.add_belt("hci0", ADDRESS, NAME).await.expect("a belt");
        belt.beat(SEVENTY_TWO, BEAT);
        let device = Device::new(THING).env("DBUS_SYSTEM_BUS_ADDRESS", bluez.address());
        Self { site, bluez, belt, device }
    }

    #[expect(clippy::disallowed_methods, reason = "the kernel writes such files at once")]
    fn write_temperature(&self, text: &str) {
        std::fs::write(self.thermometer(), text).expect("a file of ours");
    }

    fn thermometer(&self) -> PathBuf {
        self.device.dir().join("temperature")
    }

    /// A machine without a synchronised clock would keep readings back for a minute: that is
    /// another test's.
    fn ten_lines(&self) -> String {
        let files = &self.site.identity.files;
        let number = "scale = 0.001, unit = \"celsius\", every = \"1s\"";
        [
            format!("thing = {THING:?}"),
            format!("endpoint = \"localhost:{}\"", self.site.broker.port()),
            format!("state_dir = {:?}", self.device.state_dir()),
            format!("heart_rate = [{{ id = \"7\", address = {ADDRESS:?} }}]"),
            format!("number = [{{ id = \"air\", file = {:?}, {number} }}]", self.thermometer()),
            "clock.trust = \"system\"".to_owned(),
            "[identity]".to_owned(),
            format!("certificate = {:?}", files.certificate),
            format!("private_key = {:?}", files.private_key),
            format!("roots = {:?}", self.site.ca()),
        ]
        .join("\n")
    }

    /// P13: neither the belt's address nor its name is in what was published or logged.
    fn nothing_names_the_belt(&self, device: &Device) {
        let plain = ADDRESS.replace(':', "");
        let words = [ADDRESS, &ADDRESS.replace(':', "_"), &plain, NAME].map(str::to_lowercase);
        for message in self.site.subscriber.messages() {
            let text = format!("{} {}", message.topic, String::from_utf8_lossy(&message.payload));
            let text = text.to_lowercase();
            assert!(words.iter().all(|word| !text.contains(word)), "{text}");
        }
        for line in device.log().lines() {
            let line = line.to_lowercase();
            assert!(words.iter().all(|word| !line.contains(word)), "{line}");
        }
    }
}

fn monitor(status: &Value) -> Value {
    let drivers = status["drivers"].as_array().expect("a list");
    let monitor = drivers.iter().find(|driver| driver["driver"] == "heart_rate");
    monitor.cloned().unwrap_or_default()
}
