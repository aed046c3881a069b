//! Types exchanged between delivery and the agent: requests for records, messages to send, and
//! watermarks to move.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::record::lane::{Gap, Lane};
use crate::record::reading::Seq;
use crate::time::Mono;

/// Identifies a message in hand; ids increase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub(super) u64);

/// Cause of the end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEnd {
    /// The peer closed the link, possibly because of a message.
    ByPeer,
    /// A timeout, a network failure, or a close by the agent.
    Otherwise,
}

/// A move of a lane's watermark: every record up to `through` is settled or withheld.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Lane of the watermark.
    pub lane: Lane,
    /// New watermark.
    pub through: Seq,
    /// Records acknowledged since the previous mark.
    pub delivered: u64,
    /// Records filtered since the previous mark.
    pub filtered: u64,
    /// Messages quarantined since the previous mark.
    pub gaps: Vec<Gap>,
}

/// A change of the withheld topics, to be made durable no later than the marks of the same take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicMark {
    /// The records of `topic` after `after` leave the lane: each source of the topic gets its own
    /// watermark.
    Withhold {
        /// Lane of the records.
        lane: Lane,
        /// Topic of the records.
        topic: Arc<str>,
        /// Position in the lane before the first withheld record.
        after: Seq,
    },
    /// The watermarks of some withheld sources move.
    Settle {
        /// Lane of the sources.
        lane: Lane,
        /// Numbers of the sources.
        sources: Vec<u32>,
        /// New watermark of the sources.
        through: Seq,
        /// Records acknowledged since the previous mark.
        delivered: u64,
        /// Records filtered since the previous mark.
        filtered: u64,
        /// Messages quarantined since the previous mark.
        gaps: Vec<Gap>,
    },
    /// The sources of `topic` have caught up with the lane and rejoin the lane.
    Release {
        /// Lane to rejoin.
        lane: Lane,
        /// Topic of the records.
        topic: Arc<str>,
    },
}

/// A request to take a group of batches from the store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeRequest {
    /// Lane to take from.
    pub lane: Lane,
    /// Part of the lane to take from.
    pub part: LanePart,
    /// Maximum number of messages.
    pub room: usize,
    /// Maximum number of records a message.
    pub records: usize,
    /// Maximum number of records in all messages together.
    pub group_records: usize,
    /// Maximum size of payload and topic in bytes.
    pub bytes: usize,
}

/// A part of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LanePart {
    /// The records of the lane after `after`, without the withheld topics.
    Lane {
        /// Last record already taken from the lane.
        after: Seq,
        /// Topics to leave out.
        withheld: Arc<BTreeSet<Arc<str>>>,
    },
    /// The records of one withheld topic.
    Topic {
        /// Name of the topic.
        topic: Arc<str>,
        /// `true` begins at the first unsettled record, `false` after the last record taken.
        anew: bool,
        /// Last record already taken from the lane.
        through: Seq,
    },
}

/// A topic that the broker refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedTopic {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Time of the first failure since the last success.
    pub since: Mono,
    /// Time of the next trial.
    pub next_trial: Mono,
    /// Waiting records counted since the start of the agent, or since the store was replaced.
    pub records: u64,
}
