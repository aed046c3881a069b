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
}

type Broker = dyn FnMut(&Batch, Mono) -> Fate;

struct World {
    delivery: Delivery,
    now: Mono,
    up_at: Mono,
    /// Of the lane of readings, in order: the topic of each record; places begin at 1.
    records: Vec<&'static str>,
    watermark: u64,
    /// By withheld topic: the last place that is settled.
    withheld: BTreeMap<Arc<str>, u64>,
    taken: BTreeMap<Arc<str>, u64>,
    arrived: BTreeSet<u64>,
    counted: u64,
    quarantined: Vec<(u64, u64)>,
    deaths: u32,
    was_refused: BTreeSet<Arc<str>>,
    marking: bool,
}

impl World {
    fn new(records: Vec<&'static str>) -> Self {
        let mut delivery = Delivery::new(WINDOW, [Seq(0); 3]);
        delivery.committed([Seq(0), Seq(0), Seq(records.len() as u64)]);
        Self {
            delivery,
            now: Mono(1_000),
            up_at: Mono(0),
            records,
            watermark: 0,
            withheld: BTreeMap::new(),
            taken: BTreeMap::new(),
            arrived: BTreeSet::new(),
            counted: 0,
            quarantined: Vec::new(),
            deaths: 0,
            was_refused: BTreeSet::new(),
            marking: false,
        }
    }

    fn run(&mut self, seconds: u64, broker: &mut Broker) {
        for _ in 0..seconds * 10 {
            self.now = self.now + STEP;
            self.delivery.tick(self.now);
            if self.now >= self.up_at {
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
                if fate != Fate::HangUp {
                    acknowledged.push(id);
                }
                if fate == Fate::Ack {
                    self.arrived.extend(places(&batch));
                } else {
                    acknowledged.drain(..).for_each(|id| self.delivery.acknowledged(id, self.now));
                    let gaps = self.delivery.link_lost(Death::ByPeer, self.now);
                    self.quarantined.extend(gaps.iter().map(|gap| (gap.first.0, gap.last.0)));
                    self.deaths += 1;
                    self.up_at = self.now + Duration::from_secs(1);
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
                    let settled = self.withheld.get(topic).copied();
                    let settled = settled.expect("it is withheld in the store");
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
            .max_records(wanted.records);
        for place in after + 1..=through {
            let topic: Arc<str> = self.records[usize::try_from(place).unwrap() - 1].into();
            if skips(&topic) {
                if is_of_lane {
                    gatherer.withhold(Seq(place), &topic);
                }
                continue;
            }
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

    fn mark(&mut self) {
        if self.marking {
            self.delivery.marked();
        }
        let (marks, topics) = self.delivery.take_marks();
        self.marking = !marks.is_empty() || !topics.is_empty();
        for mark in topics {
            match mark {
                TopicMark::Withhold { topic, after, .. } => {
                    assert!(self.withheld.insert(topic, after.0).is_none());
                }
                TopicMark::Settle { through, delivered, .. } => {
                    self.counted += delivered;
                    // One topic at a time is enough here: the one that was taken to there.
                    let topic = self.records[usize::try_from(through.0).unwrap() - 1];
                    self.withheld.insert(topic.into(), through.0);
                }
                TopicMark::Release { topic, .. } => {
                    self.withheld.remove(&topic);
                    self.taken.remove(&topic);
                }
            }
        }
        for mark in marks {
            self.counted += mark.delivered;
            self.watermark = mark.through.0;
        }
    }

    fn pending(&self) -> u64 {
        let quarantined: u64 = self.quarantined.iter().map(|(first, last)| last - first + 1).sum();
        self.records.len() as u64 - self.counted - quarantined
    }
}

fn places(batch: &Batch) -> Vec<u64> {
    let text = std::str::from_utf8(&batch.payload).unwrap();
    let numbers = text.trim_matches(['[', ']']).split(',');
    numbers.map(|number| number.trim().parse().unwrap()).collect()
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
        let mut dice = seed;
        let mut resets = move |_: &Batch, _| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            match dice % 20 {
                0 => Fate::HangUp,
                1 => Fate::AckAndHangUp,
                _ => Fate::Ack,
            }
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
