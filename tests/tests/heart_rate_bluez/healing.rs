//! Monitors that fall silent, leave, or talk rubbish, and how they are healed.

use std::time::Duration;

use anyhow::{Result, ensure};
use pulsegate_tests::fake_bluez::{Belt, Cure};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::probe::Probe;
use crate::*;

#[tokio::test]
async fn connects_again_after_a_lost_link() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;

    belt.drop_link().await?;

    probe.state(0, |state| state["rungs"]["reconnect"] == 1).await?;
    probe.reading(0).await?;
    assert_eq!((belt.connects(), belt.removals()), (2, 0));
    Ok(())
}

/// BlueZ asks for notifications by itself when a link is made again, long before the driver can.
#[tokio::test]
async fn hears_what_a_belt_says_as_soon_as_its_link_is_back() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    belt.greet(EIGHTY);
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;

    belt.drop_link().await?;

    let again = probe.fresh_reading(0).await?;
    assert_eq!(again["bpm"], 80);
    Ok(())
}

#[tokio::test]
async fn heals_a_silence_by_subscribing_again() -> Result<()> {
    let (belt, state) = heal(Cure::Subscribe).await?;

    assert_eq!(state["rungs"], rungs([1, 0, 0, 0]));
    assert_eq!((belt.connects(), belt.subscriptions()), (1, 2));
    Ok(())
}

#[tokio::test]
async fn heals_a_silence_by_reconnecting() -> Result<()> {
    let (belt, state) = heal(Cure::Reconnect).await?;

    assert_eq!(state["rungs"], rungs([1, 1, 0, 0]));
    assert_eq!((belt.connects(), belt.removals()), (2, 0));
    Ok(())
}

#[tokio::test]
async fn heals_a_silence_by_forgetting_the_belt() -> Result<()> {
    let (belt, state) = heal(Cure::Forget).await?;

    assert_eq!(state["rungs"], rungs([1, 1, 1, 0]));
    assert_eq!(belt.removals(), 1);
    Ok(())
}

#[tokio::test]
async fn heals_a_silence_by_a_power_cycle() -> Result<()> {
    let (_, state) = heal(Cure::PowerCycle).await?;

    assert_eq!(state["rungs"], rungs([1, 1, 1, 1]));
    Ok(())
}

#[tokio::test]
async fn leaves_the_adapter_on_while_another_belt_is_well() -> Result<()> {
    let bluez = one_adapter().await?;
    let silent = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let well = beating(&bluez, "hci0", OTHER_ADDRESS, EIGHTY).await?;
    let monitors = json!({ "monitors": [{ "address": ADDRESS }, { "address": OTHER_ADDRESS }] });
    let mut probe = Probe::start(&bluez, monitors)?;
    probe.reading(0).await?;
    probe.reading(1).await?;

    silent.fall_silent(Cure::Never);

    probe.state(0, |state| state["rungs"]["forget"].as_u64() >= Some(3)).await?;
    assert_eq!(bluez.power_offs("hci0"), 0);
    assert_eq!((well.connects(), well.subscriptions()), (1, 1), "the other belt was disturbed");
    Ok(())
}

#[tokio::test]
async fn one_belt_that_is_subscribed_to_again_does_not_deafen_another() -> Result<()> {
    let bluez = one_adapter().await?;
    let belts = [
        beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?,
        beating(&bluez, "hci0", OTHER_ADDRESS, EIGHTY).await?,
    ];
    let monitors = json!({ "monitors": [{ "address": ADDRESS }, { "address": OTHER_ADDRESS }] });
    let mut probe = Probe::start(&bluez, monitors)?;
    probe.reading(0).await?;
    probe.reading(1).await?;

    for (source, belt) in (0..).zip(&belts) {
        belt.fall_silent(Cure::Subscribe);
        probe.nothing(source).await?;
        // Longer than a silence, so that a belt that went unheard would be noticed.
        for _ in 0..30 {
            probe.reading(0).await?;
            probe.reading(1).await?;
        }
    }

    for belt in &belts {
        assert_eq!((belt.connects(), belt.subscriptions()), (1, 2));
    }
    assert_eq!(probe.nothings, 2);
    Ok(())
}

#[tokio::test]
async fn reports_once_every_cure_has_failed_and_begins_anew() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let monitors = json!({ "monitors": [{ "address": ADDRESS }], "silence_ms": 500 });
    let mut probe = Probe::start(&bluez, monitors)?;
    probe.reading(0).await?;

    belt.fall_silent(Cure::Never);
    assert_eq!(probe.nothing(0).await?["nothing"], "silent");
    let fault = probe.wait("a fault", |line| line["fault"].is_string()).await?;
    belt.fall_silent(Cure::Reconnect);
    belt.drop_link().await?;

    assert_eq!(fault["fault"], "source 0 stays silent after every cure");
    probe.reading(0).await?;
    assert_eq!(probe.nothings, 1, "it was told more than once that there is nothing");
    Ok(())
}

#[tokio::test]
async fn a_driver_that_stood_still_blames_no_belt() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    // A silence that no load of the machine makes, and twice as much of standing still.
    let monitors = json!({ "monitors": [{ "address": ADDRESS }], "silence_ms": 4000 });
    let mut probe = Probe::start(&bluez, monitors)?;
    probe.reading(0).await?;

    probe.signal(Signal::STOP)?;
    // Not to wait for something: the time that passes is what is tested.
    tokio::time::sleep(Duration::from_secs(8)).await;
    probe.signal(Signal::CONT)?;

    let state = probe.state(0, |state| state["packets"].as_u64() >= Some(80)).await?;
    assert_eq!(state["rungs"], rungs([0, 0, 0, 0]), "{state:#}");
    assert_eq!((probe.nothings, belt.subscriptions()), (0, 1));
    Ok(())
}

#[tokio::test]
async fn says_once_that_a_belt_sends_garbage() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;

    belt.beat(&[0x01, 72], BEAT);
    assert_eq!(probe.nothing(0).await?["nothing"], "garbage");
    probe.state(0, |state| state["malformed"].as_u64() >= Some(3)).await?;
    belt.beat(SEVENTY_TWO, BEAT);

    probe.reading(0).await?;
    assert_eq!(probe.nothings, 1);
    Ok(())
}

/// Two events for each bad packet would crowd out what is worth telling.
#[tokio::test]
async fn counts_garbage_among_measurements_and_calls_nobody_lost() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;

    for bad in 1..=3 {
        belt.notify(&[0x01, 72]).await?;
        probe.state(0, |state| state["malformed"] == bad).await?;
        probe.reading(0).await?;
    }

    assert_eq!(probe.nothings, 0);
    Ok(())
}

#[tokio::test]
async fn finds_services_that_vanished_and_returned() -> Result<()> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;

    belt.lose_services().await?;
    let gone = |state: &Value| {
        state["last_error"] == "could not find the heart rate: the monitor has no such service"
    };
    probe.state(0, gone).await?;
    belt.regain_services();

    probe.reading(0).await?;
    Ok(())
}

/// Lets a belt fall silent until `cure`; returns it and its monitor's state once it is heard again.
async fn heal(cure: Cure) -> Result<(Belt, Value)> {
    let bluez = one_adapter().await?;
    let belt = beating(&bluez, "hci0", ADDRESS, SEVENTY_TWO).await?;
    let mut probe = Probe::start(&bluez, json!({ "monitors": [{ "address": ADDRESS }] }))?;
    probe.reading(0).await?;

    belt.fall_silent(cure);

    assert_eq!(probe.nothing(0).await?["nothing"], "silent");
    probe.reading(0).await?;
    let state = probe.state(0, |state| state["lost"] == false).await?;
    ensure!(probe.nothings == 1, "it was told more than once that there is nothing");
    Ok((belt, state))
}

/// What `status` shows when the rungs up to the power cycle were climbed that often, and none above.
fn rungs([subscribe, reconnect, forget, power_cycle]: [u64; 4]) -> Value {
    json!({
        "subscribe": subscribe,
        "reconnect": reconnect,
        "forget": forget,
        "power_cycle": power_cycle,
        "report": 0,
    })
}
