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
        let event = EventRow { event: word, mono: Mono(7_000), members: members.into() };
        agent.store.event(event).await.unwrap();
    }
    agent.store.flush().await.unwrap();

    assert_eq!(published(&agent).await.join("\n"), PUBLISHED.trim_end());
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
