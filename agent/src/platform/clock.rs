//! The clocks: the only place that asks what time it is.
//!
//! `CLOCK_MONOTONIC` counts from the start of the kernel and never steps. The wall clock of a
//! device without a clock chip is wrong until the network has set it; until then it is read, but
//! not trusted. Whether it is, core decides; here the questions are asked.

mod witnesses;

use std::time::Duration;

use pulsegate_core::time::{Mono, Wall};
use rustix::time::{ClockId, clock_gettime};

pub(crate) use witnesses::Witnesses;

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
    // By way of the C library, as everybody else in this process: so a test can run in another year.
    Wall(jiff::Timestamp::now().as_millisecond())
}

/// Names this run of the kernel.
pub(crate) fn kernel_boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| String::from("unknown"), |id| id.trim().to_owned())
}
