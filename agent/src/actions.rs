//! Outputs and cameras: the actions of rules and visits.

pub(crate) mod cameras;
pub(crate) mod outputs;
