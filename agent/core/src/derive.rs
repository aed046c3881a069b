//! Measurements calculated from other measurements.

pub mod heart_variability;
