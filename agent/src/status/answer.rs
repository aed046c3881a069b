//! Fills in the status: asks each part for its numbers and its last trouble.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pulsegate_core::cloud::record_text::ClockText;
use pulsegate_core::record::lane::{Lane, RecordAccount};
use pulsegate_core::time::Mono;
use pulsegate_sensors::heart_rate::bluez::MonitorState;
use pulsegate_sensors::inbox;
use pulsegate_sensors::line::LineCounters;
use pulsegate_sensors::number::NumberState;

use super::Observed;
use super::model::{
    CameraStatus, ClockStatus, DiskStatus, DriverStatus, FlappingRule, InboxDriver, LanesStatus,
    LineDriver, LinkDown, LinkStatus, LinkUp, MonitorDriver, NumberDriver, OutputStatus,
    PicturesStatus, PublisherStatus, RulesStatus, SalvageStatus, SourceStatus, Status,
    WithheldTopic,
};
use crate::actions::cameras::{CameraState, CameraStates};
use crate::actions::outputs::{OutputState, OutputStates};
use crate::cloud::mqtt::LinkState;
use crate::db::{DiskFault, Room, format_mebibytes};
use crate::platform::clock;
use crate::sources::drivers::{Gauge, Overview};
use crate::sources::inbox_watch;
use crate::sources::sampler::{SourceState, SourceStates};
use crate::store::{Flapping, Progress};

/// Asks every part.
pub(super) async fn compose_status(observed: &Observed, now: Mono) -> Status {
    let progress = observed.store.watch_progress().borrow().clone();
    let lanes = describe_lanes(&progress.accounts);
    let states = select_present(observed);
    let mut degraded = list_troubles(observed, &progress, &states);
    degraded.extend(lanes.error.clone());
    let publisher = *observed.parts.publisher.borrow();
    Status {
        thing: observed.thing.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot: observed.store.boot.counter(),
        start: observed.store.boot.as_str().to_owned(),
        uptime_s: now.since(observed.started).as_secs(),
        degraded,
        lanes,
        link: describe_link(&observed.parts.link.borrow(), now),
        publisher: PublisherStatus {
            in_flight: publisher.in_flight,
            in_hand: publisher.in_hand,
            acknowledged: publisher.acknowledged,
            quarantined: publisher.quarantined,
            max_message_bytes: publisher.max_message_bytes,
        },
        withheld: list_withheld(observed, now),
        clock: ClockStatus {
            set: *observed.clock_set.borrow(),
            time: ClockText::format_time(clock::wall()),
            holds_back_for_s: holds_back(publisher.clock_holds_until, now)
                .map(|for_s| for_s.as_secs()),
        },
        disk: describe_disk(observed, &progress, now),
        rules: describe_rules(&progress),
        memory_bytes: memory_bytes(),
        sources: list_sources(&states, now),
        drivers: list_drivers(&observed.parts.drivers.borrow().gauges, &states),
        outputs: list_outputs(&observed.parts.outputs.borrow()),
        night: observed.parts.outputs.borrow().is_night,
        cameras: list_cameras(&observed.parts.cameras.borrow()),
        pictures: describe_pictures(&observed.parts.cameras.borrow()),
    }
}

/// Returns the accounts of the lanes, with an error if they do not add up.
fn describe_lanes(accounts: &[RecordAccount; 3]) -> LanesStatus {
    let account = |lane: Lane| (&accounts[lane.index()]).into();
    let is_balanced = accounts.iter().all(RecordAccount::is_balanced);
    LanesStatus {
        alerts: account(Lane::Alerts),
        events: account(Lane::Events),
        readings: account(Lane::Readings),
        error: (!is_balanced).then(|| "the accounts of the store do not add up".to_owned()),
    }
}

fn describe_link(link: &LinkState, now: Mono) -> LinkStatus {
    match link {
        LinkState::Up(session) => LinkStatus::Up(LinkUp {
            port: session.port,
            connection: session.number,
            for_s: now.since(session.since).as_secs(),
        }),
        LinkState::Down(outage) => LinkStatus::Down(LinkDown {
            last_error: outage.reason.clone(),
            attempts: outage.attempts,
            for_s: now.since(outage.since).as_secs(),
            retry_in_s: outage.retry_at.map(|at| at.since(now).as_secs_f32()),
        }),
    }
}

/// Returns all troubles, each as a sentence.
fn list_troubles(observed: &Observed, progress: &Progress, states: &SourceStates) -> Vec<String> {
    let mut troubles = observed.parts.troubles.borrow().clone();
    troubles.extend(disk_trouble(progress, observed.store.state_folder()));
    troubles.extend(observed.store.salvage_progress().map(|progress| {
        format!("store: damaged; carried over to a new one: {} %", progress.done_percent())
    }));
    if let Some(aside) = &progress.set_aside {
        troubles.push(format!("the store was damaged; it was set aside as `{aside}`"));
    }
    troubles.extend(progress.rules_off.iter().cloned());
    troubles.extend(progress.flapping.iter().map(flapping_trouble));
    if !*observed.clock_set.borrow() {
        let until = observed.parts.publisher.borrow().clock_holds_until;
        troubles.push(match holds_back(until, clock::mono()) {
            Some(rest) => format!(
                "the clock is not set: readings and events wait for it, {} s more at most",
                rest.as_secs()
            ),
            None => {
                "the clock is not set: what is recorded is flagged `\"clock\":\"unset\"`".into()
            }
        });
    }
    troubles.extend(list_refusals(observed));
    if let LinkState::Down(outage) = &*observed.parts.link.borrow() {
        troubles.extend(outage.reason.as_ref().map(|reason| format!("link: {reason}")));
    }
    troubles.extend(driver_troubles(&observed.parts.drivers.borrow()));
    for state in states.values() {
        let reason = state.no_reading.as_ref();
        troubles.extend(reason.map(|reason| format!("source `{}`: {reason}", state.source)));
    }
    for output in &observed.parts.outputs.borrow().outputs {
        let reason = output.failure.as_ref();
        troubles.extend(reason.map(|reason| format!("output `{}`: {reason}", output.id)));
    }
    for camera in &observed.parts.cameras.borrow().cameras {
        let reason = camera.failure.as_ref();
        troubles.extend(reason.map(|reason| format!("camera `{}`: {reason}", camera.id)));
    }
    troubles
}

/// Explains why the disk refuses writes. If the partition is full while the store in `folder` still
/// finds room in its own files, explains who uses the partition.
fn disk_trouble(progress: &Progress, folder: &Path) -> Option<String> {
    let usage = |room: &Room| {
        format!(
            "of the {} of the partition the store uses {}, other files use {}",
            format_mebibytes(room.partition_bytes),
            format_mebibytes(room.own_bytes),
            format_mebibytes(room.others_bytes())
        )
    };
    let room = progress.room.as_ref();
    match &progress.fault {
        Some(fault) => {
            let usage = room.filter(|_| matches!(fault, DiskFault::Full { .. })).map(usage);
            let usage = usage.map_or_else(String::new, |usage| format!("; {usage}"));
            let given_up = match progress.given_up.iter().sum() {
                0_u64 => String::new(),
                count => format!("; {count} were given up, since memory is full"),
            };
            Some(format!(
                "disk: {fault}; records are kept in memory, and are not durable{given_up}{usage}"
            ))
        }
        None => room.filter(|room| room.is_full()).map(|room| {
            format!(
                "disk: the partition of `{}` is full: {}; records are durable only as long as the store \
                 has room in its own files; remove other files",
                folder.display(),
                usage(room)
            )
        }),
    }
}

/// Returns the inboxes with almost no source names left, and the sources switched off.
fn driver_troubles(drivers: &Overview) -> Vec<String> {
    let mut troubles = Vec::new();
    for gauge in &drivers.gauges {
        if let Gauge::Inbox(path, counters) = gauge
            && inbox_watch::is_filling(counters)
        {
            let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            let (used, share) = (read(&counters.sources), read(&counters.max_sources));
            troubles.push(format!(
                "inbox `{}`: {used} of {share} sources are named; new ones are refused beyond that: \
                 limit it to certain `sources`, or begin a new store",
                path.display()
            ));
        }
    }
    if let Some(faults) = &drivers.faults {
        let faults = faults.borrow();
        let wanted = faults.iter().filter(|(id, _)| drivers.sources.contains(*id));
        troubles.extend(wanted.map(|(_, fault)| fault.clone()));
    }
    troubles
}

/// Returns the trouble of a flapping rule.
fn flapping_trouble(flapping: &Flapping) -> String {
    let Flapping { rule, source, held } = flapping;
    format!(
        "rule `{rule}` flaps for source `{source}`: {held} alerts were held back; give it a `for`, a \
         `clear` or an `at_most_every`"
    )
}

/// Returns the topics and message sizes refused by the broker, each as a sentence.
fn list_refusals(observed: &Observed) -> Vec<String> {
    let mut troubles = Vec::new();
    for refused in observed.parts.refused.borrow().iter() {
        let topic = &refused.topic;
        troubles.push(format!(
            "topic `{topic}`: the broker hangs up on it, so its records wait; allow iot:Publish on \
             it in the policy"
        ));
    }
    if let Some(bytes) = observed.parts.publisher.borrow().max_message_bytes {
        troubles.push(format!(
            "link: the broker hangs up on messages of more than {bytes} bytes, so smaller ones are \
             sent; raise its limit, or lower `publish.readings.batch.bytes`"
        ));
    }
    troubles.extend(observed.parts.link.borrow().refused_status().map(|refused| {
        let topic = &refused.topic;
        format!(
            "topic `{topic}`: the broker hangs up on the status of this thing; allow iot:Publish and \
             iot:RetainPublish on it in the policy"
        )
    }));
    troubles
}

/// Returns the refused topics, the status topic first.
fn list_withheld(observed: &Observed, now: Mono) -> Vec<WithheldTopic> {
    let one = |topic: &str, since: Mono, next: Mono, records: Option<u64>| WithheldTopic {
        topic: topic.to_owned(),
        reason: "the broker hangs up on it".to_owned(),
        for_s: now.since(since).as_secs(),
        next_trial_in_s: next.since(now).as_secs(),
        records,
    };
    let links = observed.parts.link.borrow();
    let status = links.refused_status();
    let status = status.map(|status| one(&status.topic, status.since, status.next_trial, None));
    let refused = observed.parts.refused.borrow();
    let topics = refused
        .iter()
        .map(|topic| one(&topic.topic, topic.since, topic.next_trial, Some(topic.records)));
    status.into_iter().chain(topics).collect()
}

fn describe_rules(progress: &Progress) -> RulesStatus {
    let flapping = |flapping: &Flapping| FlappingRule {
        rule: flapping.rule.to_string(),
        source: flapping.source.to_string(),
        suppressed: flapping.held,
    };
    RulesStatus {
        late_readings: progress.rules.late,
        doubtful_times: progress.rules.doubtful,
        suppressed_alerts: progress.rules.suppressed + progress.rules.flapping,
        flapping: progress.flapping.iter().map(flapping).collect(),
    }
}

fn list_cameras(states: &CameraStates) -> Vec<CameraStatus> {
    let camera = |camera: &CameraState| CameraStatus {
        camera: camera.id.to_string(),
        taken: camera.taken,
        failed: camera.failed,
        skipped: camera.skipped,
        last_error: camera.failure.clone(),
    };
    states.cameras.iter().map(camera).collect()
}

fn describe_pictures(states: &CameraStates) -> PicturesStatus {
    PicturesStatus {
        kept: states.kept,
        bytes: states.bytes,
        max_bytes: states.max_bytes,
        evicted: states.evicted,
    }
}

fn list_outputs(states: &OutputStates) -> Vec<OutputStatus> {
    let output = |output: &OutputState| OutputStatus {
        output: output.id.to_string(),
        value: output.value,
        switched: output.switched,
        last_error: output.failure.clone(),
    };
    states.outputs.iter().map(output).collect()
}

/// Returns the time for which readings and events still wait for the clock; `None` when nothing
/// waits.
fn holds_back(until: Option<Mono>, now: Mono) -> Option<Duration> {
    until.filter(|until| *until > now).map(|until| until.since(now))
}

/// Seconds after the start before writes are projected to a day: the start itself writes more than
/// usual.
const PACE_AFTER_S: u64 = 300;

/// Bytes on disk, and bytes written a day at the pace since the start (P10).
fn describe_disk(observed: &Observed, progress: &Progress, now: Mono) -> DiskStatus {
    let written = written_bytes();
    let uptime = now.since(observed.started).as_secs();
    let a_day = written.filter(|_| uptime >= PACE_AFTER_S);
    DiskStatus {
        used_bytes: progress.used_bytes,
        file_bytes: progress.file_bytes,
        max_bytes: observed.max_bytes,
        cap_bytes: progress.cap_bytes,
        free_bytes: progress.room.map_or(0, |room| room.free_bytes),
        others_bytes: progress.room.map(|room| room.others_bytes()),
        partition_bytes: progress.room.map(|room| room.partition_bytes),
        durable: !progress.is_in_memory,
        written_bytes: written,
        written_bytes_a_day: a_day.map(|bytes| bytes.saturating_mul(86_400) / uptime),
        commits: progress.commits,
        waiting: progress.waiting,
        given_up: progress.given_up.iter().sum(),
        checked: progress.checked.as_str().to_owned(),
        left_rows: progress.left_rows,
        salvage: observed
            .store
            .salvage_progress()
            .map(|progress| SalvageStatus { done: progress.done, of: progress.of }),
        fault: progress.fault.as_ref().map(|fault| fault.as_str().to_owned()),
        last_error: progress.fault.as_ref().map(ToString::to_string),
    }
}

/// Returns the states of the sources, without lost sources outside of the configuration.
fn select_present(observed: &Observed) -> SourceStates {
    let wanted = &observed.parts.drivers.borrow().sources;
    let mut states = observed.parts.sources.borrow().clone();
    states.retain(|_, state| state.no_reading.is_none() || wanted.contains(&*state.source));
    states
}

fn list_sources(states: &SourceStates, now: Mono) -> Vec<SourceStatus> {
    let source = |state: &SourceState| SourceStatus {
        source: state.source.to_string(),
        kind: state.kind.to_string(),
        readings: state.readings,
        value: state.value.clone(),
        age_s: state.at.map(|at| now.since(at).as_secs_f32()),
        no_reading: state.no_reading.clone(),
    };
    states.values().map(source).collect()
}

fn list_drivers(gauges: &[Gauge], states: &SourceStates) -> Vec<DriverStatus> {
    let one = |gauge: &Gauge| match gauge {
        Gauge::Monitors(monitors) => monitors
            .borrow()
            .iter()
            .map(|monitor| {
                let name = states.get(&monitor.source.0).map(|state| state.source.to_string());
                DriverStatus::HeartRate(self::describe_monitor(monitor, name))
            })
            .collect::<Vec<_>>(),
        Gauge::Line(source, counters) => {
            vec![DriverStatus::Line(describe_line(source, *counters.borrow()))]
        }
        Gauge::Number(source, state) => {
            vec![DriverStatus::Number(describe_number(source, *state.borrow()))]
        }
        Gauge::Inbox(path, counters) => vec![DriverStatus::Inbox(describe_inbox(path, counters))],
    };
    gauges.iter().flat_map(one).collect()
}

fn describe_monitor(monitor: &MonitorState, source: Option<String>) -> MonitorDriver {
    MonitorDriver {
        source,
        connected: monitor.connected,
        battery_percent: monitor.battery_percent,
        packets: monitor.packets,
        malformed: monitor.malformed,
        subscribed_again: monitor.rungs.subscribe,
        reconnected: monitor.rungs.reconnect,
        forgotten: monitor.rungs.forget,
        power_cycled: monitor.rungs.power_cycle,
        last_error: monitor.last_error.clone(),
    }
}

fn describe_line(source: &str, counters: LineCounters) -> LineDriver {
    LineDriver {
        source: source.to_owned(),
        state: counters.state.map(|state| state.as_str().to_owned()),
        edges: counters.edges,
        lost: counters.lost,
        corrected: counters.corrected,
        reopened: counters.reopened,
    }
}

fn describe_number(source: &str, state: NumberState) -> NumberDriver {
    NumberDriver {
        source: source.to_owned(),
        reads: state.reads,
        missed: state.missed,
        read_took_s: state.took.as_secs_f32(),
        hung_for_s: state.hung.map(|hung| hung.as_secs()),
    }
}

fn describe_inbox(path: &Path, counters: &inbox::Counters) -> InboxDriver {
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    InboxDriver {
        path: path.display().to_string(),
        clients: read(&counters.clients),
        turned_away: read(&counters.turned_away),
        lines: read(&counters.lines),
        stored: read(&counters.stored),
        refused: read(&counters.refused),
        displaced: read(&counters.displaced),
        unfinished: read(&counters.unfinished),
        cut: read(&counters.cut),
        sources: read(&counters.sources),
        max_sources: read(&counters.max_sources),
    }
}

/// Returns the bytes written to disks by this process; `None` where the kernel does not count.
fn written_bytes() -> Option<u64> {
    read_kernel_number("/proc/self/io", "write_bytes:")
}

fn memory_bytes() -> Option<u64> {
    Some(read_kernel_number("/proc/self/status", "VmRSS:")? * 1024)
}

fn read_kernel_number(path: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(free_bytes: u64, fault: Option<DiskFault>) -> Option<String> {
        let folder = Path::new("/state");
        let mut room = Room::at_most(Path::new("/")).unwrap();
        (room.partition_bytes, room.own_bytes, room.free_bytes) = (16 << 20, 3 << 20, free_bytes);
        disk_trouble(&Progress { fault, room: Some(room), ..Progress::default() }, folder)
    }

    #[test]
    fn a_full_partition_is_told_with_its_users_also_while_the_store_takes_records() {
        let told = trouble(0, None).unwrap();
        let full = DiskFault::Full { folder: "/state".into(), free_bytes: 0 };
        let refused = trouble(0, Some(full)).unwrap();

        let usage =
            "of the 16.0 MiB of the partition the store uses 3.0 MiB, other files use 13.0 MiB";
        assert!(
            told.starts_with("disk: the partition of `/state` is full: ") && told.contains(usage)
        );
        assert!(told.ends_with("remove other files"), "{told}");
        assert!(refused.contains("are not durable") && refused.contains(usage), "{refused}");
        assert_eq!(trouble(1 << 20, None), None);
        let read_only = DiskFault::ReadOnly { folder: "/state".into() };
        assert!(!trouble(0, Some(read_only)).unwrap().contains("other files use"));
    }
}
