//! A store and a broker in miniature: what a broker does to which publishes, and what becomes of
//! every record.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const STEP: Duration = Duration::from_millis(100);
const WINDOW: usize = 16;
/// As many bytes as each record has.
const RECORD_BYTES: usize = 100;

/// What the broker does with a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Ack,
    HangUp,
    AckAndHangUp,
    /// No answer until [`World::answer`].
    Silence,
}

type Broker = dyn FnMut(&Batch, Mono) -> Fate;

struct World {
    delivery: Delivery,
    now: Mono,
    up_at: Mono,
    is_up: bool,
    /// Of the lane of readings, in order: the topic of each record; places begin at 1.
    records: Vec<&'static str>,
    watermark: u64,
    /// By withheld topic: the last place that is settled.
    withheld: BTreeMap<Arc<str>, u64>,
    taken: BTreeMap<Arc<str>, u64>,
    arrived: BTreeSet<u64>,
    counted: u64,
    dropped: u64,
    quarantined: Vec<(u64, u64)>,
    deaths: u32,
    was_refused: BTreeSet<Arc<str>>,
    /// When the marks that the store was given are durable.
    durable_at: Option<Mono>,
    /// How long the next marks take to be durable.
    commit_time: Box<dyn FnMut() -> Duration>,
    /// A topic, and the one that its records go to by now.
    renamed: Option<(&'static str, &'static str)>,
    /// In a message of the lane.
    most_records: usize,
    unanswered: BTreeMap<MessageId, Arc<str>>,
}

impl World {
    fn new(records: Vec<&'static str>) -> Self {
        let mut delivery = Delivery::new(WINDOW, [Seq(0); 3]);
        delivery.committed([Seq(0), Seq(0), Seq(records.len() as u64)]);
        Self {
            delivery,
            now: Mono(1_000),
            up_at: Mono(0),
            is_up: false,
            records,
            watermark: 0,
            withheld: BTreeMap::new(),
            taken: BTreeMap::new(),
            arrived: BTreeSet::new(),
            counted: 0,
            dropped: 0,
            quarantined: Vec::new(),
            deaths: 0,
            was_refused: BTreeSet::new(),
            durable_at: None,
            commit_time: Box::new(|| Duration::ZERO),
            renamed: None,
            most_records: usize::MAX,
            unanswered: BTreeMap::new(),
        }
    }

    /// Records that are committed from now on.
    fn record(&mut self, records: Vec<&'static str>) {
        self.records.extend(records);
        self.delivery.committed([Seq(0), Seq(0), Seq(self.records.len() as u64)]);
    }

    /// Acknowledges each message on `topic` that the broker was silent on.
    fn answer(&mut self, topic: &str) {
        for (id, _) in self.unanswered.extract_if(.., |_, of| **of == *topic) {
            self.delivery.acknowledged(id, self.now);
        }
    }

    fn run(&mut self, seconds: u64, broker: &mut Broker) {
        for _ in 0..seconds * 10 {
            self.now = self.now + STEP;
            self.delivery.tick(self.now);
            if self.now >= self.up_at {
                if !self.is_up {
                    self.is_up = true;
                    self.delivery.link_up(self.now);
                }
                self.connected(broker);
            }
            self.mark();
            assert!(self.delivery.in_hand() <= WINDOW, "{:?}", self.delivery);
            self.was_refused.extend(self.delivery.refused().into_iter().map(|one| one.topic));
        }
    }

    fn connected(&mut self, broker: &mut Broker) {
        loop {
            let mut acknowledged = Vec::new();
            while let Some((id, batch)) = self.delivery.next(self.now) {
                let batch = batch.clone();
                self.delivery.sent(id, self.now);
                let fate = broker(&batch, self.now);
                match fate {
                    Fate::Ack | Fate::AckAndHangUp => acknowledged.push(id),
                    Fate::Silence => {
                        self.unanswered.insert(id, Arc::clone(&batch.topic));
                    }
                    Fate::HangUp => {}
                }
                if matches!(fate, Fate::Ack | Fate::Silence) {
                    self.arrived.extend(places(&batch));
                } else {
                    acknowledged.drain(..).for_each(|id| self.delivery.acknowledged(id, self.now));
                    let gaps = self.delivery.link_lost(Death::ByPeer, self.now);
                    self.quarantined.extend(gaps.iter().map(|gap| (gap.first.0, gap.last.0)));
                    self.deaths += 1;
                    self.up_at = self.now + Duration::from_secs(1);
                    self.is_up = false;
                    return;
                }
            }
            acknowledged.into_iter().for_each(|id| self.delivery.acknowledged(id, self.now));
            if !self.take() {
                return;
            }
        }
    }

    fn take(&mut self) -> bool {
        for wanted in self.delivery.wanted(self.now) {
            match &wanted.part {
                Part::Lane { after, withheld } => {
                    let through = self.records.len() as u64;
                    let skipped = |topic: &str| withheld.contains(topic);
                    let sheaf = self.gather(after.0, through, &wanted, skipped);
                    if let Some(sheaf) = sheaf {
                        self.delivery.add(wanted.lane, sheaf);
                        return true;
                    }
                }
                Part::Topic { topic, anew, through } => {
                    let Some(settled) = self.withheld.get(topic).copied() else {
                        self.delivery.exhausted(&wanted);
                        continue;
                    };
                    let taken = self.taken.get(topic).copied().unwrap_or(0);
                    let after = if *anew { settled } else { taken.max(settled) };
                    let other = |of: &str| *of != **topic;
                    let sheaf = self.gather(after, through.0, &wanted, other);
                    if let Some(sheaf) = sheaf.filter(|sheaf| !sheaf.batches.is_empty()) {
                        self.taken.insert(Arc::clone(topic), sheaf.through.0);
                        self.delivery.add_of_topic(wanted.lane, topic, sheaf, vec![0]);
                        return true;
                    }
                }
            }
            self.delivery.exhausted(&wanted);
        }
        false
    }

    fn gather(
        &self,
        after: u64,
        through: u64,
        wanted: &Wanted,
        skips: impl Fn(&str) -> bool,
    ) -> Option<Sheaf> {
        let is_of_lane = matches!(wanted.part, Part::Lane { .. });
        let limit = wanted.bytes.min(6_000);
        let mut gatherer = crate::batch::Gatherer::new(wanted.lane, limit, wanted.room)
            .max_records(wanted.records.min(self.most_records));
        for place in after + 1..=through {
            let topic = self.records[usize::try_from(place).unwrap() - 1];
            if skips(topic) {
                if is_of_lane {
                    gatherer.withhold(Seq(place), &topic.into());
                }
                continue;
            }
            let topic: Arc<str> = topic.into();
            let framing = crate::record::Framing::Array;
            let offer = gatherer.offer(Seq(place), &topic, framing, |out| {
                out.extend_from_slice(format!("{place:>0$}", RECORD_BYTES - 1).as_bytes());
            });
            if offer == crate::batch::Offer::Full {
                break;
            }
        }
        gatherer.finish()
    }

    /// As the publisher does: marks wait until those before are durable, what is withheld does not.
    fn mark(&mut self) {
        loop {
            let withheld = self.delivery.take_withheld();
            if withheld.is_empty() {
                break;
            }
            let renamed = self.renamed.filter(|(before, _)| {
                let is_of = |mark: &TopicMark| {
                    matches!(mark, TopicMark::Withhold { topic, .. } if **topic == **before)
                };
                withheld.iter().any(is_of)
            });
            self.note(withheld);
            if let Some((before, now)) = renamed {
                let after = self.withheld.remove(before).unwrap();
                self.withheld.insert(now.into(), after);
                let topics: Vec<_> =
                    self.withheld.keys().map(|topic| (Lane::Readings, Arc::clone(topic))).collect();
                self.delivery.withheld_in_store(&topics, self.now);
            }
        }
        if self.durable_at.is_some_and(|at| at <= self.now) {
            self.durable_at = None;
            self.delivery.marked();
        }
        if self.durable_at.is_some() {
            return;
        }
        let (marks, topics) = self.delivery.take_marks();
        if !marks.is_empty() || !topics.is_empty() {
            self.durable_at = Some(self.now + (self.commit_time)());
        }
        for mark in marks {
            self.counted += mark.delivered;
            self.dropped += mark.gaps.iter().map(|gap| gap.count).sum::<u64>();
            self.watermark = mark.through.0;
        }
        self.note(topics);
    }

    fn note(&mut self, topics: Vec<TopicMark>) {
        for mark in topics {
            match mark {
                TopicMark::Withhold { topic, after, .. } => {
                    self.withheld.entry(topic).or_insert(after.0);
                }
                TopicMark::Settle { through, delivered, gaps, .. } => {
                    self.counted += delivered;
                    self.dropped += gaps.iter().map(|gap| gap.count).sum::<u64>();
                    // One topic at a time is enough here: the one that was taken to there.
                    let topic = self.records[usize::try_from(through.0).unwrap() - 1];
                    self.withheld.insert(topic.into(), through.0);
                }
                TopicMark::Release { topic, .. } => {
                    let (settled, watermark) = (self.withheld.remove(&topic), self.watermark);
                    assert!(settled <= Some(watermark), "released before its lane was settled");
                    self.taken.remove(&topic);
                }
            }
        }
    }

    fn pending(&self) -> u64 {
        self.records.len() as u64 - self.counted - self.dropped
    }
}

fn places(batch: &Batch) -> Vec<u64> {
    let text = std::str::from_utf8(&batch.payload).unwrap();
    let numbers = text.trim_matches(['[', ']']).split(',');
    numbers.map(|number| number.trim().parse().unwrap()).collect()
}

/// Throws the same numbers again for the same seed.
struct Dice(u64);

impl Dice {
    /// A number below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn mixed(count: usize) -> Vec<&'static str> {
    ["a", "b", "c"].into_iter().cycle().take(count).collect()
}

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
    let refused = world.delivery.refused().remove(0);
    assert_eq!((&*refused.topic, refused.records), ("b", 1_000));
    let deaths = world.deaths;
    world.run(3_600, &mut forbids);
    assert!(world.deaths - deaths <= 16, "an hour costs {} connections", world.deaths - deaths);

    world.run(400, &mut |_, _| Fate::Ack);

    assert_eq!((world.arrived.len(), world.counted), (3_000, 3_000));
    assert!(world.withheld.is_empty() && world.delivery.refused().is_empty());
}

/// A topic that is forbidden at any time is withheld also while marks of others are not durable yet.
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

        // A record that kills while those before it pass is rightly quarantined.
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
fn a_topic_that_was_taken_before_is_not_believed_on_the_next_connection() {
    let mut world = World::new(mixed(300));
    world.run(10, &mut |_, _| Fate::Ack);
    assert_eq!(world.counted, 300);
    world.delivery.link_lost(Death::Otherwise, world.now);
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
        world.delivery.sent(id, now);
        sent.push(id);
    }
    assert!(sent.len() > 1);
    world.delivery.acknowledged(sent[0], now);

    world.delivery.begin_pass([Seq(0), Seq(0), Seq(100)]);
    world.delivery.withheld_in_store(&[], now);
    world.delivery.committed([Seq(0), Seq(0), Seq(300)]);
    for id in sent {
        world.delivery.acknowledged(id, now);
    }

    assert_eq!(world.delivery.in_hand(), 0);
    assert_eq!(world.delivery.take_marks(), (Vec::new(), Vec::new()));
    world.run(10, &mut |_, _| Fate::Ack);
    assert_eq!(world.arrived, (101..=300).collect());
    assert_eq!((world.counted, world.watermark), (200, 300));
}

/// A broker that forbids `b` for a minute and then takes its messages, but answers none of the full ones.
fn recovered(records: usize) -> World {
    let mut world = World::new(mixed(records));
    let mut forbids = |batch: &Batch, _| {
        if &*batch.topic == "b" { Fate::HangUp } else { Fate::Ack }
    };
    world.run(60, &mut forbids);
    assert_eq!((world.was_refused.len(), world.watermark), (1, records as u64));
    let mut slow = |batch: &Batch, _| if batch.count > 32 { Fate::Silence } else { Fate::Ack };
    world.run(400, &mut slow);
    assert!(world.delivery.refused().is_empty() && !world.unanswered.is_empty());
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
