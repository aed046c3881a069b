//! The agent.
mod config;

fn main() {}
