//! A second agent on the store of the first.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::account::Account;
use crate::device::{CONFIG, PATIENCE};
use crate::rig::{BELT, Rig};

/// Lists owner and mode of each file that the service may write.
const OWNERS: &str = "find /var/lib/pulsegate /run/pulsegate -printf '%p %u:%g %m\\n' | sort";
/// Succeeds when the store has its mark of a first commit, its last file: files that come by themselves
/// would otherwise be taken for those of the second agent.
const HAS_ALL_FILES: &str = "test -e /var/lib/pulsegate/pulsegate.db.begun";
/// The exit status of `EX_TEMPFAIL`: a later start can succeed.
const IN_USE: i64 = 75;
/// Far more than the guest takes to start a program.
const AT_ONCE: Duration = Duration::from_secs(30);

/// P3, P7: `sudo pulsegate run` beside the service ends at once and says what to do; the service loses nothing.
pub(super) async fn second_agent(rig: &mut Rig) -> Result<()> {
    rig.online(BELT).await?;
    let pid = rig.agent_pid().await?;
    rig.device.wait_sh("the store has its mark", HAS_ALL_FILES).await?;
    let before = rig.device.sh(OWNERS).await?;

    let line = format!("timeout --signal=KILL 60 pulsegate run --config {CONFIG}");
    let second = rig.device.machine().guest.run(&line, b"", AT_ONCE).await?;

    ensure!(second.status == IN_USE, "exit status {}: {}{}", second.status, second.out, second.err);
    let words = [format!("another agent (pid {pid}) works on"), "/var/lib/pulsegate".into()];
    for words in words.iter().map(String::as_str).chain(["stop it first: systemctl stop pulsegate"])
    {
        ensure!(second.err.contains(words), "`{words}` is not in: {}", second.err);
    }
    let said = second.err.lines().find(|line| line.contains("another agent")).unwrap_or_default();
    rig.saw(format!("as root it ended with {IN_USE}: {}", said.trim()));

    let count = rig.site.subscriber.records("/readings").len();
    let more = |records: &[Value]| records.len() > count + 3;
    rig.site.subscriber.wait_records("/readings", PATIENCE, more).await;
    ensure!(rig.agent_pid().await? == pid, "the service was started again");
    let after = rig.device.sh(OWNERS).await?;
    ensure!(after == before, "files before:\n{before}\nand after:\n{after}");
    let status = rig.silenced().await?;
    ensure!(status["degraded"] == json!([]), "{status:#}");
    let account = Account::of(&rig.site.subscriber)?;
    account.is_without_holes()?;
    ensure!(account.dropped("readings") == 0, "something was dropped: {status:#}");
    rig.saw(format!(
        "the service went on: {} records, no hole; no file has another owner",
        account.unique()
    ));
    Ok(())
}
