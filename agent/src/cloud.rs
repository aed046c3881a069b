//! The link to the cloud: MQTT over TLS, and the publisher that sends the stored records.

pub(crate) mod mqtt;
pub(crate) mod publisher;
pub(crate) mod tls;
