//! A stand-in for AWS IoT Core, for `pulsegate demo` and the tests.
//!
//! It follows what is publicly written about the service: which limits close a connection, which
//! topics a policy opens, what a session keeps. It was never compared with the real one, promises no
//! durability, listens on loopback only, and depends on no other crate of this workspace. Asked to, it
//! misbehaves in every way a network or a server may ([`faults`]).

pub mod broker;
pub mod faults;
pub mod journal;
pub mod limits;
pub mod pki;
pub mod policy;
pub mod record;
pub mod tls;
mod topic;

pub use broker::{Alpn, Broker, Door, Options};
pub use faults::{Cut, Faults, OnConnect, SessionPresent};
pub use journal::Journal;
pub use limits::{Limits, Violation};
pub use pki::{Identity, Pki, Validity};
pub use policy::Policy;
pub use record::{Arrival, ConnectionRecord, End};
