//! Disks that fill up.

use anyhow::{Context as _, Result, ensure};
use pulsegate_tests::inbox::reading;
use serde_json::Value;

use crate::account::Account;
use crate::rig::{INBOX, Rig};

const MAKE_SMALL: &str = "mkfs.ext4 -q -b 1024 -m 0 /dev/vdb 16M && mkdir -p /var/lib/pulsegate && \
                          mount /dev/vdb /var/lib/pulsegate && rmdir /var/lib/pulsegate/lost+found";
/// Takes all the room there is, and what the agent frees: it keeps some in reserve.
const FILL: &str = "systemd-run --quiet --unit=filling sh -c 'while :; do \
                    dd if=/dev/zero bs=1K of=/var/lib/pulsegate/filling oflag=append conv=notrunc; \
                    sleep 0.1; done'";
const MAKE_ROOM: &str = "systemctl stop filling && rm /var/lib/pulsegate/filling";
/// Handed over while the disk is full; fits into the buffers on the way.
const WAITING: u32 = 200;

/// P3, P7: on a full disk the agent stays up, and says so; with room again it goes on, and what it
/// answered arrives.
pub(super) async fn disk_full(rig: &mut Rig) -> Result<()> {
    rig.device.sh(MAKE_SMALL).await?;
    rig.online(INBOX).await?;
    let pid = rig.agent_pid().await?;
    let (mut inbox, answer) = rig.device.inbox(&reading("meter", "count", 0.0)).await?;
    let mut answered = vec![name(&answer)?];

    rig.device.sh(FILL).await?;
    let full = |status: &Value| status["degraded"].to_string().contains("disk");
    let mut sent = 0;
    let status = loop {
        // Something has to be written before a full disk shows.
        if sent < WAITING {
            sent += 1;
            let line = reading("meter", "count", f64::from(sent)).to_string();
            ensure!(inbox.sender.send(&line).await, "the inbox hung up");
        }
        match rig.device.status().await? {
            Some(status) if full(&status) => break status,
            _ => {}
        }
        ensure!(rig.agent_pid().await? == pid, "it was started again");
    };
    rig.saw(format!("on a full disk it stays up, degraded: {}", status["degraded"][0]));

    rig.device.sh(MAKE_ROOM).await?;
    for _ in 0..sent {
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
    rig.saw(format!(
        "with room again {} readings, {sent} of them handed over meanwhile, were answered and all arrived; \
         no hole, {} dropped",
        answered.len(),
        status["lanes"]["readings"]["dropped"]
    ));
    Ok(())
}

/// The name of a reading that was taken.
fn name(answer: &Value) -> Result<String> {
    let name = answer["id"].as_str().with_context(|| format!("refused: {answer}"))?;
    Ok(name.to_owned())
}
