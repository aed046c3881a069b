//! Lanes: what is published first, and the account that is kept of each.

use crate::record::reading::Seq;

/// The three lanes, in the order in which they are published (P6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// What a rule raised or cleared.
    Alerts,
    /// What happened to the device: gaps, lost sources, visits.
    Events,
    /// What was measured.
    Readings,
}

impl Lane {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Alerts, Self::Events, Self::Readings];

    /// The word for this lane in records, topics and the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alerts => "alerts",
            Self::Events => "events",
            Self::Readings => "readings",
        }
    }

    /// Its place in [`Lane::ALL`], which is also its key in the store.
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
pub struct Account {
    /// Committed to the store, ever.
    pub recorded: u64,
    /// Acknowledged by the broker.
    pub delivered: u64,
    /// Still to be acknowledged.
    pub pending: u64,
    /// Given up, each with a row in the gap ledger.
    pub dropped: u64,
    /// Not published by choice: the configuration's filters.
    pub filtered: u64,
}

impl Account {
    /// Whether nothing is missing from the account.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.recorded == self.delivered + self.pending + self.dropped + self.filtered
    }
}

/// Why records were given up instead of delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DropReason {
    /// The store reached its byte cap; the oldest went.
    Cap,
    /// Older than the configured time to live.
    Ttl,
    /// The broker hangs up on this record by itself, while others of its topic pass.
    Quarantine {
        /// The topic it was published to.
        topic: Box<str>,
    },
    /// The store was damaged and this part could not be read.
    Corruption,
    /// The disk refused writes for so long that memory ran out as well.
    DiskFull,
    /// Recorded under the name of another thing, which the configuration gives up.
    OtherThing,
}

impl DropReason {
    /// The word for this reason in the ledger and in records.
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
    /// The lane that has the hole.
    pub lane: Lane,
    /// The first record that is missing.
    pub first: Seq,
    /// The last one.
    pub last: Seq,
    /// How many records of this lane lie in between, both included.
    pub count: u64,
    /// Why.
    pub reason: DropReason,
}
