//! Delivery: what is on its way to the cloud, and what has arrived.
//!
//! Records leave the store in sheaves and come back as marks: a mark moves the watermark of a lane,
//! and only over records that were acknowledged or given up with a gap (P2, P3). Everything in
//! hand, the unacknowledged and the acknowledged that is not yet marked durably, is bounded by the
//! window: that is what a crash can send twice (P4).
//!
//! After a lost link every unacknowledged message goes out again, byte for byte. A message after
//! which the peer hangs up twice, while nothing else was on its way, is quarantined (P5).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::batch::{Batch, Sheaf};
use crate::lane::{DropReason, Gap, Lane};
use crate::reading::Seq;
use crate::time::Mono;

/// A peer that hangs up later than this after a publish hung up for another reason.
const SUSPECT_WITHIN: Duration = Duration::from_secs(10);
/// P5: "a message after which the link dies twice".
const DEATHS_TO_QUARANTINE: u8 = 2;
/// The share of the window that readings leave free, so that an alert never waits for them.
const RESERVED_SHARE: usize = 4;

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
}

#[derive(Debug, Default)]
struct LaneProgress {
    committed: Seq,
    taken: Seq,
    sheaves: VecDeque<OpenSheaf>,
}

#[derive(Debug)]
struct OpenSheaf {
    through: Seq,
    messages: usize,
    open: usize,
    delivered: u64,
    gaps: Vec<Gap>,
}

#[derive(Debug)]
struct Message {
    batch: Batch,
    sheaf_through: Seq,
    sent: Option<Mono>,
    suspect: bool,
    solo_deaths: u8,
}

impl Delivery {
    /// Begins where the store's watermarks stand.
    #[must_use]
    pub fn new(window: usize, watermarks: [Seq; 3]) -> Self {
        let lanes = watermarks.map(|watermark| LaneProgress {
            committed: watermark,
            taken: watermark,
            sheaves: VecDeque::new(),
        });
        let messages = BTreeMap::new();
        Self { window: window.max(1), lanes, messages, next: 0, settled: 0, marking: 0 }
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

    /// Whether a message of `lane` may be taken in hand.
    #[must_use]
    pub fn has_room(&self, lane: Lane) -> bool {
        let reserved = match lane {
            Lane::Alerts => 0,
            Lane::Events | Lane::Readings => self.window.div_ceil(RESERVED_SHARE),
        };
        self.in_hand() < self.window.saturating_sub(reserved).max(1)
    }

    /// Takes a sheaf in hand.
    pub fn add(&mut self, lane: Lane, sheaf: Sheaf) {
        let progress = &mut self.lanes[lane.index()];
        progress.taken = progress.taken.max(sheaf.through);
        progress.sheaves.push_back(OpenSheaf {
            through: sheaf.through,
            messages: sheaf.batches.len(),
            open: sheaf.batches.len(),
            delivered: 0,
            gaps: Vec::new(),
        });
        for batch in sheaf.batches {
            let message = Message {
                batch,
                sheaf_through: sheaf.through,
                sent: None,
                suspect: false,
                solo_deaths: 0,
            };
            self.messages.insert(MessageId(self.next), message);
            self.next += 1;
        }
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
            .min_by_key(|(id, message)| (message.solo_deaths, message.batch.lane, **id))
            .map(|(id, message)| (*id, &message.batch))
    }

    /// A message was handed to the link.
    pub fn sent(&mut self, id: MessageId, now: Mono) {
        if let Some(message) = self.messages.get_mut(&id) {
            message.sent = Some(now);
        }
    }

    /// The broker acknowledged a message.
    pub fn acknowledged(&mut self, id: MessageId) {
        if let Some(message) = self.messages.remove(&id) {
            let sheaf = self.settle(&message);
            sheaf.delivered += message.batch.count;
        }
    }

    /// The link is gone. Returns the message that was quarantined for it, if one was.
    pub fn link_lost(&mut self, death: Death, now: Mono) -> Option<Gap> {
        let in_flight: Vec<MessageId> =
            self.messages.iter().filter(|(_, m)| m.sent.is_some()).map(|(id, _)| *id).collect();
        let alone = in_flight.len() == 1;
        let mut condemned = None;
        for id in in_flight {
            let Some(message) = self.messages.get_mut(&id) else { continue };
            let sent = message.sent.take();
            if death == Death::Otherwise {
                continue;
            }
            message.suspect = true;
            if alone && sent.is_some_and(|sent| now.since(sent) <= SUSPECT_WITHIN) {
                message.solo_deaths += 1;
                if message.solo_deaths >= DEATHS_TO_QUARANTINE {
                    condemned = Some(id);
                }
            }
        }
        condemned.and_then(|id| self.quarantine(id))
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
                    gaps: Vec::new(),
                });
                mark.through = sheaf.through;
                mark.delivered += sheaf.delivered;
                mark.gaps.extend(sheaf.gaps);
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
        self.settled * 2 >= self.window
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

#[cfg(test)]
mod tests;
