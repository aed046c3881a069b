//! The reason for the end of a connection, in words for `status`, with its consequences for the
//! backoff and for the messages on their way.

use std::io;

use pulsegate_core::cloud::backoff::ConnectFailure;
use pulsegate_core::cloud::delivery::LinkEnd;
use rumqttc::{ConnectReturnCode, ConnectionError, StateError, TlsError};

use crate::cloud::tls::{self, Retry};

/// The end of a connection in words, with its consequences.
pub(super) struct Reason {
    pub(super) text: String,
    pub(super) failure: ConnectFailure,
    pub(super) death: LinkEnd,
}

impl Reason {
    pub(super) fn from_network(text: impl Into<String>) -> Self {
        Self { text: text.into(), failure: ConnectFailure::Network, death: LinkEnd::Otherwise }
    }

    pub(super) fn from_refusal(text: impl Into<String>) -> Self {
        Self { text: text.into(), failure: ConnectFailure::Refused, death: LinkEnd::Otherwise }
    }

    fn hung_up() -> Self {
        let text = "the broker closed the connection".into();
        Self { text, failure: ConnectFailure::Network, death: LinkEnd::ByPeer }
    }
}

/// Turns the error of a connection into its reason.
pub(super) fn explain_connection_error(error: &ConnectionError, is_clock_set: bool) -> Reason {
    if let Some(error) = tls_error(error) {
        let (text, retry) = tls::explain_handshake(error, is_clock_set);
        return match retry {
            Retry::Soon => Reason::from_network(text),
            Retry::Later => Reason::from_refusal(text),
        };
    }
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest says best itself what it is")]
    match error {
        ConnectionError::ConnectionRefused(code) => explain_refusal(*code),
        // AWS IoT answers 7 where the standard has 5, and the codec knows only the standard.
        ConnectionError::MqttState(StateError::Deserialization(
            rumqttc::mqttbytes::Error::InvalidConnectReturnCode(_),
        )) => explain_refusal(ConnectReturnCode::NotAuthorized),
        ConnectionError::NetworkTimeout => {
            Reason::from_network("no answer from the broker in time")
        }
        ConnectionError::FlushTimeout => Reason::from_network("the network takes nothing any more"),
        ConnectionError::Io(error) => io_error(error),
        ConnectionError::Tls(TlsError::Io(error)) => io_error(error),
        ConnectionError::MqttState(
            StateError::Io(error)
            | StateError::Deserialization(rumqttc::mqttbytes::Error::Io(error)),
        ) => io_error(error),
        ConnectionError::MqttState(StateError::ConnectionAborted) => Reason::hung_up(),
        ConnectionError::MqttState(StateError::AwaitPingResp) => {
            Reason::from_network("the broker does not answer pings")
        }
        other => Reason::from_network(format!("the connection failed: {other}")),
    }
}

/// A refused CONNECT. AWS IoT uses 7 where the standard has 5, or just closes.
fn explain_refusal(code: ConnectReturnCode) -> Reason {
    match code {
        ConnectReturnCode::NotAuthorized | ConnectReturnCode::BadUserNamePassword => {
            Reason::from_refusal("not authorised: the broker refuses this thing")
        }
        ConnectReturnCode::BadClientId => Reason::from_refusal("the broker refuses the client id"),
        ConnectReturnCode::ServiceUnavailable => Reason::from_network("the broker is unavailable"),
        ConnectReturnCode::RefusedProtocolVersion => {
            Reason::from_refusal("the broker does not speak MQTT 3.1.1")
        }
        ConnectReturnCode::Success => Reason::from_network("the broker contradicts itself"),
    }
}

fn io_error(error: &io::Error) -> Reason {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest says best itself what it is")]
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Reason::hung_up(),
        io::ErrorKind::ConnectionRefused => {
            Reason::from_network("nothing listens at the broker's port")
        }
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            Reason::from_network("no network")
        }
        _ => Reason::from_network(format!("the network failed: {error}")),
    }
}

/// Finds the TLS error at the bottom of an error. A refused client certificate may show only on
/// reading the first answer, because TLS 1.3 finishes the handshake before the server checks the
/// certificate.
fn tls_error(error: &ConnectionError) -> Option<&rustls::Error> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        source = match inner {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    None
}
