//! The real agent against a broker that misbehaves in every way that it or a network may. Seeds of
//! the faults are printed; with its seed a broker throws the same dice again.

#![expect(clippy::print_stderr, reason = "the seed of a failed test")]

mod faults;
mod poison;
mod priority;
mod refusals;
mod slow_link;
mod watch;
mod window;

use pulsegate_tests::agent_process::Agent;
use pulsegate_tests::given_seed;
use pulsegate_tests::inbox::Inbox;
use serde_json::{Value, json};

/// What publishes small messages soon: many messages for a test, and few readings in each.
const SMALL_BATCHES: &str = "{ bytes = \"1KiB\", delay = \"50ms\" }";

/// Returns seeds for one test: fixed ones, which find what they found before, and a new one; or only the one that
/// the variable `SEED` names.
fn seeds(fixed: usize) -> Vec<u64> {
    if let Some(seed) = given_seed() {
        return vec![seed];
    }
    let mut seeds: Vec<u64> = (1..=fixed as u64).collect();
    seeds.push(fastrand::u64(..));
    eprintln!("seeds: {seeds:?}; `SEED=` runs one alone");
    seeds
}

/// Pushes numbered readings into the inbox, and counts them: each is answered as durable.
struct Feeder {
    inbox: Inbox,
    source: &'static str,
    fed: u64,
}

impl Feeder {
    async fn on(agent: &Agent, source: &'static str) -> Self {
        Self { inbox: agent.inbox().await, source, fed: 0 }
    }

    /// Returns the ids of the readings.
    async fn feed(&mut self, count: u64) -> Vec<String> {
        let line = |value: u64| {
            json!({ "source": self.source, "kind": "count", "value": value }).to_string()
        };
        let lines: Vec<String> = (self.fed..self.fed + count).map(line).collect();
        self.fed += count;
        let answers = self.inbox.exchange_all(&lines).await;
        assert_eq!(answers.len(), lines.len(), "the agent answers every line");
        let id = |answer: Value| {
            answer["id"].as_str().unwrap_or_else(|| panic!("refused: {answer}")).to_owned()
        };
        answers.into_iter().map(id).collect()
    }
}
