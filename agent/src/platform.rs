//! Access to the device and its operating system: clocks, files, systemd, the terminal, and threads
//! for calls that may hang.

pub(crate) mod aside;
pub(crate) mod boot;
pub(crate) mod clock;
pub(crate) mod durable;
pub(crate) mod pulse;
pub(crate) mod regular;
pub(crate) mod state_lock;
pub(crate) mod systemd;
pub(crate) mod terminal;
