//! From power to the first record in the cloud, without network and clock at first.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::account::wall_seconds;
use crate::device::PATIENCE;
use crate::rig::{BELT, Rig};

/// How far a published time may be from this machine's: the guest's clock is set over a network that
/// takes its time.
const TOLERANCE_S: f64 = 3.0;

const RULE: &str = "[[rule]]\nname = \"fast\"\non = \"heart_rate\"\nabove = 20\n";

/// P7, P8: the agent works before there is network or clock, and what it took then is published with
/// the right time.
pub(super) async fn boot(rig: &mut Rig) -> Result<()> {
    rig.configure(BELT).await?;
    rig.device.sh("systemctl enable pulsegate && sync").await?;
    rig.device.power_cut().await;
    let powered = wall_seconds();
    rig.device.power_on().await?;
    rig.device.machine().set_link(false).await?;

    let recorded = |status: &Value| status["lanes"]["readings"]["recorded"].as_u64() >= Some(3);
    let status = rig.device.wait_status("it records without network and clock", recorded).await?;
    ensure!(status["clock"]["set"] == false, "who set the clock? {status:#}");
    ensure!(status["link"]["state"] != "up", "the cable is out: {status:#}");
    let ready =
        rig.device.sh("systemctl is-active pulsegate; stat -c %U%a /etc/pulsegate/device.pem.key");
    ensure!(ready.await? == "active\nroot600", "it is not active, or others can read the key");
    rig.saw("active without network and clock, 3 readings stored; its key is root's alone");

    rig.device.machine().set_link(true).await?;
    rig.tell_time().await?;
    let told = wall_seconds();
    let has_seen_later = |records: &[Value]| records.iter().any(|record| time_of(record) > told);
    let records = rig.site.subscriber.wait_records("/readings", PATIENCE, has_seen_later).await;

    let first = records.iter().map(time_of).fold(f64::INFINITY, f64::min);
    let flagged = records.iter().filter(|record| !record["clock"].is_null()).count();
    ensure!(records.iter().all(|record| record["source"] == "7"), "{records:?}");
    ensure!(flagged == 0, "{flagged} of {} have no right time", records.len());
    ensure!(
        first > powered - TOLERANCE_S && first < told,
        "the first is of {:.1} s after power on",
        first - powered
    );
    rig.saw(format!(
        "{} heart rates arrived, the first taken {:.1} s after power on and {:.1} s before the clock was set, \
         each with the right time",
        records.len(),
        first - powered,
        told - first
    ));
    Ok(())
}

/// P8: with a clock that nobody has set, which systemd has put at the date of its own build, an alert
/// goes out at once, flagged; readings wait for the right time.
pub(super) async fn unset_clock(rig: &mut Rig) -> Result<()> {
    rig.configure(&format!("{BELT}{RULE}")).await?;
    rig.start_agent().await?;
    let began = wall_seconds();

    let alerts = rig.site.subscriber.wait_records("/alerts", PATIENCE, |alerts| !alerts.is_empty());
    let alert = alerts.await.remove(0);
    ensure!(alert["clock"] == "unset" && alert["state"] == "raised", "{alert}");
    rig.saw(format!("the alert came {:.1} s after the start, flagged", wall_seconds() - began));

    readings_have_the_right_time(rig, began).await
}

/// P7, P8: in 1970 no certificate is valid yet, so there is no link; once the clock is set everything
/// comes, with the right time.
pub(super) async fn in_1970(rig: &mut Rig) -> Result<()> {
    // A day, since the kernel takes no time before its own start, which on a loaded machine is minutes ago.
    rig.device.sh("systemctl stop systemd-timesyncd && date --set=@86400").await?;
    rig.configure(&format!("{BELT}{RULE}")).await?;
    rig.start_agent().await?;
    let began = wall_seconds();
    let recorded = |status: &Value| status["lanes"]["readings"]["recorded"].as_u64() >= Some(3);
    let status = rig.device.wait_status("it records in 1970", recorded).await?;
    ensure!(status["link"]["state"] != "up", "a certificate from before its time: {status:#}");

    readings_have_the_right_time(rig, began).await?;
    let raised = |alerts: &[Value]| !alerts.is_empty();
    let alerts = rig.site.subscriber.wait_records("/alerts", PATIENCE, raised).await;
    // The link may be up a moment before the agent knows that the clock is set: an alert does not wait for that.
    let flagged = alerts[0]["clock"] == "unset";
    ensure!(flagged || (time_of(&alerts[0]) - began).abs() < 60.0, "{}", alerts[0]);
    rig.saw(format!(
        "the alert of 1970 came too, {}",
        if flagged { "flagged" } else { "with the right time" }
    ));
    Ok(())
}

/// Sets the clock; what was taken before arrives with the time at which it was taken.
async fn readings_have_the_right_time(rig: &mut Rig, began: f64) -> Result<()> {
    rig.tell_time().await?;
    let told = wall_seconds();
    let later = |records: &[Value]| records.iter().any(|record| time_of(record) > told);
    let records = rig.site.subscriber.wait_records("/readings", PATIENCE, later).await;
    let first = records.iter().map(time_of).fold(f64::INFINITY, f64::min);
    let before = records.iter().filter(|record| time_of(record) < told).count();
    ensure!(before > 0, "nothing was taken before the clock was set: {records:?}");
    ensure!(records.iter().all(|record| record["clock"].is_null()), "{records:?}");
    ensure!((first - began).abs() < 60.0, "the first is {:.1} s off the start", first - began);
    rig.saw(format!("{before} readings waited for the clock and came with the right time"));
    Ok(())
}

/// A record's time, in seconds since 1970.
pub(super) fn time_of(record: &Value) -> f64 {
    let time = record["time"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok());
    time.map_or(f64::NAN, |time| time.as_duration().as_secs_f64())
}
