//! The configuration: one TOML file, checked as a whole before anything starts.

mod model;
mod rules;
mod sensors;

pub use model::*;
