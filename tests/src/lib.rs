//! Harness: the real agent as a process, a real mosquitto, a link between them that can be cut, and
//! certificates for both.
//!
//! Everything runs on loopback and in directories that go away. Whatever is awaited is awaited as a
//! predicate with a deadline; a harness that cannot do its part panics and says which part.

pub mod agent_process;
pub mod answered;
pub mod certs;
pub mod cloud;
pub mod columns;
pub mod date;
pub mod fake_bluez;
pub mod figures;
pub mod inbox;
pub mod leftover;
pub mod link;
pub mod mosquitto;
pub mod process;
pub mod records;
mod seed;
pub mod site;
pub mod small_disk;
pub mod state;
pub mod subscriber;
pub mod trace;
mod wait;

pub use seed::{choose_seed, given_seed};
pub use wait::{PATIENCE, eventually, within};
