//! What the edges and levels of a line mean: debounce where the kernel does not offer it, the
//! cross-check, lost edges, and levels as states. Pure: it is told the time, on `CLOCK_MONOTONIC`
//! like the edges.
//!
//! A state is told once, when it begins, and again when the line was lost and came back. An opening
//! that was missed altogether, both of its edges lost, is counted as lost, never invented.

use std::time::Duration;

use super::{Level, Role};
use crate::LineState;

/// How often the level is compared with what the edges said. A lid that opens at all is open for
/// longer, and a register read or an ioctl a second costs nothing.
pub const CROSS_CHECK_EVERY: Duration = Duration::from_secs(1);
/// Longer than an edge takes from the kernel to the line's thread on a busy Pi Zero: a level that
/// runs ahead of its edge is not yet a lost edge.
pub const EDGE_DELIVERY: Duration = Duration::from_millis(100);

/// An edge, as the kernel reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// When, on `CLOCK_MONOTONIC`.
    pub at: Duration,
    /// The level that the line went to.
    pub level: Level,
    /// Counts the edges of this line from 1 on, since it was opened.
    pub seqno: u32,
}

/// A state that began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The state.
    pub state: LineState,
    /// The kernel's time of its edge; `None` if the level, not an edge, told of it.
    pub captured: Option<Duration>,
}

/// What became of a line's edges, for `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LineCounters {
    /// Edges that arrived.
    pub edges: u64,
    /// Edges that did not: gaps in the kernel's numbers, and corrected levels.
    pub lost: u64,
    /// States that the cross-check put right.
    pub corrected: u64,
    /// How often the line was lost and came back.
    pub reopened: u64,
    /// The state now; `None` while the line is not open.
    pub state: Option<LineState>,
}

/// The state machine of one line.
#[derive(Debug)]
pub struct Machine {
    role: Role,
    debounce: Duration,
    /// Zero where the kernel debounces.
    settle_for: Duration,
    level: Option<Level>,
    bounce: Option<Bounce>,
    seqno: u32,
    /// Edges that the cross-check has counted as lost and whose gap is yet to come.
    lost_ahead: u32,
    doubted: bool,
    check_at: Duration,
    was_open: bool,
    counters: LineCounters,
}

/// Edges that followed each other within the debounce time.
#[derive(Debug, Clone, Copy)]
struct Bounce {
    first: Duration,
    last: Duration,
    level: Level,
}

impl Machine {
    /// A line that is not open yet.
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

    /// The counters so far.
    #[must_use]
    pub fn counters(&self) -> LineCounters {
        self.counters
    }

    /// When [`Machine::quiet`] is next needed.
    #[must_use]
    pub fn due(&self) -> Duration {
        self.bounce.map_or(self.check_at, |bounce| self.settled_at(bounce))
    }

    /// The line was opened at `now` and has this level; `kernel_debounces` says whether its edges
    /// come debounced.
    pub fn opened(&mut self, now: Duration, level: Level, kernel_debounces: bool) -> Change {
        self.settle_for = if kernel_debounces { Duration::ZERO } else { self.debounce };
        self.counters.reopened += u64::from(self.was_open);
        self.was_open = true;
        self.bounce = None;
        self.seqno = 0;
        self.lost_ahead = 0;
        self.doubted = false;
        self.check_at = now + CROSS_CHECK_EVERY;
        self.begin(level, None)
    }

    /// The line cannot be read any more.
    pub fn closed(&mut self) {
        self.counters.state = None;
    }

    /// An edge arrived.
    pub fn edge(&mut self, edge: Edge) -> Option<Change> {
        self.count(edge.seqno);
        self.doubted = false;
        if self.settle_for.is_zero() {
            return self.settle(edge.level, Some(edge.at));
        }
        let (first, settled) = match self.bounce {
            Some(bounce) if edge.at < self.settled_at(bounce) => (bounce.first, None),
            Some(bounce) => (edge.at, self.settle(bounce.level, Some(bounce.first))),
            None => (edge.at, None),
        };
        self.bounce = Some(Bounce { first, last: edge.at, level: edge.level });
        settled
    }

    /// No edge was waiting at `now`, when the line had this level.
    pub fn quiet(&mut self, now: Duration, level: Level) -> Option<Change> {
        if let Some(bounce) = self.bounce {
            if now < self.settled_at(bounce) {
                return None;
            }
            self.bounce = None;
            return self.settle(bounce.level, Some(bounce.first));
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
        Some(self.begin(level, None))
    }

    fn count(&mut self, seqno: u32) {
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

    fn settle(&mut self, level: Level, captured: Option<Duration>) -> Option<Change> {
        (self.level != Some(level)).then(|| self.begin(level, captured))
    }

    fn begin(&mut self, level: Level, captured: Option<Duration>) -> Change {
        let state = self.role.state(level);
        self.level = Some(level);
        self.counters.state = Some(state);
        Change { state, captured }
    }
}

#[cfg(test)]
mod tests;
