//! A rule without a window: evaluates the condition on each reading, at once.
//!
//! The newest reading by event time counts; an older reading is counted as late and not used. The
//! order of the readings therefore matters, unless the rule has a `for` and takes readings in the
//! order of their event times.

use super::judge::{Finding, Judge, Sink};
use crate::record::reading::Value;
use crate::time::Wall;

#[derive(Debug, Clone, Default)]
pub(super) struct Level {
    newest: Option<Wall>,
}

impl Level {
    pub(super) fn take(
        &mut self,
        event: Wall,
        value: &Value,
        judge: &mut Judge,
        sink: &mut Sink<'_>,
    ) {
        if judge.holds(value).is_none() {
            return;
        }
        if self.newest.is_some_and(|newest| event < newest) {
            sink.counts.late += 1;
            return;
        }
        self.newest = Some(event);
        judge.release(event, sink);
        let holds = judge.holds(value).unwrap_or(false);
        judge.decide(holds, || Finding::new(value.clone(), event), sink);
    }

    pub(super) fn restart(&mut self) {
        self.newest = None;
    }
}
