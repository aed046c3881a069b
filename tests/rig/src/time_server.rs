//! A time server (SNTP, RFC 4330) on loopback, which the guest knows as 10.0.2.2. It is silent until
//! it is told to speak: until then the guest has no way to know what time it is.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// The port of NTP; in a network of our own it is ours.
const PORT: u16 = 123;
/// Length of a packet without extensions: RFC 4330, section 4.
const PACKET_BYTES: usize = 48;
/// From 1900, where NTP begins, to 1970.
const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;

/// See the module; gone when dropped.
#[derive(Debug)]
pub struct TimeServer {
    speaks: Arc<AtomicBool>,
    _task: JoinSet<()>,
}

impl TimeServer {
    /// Listens, in silence.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn start() -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, PORT)).await;
        let socket = socket.context("cannot listen for those who ask the time")?;
        let speaks = Arc::new(AtomicBool::new(false));
        let mut task = JoinSet::new();
        task.spawn(answer(socket, Arc::clone(&speaks)));
        Ok(Self { speaks, _task: task })
    }

    /// Tells the time from now on, or no longer.
    pub fn speak(&self, speaks: bool) {
        self.speaks.store(speaks, Ordering::Relaxed);
    }
}

async fn answer(socket: UdpSocket, speaks: Arc<AtomicBool>) {
    let mut request = [0; PACKET_BYTES];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut request).await else { continue };
        if length == PACKET_BYTES && speaks.load(Ordering::Relaxed) {
            drop(socket.send_to(&reply(&request, now()), from).await);
        }
    }
}

/// RFC 4330, sections 4 and 6: version 4, mode "server", stratum 1, and the time three times over.
fn reply(request: &[u8; PACKET_BYTES], now: [u8; 8]) -> [u8; PACKET_BYTES] {
    let mut reply = [0; PACKET_BYTES];
    reply[..4].copy_from_slice(&[0b00_100_100, 1, request[2], 0xec]);
    reply[12..16].copy_from_slice(b"RIG\0");
    reply[16..24].copy_from_slice(&now); // when the clock was set
    reply[24..32].copy_from_slice(&request[40..48]); // when the request left
    reply[32..40].copy_from_slice(&now); // when it came
    reply[40..48].copy_from_slice(&now); // when this leaves
    reply
}

/// Now, as seconds since 1900 and a fraction of 2^32.
#[expect(clippy::disallowed_methods, reason = "a clock for others to ask")]
fn now() -> [u8; 8] {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000;
    (((unix.as_secs() + NTP_TO_UNIX_SECONDS) << 32) | fraction).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_names_its_request_and_the_time() {
        let mut request = [0; PACKET_BYTES];
        request[40..48].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);

        let reply = reply(&request, [9; 8]);

        assert_eq!(reply[0] & 0b111, 4, "mode: server");
        assert_eq!(reply[24..32], request[40..48]);
        assert_eq!(reply[40..48], [9; 8]);
    }
}
