//! The network between the agent and a broker: a TCP relay on loopback that can be cut, frozen,
//! mended and made slow. It sees only TLS, and never changes a byte.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The bytes that a slow link passes on at once.
const CHUNK: usize = 1024;

/// What the link does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Passes them on.
    Up,
    /// Closes every connection, new ones at once.
    Cut,
    /// Keeps connections open and passes nothing: a dead Wi-Fi, of which TCP does not tell.
    Frozen,
}

/// A link to a port of this machine; cut when dropped.
#[derive(Debug)]
pub struct Link {
    port: u16,
    target: Arc<AtomicU16>,
    state: watch::Sender<State>,
    connections: Arc<AtomicUsize>,
    sent: Arc<AtomicU64>,
    /// Bytes a second towards the port; zero is no limit.
    bytes_per_second: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Link {
    /// Makes a link to `port`.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let own_port = listener.local_addr().expect("a bound listener has an address").port();
        let (state, _) = watch::channel(State::Up);
        let connections = Arc::default();
        let target = Arc::new(AtomicU16::new(port));
        let path = Path {
            target: Arc::clone(&target),
            state: state.subscribe(),
            sent: Arc::default(),
            bytes_per_second: Arc::default(),
        };
        let (sent, bytes_per_second) = (Arc::clone(&path.sent), Arc::clone(&path.bytes_per_second));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, path, Arc::clone(&connections)));
        Self { port: own_port, target, state, connections, sent, bytes_per_second, _tasks: tasks }
    }

    /// Leads new connections to another port.
    pub fn lead_to(&self, port: u16) {
        self.target.store(port, Ordering::Relaxed);
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections were ever made to it, while cut too.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// How many bytes it has passed on to the port; not those that came back.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Closes every connection, and every new one, until mended.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Passes no byte any more, and lets nobody know, until mended.
    pub fn freeze(&self) {
        self.state.send_replace(State::Frozen);
    }

    /// Passes this many bytes a second on towards the port; what waits stays in the buffers of the
    /// sockets, as in those of a modem. The way back is not limited.
    pub fn slow_down(&self, bytes_per_second: u64) {
        self.bytes_per_second.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Passes everything on again; what was closed stays closed.
    pub fn mend(&self) {
        self.state.send_replace(State::Up);
    }
}

/// What every connection goes by.
#[derive(Debug, Clone)]
struct Path {
    target: Arc<AtomicU16>,
    state: watch::Receiver<State>,
    sent: Arc<AtomicU64>,
    bytes_per_second: Arc<AtomicU64>,
}

async fn accept(listener: TcpListener, path: Path, connections: Arc<AtomicUsize>) {
    let mut relays = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::Relaxed);
        relays.spawn(relay(near, path.clone()));
        while relays.try_join_next().is_some() {}
    }
}

async fn relay(near: TcpStream, path: Path) {
    let Path { target, state, sent, bytes_per_second } = path;
    let port = target.load(Ordering::Relaxed);
    let (came_back, unlimited) = (AtomicU64::default(), AtomicU64::default());
    let both_ways = async {
        let far = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let (near_in, near_out) = near.into_split();
        let (far_in, far_out) = far.into_split();
        tokio::try_join!(
            pass(near_in, far_out, state.clone(), &sent, &bytes_per_second),
            pass(far_in, near_out, state.clone(), &came_back, &unlimited)
        )
    };
    let mut until_cut = state.clone();
    tokio::select! {
        biased;
        _ = until_cut.wait_for(|state| *state == State::Cut) => {}
        _ = both_ways => {} // an end that goes away ends the relay: that is all there is to do
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    passed: &AtomicU64,
    bytes_per_second: &AtomicU64,
) -> io::Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let rate = bytes_per_second.load(Ordering::Relaxed);
        let most = if rate == 0 { bytes.len() } else { CHUNK };
        let count = from.read(&mut bytes[..most]).await?;
        if rate > 0 {
            tokio::time::sleep(
                Duration::from_secs(count as u64) / u32::try_from(rate).unwrap_or(u32::MAX),
            )
            .await;
        }
        if state.wait_for(|state| *state != State::Frozen).await.is_err() || count == 0 {
            return to.shutdown().await;
        }
        passed.fetch_add(count as u64, Ordering::Relaxed);
        to.write_all(&bytes[..count]).await?;
    }
}
