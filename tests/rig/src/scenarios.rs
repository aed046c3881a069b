//! What is done to the device, and what has to come of it.

mod boot;

use crate::scenario::Scenario;

/// All of them, in the order in which they run.
pub const ALL: &[Scenario] = &[Scenario {
    name: "boot",
    about: "starts before network and clock, and its first heart rate reaches the cloud (P7, P8)",
    run: |rig| Box::pin(boot::boot(rig)),
}];
