//! The commands of the program, each in a file.

pub(crate) mod arguments;
pub(crate) mod check;
#[cfg(feature = "demo")]
pub(crate) mod demo;
pub(crate) mod export;
pub(crate) mod listing;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod status;

use std::io::{self, Write as _, stderr, stdout};
use std::path::Path;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use crate::config::{self, Config};
use crate::platform::terminal::{escape_keeping_colour, escape_text};

/// `EX_CONFIG` of `sysexits.h`: systemd does not start the service again.
pub(crate) const BAD_CONFIGURATION: u8 = 78;
/// `EX_TEMPFAIL` of `sysexits.h`: systemd tries again, since the other agent may end.
pub(crate) const STATE_IN_USE: u8 = 75;

/// Prints the version.
pub(crate) fn print_version() -> ExitCode {
    print_text(concat!("pulsegate ", env!("CARGO_PKG_VERSION")))
}

/// Reads the thing and the state directory from the configuration, or prints the faults.
fn peek_config(path: &Path) -> Result<Config, ExitCode> {
    config::peek(path).map_err(|faults| {
        print_error(&faults.to_string());
        ExitCode::from(BAD_CONFIGURATION)
    })
}

/// Prints `text`.
fn print_text(text: &str) -> ExitCode {
    exit_after_write(writeln!(stdout(), "{}", escape_text(text)))
}

/// Prints `text`, and keeps its colours.
fn print_in_colour(text: &str) -> ExitCode {
    exit_after_write(writeln!(stdout(), "{}", escape_keeping_colour(text)))
}

/// Turns the outcome of writing to standard output into an exit status. A reader who closes the
/// pipe early makes the command fail without a message.
fn exit_after_write(outcome: io::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(error) => exit_with_error(&anyhow::Error::new(error).context("cannot write it")),
    }
}

/// Returns a progress bar for `length` steps. Shown on a terminal only.
fn progress_bar(length: u64) -> ProgressBar {
    let style = "{elapsed_precise} {wide_bar} {percent} %";
    let style = ProgressStyle::with_template(style).expect("a template that indicatif knows");
    ProgressBar::new(length).with_style(style)
}

/// Prints `text` to standard error.
pub(crate) fn print_error(text: &str) {
    // There is no other place to say that this one is gone.
    drop(writeln!(stderr(), "{}", escape_text(text)));
}

/// Prints an error to standard error, and returns the exit status of a failure.
fn exit_with_error(error: &anyhow::Error) -> ExitCode {
    print_error(&format!("pulsegate: {error:#}"));
    ExitCode::FAILURE
}
