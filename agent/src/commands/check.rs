//! `pulsegate check`: prints all faults of a configuration at once.

use std::io::{IsTerminal as _, stdout};
use std::path::Path;
use std::process::ExitCode;

use super::{BAD_CONFIGURATION, print_in_colour, print_text};
use crate::agent::state_dir;
use crate::config;

/// Prints every fault and warning of the file at `path`. Warnings alone are no failure.
#[must_use]
pub(crate) fn run(path: &Path, json: bool) -> ExitCode {
    let report = config::examine(path, |config| {
        state_dir::look_at(&config.state_dir, config.buffer.max_bytes)
    });
    let colour = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let printed = if json {
        print_text(&format!("{:#}", report.to_json()))
    } else if colour {
        print_in_colour(&report.render(true))
    } else {
        print_text(&report.render(false))
    };
    match report.faults() {
        0 => printed,
        _ => ExitCode::from(BAD_CONFIGURATION),
    }
}
