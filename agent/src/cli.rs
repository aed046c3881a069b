//! The command line: all commands with their help texts.

#[cfg(test)]
mod pages;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::commands::arguments::ConfigArgument;
#[cfg(feature = "demo")]
use crate::commands::demo::Demo;
use crate::commands::{self, export::Export, listing::Listing, replay::ReplayArguments};

/// The exit status for wrong arguments, as in most programs.
const MISUSED: u8 = 2;

/// An edge gateway agent for Raspberry Pi
///
/// Reads heart-rate belts, GPIO lines, number files and other programs, keeps every reading in
/// SQLite, applies rules on the device, and publishes to AWS IoT Core over MQTT with mutual TLS. A
/// power cut loses no stored record.
#[derive(Debug, Parser)]
#[command(version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent, as the systemd service does
    ///
    /// Logs to standard error. SIGHUP reloads the configuration; SIGTERM and SIGINT stop the agent
    /// after a last commit. The environment variable PULSEGATE_LOG, such as `debug`, replaces
    /// `log.level` of the configuration.
    ///
    /// Exit status: 0 after SIGTERM or SIGINT; 78 for an invalid configuration; 75 if another agent
    /// uses the same state directory; 1 for any other failure.
    Run(ConfigArgument),
    /// Demonstrate the agent on this machine, with simulated sensors and a stand-in for the broker
    ///
    /// Needs no configuration, no root and no network. Exit status: 0 if no record was lost; 1
    /// otherwise.
    #[cfg(feature = "demo")]
    Demo(Demo),
    /// Print every fault of a configuration, with line, caret and the nearest valid name
    ///
    /// Also prints warnings, which do not prevent a start. Exit status: 0 without faults; 78 with
    /// faults.
    Check(ReportArguments),
    /// Print the JSON Schema of the configuration, for editors that complete and check TOML
    Schema,
    /// Print the state of the running agent, its faults first
    ///
    /// Finds the agent by `status.socket` of the configuration. Exit status: 0 if the agent
    /// answers; 78 for an unreadable configuration; 1 otherwise.
    Status(ReportArguments),
    /// Print the last readings in the store, with or without a running agent
    Readings(Listing),
    /// Print the last alerts in the store, with or without a running agent
    Alerts(Listing),
    /// Print the last visits in the store, with or without a running agent
    Visits(Listing),
    /// Print the alerts and visits that rules decide over the stored history, or over lines of a
    /// file
    ///
    /// Compares with the stored history: `+` marks an alert or visit that was not stored, `-` one
    /// that was stored and is not decided now. Writes nothing to the store. Exit status: 0; 78 for
    /// an invalid configuration; 1 if a line was invalid, or for any other failure.
    Replay(ReplayArguments),
    /// Write all readings, alerts or visits in the store as CSV or JSON Lines
    Export(Export),
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
struct ReportArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Parses the command line and runs the command.
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // An argument may be the crafted name of a file; the error repeats it.
        Err(error) if error.use_stderr() => {
            commands::print_error(error.render().to_string().trim_end());
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
        Command::Readings(listing) => commands::listing::list_readings(&listing),
        Command::Alerts(listing) => commands::listing::list_alerts(&listing),
        Command::Visits(listing) => commands::listing::list_visits(&listing),
        Command::Replay(replay) => commands::replay::run(&replay),
        Command::Export(export) => commands::export::run(&export),
        Command::Version => commands::print_version(),
    }
}
