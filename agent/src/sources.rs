//! Sources of readings: drivers, and the sampler that stamps what they measure.

pub(crate) mod drivers;
pub(crate) mod inbox_watch;
pub(crate) mod sampler;
