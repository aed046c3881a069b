//! Finding, connecting and reading monitors.

use anyhow::Result;
use pulsegate_tests::fake_bluez::Battery;
use serde_json::{Value, json};

use crate::probe::{Probe, until};
use crate::*;

#[tokio::test]
async fn finds_connects_and_reads_a_belt() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = bluez.add_belt("hci0", ADDRESS, "Polar H10 0102").await?;
    let belt = belt.with_battery(Battery::Service(87));
    belt.beat(SEVENTY_TWO, BEAT);

    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;

    let reading = probe.reading(0).await?;
    assert_eq!((&reading["bpm"], &reading["rr"]), (&json!(72), &json!([812])));
    let state = probe.state(0, |state| state["battery"] == 87).await?;
    assert_eq!((&state["location"], &state["connected"]), (&json!("chest"), &json!(true)));
    assert_eq!(state["last_error"], Value::Null);
    Ok(())
}

#[tokio::test]
async fn scans_only_while_a_monitor_is_missing() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;

    probe.reading(0).await?;
    until("the scan ends", || !bluez.is_scanning("hci0")).await?;
    belt.leave().await?;
    until("a scan begins", || bluez.is_scanning("hci0")).await?;
    belt.come_back().await?;
    until("the scan ends again", || !bluez.is_scanning("hci0")).await?;

    assert_eq!(bluez.collisions("hci0"), 0, "a connect while scanning");
    assert_eq!(bluez.unfiltered_scans("hci0"), 0);
    Ok(())
}

#[tokio::test]
async fn reads_two_belts_at_once() -> Result<()> {
    let bluez = one_adapter().await?;
    beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    beating(&bluez, "hci0", OTHER_ADDRESS, EIGHTY).await?;

    let monitors = json!({ "monitors": [{ "address": ADDRESS }, { "address": OTHER_ADDRESS }] });
    let mut probe = Probe::start(&bluez, monitors)?;

    assert_eq!(probe.reading(0).await?["bpm"], 72);
    assert_eq!(probe.reading(1).await?["bpm"], 80);
    assert_eq!(probe.reading(0).await?["bpm"], 72);
    assert_eq!(bluez.collisions("hci0"), 0, "two connects at once");
    Ok(())
}

#[tokio::test]
async fn knows_a_belt_by_its_name() -> Result<()> {
    let bluez = one_adapter().await?;
    let stranger = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let belt = bluez.add_belt("hci0", OTHER_ADDRESS, "Polar H10 0102").await?;
    belt.beat(EIGHTY, BEAT);

    let monitors = json!({ "monitors": [{ "name": "Polar H10 0102" }] });
    let mut probe = Probe::start(&bluez, monitors)?;

    assert_eq!(probe.reading(0).await?["bpm"], 80);
    assert_eq!(stranger.connects(), 0);
    Ok(())
}

#[tokio::test]
async fn reads_the_battery_that_bluez_hides() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let _belt = belt.with_battery(Battery::Bluez(41));

    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;

    probe.state(0, |state| state["battery"] == 41).await?;
    Ok(())
}

#[tokio::test]
async fn finds_a_belt_that_left_and_came_back() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;

    belt.leave().await?;
    assert_eq!(probe.nothing(0).await?["nothing"], "absent");
    let tried = belt.connects();
    belt.come_back().await?;

    probe.reading(0).await?;
    assert_eq!(belt.connects(), tried + 1, "a belt that is not seen is not connected to");
    Ok(())
}

#[tokio::test]
async fn goes_on_trying_when_connects_are_refused() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    belt.refuse(3);

    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;

    probe.reading(0).await?;
    assert_eq!(belt.connects(), 4);
    Ok(())
}

#[tokio::test]
async fn calls_off_a_connect_that_hangs_before_another_is_made() -> Result<()> {
    let bluez = one_adapter().await?;
    let belts = [
        beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?,
        beating(&bluez, "hci0", OTHER_ADDRESS, EIGHTY).await?,
    ];
    belts.iter().for_each(|belt| belt.hang(1));
    let monitors = json!({ "monitors": [{ "address": ADDRESS }, { "address": OTHER_ADDRESS }] });

    let mut probe = Probe::start(&bluez, monitors)?;

    probe.reading(1).await?;
    probe.reading(0).await?;
    assert_eq!(belts.map(|belt| belt.connects()), [2, 2]);
    assert_eq!(bluez.collisions("hci0"), 0);
    Ok(())
}

#[tokio::test]
async fn leaves_a_belt_alone_that_bluez_only_remembers() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;
    probe.kill().await?;
    belt.leave().await?;

    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;

    assert_eq!(probe.nothing(0).await?["nothing"], "absent");
    assert_eq!(belt.connects(), 1);
    belt.come_back().await?;
    probe.reading(0).await?;
    Ok(())
}

#[tokio::test]
async fn takes_over_the_link_of_a_run_that_was_killed() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;

    probe.kill().await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;

    probe.reading(0).await?;
    assert_eq!((belt.connects(), belt.subscriptions()), (1, 2));
    Ok(())
}

#[tokio::test]
async fn lets_go_of_its_links_when_it_is_stopped() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;

    probe.stop_watching();

    until("the link is gone", || !belt.is_connected()).await?;
    until("the scan is over", || !bluez.is_scanning("hci0")).await
}

#[tokio::test]
async fn calls_off_a_connect_when_it_is_stopped() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    belt.hang(1);
    // The limit of a connect is three times the silence: longer than this test waits.
    let monitors = json!({ "monitors": [{ "address": ADDRESS }], "silence_ms": 60_000 });
    let mut probe = Probe::start(&bluez, monitors)?;
    until("it is connecting", || bluez.is_connecting("hci0")).await?;

    probe.stop_watching();

    until("the connect is called off", || !bluez.is_connecting("hci0")).await
}

#[tokio::test]
async fn uses_every_adapter_or_the_one_it_is_told() -> Result<()> {
    let bluez = one_adapter().await?;
    bluez.add_adapter("hci1", "00:1A:7D:00:00:02").await?;
    let near = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    beating(&bluez, "hci1", OTHER_ADDRESS, EIGHTY).await?;
    let both = json!([{ "address": ADDRESS }, { "address": OTHER_ADDRESS }]);

    let mut probe = Probe::start(&bluez, json!({ "monitors": both }))?;
    probe.reading(0).await?;
    probe.reading(1).await?;
    probe.kill().await?;
    near.drop_link().await?;
    let connects = near.connects();
    let by_address = json!({ "monitors": both, "adapter": "00:1a:7d:00:00:02" });
    let mut probe = Probe::start(&bluez, by_address)?;
    probe.reading(1).await?;

    assert_eq!(probe.nothing(0).await?["nothing"], "absent");
    assert_eq!(near.connects(), connects, "the other adapter was used");
    Ok(())
}

#[tokio::test]
async fn no_address_is_ever_said() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;

    bluez.stop_bluetoothd().await;
    bluez.start_bluetoothd().await?;
    probe.fresh_reading(0).await?;
    belt.drop_link().await?;
    probe.fresh_reading(0).await?;

    for line in &probe.lines_read {
        let line = line.replace('_', ":").to_uppercase();
        assert!(!line.contains(ADDRESS), "{line}");
    }
    Ok(())
}
