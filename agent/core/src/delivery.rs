//! Delivery: what is on its way to the cloud, and what has arrived.
//!
//! Records leave the store in sheaves and come back as marks: a mark moves the watermark of a lane,
//! and only over records that were acknowledged or given up with a gap (P2, P3). Everything in
//! hand, the unacknowledged and the acknowledged that is not yet marked durably, is bounded by the
//! window: that is what a crash can send twice (P4).
//!
//! After a lost link every unacknowledged message goes out again, byte for byte. A message after
//! which the peer hangs up twice, while nothing else was on its way, is quarantined (P5): the second
//! time as the first on its connection, and only if others passed. So neither a peer that hangs up
//! on everything nor one that hangs up every now and then condemns what is innocent.

mod doubt;
mod topics;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::batch::{Batch, Sheaf};
use crate::lane::{DropReason, Gap, Lane};
use crate::reading::Seq;
use crate::time::Mono;
pub use doubt::Doubt;
use topics::Topics;

/// A peer that hangs up later than this after a publish hung up for another reason.
const SUSPECT_WITHIN: Duration = Duration::from_secs(10);
/// The share of the window that readings leave free, so that an alert never waits for them.
const RESERVED_SHARE: usize = 4;

/// How many messages of a window a lane may use.
#[must_use]
pub fn share(window: usize, lane: Lane) -> usize {
    let reserved = match lane {
        Lane::Alerts => 0,
        Lane::Events | Lane::Readings => window.div_ceil(RESERVED_SHARE),
    };
    window.saturating_sub(reserved).max(1)
}

/// Tells the messages in hand apart; rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u64);

/// How a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// The peer closed it: perhaps because of what it was sent.
    ByPeer,
    /// A timeout, the network, ourselves.
    Otherwise,
}

/// A lane's watermark moves: everything up to `through` is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Whose watermark.
    pub lane: Lane,
    /// Where to.
    pub through: Seq,
    /// Records acknowledged since the mark before.
    pub delivered: u64,
    /// Records passed over by choice since then.
    pub filtered: u64,
    /// Messages that were quarantined since then.
    pub gaps: Vec<Gap>,
}

/// Everything in hand.
#[derive(Debug)]
pub struct Delivery {
    window: usize,
    lanes: [LaneProgress; 3],
    messages: BTreeMap<MessageId, Message>,
    next: u64,
    /// Messages that are settled in marks not yet taken, and in marks taken but not yet durable.
    settled: usize,
    marking: usize,
    topics: Topics,
    here: Connection,
}

/// What this connection has seen so far.
#[derive(Debug, Default)]
struct Connection {
    /// Something other than a first attempt at an alert was sent.
    used: bool,
    acknowledged: bool,
}

#[derive(Debug, Default)]
struct LaneProgress {
    committed: Seq,
    taken: Seq,
    /// Messages in the last sheaf: the next will hardly have fewer.
    usual: usize,
    sheaves: VecDeque<OpenSheaf>,
}

#[derive(Debug)]
struct OpenSheaf {
    through: Seq,
    messages: usize,
    open: usize,
    delivered: u64,
    filtered: u64,
    gaps: Vec<Gap>,
}

#[derive(Debug)]
struct Message {
    batch: Batch,
    sheaf_through: Seq,
    sent: Option<Mono>,
    /// It was on its way when the peer hung up.
    suspect: bool,
    /// It was alone on its way when the peer hung up.
    died_alone: bool,
    /// Others were acknowledged on that connection, or since.
    others_passed: bool,
    on_trial: bool,
}

/// When a message goes. The order is that of the declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// Alerts first.
    Alert,
    /// Alone and on a fresh connection: it is acknowledged, or condemned.
    Trial,
    Ordinary,
    /// It killed a connection by itself: not before everything else is through.
    Last,
}

impl Delivery {
    /// Begins where the store's watermarks stand.
    #[must_use]
    pub fn new(window: usize, watermarks: [Seq; 3]) -> Self {
        let lanes = watermarks.map(|watermark| LaneProgress {
            committed: watermark,
            taken: watermark,
            usual: 1,
            sheaves: VecDeque::new(),
        });
        let messages = BTreeMap::new();
        Self {
            window: window.max(1),
            lanes,
            messages,
            next: 0,
            settled: 0,
            marking: 0,
            topics: Topics::default(),
            here: Connection::default(),
        }
    }

    /// Takes the last record that is committed in each lane.
    pub fn committed(&mut self, last: [Seq; 3]) {
        for (lane, last) in self.lanes.iter_mut().zip(last) {
            lane.committed = lane.committed.max(last);
        }
    }

    /// Changes the window; what is in hand stays in hand.
    pub fn set_window(&mut self, window: usize) {
        self.window = window.max(1);
    }

    /// The lanes that should be asked for a sheaf now, each with the record it was taken to: the
    /// most urgent first.
    pub fn wanted(&self) -> impl Iterator<Item = (Lane, Seq)> {
        Lane::ALL.into_iter().filter_map(|lane| {
            let progress = &self.lanes[lane.index()];
            let wants = progress.committed > progress.taken && self.has_room(lane);
            wants.then_some((lane, progress.taken))
        })
    }

    /// Whether a sheaf of `lane` may be taken in hand: the window has room for one as large as the
    /// last, so that a sheaf is not cut short by what room is left.
    #[must_use]
    pub fn has_room(&self, lane: Lane) -> bool {
        let usual = self.lanes[lane.index()].usual;
        self.room(lane) >= usual.clamp(1, self.share(lane))
    }

    /// How many messages of `lane` may be taken in hand.
    #[must_use]
    pub fn room(&self, lane: Lane) -> usize {
        self.share(lane).saturating_sub(self.in_hand())
    }

    fn share(&self, lane: Lane) -> usize {
        share(self.window, lane)
    }

    /// Takes a sheaf in hand. Returns what of it was quarantined at once: its topic is at rest.
    pub fn add(&mut self, lane: Lane, sheaf: Sheaf, now: Mono) -> Vec<Gap> {
        let progress = &mut self.lanes[lane.index()];
        progress.taken = progress.taken.max(sheaf.through);
        progress.usual = sheaf.batches.len();
        progress.sheaves.push_back(OpenSheaf {
            through: sheaf.through,
            messages: sheaf.batches.len(),
            open: sheaf.batches.len(),
            delivered: 0,
            filtered: sheaf.filtered,
            gaps: Vec::new(),
        });
        let first = MessageId(self.next);
        for batch in sheaf.batches {
            let message = Message {
                suspect: self.topics.is_suspect(&batch.topic),
                batch,
                sheaf_through: sheaf.through,
                sent: None,
                died_alone: false,
                others_passed: false,
                on_trial: false,
            };
            self.messages.insert(MessageId(self.next), message);
            self.next += 1;
        }
        self.quarantine_where(|delivery, id, message| {
            id >= first && delivery.topics.is_at_rest(&message.batch.topic, now)
        })
    }

    /// There is nothing to take in a lane: what was committed there has been given up since.
    pub fn exhausted(&mut self, lane: Lane) {
        let progress = &mut self.lanes[lane.index()];
        progress.taken = progress.committed;
    }

    /// The message to publish next, if one may be: alerts before events before readings, older
    /// before newer; one at a time while it is not known which of them the peer hangs up on.
    #[must_use]
    pub fn next(&self) -> Option<(MessageId, &Batch)> {
        let probation = self.messages.values().any(|message| message.suspect);
        if probation && self.messages.values().any(|message| message.sent.is_some()) {
            return None;
        }
        self.messages
            .iter()
            .filter(|(_, message)| message.sent.is_none())
            .min_by_key(|(id, message)| (self.turn(message), message.batch.lane, **id))
            .map(|(id, message)| (*id, &message.batch))
    }

    fn turn(&self, message: &Message) -> Turn {
        match (message.died_alone, message.batch.lane) {
            (true, _) if message.others_passed && !self.here.used => Turn::Trial,
            (true, _) => Turn::Last,
            (false, Lane::Alerts) => Turn::Alert,
            (false, Lane::Events | Lane::Readings) => Turn::Ordinary,
        }
    }

    /// A message was handed to the link.
    pub fn sent(&mut self, id: MessageId, now: Mono) {
        let turn = self.messages.get(&id).map(|message| self.turn(message));
        if let (Some(message), Some(turn)) = (self.messages.get_mut(&id), turn) {
            message.sent = Some(now);
            message.on_trial = turn == Turn::Trial;
            self.here.used |= turn != Turn::Alert;
        }
    }

    /// The broker acknowledged a message.
    pub fn acknowledged(&mut self, id: MessageId) {
        let Some(message) = self.messages.remove(&id) else { return };
        self.here.acknowledged = true;
        self.topics.passed(&message.batch.topic);
        for other in self.messages.values_mut() {
            other.others_passed |= other.died_alone;
        }
        let sheaf = self.settle(&message);
        sheaf.delivered += message.batch.count;
    }

    /// The link is gone. Returns what was quarantined for it.
    pub fn link_lost(&mut self, death: Death, now: Mono) -> Vec<Gap> {
        let here = std::mem::take(&mut self.here);
        let alone = self.in_flight() == 1;
        let mut condemned = None;
        for (id, message) in &mut self.messages {
            let Some(sent) = message.sent.take() else { continue };
            if death == Death::Otherwise {
                continue;
            }
            message.suspect = true;
            if alone && now.since(sent) <= SUSPECT_WITHIN {
                if message.on_trial {
                    condemned = Some(*id);
                }
                message.died_alone = true;
                message.others_passed |= here.acknowledged;
            }
        }
        let Some(condemned) = condemned else { return Vec::new() };
        if let Some(message) = self.messages.get(&condemned) {
            self.topics.condemned(&message.batch.topic, now);
        }
        self.quarantine_where(|delivery, id, message| {
            id == condemned || delivery.topics.is_at_rest(&message.batch.topic, now)
        })
    }

    /// What is settled and should be made durable. Give [`Delivery::marked`] back when it is.
    #[must_use]
    pub fn take_marks(&mut self) -> Vec<Mark> {
        let mut marks = Vec::new();
        for lane in Lane::ALL {
            let sheaves = &mut self.lanes[lane.index()].sheaves;
            let mut mark: Option<Mark> = None;
            while sheaves.front().is_some_and(|sheaf| sheaf.open == 0) {
                let Some(sheaf) = sheaves.pop_front() else { break };
                let mark = mark.get_or_insert_with(|| Mark {
                    lane,
                    through: sheaf.through,
                    delivered: 0,
                    filtered: 0,
                    gaps: Vec::new(),
                });
                mark.through = sheaf.through;
                mark.delivered += sheaf.delivered;
                mark.filtered += sheaf.filtered;
                sheaf.gaps.into_iter().for_each(|gap| join(&mut mark.gaps, gap));
                self.settled -= sheaf.messages;
                self.marking += sheaf.messages;
            }
            marks.extend(mark);
        }
        marks
    }

    /// All marks that were taken are durable.
    pub fn marked(&mut self) {
        self.marking = 0;
    }

    /// Whether the marks should be made durable now rather than with the next commit: more than
    /// half of the window waits for it.
    #[must_use]
    pub fn marks_are_urgent(&self) -> bool {
        (self.settled + self.marking) * 2 >= self.window
    }

    /// Whether marks wait to be taken or to be durable.
    #[must_use]
    pub fn has_unmarked(&self) -> bool {
        self.settled + self.marking > 0
    }

    /// When the oldest message that is still on its way was handed to the link.
    #[must_use]
    pub fn oldest_sent(&self) -> Option<Mono> {
        self.messages.values().filter_map(|message| message.sent).min()
    }

    /// How many messages are on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.messages.values().filter(|message| message.sent.is_some()).count()
    }

    /// How many messages would be sent again after a crash.
    #[must_use]
    pub fn in_hand(&self) -> usize {
        self.messages.len() + self.settled + self.marking
    }

    /// Quarantines the messages that are not on their way and meet the condition.
    fn quarantine_where(
        &mut self,
        is_condemned: impl Fn(&Self, MessageId, &Message) -> bool,
    ) -> Vec<Gap> {
        let condemned: Vec<MessageId> = self
            .messages
            .iter()
            .filter(|(id, message)| message.sent.is_none() && is_condemned(self, **id, message))
            .map(|(id, _)| *id)
            .collect();
        condemned.into_iter().filter_map(|id| self.quarantine(id)).collect()
    }

    fn quarantine(&mut self, id: MessageId) -> Option<Gap> {
        let message = self.messages.remove(&id)?;
        let gap = Gap {
            lane: message.batch.lane,
            first: message.batch.first,
            last: message.batch.last,
            count: message.batch.count,
            reason: DropReason::Quarantine { topic: (*message.batch.topic).into() },
        };
        self.settle(&message).gaps.push(gap.clone());
        Some(gap)
    }

    fn settle(&mut self, message: &Message) -> &mut OpenSheaf {
        self.settled += 1;
        let sheaves = &mut self.lanes[message.batch.lane.index()].sheaves;
        let at = sheaves.partition_point(|sheaf| sheaf.through < message.sheaf_through);
        let sheaf = &mut sheaves[at];
        sheaf.open -= 1;
        sheaf
    }
}

/// Messages of one topic that are quarantined one after the other make one gap.
fn join(gaps: &mut Vec<Gap>, gap: Gap) {
    match gaps.last_mut() {
        Some(last) if last.reason == gap.reason => {
            last.last = gap.last;
            last.count += gap.count;
        }
        _ => gaps.push(gap),
    }
}

#[cfg(test)]
mod tests;
