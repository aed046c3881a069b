//! The stand-in for the cloud with a journal, and devices that go to it: for tests that want to know
//! what was acknowledged, or to misbehave. Its faults repeat with the seed.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use pulsegate_standin::journal::Contents;
use pulsegate_standin::{Arrival, Broker, End, Faults, Journal, Options};
use serde_json::Value;

use crate::agent_process::Device;
use crate::certs::{Certs, Issued};
use crate::records;

/// The thing that every device here is.
pub const THING: &str = "box";

/// A running stand-in and the authority that its devices trust.
#[derive(Debug)]
pub struct Cloud {
    /// What it does.
    pub broker: Broker,
    /// What it saw.
    pub journal: Journal,
    certs: Certs,
    device: Issued,
}

impl Cloud {
    /// Starts it; `adjust` has the last word on its options.
    ///
    /// # Panics
    /// When it cannot start.
    pub async fn start(seed: u64, adjust: impl FnOnce(&mut Options)) -> Self {
        let certs = Certs::new();
        let device = certs.device(THING);
        let mut options = Options::new(certs.pki()).expect("a server's certificate");
        options.seed = seed;
        let journal = Journal::attach(&mut options);
        adjust(&mut options);
        let broker = Broker::start(options).await.expect("the stand-in starts");
        Self { broker, journal, certs, device }
    }

    /// As [`Cloud::start`], with faults from the beginning.
    pub async fn with_faults(seed: u64, faults: Faults) -> Self {
        Self::start(seed, |options| options.faults = faults).await
    }

    /// A device that goes to it, tries again after a second at the latest, and commits often.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device_at(self.broker.port())
    }

    /// As [`Cloud::device`], but it connects to another port, as that of a [`crate::link::Link`].
    #[must_use]
    pub fn device_at(&self, port: u16) -> Device {
        Device::new(THING)
            .identity(&self.device.files)
            .broker(port, &self.certs.ca())
            .set("link", "retry_max", "\"1s\"")
            .set("link", "keep_alive", "\"5s\"")
            .set("buffer", "commit_interval", "\"100ms\"")
    }

    /// Whether a connection ended by a fault or a cut, and how many did.
    #[must_use]
    pub fn cuts(&self) -> usize {
        let was_cut = |end: &End| match end {
            End::Fault(_) | End::Cut => true,
            End::TurnedAway
            | End::Handshake(_)
            | End::NoConnect
            | End::Refused(_)
            | End::Violated(_)
            | End::KeepAlive
            | End::TakenOver
            | End::Disconnect
            | End::PeerClosed => false,
        };
        let records = self.broker.connection_records();
        records
            .iter()
            .filter_map(|record| record.ended.as_ref())
            .filter(|(_, end)| was_cut(end))
            .count()
    }

    /// Waits until what arrived satisfies `predicate`, which is asked again after each change.
    ///
    /// # Panics
    /// When it does not within `deadline`: says what had arrived, and which faults had struck.
    pub async fn wait(
        &self,
        what: &str,
        deadline: Duration,
        predicate: impl FnMut(&Contents) -> bool,
    ) {
        if let Err(late) = self.journal.wait_until(predicate, deadline).await {
            panic!("{what}: {late}\n{}", self.broker.fault_log());
        }
    }
}

/// How often each record arrived on the topics that end in `topic_end`, by its `seq`. What arrived
/// is parsed once, however often it is asked.
#[derive(Debug, Default)]
pub struct Tally {
    seen: usize,
    most: u64,
    times: HashMap<String, u32>,
    values: BTreeMap<String, Value>,
}

impl Tally {
    /// Takes the arrivals that came since the last time.
    pub fn take(&mut self, arrivals: &[Arrival], topic_end: &str) {
        for arrival in arrivals.iter().skip(self.seen) {
            if arrival.topic.ends_with(topic_end) {
                let records = records::parse(&arrival.payload);
                self.most = self.most.max(records.len() as u64);
                records.into_iter().for_each(|record| self.add(record));
            }
        }
        self.seen = arrivals.len();
    }

    /// How many different records arrived.
    #[must_use]
    pub fn unique(&self) -> u64 {
        self.times.len() as u64
    }

    /// How many came beyond the first of each.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.times.values().map(|times| u64::from(times - 1)).sum()
    }

    /// How many records the fullest message had.
    #[must_use]
    pub fn most_in_a_message(&self) -> u64 {
        self.most
    }

    /// A record by its `seq`.
    #[must_use]
    pub fn get(&self, seq: &str) -> Option<&Value> {
        self.values.get(seq)
    }

    /// Every different record.
    pub fn records(&self) -> impl Iterator<Item = &Value> {
        self.values.values()
    }

    fn add(&mut self, record: Value) {
        let seq = record["seq"].as_str().unwrap_or_else(|| panic!("no `seq` in {record}"));
        let seq = seq.to_owned();
        *self.times.entry(seq.clone()).or_default() += 1;
        let before = self.values.entry(seq).or_insert_with(|| record.clone());
        assert_eq!(*before, record, "two records of one name");
    }
}
