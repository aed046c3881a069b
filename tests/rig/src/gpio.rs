//! The device's GPIO chip: the kernel's gpio-sim, under the name and with the lines of a Raspberry Pi 4's.
//!
//! What drives a line from outside is its pull. rpi-pal reads levels from the registers of the chip, which
//! a simulated one has not: a file takes their place, and is kept in step.

use anyhow::{Context as _, Result};

use crate::device::Device;

/// The line of a lid.
pub const PIN: u32 = 17;

/// In the guest: `rig-line LEVEL...` gives the line these levels (up, down) one after the other, as fast as it
/// can, and prints the longest time that a level but the last was held, in milliseconds.
///
/// The register is GPLEV0, 0x34 bytes from the start; bit 17 is bit 1 of its third byte.
const RIG_LINE: &str = r#"#!/bin/bash
set -eu
pull=$(echo /sys/devices/platform/gpio-sim.0/gpiochip*/sim_gpio17/pull)
if [[ -f /dev/gpiomem ]]; then
  [[ ${!#} == up ]] && byte='\002' || byte='\000'
  printf "$byte" | dd of=/dev/gpiomem bs=1 seek=$((0x36)) conv=notrunc status=none
fi
longest=0 since=
for level in "$@"; do
  now=${EPOCHREALTIME/./}
  held=$((now - ${since:-$now}))
  ((held > longest)) && longest=$held
  echo "pull-$level" >"$pull"
  since=$now
done
echo $((longest / 1000))
"#;

/// The registers of a Raspberry Pi that set lines and clear them: a bit for each of the first 32 lines.
#[derive(Debug, Clone, Copy)]
pub enum Register {
    /// GPSET0.
    Set = 0x1c,
    /// GPCLR0.
    Clear = 0x28,
}

/// Plugs the chip in: 58 lines, as on a Raspberry Pi 4.
///
/// # Errors
/// The kernel refuses.
pub async fn plug(device: &mut Device) -> Result<()> {
    device.write("/usr/local/bin/rig-line", "755", RIG_LINE).await?;
    let line = "set -e
        modprobe gpio-sim
        mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
        chip=/sys/kernel/config/gpio-sim/pi
        mkdir -p $chip/bank0/line17
        echo pinctrl-bcm2711 >$chip/bank0/label
        echo 58 >$chip/bank0/num_lines
        echo GPIO17 >$chip/bank0/line17/name
        echo 1 >$chip/live
        udevadm settle";
    device.sh(line).await.map(drop)
}

/// Pulls the chip out, under whoever holds a line of it, or puts it back.
///
/// # Errors
/// The kernel refuses.
pub async fn set_there(device: &mut Device, there: bool) -> Result<()> {
    let live = u8::from(there);
    device
        .sh(&format!("echo {live} >/sys/kernel/config/gpio-sim/pi/live && udevadm settle"))
        .await
        .map(drop)
}

/// Gives the line these levels, `up` or `down`, as fast as the device can; returns for how many milliseconds
/// one of them but the last was held at most.
///
/// # Errors
/// There is no chip.
pub async fn drive(device: &mut Device, levels: &str) -> Result<u64> {
    let longest = device.sh(&format!("rig-line {levels}")).await?;
    longest.parse().context("not a number of milliseconds")
}

/// Makes the device look like a Raspberry Pi 4 to rpi-pal: the registers are a file, and unless a device tree
/// says what it is, the revision of the board is in what the service sees as `/proc/cpuinfo`.
///
/// # Errors
/// The device refuses.
pub async fn pretend_raspberry_pi(device: &mut Device) -> Result<()> {
    let line = r"set -e
        head -c 4096 /dev/zero >/dev/gpiomem
        chgrp gpio /dev/gpiomem
        chmod 660 /dev/gpiomem
        test ! -e /sys/firmware/devicetree/base/model || exit 0
        { cat /proc/cpuinfo; printf 'Revision\t: c03114\n'; } >/run/rig-cpuinfo
        mkdir -p /etc/systemd/system/pulsegate.service.d
        printf '[Service]\nBindReadOnlyPaths=/run/rig-cpuinfo:/proc/cpuinfo\n' \
          >/etc/systemd/system/pulsegate.service.d/rig.conf
        systemctl daemon-reload";
    device.sh(line).await.map(drop)
}

/// Waits until the last line that was switched by this register of a pretended Raspberry Pi is `pin`, and forgets
/// that it was.
///
/// # Errors
/// It is not.
pub async fn wait_switched(device: &mut Device, register: Register, pin: u32) -> Result<()> {
    let (offset, mask) = (register as u32, 1_u32 << pin);
    let word = format!("$(od -An -tu4 -j {offset} -N 4 /dev/gpiomem)");
    device
        .wait_sh(&format!("{register:?} of line {pin}"), &format!("test {word} = {mask}"))
        .await?;
    let forget = format!(
        "head -c 4 /dev/zero | dd of=/dev/gpiomem bs=1 seek={offset} conv=notrunc status=none"
    );
    device.sh(&forget).await.map(drop)
}
