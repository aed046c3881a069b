//! The reason for the end of a connection, in words for `status`, with its consequences for the
//! backoff and for the messages on their way.

use std::io;

use pulsegate_core::cloud::backoff::Failure;
use pulsegate_core::cloud::delivery::Death;
use rumqttc::{ConnectReturnCode, ConnectionError, StateError, TlsError};

use crate::cloud::tls::{self, Retry};

/// The end of a connection in words, with its consequences.
pub(super) struct Reason {
    pub(super) text: String,
    pub(super) failure: Failure,
    pub(super) death: Death,
}

impl Reason {
    pub(super) fn network(text: impl Into<String>) -> Self {
        Self { text: text.into(), failure: Failure::Network, death: Death::Otherwise }
    }

    pub(super) fn refused(text: impl Into<String>) -> Self {
        Self { text: text.into(), failure: Failure::Refused, death: Death::Otherwise }
    }

    fn hung_up() -> Self {
        let text = "the broker closed the connection".into();
        Self { text, failure: Failure::Network, death: Death::ByPeer }
    }
}

/// Turns the error of a connection into its reason.
pub(super) fn of(error: &ConnectionError, is_clock_set: bool) -> Reason {
    if let Some(error) = tls_error(error) {
        let (text, retry) = tls::explain(error, is_clock_set);
        return match retry {
            Retry::Soon => Reason::network(text),
            Retry::Later => Reason::refused(text),
        };
    }
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest says best itself what it is")]
    match error {
        ConnectionError::ConnectionRefused(code) => refused(*code),
        // AWS IoT answers 7 where the standard has 5, and the codec knows only the standard.
        ConnectionError::MqttState(StateError::Deserialization(
            rumqttc::mqttbytes::Error::InvalidConnectReturnCode(_),
        )) => refused(ConnectReturnCode::NotAuthorized),
        ConnectionError::NetworkTimeout => Reason::network("no answer from the broker in time"),
        ConnectionError::FlushTimeout => Reason::network("the network takes nothing any more"),
        ConnectionError::Io(error) => io_error(error),
        ConnectionError::Tls(TlsError::Io(error)) => io_error(error),
        ConnectionError::MqttState(
            StateError::Io(error)
            | StateError::Deserialization(rumqttc::mqttbytes::Error::Io(error)),
        ) => io_error(error),
        ConnectionError::MqttState(StateError::ConnectionAborted) => Reason::hung_up(),
        ConnectionError::MqttState(StateError::AwaitPingResp) => {
            Reason::network("the broker does not answer pings")
        }
        other => Reason::network(format!("the connection failed: {other}")),
    }
}

/// A refused CONNECT. AWS IoT uses 7 where the standard has 5, or just closes.
fn refused(code: ConnectReturnCode) -> Reason {
    match code {
        ConnectReturnCode::NotAuthorized | ConnectReturnCode::BadUserNamePassword => {
            Reason::refused("not authorised: the broker refuses this thing")
        }
        ConnectReturnCode::BadClientId => Reason::refused("the broker refuses the client id"),
        ConnectReturnCode::ServiceUnavailable => Reason::network("the broker is unavailable"),
        ConnectReturnCode::RefusedProtocolVersion => {
            Reason::refused("the broker does not speak MQTT 3.1.1")
        }
        ConnectReturnCode::Success => Reason::network("the broker contradicts itself"),
    }
}

fn io_error(error: &io::Error) -> Reason {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest says best itself what it is")]
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Reason::hung_up(),
        io::ErrorKind::ConnectionRefused => Reason::network("nothing listens at the broker's port"),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            Reason::network("no network")
        }
        _ => Reason::network(format!("the network failed: {error}")),
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
