//! Heart-rate monitors: the GATT Heart Rate profile, read through BlueZ.
//!
//! [`packet`] decodes the bytes of a monitor, and [`ladder`] chooses the cure for a silent monitor;
//! both are pure. [`bluez`] acts on the choice through the system bus. A monitor is identified by
//! its address or its name; neither is ever printed, since either may identify the wearer.

#[cfg(feature = "drivers")]
pub mod bluez;
mod identity;
pub mod ladder;
pub mod packet;

pub use identity::{Address, MonitorIdentity, Name, NotAnAddress, without_addresses};
