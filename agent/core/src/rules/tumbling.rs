//! Tumbling windows over event time, for one rule and one source.
//!
//! A window is judged once its end has settled: the source's clock is [`LATENESS`] past it. A
//! reading that comes after that is not used, and counted. Because windows are judged in their
//! order and each from an exact sum, the outcome does not depend on the order of the readings.

use std::time::Duration;

use super::judge::{Finding, Judge, Sink};
use super::spec::MIN_WINDOW;
use super::sum::ExactSum;
use super::{LATENESS, Take, WindowSpec};
use crate::reading::Value;
use crate::time::Wall;

/// Bounds the memory of one rule and source: those that end within the lateness, and the two that
/// its ends fall into.
const MAX_OPEN: usize = 7;
const _: () =
    assert!(LATENESS.as_millis().div_ceil(MIN_WINDOW.as_millis()) + 2 <= MAX_OPEN as u128);

#[derive(Debug, Clone)]
pub(super) struct Tumbling {
    length: Duration,
    take: Take,
    /// No window that ends here or before takes a reading any more.
    closed: Option<Wall>,
    /// The end of the last window that was judged: the windows since then are empty or open.
    judged: Option<Wall>,
    /// In order.
    open: Vec<Open>,
}

#[derive(Debug, Clone)]
struct Open {
    start: Wall,
    so_far: SoFar,
}

/// What is taken over the readings so far. Counts are exact up to 2^53.
#[derive(Debug, Clone)]
enum SoFar {
    Mean(ExactSum, f64),
    Min(f64),
    Max(f64),
    Count(f64),
}

impl Tumbling {
    pub(super) fn new(window: &WindowSpec) -> Self {
        let WindowSpec { length, take } = *window;
        Self { length, take, closed: None, judged: None, open: Vec::new() }
    }

    /// Takes over from the store that the window ending at `end` was judged. Its length may have
    /// been another.
    pub(super) fn resume(&mut self, end: Wall) {
        self.closed = self.closed.max(Some(ceil(end, self.length)));
        self.judged = self.closed;
    }

    /// Whether windows after `time` are closed.
    pub(super) fn is_closed_after(&self, time: Wall) -> bool {
        self.closed.is_some_and(|closed| closed > time)
    }

    pub(super) fn restart(&mut self) {
        self.closed = None;
        self.judged = None;
        self.open.clear();
    }

    pub(super) fn take(&mut self, event: Wall, value: &Value, sink: &mut Sink<'_>) {
        let number = match (value, self.take) {
            (Value::Number(number), _) => *number,
            (Value::State(_), Take::Count) => 0.0,
            (Value::State(_), Take::Mean | Take::Min | Take::Max) => return,
        };
        let start = floor(event, self.length);
        if self.closed.is_some_and(|closed| start < closed) {
            sink.counts.late += 1;
            return;
        }
        match self.open.binary_search_by_key(&start, |window| window.start) {
            Ok(index) => self.open[index].so_far.add(number),
            Err(index) => {
                let so_far = SoFar::new(self.take, number);
                self.open.insert(index, Open { start, so_far });
                debug_assert!(self.open.len() <= MAX_OPEN, "windows pile up");
            }
        }
    }

    /// Judges the windows that end by `settled`.
    pub(super) fn pass(&mut self, settled: Wall, judge: &mut Judge, sink: &mut Sink<'_>) {
        if self.closed.is_some_and(|closed| settled < closed + self.length) {
            return;
        }
        let closed = floor(settled, self.length);
        self.closed = Some(closed);
        while self.open.first().is_some_and(|window| window.start < closed) {
            let window = self.open.remove(0);
            self.pass_empty(window.start, judge, sink);
            self.judge(window.start, window.so_far.value(), judge, sink);
        }
        self.pass_empty(closed, judge, sink);
    }

    /// The end of the next window that can change something.
    pub(super) fn due(&self, judge: &Judge) -> Option<Wall> {
        let open = self.open.first().map(|window| window.start + self.length);
        open.into_iter().chain(self.next_empty(judge)).min()
    }

    fn judge(&mut self, start: Wall, number: f64, judge: &mut Judge, sink: &mut Sink<'_>) {
        let end = start + self.length;
        self.judged = Some(end);
        if !number.is_finite() {
            return;
        }
        let value = Value::Number(number);
        let holds = judge.holds(&value).unwrap_or(false);
        judge.decide(holds, || Finding { value, window: Some((start, end)), time: end }, sink);
    }

    /// Judges the empty windows that end by `until`, of which only few can change something; while
    /// nothing is decided, none.
    fn pass_empty(&mut self, until: Wall, judge: &mut Judge, sink: &mut Sink<'_>) {
        if self.judged.is_none_or(|judged| judged >= until) {
            return;
        }
        while sink.out.is_some()
            && let Some(end) = self.next_empty(judge).filter(|end| *end <= until)
        {
            self.judge(end - self.length, 0.0, judge, sink);
        }
        self.judged = Some(until);
    }

    /// The end of the next window, if it stays empty and that changes something. An empty window
    /// has a count, of 0, and nothing else.
    fn next_empty(&self, judge: &Judge) -> Option<Wall> {
        let next = self.judged.filter(|_| self.take == Take::Count)? + self.length;
        let holds = judge.holds(&Value::Number(0.0)).unwrap_or(false);
        match (judge.is_holding(), holds) {
            (false, holds) => (judge.is_raised() != holds).then_some(next),
            (true, false) => Some(next),
            (true, true) => Some(ceil(judge.released_at()?, self.length).max(next)),
        }
    }
}

impl SoFar {
    fn new(take: Take, number: f64) -> Self {
        match take {
            Take::Mean => {
                let mut sum = ExactSum::default();
                sum.add(number);
                Self::Mean(sum, 1.0)
            }
            Take::Min => Self::Min(number),
            Take::Max => Self::Max(number),
            Take::Count => Self::Count(1.0),
        }
    }

    fn add(&mut self, number: f64) {
        match self {
            Self::Mean(sum, count) => {
                sum.add(number);
                *count += 1.0;
            }
            Self::Min(least) => *least = least.min(number),
            Self::Max(greatest) => *greatest = greatest.max(number),
            Self::Count(count) => *count += 1.0,
        }
    }

    fn value(&self) -> f64 {
        match self {
            Self::Mean(sum, count) => sum.value() / count,
            Self::Min(number) | Self::Max(number) | Self::Count(number) => *number,
        }
    }
}

/// The start of the window that `time` lies in.
fn floor(time: Wall, length: Duration) -> Wall {
    let length = i64::try_from(length.as_millis()).unwrap_or(i64::MAX).max(1);
    Wall(time.0.saturating_sub(time.0.rem_euclid(length)))
}

/// The end of the window that ends at `time` or that `time` lies in.
fn ceil(time: Wall, length: Duration) -> Wall {
    let start = floor(time, length);
    if start == time { time } else { start + length }
}
