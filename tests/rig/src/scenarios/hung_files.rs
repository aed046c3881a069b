//! Number files that never answer, as those of a dead 1-wire bus.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::service;
use crate::device::PATIENCE;
use crate::rig::Rig;

/// One more than the agent's threads for such reads once were.
const HUNG: u32 = 9;
/// A pipe without a writer blocks its reader for ever.
const MAKE: &str =
    "mkdir -p /run/bus && cd /run/bus && mkfifo 1 2 3 4 5 6 7 8 9 && echo 21.5 >good";
/// Readings of the good file, one a second: some watchdog periods of `service::IMPATIENT`.
const READINGS: usize = 25;

/// P7: nine files that hang keep nothing else waiting: not the link, not a good file, not the status, not the watchdog.
pub(super) async fn hung_files(rig: &mut Rig) -> Result<()> {
    rig.device.sh(MAKE).await?;
    service::be_impatient(rig).await?;
    let mut tables = number("good", "good");
    for hung in 1..=HUNG {
        tables += &number(&format!("hung-{hung}"), &hung.to_string());
    }
    rig.online(&tables).await?;
    let pid = rig.agent_pid().await?;

    let is_good = |record: &&Value| record["source"] == "good" && record["value"] == 21.5;
    let enough = |records: &[Value]| records.iter().filter(is_good).count() >= READINGS;
    rig.site.subscriber.wait_records("/readings", PATIENCE, enough).await;
    let all_named = |status: &Value| {
        let degraded = status["degraded"].to_string();
        (1..=HUNG).all(|hung| degraded.contains(&format!("`hung-{hung}`")))
    };
    let status = rig.device.wait_status("each that hangs is named", all_named).await?;

    ensure!(status["link"]["state"] == "up", "{status:#}");
    let good = !status["degraded"].to_string().contains("`good`");
    ensure!(good, "the good one is named, too: {status:#}");
    let restarts = rig.device.sh("systemctl show -P NRestarts pulsegate").await?;
    ensure!(restarts == "0" && rig.agent_pid().await? == pid, "started again {restarts} times");
    rig.saw(format!(
        "link up, {READINGS} readings of the good file, the watchdog of 10 s content; the first sentence of {HUNG}: {}",
        status["degraded"][0]
    ));
    Ok(())
}

fn number(id: &str, file: &str) -> String {
    let mut table = String::new();
    writeln!(table, "[[number]]\nid = \"{id}\"\nfile = \"/run/bus/{file}\"\nevery = \"1s\"")
        .expect("a string takes all");
    table
}
