//! The trial of a topic: which of its messages goes next, alone, and what follows from its fate.
//!
//! A topic comes on trial when connections keep dying over it. Its records leave the lane and wait in
//! the store, and one message at a time is tried. The first has one record; each that passes doubles
//! the size, each that kills halves it. So a trial ends in one of four ways:
//!
//! - messages of the full size pass: the topic goes on, and rejoins its lane when it has caught up;
//! - all records of a batch that killed pass in smaller ones, twice: batches are too large;
//! - one record kills again and again, apart in time, while another of its topic passes: that
//!   record is poison;
//! - single records kill, and none passes: the broker refuses the topic. It stays on trial, with
//!   growing pauses, and nothing of it is lost.

use std::time::Duration;

use super::doubt::Doubt;
use crate::record::reading::Seq;
use crate::time::Mono;

/// How often a record has to kill, by itself, while others of its topic pass.
const POISON_STRIKES: u32 = 3;
/// The least time between two strikes: a path that resets for some seconds condemns nothing.
const STRIKE_PAUSE: Duration = Duration::from_secs(5);
/// How many batches must kill whole and pass in parts, before the size is to blame.
const TOO_LARGE: u32 = 2;

/// See the module.
#[derive(Debug)]
pub(super) struct Trial {
    /// Records in the next message.
    size: usize,
    /// Messages in a row, of one record, that killed.
    doubt: Doubt,
    /// When the next message may go.
    next: Mono,
    accused: Option<Accused>,
    /// Whether the message behind the accused one goes next.
    tries_other: bool,
    /// The batch that killed last: its end, its bytes, and whether it was tried in parts to the end.
    killed: Option<(Seq, usize)>,
    too_large: u32,
    is_recovered: bool,
}

/// A record that killed by itself.
#[derive(Debug, Clone, Copy)]
struct Accused {
    first: Seq,
    strikes: u32,
    others_pass: bool,
}

/// A message that was tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tried {
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The next message.
    GoOn,
    /// The messages in hand are to be taken anew, in the new size or later.
    TakeAnew,
    /// The accused record is to be quarantined.
    Poison(Seq),
    /// Messages of more than so many bytes are not to be sent.
    TooLarge(usize),
    /// Messages of the full size pass.
    Recovered,
}

impl Trial {
    pub(super) fn new(now: Mono) -> Self {
        Self {
            size: 1,
            doubt: Doubt::default(),
            next: now,
            accused: None,
            tries_other: false,
            killed: None,
            too_large: 0,
            is_recovered: false,
        }
    }

    /// A topic that was refused when the agent last ran.
    pub(super) fn of_refused(now: Mono) -> Self {
        let mut trial = Self::new(now);
        while !trial.doubt.is_refused() {
            trial.doubt.add(now);
        }
        trial
    }

    /// Whether messages go as those of any topic.
    pub(super) fn is_recovered(&self) -> bool {
        self.is_recovered
    }

    /// Failures in a row, and since when.
    pub(super) fn doubt(&self) -> &Doubt {
        &self.doubt
    }

    pub(super) fn next(&self) -> Mono {
        self.next
    }

    pub(super) fn is_due(&self, now: Mono) -> bool {
        self.next <= now
    }

    /// How many records the next message may have.
    pub(super) fn size(&self) -> usize {
        if self.is_recovered { usize::MAX } else { self.size }
    }

    /// How many messages must be in hand for the next to go: the other one goes past the accused.
    pub(super) fn wants(&self) -> usize {
        1 + usize::from(self.tries_other)
    }

    /// There is no message behind the accused one.
    pub(super) fn has_no_other(&mut self) {
        self.tries_other = false;
    }

    /// A message passed.
    pub(super) fn passed(&mut self, tried: Tried, limit_bytes: usize, now: Mono) -> Verdict {
        self.doubt = Doubt::default();
        if self.tries_other {
            self.tries_other = false;
            if let Some(accused) = &mut self.accused {
                accused.others_pass = true;
                self.next = now + STRIKE_PAUSE;
            }
            return Verdict::GoOn;
        }
        self.accused = self.accused.filter(|accused| accused.first != tried.first);
        self.next = now;
        if let Some((through, bytes)) = self.killed {
            if tried.last < through {
                return Verdict::GoOn;
            }
            self.killed = None;
            self.too_large += 1;
            if self.too_large >= TOO_LARGE {
                self.is_recovered = true;
                return Verdict::TooLarge(bytes / 2);
            }
        }
        // Fewer records than asked for: the bytes or the records came to an end.
        if tried.records < self.size || tried.bytes.saturating_mul(2) > limit_bytes {
            self.is_recovered = true;
            return Verdict::Recovered;
        }
        self.size *= 2;
        Verdict::GoOn
    }

    /// The peer hung up on a message.
    pub(super) fn failed(&mut self, tried: Tried, now: Mono) -> Verdict {
        if tried.records > 1 {
            self.size = (tried.records / 2).max(1);
            self.killed = Some((tried.last, tried.bytes));
            self.next = now;
            return Verdict::TakeAnew;
        }
        self.size = 1;
        self.doubt.add(now);
        self.next = self.doubt.next_trial();
        if self.tries_other {
            self.tries_other = false;
            self.accused = None;
            return Verdict::TakeAnew;
        }
        let accused = match &mut self.accused {
            Some(accused) if accused.first == tried.first => accused,
            other => other.insert(Accused { first: tried.first, strikes: 0, others_pass: false }),
        };
        accused.strikes += 1;
        if !accused.others_pass {
            self.tries_other = true;
            return Verdict::TakeAnew;
        }
        self.next = now + STRIKE_PAUSE;
        if accused.strikes >= POISON_STRIKES {
            (self.accused, self.killed) = (None, None);
            self.next = now;
            self.doubt = Doubt::default();
            return Verdict::Poison(tried.first);
        }
        Verdict::GoOn
    }

    /// No record waits any more: there is nothing to find out.
    pub(super) fn has_nothing(&mut self) {
        self.is_recovered = true;
    }
}
