//! Lines over GPIO: a lid switch, or a trigger such as a movement sensor or a button.
//!
//! Each line has its own thread. The kernel stamps the edges; the level is read when the line is
//! opened and checked against the edges each second, so that a lost edge is corrected and counted.
//! A line that cannot be opened or stops working yields one "no reading" with the reason, and is
//! opened again until the attempt succeeds. The pure module [`state`] interprets edges. Two
//! backends reach the hardware: rpi-pal on a Raspberry Pi, and the GPIO character device on any
//! Linux board. Outputs are driven in `output.rs`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::LineState;

#[cfg(feature = "drivers")]
pub(crate) mod character_device;
#[cfg(feature = "drivers")]
mod edge_pipe;
#[cfg(feature = "drivers")]
mod port;
#[cfg(feature = "drivers")]
pub(crate) mod raspberry_pi;
pub mod state;
#[cfg(feature = "drivers")]
mod watch;

pub use state::LineCounters;
#[cfg(feature = "drivers")]
pub use watch::{LineWatch, spawn_line};

/// A configured line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The BCM number on a Raspberry Pi; the offset of the line on its chip elsewhere.
    pub pin: u32,
    /// The name (`gpiochip0`), label (`pinctrl-bcm2711`) or path of the chip, for the character
    /// device; `None`: a Raspberry Pi's own chip, else the only one there is.
    pub chip: Option<String>,
    /// The time for which a level must hold before the level counts; zero: every edge counts.
    pub debounce: Duration,
    /// The meaning of the line's levels.
    pub role: Role,
    /// The bias that holds the line while nothing drives it.
    pub bias: Bias,
}

/// The meaning of the levels of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A lid switch.
    Lid {
        /// The level while the lid is closed.
        closed: Level,
    },
    /// A movement sensor, a button.
    Trigger {
        /// The level while it fires.
        active: Level,
    },
}

impl Role {
    /// Returns the state that `level` stands for.
    #[must_use]
    pub fn state_for(self, level: Level) -> LineState {
        match self {
            Self::Lid { closed } if level == closed => LineState::Closed,
            Self::Lid { .. } => LineState::Open,
            Self::Trigger { active } if level == active => LineState::Active,
            Self::Trigger { .. } => LineState::Idle,
        }
    }
}

/// The electrical level of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Near 0 V.
    Low,
    /// Near the supply.
    High,
}

/// The resistor that holds a line while nothing drives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Bias {
    /// Left as the firmware or the device tree set it.
    AsIs,
    /// A resistor to the supply: for a switch between the pin and ground.
    PullUp,
    /// A resistor to ground: for a switch between the pin and the supply.
    PullDown,
    /// No resistor: for a sensor that drives both levels.
    Off,
}

/// The interface to the hardware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// The registers on a Raspberry Pi, else the character device. A line that names a chip, or
    /// whose bias is `as-is`, always uses the character device, because the registers cannot leave
    /// a bias unchanged.
    #[default]
    Auto,
    /// The registers of a Raspberry Pi for levels and bias; the kernel reports the edges.
    RaspberryPi,
    /// The GPIO character device, version 2 of its interface: any Linux board, with Linux 5.10 or
    /// later.
    CharacterDevice,
}
