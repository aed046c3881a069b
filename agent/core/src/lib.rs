//! Decisions. No I/O, no clock, no async, no threads: input and `now` in, action out.

pub mod backoff;
pub mod reading;
pub mod rules;
pub mod time;
