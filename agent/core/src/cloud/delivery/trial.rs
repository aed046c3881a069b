//! The trial of a topic: sends one message of the topic at a time, and finds out why connections
//! end.
//!
//! A topic goes on trial after the peer ended several connections because of the topic. The records
//! of the topic leave the lane and wait in the store, and one message at a time is tried. The first
//! message has one record. Each message that passes doubles the number of records; each message
//! that kills the connection halves the number. A trial has one of four outcomes:
//!
//! - Messages of the full size pass: the topic goes on, and rejoins the lane after catching up.
//! - All records of a batch that killed pass in smaller messages, twice: batches are too large.
//! - One record kills again and again, at some distance in time, and another record of the topic
//!   passes: the first record is poison.
//! - Single records kill, and none passes: the broker refuses the topic. The topic stays on trial
//!   with growing pauses, and no record is lost.

use std::time::Duration;

use super::doubt::Doubt;
use crate::record::reading::Seq;
use crate::time::Mono;

/// The number of connections a single record must kill, while other records of the topic pass, to
/// count as poison.
const POISON_STRIKES: u32 = 3;
/// The least time between two strikes: a network path that resets connections for some seconds must
/// not condemn a record.
const STRIKE_PAUSE: Duration = Duration::from_secs(5);
/// The number of batches that must kill as a whole and pass in parts, for the size to be the cause.
const TOO_LARGE: u32 = 2;

/// The state of a trial.
#[derive(Debug)]
pub(super) struct Trial {
    /// The number of records in the next message.
    size: usize,
    /// The messages of one record in a row that killed the connection.
    doubt: Doubt,
    /// The time from which the next message may be sent.
    next: Mono,
    accused: Option<Accused>,
    /// `true` if the message after the accused message is next.
    tries_other: bool,
    /// The last batch of several records that killed: the last record, and the size in bytes.
    killed: Option<(Seq, usize)>,
    too_large: u32,
    is_recovered: bool,
}

/// A record that killed the connection alone in a message.
#[derive(Debug, Clone, Copy)]
struct Accused {
    first: Seq,
    strikes: u32,
    others_pass: bool,
}

/// The description of a tried message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tried {
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// The consequence of a tried message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TrialVerdict {
    /// Send the next message.
    GoOn,
    /// Drop the messages in hand and take their records again, in the new size.
    TakeAnew,
    /// Quarantine the accused record.
    Poison(Seq),
    /// Limit messages to this size in bytes.
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

    /// Creates the trial of a topic refused before the restart of the agent.
    pub(super) fn of_refused(now: Mono) -> Self {
        let mut trial = Self::new(now);
        while !trial.doubt.is_refused() {
            trial.doubt.add_failure(now);
        }
        trial
    }

    /// Returns `true` if messages of the topic are sent like those of other topics.
    pub(super) fn is_recovered(&self) -> bool {
        self.is_recovered
    }

    /// Returns the failures in a row.
    pub(super) fn doubt(&self) -> &Doubt {
        &self.doubt
    }

    pub(super) fn next(&self) -> Mono {
        self.next
    }

    pub(super) fn is_due(&self, now: Mono) -> bool {
        self.next <= now
    }

    /// Returns the most records in the next message.
    pub(super) fn next_size(&self) -> usize {
        if self.is_recovered { usize::MAX } else { self.size }
    }

    /// Returns the number of messages that must be in hand to send the next: 2 to send the message
    /// after the accused message, otherwise 1.
    pub(super) fn messages_needed(&self) -> usize {
        1 + usize::from(self.tries_other)
    }

    /// Notes that no message follows the accused message.
    pub(super) fn note_no_other(&mut self) {
        self.tries_other = false;
    }

    /// Takes the acknowledgement of a tried message, and returns the consequence.
    pub(super) fn handle_pass(
        &mut self,
        tried: Tried,
        limit_bytes: usize,
        now: Mono,
    ) -> TrialVerdict {
        self.doubt = Doubt::default();
        if self.tries_other {
            self.tries_other = false;
            if let Some(accused) = &mut self.accused {
                accused.others_pass = true;
                self.next = now + STRIKE_PAUSE;
            }
            return TrialVerdict::GoOn;
        }
        self.accused = self.accused.filter(|accused| accused.first != tried.first);
        self.next = now;
        if let Some((through, bytes)) = self.killed {
            if tried.last < through {
                return TrialVerdict::GoOn;
            }
            self.killed = None;
            self.too_large += 1;
            if self.too_large >= TOO_LARGE {
                self.is_recovered = true;
                return TrialVerdict::TooLarge(bytes / 2);
            }
        }
        // Fewer records than requested: the message is full, or no more records wait.
        if tried.records < self.size || tried.bytes.saturating_mul(2) > limit_bytes {
            self.is_recovered = true;
            return TrialVerdict::Recovered;
        }
        self.size *= 2;
        TrialVerdict::GoOn
    }

    /// Takes the end of the connection by a tried message, and returns the consequence.
    pub(super) fn handle_failure(&mut self, tried: Tried, now: Mono) -> TrialVerdict {
        if tried.records > 1 {
            self.size = (tried.records / 2).max(1);
            self.killed = Some((tried.last, tried.bytes));
            self.next = now;
            return TrialVerdict::TakeAnew;
        }
        self.size = 1;
        self.doubt.add_failure(now);
        self.next = self.doubt.next_trial();
        if self.tries_other {
            self.tries_other = false;
            self.accused = None;
            return TrialVerdict::TakeAnew;
        }
        let accused = match &mut self.accused {
            Some(accused) if accused.first == tried.first => accused,
            other => other.insert(Accused { first: tried.first, strikes: 0, others_pass: false }),
        };
        accused.strikes += 1;
        if !accused.others_pass {
            self.tries_other = true;
            return TrialVerdict::TakeAnew;
        }
        self.next = now + STRIKE_PAUSE;
        if accused.strikes >= POISON_STRIKES {
            (self.accused, self.killed) = (None, None);
            self.next = now;
            self.doubt = Doubt::default();
            return TrialVerdict::Poison(tried.first);
        }
        TrialVerdict::GoOn
    }

    /// Ends the trial, because no record of the topic waits.
    pub(super) fn note_nothing_left(&mut self) {
        self.is_recovered = true;
    }
}
