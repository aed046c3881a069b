//! Readings that a test pushes into an inbox over many lives of an agent, and the ids that the agent answered for those
//! that it promised to be durable.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cloud::Tally;
use crate::inbox::Inbox;

/// Between two portions for memory, so that a small disk has room for all of them when it takes them over.
const IN_MEMORY_PAUSE: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug, Default)]
pub struct Answered {
    /// The value of the next reading: no two are alike.
    next: u64,
    /// Id and value, in the order of the answers.
    readings: Vec<(String, u64)>,
    ids: HashSet<String>,
    /// Whether some may be answered as not durable.
    may_be_in_memory: bool,
    in_memory: u64,
    starts: HashSet<String>,
}

impl Answered {
    /// Those of a device whose disk may refuse writes.
    #[must_use]
    pub fn on_poor_disk() -> Self {
        Self { may_be_in_memory: true, ..Self::default() }
    }

    /// How many readings were answered as not durable.
    #[must_use]
    pub fn in_memory(&self) -> u64 {
        self.in_memory
    }

    /// Notes the start of the agent that a status tells.
    ///
    /// # Panics
    /// When an earlier life had the same.
    pub fn begin(&mut self, status: &Value) {
        let start = status["start"].as_str().expect("a start").to_owned();
        assert!(self.starts.insert(start), "the start of an earlier life: {status:#}");
    }

    /// Pushes readings in portions of fewer than `most` until the agent is gone, and notes its answers. What goes to
    /// memory is pushed more slowly.
    ///
    /// # Panics
    /// When one is refused, answered with the id of an earlier reading, or as not durable on a sound disk.
    pub async fn push(&mut self, random: &mut fastrand::Rng, most: u64, inbox: &mut Inbox) {
        loop {
            let values: Vec<u64> = (self.next..self.next + random.u64(1..most)).collect();
            self.next += values.len() as u64;
            let line = |value: &u64| {
                json!({ "source": "meter", "kind": "count", "value": value }).to_string()
            };
            let lines: Vec<String> = values.iter().map(line).collect();
            let answers = inbox.exchange_all(&lines).await;
            let is_last = answers.len() < lines.len();
            let before = self.in_memory;
            for (answer, value) in answers.iter().zip(values) {
                let id = answer["id"].as_str().unwrap_or_else(|| panic!("refused: {answer}"));
                assert!(self.ids.insert(id.to_owned()), "{id} again");
                if answer["durable"] == false {
                    assert!(self.may_be_in_memory, "not durable on a sound disk: {answer}");
                    self.in_memory += 1;
                    continue;
                }
                self.readings.push((id.to_owned(), value));
            }
            if is_last {
                return;
            }
            if self.in_memory > before {
                tokio::time::sleep(IN_MEMORY_PAUSE).await;
            }
        }
    }

    /// The ids and values of the readings that were answered, in the order of the answers.
    #[must_use]
    pub fn readings(&self) -> &[(String, u64)] {
        &self.readings
    }

    /// How many readings were answered.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.readings.len() as u64
    }

    /// How many readings were pushed.
    #[must_use]
    pub fn pushed(&self) -> u64 {
        self.next
    }

    /// Checks that each answered reading arrived under its id, and no reading under two.
    ///
    /// # Panics
    /// When that is not so.
    pub fn assert_arrived(&self, arrived: &Tally) {
        for (id, value) in &self.readings {
            let record = arrived.get(id).unwrap_or_else(|| panic!("{id} was answered and is lost"));
            assert_eq!(record["value"].as_u64(), Some(*value), "{record}");
        }
        let values: BTreeSet<u64> =
            arrived.records().filter_map(|record| record["value"].as_u64()).collect();
        assert_eq!(values.len() as u64, arrived.unique(), "a reading was stored twice");
    }
}
