//! What the stand-in saw: messages that arrived, connections, and how each of them ended.
//!
//! Times are since the broker's start, so that a test can measure the pauses between attempts.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::limits::Violation;

/// A message that a client published, or its will.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Counts all arrivals of this broker from 0.
    pub number: u64,
    /// When it arrived.
    pub at: Duration,
    /// The connection that it came on.
    pub connection: u64,
    /// The client that published it.
    pub client: Arc<str>,
    /// Its topic.
    pub topic: Arc<str>,
    /// Its payload.
    pub payload: Bytes,
    /// Its packet id; 0 for QoS 0 and for a will.
    pub packet_id: u16,
    /// Whether the client marked it as sent before.
    pub dup: bool,
    /// Whether it is to be retained.
    pub retain: bool,
    /// Whether it is the will of a client that ended without saying so.
    pub will: bool,
}

/// A will as a client left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Where it goes.
    pub topic: String,
    /// What it says.
    pub payload: Bytes,
    /// Whether it is to be retained.
    pub retain: bool,
}

/// What a client asked for in its CONNECT, and what it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// The client id.
    pub client: String,
    /// Whether it asked for a session without memory.
    pub clean_session: bool,
    /// The keep-alive it asked for, in seconds.
    pub keep_alive: u16,
    /// Its will.
    pub will: Option<Will>,
    /// The session flag that it was sent, true or not; absent when no CONNACK accepted it.
    pub session_present: Option<bool>,
}

/// One TCP connection, from its first byte to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionRecord {
    /// Counts all connections of this broker from 0.
    pub number: u64,
    /// Which of the broker's ports it came through.
    pub door: usize,
    /// When it was accepted.
    pub at: Duration,
    /// The host name of its TLS handshake.
    pub server_name: Option<String>,
    /// Its CONNECT, if it came so far.
    pub connect: Option<Connect>,
    /// When and how it ended; absent while it lasts.
    pub ended: Option<(Duration, End)>,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The door was shut in its face.
    TurnedAway,
    /// The TLS handshake failed, for this reason.
    Handshake(String),
    /// No CONNECT within the time for it.
    NoConnect,
    /// Its CONNECT was answered with this code.
    Refused(u8),
    /// It broke a rule.
    Violated(Violation),
    /// It said nothing for one and a half times its keep-alive.
    KeepAlive,
    /// Its client id connected again.
    TakenOver,
    /// It said DISCONNECT.
    Disconnect,
    /// The client's side of the connection went away.
    PeerClosed,
    /// A wanted fault, as named in the fault log.
    Fault(&'static str),
    /// The test cut it.
    Cut,
}
