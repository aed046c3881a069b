//! Decisions. No I/O, no clock, no async, no threads: input and `now` in, action out.

pub mod reading;
pub mod time;
