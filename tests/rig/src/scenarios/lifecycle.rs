//! The package over its life: upgraded with a queue, purged in the end.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::account::Account;
use crate::device::CONFIG;
use crate::package;
use crate::rig::{BELT, Rig};

/// P1, P3: an upgrade keeps configuration, key and queue, and the new one delivers it.
pub(super) async fn upgrade(rig: &mut Rig) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let older = package::older(&rig.package, dir.path())?;
    rig.device.sh("dpkg --purge pulsegate").await?;
    rig.device.install(&older).await?;
    rig.online(BELT).await?;
    let pid = rig.agent_pid().await?;
    let sum = format!("sha256sum {CONFIG} /etc/pulsegate/device.pem.key");
    let before = rig.device.sh(&sum).await?;
    rig.site.broker.stop().await;
    let queued = |status: &Value| status["lanes"]["readings"]["pending"].as_u64() >= Some(5);
    let queue = rig.device.wait_status("a queue grows", queued).await?;

    rig.device.install(&rig.package.clone()).await?;
    let version = rig.device.sh("dpkg-query --show --showformat='${Version}' pulsegate").await?;
    ensure!(version != "0.0.1", "it is still the old one");
    rig.device.wait_status("the new one answers", |status| status["boot"] == 2).await?;
    ensure!(rig.agent_pid().await? != pid, "the old process runs on");
    ensure!(rig.device.sh(&sum).await? == before, "configuration or key were touched");
    rig.site.broker.start_again().await;
    let status = rig.silenced().await?;

    let account = Account::of(&rig.site.subscriber)?;
    account.is_without_holes()?;
    ensure!(status["lanes"]["readings"]["dropped"] == 0, "{status:#}");
    rig.saw(format!(
        "0.0.1 to {version} with {} readings waiting: {} arrived, no hole; configuration and key as they were",
        queue["lanes"]["readings"]["pending"],
        account.unique()
    ));
    Ok(())
}

/// A purge leaves nothing but the user.
pub(super) async fn purge(rig: &mut Rig) -> Result<()> {
    rig.online(BELT).await?;
    rig.device.sh("systemctl enable pulsegate").await?;

    rig.device.sh("rm /root/pulsegate.deb && dpkg --purge pulsegate").await?;

    let left = "find / -xdev -path /proc -prune -o -path /sys -prune -o -name '*pulsegate*' -print";
    let left = rig.device.sh(left).await?;
    ensure!(left.is_empty(), "left behind:\n{left}");
    let state =
        rig.device.sh("systemctl is-active pulsegate || true; pgrep -c pulsegate || true").await?;
    ensure!(state == "inactive\n0", "{state}");
    rig.saw("no file, no unit, no process is left");
    Ok(())
}
