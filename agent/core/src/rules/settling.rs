//! Readings in the order of their own times, for a rule that has to wait anyway.
//!
//! What has to last (`for`) is judged once it has settled: a reading is handed on when all that were
//! taken before it have come, [`LATENESS`](super::LATENESS) later. So the order in which they arrive
//! makes no difference. Readings without a time of their own are stamped as they arrive, so nothing
//! can come before them any more, and they are handed on at once.
//!
//! What had not settled at a restart is folded again. A reading from before the last transition, which
//! is in the store, is handed on to be remembered, and decides nothing a second time.

use std::cmp::Ordering;
use std::collections::VecDeque;

use pulsegate_sensors::SourceId;

use crate::record::reading::Value;
use crate::time::Wall;

/// Bounds memory for a rule and source: a hundred readings a second. Of more, the oldest is handed
/// on before it has settled.
const MAX_KEPT: usize = 512;

/// Of when and of whom a reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Told {
    pub(super) event: Wall,
    /// Which member it is of, in a rule that looks at several sources.
    pub(super) member: Option<usize>,
    pub(super) source: SourceId,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Settling {
    /// By event time; of one time, by member and value.
    kept: VecDeque<(Told, Value)>,
    /// Whether a reading brought a time of its own, so that another may be late.
    own_time: Option<bool>,
    /// What was before this has been handed on.
    passed: Option<Wall>,
}

impl Settling {
    /// Whether readings may come late, for all that is known.
    pub(super) fn waits(&self) -> bool {
        self.own_time != Some(false)
    }

    pub(super) fn restart(&mut self) {
        *self = Self { own_time: self.own_time, ..Self::default() };
    }

    /// Keeps a reading, which brings its own time or does not. Returns whether it may: one that
    /// comes too late cannot wait.
    pub(super) fn put(&mut self, told: Told, value: &Value, own_time: bool) -> bool {
        self.own_time = self.own_time.max(Some(own_time));
        if self.passed.is_some_and(|passed| told.event < passed) {
            return false;
        }
        let is_after = |(kept, other): &&(Told, Value)| {
            kept.cmp(&told).then_with(|| by_value(other, value)).is_gt()
        };
        let after = self.kept.iter().rev().take_while(is_after).count();
        self.kept.insert(self.kept.len() - after, (told, value.clone()));
        true
    }

    /// When the next one was.
    pub(super) fn next(&self) -> Option<Wall> {
        self.kept.front().map(|(told, _)| told.event)
    }

    /// Takes out the next one that was before `known`, or for which there is no room.
    pub(super) fn pop(&mut self, known: Wall) -> Option<(Told, Value)> {
        let known = self.passed.max(Some(known));
        self.next().filter(|event| Some(*event) < known || self.kept.len() > MAX_KEPT)?;
        self.kept.pop_front()
    }

    /// Everything before `known` has been handed on.
    pub(super) fn pass(&mut self, known: Wall) {
        self.passed = self.passed.max(Some(known));
    }
}

fn by_value(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.total_cmp(b),
        (Value::State(a), Value::State(b)) => a.cmp(b),
        (Value::Number(_), Value::State(_)) => Ordering::Less,
        (Value::State(_), Value::Number(_)) => Ordering::Greater,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_handed_on_before_it_takes_more_memory() {
        let mut settling = Settling::default();
        let handed_on = (0..10_000).filter(|nth| {
            let told = Told { event: Wall(*nth), member: None, source: SourceId(0) };
            assert!(settling.put(told, &Value::Number(0.0), true));
            settling.pop(Wall(0)).is_some()
        });

        assert_eq!(handed_on.count(), 10_000 - MAX_KEPT);
        assert!(settling.kept.capacity() <= 2 * MAX_KEPT + 2);
    }
}
