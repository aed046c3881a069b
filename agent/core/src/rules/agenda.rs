//! When to look at which source again without a reading of it.
//!
//! Each source is down at most once. One that comes up early costs a look and nothing else, so a
//! time that moves back is left as it is.

use std::collections::BTreeSet;

use crate::time::Mono;

#[derive(Debug, Clone, Default)]
pub(super) struct Agenda {
    entries: BTreeSet<(Mono, usize)>,
    /// By source: its entry.
    next: Vec<Option<Mono>>,
}

impl Agenda {
    /// Puts source `index` down for `time`, unless it comes up earlier anyway.
    pub(super) fn put(&mut self, index: usize, time: Mono) {
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

    /// Takes out a source that has come up by `now`.
    pub(super) fn pop(&mut self, now: Mono) -> Option<usize> {
        let (_, index) = *self.entries.first().filter(|(time, _)| *time <= now)?;
        self.entries.pop_first();
        self.next[index] = None;
        Some(index)
    }

    pub(super) fn first(&self) -> Option<Mono> {
        self.entries.first().map(|(time, _)| *time)
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.next.clear();
    }
}
