//! Measurements that are calculated from other measurements.

pub mod heart_variability;
