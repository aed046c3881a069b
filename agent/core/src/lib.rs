//! Decisions. No I/O, no clock, no async, no threads: input and `now` in, action out.
//!
//! The agent around it reads, waits, writes and publishes; what it does next is decided here, so
//! that every decision can be tested, and replayed over history, without a device.

pub mod act;
pub mod cloud;
pub mod derive;
pub mod record;
pub mod rules;
pub mod time;
pub mod visits;
