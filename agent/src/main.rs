//! pulsegate: an edge gateway agent for Raspberry Pi.

mod actions;
mod agent;
mod cli;
mod cloud;
mod commands;
mod config;
mod context;
mod db;
mod platform;
mod replay;
mod sources;
mod status;
mod store;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
