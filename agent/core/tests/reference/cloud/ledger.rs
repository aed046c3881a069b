//! The fate of each record, and the counts of the store computed from the records themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::imports::*;

/// The number of topics of each lane.
pub(super) const TOPICS: usize = 3;
pub(super) const LANES: [Lane; 3] = Lane::ALL;
/// The size of a record in bytes: its place in decimal, padded with spaces.
pub(super) const RECORD_BYTES: usize = 40;

/// The ledger.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The records by place; the first place is 1.
    records: Vec<Record>,
    /// The last place of each lane.
    last: [Seq; 3],
    now: Books,
    durable: Books,
    /// The places of the records taken by the broker.
    pub(super) arrived: BTreeSet<u64>,
    /// The places of the records sent since the start or the begin of the pass, without alerts.
    pub(super) sent: BTreeSet<u64>,
    /// The places of the quarantined records.
    quarantined: BTreeSet<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    lane: Lane,
    topic: usize,
    is_filtered: bool,
}

/// The state that a crash resets to the last commit.
#[derive(Debug, Clone, Default)]
struct Books {
    watermarks: [u64; 3],
    /// The last settled place of each withheld topic.
    rows: BTreeMap<(Lane, usize), u64>,
    fates: BTreeMap<u64, Fate>,
    /// The sums of all marks, by lane.
    delivered: [u64; 3],
    filtered: [u64; 3],
    dropped: [u64; 3],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Delivered,
    Filtered,
    Dropped,
}

/// Returns the name of the topic with this number.
pub(super) fn topic(lane: Lane, number: usize) -> Arc<str> {
    format!("{}/{number}", lane.as_str()).into()
}

/// Returns the number of a topic.
pub(super) fn number(topic: &str) -> usize {
    topic.rsplit('/').next().and_then(|number| number.parse().ok()).expect("one of ours")
}

impl Ledger {
    pub(super) fn record(&mut self, lane: Lane, topic: usize, is_filtered: bool) {
        self.records.push(Record { lane, topic, is_filtered });
        self.last[lane.index()] = Seq(u64::try_from(self.records.len()).expect("few"));
    }

    /// Returns the last place of each lane.
    pub(super) fn last(&self) -> [Seq; 3] {
        self.last
    }

    pub(super) fn nth(&self, nth: usize) -> Option<u64> {
        let at = nth.checked_rem(self.records.len())?;
        u64::try_from(at + 1).ok()
    }

    fn of_lane(&self, lane: Lane) -> impl Iterator<Item = (u64, &Record)> {
        (1..).zip(&self.records).filter(move |(_, record)| record.lane == lane)
    }

    pub(super) fn watermarks(&self) -> [Seq; 3] {
        self.now.watermarks.map(Seq)
    }

    pub(super) fn row(&self, lane: Lane, topic: usize) -> Option<u64> {
        self.now.rows.get(&(lane, topic)).copied()
    }

    pub(super) fn withheld(&self) -> Vec<(Lane, Arc<str>)> {
        self.now.rows.keys().map(|(lane, number)| (*lane, topic(*lane, *number))).collect()
    }

    pub(super) fn commit(&mut self) {
        self.durable = self.now.clone();
    }

    pub(super) fn crash(&mut self) {
        self.now = self.durable.clone();
    }

    pub(super) fn pending(&self) -> usize {
        self.records.len() - self.now.fates.len()
    }

    pub(super) fn is_pending(&self, lane: Lane, topic: usize) -> bool {
        let mut of_topic = self.of_lane(lane).filter(|(_, record)| record.topic == topic);
        of_topic.any(|(place, _)| !self.now.fates.contains_key(&place))
    }

    pub(super) fn quarantine(&mut self, gaps: &[Gap]) {
        for gap in gaps {
            let DropReason::Quarantine { topic } = &gap.reason else { panic!("{gap:?}") };
            let of_gap = self.of_lane(gap.lane).filter(|(place, record)| {
                (gap.first.0..=gap.last.0).contains(place) && record.topic == number(topic)
            });
            let places: Vec<u64> =
                of_gap.filter(|(_, record)| !record.is_filtered).map(|(place, _)| place).collect();
            self.quarantined.extend(places);
        }
    }

    pub(super) fn note_sent(&mut self, batch: &Batch) {
        if batch.lane != Lane::Alerts {
            self.sent.extend(self.places(batch));
        }
    }

    /// Returns the number of readings and events that a crash sends again, apart from those of
    /// withheld topics: the broker may have the records, and no durable mark says so.
    pub(super) fn count_repeated(&self) -> u64 {
        let is_withheld =
            |books: &Books, record: &Record| books.rows.contains_key(&(record.lane, record.topic));
        let is_repeated = |place: &&u64| {
            let record = usize::try_from(**place).ok().and_then(|at| self.records.get(at - 1));
            record.is_some_and(|record| {
                !is_withheld(&self.now, record) && !is_withheld(&self.durable, record)
            }) && !self.durable.fates.contains_key(*place)
        };
        u64::try_from(self.sent.iter().filter(is_repeated).count()).expect("few")
    }

    /// Returns the places of the records in a message.
    pub(super) fn places(&self, batch: &Batch) -> Vec<u64> {
        let text = std::str::from_utf8(&batch.payload).expect("text");
        let numbers = text.trim_matches(['[', ']']).split(',');
        numbers.map(|number| number.trim().parse().expect("a place")).collect()
    }

    /// Walks through a part of a lane like the store, and compares the batches with those expected
    /// from the records.
    pub(super) fn gather(
        &self,
        wanted: &TakeRequest,
        limit: usize,
        after: u64,
        through: u64,
        of_topic: Option<usize>,
    ) -> Result<Option<BatchGroup>, String> {
        let lane = wanted.lane;
        let mut gatherer = Gatherer::new(lane, limit, wanted.room)
            .max_records(wanted.records)
            .max_group_records(wanted.group_records);
        let mut expected: Vec<(usize, Vec<u64>)> = Vec::new();
        let mut reached = None;
        let in_reach = |(place, _): &(u64, &Record)| (after + 1..=through).contains(place);
        for (place, record) in self.of_lane(lane).filter(in_reach) {
            let name = topic(lane, record.topic);
            let is_withheld = match &wanted.part {
                LanePart::Lane { withheld, .. } => withheld.contains(&name),
                LanePart::Topic { .. } => false,
            };
            if of_topic.is_some_and(|number| number != record.topic) {
                continue;
            }
            if is_withheld {
                gatherer.skip_withheld(Seq(place), &name);
            } else if record.is_filtered {
                gatherer.skip_filtered(Seq(place), &name);
            } else {
                let has_room = put(&mut expected, (record.topic, place), wanted, limit, name.len());
                let offer = gatherer.offer_record(Seq(place), &name, Framing::Array, |out| {
                    out.extend_from_slice(format!("{place:>RECORD_BYTES$}").as_bytes());
                });
                if (offer == Offer::Taken) != has_room {
                    return Err(format!("{offer:?} for {place} in {lane:?} of {limit} bytes"));
                }
                if !has_room {
                    break;
                }
            }
            reached = Some(place);
        }
        let group = gatherer.finish_walk();
        let got = group.iter().flat_map(|group| &group.batches);
        let got: Vec<_> = got.map(|one| (number(&one.topic), self.places(one))).collect();
        let is_same = got == expected && group.as_ref().map(|group| group.through.0) == reached;
        let is_small = group
            .iter()
            .flat_map(|group| &group.batches)
            .all(|batch| batch.count == 1 || batch.payload.len() + batch.topic.len() <= limit);
        match is_same && is_small {
            true => Ok(group),
            false => Err(format!("{group:?} is not {expected:?} up to {reached:?}")),
        }
    }

    /// Settles the records of a range of a lane, for the topics selected by `is_meant`, and
    /// compares the counts with those of the mark.
    fn settle(
        &mut self,
        lane: Lane,
        range: std::ops::RangeInclusive<u64>,
        is_meant: impl Fn(&Books, usize) -> bool,
        (delivered, filtered, gaps): (u64, u64, &[Gap]),
    ) -> Result<(), String> {
        let mut counts = [0; 3];
        for place in range.clone() {
            let Some(record) = usize::try_from(place).ok().and_then(|at| self.records.get(at - 1))
            else {
                continue;
            };
            if record.lane != lane || !is_meant(&self.now, record.topic) {
                continue;
            }
            let fate = match record.is_filtered {
                true => Fate::Filtered,
                false if self.quarantined.contains(&place) => Fate::Dropped,
                false if self.arrived.contains(&place) => Fate::Delivered,
                false => return Err(format!("{place} in {lane:?} is settled and never arrived")),
            };
            if let Some(before) = self.now.fates.insert(place, fate) {
                return Err(format!("{place} in {lane:?} was {before:?}, and is {fate:?} again"));
            }
            counts[fate as usize] += 1;
        }
        let dropped: u64 = gaps.iter().map(|gap| gap.count).sum();
        if counts != [delivered, filtered, dropped] {
            return Err(format!(
                "{lane:?} {range:?}: delivered, filtered and dropped are {counts:?}, not {:?}",
                [delivered, filtered, dropped]
            ));
        }
        self.now.delivered[lane.index()] += delivered;
        self.now.filtered[lane.index()] += filtered;
        self.now.dropped[lane.index()] += dropped;
        Ok(())
    }

    /// Moves the watermark of a lane.
    pub(super) fn mark(&mut self, mark: &Mark) -> Result<(), String> {
        let lane = mark.lane;
        let range = self.now.watermarks[lane.index()] + 1..=mark.through.0;
        let is_meant = |books: &Books, topic| !books.rows.contains_key(&(lane, topic));
        self.settle(lane, range, is_meant, (mark.delivered, mark.filtered, &mark.gaps))?;
        self.now.watermarks[lane.index()] = mark.through.0;
        Ok(())
    }

    /// Changes the withheld topics.
    pub(super) fn note(&mut self, mark: &TopicMark) -> Result<(), String> {
        match mark {
            TopicMark::Withhold { lane, topic, after } => {
                self.now.rows.entry((*lane, number(topic))).or_insert(after.0);
                Ok(())
            }
            TopicMark::Settle { lane, sources, through, delivered, filtered, gaps } => {
                let topic = usize::try_from(sources[0]).expect("a small number");
                let row = self.now.rows.get_mut(&(*lane, topic));
                let row = row.ok_or(format!("{topic} of {lane:?} is not withheld"))?;
                let range = std::mem::replace(row, through.0) + 1..=through.0;
                let is_meant = |_: &Books, other| other == topic;
                self.settle(*lane, range, is_meant, (*delivered, *filtered, gaps))
            }
            TopicMark::Release { lane, topic } => {
                let row = self.now.rows.remove(&(*lane, number(topic)));
                let watermark = self.now.watermarks[lane.index()];
                let mut of_topic = self
                    .of_lane(*lane)
                    .filter(|(place, record)| *place <= watermark && record.topic == number(topic));
                let lost = of_topic.find(|(place, _)| !self.now.fates.contains_key(place));
                match (row, lost) {
                    (None, _) => Err(format!("{topic} is released and was not withheld")),
                    (_, Some((place, _))) => Err(format!("{topic} is released, {place} is lost")),
                    (Some(row), _) if row > watermark => {
                        Err(format!("{topic} is released at {row}, the lane is at {watermark}"))
                    }
                    (Some(_), None) => Ok(()),
                }
            }
        }
    }

    /// Checks that the sums of the marks equal the number of settled records, in each lane.
    pub(super) fn balances(&self) -> Result<(), String> {
        for lane in LANES {
            let told = [self.now.delivered, self.now.filtered, self.now.dropped];
            let settled: u64 = told.iter().map(|of| of[lane.index()]).sum();
            let fates = self.of_lane(lane).filter(|(place, _)| self.now.fates.contains_key(place));
            if u64::try_from(fates.count()) != Ok(settled) {
                return Err(format!("the account of {lane:?} does not balance: {:?}", self.now));
            }
        }
        Ok(())
    }
}

/// Puts a record into the message of its topic. Returns `false` if the group has no room for
/// another message, or the message none for another record.
fn put(
    messages: &mut Vec<(usize, Vec<u64>)>,
    (topic, place): (usize, u64),
    wanted: &TakeRequest,
    limit: usize,
    topic_bytes: usize,
) -> bool {
    let taken: usize = messages.iter().map(|(_, records)| records.len()).sum();
    if taken >= wanted.group_records {
        return false;
    }
    let Some((_, records)) = messages.iter_mut().find(|(of, _)| *of == topic) else {
        let has_room = messages.len() < wanted.room.max(1);
        if has_room {
            messages.push((topic, vec![place]));
        }
        return has_room;
    };
    // A bracket or a comma before each record, and a bracket at the end.
    let bytes = (records.len() + 1) * (RECORD_BYTES + 1) + 1 + topic_bytes;
    let has_room = records.len() < wanted.records && bytes <= limit;
    if has_room {
        records.push(place);
    }
    has_room
}
