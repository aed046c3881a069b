//! A simulated store and a simulated broker.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;

pub(super) const STEP: Duration = Duration::from_millis(100);
pub(super) const WINDOW: usize = 16;
pub(super) const LIMITS: DeliveryLimits = DeliveryLimits { window: WINDOW, repeat: REPEAT };
/// The size of each record in bytes.
pub(super) const RECORD_BYTES: usize = 100;

/// The reaction of the broker to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Ack,
    HangUp,
    AckAndHangUp,
    /// No acknowledgement until [`World::answer`].
    Silence,
}

pub(super) type Broker = dyn FnMut(&Batch, Mono) -> Fate;

pub(super) struct World {
    pub(super) delivery: Delivery,
    pub(super) now: Mono,
    pub(super) up_at: Mono,
    /// The time until the agent notices the end of the connection.
    pub(super) blind_for: Duration,
    pub(super) is_up: bool,
    /// The topic of each record of the lane of readings, in order; places begin at 1.
    pub(super) records: Vec<&'static str>,
    pub(super) watermark: u64,
    /// The last settled place of each withheld topic.
    pub(super) withheld: BTreeMap<Arc<str>, u64>,
    pub(super) taken: BTreeMap<Arc<str>, u64>,
    pub(super) arrived: BTreeSet<u64>,
    pub(super) counted: u64,
    pub(super) dropped: u64,
    pub(super) quarantined: Vec<(u64, u64)>,
    pub(super) deaths: u32,
    pub(super) was_refused: BTreeSet<Arc<str>>,
    /// The time at which the marks in the store become durable.
    pub(super) durable_at: Option<Mono>,
    /// Returns the time until the next marks are durable.
    pub(super) commit_time: Box<dyn FnMut() -> Duration>,
    /// The old and the new name of a renamed topic.
    pub(super) renamed: Option<(&'static str, &'static str)>,
    /// The most records in a message of the lane.
    pub(super) most_records: usize,
    pub(super) unanswered: BTreeMap<MessageId, Arc<str>>,
}

impl World {
    pub(super) fn new(records: Vec<&'static str>) -> Self {
        let mut delivery = Delivery::new(LIMITS, [Seq(0); 3]);
        delivery.note_committed([Seq(0), Seq(0), Seq(records.len() as u64)]);
        Self {
            delivery,
            now: Mono(1_000),
            up_at: Mono(0),
            blind_for: Duration::ZERO,
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

    /// Commits further records, given by their topics.
    pub(super) fn record(&mut self, records: Vec<&'static str>) {
        self.records.extend(records);
        self.delivery.note_committed([Seq(0), Seq(0), Seq(self.records.len() as u64)]);
    }

    /// Acknowledges each unanswered message on `topic`.
    pub(super) fn answer(&mut self, topic: &str) {
        for (id, _) in self.unanswered.extract_if(.., |_, of| **of == *topic) {
            self.delivery.acknowledge_message(id, self.now);
        }
    }

    pub(super) fn run(&mut self, seconds: u64, broker: &mut Broker) {
        for _ in 0..seconds * 10 {
            self.now = self.now + STEP;
            self.delivery.handle_timeout(self.now);
            if self.now >= self.up_at {
                if !self.is_up {
                    self.is_up = true;
                    self.delivery.link_up(self.now, None);
                }
                self.connected(broker);
            }
            self.mark();
            assert!(self.delivery.in_hand() <= WINDOW, "{:?}", self.delivery);
            self.was_refused.extend(self.delivery.list_refused().into_iter().map(|one| one.topic));
        }
    }

    pub(super) fn connected(&mut self, broker: &mut Broker) {
        loop {
            let (mut acknowledged, mut is_sending) = (Vec::new(), false);
            while let Some((id, batch)) = self.delivery.next(self.now) {
                let batch = batch.clone();
                self.delivery.mark_sent(id, self.now);
                is_sending = true;
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
                    acknowledged
                        .drain(..)
                        .for_each(|id| self.delivery.acknowledge_message(id, self.now));
                    let ended = self.now;
                    self.now = self.now + self.blind_for;
                    let gaps = self.delivery.link_lost(LinkEnd::ByPeer, ended);
                    self.quarantined.extend(gaps.iter().map(|gap| (gap.first.0, gap.last.0)));
                    self.deaths += 1;
                    self.up_at = self.now + Duration::from_secs(1);
                    self.is_up = false;
                    return;
                }
            }
            acknowledged.into_iter().for_each(|id| self.delivery.acknowledge_message(id, self.now));
            if !self.take() && !is_sending {
                return;
            }
        }
    }

    pub(super) fn take(&mut self) -> bool {
        for wanted in self.delivery.list_requests(self.now) {
            match &wanted.part {
                LanePart::Lane { after, withheld } => {
                    let through = self.records.len() as u64;
                    let skipped = |topic: &str| withheld.contains(topic);
                    let group = self.gather(after.0, through, &wanted, skipped);
                    if let Some(group) = group {
                        self.delivery.add_group(wanted.lane, group);
                        return true;
                    }
                }
                LanePart::Topic { topic, anew, through } => {
                    let Some(settled) = self.withheld.get(topic).copied() else {
                        self.delivery.mark_exhausted(&wanted);
                        continue;
                    };
                    let taken = self.taken.get(topic).copied().unwrap_or(0);
                    let after = if *anew { settled } else { taken.max(settled) };
                    let other = |of: &str| *of != **topic;
                    let group = self.gather(after, through.0, &wanted, other);
                    if let Some(group) = group.filter(|group| !group.batches.is_empty()) {
                        self.taken.insert(Arc::clone(topic), group.through.0);
                        self.delivery.add_topic_group(wanted.lane, topic, group, vec![0]);
                        return true;
                    }
                }
            }
            self.delivery.mark_exhausted(&wanted);
        }
        false
    }

    pub(super) fn gather(
        &self,
        after: u64,
        through: u64,
        wanted: &TakeRequest,
        skips: impl Fn(&str) -> bool,
    ) -> Option<BatchGroup> {
        let is_of_lane = matches!(wanted.part, LanePart::Lane { .. });
        let limit = wanted.bytes.min(6_000);
        let mut gatherer = crate::cloud::batch::Gatherer::new(wanted.lane, limit, wanted.room)
            .max_records(wanted.records.min(self.most_records))
            .max_group_records(wanted.group_records);
        for place in after + 1..=through {
            let topic = self.records[usize::try_from(place).unwrap() - 1];
            if skips(topic) {
                if is_of_lane {
                    gatherer.skip_withheld(Seq(place), &topic.into());
                }
                continue;
            }
            let topic: Arc<str> = topic.into();
            let framing = crate::cloud::record_text::Framing::Array;
            let offer = gatherer.offer_record(Seq(place), &topic, framing, |out| {
                out.extend_from_slice(format!("{place:>0$}", RECORD_BYTES - 1).as_bytes());
            });
            if offer == crate::cloud::batch::Offer::Full {
                break;
            }
        }
        gatherer.finish_walk()
    }

    /// Takes marks like the publisher: marks wait until earlier marks are durable, newly withheld
    /// topics do not wait.
    pub(super) fn mark(&mut self) {
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
            self.delivery.note_marks_durable();
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

    pub(super) fn note(&mut self, topics: Vec<TopicMark>) {
        for mark in topics {
            match mark {
                TopicMark::Withhold { topic, after, .. } => {
                    self.withheld.entry(topic).or_insert(after.0);
                }
                TopicMark::Settle { through, delivered, gaps, .. } => {
                    self.counted += delivered;
                    self.dropped += gaps.iter().map(|gap| gap.count).sum::<u64>();
                    // A simplification: the settled topic is the topic of the record at `through`.
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

    pub(super) fn pending(&self) -> u64 {
        self.records.len() as u64 - self.counted - self.dropped
    }
}

pub(super) fn places(batch: &Batch) -> Vec<u64> {
    let text = std::str::from_utf8(&batch.payload).unwrap();
    let numbers = text.trim_matches(['[', ']']).split(',');
    numbers.map(|number| number.trim().parse().unwrap()).collect()
}

/// A pseudo-random generator: the same seed gives the same numbers.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// Returns a number below `sides`.
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

pub(super) fn mixed(count: usize) -> Vec<&'static str> {
    ["a", "b", "c"].into_iter().cycle().take(count).collect()
}
