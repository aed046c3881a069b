//! P1, P2, P4, P7: the agent is killed at random moments, as by a power cut that spares the disk's
//! cache: two hundred times in all. What it had answered as durable is there afterwards, once.
//!
//! Each test prints its seed and, when it fails, every life of the agent: what was done and for how long.

#![expect(clippy::print_stderr, reason = "the log of a failed test, with its seed")]

use std::collections::BTreeSet;
use std::time::Duration;

use pulsegate_standin::{Door, Options};
use pulsegate_tests::agent_process::{Device, lane_count};
use pulsegate_tests::answered::Answered;
use pulsegate_tests::cloud::{Cloud, Tally};
use pulsegate_tests::{PATIENCE, choose_seed, records, state};
use serde_json::Value;

const KILLS: u64 = 100;
/// In milliseconds, how long the agent may work before it is killed.
const WORK_MS: std::ops::Range<u64> = 5..250;
/// About twice what it takes to start.
const START_MS: std::ops::Range<u64> = 0..120;
const RELOAD_MS: std::ops::Range<u64> = 0..25;
const LANES: [&str; 3] = ["alerts", "events", "readings"];
const WINDOW: u64 = 16;
/// Readings in a portion are fewer.
const MOST: u64 = 60;

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
    answered: Answered,
    boots: BTreeSet<u64>,
}

impl Trial {
    async fn begin() -> Self {
        let seed = choose_seed();
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
        let random = fastrand::Rng::with_seed(seed);
        Self { random, cloud, device, answered: Answered::default(), boots: BTreeSet::new() }
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
            let before = self.answered.count();
            self.live(fate, after).await;
            let answered = self.answered.count() - before;
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
        let before = self.answered.readings().len();
        let push = self.answered.push(&mut self.random, MOST, &mut inbox);
        tokio::join!(kill, push);
        self.note(&status, before);
    }

    /// Checks that boots rise, and that each answer behind the place `before` names this one.
    fn note(&mut self, status: &Value, before: usize) {
        let boot = status["boot"].as_u64().expect("a boot");
        assert!(self.boots.insert(boot), "boot {boot} again");
        assert_eq!(self.boots.last(), Some(&boot), "boots rise");
        for (id, _) in &self.answered.readings()[before..] {
            let of_boot = records::place(id).map(|(boot, _)| boot);
            assert_eq!(of_boot, Some(boot), "{id}");
        }
    }

    fn is_sound(&self, status: &Value) {
        for lane in LANES {
            assert_eq!(status["lanes"][lane]["balanced"], true, "{status:#}");
            assert_eq!(lane_count(status, lane, "dropped"), 0, "{status:#}");
        }
        let recorded = lane_count(status, "readings", "recorded");
        assert!(recorded >= self.answered.count(), "{status:#}");
        assert!(recorded <= self.answered.pushed(), "{status:#}");
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
        self.answered.assert_arrived(&arrived);
        let most = (KILLS + 1) * WINDOW * arrived.most_in_a_message();
        assert!(arrived.duplicates() <= most, "{} duplicates", arrived.duplicates());
        assert!(self.answered.count() > 500, "too little was answered to prove anything");
        state::assert_sound(&self.device.state_dir());
    }
}
