//! The power cut: QEMU is killed at a random moment while readings pour in, and the machine boots
//! cold from the disk that this leaves behind.
//!
//! QEMU holds what the guest has not flushed partly in its own memory, so such writes are lost with
//! it, as those in a card's cache are. What its page cache had taken over is not.

use std::collections::BTreeMap;
use std::time::Duration;

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
const TABLES: &str = "[[inbox]]\npath = \"/run/pulsegate/inbox.sock\"\n\
                      [publish.readings]\nbatch = { bytes = \"5KiB\", delay = \"1s\" }\n";

/// What is known of all lives together.
#[derive(Debug, Default)]
struct Trial {
    /// The value of the next reading: no two are alike.
    next: u64,
    /// What was answered as durable: name and value.
    answered: BTreeMap<String, u64>,
}

pub(crate) async fn power_cut(rig: &mut Rig, cuts: u32) -> Result<()> {
    rig.online(TABLES).await?;
    rig.device.sh("systemctl enable pulsegate && sync").await?;

    let mut trial = Trial::default();
    for cut_number in 1..=cuts {
        let (mut inbox, _) = trial.greet(&mut rig.device).await?;
        let work = Duration::from_millis(rig.random.u64(WORK_MS));
        let cut = async {
            tokio::time::sleep(work).await;
            rig.device.power_cut().await;
        };
        let ((), pushed) = tokio::join!(cut, trial.push(&mut rig.random, &mut inbox));
        pushed?;
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

fn line(value: u64) -> Value {
    let mut line = reading("meter", "count", 0.0);
    line["value"] = value.into();
    line
}
