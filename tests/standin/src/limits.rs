//! The service's limits, each with the number that its documentation gives, and what breaks them.
//!
//! Pure checks: the connection asks, and closes when the answer is a [`Violation`]. `None` switches a
//! limit off.

use std::ops::RangeInclusive;
use std::time::Duration;

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Publish, Subscribe};

use crate::topic;

/// Limits per connection. [`Limits::default`] has the service's own, without the two that take time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Whether a client must name a host in the TLS handshake (SNI).
    pub server_name: bool,
    /// Whether the client id must be the certificate's common name.
    pub client_id_is_common_name: bool,
    /// One CONNECT a second for one client id; more are closed. Off by default: it slows tests down.
    pub one_connect_a_second: bool,
    /// Keep-alive in seconds is brought into this range, and 0 to its end.
    pub keep_alive: Option<RangeInclusive<u16>>,
    /// Filters in one SUBSCRIBE.
    pub filters: Option<usize>,
    /// Subscriptions of one connection.
    pub subscriptions: Option<usize>,
    /// Bytes of one payload.
    pub payload_bytes: Option<usize>,
    /// Bytes of one topic.
    pub topic_bytes: Option<usize>,
    /// Slashes in one topic, its Basic Ingest prefix apart.
    pub topic_slashes: Option<usize>,
    /// Publishes a second and connection; more are dropped without an answer. Off by default: it
    /// slows tests down.
    pub publishes_a_second: Option<u32>,
    /// Publishes without PUBACK, each way.
    pub in_flight: Option<usize>,
    /// How long a persistent session outlives its connection.
    pub session_expiry: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            server_name: true,
            client_id_is_common_name: true,
            one_connect_a_second: false,
            keep_alive: Some(30..=1200),
            filters: Some(8),
            subscriptions: Some(50),
            payload_bytes: Some(128 * 1024),
            topic_bytes: Some(256),
            topic_slashes: Some(7),
            publishes_a_second: None,
            in_flight: Some(100),
            session_expiry: Duration::from_secs(3600),
        }
    }
}

/// A rule of the service that a client broke; its connection is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// No SNI.
    #[error("no server name in the handshake")]
    NoServerName,
    /// The protocol of the TLS handshake does not suit the port.
    #[error("wrong application protocol for this port")]
    Alpn,
    /// The client id is empty, too long, begins with `$`, or is not the certificate's name.
    #[error("client id `{0}` is not the certificate's")]
    ClientId(String),
    /// A second CONNECT of one client id within a second.
    #[error("more than one CONNECT a second")]
    ConnectRate,
    /// The policy does not allow it.
    #[error("the policy forbids to {action} `{subject}`")]
    Forbidden {
        /// What was tried.
        action: &'static str,
        /// On which client id, topic or filter.
        subject: String,
    },
    /// The payload, or the whole packet, is too large.
    #[error("payload of {0} bytes")]
    Payload(usize),
    /// The topic is too long.
    #[error("topic of {0} bytes")]
    TopicLength(usize),
    /// The topic has too many levels.
    #[error("topic with {0} slashes")]
    TopicDepth(usize),
    /// QoS 2, which the service never answers; here it ends the connection, so that it is noticed.
    #[error("QoS 2")]
    QosTwo,
    /// RETAIN on a reserved topic.
    #[error("RETAIN on a reserved topic")]
    RetainReserved,
    /// Too many filters in one SUBSCRIBE.
    #[error("{0} filters in one SUBSCRIBE")]
    Filters(usize),
    /// Too many subscriptions.
    #[error("{0} subscriptions")]
    Subscriptions(usize),
    /// A filter that is not one.
    #[error("bad filter `{0}`")]
    BadFilter(String),
    /// Too many publishes without PUBACK.
    #[error("more than {0} publishes in flight")]
    InFlight(usize),
    /// Bytes that are not MQTT 3.1.1, or a packet out of place.
    #[error("protocol: {0}")]
    Protocol(String),
}

/// What every fixed header, topic and packet id of one PUBLISH may take beside its payload.
const PUBLISH_OVERHEAD_BYTES: usize = 5 + 2 + 65_535 + 2;
/// MQTT 3.1.1, 2.2.3: the largest remaining length.
const LARGEST_PACKET_BYTES: usize = 268_435_455;

impl Limits {
    /// Takes every limit away that can be.
    #[must_use]
    pub fn none() -> Self {
        Self {
            server_name: false,
            client_id_is_common_name: false,
            one_connect_a_second: false,
            keep_alive: None,
            filters: None,
            subscriptions: None,
            payload_bytes: None,
            topic_bytes: None,
            topic_slashes: None,
            publishes_a_second: None,
            in_flight: None,
            session_expiry: Duration::from_secs(3600),
        }
    }

    pub(crate) fn packet_bytes(&self) -> usize {
        self.payload_bytes.map_or(LARGEST_PACKET_BYTES, |payload| payload + PUBLISH_OVERHEAD_BYTES)
    }

    /// The keep-alive in force, in seconds; 0 is none.
    pub(crate) fn effective_keep_alive(&self, asked: u16) -> u16 {
        match &self.keep_alive {
            Some(range) if asked == 0 => *range.end(),
            Some(range) => asked.clamp(*range.start(), *range.end()),
            None => asked,
        }
    }

    pub(crate) fn check_client_id(&self, id: &str, common_name: &str) -> Result<(), Violation> {
        const CLIENT_ID_BYTES: usize = 128;
        let valid = !id.is_empty() && id.len() <= CLIENT_ID_BYTES && !id.starts_with('$');
        if self.client_id_is_common_name && !(valid && id == common_name) {
            return Err(Violation::ClientId(id.to_owned()));
        }
        Ok(())
    }

    pub(crate) fn check_publish(&self, publish: &Publish, topic: &str) -> Result<(), Violation> {
        let slashes = topic::without_basic_ingest(topic).matches('/').count();
        if exceeds(publish.payload.len(), self.payload_bytes) {
            return Err(Violation::Payload(publish.payload.len()));
        }
        if exceeds(topic.len(), self.topic_bytes) {
            return Err(Violation::TopicLength(topic.len()));
        }
        if exceeds(slashes, self.topic_slashes) {
            return Err(Violation::TopicDepth(slashes));
        }
        if publish.retain && topic::is_reserved(topic) {
            return Err(Violation::RetainReserved);
        }
        if publish.qos == QoS::ExactlyOnce {
            return Err(Violation::QosTwo);
        }
        Ok(())
    }

    pub(crate) fn check_subscribe(&self, subscribe: &Subscribe) -> Result<(), Violation> {
        if exceeds(subscribe.filters.len(), self.filters) {
            return Err(Violation::Filters(subscribe.filters.len()));
        }
        let bad = |filter: &&rumqttc::mqttbytes::v4::SubscribeFilter| {
            !rumqttc::mqttbytes::valid_filter(&filter.path)
        };
        match subscribe.filters.iter().find(bad) {
            Some(filter) => Err(Violation::BadFilter(filter.path.clone())),
            None => Ok(()),
        }
    }

    pub(crate) fn check_in_flight(&self, unacknowledged: usize) -> Result<(), Violation> {
        match self.in_flight {
            Some(limit) if unacknowledged > limit => Err(Violation::InFlight(limit)),
            Some(_) | None => Ok(()),
        }
    }

    pub(crate) fn check_subscriptions(&self, held: usize) -> Result<(), Violation> {
        if exceeds(held, self.subscriptions) { Err(Violation::Subscriptions(held)) } else { Ok(()) }
    }
}

fn exceeds(measured: usize, limit: Option<usize>) -> bool {
    limit.is_some_and(|limit| measured > limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_alive_is_brought_into_range_and_none_means_the_longest() {
        let limits = Limits::default();

        assert_eq!(limits.effective_keep_alive(5), 30);
        assert_eq!(limits.effective_keep_alive(60), 60);
        assert_eq!(limits.effective_keep_alive(5000), 1200);
        assert_eq!(limits.effective_keep_alive(0), 1200);
        assert_eq!(Limits::none().effective_keep_alive(5), 5);
    }

    #[test]
    fn each_publish_limit_holds_at_its_edge() {
        let limits = Limits::default();
        let check = |topic: &str, bytes: usize| {
            let publish = Publish::new(topic, QoS::AtLeastOnce, vec![0; bytes]);
            limits.check_publish(&publish, topic)
        };

        assert_eq!(check("a", 131_072), Ok(()));
        assert_eq!(check("a", 131_073), Err(Violation::Payload(131_073)));
        assert_eq!(check(&"a".repeat(256), 1), Ok(()));
        assert_eq!(check(&"a".repeat(257), 1), Err(Violation::TopicLength(257)));
        assert_eq!(check("a/b/c/d/e/f/g/h", 1), Ok(()));
        assert_eq!(check("a/b/c/d/e/f/g/h/i", 1), Err(Violation::TopicDepth(8)));
        assert_eq!(check("$aws/rules/r/a/b/c/d/e/f/g/h", 1), Ok(()));
    }
}
