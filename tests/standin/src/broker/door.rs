//! One port: accepts, shakes hands over TLS, and hands the connection on.
//!
//! SNI and application protocol are judged on the ClientHello, before any certificate is shown.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::connection;
use super::state::State;
use super::{Alpn, Door};
use crate::limits::Violation;
use crate::record::End;

/// Bounds how long a client may take over its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often a reopened port is tried again while the kernel still holds it.
const REBIND: Duration = Duration::from_millis(20);

/// Keeps one port.
pub(super) struct Keeper {
    pub(super) state: Arc<State>,
    pub(super) index: usize,
    pub(super) address: SocketAddr,
    pub(super) alpn: Alpn,
}

impl Keeper {
    /// Serves until the broker is dropped. Owns the tasks of its connections.
    pub(super) async fn keep(self, listener: TcpListener, mut door: watch::Receiver<Door>) {
        let keeper = Arc::new(self);
        let mut listener = Some(listener);
        let mut connections = JoinSet::new();
        loop {
            let now = *door.borrow_and_update();
            if now == Door::Closed {
                listener = None;
            } else if listener.is_none() {
                listener = TcpListener::bind(keeper.address).await.ok();
            }
            tokio::select! {
                changed = door.changed() => if changed.is_err() { return },
                accepted = accept(listener.as_ref(), now) => {
                    if let Ok(stream) = accepted {
                        connections.spawn(Arc::clone(&keeper).receive(stream, now));
                    }
                }
                Some(_ended) = connections.join_next() => {}
            }
        }
    }

    async fn receive(self: Arc<Self>, mut stream: TcpStream, door: Door) {
        let number = self.state.accepted(self.index);
        let end = match door {
            Door::TurningAway | Door::Closed => End::TurnedAway,
            Door::Mute => {
                drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
                End::PeerClosed
            }
            Door::Open => match timeout(HANDSHAKE, self.greet(number, stream)).await {
                Ok(Ok(stream)) => connection::serve(&self.state, number, stream).await,
                Ok(Err(end)) => end,
                Err(_elapsed) => End::Handshake("too slow".to_owned()),
            },
        };
        self.state.ended(number, end);
    }

    async fn greet(&self, number: u64, stream: TcpStream) -> Result<TlsStream<TcpStream>, End> {
        let failed = |error: io::Error| End::Handshake(error.to_string());
        stream.set_nodelay(true).map_err(failed)?;
        let handshake =
            LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(failed)?;
        let hello = handshake.client_hello();
        let offers_protocol = hello.alpn().is_some_and(|mut offered| offered.next().is_some());
        let server_name = hello.server_name().map(str::to_owned);
        let nameless = server_name.is_none();
        self.state.named(number, server_name);
        if self.state.limits().server_name && nameless {
            return Err(End::Violated(Violation::NoServerName));
        }
        match self.alpn {
            Alpn::Required(_) if !offers_protocol => return Err(End::Violated(Violation::Alpn)),
            Alpn::NotOffered if offers_protocol => return Err(End::Violated(Violation::Alpn)),
            Alpn::Required(_) | Alpn::NotOffered | Alpn::Any => {}
        }
        let config = self
            .state
            .server_config(self.alpn)
            .map_err(|error| End::Handshake(error.to_string()))?;
        handshake.into_stream(config).await.map_err(failed)
    }
}

async fn accept(listener: Option<&TcpListener>, door: Door) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None if door == Door::Closed => std::future::pending().await,
        None => {
            sleep(REBIND).await;
            Err(io::ErrorKind::AddrInUse.into())
        }
    }
}

/// The common name of the certificate that a client showed.
pub(super) fn common_name(stream: &TlsStream<TcpStream>) -> Option<String> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}
