//! The condition `silent`: a source sends no readings for too long.
//!
//! Silence is measured between arrivals, by the monotonic clock. The time and the value of a
//! reading do not matter, and a clock step is no silence. The alert is raised after `after` without
//! an arrival, and cleared by the next arrival; its value is the length of the silence in seconds.
//! A silence begins no earlier than the agent.

use std::time::Duration;

use super::LATENESS;
use super::judge::{Judge, RuleFinding, TransitionSink};
use crate::record::reading::Value;
use crate::time::Wall;

#[derive(Debug, Clone)]
pub(super) struct Silence {
    after: Duration,
    /// The last arrival, or the start of the wait for the first arrival; `None` if neither is
    /// known.
    since: Option<Wall>,
}

impl Silence {
    pub(super) fn new(after: Duration) -> Self {
        Self { after, since: None }
    }

    /// Starts to wait for the source at `time`; `None` stops the wait.
    pub(super) fn wait_from(&mut self, time: Option<Wall>) {
        self.since = time;
    }

    /// Takes an arrival at `time`, and counts the next silence from `from`: the two are the arrival
    /// on the clock of the source before and after the reading set the clock.
    pub(super) fn handle_arrival(
        &mut self,
        (time, from): (Wall, Wall),
        judge: &mut Judge,
        sink: &mut TransitionSink<'_>,
    ) {
        let silent = self.since.replace(from).map(|since| time.since(since));
        let finding = || RuleFinding::new(to_seconds(silent.unwrap_or_default()), time);
        judge.apply_finding(false, finding, sink);
    }

    /// Advances time to `settled` plus [`LATENESS`]: an arrival is never late, so a silence needs
    /// no settling.
    pub(super) fn check_silence(
        &mut self,
        settled: Wall,
        judge: &mut Judge,
        sink: &mut TransitionSink<'_>,
    ) {
        let Some(end) = self.since.map(|since| since + self.after) else { return };
        let now = settled + LATENESS;
        if end <= now && !judge.is_raised() && !judge.is_pending() {
            judge.apply_finding(true, || RuleFinding::new(to_seconds(self.after), end), sink);
        }
        judge.release_pending(now, sink);
    }

    /// Returns the settled time of the next decision, if any.
    pub(super) fn next_check(&self, judge: &Judge) -> Option<Wall> {
        let end = self.since.filter(|_| !judge.is_raised())? + self.after;
        Some(judge.pending_until().unwrap_or(end) - LATENESS)
    }
}

fn to_seconds(length: Duration) -> Value {
    Value::Number(length.as_secs_f64())
}
