//! Events on their way from the store to the cloud: each with the bytes that every version sends.

use pulsegate_core::timeline::Trust;

use super::*;

/// Each event as it is stored; see [`pulsegate_core::record::event`].
const STORED: &str = include_str!("../../../core/src/record/event/events.txt");
/// The same events as they are published.
const PUBLISHED: &str = include_str!("published_events.txt");

#[tokio::test]
async fn every_event_is_published_with_the_same_bytes_as_ever() {
    let device = Device::new();
    let agent = device.start();
    agent.store.clock(Mono(0), Wall(NOON), Trust::Trusted).await.unwrap();
    for line in STORED.lines() {
        let (word, members) = line.split_once(' ').unwrap_or((line, ""));
        let event = Event::read(word, members).expect("an event of this version");
        agent.store.event(EventRow { event, mono: Mono(7_000) }).await.unwrap();
    }
    agent.store.flush().await.unwrap();

    assert_eq!(published(&agent).await.join("\n"), PUBLISHED.trim_end());
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
    let records = published(&agent).await;
    assert_eq!(records.len(), 1, "{records:?}");
    let expected = r#"{"seq":"1-1","event":"comet","tail":{"km":[1,2.50]},"time":""#;
    assert!(records[0].starts_with(expected), "{records:?}");
    agent.stop().await;
}

/// The events that are to be published, one text each.
async fn published(agent: &Running) -> Vec<String> {
    let (mut after, mut records) = (Seq(0), Vec::new());
    loop {
        let taken = agent.store.take(Lane::Events, after, usize::MAX, true).await.unwrap();
        let Taken::Sheaf(sheaf) = taken else { return records };
        for batch in &sheaf.batches {
            let text = std::str::from_utf8(&batch.payload).unwrap();
            let text = text.strip_prefix('[').unwrap().strip_suffix(']').unwrap();
            records.extend(text.replace("},{", "}\n{").lines().map(str::to_owned));
        }
        after = sheaf.through;
    }
}
