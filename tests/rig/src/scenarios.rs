//! What is done to the device, and what has to come of it.

mod belts;
mod boot;
mod camera;
mod disk;
mod hung_files;
mod lid;
mod lifecycle;
mod outputs;
mod power_cut;
mod radio_faults;
mod second_agent;
mod service;
mod slow_damage;
mod torn_writes;

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
        about: "a greedy program is ended alone; an agent that leaks comes back (P10)",
        run: |rig| Box::pin(service::memory(rig)),
    },
    Scenario {
        name: "disk-full",
        about: "stays up and says so; with room again nothing answered is missing (P1, P3, P7)",
        run: |rig| Box::pin(disk::disk_full(rig)),
    },
    Scenario {
        name: "full-partition",
        about: "a backlog that fills its partition is delivered without room; alerts go on (P1, P3, P6, P7)",
        run: |rig| Box::pin(disk::full_partition(rig)),
    },
    Scenario {
        name: "read-only-card",
        about: "while the card is read-only, live data flows from memory; then the file is taken up again (P1, P3, P6, P7)",
        run: |rig| Box::pin(disk::read_only_card(rig)),
    },
    Scenario {
        name: "ext4-error",
        about: "after an ext4 error live data flows from memory; mounted anew, what was stored is there (P1, P3, P4, P6, P7)",
        run: |rig| Box::pin(disk::ext4_error(rig)),
    },
    Scenario {
        name: "second-agent",
        about: "`pulsegate run` beside the service ends at once with 75; the service loses nothing (P3, P7)",
        run: |rig| Box::pin(second_agent::second_agent(rig)),
    },
    Scenario {
        name: "hung-files",
        about: "nine number files that hang keep nothing else waiting (P7)",
        run: |rig| Box::pin(hung_files::hung_files(rig)),
    },
    Scenario {
        name: "slow-damage",
        about: "a damaged store of 100 MB on a slowed device is carried over beside live data, also after a kill (P3, P6, P7)",
        run: |rig| Box::pin(slow_damage::slow_damage(rig)),
    },
    Scenario {
        name: "torn-writes",
        about: "starts from what any moment could have left on the card, torn writes too (P1, P3, P4, P7)",
        run: |rig| Box::pin(torn_writes::torn_writes(rig)),
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
        about: "the same through rpi-pal, the way of a Raspberry Pi, and a lamp (SQ-1, SQ-3)",
        run: |rig| Box::pin(lid::lid_raspberry_pi(rig)),
    },
    Scenario {
        name: "lid-taken",
        about: "a line that another program holds, and a chip that goes away, are told and taken up again (P7)",
        run: |rig| Box::pin(lid::lid_taken(rig)),
    },
    Scenario {
        name: "outputs",
        about: "openings counted on four lines, a lamp as long as the visit (SQ-3)",
        run: |rig| Box::pin(outputs::outputs(rig)),
    },
    Scenario {
        name: "camera",
        about: "a picture by the kernel's simulated camera, through the service's sandbox (P12)",
        run: |rig| Box::pin(camera::camera(rig)),
    },
    Scenario {
        name: "power-cut",
        about: "killed while readings pour in: what was answered as durable arrives (P1, P3, P4)",
        run: |rig| Box::pin(power_cut(rig, power_cut::CUTS)),
    },
];
