//! Carries edges from rpi-pal's thread to the line's thread.
//!
//! A socket pair is used in place of a channel: the line's thread can poll it beside its stop
//! signal, and the end of the stream shows that the other thread is gone. A full socket blocks the
//! sender, so further edges queue in the kernel, whose sequence numbers reveal lost edges.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::Level;
use super::state::Edge;

/// The size of an encoded edge: nanoseconds in 8 bytes, the sequence number in 4, the level in 1.
const EDGE_BYTES: usize = 13;

/// The sending end, for rpi-pal's callback.
pub(super) struct EdgeSender(UnixStream);

/// The receiving end, polled by the line's thread.
pub(super) struct EdgeReceiver(UnixStream);

/// Creates both ends.
pub(super) fn new() -> io::Result<(EdgeSender, EdgeReceiver)> {
    UnixStream::pair().map(|(sender, receiver)| (EdgeSender(sender), EdgeReceiver(receiver)))
}

impl EdgeSender {
    /// Sends `edge`; fails once the receiver is gone.
    pub(super) fn send_edge(&mut self, edge: Edge) -> io::Result<()> {
        let mut bytes = [0; EDGE_BYTES];
        let nanos = u64::try_from(edge.at.as_nanos()).unwrap_or(u64::MAX);
        bytes[..8].copy_from_slice(&nanos.to_ne_bytes());
        bytes[8..12].copy_from_slice(&edge.seqno.to_ne_bytes());
        bytes[12] = u8::from(edge.level == Level::High);
        self.0.write_all(&bytes)
    }
}

impl EdgeReceiver {
    /// Receives the next edge; fails after the last edge of a sender that is gone.
    pub(super) fn receive_edge(&mut self) -> io::Result<Edge> {
        let mut bytes = [0; EDGE_BYTES];
        self.0.read_exact(&mut bytes)?;
        let [n0, n1, n2, n3, n4, n5, n6, n7, s0, s1, s2, s3, high] = bytes;
        Ok(Edge {
            at: Duration::from_nanos(u64::from_ne_bytes([n0, n1, n2, n3, n4, n5, n6, n7])),
            seqno: u32::from_ne_bytes([s0, s1, s2, s3]),
            level: if high == 0 { Level::Low } else { Level::High },
        })
    }
}

impl AsFd for EdgeReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_arrive_as_they_were_sent_and_then_the_end() {
        let (mut sender, mut receiver) = new().unwrap();
        let sent = [
            Edge { at: Duration::from_nanos(1), level: Level::High, seqno: u32::MAX },
            Edge { at: Duration::from_nanos(u64::MAX), level: Level::Low, seqno: 0 },
        ];

        for edge in sent {
            sender.send_edge(edge).unwrap();
        }
        drop(sender);

        assert_eq!([receiver.receive_edge().unwrap(), receiver.receive_edge().unwrap()], sent);
        assert_eq!(receiver.receive_edge().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_sender_that_a_full_pipe_holds_is_let_go_when_the_receiver_ends() {
        let (mut sender, receiver) = new().unwrap();
        let edge = Edge { at: Duration::ZERO, level: Level::Low, seqno: 1 };

        let flood = std::thread::spawn(move || while sender.send_edge(edge).is_ok() {});
        drop(receiver);

        flood.join().unwrap();
    }
}
