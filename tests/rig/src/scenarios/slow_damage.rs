//! A large damaged store on a slow device: long work that the watchdog must not take for a hang, beside which live
//! data flows, and which a kill does not begin again.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use pulsegate_tests::inbox::reading;
use rustix::process::Signal;
use serde_json::Value;

use super::disk::{HOT, alert_arrives};
use super::service;
use crate::account::Account;
use crate::large_store::LargeStore;
use crate::rig::{INBOX, Rig};

/// 100 MB.
const READINGS: usize = 1_150_000;
const DAMAGED_PAGES: usize = 24;
/// Of the scratch disk: room for the store, what is carried over, and the log.
const DISK_MIB: u64 = 448;
/// Beside what emulation already costs.
const SLOW: &str = "[Service]\nCPUQuota=10%\n";
const AT_FULL_SPEED: &str = "systemctl set-property --runtime pulsegate CPUQuota=";
/// How long the device is slow while the store is carried over: longer than the watchdog waits.
const SLOW_FOR: Duration = Duration::from_secs(75);
/// The backlog stays on the device, since the guest would publish it for minutes.
const KEPT_HERE: &str = "[publish.word]\ndrop = [{ source = \"meter\" }]\n";
/// Readings that the guest publishes at once.
const FEW: u64 = 1_000;
const RESTARTS: &str = "systemctl show -P NRestarts pulsegate";
/// How far the store is carried over is told by systemd while the agent starts, and then in its status.
const TELLS_PROGRESS: &str = "systemctl show -P StatusText pulsegate; pulsegate status --json";
/// The new store has its place, and the damaged one is kept.
const IS_COMPLETE: &str =
    "cd /var/lib/pulsegate && test ! -e pulsegate.db.salvage && ls pulsegate.db.damaged-*";
const PAUSE: Duration = Duration::from_secs(1);

/// P3, P6, P7: see the module.
pub(super) async fn slow_damage(rig: &mut Rig) -> Result<()> {
    let began = now();
    let store = LargeStore::fill(rig, READINGS, Signal::KILL).await?;
    store.damage(DAMAGED_PAGES, &mut rig.random)?;
    store.mount(rig, DISK_MIB, 4096).await?;
    let megabytes = store.bytes()? / 1_000_000;
    drop(store);
    rig.progress(&format!("{:.0} s to have the store", seconds_since(began)));
    service::drop_in(rig, "slow", SLOW).await?;
    rig.tell_time().await?;
    rig.configure(&format!("{INBOX}{HOT}{KEPT_HERE}")).await?;
    rig.device.sh("systemctl start --no-block pulsegate").await?;

    let reached = live_through_slowness(rig).await?;
    rig.saw(format!(
        "a store of {megabytes} MB with {DAMAGED_PAGES} damaged pages at a tenth of the speed: {}; 0 restarts",
        reached.told
    ));
    rig.device.sh(AT_FULL_SPEED).await?;
    killed_in_the_middle(rig, reached.percent).await?;
    accounts_balance(rig).await
}

/// How far the store is carried over, and what was seen on the way.
struct ReachedSlowly {
    percent: u64,
    told: String,
}

/// Waits until the store is being carried over, and hands over alerts for longer than the watchdog waits.
async fn live_through_slowness(rig: &mut Rig) -> Result<ReachedSlowly> {
    let is_carried = |status: &Value| status["disk"]["salvage"]["of"].as_u64() > Some(0);
    let status = rig.device.wait_status("the damage is found and told", is_carried).await?;
    ensure!(status["degraded"].to_string().contains("carried over"), "not told: {status:#}");
    let (began, done) = (now(), status["disk"]["salvage"]["done"].clone());
    let (mut alerts, mut longest) = (0_u32, 0.0_f64);
    while now().duration_since(began) < SLOW_FOR {
        longest = longest.max(alert_arrives(rig).await?);
        alerts += 1;
        tokio::time::sleep(PAUSE).await;
    }
    let goes_on = |status: &Value| {
        let salvage = &status["disk"]["salvage"];
        salvage.is_null() || salvage["done"].as_u64() > done.as_u64()
    };
    let status = rig.device.wait_status("the progress rises", goes_on).await?;
    let salvage = &status["disk"]["salvage"];
    ensure!(
        !salvage.is_null(),
        "carried over too soon to tell anything of the watchdog: {status:#}"
    );
    let restarts = rig.device.sh(RESTARTS).await?;
    ensure!(restarts == "0", "started again {restarts} times");
    let percent = progress(rig).await?.context("no progress is told")?;
    let told = format!(
        "{alerts} alerts arrived within {longest:.1} s in {:.0} s, while {percent} % were carried over ({salvage})",
        seconds_since(began)
    );
    Ok(ReachedSlowly { percent, told })
}

/// Kills the agent: the next start goes on behind `percent`.
async fn killed_in_the_middle(rig: &mut Rig, percent: u64) -> Result<()> {
    rig.device.sh("systemctl kill --signal=KILL pulsegate").await?;
    let began = now();
    rig.device.wait_sh("it is started again", &format!("test $({RESTARTS}) -gt 0")).await?;
    let mut first = None;
    let is_well =
        |status: Value| status["disk"]["salvage"].is_null() && status["disk"]["fault"].is_null();
    loop {
        first = match first {
            Some(first) => Some(first),
            None => progress(rig).await?,
        };
        let is_complete = rig.device.machine().guest.try_sh(IS_COMPLETE).await?.status == 0;
        if is_complete && rig.device.status().await?.is_some_and(is_well) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    let first = first.context("no progress was told after the kill")?;
    ensure!(first >= percent, "begins again at {first} % after {percent} %");
    let restarts = rig.device.sh(RESTARTS).await?;
    // It may have started in memory, and then anew in the new store.
    ensure!(["1", "2"].contains(&&*restarts), "started again {restarts} times");
    rig.saw(format!(
        "killed at {percent} %, it went on at {first} %, and was done after {:.0} s at full speed",
        seconds_since(began)
    ));
    Ok(())
}

/// Checks that what is lost to the damage is told by gaps, and that nothing else is lost.
async fn accounts_balance(rig: &mut Rig) -> Result<()> {
    let (_, answer) = rig.device.inbox(&reading("later", "count", 1.0)).await?;
    let name = answer["id"].as_str().with_context(|| format!("refused: {answer}"))?.to_owned();
    wait_filtered(rig).await?;
    let status = rig.silenced().await?;
    let readings = &status["lanes"]["readings"];
    let account = Account::of(&rig.site.subscriber)?;
    account.get(&name).context("what was answered afterwards is lost")?;
    let (told, dropped) = (account.dropped("readings"), readings["dropped"].as_u64());
    ensure!(dropped > Some(0), "no damaged page held a reading: {status:#}");
    ensure!(dropped == Some(told), "{told} readings told as dropped: {status:#}");
    rig.saw(format!(
        "{told} of {} readings lost to the damage, each told by a gap; the account is balanced",
        readings["recorded"]
    ));
    Ok(())
}

/// Waits for as long as the backlog gets smaller, until the filter has held it back. What the filter has not seen yet
/// would be published without it.
async fn wait_filtered(rig: &mut Rig) -> Result<()> {
    let pending = |status: &Value| status["lanes"]["readings"]["pending"].as_u64();
    let is_filtered = |status: &Value| pending(status).is_some_and(|pending| pending < FEW);
    let mut before = u64::MAX;
    while let Err(error) = rig.device.wait_status("the backlog is filtered", is_filtered).await {
        let now = rig.device.status().await?.as_ref().and_then(pending).unwrap_or(before);
        if now >= before {
            return Err(error);
        }
        before = now;
    }
    Ok(())
}

/// How many percent of the store are carried over; `None` while nothing is told.
async fn progress(rig: &mut Rig) -> Result<Option<u64>> {
    let text = rig.device.machine().guest.try_sh(TELLS_PROGRESS).await?.out;
    let percent = text.split_once("to a new one: ").and_then(|(_, rest)| rest.split_once(" %"));
    percent.map(|(percent, _)| percent.parse().context("no number")).transpose()
}

#[expect(clippy::disallowed_methods, reason = "how long things take")]
fn now() -> Instant {
    Instant::now()
}

fn seconds_since(began: Instant) -> f64 {
    now().duration_since(began).as_secs_f64()
}
