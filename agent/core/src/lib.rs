//! Decisions. No I/O, no clock, no async, no threads: input and `now` in, action out.
//!
//! The agent around it reads, waits, writes and publishes; what it does next is decided here, so
//! that every decision can be tested, and replayed over history, without a device.

pub mod backoff;
pub mod batch;
pub mod capture;
pub mod clock;
pub mod delivery;
pub mod filter;
pub mod heart_variability;
pub mod lane;
pub mod output;
pub mod pace;
pub mod reading;
pub mod record;
pub mod record_id;
pub mod rules;
pub mod standing;
pub mod time;
pub mod timeline;
pub mod topic;
pub mod visit;
