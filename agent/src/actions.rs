//! Outputs and cameras: carry out what rules and visits ask for.

pub(crate) mod cameras;
pub(crate) mod outputs;
