//! Drivers: hardware in, measurements out; and the outputs, the other way round.
//!
//! A driver owns one interface to the world (a belt, a line, a file, a socket) and sends an
//! [`Observation`] for each event through an [`Outlet`]. Drivers store nothing: an observation that
//! is not stored yet is lost with the process. A driver without a measurement sends the reason
//! ([`NoReading`]) instead of falling silent.
//!
//! Without the feature `drivers` only the pure part is built, which is all that `pulsegate-core`
//! uses.

pub mod forbidden;
pub mod grid;
pub mod heart_rate;
#[cfg(feature = "drivers")]
pub mod inbox;
pub mod line;
mod measurement;
#[cfg(feature = "drivers")]
pub mod number;
#[cfg(feature = "drivers")]
mod outlet;
#[cfg(feature = "drivers")]
pub mod output;
#[cfg(feature = "drivers")]
pub mod places;
#[cfg(feature = "drivers")]
pub mod simulated;
mod source;

pub use measurement::{Contact, HeartRate, LineState, Measurement, NoReading};
#[cfg(feature = "drivers")]
pub use outlet::{Observation, Outlet};
pub use source::{
    InvalidName, MAX_CLIENT_SOURCES, MAX_NAME_BYTES, MAX_SOURCES, SENSOR_SOURCES, Source, SourceId,
    Sources, TooManySources, is_kind, is_source_name,
};
