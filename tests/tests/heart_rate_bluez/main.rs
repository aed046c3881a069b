//! The heart-rate driver against a BlueZ that misbehaves as real ones and real belts do.

mod finding;
mod healing;
mod outages;
mod probe;

use std::time::Duration;

use anyhow::Result;
use pulsegate_tests::fake_bluez::{Belt, FakeBluez};

const BEAT: Duration = Duration::from_millis(50);
/// 72 a minute, one interval of 812/1024 s.
const SEVENTY_TWO: &[u8] = &[0x10, 72, 0x2c, 0x03];
const EIGHTY: &[u8] = &[0x10, 80, 0x2c, 0x03];
const ADDRESS: &str = "A0:9E:1A:01:02:03";
const OTHER_ADDRESS: &str = "C4:11:22:33:44:55";

async fn one_adapter() -> Result<FakeBluez> {
    let bluez = FakeBluez::start().await?;
    bluez.add_adapter("hci0", "00:1A:7D:00:00:01").await?;
    Ok(bluez)
}

async fn beating(bluez: &FakeBluez, adapter: &str, address: &str, packet: &[u8]) -> Result<Belt> {
    let belt = bluez.add_belt(adapter, address, "Belt").await?;
    belt.beat(packet, BEAT);
    Ok(belt)
}
