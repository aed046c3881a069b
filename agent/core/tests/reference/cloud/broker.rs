//! A simulated broker: answers in order, hangs up on forbidden topics, and sometimes acknowledges a
//! forbidden message first.

use std::collections::{BTreeSet, VecDeque};

use super::ledger::{Ledger, TOPICS, number};
use crate::imports::*;

/// The bytes a second of a link that delays no message of the test.
pub(super) const FAST: u64 = 100_000_000;

/// The broker, and the link to the broker.
#[derive(Debug)]
pub(super) struct Broker {
    /// The messages in flight, in order, with the time of arrival of each.
    pub(super) wire: VecDeque<(MessageId, Batch, Mono)>,
    pub(super) bytes_per_second: u64,
    /// The number of messages that arrived on this connection.
    arrivals: usize,
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

impl Default for Broker {
    fn default() -> Self {
        Self {
            wire: VecDeque::new(),
            bytes_per_second: FAST,
            arrivals: 0,
            forbidden: (0, 0),
            lies: (false, false),
            poisoned: BTreeSet::new(),
            used: BTreeSet::new(),
            accused: BTreeSet::new(),
        }
    }
}

impl Broker {
    pub(super) fn forbid(&mut self, topics: u8, lies: bool) {
        (self.forbidden.1, self.lies.1) = (topics, lies);
    }

    pub(super) fn connect(&mut self) {
        (self.forbidden.0, self.lies.0) = (self.forbidden.1, self.lies.1);
        self.used.clear();
        self.arrivals = 0;
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

    /// Puts a message on its way, behind those before.
    pub(super) fn send(&mut self, id: MessageId, batch: Batch, now: Mono) {
        self.used.insert((batch.lane, number(&batch.topic)));
        let begins = self.wire.back().map_or(now, |(_, _, arrives)| now.max(*arrives));
        let takes_ms = match self.bytes_per_second {
            FAST => 0,
            rate => (size_bytes(&batch) * 1_000).div_ceil(rate),
        };
        self.wire.push_back((id, batch, Mono(begins.0 + takes_ms)));
    }

    pub(super) fn next_arrival(&self) -> Option<Mono> {
        self.wire.front().map(|(_, _, arrives)| *arrives)
    }

    pub(super) fn take_arrived(&mut self) -> Option<(MessageId, Batch)> {
        let (id, batch, _) = self.wire.pop_front()?;
        self.arrivals += 1;
        Some((id, batch))
    }

    /// Checks that a reading or event joins another one on its way only if the link moves both
    /// within two seconds, once the rate of the link can be known. The broker acknowledges at the
    /// ends of turns: bytes that arrived in two turns may be measured in one.
    pub(super) fn fits_link(&self, batch: &Batch) -> Result<(), String> {
        let on_its_way = || self.wire.iter().map(|(_, batch, _)| batch);
        let is_first = !on_its_way().any(|batch| batch.lane != Lane::Alerts);
        let bytes = on_its_way().map(size_bytes).sum::<u64>() + size_bytes(batch);
        match self.arrivals == 0
            || batch.lane == Lane::Alerts
            || is_first
            || bytes <= self.bytes_per_second * 2
        {
            true => Ok(()),
            false => Err(format!("{bytes} bytes fill a link of {} B/s", self.bytes_per_second)),
        }
    }

    /// Checks the number of messages on their way.
    pub(super) fn fits_window(&self, all: usize, others: usize) -> Result<(), String> {
        let of_others = self.wire.iter().filter(|(_, batch, _)| batch.lane != Lane::Alerts).count();
        match self.wire.len() <= all && of_others <= others {
            true => Ok(()),
            false => Err(format!("{} messages on their way", self.wire.len())),
        }
    }

    /// Notes the topics used on this connection as possible causes of its end.
    pub(super) fn accuse_used(&mut self) {
        self.accused.append(&mut self.used);
    }

    pub(super) fn is_accused(&self, lane: Lane, topic: usize) -> bool {
        self.accused.contains(&(lane, topic))
    }
}

fn size_bytes(batch: &Batch) -> u64 {
    u64::try_from(batch.payload.len() + batch.topic.len()).expect("small")
}

fn is_in(bits: u8, lane: Lane, topic: usize) -> bool {
    bits >> ((lane.index() * TOPICS + topic) % 8) & 1 == 1
}
