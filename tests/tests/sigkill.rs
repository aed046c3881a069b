//! P1, P2, P4, P7: the agent is killed at random moments, as by a power cut that spares the disk's
//! cache: two hundred times in all. What it had answered as durable is there afterwards, once.
//!
//! Each test prints its seed and, when it fails, every life of the agent: what was done and for how long.

#![expect(clippy::print_stderr, reason = "the log of a failed test, with its seed")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pulsegate_standin::{Door, Options};
use pulsegate_tests::agent_process::{Device, lane_count};
use pulsegate_tests::cloud::{Cloud, Tally};
use pulsegate_tests::inbox::Inbox;
use pulsegate_tests::{PATIENCE, records};
use serde_json::{Value, json};

const KILLS: u64 = 100;
/// In milliseconds, how long the agent may work before it is killed.
const WORK_MS: std::ops::Range<u64> = 5..250;
/// About twice what it takes to start.
const START_MS: std::ops::Range<u64> = 0..120;
const RELOAD_MS: std::ops::Range<u64> = 0..25;
const LANES: [&str; 3] = ["alerts", "events", "readings"];
const WINDOW: u64 = 16;

#[tokio::test]
async fn nothing_answered_is_lost_when_the_agent_is_killed_at_work() {
    Trial::begin().await.endure(&[Fate::Work, Fate::Work, Fate::Work, Fate::Start]).await;
}

#[tokio::test]
async fn nothing_answered_is_lost_when_the_agent_is_killed_in_a_start_or_a_reload() {
    Trial::begin().await.endure(&[Fate::Work, Fate::Start, Fate::Reload, Fate::Reload]).await;
}

/// When the agent is killed.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// While readings are pushed into it.
    Work,
    /// Before or just when it is ready.
    Start,
    /// Just after it was told to read a new configuration, while readings are pushed into it.
    Reload,
}

/// A device, its broker, and what was learned in all lives.
struct Trial {
    random: fastrand::Rng,
    cloud: Cloud,
    device: Device,
    /// The value of the next reading: no two are alike.
    next: u64,
    /// What was answered as durable: id and value.
    answered: BTreeMap<String, u64>,
    boots: BTreeSet<u64>,
}

impl Trial {
    async fn begin() -> Self {
        let seed = fastrand::u64(..);
        eprintln!("seed {seed}");
        let cloud = Cloud::start(seed, |_: &mut Options| {}).await;
        let batch = "{ bytes = \"1KiB\", delay = \"20ms\" }";
        let device = cloud
            .device()
            .set("publish.readings", "batch", batch)
            .set("buffer", "commit_interval", "\"20ms\"")
            .with(
                "[[rule]]\nname = \"high\"\non = \"count\"\nwindow = { tumbling = \"60s\", \
                 take = \"mean\" }\nabove = 1e9\nthen = [\"alert\"]",
            );
        let (answered, boots) = (BTreeMap::new(), BTreeSet::new());
        let random = fastrand::Rng::with_seed(seed);
        Self { random, cloud, device, next: 0, answered, boots }
    }

    async fn endure(mut self, fates: &[Fate]) {
        for kill in 0..KILLS {
            let door = if self.random.u8(..) < 90 { Door::Closed } else { Door::Open };
            self.cloud.broker.set_doors(door);
            let fate = fates[self.random.usize(..fates.len())];
            let range = match fate {
                Fate::Work => WORK_MS,
                Fate::Start => START_MS,
                Fate::Reload => RELOAD_MS,
            };
            let after = Duration::from_millis(self.random.u64(range));
            let before = self.answered.len();
            self.live(fate, after).await;
            let answered = self.answered.len() - before;
            eprintln!("{kill}: {fate:?}, {door:?}, killed after {after:?}, {answered} answered");
        }
        self.reckon().await;
    }

    /// One life of the agent.
    async fn live(&mut self, fate: Fate, after: Duration) {
        let mut agent = self.device.start();
        if let Fate::Start = fate {
            tokio::time::sleep(after).await;
            return agent.sigkill().await;
        }
        let mut inbox = agent.inbox().await;
        let status = agent.ask().await.expect("it answers when its inbox does");
        self.is_sound(&status);
        if let Fate::Reload = fate {
            let interval = format!("\"{}ms\"", self.random.u64(10..40));
            let device = std::mem::replace(&mut self.device, Device::new("spare"));
            self.device = device.set("buffer", "commit_interval", &interval);
        }
        let kill = async {
            if let Fate::Reload = fate {
                self.device.write_config();
                agent.sighup();
            }
            tokio::time::sleep(after).await;
            agent.sigkill().await;
        };
        let push = push(&mut self.random, &mut self.next, &mut inbox);
        let ((), ids) = tokio::join!(kill, push);
        self.note(&status, ids);
    }

    fn note(&mut self, status: &Value, ids: Vec<(String, u64)>) {
        let boot = status["boot"].as_u64().expect("a boot");
        assert!(self.boots.insert(boot), "boot {boot} again");
        assert_eq!(self.boots.last(), Some(&boot), "boots rise");
        for (id, value) in ids {
            let of_boot = records::place(&id).map(|(boot, _)| boot);
            assert_eq!(of_boot, Some(boot), "{id}");
            assert_eq!(self.answered.insert(id.clone(), value), None, "{id} again");
        }
    }

    fn is_sound(&self, status: &Value) {
        for lane in LANES {
            assert_eq!(status["lanes"][lane]["balanced"], true, "{status:#}");
            assert_eq!(lane_count(status, lane, "dropped"), 0, "{status:#}");
        }
        let recorded = lane_count(status, "readings", "recorded");
        assert!(recorded >= self.answered.len() as u64, "{status:#}");
        assert!(recorded <= self.next, "{status:#}");
    }

    /// The last life: everything is delivered, and compared with what was answered.
    async fn reckon(self) {
        self.cloud.broker.set_doors(Door::Open);
        let mut agent = self.device.started().await;
        let nothing_left =
            |status: &Value| LANES.iter().all(|lane| lane_count(status, lane, "pending") == 0);
        let status = agent.wait_status("nothing is left to send", PATIENCE, nothing_left).await;
        self.is_sound(&status);
        assert!(agent.stop().await.success());

        let mut arrived = Tally::default();
        arrived.take(&self.cloud.journal.contents().arrivals, "/readings");
        assert_eq!(lane_count(&status, "readings", "recorded"), arrived.unique());
        for (id, value) in &self.answered {
            let record = arrived.get(id).unwrap_or_else(|| panic!("{id} was answered and is lost"));
            assert_eq!(record["value"].as_u64(), Some(*value), "{record}");
        }
        let values: BTreeSet<u64> =
            arrived.records().filter_map(|record| record["value"].as_u64()).collect();
        assert_eq!(values.len() as u64, arrived.unique(), "a reading was stored twice");
        let most = (KILLS + 1) * WINDOW * arrived.most_in_a_message();
        assert!(arrived.duplicates() <= most, "{} duplicates", arrived.duplicates());
        assert!(self.answered.len() > 500, "too little was answered to prove anything");
        is_whole(&self.device);
    }
}

/// Pushes readings in portions until the agent is gone; returns what it answered.
async fn push(random: &mut fastrand::Rng, next: &mut u64, inbox: &mut Inbox) -> Vec<(String, u64)> {
    let mut answered = Vec::new();
    loop {
        let values: Vec<u64> = (*next..*next + random.u64(1..60)).collect();
        *next += values.len() as u64;
        let line =
            |value: &u64| json!({ "source": "meter", "kind": "count", "value": value }).to_string();
        let lines: Vec<String> = values.iter().map(line).collect();
        let answers = inbox.exchange_all(&lines).await;
        let is_last = answers.len() < lines.len();
        let ids = answers.iter().map(|answer| {
            answer["id"].as_str().unwrap_or_else(|| panic!("refused: {answer}")).to_owned()
        });
        answered.extend(ids.zip(values));
        if is_last {
            return answered;
        }
    }
}

/// The database was never set aside, and SQLite finds no fault with it.
fn is_whole(device: &Device) {
    let path = device.state_dir().join("pulsegate.db");
    let database = rusqlite::Connection::open(path).expect("the store opens");
    let verdict = database.pragma_query_value(None, "integrity_check", |row| row.get(0));
    assert_eq!(verdict, Ok(String::from("ok")));
    drop(database);
    let files = std::fs::read_dir(device.state_dir()).expect("the state directory");
    let names: BTreeSet<String> =
        files.flatten().map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    let known = [
        "boot",
        "reached",
        "pulsegate.db",
        "pulsegate.db.ballast",
        "pulsegate.db.begun",
        "pulsegate.db-shm",
        "pulsegate.db-wal",
    ];
    let strange: Vec<&String> =
        names.iter().filter(|name| !known.contains(&name.as_str())).collect();
    assert!(strange.is_empty(), "left behind: {strange:?}");
}
