//! Harness.

pub mod fake_bluez;
