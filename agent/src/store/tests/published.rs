//! Records on their way from the store to the cloud: every version sends the same bytes.

use pulsegate_core::record::reading::HeartDetail;
use pulsegate_core::time::timeline::ClockTrust;
use pulsegate_core::visits::{First, ReportTemplate, VisitFormat, VisitSpec};
use pulsegate_sensors::Contact;

use super::*;

/// Each event as it is stored; see [`pulsegate_core::record::event`].
const STORED: &str = include_str!("../../../core/src/record/event/events.txt");
/// The same events as they are published.
const PUBLISHED: &str = include_str!("published_events.txt");
/// Alerts and readings as they are published.
const PUBLISHED_RECORDS: &str = include_str!("published_records.txt");

#[tokio::test]
async fn every_event_is_published_with_the_same_bytes_as_ever() {
    let device = Device::new();
    let agent = device.start();
    agent.store.observe_clock(Mono(0), Wall(NOON), ClockTrust::Trusted).await.unwrap();
    let reporting = Formats { visits: vec![reported_visits()], ..(*formats()).clone() };
    agent
        .store
        .apply_configuration(device.keep, Arc::default(), Arc::new(reporting))
        .await
        .unwrap();
    for line in STORED.lines() {
        let (word, members) = line.split_once(' ').unwrap_or((line, ""));
        let event = Event::from_text(word, members).expect("an event of this version");
        agent.store.append_event(EventRow { event, mono: Mono(7_000) }).await.unwrap();
    }
    agent.store.commit_now().await.unwrap();

    assert_eq!(published(&agent, Lane::Events).await.join("\n"), PUBLISHED.trim_end());
    agent.stop().await;
}

#[tokio::test]
async fn an_event_of_another_version_is_published_as_it_is_stored() {
    let device = Device::new();
    let agent = device.start();
    agent.event("gone").await;
    agent.stop().await;
    let store = rusqlite::Connection::open(device.path()).unwrap();
    let crafted = "UPDATE events SET event = 'comet', members = '\"tail\":{\"km\":[1,2.50]}'";
    assert_eq!(store.execute(crafted, []).unwrap(), 1);
    drop(store);

    let agent = device.start();
    let records = published(&agent, Lane::Events).await;
    assert_eq!(records.len(), 1, "{records:?}");
    let expected = r#"{"seq":"1-1","event":"comet","tail":{"km":[1,2.50]},"time":""#;
    assert!(records[0].starts_with(expected), "{records:?}");
    agent.stop().await;
}

#[tokio::test]
async fn every_alert_and_reading_is_published_with_the_same_bytes_as_ever() {
    let mut device = Device::new();
    device.rules = vec![rules::above(200.0)];
    let agent = device.start();
    let [belt, air, lid] = [("7", "heart_rate"), ("air", "number"), ("feeder", "lid")]
        .map(|(name, kind)| agent.source(name, kind));
    agent.store.observe_clock(Mono(0), Wall(NOON), ClockTrust::Trusted).await.unwrap();
    let (contact, rr) = (Contact::Detected, vec![1_024, 512]);
    let detail = Some(Box::new(HeartDetail { contact, energy_kj: Some(300), rr }));
    let readings = vec![
        Reading { detail, ..number(belt, Mono(5_000), 250.0) },
        number(belt, Mono(6_000), 70.5),
        number(air, Mono(7_000), -21.5),
        Reading { time: Some(Wall(NOON + 1)), ..number(air, Mono(7_000), 3.0) },
        Reading { value: Value::State("open".into()), ..number(lid, Mono(8_000), 0.0) },
    ];
    agent.offer(readings).await.unwrap();
    agent.stop().await;
    // What only some rules tell.
    let store = rusqlite::Connection::open(device.path()).unwrap();
    store
        .execute_batch(
            "UPDATE alerts SET severity = 'critical', value = 'open', window_start_ms = time_ms - 2,
                 window_end_ms = time_ms - 1 WHERE raised = 0;
             INSERT INTO scores SELECT seq, 4.25 FROM alerts WHERE raised = 0",
        )
        .unwrap();
    drop(store);

    let agent = device.start();
    let mut records = published(&agent, Lane::Alerts).await;
    records.extend(published(&agent, Lane::Readings).await);
    assert_eq!(records.join("\n"), PUBLISHED_RECORDS.trim_end());
    agent.stop().await;
}

/// Visits to `feeder`, told in words.
fn reported_visits() -> VisitFormat {
    let spec = VisitSpec {
        source: "feeder".into(),
        opening: "open".into(),
        first: First::Change,
        gap: Duration::from_secs(60),
        units_per_opening: 2.0,
        live: true,
        then: Vec::new(),
    };
    let report = ReportTemplate::from_text("{openings} openings").unwrap();
    VisitFormat { spec, unit: None, report: Some((report, jiff::tz::TimeZone::UTC)) }
}

/// The records of a lane that are to be published, one text each.
async fn published(agent: &Running, lane: Lane) -> Vec<String> {
    let (mut after, mut records) = (Seq(0), Vec::new());
    loop {
        let taken = agent.store.take(lane, after, usize::MAX, true).await.unwrap();
        let TakeOutcome::Group(group) = taken else { return records };
        for batch in &group.batches {
            let text = std::str::from_utf8(&batch.payload).unwrap();
            let text = text.strip_prefix('[').unwrap().strip_suffix(']').unwrap();
            records.extend(text.replace("},{", "}\n{").lines().map(str::to_owned));
        }
        after = group.through;
    }
}
