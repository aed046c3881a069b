//! What is done to the device, and what has to come of it.

mod boot;
mod power_cut;

use crate::scenario::Scenario;

/// All of them, in the order in which they run.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "boot",
        about: "starts before network and clock, and its first heart rate reaches the cloud (P7, P8)",
        run: |rig| Box::pin(boot::boot(rig)),
    },
    Scenario {
        name: "power-cut",
        about: "killed while readings pour in: what was answered as durable arrives (P1, P3, P4)",
        run: |rig| Box::pin(power_cut::power_cut(rig, power_cut::CUTS)),
    },
];
