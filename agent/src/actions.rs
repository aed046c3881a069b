//! Outputs and cameras, which act on rules and visits.

pub(crate) mod cameras;
pub(crate) mod outputs;
