//! The command line.

#[cfg(test)]
mod pages;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use pulsegate_core::time::Wall;

#[cfg(feature = "demo")]
use crate::commands::demo::Demo;
use crate::commands::{self, export::Export, listing::Listing, replay::Replay};
use crate::config::DEFAULT_PATH;
use crate::platform::clock;

/// The exit status for arguments that make no sense, as of most programs.
const MISUSED: u8 = 2;

/// An edge gateway agent for Raspberry Pi: heart-rate belts, lids and numbers, kept in SQLite and
/// published to AWS IoT Core over mutual-TLS MQTT. Nothing that was stored is lost.
#[derive(Debug, Parser)]
#[command(version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent: what the systemd service does
    ///
    /// Exit status: 0 after SIGTERM or SIGINT; 78 for a configuration with faults; 75 if another agent works on the
    /// same state directory; 1 for anything else.
    Run(Config),
    /// Show everything on this machine: simulated sensors, a broker with mutual TLS, the real agent
    #[cfg(feature = "demo")]
    Demo(Demo),
    /// Print every fault of a configuration, with line, caret and the nearest valid name
    Check(Report),
    /// Print the JSON Schema of the configuration
    Schema,
    /// Ask the running agent how it is
    Status(Report),
    /// Print the last readings in the store
    Readings(Listing),
    /// Print the last alerts in the store
    Alerts(Listing),
    /// Print the last visits in the store
    Visits(Listing),
    /// Print the alerts and visits that rules would have told, over history or another program's lines
    Replay(Replay),
    /// Write all readings, alerts or visits in the store, for other programs
    Export(Export),
    /// Print the version
    Version,
}

/// Which configuration.
#[derive(Debug, Args)]
pub(crate) struct Config {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub(crate) config: PathBuf,
}

/// Of when.
#[derive(Debug, Args)]
pub(crate) struct Span {
    /// Only what happened so long ago or later: `7d`, or since a time such as `2026-11-20T10:00:00Z`
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    since: Option<Wall>,
    /// Only what happened before, told in the same way
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    until: Option<Wall>,
}

impl Span {
    /// Whether `time` lies in it.
    pub(crate) fn holds(&self, time: Wall) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}

#[derive(Debug, Args)]
struct Report {
    #[command(flatten)]
    config: Config,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command that was given.
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // An argument may be the crafted name of a file; the error repeats it.
        Err(error) if error.use_stderr() => {
            commands::complain(error.render().to_string().trim_end());
            return ExitCode::from(MISUSED);
        }
        Err(help) => help.exit(),
    };
    match cli.command {
        Command::Run(config) => commands::run::run(&config.config),
        #[cfg(feature = "demo")]
        Command::Demo(demo) => commands::demo::run(&demo),
        Command::Check(report) => commands::check::run(&report.config.config, report.json),
        Command::Schema => commands::schema::run(),
        Command::Status(report) => commands::status::run(&report.config.config, report.json),
        Command::Readings(listing) => commands::listing::readings(&listing),
        Command::Alerts(listing) => commands::listing::alerts(&listing),
        Command::Visits(listing) => commands::listing::visits(&listing),
        Command::Replay(replay) => commands::replay::run(&replay),
        Command::Export(export) => commands::export::run(&export),
        Command::Version => commands::version(),
    }
}

/// Reads a duration as the configuration writes it: `60s`, `5m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    crate::config::parse_duration(text).map_err(str::to_owned)
}

/// Reads a duration back from now, or a time.
fn moment(text: &str) -> Result<Wall, String> {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(Wall(time.as_millisecond())),
        Err(_) if text.contains(['-', ':', 'T', 'Z']) => {
            Err("a time has its date, its seconds and its zone, such as 2026-11-20T10:00:00Z"
                .into())
        }
        Err(_) => Ok(clock::wall() - duration(text)?),
    }
}
