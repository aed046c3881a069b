//! Measurements, and the reasons for their absence.

/// One value, as the hardware gave it.
#[derive(Debug, Clone, PartialEq)]
pub enum Measurement {
    /// A Heart Rate Measurement (GATT characteristic 0x2A37).
    HeartRate(HeartRate),
    /// The new state of a line, or its state when the line was opened.
    Line(LineState),
    /// A number in the unit of its source.
    Number(f64),
}

/// A decoded Heart Rate Measurement: Heart Rate Service 1.0, section 3.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartRate {
    /// Beats per minute; 0 if the monitor has no value.
    pub bpm: u16,
    /// The contact between the monitor and the skin.
    pub contact: Contact,
    /// Energy expended since the last reset, in kilojoule; saturates at 65,535.
    pub energy_kj: Option<u16>,
    /// Beat-to-beat intervals, oldest first, in 1/1024 s.
    pub rr: Vec<u16>,
}

/// The skin contact that a monitor reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// The monitor cannot detect contact.
    Unsupported,
    /// The monitor can detect contact, and detects none.
    Lost,
    /// The monitor feels skin.
    Detected,
}

/// The two states of a line, after `closed`/`active` levels were applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LineState {
    /// A lid that is closed.
    Closed,
    /// A lid that is open.
    Open,
    /// A trigger at rest.
    Idle,
    /// A trigger that fires: movement, a pressed button.
    Active,
}

impl LineState {
    /// The word for this state in records and rules.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Idle => "idle",
            Self::Active => "active",
        }
    }
}

/// The reason that a source has no measurement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoReading {
    /// The monitor, line or file is not there.
    #[error("not found: {0}")]
    Absent(String),
    /// The device is present and sends nothing.
    #[error("silent for {seconds} s")]
    Silent {
        /// The duration of the silence, in seconds.
        seconds: u64,
    },
    /// A read has not returned.
    #[error(
        "hung: a read{} has not returned for {seconds} s; check wiring and power of the device",
        if *.is_another { " of another file on its bus" } else { "" }
    )]
    Hung {
        /// The duration of the read so far, in seconds.
        seconds: u64,
        /// `true` if the read is of another file on the same bus.
        is_another: bool,
    },
    /// The device sent data that is not a measurement.
    #[error("not a measurement: {0}")]
    Garbage(String),
    /// The device is present and failed.
    #[error("failed: {0}")]
    Failed(String),
}
