//! Trouble below the straps: BlueZ, the system bus, the controller. The agent heals or waits, says what it
//! misses, and loses nothing of its other sources.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::belts::{self, SEVEN, TWO_BELTS, two_straps_and, wait_beats, wait_event};

use crate::device::PATIENCE;
use crate::radio::{self, Radio};
use crate::rig::Rig;
use crate::straps::{Tally, arrived};

/// A source that has nothing to do with Bluetooth.
const AIR: &str = r#"
[[number]]
id = "air"
file = "/run/rig-air"
every = "500ms"
"#;
/// How long it may be quiet: a reading every half second, on a processor that is emulated and shared.
const AIR_PAUSE_MS: i64 = 5000;

/// bluetoothd is restarted, then the bus itself.
pub(super) async fn bus(rig: &mut Rig) -> Result<()> {
    let mut radio = with_air(rig).await?;

    for unit in ["bluetooth", "dbus"] {
        rig.device.sh(&format!("systemctl restart {unit}")).await?;
        healed(rig, &mut radio, &format!("{unit} restarted")).await?;
    }

    nothing_else_was_lost(rig, &mut radio).await
}

/// The controller falls dumb in the midst of everything, and comes back; then the kernel loses it altogether.
pub(super) async fn controller(rig: &mut Rig) -> Result<()> {
    let mut radio = with_air(rig).await?;

    radio.ask(json!({ "do": "vanish" })).await?;
    let lost = wait_event(rig, "source_lost", "7", 1).await;
    radio.plug(&mut rig.device).await?;
    healed(rig, &mut radio, &format!("the controller was dumb ({})", lost["reason"])).await?;

    // Plugged in anew while nobody listens, or its last words would be taken for its first.
    radio.ask(json!({ "do": "vanish" })).await?;
    rig.device.sh("systemctl stop rig-radio").await?;
    radio.plug(&mut rig.device).await?;
    wait_event(rig, "source_lost", "7", 2).await;
    no_reading(rig, "7", "no Bluetooth adapter").await?;
    rig.device.sh("systemctl start rig-radio").await?;
    healed(rig, &mut radio, "the kernel had no controller").await?;

    nothing_else_was_lost(rig, &mut radio).await
}

/// Neither controller nor bluetoothd; then a bluetoothd without a controller; then both (P7).
pub(super) async fn no_bluetooth(rig: &mut Rig) -> Result<()> {
    let mut radio = Radio::start()?;
    belts::add(&mut radio, SEVEN).await?;
    rig.device.sh("systemctl mask --quiet --now bluetooth; echo 21.5 >/run/rig-air").await?;
    rig.online(&format!("{TWO_BELTS}{AIR}")).await?;
    wait_air(rig, 3).await;
    let reason = no_reading(rig, "7", "bluetooth.service is masked").await?;
    rig.saw(format!("without bluetoothd: \"{reason}\", and the other source is published"));

    rig.device.sh("systemctl unmask --quiet bluetooth").await?;
    let reason =
        no_reading(rig, "7", "no answer within 5s; the kernel has no Bluetooth controller").await?;
    rig.saw(format!(
        "without a controller, for want of which bluetoothd is not started: \"{reason}\""
    ));

    radio.plug(&mut rig.device).await?;
    radio::attach(&mut rig.device).await?;
    let began = Instant::now();
    wait_beats(rig, "7", 2).await;
    rig.saw(format!("with both: heard {:.1} s after", began.elapsed().as_secs_f64()));
    let seven = Tally::close(&mut radio, &rig.site.subscriber, "7").await?;
    assert_eq!((seven.in_order(), seven.missing()), (seven.sent.len(), Vec::new()));
    Ok(())
}

async fn with_air(rig: &mut Rig) -> Result<Radio> {
    rig.device.sh("echo 21.5 >/run/rig-air").await?;
    let radio = two_straps_and(rig, AIR).await?;
    wait_air(rig, 1).await;
    Ok(radio)
}

/// Waits until both straps are heard again, and notes how long that took.
async fn healed(rig: &mut Rig, radio: &mut Radio, what: &str) -> Result<()> {
    let began = Instant::now();
    for strap in ["7", "8"] {
        let cloud = &rig.site.subscriber;
        let last = arrived(&cloud.records("/readings"), strap).last().copied();
        let newer = |records: &[Value]| {
            arrived(records, strap).last().copied() > last.map(|last| last + 20)
        };
        // Twenty numbers on, so that what was still on its way is not taken for a healed link.
        cloud.wait_records("/readings", PATIENCE, newer).await;
        radio.wait(strap, "its link stands", |strap| strap.is_connected()).await?;
    }
    rig.saw(format!("{what}: both are heard again after {:.1} s", began.elapsed().as_secs_f64()));
    Ok(())
}

/// One start, no hole, no pause of the source that had nothing to do with it; and of the straps only what they
/// sent while nobody could hear.
async fn nothing_else_was_lost(rig: &mut Rig, radio: &mut Radio) -> Result<()> {
    for strap in ["7", "8"] {
        let account = Tally::close(radio, &rig.site.subscriber, strap).await?;
        let arrived = account.in_order();
        let missing = account.missing().len();
        rig.saw(format!(
            "{strap}: {arrived} of {} arrived once, {missing} fell into the outages",
            account.sent.len()
        ));
    }
    let (records, starts) = belts::without_holes(rig)?;
    assert_eq!(starts, 1, "the agent was started again");
    let pause = longest_pause_ms(&rig.site.subscriber.records("/readings"))?;
    ensure!(pause <= AIR_PAUSE_MS, "`air` paused for {pause} ms");
    rig.saw(format!(
        "{records} records without a hole, of one start; `air` never paused longer than {pause} ms"
    ));
    Ok(())
}

async fn wait_air(rig: &Rig, count: usize) {
    let enough =
        |records: &[Value]| records.iter().filter(|r| r["source"] == "air").count() >= count;
    rig.site.subscriber.wait_records("/readings", PATIENCE, enough).await;
}

fn longest_pause_ms(records: &[Value]) -> Result<i64> {
    let of_air = records.iter().filter(|record| record["source"] == "air");
    let mut times = Vec::new();
    for record in of_air {
        let time: jiff::Timestamp = record["time"].as_str().unwrap_or_default().parse()?;
        times.push(time.as_millisecond());
    }
    times.sort_unstable();
    Ok(times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default())
}

/// Waits until the agent says of a source that there is none, for this reason, and returns what it says.
async fn no_reading(rig: &mut Rig, source: &str, reason: &str) -> Result<String> {
    let said = |status: &Value| -> Option<String> {
        let sources = status["sources"].as_array()?;
        let of = sources.iter().find(|one| one["source"] == source)?;
        of["no_reading"].as_str().filter(|said| said.contains(reason)).map(str::to_owned)
    };
    let status =
        rig.device.wait_status("the agent says so", |status| said(status).is_some()).await?;
    Ok(said(&status).unwrap_or_default())
}
