//! The command line.

#[cfg(test)]
mod pages;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::commands::arguments::ConfigArgument;
#[cfg(feature = "demo")]
use crate::commands::demo::Demo;
use crate::commands::{self, export::Export, listing::Listing, replay::ReplayArguments};

/// The exit status for wrong arguments, as of most programs.
const MISUSED: u8 = 2;

/// An edge gateway agent for Raspberry Pi: heart-rate belts, lids and numbers, kept in SQLite and
/// published to AWS IoT Core over mutual-TLS MQTT. No stored record is lost.
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
    /// Exit status: 0 after SIGTERM or SIGINT; 78 for an invalid configuration; 75 if another agent uses the same
    /// state directory; 1 for any other failure.
    Run(ConfigArgument),
    /// Show the real agent on this machine, with simulated sensors and a broker with mutual TLS
    #[cfg(feature = "demo")]
    Demo(Demo),
    /// Print every fault of a configuration, with line, caret and the nearest valid name
    Check(ReportArguments),
    /// Print the JSON Schema of the configuration
    Schema,
    /// Print the state of the running agent, its faults first
    Status(ReportArguments),
    /// Print the last readings in the store
    Readings(Listing),
    /// Print the last alerts in the store
    Alerts(Listing),
    /// Print the last visits in the store
    Visits(Listing),
    /// Print the alerts and visits of rules over the stored history, or over lines of another program
    Replay(ReplayArguments),
    /// Write all readings, alerts or visits in the store, for other programs
    Export(Export),
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
struct ReportArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Print JSON
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
