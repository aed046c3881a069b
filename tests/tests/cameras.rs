//! Cameras, by the agent as it runs: SQ-3 and NC-1 of the acceptance scenarios; P1, P3 and P7 for
//! pictures. A small script stands in for the program of a camera.

#![expect(clippy::disallowed_methods, reason = "a test may write files, and measures time")]

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Instant;

use pulsegate_tests::agent_process::Device;
use pulsegate_tests::site::Site;
use pulsegate_tests::{PATIENCE, choose_seed, eventually};
use ring::digest;
use rustix::process::Signal;
use serde_json::{Value, json};

/// The least that begins and ends like a JPEG.
const JPEG: &[u8] = &[0xFF, 0xD8, 0xFF, 0xE0, 1, 2, 3, 0xFF, 0xD9];

const CAFE: &str = r#"
[[camera]]
id = "nest"
capture = { command = ["{dir}/camera", "{path}"], deadline = "20s", rest = "0s" }
[[visit]]
source = "feeder"
gap = "3s"
then = ["capture:nest", "capture:nest:end"]
[[rule]]
name = "too warm"
source = "air"
above = 30
then = ["alert", "capture:nest"]
"#;

/// A device with a camera that copies a picture, once `before` of it is done.
fn cafe(site: &Site, more: &str, before: &str) -> Device {
    let device = site.device().with(CAFE).with(more);
    std::fs::write(device.dir().join("jpeg"), JPEG).expect("a picture");
    script(&device, before);
    device
}

fn script(device: &Device, before: &str) {
    let dir = device.dir().display();
    let script = format!("#!/bin/sh\n{before}\ncp '{dir}/jpeg' \"$1\"\n");
    // In the place of the old one at once: an agent may be about to run it.
    let (path, beside) = (device.dir().join("camera"), device.dir().join("camera.new"));
    std::fs::write(&beside, script).expect("a script");
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    std::fs::rename(beside, path).expect("its name");
}

fn state(state: &str) -> String {
    json!({ "source": "feeder", "kind": "lid", "value": state }).to_string()
}

fn warm(celsius: f64) -> String {
    json!({ "source": "air", "kind": "number", "value": celsius }).to_string()
}

/// Waits for so many different events of one sort.
async fn events(site: &Site, event: &str, count: usize) -> Vec<Value> {
    let of = |records: &[Value]| -> Vec<Value> {
        let mut seen = HashSet::new();
        let is_new = |record: &&Value| record["event"] == event && seen.insert(record.to_string());
        records.iter().filter(is_new).cloned().collect()
    };
    let enough = |records: &[Value]| of(records).len() >= count;
    of(&site.subscriber.wait_records("/events", PATIENCE, enough).await)
}

fn pictures(device: &Device) -> PathBuf {
    device.state_dir().join("pictures")
}

/// The names of the pictures, the hidden ones too.
fn names(device: &Device) -> Vec<String> {
    let entries = std::fs::read_dir(pictures(device)).into_iter().flatten();
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn sha256(bytes: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, bytes);
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SQ-3.
#[tokio::test]
async fn a_visit_has_pictures_that_are_linked_to_its_id() {
    let site = Site::start().await;
    let device = cafe(&site, "", "");
    let mut agent = device.started().await;

    agent.inbox().await.store(&[state("open"), state("closed")]).await;
    let pictures_told = events(&site, "picture", 2).await;
    let visits = events(&site, "visit", 1).await;

    for (picture, reason) in pictures_told.iter().zip(["begin", "end"]) {
        assert_eq!(picture["visit"], visits[0]["visit"], "{picture}");
        assert_eq!(picture["reason"], reason);
        assert_eq!((&picture["camera"], &picture["source"]), (&json!("nest"), &json!("feeder")));
        let path = pictures(&device).join(picture["key"].as_str().expect("a key"));
        assert_eq!(std::fs::read(path).expect("the picture"), JPEG);
        assert_eq!(picture["bytes"], JPEG.len());
        assert_eq!(picture["sha256"], sha256(JPEG));
    }
    let status = agent.status().await.expect("a status");
    assert_eq!(
        (&status["cameras"][0]["taken"], &status["pictures"]["kept"]),
        (&json!(2), &json!(2))
    );
    agent.stop().await;
}

/// SQ-3, by a lid that moves by itself: nine openings, and then none.
#[tokio::test]
async fn nine_openings_of_a_lid_are_counted_on_a_display_and_have_their_picture() {
    let site = Site::start().await;
    let device = site.device().with(
        r#"
[[simulated]]
id = "lid"
kind = "lid"
every = "500ms"
faults = { silences = [{ at = "4550ms", lasts = "7d" }] }
visit = { gap = "5s", then = ["output:display:count", "capture:nest:opening"] }
[[output]]
id = "display"
file = "{dir}/display"
[[camera]]
id = "nest"
capture = { command = ["{dir}/camera", "{path}"] }
"#,
    );
    std::fs::write(device.dir().join("jpeg"), JPEG).expect("a picture");
    script(&device, "");
    let agent = device.started().await;

    let mut shown = vec![0];
    let display = device.dir().join("display");
    let is_over = async || {
        let level = std::fs::read_to_string(&display).unwrap_or_default();
        if let Ok(level) = level.trim().parse::<u32>()
            && shown.last() != Some(&level)
        {
            shown.push(level);
        }
        (shown.len() > 1 && shown.last() == Some(&0)).then_some(())
    };
    eventually("the display is at 0 again", PATIENCE, is_over).await;
    let visits = events(&site, "visit", 1).await;
    let pictures = events(&site, "picture", 1).await;

    let (up, down) = shown.split_at(shown.len() - 1);
    assert!(up.is_sorted() && up.last() == Some(&9) && down == [0], "{shown:?}");
    assert_eq!(visits[0]["openings"], 9);
    assert!(pictures.iter().all(|picture| picture["visit"] == visits[0]["visit"]));
    drop(agent);
}

#[tokio::test]
async fn an_alert_has_a_picture_with_its_rule_and_source() {
    let site = Site::start().await;
    let device = cafe(&site, "", "");
    let agent = device.started().await;

    agent.inbox().await.store(&[warm(31.0)]).await;
    let told = events(&site, "picture", 1).await;

    let linked = ["reason", "rule", "source"].map(|key| &told[0][key]);
    assert_eq!(linked, ["alert", "too warm", "air"]);
    assert!(told[0].get("visit").is_none(), "{}", told[0]);
}

/// P1 and P3: the power fails in the middle of a picture, once the program has written half of it.
#[tokio::test]
async fn a_power_cut_in_the_middle_of_a_picture_leaves_none() {
    let site = Site::start().await;
    let half = "printf half > \"$1\"; sleep 600";
    let device = cafe(&site, "", half);
    let mut agent = device.started().await;

    agent.inbox().await.store(&[warm(31.0)]).await;
    let is_half = async || names(&device).iter().any(|name| name.starts_with('.')).then_some(());
    eventually("half a picture", PATIENCE, is_half).await;
    agent.sigkill().await;
    script(&device, "");
    let agent = device.started().await;
    agent.inbox().await.store(&[warm(20.0), warm(32.0)]).await;
    let told = events(&site, "picture", 1).await;

    assert_eq!(told.len(), 1, "only the second was taken: {told:?}");
    assert_eq!(names(&device), [told[0]["key"].as_str().expect("a key")]);
    assert_eq!(told[0]["sha256"], sha256(JPEG), "and whole");
}

/// The agent alone is killed, as by the kernel when memory is short: what its program still writes is no
/// picture, and the program does not outlive the test.
#[tokio::test]
async fn a_program_that_outlives_its_agent_makes_no_picture() {
    let site = Site::start().await;
    let device = cafe(&site, "", "");
    let wait =
        "printf half > \"$1\"; while ! [ -e '{dir}/go' ]; do sleep 0.05; done; : > '{dir}/done'";
    script(&device, &wait.replace("{dir}", &device.dir().display().to_string()));
    let mut agent = device.started().await;
    agent.inbox().await.store(&[warm(31.0)]).await;
    let is_half = async || names(&device).iter().any(|name| name.starts_with('.')).then_some(());
    eventually("half a picture", PATIENCE, is_half).await;

    agent.signal(Signal::KILL);
    agent.wait(PATIENCE).await;
    script(&device, "");
    let agent = device.started().await;
    std::fs::write(device.dir().join("go"), "").expect("a sign");
    let done = async || device.dir().join("done").exists().then_some(());
    eventually("the program that outlived its agent ends", PATIENCE, done).await;
    agent.inbox().await.store(&[warm(20.0), warm(32.0)]).await;
    let told = events(&site, "picture", 1).await;

    assert_eq!(told.len(), 1, "only the second was taken: {told:?}");
    assert_eq!(told[0]["sha256"], sha256(JPEG), "and whole");
}

/// P1 and P3: the power fails at any moment of a picture. Each that is told of is there, and whole.
#[tokio::test]
async fn whatever_moment_the_power_fails_a_picture_that_is_told_of_is_whole() {
    let seed = choose_seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let site = Site::start().await;
    let device = cafe(&site, "", "printf half > \"$1\"; sleep 0.02; rm \"$1\"");

    for _ in 0..8 {
        let mut agent = device.started().await;
        let mut inbox = agent.inbox().await;
        inbox.store(&[warm(20.0), warm(31.0)]).await;
        let moment = std::time::Duration::from_millis(random.u64(..120));
        tokio::time::sleep(moment).await;
        agent.sigkill().await;
    }
    let agent = device.started().await;
    agent.inbox().await.store(&[warm(20.0), warm(31.0)]).await;
    let last = |records: &[Value]| {
        let mut pictures = records.iter().filter(|record| record["event"] == "picture");
        pictures
            .any(|picture| picture["key"].as_str().is_some_and(|key| key.starts_with("00000009")))
    };
    site.subscriber.wait_records("/events", PATIENCE, last).await;

    for picture in events(&site, "picture", 1).await {
        let path = pictures(&device).join(picture["key"].as_str().expect("a key"));
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{picture}: {error}"));
        assert_eq!(picture["sha256"], sha256(&bytes), "{picture}");
        assert_eq!(bytes, JPEG, "{picture}");
    }
}

/// P7: a camera that hangs, or gives nothing, is told once with its reason, and works again when it
/// does.
#[tokio::test]
async fn a_camera_that_fails_is_told_and_degraded_until_it_takes_a_picture() {
    let site = Site::start().await;
    let device = cafe(&site, "", "sleep 600");
    let impatient = device.config().replace("deadline = \"20s\"", "deadline = \"1s\"");
    let mut agent = device.start_as(&impatient);
    agent.wait_status("it answers", PATIENCE, |_| true).await;
    let mut inbox = agent.inbox().await;

    let began = Instant::now();
    inbox.store(&[warm(31.0)]).await;
    let told = events(&site, "picture_failed", 1).await;
    assert!(began.elapsed() < PATIENCE, "it was killed");
    let reason = told[0]["reason"].as_str().expect("a reason");
    assert!(reason.ends_with("took more than 1 s"), "{reason}");

    script(&device, "exit 0");
    inbox.store(&[warm(20.0), warm(32.0)]).await;
    let failed = |count: u64| move |status: &Value| status["cameras"][0]["failed"] == count;
    let status = agent.wait_status("it failed again", PATIENCE, failed(2)).await;
    assert_eq!(status["cameras"][0]["last_error"], "there is no picture");
    assert!(status["degraded"].to_string().contains("camera `nest`: there is no picture"));

    script(&device, "");
    inbox.store(&[warm(20.0), warm(33.0)]).await;
    events(&site, "picture", 1).await;
    let status = agent.status().await.expect("a status");
    assert_eq!(status["cameras"][0]["last_error"], Value::Null);
    assert_eq!(events(&site, "picture_failed", 1).await.len(), 1, "told once");
}

/// NC-1: the limit is not passed, the oldest go first, and no reading goes for a picture.
#[tokio::test]
async fn pictures_keep_to_their_limit_and_never_cost_a_reading() {
    const MAX: u64 = 1 << 20;
    let site = Site::start().await;
    let device = cafe(&site, "[pictures]\nmax_bytes = \"1MiB\"\n", "");
    std::fs::write(device.dir().join("jpeg"), vec![7; 100_000]).expect("a larger picture");
    let mut agent = device.started().await;
    let mut inbox = agent.inbox().await;

    for picture in 1..=12_u64 {
        inbox.store(&[warm(20.0), warm(31.0)]).await;
        let taken = |status: &Value| status["cameras"][0]["taken"] == picture;
        let status = agent.wait_status("a picture", PATIENCE, taken).await;
        let bytes = status["pictures"]["bytes"].as_u64().expect("a number");
        assert!(bytes <= MAX - MAX / 8, "{bytes}");
    }
    let told = events(&site, "picture", 12).await;

    let evicted: u64 = told.iter().filter_map(|picture| picture["evicted"].as_u64()).sum();
    let keys: Vec<&str> = told.iter().filter_map(|picture| picture["key"].as_str()).collect();
    assert_eq!(evicted, 3, "each is told of");
    assert_eq!(names(&device), keys[3..], "the newest are there");
    let status = agent.status().await.expect("a status");
    assert_eq!(status["pictures"]["evicted"], 3);
    assert_eq!(status["lanes"]["readings"]["dropped"], 0);
    assert_eq!(status["lanes"]["readings"]["recorded"], 24);
}
