//! The MQTT 3.1.1 broker: its options, its ports, and what a test can do to it while it runs.
//!
//! Demands a client certificate from everyone, listens on 127.0.0.1 only, and keeps its state in
//! memory. It runs as tasks of the caller's tokio runtime that end when the [`Broker`] is dropped.
//! Framing is the MQTT crate's; what is here are the service's rules and the wanted faults.

mod connection;
mod door;
mod reader;
mod session;
mod state;
mod writer;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::faults::{FaultLog, Faults, OnConnect};
use crate::limits::Limits;
use crate::pki::{Identity, Pki};
use crate::policy::Policy;
use crate::record::{Arrival, Connect, ConnectionRecord};
use crate::tls::{ALPN_MQTT, TlsError};
use state::{Control, State};

/// Called for each message, on the broker's task; it must not block.
pub type OnArrival = Arc<dyn Fn(&Arrival) + Send + Sync>;

/// What a port demands of the application protocol in the TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// Exactly this one, as on port 443.
    Required(&'static str),
    /// None must be offered, as on port 8883.
    NotOffered,
    /// Anything goes.
    Any,
}

impl Alpn {
    /// What the service demands on port 443.
    pub const PORT_443: Self = Self::Required(ALPN_MQTT);
}

/// Whether a port takes connections. Those that exist stay; see [`Broker::cut`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// It does.
    Open,
    /// It accepts and closes at once.
    TurningAway,
    /// It accepts and never says a word, not even TLS: the client has to give up.
    Mute,
    /// Nothing listens: connections are refused by the kernel.
    Closed,
}

/// How a broker is to be. Start from [`Options::new`].
#[derive(Clone)]
pub struct Options {
    /// The ports to listen on, 0 for any free one, and what each demands. One with [`Alpn::Any`].
    pub ports: Vec<(u16, Alpn)>,
    /// The server's certificate and key.
    pub server: Identity,
    /// The authority of the clients.
    pub client_ca_pem: String,
    /// The clients' certificates that are no longer good.
    pub revocation_list_pem: Option<String>,
    /// The limits; the service's own.
    pub limits: Limits,
    /// What clients may do; everything.
    pub policy: Policy,
    /// The answer to a CONNECT that the rules forbid; `None` closes without one.
    pub refusal: Option<u8>,
    /// Seeds all faults.
    pub seed: u64,
    /// The faults to begin with; none.
    pub faults: Faults,
    /// Called when a message, or a will, has arrived, before its PUBACK can be sent.
    pub on_publish: OnArrival,
    /// Called just before the PUBACK of a message is handed to the socket.
    pub on_acknowledge: OnArrival,
}

impl Options {
    /// A broker on one free port, with a certificate of `pki` for `localhost` and `127.0.0.1`, open to
    /// the devices of `pki`.
    ///
    /// # Errors
    /// The certificate cannot be made.
    pub fn new(pki: &Pki) -> Result<Self, rcgen::Error> {
        Ok(Self {
            ports: vec![(0, Alpn::Any)],
            server: pki.server(&["localhost", "127.0.0.1"])?,
            client_ca_pem: pki.ca_pem(),
            revocation_list_pem: None,
            limits: Limits::default(),
            policy: Policy::open(),
            refusal: Some(5),
            seed: 0,
            faults: Faults::default(),
            on_publish: Arc::new(|_| {}),
            on_acknowledge: Arc::new(|_| {}),
        })
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("ports", &self.ports)
            .field("limits", &self.limits)
            .field("seed", &self.seed)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

/// Why a broker could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its certificates are no good.
    #[error("cannot set up TLS")]
    Tls(#[from] TlsError),
    /// A port cannot be listened on.
    #[error("cannot listen on port {port}")]
    Listen {
        /// The port.
        port: u16,
        /// Why not.
        source: io::Error,
    },
}

/// A running broker. Dropping it closes its ports and all connections.
#[derive(Debug)]
pub struct Broker {
    state: Arc<State>,
    doors: Vec<(SocketAddr, watch::Sender<Door>)>,
    tasks: JoinSet<()>,
}

impl Broker {
    /// Listens, and serves from now on. To be called within a tokio runtime with time and I/O.
    ///
    /// # Errors
    /// The certificates do not fit, or a port is taken.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let ports = options.ports.clone();
        let state = Arc::new(State::new(options)?);
        let mut doors = Vec::new();
        let mut tasks = JoinSet::new();
        for (index, (port, alpn)) in ports.into_iter().enumerate() {
            let cannot_listen = |source| StartError::Listen { port, source };
            let listener =
                TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(cannot_listen)?;
            let address = listener.local_addr().map_err(cannot_listen)?;
            let (control, controlled) = watch::channel(Door::Open);
            let keeper = door::Keeper { state: Arc::clone(&state), index, address, alpn };
            tasks.spawn(keeper.keep(listener, controlled));
            doors.push((address, control));
        }
        Ok(Self { state, doors, tasks })
    }

    /// The first port's number.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports().first().copied().unwrap_or_default()
    }

    /// The numbers of all ports, in the order of the options.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        self.doors.iter().map(|(address, _)| address.port()).collect()
    }

    /// Opens or closes one port, by its place in the options.
    pub fn set_door(&self, index: usize, door: Door) {
        if let Some((_, control)) = self.doors.get(index) {
            control.send_replace(door);
        }
    }

    /// Opens or closes all ports.
    pub fn set_doors(&self, door: Door) {
        for (_, control) in &self.doors {
            control.send_replace(door);
        }
    }

    /// Accepts connections only to close them at once; those that exist stay.
    pub fn pause(&self) {
        self.set_doors(Door::TurningAway);
    }

    /// Serves connections again.
    pub fn resume(&self) {
        self.set_doors(Door::Open);
    }

    /// Replaces the faults, also for connections that exist. Their counts go on.
    pub fn set_faults(&self, faults: Faults) {
        self.state.set_faults(faults);
    }

    /// Answers each CONNECT with this code; the other faults stay.
    pub fn refuse(&self, code: u8) {
        let faults =
            Faults { on_connect: OnConnect::Refuse(code), ..(*self.state.faults()).clone() };
        self.set_faults(faults);
    }

    /// Replaces the policy, also for connections that exist.
    pub fn set_policy(&self, policy: Policy) {
        self.state.set_policy(policy);
    }

    /// Replaces the list of revoked certificates, for handshakes from now on.
    ///
    /// # Errors
    /// It is no revocation list of the clients' authority.
    pub fn set_revocation_list(&self, pem: Option<String>) -> Result<(), TlsError> {
        self.state.set_revocation_list(pem)
    }

    /// Cuts all connections now, without a word.
    pub fn cut(&self) {
        self.state.control_all(&Control::Cut);
    }

    /// Cuts a client's connection now, and says whether it had one.
    pub fn cut_client(&self, client: &str) -> bool {
        self.state.control_client(client, &Control::Cut)
    }

    /// Leaves all connections open, but neither reads nor writes them again.
    pub fn fall_silent(&self) {
        self.state.control_all(&Control::Silence);
    }

    /// Forgets the sessions of clients that are not connected.
    pub fn forget_sessions(&self) {
        self.state.forget_sessions();
    }

    /// Publishes to whoever subscribes, as the cloud would; no limit applies.
    pub fn publish(&self, topic: &str, payload: impl Into<Bytes>) {
        self.state.publish(topic, payload.into());
    }

    /// Sends a message to a connected client whether it subscribes or not, of any size, and says
    /// whether there is such a client.
    pub fn deliver(&self, client: &str, topic: &str, payload: impl Into<Bytes>, qos: QoS) -> bool {
        self.state.deliver(client, topic, payload.into(), qos)
    }

    /// Sends bytes to a connected client as they are, and says whether there is such a client.
    pub fn send_raw(&self, client: &str, bytes: impl Into<Bytes>) -> bool {
        self.state.send_raw(client, bytes.into())
    }

    /// How many clients are connected now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state.connections()
    }

    /// Every connection there was, oldest first.
    #[must_use]
    pub fn connection_records(&self) -> Vec<ConnectionRecord> {
        self.state.records()
    }

    /// Every CONNECT there was, oldest first.
    #[must_use]
    pub fn connects(&self) -> Vec<Connect> {
        self.state.records().into_iter().filter_map(|record| record.connect).collect()
    }

    /// The faults that struck and the rules that were broken.
    #[must_use]
    pub fn fault_log(&self) -> FaultLog {
        self.state.fault_log()
    }

    /// Waits until the connection records satisfy the predicate, looking again after each change to
    /// them or to the fault log.
    ///
    /// # Errors
    /// They did not within the deadline; it returns them.
    pub async fn wait_until(
        &self,
        mut predicate: impl FnMut(&[ConnectionRecord]) -> bool,
        deadline: Duration,
    ) -> Result<(), Vec<ConnectionRecord>> {
        let mut changes = self.state.changes();
        let seen = async {
            while !predicate(&self.state.records()) {
                if changes.changed().await.is_err() {
                    std::future::pending().await // the state outlives this borrow of it
                }
            }
        };
        tokio::time::timeout(deadline, seen).await.map_err(|_elapsed| self.state.records())
    }

    /// Ends all connections and waits until the ports are free.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}
