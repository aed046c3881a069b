//! What must hold at any moment, whatever the broker does.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use pulsegate_tests::agent_process::{Agent, lane_count};
use pulsegate_tests::cloud::{Cloud, Tally};
use pulsegate_tests::records;
use serde_json::Value;

/// How long everything that is left may take, on a busy machine.
const CATCH_UP: Duration = Duration::from_secs(90);
const LANES: [&str; 3] = ["alerts", "events", "readings"];

/// Watches an agent and its broker side by side.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// By lane: the arrivals' records.
    parsed: HashMap<u64, (&'static str, Vec<String>)>,
}

impl Watch {
    /// P2: no more is delivered than was acknowledged. P3: the accounts balance. Returns the status.
    pub(crate) async fn look(&mut self, agent: &Agent, cloud: &Cloud) -> Value {
        let status = agent.ask().await.expect("the agent answers");
        // What was acknowledged since the status was made is no fault.
        let acknowledged = self.acknowledged(cloud);
        for lane in LANES {
            let count = |of: &str| lane_count(&status, lane, of);
            let sum = count("delivered") + count("pending") + count("dropped");
            assert_eq!(count("recorded"), sum, "{lane}: {status:#}");
            let proven = acknowledged.get(lane).map_or(0, HashSet::len) as u64;
            assert!(count("delivered") <= proven, "{lane}: {proven} acknowledged; {status:#}");
        }
        status
    }

    /// Waits until nothing is left to send; then every record is delivered, or dropped and said to be.
    /// Returns the last status.
    pub(crate) async fn catch_up(&mut self, agent: &mut Agent, cloud: &Cloud) -> Value {
        let nothing_left =
            |status: &Value| LANES.iter().all(|lane| lane_count(status, lane, "pending") == 0);
        agent.wait_status("nothing is left to send", CATCH_UP, nothing_left).await;
        let status = self.look(agent, cloud).await;
        let contents = cloud.journal.contents();
        for lane in LANES {
            let mut tally = Tally::default();
            tally.take(&contents.arrivals, lane);
            let arrived = tally.unique();
            let delivered = lane_count(&status, lane, "delivered");
            assert!(delivered <= arrived, "{lane}: {arrived} arrived; {status:#}");
            if lane_count(&status, lane, "dropped") == 0 {
                assert_eq!(lane_count(&status, lane, "recorded"), arrived, "{lane}");
            }
        }
        status
    }

    /// By lane: the different records that were acknowledged.
    fn acknowledged(&mut self, cloud: &Cloud) -> HashMap<&'static str, HashSet<&str>> {
        let contents = cloud.journal.contents();
        for arrival in &contents.arrivals {
            let Some(lane) = LANES.into_iter().find(|lane| arrival.topic.ends_with(lane)) else {
                continue;
            };
            self.parsed.entry(arrival.number).or_insert_with(|| {
                let records = records::parse(&arrival.payload);
                let seq = |record: &Value| record["seq"].as_str().expect("a `seq`").to_owned();
                (lane, records.iter().map(seq).collect())
            });
        }
        let mut unique = HashMap::<_, HashSet<&str>>::new();
        for number in &contents.acknowledged {
            if let Some((lane, seqs)) = self.parsed.get(number) {
                unique.entry(*lane).or_default().extend(seqs.iter().map(String::as_str));
            }
        }
        unique
    }
}

/// How many messages of records came more than once.
pub(crate) fn repeated_messages(cloud: &Cloud) -> usize {
    let contents = cloud.journal.contents();
    let mut seen = HashSet::new();
    let of_records = |topic: &str| LANES.iter().any(|lane| topic.ends_with(lane));
    let arrivals = contents.arrivals.iter().filter(|arrival| of_records(&arrival.topic));
    arrivals.filter(|arrival| !seen.insert(arrival.payload.clone())).count()
}

/// Every record of the event `gap` that arrived.
pub(crate) fn gaps(cloud: &Cloud) -> Vec<Value> {
    let mut tally = Tally::default();
    tally.take(&cloud.journal.contents().arrivals, "events");
    tally.records().filter(|record| record["event"] == "gap").cloned().collect()
}
