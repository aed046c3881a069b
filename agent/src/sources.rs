//! Sources of readings: the drivers, and the sampler that stamps their measurements.

pub(crate) mod drivers;
pub(crate) mod inbox_watch;
pub(crate) mod sampler;
