//! What is done to the device, and what has to come of it.

mod belts;
mod boot;
mod lid;
mod power_cut;
mod radio_faults;

use crate::scenario::Scenario;

/// All of them, in the order in which they run.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "boot",
        about: "starts before network and clock, and its first heart rate reaches the cloud (P7, P8)",
        run: |rig| Box::pin(boot::boot(rig)),
    },
    Scenario {
        name: "first-heart-rate",
        about: "from power to a strap's first heart rate in the cloud, by systemd alone",
        run: |rig| Box::pin(belts::first_heart_rate(rig)),
    },
    Scenario {
        name: "belts",
        about: "two straps, one that walks away, hangs up, refuses and sends garbage: nothing is lost (P3)",
        run: |rig| Box::pin(belts::belts(rig)),
    },
    Scenario {
        name: "silence",
        about: "a strap that falls silent on a link that stands is healed by the mildest cure",
        run: |rig| Box::pin(belts::silence(rig)),
    },
    Scenario {
        name: "bus",
        about: "bluetoothd and then the system bus are restarted: the straps return, others go on (P3, P7)",
        run: |rig| Box::pin(radio_faults::bus(rig)),
    },
    Scenario {
        name: "controller",
        about: "the Bluetooth controller falls dumb, then goes away, and comes back (P3, P7)",
        run: |rig| Box::pin(radio_faults::controller(rig)),
    },
    Scenario {
        name: "no-bluetooth",
        about: "without bluetoothd and controller the agent says so, goes on, and takes them up (P7)",
        run: |rig| Box::pin(radio_faults::no_bluetooth(rig)),
    },
    Scenario {
        name: "lid",
        about: "a lid that bounces is one opening a time, and a visit when it is over (SQ-1)",
        run: |rig| Box::pin(lid::lid(rig)),
    },
    Scenario {
        name: "lid-raspberry-pi",
        about: "the same through rpi-pal, the way of a Raspberry Pi (SQ-1)",
        run: |rig| Box::pin(lid::lid_raspberry_pi(rig)),
    },
    Scenario {
        name: "lid-taken",
        about: "a line that another program holds, and a chip that goes away, are told and taken up again (P7)",
        run: |rig| Box::pin(lid::lid_taken(rig)),
    },
    Scenario {
        name: "power-cut",
        about: "killed while readings pour in: what was answered as durable arrives (P1, P3, P4)",
        run: |rig| Box::pin(power_cut::power_cut(rig, power_cut::CUTS)),
    },
];
