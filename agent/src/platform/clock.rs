//! Reads the monotonic and the wall clock for the rest of the agent; no other module does.
//!
//! `CLOCK_MONOTONIC` counts from the start of the kernel and never steps. The wall clock of a
//! device without a clock chip is wrong until the network sets it; until then, the time is read but
//! not trusted. Core decides on trust; [`Witnesses`] supplies the evidence.

mod witnesses;

use std::time::Duration;

use pulsegate_core::time::{Mono, Wall};
use rustix::time::{ClockId, clock_gettime};

pub(crate) use witnesses::Witnesses;

/// Returns the monotonic time, in milliseconds.
pub(crate) fn mono() -> Mono {
    mono_from(since_boot())
}

/// Returns the monotonic time since the start of the kernel, in nanosecond resolution.
pub(crate) fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Converts a monotonic kernel timestamp, truncated to milliseconds.
pub(crate) fn mono_from(since_boot: Duration) -> Mono {
    Mono(u64::try_from(since_boot.as_millis()).unwrap_or(u64::MAX))
}

/// Returns the wall-clock time, trusted or not.
pub(crate) fn wall() -> Wall {
    // The time comes from the C library, like every other time in this process, so a test can fake
    // the year.
    Wall(jiff::Timestamp::now().as_millisecond())
}

/// Returns the kernel's boot id, or `unknown` if it cannot be read.
pub(crate) fn kernel_boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| String::from("unknown"), |id| id.trim().to_owned())
}
