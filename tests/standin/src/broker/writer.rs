//! The writing half of a connection: answers, PUBACKs when their time has come, and what waits in the
//! session.
//!
//! What is ready goes out together. A PUBACK counts as handed over just before the first of its bytes
//! is written: whoever holds it then finds it on record.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, PubAck};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::connection::Peer;
use super::session::Message;
use super::state::Outgoing;
use crate::faults::Dice;
use crate::record::{Arrival, End};

/// How many queued answers go out together.
const AT_ONCE: usize = 128;
/// How many bytes may gather before they are written.
const GATHERED_BYTES: usize = 256 * 1024;

pub(super) struct Writer<'a> {
    peer: Peer<'a>,
    dice: Dice,
    delayed: BinaryHeap<Reverse<Delayed>>,
    bytes: BytesMut,
    /// The arrivals whose PUBACKs are among the bytes.
    acks: Vec<Arrival>,
}

/// A PUBACK kept back until its time, then in order of arrival.
struct Delayed {
    due: Instant,
    arrival: Arrival,
}

impl<'a> Writer<'a> {
    /// Makes a writer whose first packet is this one, whatever waits already.
    pub(super) fn new(peer: Peer<'a>, dice: Dice, first: &Packet) -> Self {
        let delayed = BinaryHeap::new();
        let mut writer = Self { peer, dice, delayed, bytes: BytesMut::new(), acks: Vec::new() };
        writer.encode(first);
        writer
    }

    pub(super) async fn run(
        mut self,
        mut stream: impl AsyncWrite + Unpin,
        mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
    ) -> End {
        let mut batch = Vec::with_capacity(AT_ONCE);
        loop {
            let due = self.delayed.peek().map(|Reverse(first)| first.due);
            tokio::select! {
                received = outgoing.recv_many(&mut batch, AT_ONCE) => if received == 0 {
                    return End::PeerClosed; // the reader is gone
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
            match self.write(&mut stream, &mut batch).await {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    async fn write(
        &mut self,
        mut stream: impl AsyncWrite + Unpin,
        batch: &mut Vec<Outgoing>,
    ) -> Result<(), End> {
        let mut nudged = false;
        for outgoing in batch.drain(..) {
            match outgoing {
                Outgoing::Packet(packet) => self.encode(&packet),
                Outgoing::Ack(arrival) => {
                    if let Some(arrival) = self.keep_back(arrival) {
                        self.acknowledge(&mut stream, arrival).await?;
                    }
                }
                Outgoing::Raw(bytes) => self.bytes.extend_from_slice(&bytes),
                Outgoing::Nudge => nudged = true,
            }
        }
        let now = Instant::now();
        while self.delayed.peek().is_some_and(|Reverse(first)| first.due <= now) {
            let Some(Reverse(Delayed { arrival, .. })) = self.delayed.pop() else { break };
            self.acknowledge(&mut stream, arrival).await?;
        }
        while let Some(message) = nudged.then(|| self.encode_next()).flatten() {
            self.send_again(message);
            if self.bytes.len() >= GATHERED_BYTES {
                self.flush(&mut stream).await?;
            }
        }
        self.flush(&mut stream).await
    }

    /// Sets an acknowledgement aside until its time, or gives it back when that is now.
    fn keep_back(&mut self, arrival: Arrival) -> Option<Arrival> {
        let delay = self.dice.ack_delay(&self.peer.state.faults());
        if delay == Duration::ZERO {
            return Some(arrival);
        }
        self.delayed.push(Reverse(Delayed { due: Instant::now() + delay, arrival }));
        None
    }

    async fn acknowledge(
        &mut self,
        mut stream: impl AsyncWrite + Unpin,
        arrival: Arrival,
    ) -> Result<(), End> {
        if self.dice.halves_ack(&self.peer.state.faults()) {
            self.flush(&mut stream).await?;
            self.bytes.extend_from_slice(&[0x40, 0x02]); // the first half of a PUBACK
            self.flush(&mut stream).await?;
            return Err(End::Fault("cut inside a PUBACK"));
        }
        self.encode(&Packet::PubAck(PubAck::new(arrival.packet_id)));
        self.acks.push(arrival);
        Ok(())
    }

    /// Puts the next message of the session among the bytes.
    fn encode_next(&mut self) -> Option<Message> {
        let (publish, message) = self.peer.state.next(self.peer.number, self.peer.client)?;
        self.encode(&Packet::Publish(publish));
        Some(message)
    }

    fn send_again(&mut self, message: Message) {
        let Peer { state, number, client, .. } = self.peer;
        let due = message.qos == QoS::AtLeastOnce && !message.again;
        if due && self.dice.redelivers(&state.faults()) {
            state.note(number, format!("message on `{}` sent again", message.topic));
            state.requeue(client, Message { again: true, ..message });
        }
    }

    fn encode(&mut self, packet: &Packet) {
        let whole = self.bytes.len();
        if let Err(error) = packet.write(&mut self.bytes, usize::MAX) {
            self.bytes.truncate(whole);
            self.peer.state.note(self.peer.number, format!("not encoded: {error}"));
        }
    }

    async fn flush(&mut self, mut stream: impl AsyncWrite + Unpin) -> Result<(), End> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        for arrival in self.acks.drain(..) {
            self.peer.in_flight.fetch_sub(1, Ordering::Relaxed);
            self.peer.state.acknowledges(&arrival);
        }
        let gone = |_error| End::PeerClosed;
        stream.write_all_buf(&mut self.bytes).await.map_err(gone)?;
        stream.flush().await.map_err(gone)
    }
}

impl Ord for Delayed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.arrival.number).cmp(&(other.due, other.arrival.number))
    }
}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Delayed {}
