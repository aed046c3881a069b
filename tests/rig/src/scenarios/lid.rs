//! A lid on a GPIO line of the kernel's own simulation, by either way to the hardware.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::belts::{driver, wait_event};
use crate::device::PATIENCE;
use crate::gpio;
use crate::rig::Rig;

/// Of the agent, in milliseconds.
const DEBOUNCE_MS: u64 = 20;
/// Openings of one visit.
const OPENINGS: usize = 10;
/// A visit whose bounces came too slowly, on a machine that is busy elsewhere, is tried again.
const ATTEMPTS: usize = 5;
/// A lid that opens: its contact bounces for some milliseconds.
const OPENS: &str = "up down up down up down up";
const CLOSES: &str = "down up down up down up down";

/// By the character device, which is what the agent chooses on a board that is no Raspberry Pi.
pub(super) async fn lid(rig: &mut Rig) -> Result<()> {
    visited(rig, "character-device").await
}

/// By rpi-pal: on arm64 a device tree says that this is a Raspberry Pi 4, on amd64 a file does.
pub(super) async fn lid_raspberry_pi(rig: &mut Rig) -> Result<()> {
    gpio::pretend_raspberry_pi(&mut rig.device).await?;
    visited(rig, "raspberry-pi").await
}

/// A squirrel at a lid that bounces: each opening counts once, and the visit is told when it is over (SQ-1).
async fn visited(rig: &mut Rig, backend: &str) -> Result<()> {
    gpio::plug(&mut rig.device).await?;
    gpio::drive(&mut rig.device, "down").await?;
    rig.online(&tables(backend)).await?;
    let first = wait_states(rig, 1).await;
    assert_eq!(first, ["closed"]);
    rig.saw(format!("{backend}: closed at the start, which is no opening"));

    for attempt in 1..=ATTEMPTS {
        let before = wait_states(rig, 1).await.len();
        let slowest = visit(rig).await?;
        let told = wait_event(rig, "visit", "feeder", attempt).await;
        if slowest >= DEBOUNCE_MS {
            rig.saw(format!("attempt {attempt} is void: a level bounced for {slowest} ms"));
            continue;
        }
        let states = wait_states(rig, before + 2 * OPENINGS).await;
        let expected = ["open", "closed"].repeat(OPENINGS);
        assert_eq!(states[before..], expected, "each opening and closing once, in turn");
        assert_eq!((&told["openings"], &told["units"]), (&json!(OPENINGS), &json!(5.0)), "{told}");
        let lines = |status: &Value| driver(status, "feeder")["edges"].is_u64();
        let status = rig.device.wait_status("the agent answers", lines).await?;
        let line = driver(&status, "feeder");
        assert_eq!((&line["lost"], &line["corrected"]), (&json!(0), &json!(0)), "{line}");
        rig.saw(format!(
            "{OPENINGS} openings with 6 bounces of up to {slowest} ms, and as many closings: {} edges told by the kernel, \
             one visit of {} openings and {} {} in {} s", line["edges"], told["openings"], told["units"], told["unit"], told["seconds"]
        ));
        return Ok(());
    }
    bail!("in {ATTEMPTS} attempts this machine was never quick enough to bounce")
}

/// Opens and closes the lid; returns for how many milliseconds a bounce lasted at most.
async fn visit(rig: &mut Rig) -> Result<u64> {
    let mut slowest = 0;
    for _ in 0..OPENINGS {
        for levels in [OPENS, CLOSES] {
            slowest = slowest.max(gpio::drive(&mut rig.device, levels).await?);
        }
    }
    Ok(slowest)
}

/// A line that another program holds, and a chip that goes away: no reading with its reason, then good again.
pub(super) async fn lid_taken(rig: &mut Rig) -> Result<()> {
    gpio::plug(&mut rig.device).await?;
    gpio::drive(&mut rig.device, "down").await?;
    let chip = rig.device.sh("gpiodetect | sed -n 's/ .pinctrl-bcm2711.*//p'").await?;
    let take = format!("systemd-run --quiet --unit=rig-taker gpiomon --chip={chip} 17");
    rig.device.sh(&take).await?;
    let taken = format!("gpioinfo --chip={chip} 17 | grep gpiomon");
    rig.device.wait_sh("the line is taken", &taken).await?;
    rig.online(&tables("character-device")).await?;
    let lost = wait_event(rig, "source_lost", "feeder", 1).await;
    assert!(
        lost["reason"].as_str().is_some_and(|reason| reason.ends_with("in use by `gpiomon`")),
        "{lost}"
    );
    rig.saw(format!("taken: {}", lost["reason"]));

    rig.device.sh("systemctl stop rig-taker").await?;
    let returned = wait_event(rig, "source_returned", "feeder", 1).await;
    assert_eq!(wait_states(rig, 1).await, ["closed"]);
    rig.saw(format!("let go: closed, after {} s", returned["seconds"]));

    gpio::set_there(&mut rig.device, false).await?;
    let lost = wait_event(rig, "source_lost", "feeder", 2).await;
    gpio::set_there(&mut rig.device, true).await?;
    let returned = wait_event(rig, "source_returned", "feeder", 2).await;
    rig.saw(format!("chip pulled out: {}; back after {} s", lost["reason"], returned["seconds"]));
    Ok(())
}

fn tables(backend: &str) -> String {
    format!(
        r#"
[publish.readings]
batch = {{ delay = "200ms" }}
[gpio]
backend = "{backend}"
[[lid]]
id = "feeder"
pin = {}
debounce = "{DEBOUNCE_MS}ms"
bias = "off"
visit = {{ gap = "3s", units_per_opening = 0.5, unit = "nuts" }}
"#,
        gpio::PIN
    )
}

/// Waits until the cloud has that many states of the lid, and returns all of them in the order of recording.
async fn wait_states(rig: &Rig, count: usize) -> Vec<String> {
    let enough = |records: &[Value]| states(records).len() >= count;
    let records = rig.site.subscriber.wait_records("/readings", PATIENCE, enough).await;
    states(&records)
}

fn states(records: &[Value]) -> Vec<String> {
    let of_lid = records.iter().filter(|record| record["source"] == "feeder");
    let mut placed: Vec<(u64, String)> = of_lid
        .filter_map(|record| {
            let place = record["seq"].as_str()?.split_once('-')?.1.parse().ok()?;
            Some((place, record["state"].as_str()?.to_owned()))
        })
        .collect();
    placed.sort();
    placed.dedup();
    placed.into_iter().map(|(_, state)| state).collect()
}
