//! Heart-rate monitors: the GATT Heart Rate profile, and BlueZ as the way to it.
//!
//! [`packet`] says what a monitor's bytes mean and [`ladder`] what to do about one that fell silent: both
//! are pure. [`bluez`] carries that out through the system bus. A monitor is known by its address or its
//! name ([`Identity`]); neither is ever printed, for either may tell who wears it.

#[cfg(feature = "drivers")]
pub mod bluez;
mod identity;
pub mod ladder;
pub mod packet;

pub use identity::{Address, Identity, Name, NotAnAddress, without_addresses};
