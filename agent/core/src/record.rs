//! Readings, events, the lanes that records travel in, and the ids of records.

pub mod event;
pub mod id;
pub mod lane;
pub mod reading;
