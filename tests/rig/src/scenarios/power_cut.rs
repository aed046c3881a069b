//! The power cut: QEMU is killed at a random moment while readings pour in, and the machine boots
//! cold from the disk that this leaves behind.
//!
//! QEMU holds what the guest has not flushed partly in its own memory, so such writes are lost with
//! it, as those in a card's cache are. What its page cache had taken over is not.
//!
//! Beside them a pulse of ten readings a second, for whose answers nobody waits, shows how much time a cut costs:
//! by this machine's clock, from handing over the first that is lost to the cut.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use pulsegate_tests::inbox::{Inbox, reading};
use serde_json::Value;

use crate::account::Account;
use crate::device::Device;
use crate::rig::{LANES, Rig};

/// In every run of all scenarios.
pub(super) const CUTS: u32 = 3;
/// In milliseconds, how long readings pour in before the cut.
const WORK_MS: std::ops::Range<u64> = 200..4000;
/// Lines that are handed over before their answers are awaited.
const PORTION: std::ops::Range<u64> = 1..60;
/// Between two readings of the pulse.
const PULSE: Duration = Duration::from_millis(100);
/// What a cut may cost: `commit_interval`, and what a reading may take from this machine into the agent, and the agent
/// to commit, both on an emulated processor.
const AT_RISK: Duration = Duration::from_secs(1);
const MARGIN: Duration = Duration::from_secs(1);
const TABLES: &str = "[[inbox]]\npath = \"/run/pulsegate/inbox.sock\"\n\
                      [publish.readings]\nbatch = { bytes = \"5KiB\", delay = \"1s\" }\n";

/// What is known of all lives together.
#[derive(Debug, Default)]
struct Trial {
    /// The value of the next reading: no two are alike.
    next: u64,
    /// What was answered as durable: name and value.
    answered: BTreeMap<String, u64>,
    pulses: Vec<Pulse>,
}

/// The pulse of one life.
#[derive(Debug)]
struct Pulse {
    /// The values, and when each was handed over.
    sent: Vec<(u64, Instant)>,
    cut: Instant,
}

pub(crate) async fn power_cut(rig: &mut Rig, cuts: u32) -> Result<()> {
    rig.online(TABLES).await?;
    rig.device.sh("systemctl enable pulsegate && sync").await?;

    let mut trial = Trial::default();
    for cut_number in 1..=cuts {
        let (mut inbox, _) = trial.greet(&mut rig.device).await?;
        let work = Duration::from_millis(rig.random.u64(WORK_MS));
        let (mut beside, _) = trial.greet(&mut rig.device).await?;
        let life = trial.pulses.len();
        let cut = async {
            let sent = pulse(&mut beside, life, work).await;
            let cut = now();
            rig.device.power_cut().await;
            Pulse { sent, cut }
        };
        let (pulse, pushed) = tokio::join!(cut, trial.push(&mut rig.random, &mut inbox));
        pushed?;
        trial.pulses.push(pulse);
        rig.progress(&format!(
            "cut {cut_number} after {work:?}: {} answered so far",
            trial.answered.len()
        ));
        rig.device.power_on().await?;
    }
    trial.greet(&mut rig.device).await?;

    trial.reckon(rig, cuts).await
}

impl Trial {
    /// The first reading of a life; what is answered is durable.
    async fn greet(&mut self, device: &mut Device) -> Result<(Inbox, u64)> {
        let value = self.take_number();
        let (inbox, answer) = device.inbox(&line(value)).await?;
        self.note(&answer, value)?;
        Ok((inbox, value))
    }

    /// Pushes readings in portions until the power is gone.
    async fn push(&mut self, random: &mut fastrand::Rng, inbox: &mut Inbox) -> Result<()> {
        loop {
            let values: Vec<u64> = (0..random.u64(PORTION)).map(|_| self.take_number()).collect();
            let lines: Vec<String> = values.iter().map(|&value| line(value).to_string()).collect();
            let answers = inbox.exchange_all(&lines).await;
            for (answer, &value) in answers.iter().zip(&values) {
                self.note(answer, value)?;
            }
            if answers.len() < lines.len() {
                return Ok(());
            }
        }
    }

    /// P1, P3, P4: what was answered arrives, once under its name, and nothing is missing in silence.
    async fn reckon(&self, rig: &mut Rig, cuts: u32) -> Result<()> {
        let status = rig.drained().await?;
        for lane in LANES {
            ensure!(status["lanes"][lane]["dropped"] == 0, "dropped {lane}: {status:#}");
        }
        let account = Account::of(&rig.site.subscriber)?;
        for (name, value) in &self.answered {
            let record =
                account.get(name).with_context(|| format!("{name} was answered and is lost"))?;
            ensure!(record["value"].as_u64() == Some(*value), "{name} is not {value}: {record}");
        }
        account.is_without_holes()?;
        let recorded: u64 =
            LANES.iter().filter_map(|lane| status["lanes"][lane]["recorded"].as_u64()).sum();
        ensure!(recorded == u64::try_from(account.unique())?, "{recorded} recorded: {status:#}");
        let costs = self.pulses.iter().map(|pulse| pulse.cost(&account));
        let worst = costs.max().context("no cut")?;
        ensure!(worst <= AT_RISK + MARGIN, "a cut has cost {worst:?}");
        rig.saw(format!(
            "of a reading every {PULSE:?} a cut cost the last {worst:.2?} at most; allowed: {AT_RISK:?} and {MARGIN:?} \
             for the way into the device and the commit"
        ));
        rig.saw(format!(
            "{cuts} cuts: {} readings answered as durable, 0 of them lost; {recorded} recorded, {} arrived, \
             {} of them twice; no hole",
            self.answered.len(),
            account.unique(),
            account.duplicates,
        ));
        Ok(())
    }

    fn take_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn note(&mut self, answer: &Value, value: u64) -> Result<()> {
        let name = answer["id"].as_str().with_context(|| format!("refused: {answer}"))?;
        let before = self.answered.insert(name.to_owned(), value);
        ensure!(before.is_none(), "{name} was given twice");
        Ok(())
    }
}

impl Pulse {
    /// P1: how long before the cut the first reading that is lost was handed over.
    fn cost(&self, account: &Account) -> Duration {
        let arrived: HashSet<u64> = account
            .records()
            .filter(|record| record["source"] == "pulse")
            .filter_map(|record| record["value"].as_u64())
            .collect();
        let lost = self.sent.iter().find(|(value, _)| !arrived.contains(value));
        lost.map_or(Duration::ZERO, |(_, sent)| self.cut.duration_since(*sent))
    }
}

/// Hands over a reading every so often, for as long as there is work; no two values of any life are alike.
async fn pulse(inbox: &mut Inbox, life: usize, work: Duration) -> Vec<(u64, Instant)> {
    let first = u64::try_from(life).unwrap_or_default() * 1000;
    let mut sent = Vec::new();
    let sending = async {
        for value in first.. {
            let mut line = reading("pulse", "count", 0.0);
            line["value"] = value.into();
            sent.push((value, now()));
            if !inbox.sender.send(&line.to_string()).await {
                return;
            }
            tokio::time::sleep(PULSE).await;
        }
    };
    drop(tokio::time::timeout(work, sending).await);
    sent
}

#[expect(clippy::disallowed_methods, reason = "how long before the cut")]
fn now() -> Instant {
    Instant::now()
}

fn line(value: u64) -> Value {
    let mut line = reading("meter", "count", 0.0);
    line["value"] = value.into();
    line
}
