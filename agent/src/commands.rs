//! What the program can be asked to do.

pub(crate) mod check;
pub(crate) mod schema;

use std::io::{Write as _, stdout};
use std::process::ExitCode;

/// Prints `text`. That nobody reads it to its end is a failure, but none to speak of.
fn print(text: &str) -> ExitCode {
    match writeln!(stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
