//! Stands in for the crate `regex`, under its name, with `regex-lite`, which has the same interface without
//! Unicode tables and automata. `rpi-pal` takes `regex` to read the kernel's version out of `/proc/version`,
//! once; that would be one byte in twelve of the program. `[patch.crates-io]` in the workspace puts this in
//! its place; nothing else here depends on it.

pub use regex_lite::*;
