//! The keys of the status with their types. Scripts read the keys: keys are added, and never
//! renamed or removed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use pulsegate_core::record::lane::RecordAccount;
use pulsegate_core::rules::RuleCounts;
use pulsegate_sensors::heart_rate::bluez::MonitorState;
use pulsegate_sensors::heart_rate::ladder::Climbs;
use pulsegate_sensors::line::LineCounters;
use pulsegate_sensors::number::NumberState;
use pulsegate_sensors::{LineState, SourceId};
use serde_json::Value;

use super::*;
use crate::actions::cameras::CameraState;
use crate::actions::outputs::OutputState;
use crate::cloud::mqtt::{Outage, RefusedStatus, Session};
use crate::db::{DiskFault, Room, SalvageProgress};
use crate::sources::drivers::Gauge;
use crate::sources::sampler::SourceState;
use crate::store::{Checked, Flapping, Progress};

/// A path, and the types of what is there in any answer. Elements of lists of several kinds carry their kind.
const KEYS: &str = include_str!("keys.txt");

/// The decimal of a tenth of a second, which is measured in single precision.
const TENTH: f64 = 0.1_f32 as f64;

#[tokio::test]
async fn every_key_of_the_status_keeps_its_name_place_and_types() {
    let mut found = Found::new();
    for observed in [all_is_wrong(), all_is_well(), just_started()] {
        note("", &answer(&observed).await, &mut found);
    }

    let lines: Vec<String> = found
        .iter()
        .map(|(path, types)| {
            format!("{path}: {}", types.iter().copied().collect::<Vec<_>>().join(" | "))
        })
        .collect();
    assert_eq!(lines.join("\n"), KEYS.trim_end(), "keys.txt names what scripts may rely on");
}

#[tokio::test]
async fn numbers_and_words_of_the_status_keep_their_format() {
    let wrong = answer(&all_is_wrong()).await;
    let well = answer(&all_is_well()).await;

    assert_eq!(wrong["drivers"][3]["read_took_s"], TENTH);
    assert_eq!(wrong["drivers"][3]["hung_for_s"], 7);
    assert_eq!(wrong["drivers"][2]["state"], "open");
    assert_eq!(wrong["disk"]["checked"], "not needed");
    assert_eq!(wrong["disk"]["fault"], "read_only");
    assert_eq!(wrong["disk"]["others_bytes"], 13 << 20);
    assert_eq!(wrong["withheld"][0]["reason"], "the broker hangs up on it");
    assert_eq!(wrong["lanes"]["alerts"]["balanced"], true);
    assert_eq!(wrong["rules"]["suppressed_alerts"], 7);
    assert_eq!(well["link"]["state"], "up");
    assert_eq!(well["disk"]["checked"], "sound");
}

#[test]
fn an_answer_of_another_version_is_read_as_far_as_it_is_known() {
    let newer = r#"{
        "thing": "box", "shadow": { "version": 3 }, "link": { "state": "pausing", "for_s": 1 },
        "drivers": [{ "driver": "lidar", "source": "x" }, { "driver": "line", "source": "feeder", "state": null }],
        "lanes": { "uploads": { "recorded": 1 }, "alerts": { "recorded": 2 }, "note": "x" }
    }"#;
    let status: Status = serde_json::from_str(newer).expect("a status");

    assert_eq!((status.thing.as_str(), status.uptime_s), ("box", 0));
    assert_eq!((status.link, status.lanes.alerts.recorded), (LinkStatus::Unknown, Some(2)));
    assert_eq!(status.drivers.len(), 2);
    assert_eq!(serde_json::from_str::<Status>("{}").expect("a status"), Status::default());
}

type Found = BTreeMap<String, BTreeSet<&'static str>>;

/// Notes the types of `value`, which is at `path`, and of all that it holds.
fn note(path: &str, value: &Value, found: &mut Found) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "decimal",
        Value::Number(_) => "integer",
        Value::String(_) => "text",
        Value::Array(elements) => {
            elements.iter().for_each(|element| note(&format!("{path}[]"), element, found));
            "list"
        }
        Value::Object(members) => {
            let kind = members.get("driver").or(members.get("state").filter(|_| path == "link"));
            let kind = kind.and_then(Value::as_str);
            let path = kind.map_or(path.to_owned(), |kind| format!("{path}({kind})"));
            for (key, member) in members {
                note(format!("{path}.{key}").trim_start_matches('.'), member, found);
            }
            "object"
        }
    };
    let path = if path.is_empty() { "(the whole)" } else { path };
    found.entry(path.to_owned()).or_default().insert(kind);
}

/// The status at a time at which the agent has run for long.
async fn answer(observed: &Observed) -> Value {
    let status = answer::compose_status(observed, Mono(1_000_000_000)).await;
    let json = status.to_json().expect("JSON");
    assert_eq!(serde_json::from_str::<Status>(&json).expect("a status"), status, "it is read back");
    serde_json::from_str(&json).expect("JSON")
}

/// A receiver of what never changes.
fn fixed<T>(value: T) -> watch::Receiver<T> {
    watch::channel(value).1
}

#[tokio::test]
async fn the_accounts_are_told_while_neither_the_writer_nor_the_file_answers() {
    let status = answer::compose_status(&all_is_wrong(), Mono(1_000_000_000)).await;

    let account = &status.lanes.readings;
    assert_eq!((account.recorded, account.delivered, account.pending), (Some(2), Some(1), Some(0)));
    assert!(status.lanes.error.is_some(), "they do not add up");
}

fn unseen_monitor(source: SourceId) -> MonitorState {
    MonitorState {
        source,
        connected: false,
        lost: false,
        battery_percent: None,
        location: None,
        packets: 0,
        malformed: 0,
        rungs: Climbs::default(),
        last_error: None,
    }
}

fn lost_source(at: Mono) -> SourceState {
    let mut source = SourceState::new("7", "heart_rate");
    (source.value, source.at) = (Some("72".into()), Some(at));
    source.no_reading = Some("gone".into());
    source
}

/// An agent whose every part has something to say, and most of them a trouble.
fn all_is_wrong() -> Observed {
    let mut room = Room::at_most(Path::new("/")).expect("a partition");
    (room.partition_bytes, room.own_bytes, room.free_bytes) = (16 << 20, 3 << 20, 0);
    let flapping = Flapping { rule: "hot".into(), source: "air".into(), held: 3 };
    let progress = Progress {
        fault: Some(DiskFault::ReadOnly { folder: "/state".into() }),
        room: Some(room),
        given_up: [0, 0, 2],
        set_aside: Some("pulsegate.db.damaged".into()),
        rules: RuleCounts { late: 1, doubtful: 2, suppressed: 3, flapping: 4 },
        flapping: vec![flapping],
        rules_off: vec!["rule `cold`: off".into()],
        ..Progress::default()
    };
    let account = RecordAccount { recorded: 1, delivered: 1, ..RecordAccount::default() };
    let accounts = [account, account, RecordAccount { recorded: 2, ..account }];
    let salvage = SalvageProgress { done: 1, of: 2 };
    let (since, next_trial, topic) = (Mono(0), Mono(u64::MAX), Arc::from("readings"));
    let outage = Outage {
        reason: Some("refused".into()),
        since,
        attempts: 2,
        retry_at: Some(next_trial),
        refused_status: Some(RefusedStatus { topic: "status".into(), since, next_trial }),
    };
    let monitor = MonitorState {
        battery_percent: Some(50),
        last_error: Some("out of range".into()),
        ..unseen_monitor(SourceId(0))
    };
    let line = LineCounters { state: Some(LineState::Open), ..LineCounters::default() };
    let (took, hung) = (Duration::from_millis(100), Some(Duration::from_secs(7)));
    let gauges = vec![
        Gauge::Monitors(fixed(vec![monitor, unseen_monitor(SourceId(1))])),
        Gauge::Line("feeder".into(), fixed(line)),
        Gauge::Number("air".into(), fixed(NumberState { took, hung, ..NumberState::default() })),
        Gauge::Inbox("/run/inbox.sock".into(), Arc::default()),
    ];
    let output = OutputState {
        id: "fan".into(),
        value: Some(1),
        switched: 1,
        failure: Some("no such chip".into()),
    };
    let camera = CameraState {
        id: "nest".into(),
        taken: 1,
        failed: 1,
        skipped: 1,
        failure: Some("no picture".into()),
    };
    Observed {
        started: Mono(0),
        store: Store::standing_still(Progress { accounts, ..progress }, Some(salvage)),
        clock_set: fixed(false),
        parts: PartStates {
            link: fixed(LinkState::Down(outage)),
            sources: fixed([(0, lost_source(since))].into()),
            publisher: fixed(PublisherState {
                clock_holds_until: Some(next_trial),
                max_message_bytes: Some(4096),
                ..PublisherState::default()
            }),
            refused: fixed(vec![RefusedTopic { topic, since, next_trial, records: 5 }]),
            drivers: fixed(Overview { gauges, sources: ["7".into()].into(), faults: None }),
            outputs: fixed(OutputStates { outputs: vec![output], is_night: Some(true) }),
            cameras: fixed(CameraStates { cameras: vec![camera], ..CameraStates::default() }),
            troubles: fixed(vec!["a trouble".into()]),
        },
        ..all_is_well()
    }
}

/// An agent that has not tried to connect yet.
fn just_started() -> Observed {
    let mut observed = all_is_well();
    observed.parts.link = fixed(LinkState::Down(Outage::before_first_attempt(Mono(0))));
    observed
}

/// An agent with the same parts, of which none has seen anything yet.
fn all_is_well() -> Observed {
    let progress = Progress { checked: Checked::Sound, ..Progress::default() };
    let gauges = vec![
        Gauge::Line("feeder".into(), fixed(LineCounters::default())),
        Gauge::Number("air".into(), fixed(NumberState::default())),
    ];
    let output = OutputState { id: "fan".into(), value: None, switched: 0, failure: None };
    let camera = CameraState { id: "nest".into(), taken: 0, failed: 0, skipped: 0, failure: None };
    Observed {
        thing: "box".into(),
        started: Mono(1_000_000_000),
        max_bytes: 1 << 30,
        store: Store::standing_still(progress, None),
        clock_set: fixed(true),
        parts: PartStates {
            link: fixed(LinkState::Up(Session::unused(1))),
            sources: fixed([(0, SourceState::new("air", "number"))].into()),
            publisher: fixed(PublisherState::default()),
            refused: fixed(Vec::new()),
            drivers: fixed(Overview { gauges, ..Overview::default() }),
            outputs: fixed(OutputStates { outputs: vec![output], is_night: None }),
            cameras: fixed(CameraStates { cameras: vec![camera], ..CameraStates::default() }),
            troubles: fixed(Vec::new()),
        },
    }
}
