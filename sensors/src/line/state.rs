//! Interprets the edges and levels of a line: debounce if the kernel offers none, the cross-check,
//! lost edges, and states. Pure: times on `CLOCK_MONOTONIC`, like those of the edges, are passed
//! in.
//!
//! A state is reported once, at its beginning, and again after the line was lost and reopened. An
//! opening with both edges lost is counted as lost, never invented.

use std::time::Duration;

use super::{Level, Role};
use crate::LineState;

/// The interval between comparisons of the level with the edges. A lid stays open for longer than a
/// second, and reading a level each second costs nothing.
pub const CROSS_CHECK_EVERY: Duration = Duration::from_secs(1);
/// The time allowed for an edge to reach the line's thread, on a busy Pi Zero: a level may change
/// before its edge arrives.
pub const EDGE_DELIVERY: Duration = Duration::from_millis(100);

/// An edge reported by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The time of the edge on `CLOCK_MONOTONIC`.
    pub at: Duration,
    /// The level after the edge.
    pub level: Level,
    /// The number of the edge, from 1, since the line was opened.
    pub seqno: u32,
}

/// The beginning of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineChange {
    /// The state.
    pub state: LineState,
    /// The kernel's time of the edge; `None` if the state was read from the level.
    pub captured: Option<Duration>,
}

/// Counters of a line's edges, for `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LineCounters {
    /// Edges received.
    pub edges: u64,
    /// Edges lost: gaps in the kernel's numbers, and corrected levels.
    pub lost: u64,
    /// States corrected by the cross-check.
    pub corrected: u64,
    /// The number of times the line was reopened after a loss.
    pub reopened: u64,
    /// The present state; `None` while the line is not open.
    pub state: Option<LineState>,
}

/// The state machine of one line.
#[derive(Debug)]
pub struct LineMachine {
    role: Role,
    debounce: Duration,
    /// Zero if the kernel debounces.
    settle_for: Duration,
    level: Option<Level>,
    bounce: Option<Bounce>,
    seqno: u32,
    /// The number of edges that the cross-check has counted as lost before the gap in the kernel's
    /// numbers was seen.
    lost_ahead: u32,
    doubted: bool,
    check_at: Duration,
    was_open: bool,
    counters: LineCounters,
}

/// Edges within the debounce time of each other.
#[derive(Debug, Clone, Copy)]
struct Bounce {
    first: Duration,
    last: Duration,
    level: Level,
}

impl LineMachine {
    /// Creates the state machine of a line that is not open.
    #[must_use]
    pub fn new(role: Role, debounce: Duration) -> Self {
        Self {
            role,
            debounce,
            settle_for: debounce,
            level: None,
            bounce: None,
            seqno: 0,
            lost_ahead: 0,
            doubted: false,
            check_at: Duration::ZERO,
            was_open: false,
            counters: LineCounters::default(),
        }
    }

    /// Returns the counters since the start.
    #[must_use]
    pub fn counters(&self) -> LineCounters {
        self.counters
    }

    /// Returns the time at which [`LineMachine::handle_quiet`] is due, if no edge arrives before.
    #[must_use]
    pub fn due_at(&self) -> Duration {
        self.bounce.map_or(self.check_at, |bounce| self.settled_at(bounce))
    }

    /// Handles the opening of the line at `now` with `level`; `kernel_debounces` is `true` if the
    /// kernel debounces the edges.
    pub fn handle_open(
        &mut self,
        now: Duration,
        level: Level,
        kernel_debounces: bool,
    ) -> LineChange {
        self.settle_for = if kernel_debounces { Duration::ZERO } else { self.debounce };
        self.counters.reopened += u64::from(self.was_open);
        self.was_open = true;
        self.bounce = None;
        self.seqno = 0;
        self.lost_ahead = 0;
        self.doubted = false;
        self.check_at = now + CROSS_CHECK_EVERY;
        self.begin_state(level, None)
    }

    /// Handles the loss of the line.
    pub fn handle_close(&mut self) {
        self.counters.state = None;
    }

    /// Handles an edge. Returns the state that begins, if any.
    pub fn handle_edge(&mut self, edge: Edge) -> Option<LineChange> {
        self.count_edge(edge.seqno);
        self.doubted = false;
        if self.settle_for.is_zero() {
            return self.settle_level(edge.level, Some(edge.at));
        }
        let (first, settled) = match self.bounce {
            Some(bounce) if edge.at < self.settled_at(bounce) => (bounce.first, None),
            Some(bounce) => (edge.at, self.settle_level(bounce.level, Some(bounce.first))),
            None => (edge.at, None),
        };
        self.bounce = Some(Bounce { first, last: edge.at, level: edge.level });
        settled
    }

    /// Handles the absence of a waiting edge at `now`, with the `level` of the line. Returns the
    /// state that begins, if any.
    pub fn handle_quiet(&mut self, now: Duration, level: Level) -> Option<LineChange> {
        if let Some(bounce) = self.bounce {
            if now < self.settled_at(bounce) {
                return None;
            }
            self.bounce = None;
            return self.settle_level(bounce.level, Some(bounce.first));
        }
        if now < self.check_at {
            return None;
        }
        self.check_at = now + CROSS_CHECK_EVERY;
        if self.level == Some(level) {
            self.doubted = false;
            return None;
        }
        if !self.doubted {
            self.doubted = true;
            self.check_at = now.saturating_add(self.debounce).saturating_add(EDGE_DELIVERY);
            return None;
        }
        self.doubted = false;
        self.lost_ahead = self.lost_ahead.saturating_add(1);
        self.counters.corrected += 1;
        self.counters.lost += 1;
        Some(self.begin_state(level, None))
    }

    fn count_edge(&mut self, seqno: u32) {
        self.counters.edges += 1;
        let ahead = seqno.wrapping_sub(self.seqno);
        self.seqno = seqno;
        if ahead > u32::MAX / 2 {
            return; // a number that runs backwards tells nothing of lost edges
        }
        let missing = ahead.saturating_sub(1).saturating_sub(self.lost_ahead);
        self.counters.lost += u64::from(missing);
        self.lost_ahead = 0;
    }

    fn settled_at(&self, bounce: Bounce) -> Duration {
        bounce.last.saturating_add(self.settle_for)
    }

    fn settle_level(&mut self, level: Level, captured: Option<Duration>) -> Option<LineChange> {
        (self.level != Some(level)).then(|| self.begin_state(level, captured))
    }

    fn begin_state(&mut self, level: Level, captured: Option<Duration>) -> LineChange {
        let state = self.role.state_for(level);
        self.level = Some(level);
        self.counters.state = Some(state);
        LineChange { state, captured }
    }
}

#[cfg(test)]
mod tests;
