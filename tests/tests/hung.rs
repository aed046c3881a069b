//! Things that never answer, and an agent that goes on: pipes without a writer stand for a dead bus, a disk
//! that is gone, a device that was pulled out.

#![expect(clippy::disallowed_methods, reason = "a test may write and move files")]

use std::path::Path;
use std::time::Duration;

use pulsegate_tests::PATIENCE;
use pulsegate_tests::agent_process::{Agent, Device};
use pulsegate_tests::certs::Certs;
use pulsegate_tests::date;
use pulsegate_tests::inbox::heart_rate;
use pulsegate_tests::site::{Site, THING};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;

/// More than any pool that the runtime could have had.
const DEAD: usize = 9;
/// The unit's TimeoutStopSec.
const STOP: Duration = Duration::from_secs(30);

#[tokio::test]
async fn number_files_that_hang_hold_up_nothing_else() {
    let site = Site::start().await;
    let mut device = site.device();
    for n in 0..DEAD {
        make_pipe(&device.dir().join(format!("dead-{n}")));
        device = device.with(&number(&format!("dead-{n}")));
    }
    std::fs::write(device.dir().join("good"), "21562\n").expect("a file");
    let device = device.with(&number("good"));
    let mut agent = device.started().await;

    let all = |status: &Value| {
        let hung = |n| is_hung(status, &format!("dead-{n}"));
        status["link"]["state"] == "up"
            && (0..DEAD).all(hung)
            && source(status, "good")["readings"].as_u64() > Some(2)
    };
    let status = agent.wait_status("the link, the good one, and who hangs", PATIENCE, all).await;

    assert_eq!(source(&status, "good")["value"], "21.562");
    let degraded = status["degraded"].as_array().expect("a list");
    let told = |n: usize| {
        let begin = format!("source `dead-{n}`: hung: a read has not returned for ");
        degraded.iter().any(|trouble| trouble.as_str().is_some_and(|text| text.starts_with(&begin)))
    };
    assert!((0..DEAD).all(told), "each is told with its cure: {degraded:#?}");
    site.subscriber.wait_records("/readings", PATIENCE, |all| !all.is_empty()).await;
    stops(&mut agent).await;
}

#[tokio::test]
async fn a_reload_does_not_multiply_the_threads_that_hang() {
    let device = Device::new(THING);
    make_pipe(&device.dir().join("dead"));
    let certs = Certs::new();
    let identity = certs.device(THING);
    let device = device.identity(&identity.files).broker(1, &certs.ca()).with(&number("dead"));
    let mut agent = device.started().await;
    agent.wait_status("it hangs", PATIENCE, |status| is_hung(status, "dead")).await;

    for round in 1..=3 {
        let id = format!("round-{round}");
        let changed = device.config().replace("100ms", &format!("{round}s"));
        let marker = format!("[[simulated]]\nid = \"{id}\"\nkind = \"number\"\nevery = \"1s\"\n");
        std::fs::write(device.config_path(), changed + &marker).expect("a configuration");
        agent.sighup();
        let is_new = |status: &Value| has_source(status, &id) && is_hung(status, "dead");
        agent.wait_status("the new configuration is in force", PATIENCE, is_new).await;
    }

    assert_eq!(threads(&agent, "read dead"), 1);
    stops(&mut agent).await;
}

#[tokio::test]
async fn a_pipe_as_private_key_is_told_and_holds_up_nothing() {
    let mut site = Site::start().await;
    let device = site.device();
    let key = &site.identity.files.private_key;
    let put_aside = key.with_extension("aside");
    let mut agent = device.started().await;
    let is_up = |status: &Value| status["link"]["state"] == "up";
    agent.wait_status("the link is up", PATIENCE, is_up).await;

    std::fs::rename(key, &put_aside).expect("it is there");
    make_pipe(key);
    site.broker.stop().await;
    let is_told = |status: &Value| {
        let reason = status["link"]["last_error"].as_str();
        reason.is_some_and(|reason| reason.contains("not a regular file"))
    };
    agent.wait_status("it says what the key is", PATIENCE, is_told).await;
    let stored = agent.inbox().await.store(&[heart_rate("7", 72.0, date::ten())]).await;
    assert_eq!(stored.len(), 1, "it works");

    site.broker.start_again().await;
    std::fs::rename(&put_aside, key).expect("it was put aside");
    agent.wait_status("the link is up again", PATIENCE, is_up).await;
    std::fs::remove_file(key).expect("it is there");
    make_pipe(key);
    stops(&mut agent).await;
}

/// A configuration that names a pipe as key is refused at once, by `run` as by `check`.
#[tokio::test]
async fn a_pipe_as_private_key_does_not_hold_up_the_start() {
    let certs = Certs::new();
    let identity = certs.device(THING);
    let device = Device::new(THING).identity(&identity.files).broker(1, &certs.ca());
    std::fs::remove_file(&identity.files.private_key).expect("it is there");
    make_pipe(&identity.files.private_key);

    let mut agent = device.start();
    let ended = agent.wait(PATIENCE).await;
    let checked = device.run(&["check", "--config", &device.config_path().to_string_lossy()]);

    assert_eq!((ended.code(), checked.status.code()), (Some(78), Some(78)));
    let report = String::from_utf8_lossy(&checked.stdout);
    assert!(report.contains("not a regular file"), "{report}");
}

/// A recording that is a pipe is a source without readings, and nothing else.
#[tokio::test]
async fn a_pipe_as_recording_holds_up_nothing() {
    let site = Site::start().await;
    let device = site.device();
    make_pipe(&device.dir().join("rr.csv"));
    let simulated = "[[simulated]]\nid = \"dead\"\nkind = \"heart_rate\"\nevery = \"1s\"\n\
                     replay = \"{dir}/rr.csv\"\n";
    let device = device.with(simulated);
    let mut agent = device.started().await;

    let is_told = |status: &Value| {
        let reason = source(status, "dead")["no_reading"].as_str();
        status["link"]["state"] == "up"
            && reason.is_some_and(|reason| reason.contains("not a regular file"))
    };
    agent.wait_status("the link is up, and the source has a reason", PATIENCE, is_told).await;
    stops(&mut agent).await;
}

async fn stops(agent: &mut Agent) {
    agent.sigterm();
    let status = agent.wait(STOP).await;
    assert!(status.success(), "{status}");
}

/// A number file in the device's directory, under the id of its name.
fn number(name: &str) -> String {
    format!(
        "[[number]]\nid = \"{name}\"\nfile = \"{{dir}}/{name}\"\nscale = 0.001\nevery = \"100ms\"\n"
    )
}

fn make_pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe can be made");
}

fn source<'a>(status: &'a Value, id: &str) -> &'a Value {
    let sources = status["sources"].as_array().into_iter().flatten();
    sources.into_iter().find(|source| source["source"] == id).unwrap_or(&Value::Null)
}

fn has_source(status: &Value, id: &str) -> bool {
    source(status, id)["readings"].as_u64() > Some(0)
}

fn is_hung(status: &Value, id: &str) -> bool {
    let mut drivers = status["drivers"].as_array().into_iter().flatten();
    drivers.any(|driver| driver["source"] == id && driver["hung_for_s"].is_u64())
}

/// How many threads of the agent are called so.
fn threads(agent: &Agent, name: &str) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", agent.pid())).expect("it runs");
    let name_of = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    };
    tasks.filter_map(name_of).filter(|found| found.trim_end() == name).count()
}
