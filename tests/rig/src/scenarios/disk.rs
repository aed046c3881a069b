//! Disks that fill up, or turn read-only.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use pulsegate_tests::inbox::reading;
use pulsegate_tests::records;
use pulsegate_tests::subscriber::Message;
use rustix::process::Signal;
use serde_json::Value;

use crate::account::Account;
use crate::device::PATIENCE;
use crate::large_store::LargeStore;
use crate::rig::{BELT, INBOX, Rig};

const MAKE_SMALL: &str = "mkfs.ext4 -q -b 1024 -m 0 /dev/vdb 16M && mkdir -p /var/lib/pulsegate && \
                          mount /dev/vdb /var/lib/pulsegate && rmdir /var/lib/pulsegate/lost+found";
/// Takes all the room there is, and what the agent frees: it keeps some in reserve.
const FILL: &str = "systemd-run --quiet --unit=filling sh -c 'while :; do \
                    dd if=/dev/zero bs=1K of=/var/lib/pulsegate/filling oflag=append conv=notrunc; \
                    sleep 0.1; done'";
/// At most one block is free, which [`FILL`] takes within a tenth of a second.
const IS_FULL: &str = "test $(stat --file-system --format=%a /var/lib/pulsegate) -le 1";
const MAKE_ROOM: &str = "systemctl stop filling && rm /var/lib/pulsegate/filling";
/// Handed over while the disk is full; fits into the buffers on the way.
const WAITING: u32 = 200;
const MAKE_CARD: &str = "mkfs.ext4 -q -m 0 /dev/vdb 64M && mkdir -p /var/lib/pulsegate && \
                         mount -o errors=remount-ro /dev/vdb /var/lib/pulsegate && \
                         rmdir /var/lib/pulsegate/lost+found";
/// The kernel's emergency remount, over files that are open for writing, as after an ext4 error on Linux 6.1; of
/// all file systems, so the root has to be given back. (An ext4 error on Linux 6.12 makes reads fail as well.)
const TURN_READ_ONLY: &str = "echo u >/proc/sysrq-trigger; \
                              while touch /var/lib/pulsegate/probe; do sleep 0.1; done; mount -o remount,rw /";
/// An ext4 error, as of a card that gives back what was never written to it. Linux 6.12 shuts the file system: nothing
/// can be read or written until it is mounted anew, for which nobody may have a file of it open.
const FAIL: &str = "echo rig >/sys/fs/ext4/vdb/trigger_fs_error";
/// fsck exits with 1 when it corrected something.
const MEND: &str = "systemctl stop pulsegate && umount /var/lib/pulsegate && \
                    { fsck.ext4 -p -f /dev/vdb || test $? -eq 1; } && \
                    mount -o errors=remount-ro /dev/vdb /var/lib/pulsegate && systemctl start pulsegate";
const IS_REFUSED: &str = "! touch /var/lib/pulsegate/probe";
/// The value of a reading that is handed over while the card is read-only.
const LIVE: f64 = 777.0;
/// A rule on what only [`alert_arrives`] hands over.
pub(super) const HOT: &str = "[[rule]]\nname = \"hot\"\non = \"temperature\"\nabove = 80\n";
/// Readings that fill most of a partition of so many MiB, and leave the store some hundred KiB below its cap: at its cap
/// it gives up its oldest ones, also on a disk that another program has filled.
const BACKLOG: usize = 86_000;
const PARTITION_MIB: u64 = 12;

/// P3, P7: on a full disk the agent stays up, and says so; with room again it goes on, and what it
/// answered arrives.
pub(super) async fn disk_full(rig: &mut Rig) -> Result<()> {
    rig.device.sh(MAKE_SMALL).await?;
    rig.online(INBOX).await?;
    let pid = rig.agent_pid().await?;
    let (mut inbox, answer) = rig.device.inbox(&reading("meter", "count", 0.0)).await?;
    let mut answered = vec![name(&answer)?];

    rig.device.sh(FILL).await?;
    rig.device.wait_sh("the partition is full", IS_FULL).await?;
    for sent in 1..=WAITING {
        let line = reading("meter", "count", f64::from(sent)).to_string();
        ensure!(inbox.sender.send(&line).await, "the inbox hung up");
    }
    let full = |status: &Value| status["degraded"].to_string().contains("full");
    let status = rig.device.wait_status("the full disk is told", full).await?;
    ensure!(rig.agent_pid().await? == pid, "it was started again");
    rig.saw(format!(
        "on a full disk it stays up after {WAITING} readings, degraded: {}",
        status["degraded"]
    ));

    rig.device.sh(MAKE_ROOM).await?;
    for _ in 0..WAITING {
        let answer = inbox.answers.next().await.context("the inbox hung up")?;
        answered.push(name(&answer)?);
    }
    rig.device.wait_status("it is well again", |status| !full(status)).await?;
    let (_, answer) = rig.device.inbox(&reading("meter", "count", -1.0)).await?;
    answered.push(name(&answer)?);
    ensure!(rig.agent_pid().await? == pid, "it was started again");
    let status = rig.drained().await?;

    let account = Account::of(&rig.site.subscriber)?;
    for name in &answered {
        account.get(name).with_context(|| format!("{name} was answered and is lost"))?;
    }
    account.is_without_holes()?;
    let dropped = &status["lanes"]["readings"]["dropped"];
    ensure!(dropped == 0, "{dropped} dropped, though another program took the room");
    rig.saw(format!(
        "with room again {} readings, {WAITING} of them handed over meanwhile, were answered and arrived; \
         no hole",
        answered.len(),
    ));
    Ok(())
}

/// P1, P3, P6, P7: a backlog on a partition without any room left is delivered over a link that comes up.
pub(super) async fn full_partition(rig: &mut Rig) -> Result<()> {
    let store = LargeStore::fill(rig, BACKLOG, Signal::TERM).await?;
    store.mount(rig, PARTITION_MIB, 1024).await?;
    drop(store);
    rig.tell_time().await?;
    rig.configure(&format!("{INBOX}{HOT}")).await?;
    rig.site.broker.stop().await;
    rig.start_agent().await?;
    let pid = rig.agent_pid().await?;
    rig.device.inbox(&reading("meter", "count", 0.0)).await?;
    rig.device.sh(FILL).await?;
    rig.device.wait_sh("the partition is full", IS_FULL).await?;
    // A full disk shows when something has to be written that the store has kept no room for.
    let written: Vec<Value> = (0..WAITING).map(|n| reading("meter", "count", n.into())).collect();
    let _unanswered = rig.device.hand_over(&written).await?;
    let all = BACKLOG as u64 + u64::from(WAITING);
    let is_decided = |status: &Value| is_named(&["full"])(status) || pending(status) >= all;
    let status =
        rig.device.wait_status("all are stored, or the cause is named", is_decided).await?;
    rig.saw(format!(
        "{BACKLOG} readings waiting on a partition of {PARTITION_MIB} MiB without room; degraded: {}",
        status["degraded"]
    ));

    rig.site.broker.start_again().await;
    let began = now();
    let few_wait = |status: &Value| pending(status) < u64::from(WAITING);
    rig.device.wait_status("the backlog is delivered", few_wait).await?;
    let drained = seconds_since(began);
    let delay = alert_arrives(rig).await?;
    rig.device.sh(IS_FULL).await?;
    rig.saw(format!(
        "the link took them in {drained:.0} s; an alert arrived {delay:.1} s after its reading, the partition still full"
    ));

    rig.device.sh(MAKE_ROOM).await?;
    is_whole_again(rig, pid).await
}

/// P1, P3, P6, P7: while the card is read-only, readings and alerts go to the cloud from memory. The file is taken up
/// again as soon as the card can be written.
pub(super) async fn read_only_card(rig: &mut Rig) -> Result<()> {
    rig.device.sh(MAKE_CARD).await?;
    rig.online(&format!("{INBOX}{HOT}{BELT}")).await?;
    let pid = rig.agent_pid().await?;
    rig.device.inbox(&reading("meter", "count", 0.0)).await?;

    rig.device.sh(TURN_READ_ONLY).await?;
    data_flows(rig, &["read_only"]).await?;
    rig.device.sh("mount -o remount,rw /var/lib/pulsegate").await?;
    is_whole_again(rig, pid).await
}

/// P1, P3, P4, P6, P7: after an ext4 error, readings and alerts go to the cloud from memory, though the file cannot even be
/// read. The service need not be stopped for that, only to mount the file system anew; it then goes on with what it had
/// stored before.
pub(super) async fn ext4_error(rig: &mut Rig) -> Result<()> {
    rig.device.sh(MAKE_CARD).await?;
    rig.online(&format!("{INBOX}{HOT}{BELT}")).await?;
    let (_, answer) = rig.device.inbox(&reading("meter", "count", 0.0)).await?;
    let (stored, pid) = (name(&answer)?, rig.agent_pid().await?);

    rig.device.sh(FAIL).await?;
    data_flows(rig, &["io_error", "read_only"]).await?;
    ensure!(rig.agent_pid().await? == pid, "it was started again");
    let began = now();
    rig.device.sh(MEND).await?;
    rig.saw(format!("stopped, checked, mounted anew and started in {:.0} s", seconds_since(began)));
    let pid = rig.agent_pid().await?;
    let account = is_well_again(rig, pid).await?;
    // The second start goes on behind the last place in the file, which places in memory had as well.
    account.get(&stored).context("what was stored before the error is lost")?;
    Ok(())
}

/// While the card refuses writes, the status names the cause, and a reading and an alert reach the cloud.
async fn data_flows(rig: &mut Rig, causes: &'static [&'static str]) -> Result<()> {
    let began = now();
    let status = rig.device.wait_status("the cause is named", is_named(causes)).await?;
    let (named, degraded) = (seconds_since(began), status["degraded"].to_string());
    let before = rig.site.subscriber.len();
    let _unanswered = rig.device.hand_over(&[reading("meter", "count", LIVE)]).await?;
    let is_live = |record: &Value| record["value"] == LIVE;
    let live =
        |messages: &[Message]| records::of(&messages[before..], "/readings").iter().any(is_live);
    let what = "a reading arrives while the card refuses writes";
    rig.site.subscriber.wait_until(what, PATIENCE, live).await;
    let delay = alert_arrives(rig).await?;
    rig.device.sh(IS_REFUSED).await?;
    rig.saw(format!(
        "named after {named:.0} s: {degraded}; a reading and, after {delay:.1} s, an alert arrived"
    ));
    Ok(())
}

/// Hands over a reading above the limit of [`HOT`], and returns how long its alert takes, in seconds.
pub(super) async fn alert_arrives(rig: &mut Rig) -> Result<f64> {
    let count = |alerts: &[Value]| {
        alerts.iter().filter(|alert| alert["rule"] == "hot" && alert["state"] == "raised").count()
    };
    let before = count(&rig.site.subscriber.records("/alerts"));
    let began = now();
    // The first one clears the alert of an earlier call.
    let readings = [20.0, 90.0].map(|value| reading("oven", "temperature", value));
    let _unanswered = rig.device.hand_over(&readings).await?;
    let raised = |alerts: &[Value]| count(alerts) > before;
    rig.site.subscriber.wait_records("/alerts", PATIENCE, raised).await;
    Ok(seconds_since(began))
}

/// Waits until the status names no fault of the disk any more, hands over one more reading, and checks the account of all.
async fn is_whole_again(rig: &mut Rig, pid: u32) -> Result<()> {
    is_well_again(rig, pid).await?.is_without_holes()
}

/// As [`is_whole_again`], also where a start begins with places that were lost with the memory of the one before.
async fn is_well_again(rig: &mut Rig, pid: u32) -> Result<Account> {
    let is_well = |status: &Value| status["disk"]["fault"].is_null();
    rig.device.wait_status("it is well again", is_well).await?;
    let (_, answer) = rig.device.inbox(&reading("meter", "count", -1.0)).await?;
    let last = name(&answer)?;
    ensure!(rig.agent_pid().await? == pid, "it was started again");
    let status = rig.silenced().await?;
    let account = Account::of(&rig.site.subscriber)?;
    account.get(&last).with_context(|| format!("{last} was answered and is lost"))?;
    let (told, dropped) = (account.dropped("readings"), &status["lanes"]["readings"]["dropped"]);
    ensure!(*dropped == told, "{told} readings told as dropped: {status:#}");
    rig.saw(format!(
        "afterwards well again by itself; {} records arrived, {told} readings were dropped, each told by a gap",
        account.unique()
    ));
    Ok(account)
}

/// Whether the status names one of these causes, and a sentence of what is degraded tells it.
fn is_named(causes: &'static [&'static str]) -> impl Fn(&Value) -> bool {
    move |status| {
        causes.iter().any(|cause| status["disk"]["fault"] == *cause)
            && status["degraded"].to_string().contains("disk: ")
    }
}

fn pending(status: &Value) -> u64 {
    status["lanes"]["readings"]["pending"].as_u64().unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "how long things take")]
fn now() -> Instant {
    Instant::now()
}

fn seconds_since(began: Instant) -> f64 {
    now().duration_since(began).as_secs_f64()
}

/// The name of a reading that was taken.
fn name(answer: &Value) -> Result<String> {
    let name = answer["id"].as_str().with_context(|| format!("refused: {answer}"))?;
    Ok(name.to_owned())
}
