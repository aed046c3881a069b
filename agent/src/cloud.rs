//! The link to the cloud: MQTT over TLS, and the publisher that sends what the store holds.

pub(crate) mod mqtt;
pub(crate) mod publisher;
pub(crate) mod tls;
