//! P1, P3, P4, P7: the agent is killed while something is wrong already: while another program fills its disk, while
//! its store is in memory, and while another agent takes over. What it had answered as durable is there afterwards,
//! once, and the accounts balance.
//!
//! Each test prints its seed and, when it fails, every life of the agent: what was done and for how long. A disk that
//! can be filled needs a mount namespace: without the right to have one, those tests do nothing.

use std::path::PathBuf;
use std::time::Duration;

use pulsegate_standin::{Door, Options};
use pulsegate_tests::agent_process::{Agent, Device, lane_count};
use pulsegate_tests::answered::Answered;
use pulsegate_tests::cloud::{Cloud, Tally};
use pulsegate_tests::small_disk::SmallDisk;
use pulsegate_tests::{PATIENCE, choose_seed, state};
use serde_json::Value;

const KILLS: u64 = 10;
/// The store's log is at most 256 KiB then, and its ballast 768 KiB: both are used up many times in a test.
const DISK: &str = "4m";
/// In milliseconds, how long the agent may work on a disk that is being filled.
const WORK_MS: std::ops::Range<u64> = 5..500;
/// In milliseconds, how long the agent may work in memory.
const IN_MEMORY_MS: std::ops::Range<u64> = 0..200;
/// In milliseconds, how long the agent has room again: its next try comes after a second at most at first.
const ROOM_AGAIN_MS: std::ops::Range<u64> = 0..1_200;
/// In milliseconds, how long before or after the kill of the first agent the second one starts.
const TAKEOVER_MS: std::ops::Range<u64> = 0..60;
/// How soon the other program takes what the store frees.
const FILL_EVERY: Duration = Duration::from_millis(2);
/// Readings in a portion are fewer: enough to outgrow the log within the life of an agent.
const MOST: u64 = 400;
/// Readings that may wait: less than half of what the store takes on [`DISK`].
const MAX_BACKLOG: u64 = 40_000;
/// `EX_TEMPFAIL` of sysexits.h: another agent has the state directory.
const STATE_IN_USE: i32 = 75;
const LANES: [&str; 3] = ["alerts", "events", "readings"];

#[tokio::test]
async fn nothing_answered_is_lost_when_the_agent_is_killed_while_its_disk_is_full() {
    let name = "nothing_answered_is_lost_when_the_agent_is_killed_while_its_disk_is_full";
    let Some(disk) = SmallDisk::enter(name, DISK) else { return };
    let mut trial = Trial::begin(Some(&disk)).await;
    for kill in 0..KILLS {
        let door = trial.open_or_close();
        // Also a start on a disk without any room.
        let has_room = trial.random.bool();
        if has_room {
            disk.make_room();
        }
        let after = Duration::from_millis(trial.random.u64(WORK_MS));
        let before = trial.answered.count();
        let (mut agent, status) = trial.start().await;
        let mut inbox = agent.inbox().await;
        let work = async {
            tokio::time::sleep(after).await;
            agent.sigkill().await;
        };
        let push = trial.answered.push(&mut trial.random, MOST, &mut inbox);
        filling(&disk, async { tokio::join!(work, push) }).await;
        let answered = trial.answered.count() - before;
        let fault = &status["disk"]["fault"];
        eprintln!(
            "{kill}: {door:?}, room {has_room}, fault {fault}, killed after {after:?}, {answered} answered"
        );
    }
    disk.make_room();
    trial.reckon().await;
}

#[tokio::test]
async fn nothing_answered_is_lost_when_the_agent_is_killed_while_its_store_is_in_memory() {
    let name = "nothing_answered_is_lost_when_the_agent_is_killed_while_its_store_is_in_memory";
    let Some(disk) = SmallDisk::enter(name, DISK) else { return };
    let mut trial = Trial::begin(Some(&disk)).await;
    for kill in 0..KILLS {
        let door = trial.open_or_close();
        disk.make_room();
        let before = trial.answered.count();
        let mut agent = trial.start_with_small_backlog().await;
        let mut inbox = agent.inbox().await;
        let is_freed = trial.random.bool();
        let in_memory = Duration::from_millis(trial.random.u64(IN_MEMORY_MS));
        let freed = Duration::from_millis(trial.random.u64(ROOM_AGAIN_MS));
        let work = async {
            // With a file of free pages it may reach its cap first.
            let is_in_memory =
                |status: &Value| status["disk"]["durable"] == false || !is_small(status);
            let wait = agent.wait_status("its store is in memory", PATIENCE, is_in_memory);
            filling(&disk, wait).await;
            filling(&disk, tokio::time::sleep(in_memory)).await;
            if is_freed {
                // Somewhere here the file takes over what is in memory.
                disk.make_room();
                tokio::time::sleep(freed).await;
            }
            agent.sigkill().await;
        };
        let push = trial.answered.push(&mut trial.random, MOST, &mut inbox);
        tokio::join!(work, push);
        let answered = trial.answered.count() - before;
        eprintln!("{kill}: {door:?}, freed {is_freed} for {freed:?}, {answered} answered");
    }
    assert!(trial.answered.in_memory() > 0, "no reading was answered as not durable");
    disk.make_room();
    trial.reckon().await;
}

#[tokio::test]
async fn nothing_answered_is_lost_when_the_agent_is_killed_while_another_one_takes_over() {
    let mut trial = Trial::begin(None).await;
    let state_dir = trial.state_dir.display().to_string();
    let other = trial.cloud.device().set("", "state_dir", &format!("{state_dir:?}"));
    let mut others = Some(tuned(other));
    let (mut first, _) = trial.start().await;
    for kill in 0..KILLS {
        let door = trial.open_or_close();
        let before = trial.answered.count();
        let [after, apart] =
            [WORK_MS, TAKEOVER_MS].map(|range| Duration::from_millis(trial.random.u64(range)));
        let is_early = trial.random.bool();
        let next = others.take().expect("there are two devices");
        others = Some(std::mem::replace(&mut trial.device, next));
        let mut inbox = first.inbox().await;
        let work = async {
            tokio::time::sleep(after).await;
            if is_early {
                let second = trial.device.start();
                tokio::time::sleep(apart).await;
                first.sigkill().await;
                second
            } else {
                first.sigkill().await;
                let mut second = trial.device.start();
                tokio::time::sleep(apart).await;
                second.sigkill().await;
                trial.device.start()
            }
        };
        let push = trial.answered.push(&mut trial.random, MOST, &mut inbox);
        let (mut second, ()) = tokio::join!(work, push);
        let is_refused = until_it_answers(&mut second).await;
        if is_refused {
            second = trial.device.start();
        }
        trial.judge(&mut second).await;
        first = second;
        let answered = trial.answered.count() - before;
        eprintln!(
            "{kill}: {door:?}, early {is_early} by {apart:?}, refused {is_refused}, {answered} answered"
        );
    }
    first.sigkill().await;
    trial.reckon().await;
}

/// A device, its broker, and what was learned in all lives.
struct Trial {
    random: fastrand::Rng,
    cloud: Cloud,
    device: Device,
    state_dir: PathBuf,
    answered: Answered,
}

impl Trial {
    async fn begin(disk: Option<&SmallDisk>) -> Self {
        let seed = choose_seed();
        let cloud = Cloud::start(seed, |_: &mut Options| {}).await;
        let mut device = tuned(cloud.device());
        let mut state_dir = device.state_dir();
        if let Some(disk) = disk {
            state_dir = disk.path().join("state");
            device = device.set("", "state_dir", &format!("{:?}", state_dir.display().to_string()));
        }
        let random = fastrand::Rng::with_seed(seed);
        let answered = disk.map_or_else(Answered::default, |_| Answered::on_poor_disk());
        Self { random, cloud, device, state_dir, answered }
    }

    fn open_or_close(&mut self) -> Door {
        let door = if self.random.bool() { Door::Closed } else { Door::Open };
        self.cloud.broker.set_doors(door);
        door
    }

    /// Starts the agent, and checks what it says of itself.
    async fn start(&mut self) -> (Agent, Value) {
        let mut agent = self.device.start();
        let status = self.judge(&mut agent).await;
        (agent, status)
    }

    /// As [`Trial::start`]; what waits is delivered first, as far as the store might reach its cap otherwise.
    async fn start_with_small_backlog(&mut self) -> Agent {
        let (mut agent, status) = self.start().await;
        if !is_small(&status) {
            self.cloud.broker.set_doors(Door::Open);
            agent.wait_status("most is delivered", PATIENCE, is_small).await;
        }
        agent
    }

    async fn judge(&mut self, agent: &mut Agent) -> Value {
        let status = agent.wait_status("it answers", PATIENCE, |_| true).await;
        self.answered.begin(&status);
        self.assert_balanced(&status);
        status
    }

    fn assert_balanced(&self, status: &Value) {
        for lane in LANES {
            assert_eq!(status["lanes"][lane]["balanced"], true, "{status:#}");
        }
        let recorded = lane_count(status, "readings", "recorded");
        assert!(recorded >= self.answered.count(), "{status:#}");
        assert!(recorded <= self.answered.pushed(), "{status:#}");
        // Another program that takes all room costs nothing that is stored.
        assert_eq!(lane_count(status, "readings", "dropped"), 0, "{status:#}");
    }

    /// The last life: everything is delivered, and compared with what was answered.
    async fn reckon(mut self) {
        self.cloud.broker.set_doors(Door::Open);
        let (mut agent, _) = self.start().await;
        // A file that was full for a moment is tried again within half a minute.
        let is_settled = |status: &Value| {
            let is_sent = LANES.iter().all(|lane| lane_count(status, lane, "pending") == 0);
            is_sent && status["disk"]["fault"].is_null()
        };
        let what = "nothing is left to send, and the file takes writes";
        let status = agent.wait_status(what, PATIENCE, is_settled).await;
        self.assert_balanced(&status);
        assert!(agent.stop().await.success());

        let mut arrived = Tally::default();
        arrived.take(&self.cloud.journal.contents().arrivals, "/readings");
        assert!(lane_count(&status, "readings", "recorded") <= arrived.unique());
        self.answered.assert_arrived(&arrived);
        assert!(self.answered.count() > 500, "too little was answered to prove anything");
        state::assert_sound(&self.state_dir);
    }
}

fn is_small(status: &Value) -> bool {
    lane_count(status, "readings", "pending") < MAX_BACKLOG
}

/// A device that commits and publishes at once.
fn tuned(device: Device) -> Device {
    let batch = "{ bytes = \"1KiB\", delay = \"20ms\" }";
    device.set("publish.readings", "batch", batch).set("buffer", "commit_interval", "\"20ms\"")
}

/// Keeps the disk full until `work` is done.
async fn filling<T>(disk: &SmallDisk, work: impl Future<Output = T>) -> T {
    let fill = async {
        loop {
            disk.fill();
            tokio::time::sleep(FILL_EVERY).await;
        }
    };
    tokio::select! {
        done = work => done,
        () = fill => unreachable!("it goes on for ever"),
    }
}

/// Waits until the agent answers. Returns whether it ended instead, since another one was at work.
async fn until_it_answers(agent: &mut Agent) -> bool {
    let look = async || match (agent.exited(), agent.ask().await) {
        (Some(status), _) => {
            assert_eq!(status.code(), Some(STATE_IN_USE), "it ended");
            Some(true)
        }
        (None, answer) => answer.map(|_| false),
    };
    pulsegate_tests::eventually("it answers, or gives up", PATIENCE, look).await
}
