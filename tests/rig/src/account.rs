//! The account from the cloud's side: what arrived, each record once, and whether anything is missing
//! that nobody told of.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use anyhow::{Context as _, Result, bail, ensure};
use pulsegate_tests::records;
use pulsegate_tests::subscriber::{Message, Subscriber};
use serde_json::Value;

/// A record's place: the start of the agent that made it, and its number in that.
type Place = (u64, u64);

/// Everything that arrived so far.
#[derive(Debug, Default)]
pub struct Account {
    records: BTreeMap<Place, Value>,
    /// Records that arrived more than once, each time after the first.
    pub duplicates: usize,
}

impl Account {
    /// Takes stock.
    ///
    /// # Errors
    /// A record has no name, or one name stands for two records.
    pub fn of(subscriber: &Subscriber) -> Result<Self> {
        Self::of_messages(&subscriber.messages())
    }

    /// Takes stock of some of what arrived.
    ///
    /// # Errors
    /// As [`Account::of`].
    pub fn of_messages(messages: &[Message]) -> Result<Self> {
        let mut account = Self::default();
        let is_record = |message: &&Message| !message.topic.ends_with("/status");
        for message in messages.iter().filter(is_record) {
            account.take(message)?;
        }
        Ok(account)
    }

    /// How many different records arrived.
    #[must_use]
    pub fn unique(&self) -> usize {
        self.records.len()
    }

    /// The record of this name, as `12k3f9x2ab-345`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.records.get(&place(name).ok()?)
    }

    /// All records.
    pub fn records(&self) -> impl Iterator<Item = &Value> {
        self.records.values()
    }

    /// How many records of a lane gaps tell of as dropped.
    #[must_use]
    pub fn dropped(&self, lane: &str) -> u64 {
        let gaps =
            self.records().filter(|record| record["event"] == "gap" && record["lane"] == lane);
        gaps.filter_map(|gap| gap["count"].as_u64()).sum()
    }

    /// P3: the numbers of all records, which go on from one start to the next, are without a hole, but for
    /// what a gap record tells of.
    ///
    /// # Errors
    /// There is one: says where.
    pub fn is_without_holes(&self) -> Result<()> {
        let told = self.told_as_missing()?;
        let mut next = 1;
        for &(boot, number) in self.records.keys() {
            let missing =
                (next..number).find(|missing| !told.iter().any(|gap| gap.contains(missing)));
            if let Some(missing) = missing {
                bail!("{missing} is missing in silence, before {boot}-{number}");
            }
            ensure!(number >= next, "{boot}-{number} comes after {next}");
            next = number + 1;
        }
        Ok(())
    }

    fn take(&mut self, message: &Message) -> Result<()> {
        for mut record in records::parse(&message.payload) {
            let name = record["seq"].as_str().with_context(|| format!("no `seq`: {record}"))?;
            let place = place(name)?;
            // What is sent again may know the time by now.
            for changing in ["clock", "time", "start", "end"] {
                record.as_object_mut().context("a record is an object")?.remove(changing);
            }
            if let Some(before) = self.records.insert(place, record.clone()) {
                ensure!(before == record, "one name, two records: {before} and {record}");
                self.duplicates += 1;
            }
        }
        Ok(())
    }

    fn told_as_missing(&self) -> Result<Vec<RangeInclusive<u64>>> {
        let gaps = self.records().filter(|record| record["event"] == "gap");
        let end = |gap: &Value, key: &str| place(gap[key].as_str().unwrap_or_default());
        gaps.map(|gap| Ok(end(gap, "first")?.1..=end(gap, "last")?.1)).collect()
    }
}

fn place(name: &str) -> Result<Place> {
    records::place(name).with_context(|| format!("no record id: `{name}`"))
}

/// This machine's wall clock, in seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "what the device's clock is compared with")]
#[must_use]
pub fn wall_seconds() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}
