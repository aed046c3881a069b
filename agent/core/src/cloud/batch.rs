//! Batches: records of one lane and topic that travel in one message.
//!
//! A group of batches is the result of one walk through a lane: the records up to and including
//! `through`, in one batch per topic. The walk ends as soon as one batch is full, so the records of
//! a lane are sent in the order of the lane.

use std::sync::Arc;

use crate::cloud::columns::ColumnBatch;
use crate::cloud::record_text::{ClockText, Framing, ReadingLayout, RecordStamp};
use crate::record::lane::Lane;
use crate::record::reading::{Reading, Seq};

/// AWS IoT meters every started 5 KiB of payload and topic.
pub const BILLING_UNIT_BYTES: usize = 5 * 1024;
/// The quota of AWS IoT Core for a message; a larger message closes the connection.
pub const MAX_MESSAGE_BYTES: usize = 128 * 1024;

/// The largest number of messages, and so of topics, in a group.
pub const MAX_GROUP_MESSAGES: usize = 512;
/// The payload bytes of a group from which the group takes no further record: bounds the memory of
/// a group of many topics. A single message may be larger.
pub const MAX_GROUP_BYTES: usize = 256 * 1024;
/// The bytes of a usual reading in columns, as an estimate for [`MAX_GROUP_BYTES`].
const COLUMN_BYTES: usize = 16;
/// The room of a further message of a group in bytes, before the message grows.
const SMALL_BATCH: usize = 1024;

/// A message ready to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Lane of the records.
    pub lane: Lane,
    /// Topic to publish to.
    pub topic: Arc<str>,
    /// Encoded records; shared with the link during sending.
    pub payload: Arc<[u8]>,
    /// First record in the batch.
    pub first: Seq,
    /// Last record in the batch; records of other topics may lie between `first` and `last`.
    pub last: Seq,
    /// Number of records.
    pub count: u64,
}

/// Batches gathered in one walk through a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchGroup {
    /// Last record of the walk: every record of the lane up to `through` is in this group or an
    /// earlier group.
    pub through: Seq,
    /// Batches to publish; empty only if every record was filtered or withheld.
    pub batches: Vec<Batch>,
    /// Number of filtered records, by topic.
    pub filtered: Vec<(Arc<str>, u64)>,
    /// Number of records passed over because of a withheld topic, by topic.
    pub withheld: Vec<(Arc<str>, u64)>,
}

/// The outcome of offering a record to a [`Gatherer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// The record is in a batch.
    Taken,
    /// No room for the record: the walk must end before the record.
    Full,
}

/// Gathers the records of one walk through a lane into batches.
#[derive(Debug)]
pub struct Gatherer {
    lane: Lane,
    limit_bytes: usize,
    max_batches: usize,
    max_records: u64,
    max_group_records: u64,
    /// Number and payload bytes of the records taken.
    taken: (u64, usize),
    through: Seq,
    passed_over: u64,
    filtered: Vec<(Arc<str>, u64)>,
    withheld: Vec<(Arc<str>, u64)>,
    open: Vec<OpenBatch>,
}

#[derive(Debug)]
struct OpenBatch {
    topic: Arc<str>,
    framing: Framing,
    payload: Vec<u8>,
    /// The readings in columns, in place of `payload`.
    columns: Option<Box<ColumnBatch>>,
    first: Seq,
    last: Seq,
    count: u64,
}

impl Gatherer {
    /// Begins a walk. `limit_bytes` bounds payload and topic of a message together; `max_batches`
    /// bounds the number of batches, with a minimum of 1.
    #[must_use]
    pub fn new(lane: Lane, limit_bytes: usize, max_batches: usize) -> Self {
        Self {
            lane,
            limit_bytes,
            max_batches: max_batches.max(1),
            max_records: u64::MAX,
            max_group_records: u64::MAX,
            taken: (0, 0),
            through: Seq(0),
            passed_over: 0,
            filtered: Vec::new(),
            withheld: Vec::new(),
            open: Vec::new(),
        }
    }

    /// Limits the number of records a message, with a minimum of 1.
    #[must_use]
    pub fn max_records(mut self, records: usize) -> Self {
        self.max_records = u64::try_from(records.max(1)).unwrap_or(u64::MAX);
        self
    }

    /// Limits the number of records in all messages together, with a minimum of 1.
    #[must_use]
    pub fn max_group_records(mut self, records: usize) -> Self {
        self.max_group_records = u64::try_from(records.max(1)).unwrap_or(u64::MAX);
        self
    }

    /// Offers a reading in the framing of its layout.
    pub fn offer_reading(
        &mut self,
        layout: &ReadingLayout,
        reading: &Reading,
        stamp: &RecordStamp,
        clock: &mut ClockText,
    ) -> Offer {
        let (seq, topic) = (stamp.id.seq, &layout.topic);
        if layout.framing != Framing::Columns {
            return self.offer_record(seq, topic, layout.framing, |out| {
                layout.write_record(reading, stamp, clock, out);
            });
        }
        let room = self.limit_bytes.saturating_sub(topic.len());
        if self.is_group_full() {
            return Offer::Full;
        }
        let max_records = self.max_records;
        let Some(batch) = self.find_or_open_batch(seq, topic, Framing::Columns) else {
            return Offer::Full;
        };
        // A single record is always taken, as by `offer_record`.
        let room = if batch.count == 0 { usize::MAX } else { room };
        let columns = batch.columns.get_or_insert_with(|| Box::new(ColumnBatch::new()));
        if batch.count >= max_records || !columns.push_reading(layout, reading, stamp, room) {
            return Offer::Full;
        }
        batch.last = seq;
        batch.count += 1;
        self.taken = (self.taken.0 + 1, self.taken.1 + COLUMN_BYTES);
        self.through = seq;
        Offer::Taken
    }

    /// Offers the record `seq`; `write` appends the record to the given buffer.
    pub fn offer_record(
        &mut self,
        seq: Seq,
        topic: &Arc<str>,
        framing: Framing,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Offer {
        if self.is_group_full() {
            return Offer::Full;
        }
        let room = self.limit_bytes.saturating_sub(topic.len() + 1);
        let max_records = self.max_records;
        let Some(batch) = self.find_or_open_batch(seq, topic, framing) else { return Offer::Full };
        if batch.count >= max_records {
            return Offer::Full;
        }
        let before = batch.payload.len();
        batch.payload.push(match (framing, batch.count) {
            // Only readings have columns.
            (Framing::Array | Framing::Columns, 0) => b'[',
            (Framing::Array | Framing::Columns, _) => b',',
            (Framing::Lines, _) => b'\n',
        });
        write(&mut batch.payload);
        // A single record is always taken: the limits of a record are far below those of a message.
        if batch.payload.len() > room && batch.count > 0 {
            batch.payload.truncate(before);
            return Offer::Full;
        }
        batch.last = seq;
        batch.count += 1;
        let grown = batch.payload.len() - before;
        self.taken = (self.taken.0 + 1, self.taken.1 + grown);
        self.through = seq;
        Offer::Taken
    }

    fn is_group_full(&self) -> bool {
        let (records, bytes) = self.taken;
        records >= self.max_group_records || bytes >= MAX_GROUP_BYTES.max(self.limit_bytes)
    }

    /// Passes over the record `seq` as filtered.
    pub fn skip_filtered(&mut self, seq: Seq, topic: &Arc<str>) {
        self.through = seq;
        self.passed_over += 1;
        count_record(&mut self.filtered, topic);
    }

    /// Passes over the record `seq` because of its withheld topic.
    pub fn skip_withheld(&mut self, seq: Seq, topic: &Arc<str>) {
        self.through = seq;
        self.passed_over += 1;
        count_record(&mut self.withheld, topic);
    }

    /// Returns the number of records passed over, filtered and withheld together.
    #[must_use]
    pub fn passed_over(&self) -> u64 {
        self.passed_over
    }

    /// Returns the payload size of the largest open batch and the size limit, both in bytes.
    #[must_use]
    pub fn fill_level(&self) -> (usize, usize) {
        let fullest = self.open.iter().map(OpenBatch::encoded_len).max();
        (fullest.unwrap_or(0), self.limit_bytes)
    }

    /// Returns `true` if no record was taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.iter().all(|batch| batch.count == 0)
    }

    /// Ends the walk. Returns `None` if no record was taken or passed over.
    #[must_use]
    pub fn finish_walk(self) -> Option<BatchGroup> {
        let lane = self.lane;
        let open = self.open.into_iter().filter(|batch| batch.count > 0);
        let batches: Vec<Batch> = open.map(|batch| batch.into_batch(lane)).collect();
        let (through, filtered, withheld) = (self.through, self.filtered, self.withheld);
        (!batches.is_empty() || self.passed_over > 0).then_some(BatchGroup {
            through,
            batches,
            filtered,
            withheld,
        })
    }

    fn find_or_open_batch(
        &mut self,
        seq: Seq,
        topic: &Arc<str>,
        framing: Framing,
    ) -> Option<&mut OpenBatch> {
        let known = self.open.iter().position(|batch| {
            batch.framing == framing && (Arc::ptr_eq(&batch.topic, topic) || batch.topic == *topic)
        });
        if known.is_none() {
            if self.open.len() >= self.max_batches {
                return None;
            }
            let is_only = self.open.is_empty();
            let room = if is_only { self.limit_bytes } else { self.limit_bytes.min(SMALL_BATCH) };
            let payload = match framing {
                Framing::Array | Framing::Lines => Vec::with_capacity(room),
                Framing::Columns => Vec::new(),
            };
            let topic = Arc::clone(topic);
            let (first, last) = (seq, seq);
            let columns = None;
            self.open.push(OpenBatch { topic, framing, payload, columns, first, last, count: 0 });
        }
        match known {
            Some(at) => self.open.get_mut(at),
            None => self.open.last_mut(),
        }
    }
}

/// Counts one record of `topic`. The linear search suffices for few topics.
fn count_record(counts: &mut Vec<(Arc<str>, u64)>, topic: &Arc<str>) {
    let known = counts.iter_mut().rev().find(|(of, _)| Arc::ptr_eq(of, topic) || of == topic);
    match known {
        Some((_, count)) => *count += 1,
        None => counts.push((Arc::clone(topic), 1)),
    }
}

impl OpenBatch {
    fn encoded_len(&self) -> usize {
        match &self.columns {
            Some(columns) => columns.encoded_len(),
            None => self.payload.len(),
        }
    }

    fn into_batch(mut self, lane: Lane) -> Batch {
        let payload = match (&self.columns, self.framing) {
            (Some(columns), _) => columns.to_payload().into(),
            (None, Framing::Lines) => self.payload[1..].into(),
            (None, Framing::Array | Framing::Columns) => {
                self.payload.push(b']');
                self.payload[..].into()
            }
        };
        let (topic, first, last, count) = (self.topic, self.first, self.last, self.count);
        Batch { lane, topic, payload, first, last, count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(gatherer: &mut Gatherer, seq: u64, topic: &str, framing: Framing) -> Offer {
        let text = format!("{{\"n\":{seq}}}");
        gatherer.offer_record(Seq(seq), &topic.into(), framing, |out| {
            out.extend_from_slice(text.as_bytes());
        })
    }

    fn payload(batch: &Batch) -> &str {
        std::str::from_utf8(&batch.payload).unwrap()
    }

    #[test]
    fn records_stand_in_an_array_or_one_a_line() {
        let mut gatherer = Gatherer::new(Lane::Readings, 1_000, 9);
        for seq in 1..=2 {
            offer(&mut gatherer, seq, "array", Framing::Array);
            offer(&mut gatherer, seq + 10, "lines", Framing::Lines);
        }

        let group = gatherer.finish_walk().unwrap();

        assert_eq!(payload(&group.batches[0]), r#"[{"n":1},{"n":2}]"#);
        assert_eq!(payload(&group.batches[1]), "{\"n\":11}\n{\"n\":12}");
        assert_eq!(group.through, Seq(12));
    }

    #[test]
    fn payload_and_topic_together_never_pass_the_limit() {
        for limit in 30..200 {
            let mut gatherer = Gatherer::new(Lane::Readings, limit, 9);
            let mut seq = 1;
            while offer(&mut gatherer, seq, "topic", Framing::Array) == Offer::Taken {
                seq += 1;
            }

            let group = gatherer.finish_walk().unwrap();

            assert!(group.batches[0].payload.len() + "topic".len() <= limit);
            assert_eq!(group.through, Seq(seq - 1));
            assert_eq!(group.batches[0].count, seq - 1);
        }
    }

    #[test]
    fn a_single_record_is_taken_even_if_the_limit_is_absurd() {
        let mut gatherer = Gatherer::new(Lane::Alerts, 1, 9);

        assert_eq!(offer(&mut gatherer, 1, "topic", Framing::Array), Offer::Taken);
        assert_eq!(offer(&mut gatherer, 2, "topic", Framing::Array), Offer::Full);
        assert_eq!(gatherer.finish_walk().unwrap().batches[0].count, 1);
    }

    #[test]
    fn a_group_ends_before_it_has_more_batches_than_there_is_room_for() {
        let mut gatherer = Gatherer::new(Lane::Readings, 1_000, 2);
        offer(&mut gatherer, 1, "a", Framing::Array);
        offer(&mut gatherer, 2, "b", Framing::Array);

        assert_eq!(offer(&mut gatherer, 3, "a", Framing::Array), Offer::Taken);
        assert_eq!(offer(&mut gatherer, 4, "c", Framing::Array), Offer::Full);

        assert_eq!(gatherer.finish_walk().unwrap().through, Seq(3));
    }

    #[test]
    fn what_is_filtered_or_withheld_is_passed_over_and_counted_even_alone() {
        let mut gatherer = Gatherer::new(Lane::Readings, 1_000, 9);
        gatherer.skip_filtered(Seq(1), &"a".into());
        offer(&mut gatherer, 2, "a", Framing::Array);
        gatherer.skip_filtered(Seq(3), &"a".into());
        gatherer.skip_withheld(Seq(4), &"b".into());
        let group = gatherer.finish_walk().unwrap();

        assert_eq!((group.through, group.batches[0].count), (Seq(4), 1));
        assert_eq!(group.filtered, [("a".into(), 2)]);
        assert_eq!(group.withheld, [("b".into(), 1)]);

        let mut gatherer = Gatherer::new(Lane::Readings, 1_000, 9);
        gatherer.skip_filtered(Seq(4), &"a".into());
        let group = gatherer.finish_walk().unwrap();

        assert_eq!((group.through, group.batches.len()), (Seq(4), 0));
    }

    #[test]
    fn a_message_has_no_more_records_than_it_may() {
        let mut gatherer = Gatherer::new(Lane::Readings, 1_000, 9).max_records(2);
        for seq in 1..=2 {
            assert_eq!(offer(&mut gatherer, seq, "a", Framing::Array), Offer::Taken);
        }

        assert_eq!(offer(&mut gatherer, 3, "a", Framing::Array), Offer::Full);
        assert_eq!(gatherer.finish_walk().unwrap().through, Seq(2));
    }

    #[test]
    fn nothing_gathered_is_no_group() {
        assert_eq!(Gatherer::new(Lane::Events, 100, 9).finish_walk(), None);
    }
}
