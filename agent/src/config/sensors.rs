//! Every source that a configuration names, and what reaches it.

use std::path::PathBuf;
use std::time::Duration;

use pulsegate_sensors::forbidden::Forbidden;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Every source, and what reaches it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sensors {
    /// How Bluetooth is used.
    pub bluetooth: Bluetooth,
    /// How lines are read.
    pub gpio: Gpio,
    /// Heart-rate monitors.
    pub heart_rates: Vec<HeartRate>,
    /// Lid switches.
    pub lids: Vec<Lid>,
    /// Movement sensors and buttons.
    pub triggers: Vec<Trigger>,
    /// Numbers in files.
    pub numbers: Vec<Number>,
    /// Sockets for other programs' readings.
    pub inboxes: Vec<Inbox>,
    /// Sources that are made up.
    pub simulated: Vec<Simulated>,
    /// Cameras.
    pub cameras: Vec<Camera>,
}

/// How Bluetooth is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bluetooth {
    /// The adapter, such as `hci0`; every adapter if absent.
    pub adapter: Option<String>,
    /// After that long without a notification a monitor is healed.
    pub silence: Duration,
}

/// How lines are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gpio {
    /// By which driver.
    pub backend: Backend,
    /// The character device, such as `/dev/gpiochip0`; found by itself if absent.
    pub chip: Option<PathBuf>,
}

/// Which driver reads lines.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Backend {
    /// The registers on a Raspberry Pi, else the character device.
    #[default]
    Auto,
    /// The registers of a Raspberry Pi.
    RaspberryPi,
    /// The GPIO character device of Linux.
    CharacterDevice,
}

/// A heart-rate monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeartRate {
    /// Its opaque id.
    pub id: String,
    /// Which monitor it is.
    pub monitor: Monitor,
    /// Whether RR intervals are published.
    pub rr: bool,
    /// Whether heart-rate variability is derived.
    pub variability: bool,
}

/// How a monitor is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Monitor {
    /// By its Bluetooth address, as it is written: the first byte first.
    Address([u8; 6]),
    /// By the name that it advertises.
    Name(String),
}

/// A lid switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lid {
    /// Its opaque id.
    pub id: String,
    /// BCM number, or the offset on the chip.
    pub pin: u16,
    /// Shorter changes are bounce.
    pub debounce: Duration,
    /// The level of a closed lid.
    pub closed: Level,
    /// The resistor that the line gets.
    pub bias: Bias,
}

/// A movement sensor or a button.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trigger {
    /// Its opaque id.
    pub id: String,
    /// Which of them.
    pub kind: TriggerKind,
    /// BCM number, or the offset on the chip.
    pub pin: u16,
    /// Shorter changes are bounce.
    pub debounce: Duration,
    /// The level of a trigger that fires.
    pub active: Level,
    /// The resistor that the line gets.
    pub bias: Bias,
}

/// What a trigger is; the kind of its readings.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TriggerKind {
    /// A movement sensor.
    Movement,
    /// A button.
    Button,
}

impl TriggerKind {
    /// The kind of its readings.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Movement => "movement",
            Self::Button => "button",
        }
    }
}

/// The level of a line.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Level {
    /// Ground.
    Low,
    /// Supply.
    High,
}

/// The resistor that a line gets.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Bias {
    /// What it has.
    #[default]
    AsIs,
    /// To supply.
    PullUp,
    /// To ground.
    PullDown,
    /// None.
    Off,
}

/// A number in a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Number {
    /// Its opaque id.
    pub id: String,
    /// The kind of its readings.
    pub kind: String,
    /// The file.
    pub file: PathBuf,
    /// The value is `number * scale + offset`.
    pub scale: f64,
    /// See `scale`.
    pub offset: f64,
    /// The unit of the value.
    pub unit: Option<String>,
    /// How often it is read.
    pub every: Duration,
}

/// A socket for other programs' readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inbox {
    /// The Unix socket.
    pub path: PathBuf,
    /// The only ids that may speak; any may if absent.
    pub sources: Option<Vec<String>>,
    /// What none of its lines may contain.
    pub forbidden: Forbidden,
}

/// A source that is made up.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Simulated {
    /// Its opaque id.
    pub id: String,
    /// What it pretends to be.
    pub kind: SimulatedKind,
    /// Time between two measurements; zero is flat out.
    pub every: Duration,
    /// The same seed gives the same measurements.
    pub seed: u64,
    /// The mean at the start.
    pub mean: f64,
    /// How far measurements stray from the mean.
    pub spread: f64,
    /// How the mean changes.
    pub steps: Vec<Step>,
    /// A file of RR intervals that is played back instead.
    pub replay: Option<PathBuf>,
    /// What goes wrong, and how often.
    pub faults: SimulatedFaults,
    /// Whether RR intervals are published.
    pub rr: bool,
    /// Whether heart-rate variability is derived.
    pub variability: bool,
}

/// What a simulated source pretends to be; the kind of its readings.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SimulatedKind {
    /// A heart-rate monitor.
    HeartRate,
    /// A number.
    Number,
    /// A lid switch.
    Lid,
}

impl SimulatedKind {
    /// The kind of its readings.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::HeartRate => "heart_rate",
            Self::Number => "number",
            Self::Lid => "lid",
        }
    }
}

/// A change of the mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    /// When, after the start of the agent.
    pub at: Duration,
    /// The mean from then on.
    pub mean: f64,
}

/// What goes wrong: probabilities, each for one measurement.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct SimulatedFaults {
    /// The belt feels no skin.
    pub contact_lost: f64,
    /// When nothing comes: from when on, and how long.
    pub silences: Vec<(Duration, Duration)>,
    /// How often a lid's contact bounces at most when the lid moves.
    pub bounces: u8,
    /// A value far off.
    pub spikes: f64,
    /// Bytes that are no measurement.
    pub garbage: f64,
}

/// A camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Camera {
    /// Its opaque id.
    pub id: String,
    /// The program that takes a picture, and its arguments.
    pub command: Vec<String>,
    /// It is killed after that long.
    pub deadline: Duration,
    /// It rests for that long after each picture.
    pub rest: Duration,
}
