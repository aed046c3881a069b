//! A virtual device: Debian under QEMU, without KVM, with real systemd, BlueZ and GPIO, and the
//! scenarios that run on it.
//!
//! A [`device::Device`] is the machine with the agent's package on it; a [`rig::Rig`] is what a scenario
//! gets: the device, a broker with mutual TLS, and a clock to ask. Everything lives in one network
//! namespace of its own, so nothing can leave, and in one process namespace, so nothing stays behind.

pub mod account;
pub mod device;
mod device_tree;
pub mod gpio;
pub mod guest;
pub mod image;
mod large_store;
pub mod machine;
pub mod namespace;
pub mod package;
pub mod radio;
pub mod rig;
pub mod runner;
pub mod scenario;
pub mod scenarios;
pub mod straps;
pub mod time_server;
mod wire;
mod write_log;
