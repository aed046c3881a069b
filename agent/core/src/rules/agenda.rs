//! The schedule of the rules engine: the next deadline of each track.
//!
//! Each track has at most one entry. An entry may be too early: the track is then examined without
//! effect and scheduled again. A deadline moved to a later time therefore leaves the entry
//! unchanged.

use std::collections::BTreeSet;

use crate::time::Mono;

#[derive(Debug, Clone, Default)]
pub(super) struct Agenda {
    entries: BTreeSet<(Mono, usize)>,
    /// The time of the entry of each track, by track index.
    next: Vec<Option<Mono>>,
}

impl Agenda {
    /// Schedules track `index` for `time`, unless the track is already due earlier.
    pub(super) fn insert_deadline(&mut self, index: usize, time: Mono) {
        if self.next.len() <= index {
            self.next.resize(index + 1, None);
        }
        if self.next[index].is_some_and(|next| next <= time) {
            return;
        }
        if let Some(next) = self.next[index].replace(time) {
            self.entries.remove(&(next, index));
        }
        self.entries.insert((time, index));
    }

    /// Removes and returns a track due by `now`.
    pub(super) fn pop_due(&mut self, now: Mono) -> Option<usize> {
        let (_, index) = *self.entries.first().filter(|(time, _)| *time <= now)?;
        self.entries.pop_first();
        self.next[index] = None;
        Some(index)
    }

    pub(super) fn first_deadline(&self) -> Option<Mono> {
        self.entries.first().map(|(time, _)| *time)
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.next.clear();
    }
}
