//! Readings, events, lanes, and the ids of records.

pub mod event;
pub mod id;
pub mod lane;
pub mod reading;
