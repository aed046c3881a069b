//! The tables that a part of the agent uses unchanged: one file for each, with its keys, types,
//! ranges, defaults and checks.

mod buffer;
mod camera;
mod clock;
mod heart_rate;
mod identity;
mod inbox;
mod line;
mod link;
mod log;
mod number;
mod pictures;
mod simulated;
mod status;

pub(crate) use buffer::{Backlog, Buffer};
pub(crate) use camera::Camera;
pub(crate) use clock::{Clock, Trust};
pub(crate) use heart_rate::{Bluetooth, HeartRate};
pub(crate) use identity::Identity;
pub(crate) use inbox::Inbox;
pub(crate) use line::{Gpio, Lid, Trigger};
pub(crate) use link::{Limits, Link, Port};
pub(super) use link::{beyond_aws, split_endpoint};
pub(crate) use log::Log;
pub(crate) use number::Number;
pub(super) use number::check_buses;
pub(crate) use pictures::Pictures;
pub(crate) use simulated::{Simulated, SimulatedKind};
pub(crate) use status::Status;

/// Returns the factor without effect, for `#[serde(default)]`.
fn one() -> f64 {
    1.0
}
