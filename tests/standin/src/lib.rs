//! A stand-in for AWS IoT Core, for `pulsegate demo` and the tests.
//!
//! It follows what is publicly written about the service: which limits close a connection, which
//! topics a policy opens, what a session keeps. It was never compared with the real one, promises no
//! durability, listens on loopback only, and depends on no other crate of this workspace.

pub mod pki;
