//! The steps before a connection that may hang: reading certificate and key, and looking up the
//! broker's name. Each step has a thread of its own, which outlives a reload of the link.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::select_ok;
use rumqttc::{MqttOptions, NetworkOptions};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::cloud::tls::{self, Clients};
use crate::config::Identity;
use crate::platform::aside::BlockingWorker;

/// Time for reading a few files of some kilobytes. A card that takes longer does not answer.
const READING: Duration = Duration::from_secs(10);
/// Delay between the attempts on two addresses of a name: RFC 8305, section 5.
const STAGGER: Duration = Duration::from_millis(250);

/// The threads for the steps before a connection.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    identity: BlockingWorker,
    resolver: BlockingWorker,
}

impl Dialer {
    pub(crate) fn new() -> Self {
        Self {
            identity: BlockingWorker::new("certificates"),
            resolver: BlockingWorker::new("resolver"),
        }
    }

    /// Reads certificate, key and roots.
    ///
    /// # Errors
    /// When a file cannot be read or used; most errors name the file. Also when the disk does not
    /// answer within [`READING`].
    pub(super) async fn read_identity(&self, identity: &Identity) -> anyhow::Result<Clients> {
        let identity = identity.clone();
        let read = self.identity.run(READING, move || tls::load_clients(&identity)).await;
        read.context("cannot read certificate and key: is their disk mounted and well?")?
    }

    /// Makes connections of `mqtt` look up names on the resolver's thread, each within `limit`.
    pub(super) fn install_connector(&self, mqtt: &mut MqttOptions, limit: Duration) {
        let resolver = self.resolver.clone();
        mqtt.set_socket_connector(move |address, network| {
            connect_address(resolver.clone(), limit, address, network)
        });
    }
}

/// Connects to `address`, `host:port`.
async fn connect_address(
    resolver: BlockingWorker,
    limit: Duration,
    address: String,
    network: NetworkOptions,
) -> io::Result<TcpStream> {
    let addresses = resolve_address(&resolver, limit, address).await?;
    let attempts = (0..).zip(addresses).map(|(rank, address)| {
        let network = network.clone();
        Box::pin(async move {
            sleep(STAGGER * rank).await;
            // The address is numeric here, so the library looks nothing up.
            rumqttc::default_socket_connect(address.to_string(), network).await
        })
    });
    let attempts: Vec<_> = attempts.collect();
    if attempts.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the broker's name has no address"));
    }
    select_ok(attempts).await.map(|(stream, _)| stream)
}

async fn resolve_address(
    resolver: &BlockingWorker,
    limit: Duration,
    address: String,
) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let shown = address.rsplit_once(':').map_or("", |(host, _)| host).to_owned();
    let found = resolver.run(limit, move || address.to_socket_addrs().map(Vec::from_iter)).await;
    found.unwrap_or_else(|not_done| {
        let text = format!(
            "the look-up of the name `{shown}` hangs ({not_done}): check the name server with \
             `getent hosts {shown}`"
        );
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

    /// A resolver that answers nothing until the sender is dropped.
    async fn hung() -> (BlockingWorker, mpsc::Sender<()>) {
        let resolver = BlockingWorker::new("resolver");
        let (release, released) = mpsc::channel::<()>();
        let hang = resolver.run(Duration::from_millis(20), move || released.recv().ok()).await;
        assert!(hang.is_err());
        (resolver, release)
    }

    #[tokio::test]
    async fn a_look_up_that_hangs_ends_with_a_reason_and_goes_on_later() {
        let (resolver, release) = hung().await;
        let host = || "localhost:8883".to_owned();

        let error =
            resolve_address(&resolver, Duration::from_millis(20), host()).await.unwrap_err();
        drop(release);
        let found = resolve_address(&resolver, DEADLINE, host()).await.unwrap();

        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("`localhost` hangs"), "{error}");
        assert!(found.iter().all(|address| address.ip().is_loopback()), "{found:?}");
    }

    #[tokio::test]
    async fn an_address_needs_no_look_up() {
        let (resolver, _release) = hung().await;

        let found =
            resolve_address(&resolver, DEADLINE, "127.0.0.1:8883".to_owned()).await.unwrap();

        assert_eq!(found, [SocketAddr::from(([127, 0, 0, 1], 8883))]);
    }
}
