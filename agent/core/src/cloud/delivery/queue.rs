//! The groups of batches in hand, in the order of the store: the watermark moves over settled
//! groups.

use std::collections::VecDeque;
use std::sync::Arc;

use super::risk::Risk;
use crate::record::lane::Gap;
use crate::record::reading::Seq;

/// The groups of a lane or of a withheld topic.
#[derive(Debug)]
pub(super) struct Queue {
    groups: VecDeque<OpenGroup>,
    /// The end of the last settled group; at first, the watermark.
    pub(super) settled_through: Seq,
}

/// A group of batches with `open` unsettled messages.
#[derive(Debug)]
pub(super) struct OpenGroup {
    pub(super) through: Seq,
    /// All messages of the group.
    pub(super) whole: Risk,
    pub(super) open: usize,
    /// The settled messages that were sent: a crash repeats them until the mark is durable.
    pub(super) settled: Risk,
    /// The number of delivered records, by topic.
    pub(super) delivered: Vec<(Arc<str>, u64)>,
    pub(super) filtered: Vec<(Arc<str>, u64)>,
    pub(super) gaps: Vec<Gap>,
    /// The sources of the records, for a group of a withheld topic.
    pub(super) sources: Vec<u32>,
}

/// The sum of settled groups.
#[derive(Debug, Default)]
pub(super) struct SettledGroups {
    pub(super) through: Seq,
    pub(super) settled: Risk,
    pub(super) delivered: u64,
    pub(super) filtered: u64,
    pub(super) gaps: Vec<Gap>,
    pub(super) sources: Vec<u32>,
}

impl Queue {
    pub(super) fn new(settled_through: Seq) -> Self {
        Self { groups: VecDeque::new(), settled_through }
    }

    pub(super) fn push(&mut self, group: OpenGroup) {
        self.groups.push_back(group);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Returns the settled messages of all groups.
    pub(super) fn sum_settled(&self) -> Risk {
        self.groups.iter().map(|group| group.settled).sum()
    }

    /// Returns all messages of the last group: only the last group has messages never sent.
    pub(super) fn last_group(&self) -> Risk {
        self.groups.back().map_or_else(Risk::default, |group| group.whole)
    }

    /// Settles one message of the group ending at `through`, and returns the group.
    pub(super) fn settle_one(&mut self, through: Seq) -> &mut OpenGroup {
        let at = self.groups.partition_point(|group| group.through < through);
        let group = &mut self.groups[at];
        group.open -= 1;
        group
    }

    /// Removes the counts of `topic` from every group.
    pub(super) fn forget_topic(&mut self, topic: &str) {
        for group in &mut self.groups {
            group.delivered.retain(|(of, _)| **of != *topic);
            group.filtered.retain(|(of, _)| **of != *topic);
        }
    }

    /// Removes the settled groups at the front, and returns their sum.
    pub(super) fn take_settled(&mut self) -> Option<SettledGroups> {
        let mut settled: Option<SettledGroups> = None;
        while self.groups.front().is_some_and(|group| group.open == 0) {
            let Some(group) = self.groups.pop_front() else { break };
            let sum = settled.get_or_insert_default();
            let count = |of: &[(Arc<str>, u64)]| of.iter().map(|(_, count)| count).sum::<u64>();
            sum.through = group.through;
            sum.settled += group.settled;
            sum.delivered += count(&group.delivered);
            sum.filtered += count(&group.filtered);
            group.gaps.into_iter().for_each(|gap| merge_gap(&mut sum.gaps, gap));
            sum.sources.extend(group.sources);
            self.settled_through = group.through;
        }
        settled
    }
}

/// Adds `count` to the count of `topic`.
pub(super) fn add_count(counts: &mut Vec<(Arc<str>, u64)>, topic: &Arc<str>, count: u64) {
    match counts.iter_mut().find(|(of, _)| Arc::ptr_eq(of, topic) || *of == *topic) {
        Some((_, sum)) => *sum += count,
        None => counts.push((Arc::clone(topic), count)),
    }
}

/// Appends a gap. Consecutive quarantined messages of one topic make a single gap.
fn merge_gap(gaps: &mut Vec<Gap>, gap: Gap) {
    match gaps.last_mut() {
        Some(last) if last.reason == gap.reason => {
            last.last = gap.last;
            last.count += gap.count;
        }
        _ => gaps.push(gap),
    }
}
