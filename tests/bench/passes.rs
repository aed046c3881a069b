//! What is done with a subject, and what is measured meanwhile.

use std::time::Duration;

use pulsegate_tests::PATIENCE;
use pulsegate_tests::agent_process::{Agent, Device, lane_count};
use pulsegate_tests::link::Link;
use pulsegate_tests::mosquitto::free_port;
use serde::Serialize;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cloud::Cloud;
use crate::feed;
use crate::loop_disk::LoopDisk;
use crate::measure::{self, Usage};
use crate::subject::{GATEWAY, RecordForm, Running, Subject, device};

/// Longer than the slowest peer takes for a hundred thousand readings.
pub(crate) const DEADLINE: Duration = Duration::from_secs(300);
/// A flood of this size is committed as soon as it pauses.
const BURST: u32 = 2_000;
/// One of the longest commit intervals measured, and a little more.
const SETTLING: Duration = Duration::from_secs(11);

/// Readings that bring the log to its full length, at which it is moved into the database.
const LOG_FILLING: u32 = 250_000;
/// Time between two readings of ten a second.
const SPREAD: Duration = Duration::from_millis(100);

/// Readings that went all the way, and what one of them cost.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Flow {
    pub(crate) subject: &'static str,
    pub(crate) readings: u32,
    /// From the first byte fed to the last reading arrived.
    pub(crate) readings_per_second: f64,
    /// From the first byte fed to the last answer to the feeder.
    pub(crate) taken_per_second: f64,
    pub(crate) cpu_us: f64,
    pub(crate) peak_rss_mb: f64,
    /// At the end of the pass: the proportional share, and what is no file.
    pub(crate) pss_mb: f64,
    pub(crate) anonymous_mb: f64,
    pub(crate) disk_bytes: f64,
    /// Counted in a pass of its own, as the fsyncs are.
    pub(crate) wire_bytes: f64,
    pub(crate) fsyncs: Option<u64>,
    pub(crate) arrived: u32,
    pub(crate) duplicates: u32,
}

/// Feeds `count` readings as fast as they are taken, and again through a link that counts.
pub(crate) async fn flow(subject: &Subject, cloud: &Cloud, count: u32, repeat: u32) -> Flow {
    let mut flows = Vec::new();
    for _ in 0..repeat {
        flows.push(once(subject, cloud, count).await);
    }
    flows.sort_by(|a, b| a.readings_per_second.total_cmp(&b.readings_per_second));
    let mut flow = flows.swap_remove(flows.len() / 2);
    (flow.wire_bytes, flow.fsyncs) = counted(subject, cloud, count).await;
    flow
}

async fn once(subject: &Subject, cloud: &Cloud, count: u32) -> Flow {
    let running = subject.start(cloud, cloud.broker.port(), None).await;
    let pid = running.pid();
    cloud.expect(count);
    let before = Usage::of(pid);
    let fed = running.feed(0..count).await;
    let seen = cloud.arrived(count, DEADLINE).await;
    let used = Usage::of(pid).since(before);
    let last = seen.last.expect("readings arrived");
    let flow = Flow {
        subject: subject.name(),
        readings: count,
        readings_per_second: f64::from(count) / (last - fed.began).as_secs_f64(),
        taken_per_second: f64::from(count) / (fed.taken - fed.began).as_secs_f64(),
        cpu_us: used.cpu.as_secs_f64() * 1e6 / f64::from(count),
        peak_rss_mb: float(measure::peak_rss(pid)) / 1e6,
        pss_mb: float(measure::pss(pid)) / 1e6,
        anonymous_mb: float(measure::anonymous(pid)) / 1e6,
        disk_bytes: float(used.written) / f64::from(count),
        wire_bytes: 0.0,
        fsyncs: None,
        arrived: seen.different,
        duplicates: seen.duplicates,
    };
    running.stop().await;
    flow
}

/// Bytes a reading on the way to the cloud, and fsyncs of the whole pass, from a pass whose speed
/// does not count.
async fn counted(subject: &Subject, cloud: &Cloud, count: u32) -> (f64, Option<u64>) {
    let dir = TempDir::with_prefix("pulsegate-trace-").expect("a temporary directory");
    let counts = dir.path().join("fsyncs");
    let trace = measure::can_trace().then_some(counts.as_path());
    let link = Link::to(cloud.broker.port()).await;
    let running = subject.start(cloud, link.port(), trace).await;
    cloud.expect(count);
    let before = link.sent();
    running.feed(0..count).await;
    cloud.arrived(count, DEADLINE).await;
    let wire = float(link.sent() - before) / f64::from(count);
    running.stop().await;
    match trace {
        Some(counts) => (wire, Some(measure::fsyncs(counts).await)),
        None => (wire, None),
    }
}

/// A queue that grew while the cloud was away, and how the agent starts with it and drains it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Queue {
    pub(crate) readings: u32,
    pub(crate) stored_per_second: f64,
    pub(crate) cpu_us: f64,
    pub(crate) disk_bytes: f64,
    pub(crate) file_bytes: f64,
    pub(crate) peak_rss_mb: f64,
    /// From its start until it listened, stored a first burst, and published a first reading.
    pub(crate) listens_after_ms: f64,
    pub(crate) stores_after_ms: f64,
    pub(crate) publishes_after_ms: f64,
    pub(crate) started_rss_mb: f64,
    pub(crate) drained_per_second: f64,
    pub(crate) drain_cpu_us: f64,
    pub(crate) drain_peak_rss_mb: f64,
    pub(crate) duplicates: u32,
}

pub(crate) async fn queue(cloud: &Cloud, count: u32) -> Queue {
    let device = device(cloud, GATEWAY, free_port(), RecordForm::Short);
    let mut agent = device.start();
    feed::socket(&device.inbox_path(), 1, count..count + 1).await;
    let before = Usage::of(agent.pid());
    let fed = feed::socket(&device.inbox_path(), feed::CLIENTS, 0..count).await;
    let used = Usage::of(agent.pid()).since(before);
    let peak_rss = measure::peak_rss(agent.pid());
    agent.sigkill().await;
    let file = device.state_dir().join("pulsegate.db");
    let file_bytes = std::fs::metadata(file).map_or(0, |metadata| metadata.len());

    let all = count + 1 + BURST;
    cloud.expect(all);
    let device = device.broker(cloud.broker.port(), &cloud.certs.ca());
    let began = Instant::now();
    let agent = device.start();
    let pid = agent.pid();
    let burst = feed::socket(&device.inbox_path(), 1, count + 1..all).await;
    let started_rss = measure::rss(pid);
    let seen = cloud.arrived(all, DEADLINE).await;
    let drained = Usage::of(pid);
    let drain_peak_rss = measure::peak_rss(pid);
    Running::Agent { device, agent }.stop().await;

    let (first, last) = (seen.first.expect("one arrived"), seen.last.expect("one arrived"));
    let milliseconds = |at: Instant| (at - began).as_secs_f64() * 1e3;
    Queue {
        readings: count,
        stored_per_second: f64::from(count) / (fed.taken - fed.began).as_secs_f64(),
        cpu_us: used.cpu.as_secs_f64() * 1e6 / f64::from(count),
        disk_bytes: float(used.written) / f64::from(count),
        file_bytes: float(file_bytes) / f64::from(count),
        peak_rss_mb: float(peak_rss) / 1e6,
        listens_after_ms: milliseconds(burst.began),
        stores_after_ms: milliseconds(burst.taken),
        publishes_after_ms: milliseconds(first),
        started_rss_mb: float(started_rss) / 1e6,
        drained_per_second: f64::from(all) / (last - first).as_secs_f64(),
        drain_cpu_us: drained.cpu.as_secs_f64() * 1e6 / f64::from(all),
        drain_peak_rss_mb: float(drain_peak_rss) / 1e6,
        duplicates: seen.duplicates,
    }
}

/// What a device writes in a day while it publishes ten readings a second, spread over the second.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Wear {
    pub(crate) commit_interval: &'static str,
    pub(crate) measured_s: f64,
    /// By the kernel's count for the process.
    pub(crate) disk_mb_a_day: f64,
    /// By the count of a block device with ext4, on which only the store is: with the journal and all other
    /// metadata. `None` without root and loop devices.
    pub(crate) device_mb_a_day: Option<f64>,
    pub(crate) cpu_percent: f64,
}

/// The log has its full length before the measurement, as on a device that has run for an hour.
pub(crate) async fn wear(
    cloud: &Cloud,
    thing: &str,
    commit_interval: &'static str,
    span: Duration,
) -> Wear {
    let disk = LoopDisk::mount_new();
    let device = device(cloud, thing, cloud.broker.port(), RecordForm::Standard)
        .set("publish.readings", "batch", "{ delay = \"5s\" }")
        .set("buffer", "commit_interval", &format!("\"{commit_interval}\""));
    let device = match &disk {
        Some(disk) => device.set("", "state_dir", &format!("{:?}", disk.path())),
        None => device,
    };
    let mut agent = device.started().await;
    feed::socket(&device.inbox_path(), feed::CLIENTS, 0..LOG_FILLING).await;
    let sent = |status: &serde_json::Value| lane_count(status, "readings", "pending") == 0;
    agent.wait_status("everything is sent", DEADLINE, sent).await;
    let mut feeding = JoinSet::new();
    feeding.spawn(feed::trickle(device.inbox_path(), SPREAD));
    tokio::time::sleep(SETTLING).await;

    let on_device = || disk.as_ref().map(LoopDisk::sync_and_count);
    let (device_before, began, before) = (on_device(), Instant::now(), Usage::of(agent.pid()));
    tokio::time::sleep(span).await;
    let (took, used) = (began.elapsed(), Usage::of(agent.pid()).since(before));
    let device_after = on_device();
    feeding.abort_all();
    agent.stop().await;
    let a_day = |bytes: u64| float(bytes) * 86_400.0 / took.as_secs_f64() / 1e6;
    Wear {
        commit_interval,
        measured_s: took.as_secs_f64(),
        disk_mb_a_day: a_day(used.written),
        device_mb_a_day: device_before
            .zip(device_after)
            .map(|(before, after)| a_day(after - before)),
        cpu_percent: 100.0 * used.cpu.as_secs_f64() / took.as_secs_f64(),
    }
}

/// The agent with one source at one reading a second, published.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Idle {
    pub(crate) cpu_s_an_hour: f64,
    pub(crate) wake_ups_per_second: f64,
    /// The same by thread.
    pub(crate) by_thread: Vec<(String, f64)>,
}

pub(crate) async fn idle(cloud: &Cloud, span: Duration) -> Idle {
    let device = device(cloud, GATEWAY, cloud.broker.port(), RecordForm::Standard)
        .unset("publish.readings", "batch")
        .with("[[simulated]]\nid = \"belt\"\nkind = \"heart_rate\"\nevery = \"1s\"\n");
    let mut agent = device.started().await;
    let up = |status: &serde_json::Value| status["link"]["state"] == "up";
    agent.wait_status("the link is up", PATIENCE, up).await;
    tokio::time::sleep(SETTLING).await;
    let pid = agent.pid();
    let (began, used, before) = (Instant::now(), Usage::of(pid), measure::wake_ups(pid));
    tokio::time::sleep(span).await;
    let seconds = began.elapsed().as_secs_f64();
    let (used, after) = (Usage::of(pid).since(used), measure::wake_ups(pid));
    agent.stop().await;
    let rate = |(name, count): (String, u64)| {
        let count = count - before.get(&name).copied().unwrap_or(0).min(count);
        (name, float(count) / seconds)
    };
    let by_thread: Vec<_> = after.into_iter().map(rate).collect();
    Idle {
        cpu_s_an_hour: used.cpu.as_secs_f64() * 3_600.0 / seconds,
        wake_ups_per_second: by_thread.iter().map(|(_, rate)| rate).sum(),
        by_thread,
    }
}

/// What a gateway with ten belts holds in memory while it publishes.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Memory {
    pub(crate) rss_mb: f64,
    pub(crate) pss_mb: f64,
    /// What is its own, and no file.
    pub(crate) anonymous_mb: f64,
}

/// Alone: what two processes share would count by half.
pub(crate) async fn memory(cloud: &Cloud) -> Memory {
    let (_device, mut agent) = settled(cloud, GATEWAY, "1s").await;
    let pid = agent.pid();
    let memory = Memory {
        rss_mb: float(measure::rss(pid)) / 1e6,
        pss_mb: float(measure::pss(pid)) / 1e6,
        anonymous_mb: float(measure::anonymous(pid)) / 1e6,
    };
    agent.stop().await;
    memory
}

/// A device that has been publishing for a while, so that its start is not measured.
async fn settled(cloud: &Cloud, thing: &str, commit_interval: &str) -> (Device, Agent) {
    let device = ten_belts(cloud, thing, commit_interval);
    let mut agent = device.started().await;
    let up = |status: &serde_json::Value| status["link"]["state"] == "up";
    agent.wait_status("the link is up", PATIENCE, up).await;
    tokio::time::sleep(SETTLING).await;
    (device, agent)
}

fn ten_belts(cloud: &Cloud, thing: &str, commit_interval: &str) -> Device {
    let belt = |n: u32| {
        format!(
            "[[simulated]]\nid = \"belt-{n}\"\nkind = \"heart_rate\"\nevery = \"1s\"\nseed = {n}\n"
        )
    };
    let belts: String = (0..10).map(belt).collect();
    device(cloud, thing, cloud.broker.port(), RecordForm::Standard)
        .set("publish.readings", "batch", "{ delay = \"5s\" }")
        .set("buffer", "commit_interval", &format!("\"{commit_interval}\""))
        .with(&belts)
}

/// For figures: exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "no count here is that large")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}
