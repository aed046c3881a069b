//! Absence: a source that should speak and does not.
//!
//! What counts is the arrival, by the monotonic clock, whatever the reading says of a time or of a
//! body: a source that speaks is not silent, and a clock that steps is no silence. The alert is
//! raised when nothing came for that long and cleared by the next arrival; its value is the length
//! of the silence in seconds. Silence begins no earlier than the agent: what it could not hear was
//! not silent.

use std::time::Duration;

use super::LATENESS;
use super::judge::{Finding, Judge, Sink};
use crate::record::reading::Value;
use crate::time::Wall;

#[derive(Debug, Clone)]
pub(super) struct Silence {
    after: Duration,
    /// When it last spoke, or began to be expected to.
    since: Option<Wall>,
}

impl Silence {
    pub(super) fn new(after: Duration) -> Self {
        Self { after, since: None }
    }

    /// From `time` on it is expected to speak, or nothing is known of it.
    pub(super) fn begin(&mut self, time: Option<Wall>) {
        self.since = time;
    }

    /// Something came at `time`, which the source's clock now takes for `from`.
    pub(super) fn hear(
        &mut self,
        (time, from): (Wall, Wall),
        judge: &mut Judge,
        sink: &mut Sink<'_>,
    ) {
        let silent = self.since.replace(from).map(|since| time.since(since));
        let finding = || Finding::new(seconds(silent.unwrap_or_default()), time);
        judge.decide(false, finding, sink);
    }

    /// An arrival is never late: there is nothing to wait for.
    pub(super) fn pass(&mut self, settled: Wall, judge: &mut Judge, sink: &mut Sink<'_>) {
        let Some(end) = self.since.map(|since| since + self.after) else { return };
        let now = settled + LATENESS;
        if end <= now && !judge.is_raised() && !judge.is_pending() {
            judge.decide(true, || Finding::new(seconds(self.after), end), sink);
        }
        judge.release(now, sink);
    }

    /// The settled time by which there is something to decide.
    pub(super) fn due(&self, judge: &Judge) -> Option<Wall> {
        let end = self.since.filter(|_| !judge.is_raised())? + self.after;
        Some(judge.turns_at().unwrap_or(end) - LATENESS)
    }
}

fn seconds(length: Duration) -> Value {
    Value::Number(length.as_secs_f64())
}
