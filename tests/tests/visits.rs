//! The squirrel café and a garden with movements: visits, through the inbox. SQ-1, SQ-2 and NB-1 of
//! the acceptance scenarios; P1, P4 and P8 for visits.

#![expect(clippy::disallowed_methods, reason = "a test measures how long something took")]

use std::time::{Duration, Instant};

use pulsegate_tests::PATIENCE;
use pulsegate_tests::agent_process::Device;
use pulsegate_tests::site::Site;
use serde_json::{Value, json};

/// 12:53:18 in Berlin, in summer.
const END: i64 = 1_782_903_198_000; // fixed date: its summer time is told; nothing here goes by its age
/// Long enough after a visit for it to be over, whatever was late.
const OVER: i64 = 100_000;

const FEEDERS: &str = r#"
[[visit]]
source = "feeder"
gap = "90s"
units_per_opening = 0.5
unit = "nuts"
report = { text = "Squirrel chowed down on {units} {unit} for {minutes} min at {end}. An #IoT project to predict how cold it’ll be next winter. #ThingSpeak", zone = "Europe/Berlin" }

[[visit]]
source = "door"
gap = "1s"

[[visit]]
source = "garden"
is = "active"
gap = "1s"
live = true
"#;

fn cafe(site: &Site) -> Device {
    site.device().with(FEEDERS)
}

fn said(source: &str, state: &str, time: Option<i64>) -> String {
    let mut line = json!({ "source": source, "kind": "lid", "value": state });
    if let Some(time) = time {
        line["time"] = time.into();
    }
    line.to_string()
}

/// Openings of the feeder, each with its closing, and long after them the lid still closed.
fn openings(times: &[i64]) -> Vec<String> {
    let pairs = times.iter().flat_map(|time| {
        [said("feeder", "open", Some(*time)), said("feeder", "closed", Some(time + 100))]
    });
    let over = times.last().map(|time| said("feeder", "closed", Some(time + OVER)));
    pairs.chain(over).collect()
}

/// `count` openings, evenly until [`END`] plus `later`, that take `milliseconds` altogether.
fn visit(count: i64, milliseconds: i64, later: i64) -> Vec<i64> {
    let start = END + later - milliseconds;
    (0..count).map(|nth| start + nth * milliseconds / (count - 1)).collect()
}

async fn events(site: &Site, event: &str, count: usize) -> Vec<Value> {
    let of = |records: &[Value]| -> Vec<Value> {
        records.iter().filter(|record| record["event"] == event).cloned().collect()
    };
    let enough = |records: &[Value]| of(records).len() >= count;
    of(&site.subscriber.wait_records("/events", PATIENCE, enough).await)
}

/// SQ-2, and the record of a visit.
#[tokio::test]
async fn a_visit_is_told_in_the_words_of_the_squirrel_cafe() {
    let site = Site::start().await;
    let device = cafe(&site);
    let agent = device.started().await;
    let mut inbox = agent.inbox().await;

    inbox.store(&openings(&visit(10, 189_600, 0))).await;
    inbox.store(&openings(&visit(9, 396_000, 3_600_000))).await;
    let visits = events(&site, "visit", 2).await;

    assert_eq!(
        visits[0]["text"],
        "Squirrel chowed down on 5.0 nuts for 3.16 min at 12:53:18 CEST. An #IoT project to \
         predict how cold it’ll be next winter. #ThingSpeak"
    );
    let text = visits[1]["text"].as_str().expect("a text");
    assert!(text.contains("4.5 nuts for 6.60 min at 13:53:18 CEST"), "{text}");
    let mut record = visits[0].clone();
    for varies in ["seq", "time", "text", "visit"] {
        assert!(record.as_object_mut().expect("an object").remove(varies).is_some());
    }
    assert_eq!(
        record,
        json!({
            "event": "visit",
            "source": "feeder",
            "start": "2026-07-01T10:50:08.400Z", // fixed date: of `END`
            "end": "2026-07-01T10:53:18.000Z", // fixed date: of `END`
            "openings": 10,
            "units": 5.0,
            "seconds": 189.6,
            "unit": "nuts",
        })
    );
    let config = device.config_path();
    let listed = device.run(&["visits", "--json", "--config", config.to_str().expect("UTF-8")]);
    let listed = String::from_utf8(listed.stdout).expect("UTF-8");
    assert_eq!(listed.lines().count(), 2, "{listed}");
}

/// SQ-1.
#[tokio::test]
async fn after_89_seconds_it_is_the_same_visit_and_after_90_a_new_one() {
    let site = Site::start().await;
    let device = cafe(&site);
    let agent = device.started().await;

    let lines = openings(&[END, END + 89_000, END + 179_000]);
    agent.inbox().await.store(&lines).await;
    let visits = events(&site, "visit", 2).await;

    let told: Vec<_> = visits.iter().map(|visit| (&visit["openings"], &visit["seconds"])).collect();
    assert_eq!(told, [(&json!(2), &json!(89.0)), (&json!(1), &json!(0.0))]);
}

/// SQ-1: by the clock alone, without another reading; and a line that says `open` twice was
/// opened once.
#[tokio::test]
async fn a_visit_is_told_a_gap_after_its_last_opening_without_another() {
    let site = Site::start().await;
    let device = cafe(&site);
    let agent = device.started().await;
    let mut inbox = agent.inbox().await;

    let states = ["open", "open", "closed", "open"].map(|state| said("door", state, None));
    inbox.store(&states[..3]).await;
    let last = Instant::now();
    inbox.store(&states[3..]).await;
    let visits = events(&site, "visit", 1).await;

    assert!(last.elapsed() >= Duration::from_secs(1), "{:?}", last.elapsed());
    assert_eq!(visits[0]["openings"], 2);
}

/// P1 and P4 for visits: the power fails in the middle of one, and after it was told.
#[tokio::test]
async fn a_power_cut_neither_ends_a_visit_nor_tells_it_twice() {
    let site = Site::start().await;
    let device = cafe(&site);

    let mut agent = device.started().await;
    let (first, rest) = (openings(&[END, END + 10_000]), openings(&[END + 60_000]));
    agent.inbox().await.store(&first[..4]).await;
    agent.sigkill().await;
    let mut agent = device.started().await;
    agent.inbox().await.store(&rest).await;
    let visits = events(&site, "visit", 1).await;
    assert_eq!(visits[0]["openings"], 3);
    agent.sigkill().await;
    let agent = device.started().await;
    agent.inbox().await.store(&openings(&[END + 600_000])).await;
    // What was acknowledged shortly before the cut may go out again, byte for byte.
    let two = |records: &[Value]| {
        let visits = records.iter().filter(|record| record["event"] == "visit");
        visits.collect::<std::collections::HashSet<_>>().len() == 2
    };
    site.subscriber.wait_records("/events", PATIENCE, two).await;

    let config = device.config_path();
    let listed = device.run(&["visits", "--json", "--config", config.to_str().expect("UTF-8")]);
    let listed = String::from_utf8(listed.stdout).expect("UTF-8");
    let told = listed.lines().filter(|line| line.contains("\"openings\":3")).count();
    assert_eq!(told, 1, "{listed}");
    drop(agent);
}

/// SQ-1: what was under way when the power failed is told by the next start.
#[tokio::test]
async fn a_visit_that_a_power_cut_interrupts_is_told_afterwards() {
    let site = Site::start().await;
    let device = cafe(&site);

    let mut agent = device.started().await;
    agent.inbox().await.store(&[said("door", "open", None)]).await;
    agent.sigkill().await;
    let agent = device.started().await;
    let visits = events(&site, "visit", 1).await;

    assert_eq!((&visits[0]["source"], &visits[0]["openings"]), (&json!("door"), &json!(1)));
    drop(agent);
}

/// NB-1: movement switches the live mode on, and quiet switches it off.
#[tokio::test]
async fn movement_begins_live_mode_and_quiet_ends_it() {
    let site = Site::start().await;
    let device = cafe(&site);
    let agent = device.started().await;
    let mut inbox = agent.inbox().await;

    inbox.store(&[said("garden", "active", None), said("garden", "idle", None)]).await;
    let live = events(&site, "live", 2).await;
    assert!(live[0]["visit"].as_str().expect("an id").starts_with("garden-"), "{live:?}");

    let states: Vec<&Value> = live.iter().map(|event| &event["state"]).collect();
    assert_eq!(states, ["on", "off"]);
    assert_eq!(live[0]["start"], live[1]["start"]);
    let visits = events(&site, "visit", 1).await;
    assert_eq!(visits[0]["source"], "garden");
    assert_eq!(visits[0]["start"], live[0]["start"], "the visit that the live mode was for");
    let ids = [&live[0], &live[1], &visits[0]].map(|event| &event["visit"]);
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}
