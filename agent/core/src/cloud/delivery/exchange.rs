//! What delivery exchanges with the shell: what to take, what to send, what to mark.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::record::lane::{Gap, Lane};
use crate::record::reading::Seq;
use crate::time::Mono;

/// Tells the messages in hand apart; rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub(super) u64);

/// How a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// The peer closed it: perhaps because of what it was sent.
    ByPeer,
    /// A timeout, the network, ourselves.
    Otherwise,
}

/// A lane's watermark moves: everything up to `through` is settled or withheld.
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

/// A change of what is withheld, to be durable no later than the marks that are taken with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicMark {
    /// The records of `topic` behind `after` leave the lane: each of its sources gets a watermark
    /// of its own.
    Withhold {
        /// Of which lane.
        lane: Lane,
        /// Where they go.
        topic: Arc<str>,
        /// The last place before them.
        after: Seq,
    },
    /// The watermarks of some withheld sources move.
    Settle {
        /// Of which lane.
        lane: Lane,
        /// Numbers of the sources.
        sources: Vec<u32>,
        /// Where to.
        through: Seq,
        /// Records acknowledged since the mark before.
        delivered: u64,
        /// Records passed over by choice since then.
        filtered: u64,
        /// Messages that were quarantined since then.
        gaps: Vec<Gap>,
    },
    /// The sources of `topic` have caught up with the lane, and rejoin it.
    Release {
        /// Of which lane.
        lane: Lane,
        /// Where they go.
        topic: Arc<str>,
    },
}

/// A sheaf that should be taken now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Of which lane.
    pub lane: Lane,
    /// From which part of it.
    pub part: Part,
    /// How many messages at most.
    pub room: usize,
    /// How many records a message at most.
    pub records: usize,
    /// How many bytes of payload and topic at most.
    pub bytes: usize,
}

/// A part of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The lane behind `after`, without the topics that are withheld.
    Lane {
        /// The record it was taken to.
        after: Seq,
        /// The topics that are withheld.
        withheld: Arc<BTreeSet<Arc<str>>>,
    },
    /// The records of one withheld topic.
    Topic {
        /// Which.
        topic: Arc<str>,
        /// Whether to begin with the first record that is not settled, or behind the last taken.
        anew: bool,
        /// The record that the lane was taken to.
        through: Seq,
    },
}

/// A topic that the broker refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which.
    pub topic: Arc<str>,
    /// Since when.
    pub since: Mono,
    /// When it is tried next.
    pub next_trial: Mono,
    /// Records that wait, as far as was counted since the start, or since the store was exchanged.
    pub records: u64,
}
