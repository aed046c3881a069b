//! What the agent switches, on GPIO lines of the kernel's own simulation.

use anyhow::{Result, ensure};
use serde_json::json;

use super::belts::wait_event;
use crate::gpio;
use crate::rig::Rig;

/// A display behind a 4511, and a lamp that is on at a low level.
const TABLES: &str = r#"
[gpio]
backend = "character-device"
[[output]]
id = "display"
pins = [5, 6, 13, 19]
[[output]]
id = "lamp"
pin = 23
active = "low"
[[lid]]
id = "feeder"
pin = 17
debounce = "20ms"
bias = "off"
visit = { gap = "4s", then = ["output:display:count", "output:lamp"] }
"#;
/// The lines of the display, the lowest bit first, and the lamp's.
const DISPLAY: [u32; 4] = [5, 6, 13, 19];
const LAMP: u32 = 23;
const OPENINGS: usize = 9;

/// Nine openings count from 1 to 9 on four lines, and a lamp is on as long (SQ-3). What a line is
/// after the agent let go of it is the chip's affair, and is not asked.
pub(super) async fn outputs(rig: &mut Rig) -> Result<()> {
    gpio::plug(&mut rig.device).await?;
    gpio::drive(&mut rig.device, "down").await?;
    rig.online(TABLES).await?;
    wait_shown(rig, 0, false).await?;
    rig.saw(format!("the kernel has 0 on the lines {DISPLAY:?} and the lamp off at the start"));

    for opening in 1..=OPENINGS {
        gpio::drive(&mut rig.device, "up").await?;
        wait_shown(rig, opening, true).await?;
        gpio::drive(&mut rig.device, "down").await?;
    }
    let told = wait_event(rig, "visit", "feeder", 1).await;
    ensure!(told["openings"] == json!(OPENINGS), "{told}");
    wait_shown(rig, 0, false).await?;
    rig.saw(format!("{OPENINGS} openings: 1 to {OPENINGS} in binary, the lamp on; 0 and off when the visit was over"));
    Ok(())
}

/// Waits until the kernel has this number on the display's lines, and the lamp so.
async fn wait_shown(rig: &mut Rig, number: usize, lamp: bool) -> Result<()> {
    let line = |pin: u32, high: bool| format!("test \"$(gpio_of {pin})\" = {}", u8::from(high));
    let bits = DISPLAY.iter().enumerate().map(|(bit, pin)| line(*pin, number >> bit & 1 == 1));
    let all: Vec<String> = bits.chain([line(LAMP, !lamp)]).collect();
    let of = "gpio_of() { cat /sys/devices/platform/gpio-sim.0/gpiochip*/sim_gpio$1/value; }";
    rig.device
        .wait_sh(&format!("the lines show {number}"), &format!("{of}; {}", all.join(" && ")))
        .await?;
    Ok(())
}
