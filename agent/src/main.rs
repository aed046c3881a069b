//! The agent.
mod clock;
mod commands;
mod config;
mod durable;
mod mqtt;
mod publisher;
mod store;
mod tls;

fn main() {}
