//! Lanes: the priority classes of records, and the account of each lane.

use crate::record::reading::Seq;

/// The three lanes, in the order of publication (P6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Alerts raised or cleared by rules.
    Alerts,
    /// Events of the device: gaps, lost sources, visits.
    Events,
    /// Measured values.
    Readings,
}

impl Lane {
    /// All lanes, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Alerts, Self::Events, Self::Readings];

    /// Returns the word for this lane in records, topics and the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alerts => "alerts",
            Self::Events => "events",
            Self::Readings => "readings",
        }
    }

    /// Returns the index in [`Lane::ALL`], also the key of the lane in the store.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Alerts => 0,
            Self::Events => 1,
            Self::Readings => 2,
        }
    }
}

/// The account of one lane. P3: `recorded == delivered + pending + dropped + filtered`, at all times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordAccount {
    /// Records ever committed to the store.
    pub recorded: u64,
    /// Records acknowledged by the broker.
    pub delivered: u64,
    /// Records still to be acknowledged.
    pub pending: u64,
    /// Records given up, each covered by a row of the gap ledger.
    pub dropped: u64,
    /// Records held back by the filters of the configuration.
    pub filtered: u64,
}

impl RecordAccount {
    /// Returns `true` if the other four numbers add up to `recorded`.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.recorded == self.delivered + self.pending + self.dropped + self.filtered
    }
}

/// Reason to give up records instead of delivering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DropReason {
    /// The store reached its size limit in bytes, and the oldest records were deleted.
    Cap,
    /// The records were older than the configured time to live.
    Ttl,
    /// The broker hangs up on this record alone, but accepts other records of the topic.
    Quarantine {
        /// Topic of the record.
        topic: Box<str>,
    },
    /// The records were in a damaged, unreadable part of the store.
    Corruption,
    /// The disk refused writes for so long that memory ran out as well.
    DiskFull,
    /// The records belong to another thing name, and the configuration gives up the old records.
    OtherThing,
}

impl DropReason {
    /// Returns the word for this reason in the ledger and in records.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Cap => "cap",
            Self::Ttl => "ttl",
            Self::Quarantine { .. } => "quarantine",
            Self::Corruption => "corruption",
            Self::DiskFull => "disk_full",
            Self::OtherThing => "other_thing",
        }
    }
}

/// A range of one lane that will never be delivered: a row of the gap ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Lane of the missing records.
    pub lane: Lane,
    /// The first missing record.
    pub first: Seq,
    /// The last missing record.
    pub last: Seq,
    /// Number of records of this lane from `first` to `last`, both included.
    pub count: u64,
    /// Reason for the gap.
    pub reason: DropReason,
}
