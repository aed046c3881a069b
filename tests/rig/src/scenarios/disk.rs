//! Disks that fill up.

use anyhow::{Context as _, Result, ensure};
use pulsegate_tests::inbox::reading;
use serde_json::Value;

use crate::account::Account;
use crate::rig::{INBOX, Rig};

const STORE: &str = "/var/lib/pulsegate";
const MAKE_SMALL: &str = "mkfs.ext4 -q -b 1024 -m 0 /dev/vdb 16M && mkdir -p /var/lib/pulsegate && \
                          mount /dev/vdb /var/lib/pulsegate && rmdir /var/lib/pulsegate/lost+found";
/// All the room there is, down to the last block.
const FILL: &str = "dd if=/dev/zero of=/var/lib/pulsegate/ballast bs=64K 2>/dev/null; \
                    dd if=/dev/zero bs=1K >>/var/lib/pulsegate/ballast 2>/dev/null; sync; \
                    df --output=avail /var/lib/pulsegate | tail -n 1";

/// P3, P7: on a full disk the agent stays up, and says so; with room again it goes on, and what it
/// had answered arrives.
pub(super) async fn disk_full(rig: &mut Rig) -> Result<()> {
    rig.device.sh(MAKE_SMALL).await?;
    rig.online(INBOX).await?;
    let pid = rig.agent_pid().await?;
    let mut answered = vec![store(rig, 1).await?];
    let available = rig.device.sh(FILL).await?;
    ensure!(available.trim() == "0", "{available} KiB are still free in {STORE}");

    // Bigger than what is left in pages that the store has already: a megabyte of names.
    let long = "x".repeat(60);
    let lines: Vec<String> = (0..8000)
        .map(|number| {
            reading(&format!("{long}{}", number % 10), "count", f64::from(number)).to_string()
        })
        .collect();
    let (mut inbox, answer) = rig.device.inbox(&reading("meter", "count", 2.0)).await?;
    answered.extend(answer["id"].as_str().map(str::to_owned));
    let flood = tokio::time::timeout(crate::device::PATIENCE / 3, inbox.exchange_all(&lines)).await;
    let full = |status: &Value| status["degraded"].to_string().contains("disk");
    let status = rig.device.wait_status("it says that the disk is full", full).await?;
    ensure!(rig.agent_pid().await? == pid, "it was started again");
    rig.saw(format!("disk full: up all the time, degraded: {}", status["degraded"][0]));

    rig.device.sh("rm /var/lib/pulsegate/ballast").await?;
    if let Ok(answers) = flood {
        answered
            .extend(answers.iter().filter_map(|answer| answer["id"].as_str()).map(str::to_owned));
    }
    answered.push(store(rig, 3).await?);
    let status = rig.drained().await?;
    ensure!(!full(&status), "there is room again: {status:#}");
    let account = Account::of(&rig.site.subscriber)?;
    for name in &answered {
        account.get(name).with_context(|| format!("{name} was answered and is lost"))?;
    }
    account.is_without_holes()?;
    rig.saw(format!(
        "with room again: {} answered as durable, all arrived; {} in all, no hole, {} dropped",
        answered.len(),
        account.unique(),
        status["lanes"]["readings"]["dropped"]
    ));
    Ok(())
}

/// Hands over one reading, which has to be taken, and returns its name.
async fn store(rig: &mut Rig, value: u8) -> Result<String> {
    let (_, answer) = rig.device.inbox(&reading("meter", "count", f64::from(value))).await?;
    let name = answer["id"].as_str().with_context(|| format!("refused: {answer}"))?;
    Ok(name.to_owned())
}
