//! From power to the first record in the cloud.

use anyhow::Result;

use crate::device::PATIENCE;
use crate::rig::Rig;

pub(super) async fn boot(rig: &mut Rig) -> Result<()> {
    rig.online("[[simulated]]\nid = \"7\"\nkind = \"heart_rate\"\nevery = \"1s\"\nmean = 70\n")
        .await?;

    let arrived =
        rig.site.subscriber.wait_records("/readings", PATIENCE, |records| records.len() >= 3).await;

    assert!(arrived.iter().all(|record| record["source"] == "7"));
    rig.saw(format!("{} heart rates arrived", arrived.len()));
    Ok(())
}
