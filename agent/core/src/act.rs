//! Outputs and cameras: which alerts and visits they follow, and what each of them does next.

pub mod capture;
pub mod output;
pub mod standing;
