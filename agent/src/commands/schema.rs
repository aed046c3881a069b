//! `pulsegate schema`: the JSON Schema of the configuration, for editors.

use std::process::ExitCode;

use super::print_text;
use crate::config;

/// Prints the schema.
#[must_use]
pub(crate) fn run() -> ExitCode {
    print_text(&format!("{:#}", config::schema().as_value()))
}
