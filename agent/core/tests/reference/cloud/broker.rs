//! A broker that answers in order, hangs up on what it forbids, and sometimes acknowledges that first.

use std::collections::{BTreeSet, VecDeque};

use super::ledger::{Ledger, TOPICS, number};
use crate::imports::*;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Broker {
    /// Messages on their way, in order.
    pub(super) wire: VecDeque<(MessageId, Batch)>,
    /// A bit a topic, over all lanes: on this connection, and on the next.
    forbidden: (u8, u8),
    lies: (bool, bool),
    /// Places of records on which it hangs up.
    pub(super) poisoned: BTreeSet<u64>,
    /// Topics that were used on this connection.
    used: BTreeSet<(Lane, usize)>,
    /// Topics that were used on a connection on which it hung up, ever.
    accused: BTreeSet<(Lane, usize)>,
}

/// What the broker does with a message.
pub(super) struct Answer {
    pub(super) acknowledges: bool,
    pub(super) hangs_up: bool,
}

impl Broker {
    pub(super) fn forbid(&mut self, topics: u8, lies: bool) {
        (self.forbidden.1, self.lies.1) = (topics, lies);
    }

    pub(super) fn connect(&mut self) {
        (self.forbidden.0, self.lies.0) = (self.forbidden.1, self.lies.1);
        self.used.clear();
    }

    pub(super) fn poison(&mut self, ledger: &Ledger, nth: u8) {
        self.poisoned.extend(ledger.nth(usize::from(nth)));
    }

    /// Whether it hangs up on a topic from the next connection on.
    pub(super) fn will_forbid(&self, lane: Lane, topic: usize) -> bool {
        is_in(self.forbidden.1, lane, topic)
    }

    pub(super) fn answer(&self, batch: &Batch, ledger: &mut Ledger) -> Answer {
        let places = ledger.places(batch);
        let is_forbidden = is_in(self.forbidden.0, batch.lane, number(&batch.topic));
        if is_forbidden {
            return Answer { acknowledges: self.lies.0, hangs_up: true };
        }
        if places.iter().any(|place| self.poisoned.contains(place)) {
            return Answer { acknowledges: false, hangs_up: true };
        }
        ledger.arrived.extend(places);
        Answer { acknowledges: true, hangs_up: false }
    }

    pub(super) fn send(&mut self, id: MessageId, batch: Batch) {
        self.used.insert((batch.lane, number(&batch.topic)));
        self.wire.push_back((id, batch));
    }

    /// Whatever was used on this connection may be to blame for its end.
    pub(super) fn accuse_used(&mut self) {
        self.accused.append(&mut self.used);
    }

    pub(super) fn is_accused(&self, lane: Lane, topic: usize) -> bool {
        self.accused.contains(&(lane, topic))
    }
}

fn is_in(bits: u8, lane: Lane, topic: usize) -> bool {
    bits >> ((lane.index() * TOPICS + topic) % 8) & 1 == 1
}
