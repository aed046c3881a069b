//! The stand-in as a client sees it: over real TCP and TLS, with a client of bare packets where the
//! order of bytes matters, and the agent's own MQTT client where that is what matters.

#![expect(clippy::unwrap_used, reason = "the bed is test code outside of test functions")]

mod bed;
mod faults;
mod limits;
mod mqtt_client;
mod sessions;
mod tls;
