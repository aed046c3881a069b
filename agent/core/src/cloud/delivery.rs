//! Delivery: the messages sent to the cloud, from the store to the acknowledgement.
//!
//! Records leave the store in groups of batches, and delivery answers with marks. A mark moves the
//! watermark of a lane over records acknowledged, given up with a gap, or withheld, and over no
//! others (P2, P3). A crash repeats the messages sent and not acknowledged, and the acknowledged
//! messages whose mark is not yet durable. The limits of sending (module `load`) bound their number
//! and the number of their records (P4), and the bytes on their way (P6).
//!
//! After a lost link, every unacknowledged message is sent again, byte for byte. The end of each
//! connection is evidence about the topics of the messages in flight (module `topics`). A topic
//! goes on trial (module `trial`) after three connections in a row ended by the peer with messages
//! of the topic in flight and no acknowledgement that counts, or after five connections ended by
//! the peer with one and the same message in flight, even if other messages of the topic pass. The
//! records of a topic on trial leave the lane, stay pending in the store, and are tried one message
//! at a time; all other topics go on (P5). A connection that acknowledges messages of a topic before
//! the end is no evidence against the topic, so a network path that resets connections condemns no
//! topic.

mod choice;
mod doubt;
mod ending;
mod exchange;
mod load;
mod marking;
mod queue;
mod requests;
mod risk;
mod spacing;
mod topics;
mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::cloud::batch::{Batch, BatchGroup, MAX_MESSAGE_BYTES};
use crate::cloud::rate::{LinkRate, SendStamp};
use crate::record::lane::{DropReason, Gap, Lane};
use crate::record::reading::Seq;
use crate::time::Mono;
pub use doubt::Doubt;
pub use exchange::{LanePart, LinkEnd, Mark, MessageId, RefusedTopic, TakeRequest, TopicMark};
pub use load::{DeliveryLimits, REPEAT};
use queue::{OpenGroup, Queue};
use risk::{LaneRisks, Risk};
use spacing::Spacing;
use topics::Topics;
pub use topics::{ANSWER_STANDS, SUSPECT_WITHIN};
use trial::{Trial, TrialVerdict, Tried};

/// The number of connections ended by the peer with the same message in flight, from which the
/// topic goes on trial even if other messages of the topic pass.
const MAX_DEATHS: u32 = 5;
/// The time for which a limit of the message size holds before a larger message is tried; doubles
/// with each new limit.
const LIMIT_HOLDS: Duration = Duration::from_secs(3_600);
/// The longest time for which a limit of the message size holds.
const LIMIT_HOLDS_AT_MOST: Duration = Duration::from_secs(24 * 3_600);

/// The state of delivery: all messages in hand, the progress of each lane, and the topics on trial.
#[derive(Debug)]
pub struct Delivery {
    limits: DeliveryLimits,
    rate: LinkRate,
    lanes: [LaneProgress; 3],
    messages: BTreeMap<MessageId, Message>,
    next: u64,
    last_order: u64,
    /// The settled messages: `settled` in marks not yet taken, `marking` in marks taken but not yet
    /// durable.
    settled: LaneRisks,
    marking: LaneRisks,
    topics: Topics,
    spacing: Spacing,
    on_trial: BTreeSet<(Lane, Arc<str>)>,
    withheld: [Arc<BTreeSet<Arc<str>>>; 3],
    /// The number of topics in doubt but not on trial. All of them together send one message at a
    /// time.
    doubted: usize,
    /// Newly withheld topics, not yet known to the store.
    to_withhold: Vec<TopicMark>,
    limit: Option<SizeLimit>,
    limit_holds: Duration,
}

/// The learnt limit of the message size: the broker hung up on larger messages.
#[derive(Debug, Clone, Copy)]
struct SizeLimit {
    bytes: usize,
    lifted_at: Mono,
}

#[derive(Debug)]
struct LaneProgress {
    committed: Seq,
    taken: Seq,
    queue: Queue,
}

impl LaneProgress {
    fn from_watermark(watermark: Seq) -> Self {
        Self { committed: watermark, taken: watermark, queue: Queue::new(watermark) }
    }
}

#[derive(Debug)]
struct Message {
    batch: Batch,
    group_through: Seq,
    /// The topic, if the message was taken from a withheld topic.
    trial: Option<Arc<str>>,
    sent: Option<Mono>,
    /// `true` if the message was sent, on this or an earlier connection.
    was_sent: bool,
    stamp: Option<SendStamp>,
    /// The bytes on their way when the message was sent, its own included.
    bytes_before_answer: u64,
    /// The position in the order of sending; rises with each message handed to the link.
    order: u64,
    /// The time of the acknowledgement, until the acknowledgement counts.
    answered: Option<Mono>,
    /// The number of connections ended by the peer with this message in flight.
    deaths: u32,
}

impl Message {
    fn is_on_its_way(&self) -> bool {
        self.sent.is_some() && self.answered.is_none()
    }

    /// Returns `true` if the message of readings or events was sent, and lost with its connection.
    fn is_lost(&self) -> bool {
        self.was_sent && self.sent.is_none() && self.batch.lane != Lane::Alerts
    }

    /// Returns the bytes of payload and topic.
    fn size_bytes(&self) -> u64 {
        (self.batch.payload.len() + self.batch.topic.len()) as u64
    }

    fn as_risk(&self) -> Risk {
        Risk { messages: 1, records: self.batch.count }
    }
}

impl Delivery {
    /// Creates the delivery of all records after `watermarks`, the watermarks of the store by lane.
    #[must_use]
    pub fn new(limits: DeliveryLimits, watermarks: [Seq; 3]) -> Self {
        Self {
            limits,
            rate: LinkRate::default(),
            lanes: watermarks.map(LaneProgress::from_watermark),
            messages: BTreeMap::new(),
            next: 0,
            last_order: 0,
            settled: LaneRisks::default(),
            marking: LaneRisks::default(),
            topics: Topics::default(),
            spacing: Spacing::default(),
            on_trial: BTreeSet::new(),
            withheld: Default::default(),
            doubted: 0,
            to_withhold: Vec::new(),
            limit: None,
            limit_holds: LIMIT_HOLDS,
        }
    }

    /// Takes the topics withheld in the store: at the start, and after a change of the
    /// configuration, because a source may then have another topic. Messages of withheld topics are
    /// taken again.
    pub fn withheld_in_store(&mut self, withheld: &[(Lane, Arc<str>)], now: Mono) {
        for (lane, topic) in std::mem::take(&mut self.on_trial) {
            let is_marked = self.to_withhold.iter().any(|mark| {
                matches!(mark, TopicMark::Withhold { lane: of, topic: named, .. }
                    if *of == lane && *named == topic)
            });
            if is_marked || withheld.contains(&(lane, Arc::clone(&topic))) {
                self.on_trial.insert((lane, Arc::clone(&topic)));
                self.take_anew(lane, &topic);
            } else {
                self.take_anew(lane, &topic);
                let topic = self.topics.get_mut(lane, &topic);
                (topic.trial, topic.withheld) = (None, 0);
            }
        }
        for (lane, topic) in withheld {
            if !self.on_trial.contains(&(*lane, Arc::clone(topic))) {
                self.put_on_trial(*lane, Arc::clone(topic), Trial::of_refused(now));
            }
        }
        self.count_doubted();
        self.trials_changed();
    }

    /// Drops all messages in hand and restarts each lane after `watermarks`, because the store now
    /// delivers from another place. Acknowledged records without a durable mark may be sent again.
    /// The caller must call [`Delivery::withheld_in_store`] next.
    pub fn begin_pass(&mut self, watermarks: [Seq; 3]) {
        for (lane, topic) in self.on_trial.clone() {
            self.take_anew(lane, &topic);
            // The next walk through the lane counts the withheld records again.
            self.topics.get_mut(lane, &topic).withheld = 0;
        }
        self.messages.clear();
        self.to_withhold.clear();
        (self.settled, self.marking) = (LaneRisks::default(), LaneRisks::default());
        self.lanes = watermarks.map(LaneProgress::from_watermark);
    }

    /// Takes the last committed record of each lane.
    pub fn note_committed(&mut self, last: [Seq; 3]) {
        for (lane, last) in self.lanes.iter_mut().zip(last) {
            lane.committed = lane.committed.max(last);
        }
    }

    /// Changes the limits; messages in hand stay in hand.
    pub fn set_limits(&mut self, limits: DeliveryLimits) {
        self.limits = limits;
    }

    /// Returns `true` if a topic has caught up with `lane` and waits to rejoin. The topic rejoins
    /// after all messages in hand of the topic and of the lane are settled, because the watermark
    /// of the lane must hold for the topic, too.
    #[must_use]
    pub fn is_rejoining(&self, lane: Lane) -> bool {
        let progress = &self.lanes[lane.index()];
        self.on_trial.iter().filter(|(of, _)| *of == lane).any(|(_, topic)| {
            let on = self.topics.get(lane, topic).and_then(|topic| topic.trial.as_ref());
            on.is_some_and(|on| {
                let is_settled = on.queue.is_empty();
                on.caught_up == Some(progress.taken)
                    && (is_settled || on.trial.is_recovered())
                    && !(is_settled && progress.queue.is_empty())
            })
        })
    }

    fn limit_bytes(&self) -> usize {
        self.limit.map_or(usize::MAX, |limit| limit.bytes)
    }

    /// Takes a group of batches of a lane in hand.
    pub fn add_group(&mut self, lane: Lane, group: BatchGroup) {
        let progress = &mut self.lanes[lane.index()];
        progress.taken = progress.taken.max(group.through);
        for (topic, count) in &group.withheld {
            self.topics.get_mut(lane, topic).withheld += count;
        }
        let open = open_group(&group, Vec::new());
        self.lanes[lane.index()].queue.push(open);
        self.take_in(group, None);
    }

    /// Takes a group of batches of a withheld topic in hand, with records of `sources`.
    pub fn add_topic_group(
        &mut self,
        lane: Lane,
        topic: &Arc<str>,
        group: BatchGroup,
        sources: Vec<u32>,
    ) {
        let Some(on) = &mut self.topics.get_mut(lane, topic).trial else { return };
        on.anew = false;
        on.in_hand += group.batches.len();
        on.queue.push(open_group(&group, sources));
        self.take_in(group, Some(topic));
    }

    fn take_in(&mut self, group: BatchGroup, trial: Option<&Arc<str>>) {
        for batch in group.batches {
            let message = Message {
                batch,
                group_through: group.through,
                trial: trial.cloned(),
                sent: None,
                was_sent: false,
                stamp: None,
                bytes_before_answer: 0,
                order: 0,
                answered: None,
                deaths: 0,
            };
            self.messages.insert(MessageId(self.next), message);
            self.next += 1;
        }
    }

    /// Notes that the store had no records for `wanted`: all were given up since, or are in hand.
    pub fn mark_exhausted(&mut self, wanted: &TakeRequest) {
        match &wanted.part {
            LanePart::Lane { .. } => {
                let progress = &mut self.lanes[wanted.lane.index()];
                progress.taken = progress.committed;
            }
            LanePart::Topic { topic, through, .. } => {
                if let Some(on) = &mut self.topics.get_mut(wanted.lane, topic).trial {
                    on.anew = false;
                    on.caught_up = Some(*through);
                    on.trial.note_no_other();
                    if on.in_hand == 0 {
                        on.trial.note_nothing_left();
                    }
                }
            }
        }
    }

    /// Notes a new connection. `round_trip` is the time to the acknowledgement of a small message,
    /// if known.
    pub fn link_up(&mut self, now: Mono, round_trip: Option<Duration>) {
        self.spacing.link_up(now);
        self.rate.begin_connection(now, round_trip);
    }

    /// Notes that a message was handed to the link. Returns `true` if the peer may hang up because
    /// of the message: the message is on trial, or the topic in doubt.
    pub fn mark_sent(&mut self, id: MessageId, now: Mono) -> bool {
        let load = self.measure_load();
        if let Some(message) = self.messages.get_mut(&id) {
            (message.sent, message.was_sent) = (Some(now), true);
            message.stamp = Some(self.rate.note_sent(now, load.in_flight == 0));
            message.bytes_before_answer = load.flight_bytes + message.size_bytes();
            self.last_order += 1;
            message.order = self.last_order;
        }
        (self.doubted > 0 || !self.on_trial.is_empty())
            && self
                .messages
                .get(&id)
                .is_some_and(|message| self.is_lone(message) || self.topic_failures(message) > 0)
    }

    /// Takes the acknowledgement of a message. The first acknowledgement on a topic of a connection
    /// does not count at once: only after another acknowledgement on the topic, after the
    /// acknowledgement of a message sent later, or after [`ANSWER_STANDS`].
    pub fn acknowledge_message(&mut self, id: MessageId, now: Mono) {
        let Some(message) = self.messages.get_mut(&id).filter(|one| one.answered.is_none()) else {
            return;
        };
        message.answered = Some(now);
        if let Some(stamp) = message.stamp.take() {
            self.rate.note_acknowledged(stamp, message.size_bytes(), now);
        }
        let (lane, name) = (message.batch.lane, Arc::clone(&message.batch.topic));
        let order = message.order;
        let topic = self.topics.get_mut(lane, &name);
        topic.answers += 1;
        let is_known = topic.is_known || topic.answers > 1;
        // A broker reads messages in order: after hanging up because of a message, a broker
        // acknowledges no message sent later.
        self.confirm_where(now, |one| {
            one.order < order || (is_known && one.batch.lane == lane && one.batch.topic == name)
        });
    }

    /// Counts the acknowledgements older than [`ANSWER_STANDS`], and doubles the limit of the
    /// message size once the limit has held long enough.
    pub fn handle_timeout(&mut self, now: Mono) {
        self.confirm_where(now, |message| {
            message.answered.is_some_and(|at| now.since(at) >= ANSWER_STANDS)
        });
        if let Some(limit) = &mut self.limit
            && limit.lifted_at <= now
        {
            limit.bytes *= 2;
            limit.lifted_at = now + self.limit_holds;
            self.limit = self.limit.filter(|limit| limit.bytes < MAX_MESSAGE_BYTES);
        }
    }

    /// Returns the time at which [`Delivery::handle_timeout`], or a message on trial, is due next.
    #[must_use]
    pub fn next_due(&self) -> Option<Mono> {
        let answers = self.messages.values().filter_map(|message| message.answered);
        let trials = self.on_trial.iter().filter_map(|(lane, topic)| {
            let on = self.topics.get(*lane, topic)?.trial.as_ref()?;
            (!on.trial.is_recovered()).then_some(on.trial.next().max(self.spacing.next()))
        });
        answers.map(|at| at + ANSWER_STANDS).chain(trials).min()
    }

    fn confirm_where(&mut self, now: Mono, is_meant: impl Fn(&Message) -> bool) {
        let meant = |(id, message): (&MessageId, &Message)| {
            (message.answered.is_some() && is_meant(message)).then_some(*id)
        };
        let ids: Vec<MessageId> = self.messages.iter().filter_map(meant).collect();
        for id in ids {
            if let Some(message) = self.messages.get(&id) {
                let (lane, topic) = (message.batch.lane, Arc::clone(&message.batch.topic));
                self.topics.get_mut(lane, &topic).is_known = true;
            }
            self.confirm_message(id, now);
        }
    }

    /// Counts the records of a message as delivered.
    fn confirm_message(&mut self, id: MessageId, now: Mono) {
        let is_lone = self.messages.get(&id).is_some_and(|message| self.is_lone(message));
        let Some(message) = self.messages.remove(&id) else { return };
        let (lane, count) = (message.batch.lane, message.batch.count);
        let topic = self.topics.get_mut(lane, &message.batch.topic);
        if topic.doubt.has_failures() {
            topic.doubt = Doubt::default();
            self.doubted -= 1;
        }
        let group = self.settle_message(&message);
        queue::add_count(&mut group.delivered, &message.batch.topic, count);
        let Some(named) = message.trial.filter(|_| is_lone) else { return };
        let limit_bytes = self.limit_bytes();
        let Some(on) = &mut self.topics.get_mut(lane, &named).trial else { return };
        if let TrialVerdict::TooLarge(bytes) =
            on.trial.handle_pass(measure_batch(&message.batch), limit_bytes, now)
        {
            let lifted_at = now + self.limit_holds;
            self.limit_holds = (self.limit_holds * 2).min(LIMIT_HOLDS_AT_MOST);
            self.limit = Some(SizeLimit { bytes, lifted_at });
        }
    }

    /// Returns the time by which the next acknowledgement must come, for a broker that answers
    /// within `patience`: the bytes on their way before the acknowledgement take their time on a
    /// slow link.
    #[must_use]
    pub fn answer_due(&self, patience: Duration) -> Option<Mono> {
        let on_their_way = self.messages.values().filter(|message| message.is_on_its_way());
        let due = |message: &Message| {
            let transfer = self.rate.transfer_time(message.bytes_before_answer);
            message.sent.map(|sent| sent + patience + transfer)
        };
        on_their_way.filter_map(due).min()
    }

    /// Returns the number of messages in flight: sent, and not acknowledged.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.messages.values().filter(|message| message.is_on_its_way()).count()
    }

    /// Returns the number of messages sent again after a crash.
    #[must_use]
    pub fn in_hand(&self) -> usize {
        let at_risk = self.measure_load().at_risk;
        at_risk.alerts.messages + at_risk.others.messages
    }

    /// Returns `true` if no message waits to be sent, acknowledged or marked, apart from messages
    /// that wait for a trial: a stop does not wait for trials.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let waits_for_trial = |message: &Message| message.sent.is_none() && self.is_lone(message);
        !self.has_unmarked() && self.messages.values().all(waits_for_trial)
    }

    /// Returns the topics refused by the broker.
    #[must_use]
    pub fn list_refused(&self) -> Vec<RefusedTopic> {
        let refused = |(lane, name): &(Lane, Arc<str>)| {
            let topic = self.topics.get(*lane, name)?;
            let on = topic.trial.as_ref()?;
            on.trial.doubt().is_refused().then(|| RefusedTopic {
                topic: Arc::clone(name),
                since: on.trial.doubt().failing_since(),
                next_trial: on.trial.next().max(self.spacing.next()),
                records: topic.withheld,
            })
        };
        self.on_trial.iter().filter_map(refused).collect()
    }

    /// Returns `true` if the broker took a message of `topic` on this connection.
    #[must_use]
    pub fn is_taken(&self, topic: &str) -> bool {
        let is_known = |lane| self.topics.get(lane, topic).is_some_and(|topic| topic.is_known);
        Lane::ALL.into_iter().any(is_known)
    }

    /// Returns the learnt limit of the message size in bytes, if the broker hung up on larger
    /// messages.
    #[must_use]
    pub fn max_message_bytes(&self) -> Option<usize> {
        self.limit.map(|limit| limit.bytes)
    }

    fn count_doubted(&mut self) {
        self.doubted =
            self.topics.iter().filter(|(_, _, topic)| topic.doubt.has_failures()).count();
    }

    fn trials_changed(&mut self) {
        for lane in Lane::ALL {
            let of_lane = self.on_trial.iter().filter(|(of, _)| *of == lane);
            let withheld: BTreeSet<_> = of_lane.map(|(_, topic)| Arc::clone(topic)).collect();
            if *self.withheld[lane.index()] != withheld {
                self.withheld[lane.index()] = Arc::new(withheld);
            }
        }
    }

    fn quarantine_message(&mut self, id: MessageId) -> Option<Gap> {
        let message = self.messages.remove(&id)?;
        let gap = Gap {
            lane: message.batch.lane,
            first: message.batch.first,
            last: message.batch.last,
            count: message.batch.count,
            reason: DropReason::Quarantine { topic: (*message.batch.topic).into() },
        };
        self.settle_message(&message).gaps.push(gap.clone());
        Some(gap)
    }

    /// Counts a removed message as settled, and returns the group of the message.
    fn settle_message(&mut self, message: &Message) -> &mut OpenGroup {
        let lane = message.batch.lane;
        let risk = if message.was_sent { message.as_risk() } else { Risk::default() };
        *self.settled.of_lane(lane) += risk;
        let queue = match &message.trial {
            Some(topic) => {
                let on = self.topics.get_mut(lane, topic).trial.as_mut();
                let on = on.expect("a message of a trial goes with it");
                on.in_hand -= 1;
                &mut on.queue
            }
            None => &mut self.lanes[lane.index()].queue,
        };
        let group = queue.settle_one(message.group_through);
        group.settled += risk;
        group
    }
}

fn open_group(group: &BatchGroup, sources: Vec<u32>) -> OpenGroup {
    OpenGroup {
        through: group.through,
        whole: Risk {
            messages: group.batches.len(),
            records: group.batches.iter().map(|batch| batch.count).sum(),
        },
        open: group.batches.len(),
        settled: Risk::default(),
        delivered: Vec::new(),
        filtered: group.filtered.clone(),
        gaps: Vec::new(),
        sources,
    }
}

fn measure_batch(batch: &Batch) -> Tried {
    let bytes = batch.payload.len() + batch.topic.len();
    let records = usize::try_from(batch.count).unwrap_or(usize::MAX);
    Tried { first: batch.first, last: batch.last, records, bytes }
}

#[cfg(test)]
mod tests;
