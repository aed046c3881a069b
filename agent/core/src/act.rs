//! Decisions for outputs and cameras: the alerts and visits to follow, and the next action to take.

pub mod capture;
pub mod output;
pub mod standing;
