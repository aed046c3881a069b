//! A reading: a measurement, whose it is, and when it was taken.

use pulsegate_sensors::{Contact, Measurement, SourceId};

pub use crate::record::id::Boot;
use crate::time::{Mono, Wall};

/// The place of a record in this store; rises by one with every record of any lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

/// A measurement with its source and time.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Whose it is.
    pub source: SourceId,
    /// When it arrived, or when the kernel saw it.
    pub mono: Mono,
    /// The time that another program gave with it; it then counts instead of the arrival.
    pub time: Option<Wall>,
    /// What was measured.
    pub value: Value,
    /// What a heart-rate monitor told besides the rate.
    pub detail: Option<Box<HeartDetail>>,
}

/// The value of a reading.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A finite number in the unit of the source; beats per minute for a heart rate.
    Number(f64),
    /// A state: `open`, `closed`, or another program's word of at most 64 bytes.
    State(Box<str>),
}

/// What a heart-rate monitor told besides the rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartDetail {
    /// Whether the monitor feels skin.
    pub contact: Contact,
    /// Kilojoule since the last reset.
    pub energy_kj: Option<u16>,
    /// Beat-to-beat intervals in 1/1024 s, oldest first.
    pub rr: Vec<u16>,
}

impl Reading {
    /// Makes a reading of a measurement that was taken at `mono`.
    #[must_use]
    pub fn new(source: SourceId, mono: Mono, measurement: Measurement) -> Self {
        let (value, detail) = match measurement {
            Measurement::Number(number) => (Value::Number(number), None),
            Measurement::Line(state) => (Value::State(state.as_str().into()), None),
            Measurement::HeartRate(heart) => {
                let plain = heart.contact == Contact::Unsupported
                    && heart.energy_kj.is_none()
                    && heart.rr.is_empty();
                let detail = (!plain).then(|| {
                    Box::new(HeartDetail {
                        contact: heart.contact,
                        energy_kj: heart.energy_kj,
                        rr: heart.rr,
                    })
                });
                (Value::Number(f64::from(heart.bpm)), detail)
            }
        };
        Self { source, mono, time: None, value, detail }
    }

    /// Whether a rule may use the value: a monitor without skin contact tells nothing of a heart.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        self.detail.as_ref().is_none_or(|detail| detail.contact != Contact::Lost)
    }
}
