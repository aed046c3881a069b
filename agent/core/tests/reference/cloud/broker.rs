//! A simulated broker: answers in order, hangs up on forbidden topics, and sometimes acknowledges a
//! forbidden message first.

use std::collections::{BTreeSet, VecDeque};

use super::ledger::{Ledger, TOPICS, number};
use crate::imports::*;

/// The broker.
#[derive(Debug, Default)]
pub(super) struct Broker {
    /// The messages in flight, in order.
    pub(super) wire: VecDeque<(MessageId, Batch)>,
    /// The forbidden topics on this connection and on the next, one bit per topic of all lanes.
    forbidden: (u8, u8),
    lies: (bool, bool),
    /// The places of the records on which the broker hangs up.
    pub(super) poisoned: BTreeSet<u64>,
    /// The topics used on this connection.
    used: BTreeSet<(Lane, usize)>,
    /// The topics used on any connection ended by the broker.
    accused: BTreeSet<(Lane, usize)>,
}

/// The answer of the broker to a message.
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

    /// Returns `true` if the broker forbids the topic from the next connection on.
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

    /// Notes the topics used on this connection as possible causes of its end.
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
