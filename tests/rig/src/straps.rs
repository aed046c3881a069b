//! What the straps sent against what arrived in the cloud, number by number.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use pulsegate_tests::records;
use pulsegate_tests::subscriber::Subscriber;
use serde_json::Value;

use crate::device::PATIENCE;
use crate::radio::Radio;

/// What became of one strap's measurements.
#[derive(Debug)]
pub struct Tally {
    /// The numbers that it sent.
    pub sent: Vec<u64>,
    /// Those that arrived in the cloud, in the order in which the device recorded them.
    pub arrived: Vec<u64>,
}

impl Tally {
    /// Silences a strap for good, waits until the last that it sent is in the cloud, and compares.
    ///
    /// # Errors
    /// The radio does not answer.
    ///
    /// # Panics
    /// When that does not arrive.
    pub async fn close(radio: &mut Radio, cloud: &Subscriber, strap: &str) -> Result<Self> {
        radio.tell(strap, "silence").await?;
        let sent = radio.strap(strap).await?.sent();
        let last = sent.last().copied();
        let all =
            |records: &[Value]| last.is_none_or(|last| arrived(records, strap).contains(&last));
        let records = cloud.wait_records("/readings", PATIENCE, all).await;
        Ok(Self { sent, arrived: arrived(&records, strap) })
    }

    /// What was sent and did not arrive.
    #[must_use]
    pub fn missing(&self) -> Vec<u64> {
        let arrived: BTreeSet<_> = self.arrived.iter().collect();
        self.sent.iter().filter(|number| !arrived.contains(number)).copied().collect()
    }

    /// Asserts that what arrived was sent, each but once and in order; returns how many that are.
    ///
    /// # Panics
    /// When it is not so.
    #[must_use]
    pub fn in_order(&self) -> usize {
        let sent: BTreeSet<_> = self.sent.iter().collect();
        let invented: Vec<_> =
            self.arrived.iter().filter(|number| !sent.contains(number)).collect();
        assert!(invented.is_empty(), "never sent: {invented:?}");
        assert!(
            self.arrived.is_sorted_by(|a, b| a < b),
            "not in order, or twice: {:?}",
            self.arrived
        );
        self.arrived.len()
    }
}

/// The numbers of a strap's measurements among records, each record once, in the order of recording.
#[must_use]
pub fn arrived(records: &[Value], strap: &str) -> Vec<u64> {
    let of_strap = records.iter().filter(|record| record["source"] == strap);
    let numbered =
        of_strap.filter_map(|record| Some((place(record)?, record["energy_kj"].as_u64()?)));
    numbered.collect::<BTreeMap<_, _>>().into_values().collect()
}

/// The start of the agent, and the place in its store.
fn place(record: &Value) -> Option<(u64, u64)> {
    records::place(record["seq"].as_str()?)
}
