//! Windows over event time, tumbling and sliding, for one rule and one source.
//!
//! Time is divided into panes on the grid of the step. A window is the panes of one length; a
//! tumbling window has a single pane. A window is judged once its end has settled: the clock of the
//! source is [`LATENESS`] past the end. A later reading of the window is not used, only counted.
//! Windows are judged in their order, and each from an exact aggregate, so the outcome does not
//! depend on the order of the readings. A sliding window from before the first reading is judged by
//! the readings in it. A `for` begins anew after a window without a value.

use std::collections::VecDeque;
use std::time::Duration;

use super::judge::{Judge, RuleFinding, TransitionSink};
use super::spec::{MAX_STEPS, MIN_WINDOW};
use super::tally::Tally;
use super::{LATENESS, Take, WindowSpec};
use crate::record::reading::Value;
use crate::time::Wall;

/// Bounds the memory of one rule and source: the panes of a window, the panes that end within the
/// lateness, and two more for the panes around the ends of the window.
const MAX_PANES: usize = MAX_STEPS as usize + 7;
const _: () = assert!(
    MAX_STEPS as u128 + LATENESS.as_millis().div_ceil(MIN_WINDOW.as_millis()) + 2
        <= MAX_PANES as u128
);

#[derive(Debug, Clone)]
pub(super) struct Windows {
    length: Duration,
    step: Duration,
    take: Take,
    /// The settled end: no pane that ends here or before takes a reading any more.
    closed: Option<Wall>,
    /// The end of the last judged window: later windows are empty or open.
    judged: Option<Wall>,
    /// The end of the last window that had a value.
    valued: Option<Wall>,
    /// The panes of windows still to be judged, in order of time.
    panes: VecDeque<TallyPane>,
}

#[derive(Debug, Clone)]
struct TallyPane {
    start: Wall,
    tally: Tally,
}

impl Windows {
    pub(super) fn new(window: &WindowSpec) -> Self {
        let WindowSpec { length, step, take } = *window;
        Self {
            length,
            step,
            take,
            closed: None,
            judged: None,
            valued: None,
            panes: VecDeque::new(),
        }
    }

    /// Marks the window ending at `end` as judged, from a stored alert. The stored window may have
    /// had another grid.
    pub(super) fn mark_judged(&mut self, end: Wall) {
        self.judged = self.judged.max(Some(ceil_to(end, self.step)));
    }

    /// Returns `true` if windows after `time` are closed.
    pub(super) fn is_closed_after(&self, time: Wall) -> bool {
        self.judged.max(self.closed).is_some_and(|closed| closed > time)
    }

    pub(super) fn clear_windows(&mut self) {
        self.closed = None;
        self.judged = None;
        self.valued = None;
        self.panes.clear();
    }

    pub(super) fn add_reading(
        &mut self,
        event: Wall,
        value: &Value,
        sink: &mut TransitionSink<'_>,
    ) {
        let number = match (value, self.take) {
            (Value::Number(number), _) => *number,
            (Value::State(_), Take::Count) => 0.0,
            (Value::State(_), Take::Mean | Take::Min | Take::Max | Take::Sum | Take::Rate) => {
                return;
            }
        };
        let start = floor_to(event, self.step);
        let is_closed = self.closed.is_some_and(|closed| start < closed);
        if is_closed || self.judged.is_some_and(|judged| start + self.length <= judged) {
            sink.counts.late += 1;
            return;
        }
        match self.panes.binary_search_by_key(&start, |pane| pane.start) {
            Ok(index) => self.panes[index].tally.add_reading(event, number),
            Err(index) => {
                let tally = Tally::new(self.take, event, number);
                self.panes.insert(index, TallyPane { start, tally });
                debug_assert!(self.panes.len() <= MAX_PANES, "panes pile up");
            }
        }
    }

    /// Judges the windows ending by `settled`.
    pub(super) fn judge_settled(
        &mut self,
        settled: Wall,
        judge: &mut Judge,
        sink: &mut TransitionSink<'_>,
    ) {
        if self.closed.is_some_and(|closed| settled < closed + self.step) {
            return;
        }
        let closed = floor_to(settled, self.step);
        self.closed = self.closed.max(Some(closed));
        while let Some(end) = self.next_end().filter(|end| *end <= closed) {
            self.pass_empty(end - self.step, judge, sink);
            self.judge_window(end, judge, sink);
            while self.panes.front().is_some_and(|pane| pane.start + self.length <= end) {
                self.panes.pop_front();
            }
        }
        self.pass_empty(closed, judge, sink);
    }

    /// Returns the end of the next window able to change something.
    pub(super) fn next_change(&self, judge: &Judge) -> Option<Wall> {
        self.next_end().into_iter().chain(self.next_empty(judge)).min()
    }

    /// Returns the end of the next window with a reading.
    fn next_end(&self) -> Option<Wall> {
        let first = self.panes.front()?.start + self.step;
        Some(self.judged.map_or(first, |judged| first.max(judged + self.step)))
    }

    fn judge_window(&mut self, end: Wall, judge: &mut Judge, sink: &mut TransitionSink<'_>) {
        self.judged = Some(end);
        let start = end - self.length;
        let inside = self.panes.iter().filter(|pane| start <= pane.start && pane.start < end);
        let tally = inside.map(|pane| &pane.tally).fold(None, |all: Option<Tally>, pane| {
            Some(all.map_or_else(|| pane.clone(), |all| all.merge_with(pane)))
        });
        let number = tally.map_or(self.take.of_nothing(), |tally| tally.aggregate_value(self.take));
        let Some(number) = number.filter(|number| number.is_finite()) else { return };
        if self.valued.replace(end).is_some_and(|last| last + self.step < end)
            && self.take.of_nothing().is_none()
        {
            judge.drop_pending();
        }
        let value = Value::Number(number);
        let holds = judge.condition_holds(&value).unwrap_or(false);
        let find = || RuleFinding { window: Some((start, end)), ..RuleFinding::new(value, end) };
        judge.apply_finding(holds, find, sink);
    }

    /// Judges the empty windows ending by `until`, of which only a few can change something.
    /// Without `out`, a pending transition stays pending.
    fn pass_empty(&mut self, until: Wall, judge: &mut Judge, sink: &mut TransitionSink<'_>) {
        if self.judged.is_none_or(|judged| judged >= until) {
            return;
        }
        while let Some(end) = self.next_empty(judge).filter(|end| *end <= until) {
            let pending = judge.pending_until();
            self.judge_window(end, judge, sink);
            if sink.out.is_none() && judge.pending_until() == pending {
                break;
            }
        }
        self.judged = Some(until);
    }

    /// Returns the end of the next window, if judging it as empty changes something.
    fn next_empty(&self, judge: &Judge) -> Option<Wall> {
        let next = self.judged? + self.step;
        let holds = judge.condition_holds(&Value::Number(self.take.of_nothing()?)).unwrap_or(false);
        match (holds == judge.is_raised(), judge.pending_until()) {
            (true, None) => None,
            (true, Some(_)) | (false, None) => Some(next),
            (false, Some(turn)) => Some(ceil_to(turn, self.step).max(next)),
        }
    }
}

impl Take {
    /// Returns the aggregate over a window without readings, if any.
    fn of_nothing(self) -> Option<f64> {
        match self {
            Self::Count | Self::Sum => Some(0.0),
            Self::Mean | Self::Min | Self::Max | Self::Rate => None,
        }
    }
}

/// Returns the start of the pane around `time`.
pub(super) fn floor_to(time: Wall, step: Duration) -> Wall {
    let step = i64::try_from(step.as_millis()).unwrap_or(i64::MAX).max(1);
    Wall(time.0.saturating_sub(time.0.rem_euclid(step)))
}

/// Returns the end of the pane that ends at `time` or lies around `time`.
fn ceil_to(time: Wall, step: Duration) -> Wall {
    let start = floor_to(time, step);
    if start == time { time } else { start + step }
}
