//! A rule without a window: evaluates the condition on each reading, at once.
//!
//! The newest reading by event time counts; an older reading is counted as late and not used. The
//! order of the readings therefore matters, unless the rule has a `for` and takes readings in the
//! order of their event times.

use super::judge::{Judge, RuleFinding, TransitionSink};
use crate::record::reading::Value;
use crate::time::Wall;

#[derive(Debug, Clone, Default)]
pub(super) struct LevelCondition {
    newest: Option<Wall>,
}

impl LevelCondition {
    pub(super) fn judge_reading(
        &mut self,
        event: Wall,
        value: &Value,
        judge: &mut Judge,
        sink: &mut TransitionSink<'_>,
    ) {
        if judge.condition_holds(value).is_none() {
            return;
        }
        if self.newest.is_some_and(|newest| event < newest) {
            sink.counts.late += 1;
            return;
        }
        self.newest = Some(event);
        judge.release_pending(event, sink);
        let holds = judge.condition_holds(value).unwrap_or(false);
        judge.apply_finding(holds, || RuleFinding::new(value.clone(), event), sink);
    }

    pub(super) fn forget_newest(&mut self) {
        self.newest = None;
    }
}
