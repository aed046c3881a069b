//! A subscriber that remembers everything it was sent, in order, duplicates included.
//!
//! Its session is persistent: what arrives while it is away is sent when it is back, if the broker
//! still knows it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pulsegate_standin::pki::IdentityFiles;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS, Transport};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::certs::HOST;
use crate::wait::within;
use crate::{PATIENCE, records};

/// More than any broker here lets through.
const MAX_PACKET_BYTES: usize = 1024 * 1024;
/// Between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(50);

/// A message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub topic: String,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// A connected subscriber; disconnected when dropped.
#[derive(Debug)]
pub struct Subscriber {
    messages: Arc<Mutex<Vec<Message>>>,
    _tasks: JoinSet<()>,
}

impl Subscriber {
    pub(crate) async fn connect(
        port: u16,
        ca: &Path,
        identity: &IdentityFiles,
        filter: &str,
    ) -> Self {
        let id = format!("watcher-{:016x}", fastrand::u64(..));
        let mut options = MqttOptions::new(id, (HOST, port));
        options.set_transport(Transport::tls_with_config(tls(ca, identity).into()));
        options.set_clean_session(false);
        options.set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
        let (client, event_loop) = AsyncClient::builder(options).capacity(10).build();

        let messages = Arc::default();
        let (subscribed, mut is_subscribed) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let filter = filter.to_owned();
        tasks.spawn(listen(event_loop, client, filter, Arc::clone(&messages), subscribed));
        tokio::time::timeout(PATIENCE, is_subscribed.wait_for(|yes| *yes))
            .await
            .expect("the subscriber does not get through to the broker")
            .expect("the subscriber's task lives");
        Self { messages, _tasks: tasks }
    }

    /// Everything so far.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        lock(&self.messages).clone()
    }

    /// How many messages there are so far.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.messages).len()
    }

    /// Whether none has come yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every record so far of the topics that end in `topic_end`, in order of arrival.
    ///
    /// # Panics
    /// When a payload is neither a JSON array, an object, nor a line of JSON for each record.
    #[must_use]
    pub fn records(&self, topic_end: &str) -> Vec<Value> {
        records::of(&lock(&self.messages), topic_end)
    }

    /// Waits until `predicate` holds for what has arrived, and returns that.
    ///
    /// # Panics
    /// When it does not hold within `deadline`: says what has arrived.
    pub async fn wait_until(
        &self,
        what: &str,
        deadline: Duration,
        mut predicate: impl FnMut(&[Message]) -> bool,
    ) -> Vec<Message> {
        let mut looked_at = None;
        let look = async || {
            let messages = lock(&self.messages);
            if looked_at == Some(messages.len()) {
                return None;
            }
            looked_at = Some(messages.len());
            predicate(&messages).then(|| messages.clone())
        };
        match within(deadline, look).await {
            Some(messages) => messages,
            None => panic!("{what}: not within {deadline:?}; arrived: {}", self.summary()),
        }
    }

    /// Waits until records of the topics that end in `topic_end` satisfy `predicate`.
    ///
    /// # Panics
    /// As [`Subscriber::wait_until`].
    pub async fn wait_records(
        &self,
        topic_end: &str,
        deadline: Duration,
        mut predicate: impl FnMut(&[Value]) -> bool,
    ) -> Vec<Value> {
        let mut records = Vec::new();
        let mut parsed = 0; // only what is new is parsed: there may be a million
        let what = format!("the awaited records arrive on `{topic_end}`");
        self.wait_until(&what, deadline, |messages| {
            records.extend(records::of(&messages[parsed..], topic_end));
            parsed = messages.len();
            predicate(&records)
        })
        .await;
        records
    }

    /// How many messages came on each topic, and the last.
    fn summary(&self) -> String {
        let messages = lock(&self.messages);
        let mut by_topic = BTreeMap::<&str, usize>::new();
        for message in &*messages {
            *by_topic.entry(&message.topic).or_default() += 1;
        }
        let last = messages.last().map(|last| String::from_utf8_lossy(&last.payload).into_owned());
        format!("{by_topic:?}, last {}", last.as_deref().unwrap_or("none"))
    }
}

async fn listen(
    mut event_loop: EventLoop,
    client: AsyncClient,
    filter: String,
    messages: Arc<Mutex<Vec<Message>>>,
    subscribed: watch::Sender<bool>,
) {
    loop {
        match event_loop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                let asked = client.subscribe(filter.as_str(), QoS::AtLeastOnce).await;
                asked.expect("the filter is valid and the event loop is here");
            }
            Ok(Event::Incoming(Packet::SubAck(_))) => drop(subscribed.send(true)),
            Ok(Event::Incoming(Packet::Publish(publish))) => lock(&messages).push(Message {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                payload: publish.payload.to_vec(),
            }),
            Ok(_) => {}
            Err(_) => tokio::time::sleep(AGAIN).await, // the broker is away
        }
    }
}

fn lock(messages: &Mutex<Vec<Message>>) -> MutexGuard<'_, Vec<Message>> {
    messages.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a client with these files shows to a broker, and trusts.
///
/// # Panics
/// When the files do not hold what they should.
#[must_use]
pub fn tls(ca: &Path, identity: &IdentityFiles) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("the authority")).expect("a root");
    let certificate = CertificateDer::from_pem_file(&identity.certificate).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(&identity.private_key).expect("a key");
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows the default versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .expect("the key fits the certificate")
}
