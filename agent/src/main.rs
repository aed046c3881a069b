//! The agent.
#![expect(dead_code, reason = "the configuration is here before the parts that it is for")]

mod commands;
mod config;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let path = arguments.iter().skip(1).find(|argument| *argument != "--json");
    match arguments.first().map(String::as_str) {
        Some("schema") => commands::schema::run(),
        _ => commands::check::run(Path::new(path.map_or(config::DEFAULT_PATH, |path| path)), json),
    }
}
