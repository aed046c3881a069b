//! The groups of batches in hand, in the order of the store: the watermark moves over settled
//! groups.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::record::lane::Gap;
use crate::record::reading::Seq;

/// The groups of a lane or of a withheld topic.
#[derive(Debug)]
pub(super) struct Queue {
    sheaves: VecDeque<OpenSheaf>,
    /// The end of the last settled group; at first, the watermark.
    pub(super) settled_through: Seq,
    /// The number of messages in the last group, as an estimate for the next group.
    pub(super) usual: usize,
}

/// A group of batches with `open` unsettled messages.
#[derive(Debug)]
pub(super) struct OpenSheaf {
    pub(super) through: Seq,
    pub(super) messages: usize,
    pub(super) open: usize,
    /// The number of delivered records, by topic.
    pub(super) delivered: Vec<(Arc<str>, u64)>,
    pub(super) filtered: Vec<(Arc<str>, u64)>,
    pub(super) gaps: Vec<Gap>,
    /// The sources of the records, for a group of a withheld topic.
    pub(super) sources: Vec<u32>,
}

/// The sum of settled groups.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub(super) through: Seq,
    pub(super) messages: usize,
    pub(super) delivered: u64,
    pub(super) filtered: u64,
    pub(super) gaps: Vec<Gap>,
    pub(super) sources: Vec<u32>,
}

impl Queue {
    pub(super) fn new(settled_through: Seq) -> Self {
        Self { sheaves: VecDeque::new(), settled_through, usual: 1 }
    }

    pub(super) fn push(&mut self, sheaf: OpenSheaf) {
        self.usual = sheaf.messages;
        self.sheaves.push_back(sheaf);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sheaves.is_empty()
    }

    /// Returns the number of messages in all groups, settled and unsettled.
    pub(super) fn messages(&self) -> usize {
        self.sheaves.iter().map(|sheaf| sheaf.messages).sum()
    }

    /// Settles one message of the group ending at `through`, and returns the group.
    pub(super) fn settle(&mut self, through: Seq) -> &mut OpenSheaf {
        let at = self.sheaves.partition_point(|sheaf| sheaf.through < through);
        let sheaf = &mut self.sheaves[at];
        sheaf.open -= 1;
        sheaf
    }

    /// Removes the counts of `topic` from every group.
    pub(super) fn forget(&mut self, topic: &str) {
        for sheaf in &mut self.sheaves {
            sheaf.delivered.retain(|(of, _)| **of != *topic);
            sheaf.filtered.retain(|(of, _)| **of != *topic);
        }
    }

    /// Removes the settled groups at the front, and returns their sum.
    pub(super) fn take_settled(&mut self) -> Option<Settled> {
        let mut settled: Option<Settled> = None;
        while self.sheaves.front().is_some_and(|sheaf| sheaf.open == 0) {
            let Some(sheaf) = self.sheaves.pop_front() else { break };
            let sum = settled.get_or_insert_default();
            let count = |of: &[(Arc<str>, u64)]| of.iter().map(|(_, count)| count).sum::<u64>();
            sum.through = sheaf.through;
            sum.messages += sheaf.messages;
            sum.delivered += count(&sheaf.delivered);
            sum.filtered += count(&sheaf.filtered);
            sheaf.gaps.into_iter().for_each(|gap| join(&mut sum.gaps, gap));
            sum.sources.extend(sheaf.sources);
            self.settled_through = sheaf.through;
        }
        settled
    }
}

/// Adds `count` to the count of `topic`.
pub(super) fn add(counts: &mut Vec<(Arc<str>, u64)>, topic: &Arc<str>, count: u64) {
    match counts.iter_mut().find(|(of, _)| Arc::ptr_eq(of, topic) || *of == *topic) {
        Some((_, sum)) => *sum += count,
        None => counts.push((Arc::clone(topic), count)),
    }
}

/// Appends a gap. Consecutive quarantined messages of one topic make a single gap.
fn join(gaps: &mut Vec<Gap>, gap: Gap) {
    match gaps.last_mut() {
        Some(last) if last.reason == gap.reason => {
            last.last = gap.last;
            last.count += gap.count;
        }
        _ => gaps.push(gap),
    }
}
