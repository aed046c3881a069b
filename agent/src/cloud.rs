//! The link to the cloud: MQTT over TLS, and the publisher of the stored records.

pub(crate) mod link;
pub(crate) mod mqtt;
pub(crate) mod publisher;
pub(crate) mod tls;
