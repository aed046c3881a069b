//! Replaces the crate `regex`, under the same name, by `regex-lite`, which has the same interface
//! without Unicode tables and automata. `rpi-pal` uses `regex` once, to read the kernel's version
//! from `/proc/version`, and the full crate would be a twelfth of the program. `[patch.crates-io]`
//! in the workspace selects this crate; no other crate of the workspace depends on `regex`.

pub use regex_lite::*;
