//! BlueZ, its adapters or the bus going away, and coming back.

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::probe::{Probe, until};
use crate::*;

#[tokio::test]
async fn survives_a_restart_of_bluetoothd() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;

    bluez.stop_bluetoothd().await;
    bluez.start_bluetoothd().await?;
    until("it is connected again", || belt.is_connected()).await?;
    probe.reading(0).await?;

    bluez.stop_bluetoothd().await;
    probe.wait("a fault", |line| line["fault"].is_string()).await?;
    bluez.start_bluetoothd().await?;

    until("it is connected again", || belt.is_connected()).await?;
    probe.fresh_reading(0).await?;
    Ok(())
}

#[tokio::test]
async fn survives_a_restart_of_the_bus() -> Result<()> {
    let mut bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;

    bluez.restart_bus().await?;

    probe.wait("a fault", |line| line["fault"].is_string()).await?;
    until("it is connected again", || belt.is_connected()).await?;
    probe.fresh_reading(0).await?;
    Ok(())
}

#[tokio::test]
async fn says_once_that_there_is_no_bluez_and_waits_for_it() -> Result<()> {
    let bluez = one_adapter().await?;
    beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    bluez.stop_bluetoothd().await;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;

    for _ in 0..3 {
        probe.wait("a fault", |line| line["fault"].is_string()).await?;
    }
    assert_eq!(probe.nothings, 1);
    bluez.start_bluetoothd().await?;

    probe.reading(0).await?;
    Ok(())
}

/// Who looks for the cause must not be sent after one that was mended long ago.
#[tokio::test]
async fn says_what_is_missing_now_and_not_what_was() -> Result<()> {
    let bluez = FakeBluez::start().await?;
    bluez.stop_bluetoothd().await;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    let first = probe.nothing(0).await?["reason"].to_string();
    assert!(first.contains("BlueZ does not answer"), "{first}");

    bluez.start_bluetoothd().await?;

    let no_adapter = |line: &serde_json::Value| line["reason"] == "not found: no Bluetooth adapter";
    probe.wait("the new reason", no_adapter).await?;
    Ok(())
}

#[tokio::test]
async fn notices_an_adapter_that_is_pulled_out() -> Result<()> {
    let bluez = one_adapter().await?;
    bluez.add_adapter("hci1", "00:1A:7D:00:00:02").await?;
    beating(&bluez, "hci1", OTHER_ADDRESS, EIGHTY).await?;
    let monitors = json!({ "monitors": [{ "address": OTHER_ADDRESS }] });
    let mut probe = Probe::start(&bluez, monitors)?;
    probe.reading(0).await?;

    bluez.remove_adapter("hci1").await?;

    let fault = probe.wait("a fault", |line| line["fault"].is_string()).await?;
    assert_eq!(fault["fault"], "the set of Bluetooth adapters changed");
    Ok(())
}

#[tokio::test]
async fn keeps_the_links_on_other_adapters_if_one_is_removed() -> Result<()> {
    let bluez = one_adapter().await?;
    bluez.add_adapter("hci1", "00:1A:7D:00:00:02").await?;
    let near = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    beating(&bluez, "hci1", OTHER_ADDRESS, EIGHTY).await?;
    let both = json!([{ "address": ADDRESS }, { "address": OTHER_ADDRESS }]);
    let mut probe = Probe::start(&bluez, json!({ "monitors": both }))?;
    probe.reading(0).await?;
    probe.reading(1).await?;
    let connects = near.connects();

    bluez.remove_adapter("hci1").await?;
    probe.wait("a fault", |line| line["fault"].is_string()).await?;

    probe.fresh_reading(0).await?;
    // A connect counts only for a belt that is not connected.
    assert_eq!(near.connects(), connects);
    Ok(())
}

#[tokio::test]
async fn beginning_anew_leaves_nothing_behind() -> Result<()> {
    let bluez = one_adapter().await?;
    bluez.stop_bluetoothd().await;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    let open_files = |probe: &Probe| -> Result<usize> {
        let process = probe.process.id().context("the probe ended")?;
        Ok(std::fs::read_dir(format!("/proc/{process}/fd"))?.count())
    };

    probe.wait("a fault", |line| line["fault"].is_string()).await?;
    let first = open_files(&probe)?;
    for _ in 0..12 {
        probe.wait("a fault", |line| line["fault"].is_string()).await?;
    }

    let last = open_files(&probe)?;
    assert!(last <= first + 4, "{first} open files became {last}");
    Ok(())
}
