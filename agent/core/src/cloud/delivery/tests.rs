//! Tests of delivery with a simulated broker: the fate of every record, for each behaviour of the
//! broker.

mod limits;
mod world;

use super::*;
use world::{Dice, Fate, World, mixed, places};

#[test]
fn a_topic_that_the_broker_forbids_waits_and_the_others_go_on() {
    let mut world = World::new(mixed(3_000));
    let mut forbids = |batch: &Batch, _| {
        if &*batch.topic == "b" { Fate::HangUp } else { Fate::Ack }
    };

    world.run(30, &mut forbids);

    assert_eq!(world.arrived.len(), 2_000, "the others are not delayed");
    assert_eq!((world.watermark, world.counted), (3_000, 2_000));
    assert_eq!(world.quarantined, []);
    assert_eq!(world.was_refused.len(), 1);
    let refused = world.delivery.list_refused().remove(0);
    assert_eq!((&*refused.topic, refused.records), ("b", 1_000));
    let deaths = world.deaths;
    world.run(3_600, &mut forbids);
    assert!(world.deaths - deaths <= 16, "an hour costs {} connections", world.deaths - deaths);

    world.run(400, &mut |_, _| Fate::Ack);

    assert_eq!((world.arrived.len(), world.counted), (3_000, 3_000));
    assert!(world.withheld.is_empty() && world.delivery.list_refused().is_empty());
    assert!(world.delivery.is_taken("b"));
}

#[test]
fn a_topic_of_which_no_record_is_left_is_not_withheld_any_more_and_not_taken_either() {
    let mut world = World::new(mixed(30));
    let mut forbids = |batch: &Batch, _| {
        if &*batch.topic == "b" { Fate::HangUp } else { Fate::Ack }
    };
    world.run(60, &mut forbids);
    assert_eq!(world.delivery.list_refused().len(), 1);

    world.withheld.clear();
    world.run(400, &mut forbids);

    assert!(world.delivery.list_refused().is_empty());
    assert!(!world.delivery.is_taken("b"));
}

/// A forbidden topic is withheld even while marks of other topics are not durable.
#[test]
fn nothing_is_lost_however_long_commits_take() {
    const RECORDS: usize = 600;
    for seed in 1..50_u64 {
        let mut world = World::new(mixed(RECORDS));
        let mut dice = Dice(seed);
        world.commit_time = Box::new(move || Duration::from_millis(dice.roll(60_000)));
        let mut dice = Dice(seed + 1_000);
        let forbidden_from = dice.roll(RECORDS as u64);
        let mut forbids = move |batch: &Batch, _| match &*batch.topic {
            "b" if batch.last.0 >= forbidden_from => Fate::HangUp,
            _ => Fate::Ack,
        };
        world.most_records = 10;

        world.run(200, &mut forbids);
        world.run(1_000, &mut |_, _| Fate::Ack);

        // A record that kills while earlier records pass is rightly quarantined.
        let is_accounted = |place: &u64| {
            let is_in = |(first, last): &(u64, u64)| (first..=last).contains(&place);
            world.arrived.contains(place) || world.quarantined.iter().any(is_in)
        };
        assert!((1..=RECORDS as u64).all(|place| is_accounted(&place)), "seed {seed}");
        assert_eq!(world.pending(), 0, "seed {seed}");
        assert!(world.withheld.is_empty(), "seed {seed}");
    }
}

#[test]
fn a_topic_that_is_renamed_while_its_messages_are_in_hand_loses_nothing() {
    // The third death withholds the topic.
    for deaths in [1, 2] {
        let records: Vec<_> = ["old", "new", "a"].into_iter().cycle().take(600).collect();
        let mut world = World::new(records);
        world.most_records = 5;
        let mut forbids =
            |batch: &Batch, _| if &*batch.topic == "old" { Fate::HangUp } else { Fate::Ack };
        while world.deaths < deaths {
            world.run(1, &mut forbids);
        }

        let rename = |topic: &mut &str| *topic = if *topic == "old" { "new" } else { *topic };
        world.records.iter_mut().for_each(rename);
        world.renamed = Some(("old", "new"));
        assert!(world.withheld.is_empty());
        world.delivery.withheld_in_store(&[], world.now);
        world.run(200, &mut forbids);

        assert_eq!((world.arrived.len(), world.counted), (600, 600), "after {deaths} deaths");
        assert!(world.withheld.is_empty(), "after {deaths} deaths");
    }
}

/// The topics are withheld already, as after a restart.
#[test]
fn allowed_records_have_most_of_the_time_however_many_topics_are_forbidden() {
    const SECONDS: u64 = 300;
    for forbidden in [1, 10, 60, 200] {
        let mut world = World::new(Vec::new());
        let topics: Vec<Arc<str>> = (0..forbidden).map(|n| format!("no/{n}").into()).collect();
        let leaked = topics.iter().map(|topic| &*String::leak(topic.to_string()));
        world.record(leaked.collect());
        let withheld: Vec<_> = topics.iter().map(|one| (Lane::Readings, Arc::clone(one))).collect();
        world.delivery.withheld_in_store(&withheld, world.now);
        world.withheld.extend(topics.into_iter().map(|topic| (topic, 0)));
        let mut forbids = |batch: &Batch, _| {
            if batch.topic.starts_with("no/") { Fate::HangUp } else { Fate::Ack }
        };

        let mut up = 0;
        for _ in 0..SECONDS {
            world.record(vec!["a"]);
            world.run(1, &mut forbids);
            up += u64::from(world.arrived.contains(&(world.records.len() as u64)));
        }

        assert!(up * 10 >= SECONDS * 7, "{forbidden}: {up} of {SECONDS} arrived within a second");
        world.run(20, &mut forbids);
        assert_eq!(world.arrived.len() as u64, SECONDS, "{forbidden}");
        assert_eq!(world.was_refused.len(), forbidden, "each is told");
    }
}

#[test]
fn a_broker_that_acknowledges_what_it_forbids_and_hangs_up_is_not_believed() {
    let mut world = World::new(mixed(300));
    let mut lies = |batch: &Batch, _| {
        if &*batch.topic == "b" { Fate::AckAndHangUp } else { Fate::Ack }
    };

    world.run(60, &mut lies);

    assert_eq!((world.counted, world.arrived.len()), (200, 200));
    assert_eq!(world.was_refused.len(), 1);
    assert_eq!(world.quarantined, []);
}

#[test]
fn a_hang_up_counts_from_when_it_happened_however_late_it_is_noticed() {
    for blind_for in [0, 5, 999, 1_000, 2_000, 15_000] {
        let mut world = World::new(mixed(300));
        world.blind_for = Duration::from_millis(blind_for);
        let mut lies = |batch: &Batch, _| {
            if &*batch.topic == "b" { Fate::AckAndHangUp } else { Fate::Ack }
        };

        world.run(300, &mut lies);

        let sums = (world.counted, world.arrived.len());
        assert_eq!(sums, (200, 200), "noticed after {blind_for} ms");
        assert_eq!(world.was_refused.len(), 1, "noticed after {blind_for} ms");
    }
}

#[test]
fn a_topic_that_was_taken_before_is_not_believed_on_the_next_connection() {
    let mut world = World::new(mixed(300));
    world.run(10, &mut |_, _| Fate::Ack);
    assert_eq!(world.counted, 300);
    world.delivery.link_lost(LinkEnd::Otherwise, world.now);
    let mut lies = |batch: &Batch, _| {
        if &*batch.topic == "b" { Fate::AckAndHangUp } else { Fate::Ack }
    };

    for _ in 0..30 {
        world.record(mixed(30));
        world.run(10, &mut lies);
    }

    assert_eq!((world.counted, world.arrived.len()), (900, 900));
    assert_eq!(world.was_refused.len(), 1);
    world.run(400, &mut |_, _| Fate::Ack);
    assert_eq!((world.counted, world.arrived.len()), (1_200, 1_200));
}

/// More topics than the window has places: each is acknowledged for the first time.
#[test]
fn no_first_acknowledgement_is_believed_however_many_topics_there_are() {
    const TOPICS: [&str; 13] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m"];
    for forbidden in TOPICS {
        let records: Vec<_> = TOPICS.into_iter().cycle().take(390).collect();
        let mut world = World::new(records);
        let mut lies = |batch: &Batch, _| {
            if *batch.topic == *forbidden { Fate::AckAndHangUp } else { Fate::Ack }
        };

        world.run(60, &mut lies);

        assert_eq!((world.counted, world.arrived.len()), (360, 360), "{forbidden}");
    }
}

#[test]
fn first_acknowledgements_on_many_topics_do_not_hold_up_the_flow() {
    const TOPICS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let mut world = World::new(TOPICS.to_vec());

    world.connected(&mut |_, _| Fate::Ack);

    assert_eq!(world.arrived.len(), TOPICS.len());
    assert_eq!(world.delivery.messages.len(), 1, "only the last has to stand");
}

#[test]
fn a_record_on_which_the_broker_hangs_up_is_quarantined_alone() {
    let mut world = World::new(mixed(3_000));
    let mut poison = |batch: &Batch, _| {
        if places(batch).contains(&1_000) { Fate::HangUp } else { Fate::Ack }
    };

    world.run(120, &mut poison);

    assert_eq!(world.quarantined, [(1_000, 1_000)]);
    assert_eq!((world.arrived.len(), world.counted), (2_999, 2_999));
    assert!(world.was_refused.is_empty());
    assert!(world.withheld.is_empty());
}

#[test]
fn a_broker_that_takes_small_messages_only_gets_small_ones() {
    let mut world = World::new(mixed(3_000));
    let mut small =
        |batch: &Batch, _| if batch.payload.len() > 2_000 { Fate::HangUp } else { Fate::Ack };

    world.run(300, &mut small);

    assert_eq!((world.arrived.len(), world.counted), (3_000, 3_000));
    assert_eq!(world.quarantined, []);
    assert!(world.delivery.max_message_bytes().is_some_and(|bytes| bytes <= 2_000));
    assert!(world.deaths < 40, "{} deaths", world.deaths);
}

#[test]
fn a_path_that_resets_condemns_nothing_and_delivers_everything() {
    for seed in 1..40_u64 {
        let mut world = World::new(mixed(6_000));
        let mut dice = Dice(seed);
        let mut resets = move |_: &Batch, _| match dice.roll(20) {
            0 => Fate::HangUp,
            1 => Fate::AckAndHangUp,
            _ => Fate::Ack,
        };

        world.run(300, &mut resets);

        assert_eq!(world.quarantined, [], "seed {seed}");
        world.run(400, &mut |_, _| Fate::Ack);
        assert_eq!(world.pending(), 0, "seed {seed}: {:?}", world.delivery);
    }
}

#[test]
fn where_nothing_passes_nothing_is_condemned() {
    let mut world = World::new(mixed(300));

    world.run(1_000, &mut |_, _| Fate::HangUp);

    assert_eq!((world.quarantined.len(), world.counted), (0, 0));
    world.run(700, &mut |_, _| Fate::Ack);
    assert_eq!((world.arrived.len(), world.counted), (300, 300));
}

#[test]
fn a_new_pass_takes_everything_behind_its_watermarks_and_counts_nothing_of_the_one_before() {
    let mut world = World::new(mixed(300));
    assert!(world.take());
    let now = world.now;
    let mut sent = Vec::new();
    while let Some((id, _)) = world.delivery.next(now) {
        world.delivery.mark_sent(id, now);
        sent.push(id);
    }
    assert!(!sent.is_empty());
    world.delivery.acknowledge_message(sent[0], now);

    world.delivery.begin_pass([Seq(0), Seq(0), Seq(100)]);
    world.delivery.withheld_in_store(&[], now);
    world.delivery.note_committed([Seq(0), Seq(0), Seq(300)]);
    for id in sent {
        world.delivery.acknowledge_message(id, now);
    }

    assert_eq!(world.delivery.in_hand(), 0);
    assert_eq!(world.delivery.take_marks(), (Vec::new(), Vec::new()));
    world.run(10, &mut |_, _| Fate::Ack);
    assert_eq!(world.arrived, (101..=300).collect());
    assert_eq!((world.counted, world.watermark), (200, 300));
}

#[test]
fn records_that_wait_are_counted_once_over_a_new_pass_and_a_rename() {
    let mut world = World::new(mixed(300));
    let mut forbids = |batch: &Batch, _| {
        if &*batch.topic == "b" { Fate::HangUp } else { Fate::Ack }
    };
    world.run(60, &mut forbids);
    assert_eq!(world.delivery.list_refused().remove(0).records, 100);
    let withheld = [(Lane::Readings, "b".into())];

    world.delivery.begin_pass([Seq(0); 3]);
    world.delivery.withheld_in_store(&withheld, world.now);
    world.delivery.note_committed([Seq(0), Seq(0), Seq(300)]);
    world.run(1, &mut forbids);

    assert_eq!(world.delivery.list_refused().remove(0).records, 100);
    world.delivery.withheld_in_store(&[], world.now);
    let topic = world.delivery.topics.get(Lane::Readings, "b").unwrap();
    assert!(topic.trial.is_none());
    assert_eq!(topic.withheld, 0, "they are under another name");
}

/// A broker that forbids `b` for a minute, then takes messages of `b`, but never acknowledges a
/// full message.
fn recovered(records: usize) -> World {
    let mut world = World::new(mixed(records));
    let mut forbids = |batch: &Batch, _| {
        if &*batch.topic == "b" { Fate::HangUp } else { Fate::Ack }
    };
    world.run(60, &mut forbids);
    assert_eq!((world.was_refused.len(), world.watermark), (1, records as u64));
    let mut slow = |batch: &Batch, _| if batch.count > 32 { Fate::Silence } else { Fate::Ack };
    world.run(400, &mut slow);
    assert!(world.delivery.list_refused().is_empty() && !world.unanswered.is_empty());
    world
}

#[test]
fn a_topic_that_caught_up_rejoins_its_lane_only_when_the_lane_is_settled_to_there() {
    let mut world = recovered(900);
    let mut silent = |_: &Batch, _| Fate::Silence;
    world.record(mixed(30));
    world.run(5, &mut silent);
    for _ in 0..5 {
        world.answer("b");
        world.run(5, &mut silent);
    }
    assert_eq!(world.withheld.values().max(), Some(&929), "caught up, and not released yet");
    assert_eq!(world.watermark, 900);

    ["a", "c"].iter().for_each(|topic| world.answer(topic));
    world.run(5, &mut |_, _| Fate::Ack);

    assert!(world.withheld.is_empty());
    world.record(mixed(30));
    world.run(5, &mut |_, _| Fate::Ack);
    assert_eq!((world.watermark, world.arrived.len(), world.counted), (960, 960, 960));
}

#[test]
fn a_topic_rejoins_its_lane_while_records_keep_coming_and_answers_take_a_while() {
    let mut world = recovered(900);

    for _ in 0..40 {
        world.record(mixed(3));
        world.run(1, &mut |_, _| Fate::Silence);
        ["a", "b", "c"].iter().for_each(|topic| world.answer(topic));
    }

    assert!(world.withheld.is_empty());
    world.run(5, &mut |_, _| Fate::Ack);
    assert_eq!(world.counted, 1_020);
}
