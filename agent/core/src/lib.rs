//! Decisions. No I/O, no clock, no async, no threads: input and `now` in, action out.
//!
//! The `agent` crate reads, waits, writes and publishes; this crate decides the next action of the
//! agent. Every decision can therefore be tested, and replayed over history, without a device.

pub mod act;
pub mod cloud;
pub mod derive;
pub mod record;
pub mod rules;
pub mod time;
pub mod visits;
