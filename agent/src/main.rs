//! pulsegate: an edge gateway agent for Raspberry Pi.

mod agent;
mod aside;
mod boot;
mod cameras;
mod cli;
mod clock;
mod commands;
mod compile;
mod config;
mod drivers;
mod durable;
mod inbox_watch;
mod mqtt;
mod outputs;
mod publisher;
mod regular;
mod sampler;
mod state_dir;
mod state_lock;
mod status;
mod store;
mod systemd;
mod terminal;
mod tls;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
