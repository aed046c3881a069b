//! Puts readings in the order of their event times, for a rule that has to wait anyway (`for`).
//!
//! A reading is evaluated once all earlier readings have arrived, [`LATENESS`](super::LATENESS)
//! later: the order of arrival makes no difference. A reading without a time of its own is stamped
//! on arrival; no later arrival can have an earlier time, so the reading is evaluated at once.
//!
//! Readings not yet settled at a restart are folded again. A reading from before the last stored
//! transition is evaluated only to update the state, and decides nothing a second time.

use std::cmp::Ordering;
use std::collections::VecDeque;

use pulsegate_sensors::SourceId;

use crate::record::reading::Value;
use crate::time::Wall;

/// Bounds memory for a rule and source: a hundred readings a second. Above the limit, the oldest
/// reading is evaluated before settling.
const MAX_KEPT: usize = 512;

/// The event time and the source of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ReadingOrigin {
    pub(super) event: Wall,
    /// The index of the member, for a rule over several sources.
    pub(super) member: Option<usize>,
    pub(super) source: SourceId,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Settling {
    /// Readings by event time; at the same time, by member, source and value.
    kept: VecDeque<(ReadingOrigin, Value)>,
    /// `true` if any reading had a time of its own, as another such reading may be late; `None`
    /// before the first reading.
    own_time: Option<bool>,
    /// All readings before this event time have been evaluated.
    passed: Option<Wall>,
}

impl Settling {
    /// Returns `true` if readings may be late, as far as is known.
    pub(super) fn awaits_late(&self) -> bool {
        self.own_time != Some(false)
    }

    pub(super) fn clear_readings(&mut self) {
        *self = Self { own_time: self.own_time, ..Self::default() };
    }

    /// Keeps a reading, with a time of its own or not (`own_time`). Returns `false` if the reading
    /// is too late to wait.
    pub(super) fn insert_reading(
        &mut self,
        told: ReadingOrigin,
        value: &Value,
        own_time: bool,
    ) -> bool {
        self.own_time = self.own_time.max(Some(own_time));
        if self.passed.is_some_and(|passed| told.event < passed) {
            return false;
        }
        let is_after = |(kept, other): &&(ReadingOrigin, Value)| {
            kept.cmp(&told).then_with(|| by_value(other, value)).is_gt()
        };
        let after = self.kept.iter().rev().take_while(is_after).count();
        self.kept.insert(self.kept.len() - after, (told, value.clone()));
        true
    }

    /// Returns the event time of the next reading.
    pub(super) fn next(&self) -> Option<Wall> {
        self.kept.front().map(|(told, _)| told.event)
    }

    /// Removes and returns the next reading before `known`, or the next reading beyond
    /// [`MAX_KEPT`].
    pub(super) fn pop_before(&mut self, known: Wall) -> Option<(ReadingOrigin, Value)> {
        let known = self.passed.max(Some(known));
        self.next().filter(|event| Some(*event) < known || self.kept.len() > MAX_KEPT)?;
        self.kept.pop_front()
    }

    /// Marks all readings before `known` as evaluated.
    pub(super) fn mark_passed(&mut self, known: Wall) {
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
            let told = ReadingOrigin { event: Wall(*nth), member: None, source: SourceId(0) };
            assert!(settling.insert_reading(told, &Value::Number(0.0), true));
            settling.pop_before(Wall(0)).is_some()
        });

        assert_eq!(handed_on.count(), 10_000 - MAX_KEPT);
        assert!(settling.kept.capacity() <= 2 * MAX_KEPT + 2);
    }
}
