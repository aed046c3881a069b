//! One connection: its CONNECT judged, its packets read and obeyed, and its will sent if it deserves it.
//!
//! Reading and writing run side by side, so that a client that does not read cannot stop the broker from
//! reading. Whatever ends first ends both, and says how.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::Error as CodecError;
use rumqttc::mqttbytes::v4::{self, ConnAck, ConnectReturnCode, Packet};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;

use super::door::common_name;
use super::reader::Reader;
use super::state::{Control, Opened, Outgoing, State};
use super::writer::Writer;
use crate::faults::{Dice, OnConnect};
use crate::limits::Violation;
use crate::policy::Action;
use crate::record::{Connect, End, Will};

/// Bounds how long a client may take over its CONNECT.
const CONNECT: Duration = Duration::from_secs(10);
/// How much is read at once: several of the largest messages.
pub(super) const READ_BYTES: usize = 256 * 1024;

const READING: u64 = 0;
const WRITING: u64 = 1;

/// Why a conversation stopped: for good, or only to the eye.
pub(super) enum Stop {
    End(End),
    /// The connection is to stay open, dead.
    Silence,
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::End(End::Violated(violation))
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(state: &State, number: u64, mut stream: TlsStream<TcpStream>) -> End {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let asked = match timeout(CONNECT, read_connect(state, &mut stream, &mut buffer)).await {
        Ok(Ok(asked)) => asked,
        Ok(Err(end)) => return end,
        Err(_elapsed) => return End::NoConnect,
    };
    let client: Arc<str> = asked.client_id.as_str().into();
    let will = asked.last_will.as_ref().map(|will| Will {
        topic: will.topic.clone(),
        payload: will.message.clone(),
        retain: will.retain,
    });
    state.asked(
        number,
        Connect {
            client: asked.client_id.clone(),
            clean_session: asked.clean_session,
            keep_alive: asked.keep_alive,
            will: will.clone(),
            session_present: None,
        },
    );
    let opened = match judge(state, number, &client, &asked, &stream) {
        Ok(opened) => opened,
        Err(answer) => return turn_down(state, number, stream, answer).await,
    };
    let peer = Peer { state, number, client: &client, in_flight: &AtomicUsize::new(0) };
    let end = converse(peer, stream, buffer, opened, &asked).await;
    state.close(number);
    if let (Some(will), true) = (will, end != End::Disconnect) {
        state.bequeath(number, &client, will);
    }
    end
}

/// How a CONNECT is turned down.
enum Answer {
    Code(u8, Option<Violation>),
    Close(End),
    Nothing,
}

fn judge(
    state: &State,
    number: u64,
    client: &Arc<str>,
    asked: &v4::Connect,
    stream: &TlsStream<TcpStream>,
) -> Result<Opened, Answer> {
    match state.faults().on_connect {
        OnConnect::Judge => {}
        OnConnect::Refuse(code) => return Err(Answer::Code(code, None)),
        OnConnect::Close => return Err(Answer::Close(End::Fault("closed after CONNECT"))),
        OnConnect::Ignore => return Err(Answer::Nothing),
    }
    let refused = |violation| match state.options().refusal {
        Some(code) => Answer::Code(code, Some(violation)),
        None => Answer::Close(End::Violated(violation)),
    };
    let name = common_name(stream).unwrap_or_default();
    state
        .limits()
        .check_client_id(client, &name)
        .and_then(|()| state.permit(Action::Connect, client, client))
        .map_err(refused)?;
    state
        .open(number, client, asked.clean_session)
        .map_err(|violation| Answer::Close(End::Violated(violation)))
}

async fn turn_down(
    state: &State,
    number: u64,
    mut stream: TlsStream<TcpStream>,
    answer: Answer,
) -> End {
    match answer {
        Answer::Close(end) => end,
        Answer::Nothing => {
            state.note(number, "CONNECT ignored".to_owned());
            drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
            End::PeerClosed
        }
        Answer::Code(code, violation) => {
            state.note(number, format!("CONNECT refused with {code}"));
            // By hand: the codec does not know 7, which AWS is said to send. MQTT 3.1.1, 3.2.
            let answered = stream.write_all(&[0x20, 2, 0, code]).await;
            let closed = stream.shutdown().await;
            match (violation, answered.and(closed)) {
                (Some(violation), _) => End::Violated(violation),
                (None, Ok(())) => End::Refused(code),
                (None, Err(_gone)) => End::PeerClosed,
            }
        }
    }
}

async fn read_connect(
    state: &State,
    stream: &mut TlsStream<TcpStream>,
    buffer: &mut BytesMut,
) -> Result<v4::Connect, End> {
    loop {
        match next_packet(state, buffer).map_err(End::Violated)? {
            Some(Packet::Connect(connect)) => return Ok(connect),
            Some(packet) => return Err(End::Violated(out_of_place(&packet))),
            None => {}
        }
        if !matches!(stream.read_buf(buffer).await, Ok(1..)) {
            return Err(End::PeerClosed);
        }
    }
}

/// Takes a whole packet from the buffer, if there is one.
pub(super) fn next_packet(
    state: &State,
    buffer: &mut BytesMut,
) -> Result<Option<Packet>, Violation> {
    match Packet::read(buffer, state.limits().packet_bytes()) {
        Ok(packet) => Ok(Some(packet)),
        Err(CodecError::InsufficientBytes(_)) => Ok(None),
        Err(CodecError::PayloadSizeLimitExceeded(bytes)) => Err(Violation::Payload(bytes)),
        Err(error) => Err(Violation::Protocol(error.to_string())),
    }
}

pub(super) fn out_of_place(packet: &Packet) -> Violation {
    Violation::Protocol(format!("{:?} out of place", packet.packet_type()))
}

/// A client whose CONNECT was accepted, as reader and writer share it.
#[derive(Clone, Copy)]
pub(super) struct Peer<'a> {
    pub(super) state: &'a State,
    pub(super) number: u64,
    pub(super) client: &'a Arc<str>,
    /// Its publishes whose PUBACK was not yet handed to the socket.
    pub(super) in_flight: &'a AtomicUsize,
}

async fn converse(
    peer: Peer<'_>,
    stream: TlsStream<TcpStream>,
    buffer: BytesMut,
    opened: Opened,
    asked: &v4::Connect,
) -> End {
    let Peer { state, number, .. } = peer;
    let Opened { session_present, outgoing, sender, mut control } = opened;
    let faults = state.faults();
    let seed = state.options().seed;
    let mut dice = Dice::new(seed, number, READING);
    // MQTT 3.1.1, 3.2.2.2: without a session asked for there is none to claim.
    let claimed = !asked.clean_session && dice.claims_session(&faults, session_present);
    if claimed != session_present {
        state.note(number, format!("CONNACK lies: session present {claimed}"));
    }
    let keep_alive = state.limits().effective_keep_alive(asked.keep_alive);
    // Held out here, so that a silent connection stays open.
    let (mut reading, mut writing) = tokio::io::split(stream);
    let talk = async {
        sleep(faults.connack_delay).await;
        state.answered(number, claimed);
        let connack = ConnAck::new(ConnectReturnCode::Success, claimed);
        drop(sender.send(Outgoing::Nudge)); // what waited for the session
        let reader = Reader::new(peer, sender, dice, buffer, keep_alive);
        let writer = Writer::new(peer, Dice::new(seed, number, WRITING), &Packet::ConnAck(connack));
        tokio::select! {
            stop = reader.run(&mut reading) => stop,
            end = writer.run(&mut writing, outgoing) => Stop::End(end),
        }
    };
    let stop = tokio::select! {
        stop = talk => stop,
        stop = controlled(&mut control) => stop,
    };
    match stop {
        Stop::End(end) => end,
        Stop::Silence => {
            state.note(number, "silent from now on".to_owned());
            loop {
                if let Stop::End(end) = controlled(&mut control).await {
                    return end;
                }
            }
        }
    }
}

/// Waits for somebody to do something to the connection.
async fn controlled(control: &mut watch::Receiver<Control>) -> Stop {
    loop {
        if control.changed().await.is_err() {
            return Stop::End(End::Cut); // the broker is gone
        }
        match *control.borrow_and_update() {
            Control::Run => {}
            Control::Silence => return Stop::Silence,
            Control::Cut => return Stop::End(End::Cut),
            Control::TakeOver => return Stop::End(End::TakenOver),
        }
    }
}
