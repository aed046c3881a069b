//! What is done to the device, and what has to come of it.

mod boot;
mod disk;
mod lifecycle;
mod power_cut;
mod service;

pub(crate) use power_cut::power_cut;

use crate::scenario::Scenario;

/// All of them, in the order in which they run.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "boot",
        about: "works before network and clock; what it took then has the right time (P7, P8, P12)",
        run: |rig| Box::pin(boot::boot(rig)),
    },
    Scenario {
        name: "unset-clock",
        about: "an alert goes at once, flagged; readings wait for the right time (P8)",
        run: |rig| Box::pin(boot::unset_clock(rig)),
    },
    Scenario {
        name: "in-1970",
        about: "records without a link, and delivers with the right time once the clock is set (P7, P8)",
        run: |rig| Box::pin(boot::in_1970(rig)),
    },
    Scenario {
        name: "reload",
        about: "takes a good configuration without a restart, and keeps the old one from a bad",
        run: |rig| Box::pin(service::reload(rig)),
    },
    Scenario {
        name: "bad-configuration",
        about: "ends with 78, says why, and is not started again (P7)",
        run: |rig| Box::pin(service::bad_configuration(rig)),
    },
    Scenario {
        name: "watchdog",
        about: "an agent that hangs is killed and goes on where it was (P7)",
        run: |rig| Box::pin(service::watchdog(rig)),
    },
    Scenario {
        name: "sandbox",
        about: "the unit allows little, and the running process has no more (P12)",
        run: |rig| Box::pin(service::sandbox(rig)),
    },
    Scenario {
        name: "memory",
        about: "a leak ends in the agent, which comes back (P10)",
        run: |rig| Box::pin(service::memory(rig)),
    },
    Scenario {
        name: "disk-full",
        about: "stays up and says so; with room again nothing answered is missing (P1, P3, P7)",
        run: |rig| Box::pin(disk::disk_full(rig)),
    },
    Scenario {
        name: "upgrade",
        about: "keeps configuration, key and queue, and delivers it (P1, P3)",
        run: |rig| Box::pin(lifecycle::upgrade(rig)),
    },
    Scenario {
        name: "purge",
        about: "leaves nothing behind",
        run: |rig| Box::pin(lifecycle::purge(rig)),
    },
    Scenario {
        name: "power-cut",
        about: "killed while readings pour in: what was answered as durable arrives (P1, P3, P4)",
        run: |rig| Box::pin(power_cut(rig, power_cut::CUTS)),
    },
];
