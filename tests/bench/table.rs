//! The report: what was measured, on what, beside whom, and how far from the bars.

#![expect(clippy::print_stdout, reason = "the report of a command")]

use serde::Serialize;
use serde_json::json;

use crate::decisions::{Beside, Decisions};
use crate::passes::{Flow, Idle, Memory, Queue, Wear};

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Vec<(&'static str, String)>,
    pub(crate) flows: Vec<Flow>,
    pub(crate) not_run: Vec<String>,
    pub(crate) queue: Option<Queue>,
    pub(crate) decisions: Option<Decisions>,
    pub(crate) memory: Option<Memory>,
    pub(crate) idle: Option<Idle>,
    pub(crate) wear: Vec<Wear>,
}

/// A figure that we set ourselves to reach.
struct Bar {
    what: &'static str,
    measured: f64,
    bar: f64,
    /// Whether more is better.
    more: bool,
}

pub(crate) fn json(report: &Report) {
    let bars: Vec<_> = bars(report)
        .iter()
        .map(|bar| json!({ "what": bar.what, "measured": bar.measured, "bar": bar.bar, "times_as_good": bar.ratio() }))
        .collect();
    println!("{:#}", json!({ "measured": report, "bars": bars }));
}

pub(crate) fn text(report: &Report) {
    for (what, value) in &report.machine {
        println!("{what:12} {value}");
    }
    flows(report);
    ratios(report);
    if let Some(queue) = &report.queue {
        self::queue(queue);
    }
    if let Some(decisions) = &report.decisions {
        self::decisions(decisions);
    }
    ten_belts(report);
    println!("\n{:44} {:>10} {:>10}   times as good", "bar", "measured", "bar");
    for bar in bars(report) {
        println!("{:44} {:>10.1} {:>10.1} {:>10.2}", bar.what, bar.measured, bar.bar, bar.ratio());
    }
}

fn flows(report: &Report) {
    if report.flows.is_empty() {
        return;
    }
    println!(
        "\n{:26} {:>9} {:>10} {:>10} {:>7} {:>8} {:>7} {:>8} {:>7} {:>7} {:>7} {:>8} {:>5}",
        "",
        "readings",
        "a second",
        "taken/s",
        "CPU us",
        "peak RSS",
        "PSS MB",
        "anon. MB",
        "disk B",
        "wire B",
        "fsyncs",
        "arrived",
        "twice"
    );
    for flow in &report.flows {
        println!(
            "{:26} {:>9} {:>10.0} {:>10.0} {:>7.2} {:>8.1} {:>7.1} {:>8.1} {:>7.0} {:>7.0} {:>7} {:>8} {:>5}",
            flow.subject,
            flow.readings,
            flow.readings_per_second,
            flow.taken_per_second,
            flow.cpu_us,
            flow.peak_rss_mb,
            flow.pss_mb,
            flow.anonymous_mb,
            flow.disk_bytes,
            flow.wire_bytes,
            flow.fsyncs.map_or_else(|| "?".to_owned(), |count| count.to_string()),
            flow.arrived,
            flow.duplicates,
        );
    }
    for not_run in &report.not_run {
        println!("not run: {not_run}");
    }
}

/// How many times as good the agent is as each peer, with as many readings or the most there were.
fn ratios(report: &Report) {
    let (ours, peers): (Vec<_>, Vec<_>) =
        report.flows.iter().partition(|flow| flow.subject.starts_with("pulsegate"));
    if ours.is_empty() || peers.is_empty() {
        return;
    }
    println!(
        "\n{:52} {:>9} {:>7} {:>7} {:>7} {:>7}",
        "times as good as", "a second", "CPU", "RSS", "disk", "wire"
    );
    for peer in peers {
        let same = |flow: &&&Flow| flow.readings == peer.readings;
        let most = ours.iter().map(|flow| flow.readings).max().unwrap_or(0);
        let matching: Vec<_> = match ours.iter().filter(same).count() {
            0 => ours.iter().filter(|flow| flow.readings == most).collect(),
            _ => ours.iter().filter(same).collect(),
        };
        for flow in matching {
            println!(
                "{:52} {:>9.1} {:>7.1} {:>7.2} {:>7} {:>7.2}",
                format!("{} ({}): {}", peer.subject, peer.readings, flow.subject),
                flow.readings_per_second / peer.readings_per_second,
                peer.cpu_us / flow.cpu_us,
                peer.peak_rss_mb / flow.peak_rss_mb,
                if peer.disk_bytes > 0.0 {
                    format!("{:.1}", peer.disk_bytes / flow.disk_bytes)
                } else {
                    "-".to_owned() // it saves each second, and this took less
                },
                peer.wire_bytes / flow.wire_bytes,
            );
        }
    }
}

fn queue(queue: &Queue) {
    println!("\nA queue of {} readings, gathered while the cloud was away:", queue.readings);
    for (what, value) in [
        ("stored a second", queue.stored_per_second),
        ("CPU us a reading", queue.cpu_us),
        ("disk bytes written a reading", queue.disk_bytes),
        ("disk bytes kept a reading", queue.file_bytes),
        ("peak RSS, MB", queue.peak_rss_mb),
        ("started with it: listens after, ms", queue.listens_after_ms),
        ("first burst stored after, ms", queue.stores_after_ms),
        ("first reading published after, ms", queue.publishes_after_ms),
        ("RSS then, MB", queue.started_rss_mb),
        ("drained, readings a second", queue.drained_per_second),
        ("CPU us a reading", queue.drain_cpu_us),
        ("peak RSS, MB", queue.drain_peak_rss_mb),
        ("duplicates", f64::from(queue.duplicates)),
    ] {
        println!("  {what:36} {value:>12.1}");
    }
}

fn decisions(decisions: &Decisions) {
    let Decisions { readings, rules, sources, .. } = decisions;
    println!("\n{readings} readings of {sources} sources, {rules} rules:");
    println!("  {:36} {:>12} {:>12} {:>12}", "", "without", "with", "times");
    for (what, beside) in [
        ("rules: CPU us a reading stored", decisions.ruled_cpu_us),
        ("filters: CPU us a reading published", decisions.filtered_cpu_us),
        ("rules: bytes of memory a source", decisions.source_bytes),
    ] {
        let times = beside.with / beside.without;
        println!("  {what:36} {:>12.2} {:>12.2} {times:>12.2}", beside.without, beside.with);
    }
    let more = |beside: Beside| (beside.with - beside.without) / f64::from(*rules);
    for (what, value) in [
        ("CPU ns of one rule a reading", more(decisions.ruled_cpu_us) * 1e3),
        ("bytes of one rule a source", more(decisions.source_bytes)),
        ("replayed, readings a second", decisions.replayed_per_second),
        ("CPU us a reading replayed", decisions.replay_cpu_us),
        ("peak RSS of the replay, MB", decisions.replay_peak_rss_mb),
    ] {
        println!("  {what:36} {value:>12.2}");
    }
}

fn ten_belts(report: &Report) {
    if let Some(Memory { rss_mb, pss_mb, anonymous_mb }) = &report.memory {
        println!(
            "\nTen belts at 1 Hz, published: {rss_mb:.1} MB RSS, {pss_mb:.1} MB PSS, \
             {anonymous_mb:.1} MB of it anonymous"
        );
    }
    if let Some(Idle { cpu_s_an_hour, wake_ups_per_second, by_thread }) = &report.idle {
        println!(
            "\nOne reading a second: {cpu_s_an_hour:.1} s of CPU an hour, {wake_ups_per_second:.1} wake-ups a second:"
        );
        for (thread, rate) in by_thread {
            println!("  {thread:16} {rate:.2}");
        }
    }
    if !report.wear.is_empty() {
        println!("\nTen readings a second, spread over the second, published:");
    }
    for wear in &report.wear {
        let device = wear.device_mb_a_day.map(|megabytes| format!("{megabytes:.0}"));
        println!(
            "  commit_interval {:>3}: {} MB a day at the device, {:.0} by the process, {:.2} % CPU; from {:.0} s",
            wear.commit_interval,
            device.unwrap_or_else(|| "not measured (needs root and loop devices):".to_owned()),
            wear.disk_mb_a_day,
            wear.cpu_percent,
            wear.measured_s,
        );
    }
}

fn bars(report: &Report) -> Vec<Bar> {
    let at_least = |what, measured, bar| Bar { what, measured, bar, more: true };
    let at_most = |what, measured, bar| Bar { what, measured, bar, more: false };
    let mut bars = Vec::new();
    let mut ours = report.flows.iter().filter(|flow| flow.subject.contains("short records"));
    if let Some(flow) = ours.next_back() {
        bars.extend([
            at_least("readings a second", flow.readings_per_second, 400_000.0),
            at_most("CPU us a reading", flow.cpu_us, 2.0),
            at_most("wire bytes a reading", flow.wire_bytes, 70.0),
            at_most("peak RSS, MB", flow.peak_rss_mb, 11.0),
        ]);
    }
    let mut in_columns = report.flows.iter().filter(|flow| flow.subject.contains("columns"));
    if let Some(flow) = in_columns.next_back() {
        bars.push(at_most("wire bytes a reading, columns", flow.wire_bytes, 12.0));
    }
    if let Some(queue) = &report.queue {
        bars.extend([
            at_most("disk bytes a reading, offline", queue.disk_bytes, 60.0),
            at_most("peak RSS while draining, MB", queue.drain_peak_rss_mb, 11.0),
            at_most("first stored with that queue, ms", queue.stores_after_ms, 1_000.0),
        ]);
    }
    if let Some(decisions) = &report.decisions {
        let speed = decisions.replayed_per_second;
        bars.push(at_least("readings a second replayed", speed, 200_000.0));
    }
    if let Some(idle) = &report.idle {
        bars.extend([
            at_most("idle, CPU s an hour", idle.cpu_s_an_hour, 1.0),
            at_most("idle, wake-ups a second", idle.wake_ups_per_second, 3.0),
        ]);
    }
    for (wear, bar) in report.wear.iter().zip([450.0, 60.0]) {
        let what = match wear.commit_interval {
            "1s" => "10 readings/s, 1 s at risk, MB a day",
            _ => "10 readings/s, 10 s at risk, MB a day",
        };
        bars.extend(wear.device_mb_a_day.map(|megabytes| at_most(what, megabytes, bar)));
    }
    bars
}

impl Bar {
    fn ratio(&self) -> f64 {
        if self.more { self.measured / self.bar } else { self.bar / self.measured }
    }
}
