//! The clocks: the only place that asks what time it is.
//!
//! `CLOCK_MONOTONIC` counts from the start of the kernel and never steps. The wall clock of a
//! device without a clock chip is wrong until the network has set it; until then it is read, but
//! not trusted.

use std::path::Path;
use std::time::Duration;

use pulsegate_core::time::{Mono, Wall};
use pulsegate_core::timeline::Trust;
use rustix::time::{ClockId, clock_gettime};

use crate::config::Trust as Policy;

/// `systemd-timesyncd` makes this file when it has set the clock.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";
/// A clock chip that keeps the time while the power is away.
const CLOCK_CHIP: &str = "/sys/class/rtc/rtc0";
/// 2025-01-01: a clock before this software existed is not set, whoever says so.
const PLAUSIBLE: Wall = Wall(1_735_689_600_000);
/// `timedatectl` talks to a service that has to be started first.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// Now, on the monotonic clock.
pub(crate) fn mono() -> Mono {
    mono_from(since_boot())
}

/// Now, on the monotonic clock, to the nanosecond.
pub(crate) fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// A kernel timestamp on the monotonic clock.
pub(crate) fn mono_from(since_boot: Duration) -> Mono {
    Mono(u64::try_from(since_boot.as_millis()).unwrap_or(u64::MAX))
}

/// What the wall clock says now, right or wrong.
pub(crate) fn wall() -> Wall {
    let now = clock_gettime(ClockId::Realtime);
    Wall(now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000))
}

/// Whether the wall clock can be believed.
pub(crate) async fn trust(policy: Policy) -> Trust {
    let trusted = match policy {
        Policy::System => true,
        Policy::Auto => {
            Path::new(SYNCHRONISED).exists() || Path::new(CLOCK_CHIP).exists() || asked().await
        }
    };
    if trusted && wall() >= PLAUSIBLE { Trust::Trusted } else { Trust::Unset }
}

/// Names this run of the kernel.
pub(crate) fn kernel_boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| String::from("unknown"), |id| id.trim().to_owned())
}

/// Asks systemd, which asks the kernel: this also knows of chrony and ntpd.
async fn asked() -> bool {
    let mut command = tokio::process::Command::new("timedatectl");
    command.args(["show", "--property=NTPSynchronized", "--value"]).kill_on_drop(true);
    match tokio::time::timeout(ASK_TIMEOUT, command.output()).await {
        Ok(Ok(output)) => output.stdout.starts_with(b"yes"),
        Ok(Err(_)) | Err(_) => false,
    }
}
