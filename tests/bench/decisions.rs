//! What deciding costs: rules, filters, and rules run again over what was stored.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pulsegate_tests::agent_process::{Agent, Device, program};
use pulsegate_tests::mosquitto::free_port;
use pulsegate_tests::{PATIENCE, eventually};
use serde::Serialize;
use tokio::time::Instant;

use crate::cloud::Cloud;
use crate::feed;
use crate::measure::{self, Usage};
use crate::passes::{DEADLINE, float};
use crate::subject::{GATEWAY, RecordForm, device};

/// As many show what one of them costs; a replay takes all.
const MOST: u32 = 200_000;
/// How often readings of a source come, in milliseconds.
const EVERY_MS: u32 = 1_000;
const FEW_SOURCES: u32 = 10;
/// Enough for what one takes to stand out from what the allocator keeps.
const MANY_SOURCES: u32 = 500;
/// Fills the windows of every source.
const ROUNDS: u32 = 130;
/// Passes of each, of which the one in the middle counts.
const REPEAT: usize = 3;
/// Passes everything, after it has looked at it.
const FILTERS: &str = "[publish.heart_rate]\nkeep = [{ above = 0 }]\ndrop = [{ above = 1000 }]\n\
                       min_change = 0.5\n";

/// One figure without something and with it, in the same run.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Beside {
    pub(crate) without: f64,
    pub(crate) with: f64,
}

/// What rules, filters and replays cost.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Decisions {
    pub(crate) readings: u32,
    pub(crate) rules: u32,
    pub(crate) sources: u32,
    /// CPU of a reading that is taken and stored, without rules and with all of them.
    pub(crate) ruled_cpu_us: Beside,
    /// CPU of a reading that is taken, stored and published, without filters and with some.
    pub(crate) filtered_cpu_us: Beside,
    /// Memory of one more source, without rules and with all of them.
    pub(crate) source_bytes: Beside,
    pub(crate) replayed_per_second: f64,
    pub(crate) replay_cpu_us: f64,
    pub(crate) replay_peak_rss_mb: f64,
}

pub(crate) async fn decisions(cloud: &Cloud, count: u32) -> Decisions {
    let rules = rules();
    let number = rules.matches("[[rule]]").count();
    let (mut without, mut with, mut unfiltered, mut filtered) = (vec![], vec![], vec![], vec![]);
    let few = count.min(MOST);
    for _ in 0..REPEAT {
        without.push(stored(cloud, "", few).await.0);
        with.push(stored(cloud, &rules, few).await.0);
        unfiltered.push(published(cloud, "", few).await);
        filtered.push(published(cloud, FILTERS, few).await);
    }
    let (_, device) = stored(cloud, &rules, count).await;
    let replay = replay(&device).await;
    Decisions {
        readings: count,
        rules: u32::try_from(number).unwrap_or(0),
        sources: FEW_SOURCES,
        ruled_cpu_us: Beside { without: middle(without), with: middle(with) },
        filtered_cpu_us: Beside { without: middle(unfiltered), with: middle(filtered) },
        source_bytes: Beside {
            without: source_bytes(cloud, "").await,
            with: source_bytes(cloud, &rules).await,
        },
        replayed_per_second: float(count.into()) / replay.0.as_secs_f64(),
        replay_cpu_us: replay.1.as_secs_f64() * 1e6 / float(count.into()),
        replay_peak_rss_mb: float(replay.2) / 1e6,
    }
}

/// Windows of each sort over each kind of value, and one rule or two of every other form.
fn rules() -> String {
    let mut rules = String::new();
    let mut rule = |name: &str, lines: &str| {
        let head = format!("[[rule]]\nname = \"{name}\"\n");
        writeln!(rules, "{head}{lines}").expect("a string takes everything");
    };
    let takes = ["mean", "min", "max", "count", "sum", "rate"];
    for (take, above) in takes.into_iter().zip([105, 65, 119, 100, 9_000, 500]) {
        let window = |window: &str| {
            format!(
                "on = \"heart_rate\"\nabove = {above}\nwindow = {{ {window}, take = \"{take}\" }}"
            )
        };
        rule(&format!("tumbling {take}"), &window("tumbling = \"60s\""));
        rule(&format!("sliding {take}"), &window("sliding = \"60s\", every = \"5s\""));
    }
    let belts = |lines: &str| format!("on = \"heart_rate\"\n{lines}");
    rule("high", &belts("above = 119"));
    rule("calm", &belts("above = 100\nat_most_every = \"10m\""));
    rule("long", &belts("above = 70\nfor = \"30s\""));
    rule("hysteresis", &belts("above = 119\nclear = { below = 61, for = \"20s\" }"));
    rule("unlike", &belts("anomaly = { learn = \"10m\" }"));
    rule("silent", &belts("silent_for = \"90s\""));
    let members = "[{ source = \"belt-1\", above = 100 }, { source = \"belt-2\", above = 100 }]";
    rule("all", &format!("all = {members}\nwithin = \"5s\""));
    rule("any", &format!("any = {members}"));
    rules
}

/// Reading `n` of belts that tell their rate each second.
fn line(n: u32, sources: u32) -> String {
    let (source, ms) = (n % sources, u64::from(n) * u64::from(EVERY_MS) / u64::from(sources));
    format!(
        "{{\"source\":\"belt-{source}\",\"kind\":\"heart_rate\",\"value\":{},\"time\":{}}}\n",
        60 + n / sources % 61,
        feed::TEN_MS + ms,
    )
}

fn offline(cloud: &Cloud, rules: &str) -> Device {
    device(cloud, GATEWAY, free_port(), RecordForm::Standard).with(rules)
}

/// Stores readings while the cloud is away. Returns the CPU microseconds of one of them.
async fn stored(cloud: &Cloud, rules: &str, count: u32) -> (f64, Device) {
    let device = offline(cloud, rules);
    let (mut agent, cpu) = fed(&device, FEW_SOURCES, count).await;
    agent.stop().await;
    (cpu, device)
}

async fn fed(device: &Device, sources: u32, count: u32) -> (Agent, f64) {
    let agent = device.start();
    feed::lines(&device.inbox_path(), (0..sources).map(|n| line(n, sources)).collect()).await;
    let before = Usage::of(agent.pid());
    let lines: String = (sources..count).map(|n| line(n, sources)).collect();
    feed::lines(&device.inbox_path(), lines).await;
    let used = Usage::of(agent.pid()).since(before);
    let cpu = used.cpu.as_secs_f64() * 1e6 / float((count - sources).into());
    (agent, cpu)
}

/// CPU microseconds of a reading all the way to the cloud.
async fn published(cloud: &Cloud, filters: &str, count: u32) -> f64 {
    let port = cloud.broker.port();
    let device = device(cloud, GATEWAY, port, RecordForm::Short).with(filters);
    let mut agent = device.start();
    cloud.expect(1);
    feed::socket(&device.inbox_path(), 1, 0..1).await;
    cloud.hears().await;
    cloud.expect(count);
    let before = Usage::of(agent.pid());
    feed::socket(&device.inbox_path(), 1, 1..count).await;
    cloud.arrived(count - 1, DEADLINE).await;
    let used = Usage::of(agent.pid()).since(before);
    agent.stop().await;
    used.cpu.as_secs_f64() * 1e6 / float(count.into())
}

/// Bytes that one source more takes.
async fn source_bytes(cloud: &Cloud, rules: &str) -> f64 {
    let mut held = Vec::new();
    for sources in [FEW_SOURCES, MANY_SOURCES] {
        let device = offline(cloud, rules);
        let (mut agent, _) = fed(&device, sources, sources * ROUNDS).await;
        held.push(float(measure::anonymous(agent.pid())));
        agent.stop().await;
    }
    (held[1] - held[0]) / float((MANY_SOURCES - FEW_SOURCES).into())
}

/// Runs the rules again. Returns how long it took, its CPU time, and its peak of memory.
async fn replay(device: &Device) -> (Duration, Duration, u64) {
    let mut peak = 0;
    let began = Instant::now();
    let mut child = command(&program(), &device.config_path())
        .spawn()
        .expect("the program was there a moment ago");
    let pid = child.id();
    let ended = eventually("the replay ends", PATIENCE, async || {
        peak = measure::peak_rss(pid).max(peak);
        measure::is_zombie(pid).then(|| (began.elapsed(), Usage::of(pid).cpu))
    });
    let (took, cpu) = ended.await;
    let status = child.wait().expect("it has ended");
    assert!(status.success(), "the replay: {status}");
    (took, cpu, peak)
}

fn command(program: &Path, config: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["replay", "--json", "--config"]).arg(config).stdout(Stdio::null());
    command
}

fn middle(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
