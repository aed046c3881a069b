//! A reading: a measurement with its source and its time.

use pulsegate_sensors::{Contact, Measurement, SourceId};

pub use crate::record::id::Boot;
use crate::time::timeline::{ClockTrust, Epoch, Timeline};
use crate::time::{Mono, Wall};

/// The place of a record in this store. Each record, of any lane, has the next higher place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

/// A measurement with its source and time.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The source of the measurement.
    pub source: SourceId,
    /// The monotonic time of the arrival, or of the edge seen by the kernel.
    pub mono: Mono,
    /// The time given by another program, in place of the arrival; `None` if the reading has no
    /// time of its own.
    pub time: Option<Wall>,
    /// The measured value.
    pub value: Value,
    /// The further data of a heart-rate monitor.
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

/// The data of a heart-rate monitor besides the rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartDetail {
    /// The skin contact of the monitor.
    pub contact: Contact,
    /// The energy since the last reset, in kilojoule.
    pub energy_kj: Option<u16>,
    /// Beat-to-beat intervals in 1/1024 s, oldest first.
    pub rr: Vec<u16>,
}

impl Reading {
    /// Creates a reading from a measurement taken at `mono`. A heart-rate measurement without
    /// contact status, energy and intervals has no detail.
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

    /// Returns the time on the axis of the rules: the time given with the reading, or else the arrival in the
    /// kernel start `epoch` plus an offset fixed for that start.
    #[must_use]
    pub fn event_time(&self, timeline: &Timeline, epoch: Epoch) -> Wall {
        self.time.unwrap_or_else(|| timeline.reference_time(epoch, self.mono))
    }

    /// Returns the wall time as far as known by now, of a reading that arrived in the kernel start `epoch`, and the
    /// trust in that time.
    #[must_use]
    pub fn wall_time(&self, timeline: &Timeline, epoch: Epoch) -> (Wall, ClockTrust) {
        match self.time {
            Some(own) => (own, ClockTrust::Trusted),
            None => timeline.wall_time(epoch, self.mono),
        }
    }

    /// Returns `true` if a rule may use the value: a monitor without skin contact does not measure
    /// a heart.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        self.detail.as_ref().is_none_or(|detail| detail.contact != Contact::Lost)
    }
}
