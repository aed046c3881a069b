//! The link: a single MQTT connection for everything. Only this module names the MQTT crate.
//!
//! Each connection has a client of its own, so nothing is carried over from a dead connection: the
//! publisher sends unacknowledged messages again. The session on the broker's side is clean,
//! because the agent subscribes to nothing and a kept session would hold nothing.
//!
//! On each connection the thing publishes a retained message on the status topic: online after
//! connecting, offline when leaving, and lost as its last will. A subscriber who comes later reads
//! the same message.

mod dial;
mod greeting;
mod presence;
mod reason;

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::FutureExt as _;
use pulsegate_core::cloud::backoff::Backoff;
use pulsegate_core::cloud::batch::MAX_MESSAGE_BYTES;
use pulsegate_core::cloud::delivery::{ANSWER_STANDS, Doubt, LinkEnd};
use pulsegate_core::time::Mono;
use rumqttc::mqttbytes::v4::{LastWill, Packet};
use rumqttc::{
    AsyncClient, Broker, ConnectReturnCode, Event, EventLoop, MqttOptions, PublishOptions, QoS,
    TlsConfiguration, Transport,
};
use tokio::sync::watch;

use crate::cloud::tls::Clients;
use crate::config::{Identity, Limits, Link, Port};
use crate::platform::clock;
pub(crate) use dial::Dialer;
use greeting::{Greeting, GreetingVerdict};
use presence::Presence;
use reason::Reason;

/// Room for a message of the largest size with its topic, and for the packets of the service.
const MAX_PACKET_BYTES: usize = MAX_MESSAGE_BYTES + 32 * 1024;
/// Room for a packet of another broker, whose messages may be larger. Bounds the memory of a
/// packet.
const MAX_FOREIGN_PACKET_BYTES: usize = 2 * 1024 * 1024;
/// Base of the delays after failed attempts. The guidance of AWS IoT Core is a second or more.
const BACKOFF_BASE: Duration = Duration::from_secs(1);
/// Time that the broker has to acknowledge the greeting before other messages are sent anyway.
const GREETING: Duration = Duration::from_secs(2);
/// Time limit of an orderly disconnect.
const GOODBYE: Duration = Duration::from_secs(2);

/// The settings of the link.
#[derive(Debug, Clone)]
pub(crate) struct LinkOptions {
    pub(crate) thing: String,
    pub(crate) host: String,
    pub(crate) link: Link,
    /// Topic of the messages online, offline and lost.
    pub(crate) status_topic: String,
    /// Read again for each connection, so a renewed certificate takes effect without a reload.
    pub(crate) identity: Identity,
    /// Counts the connections since the start of the agent, also across reloads.
    pub(crate) connections: Arc<AtomicU64>,
    /// Threads for reading key files and looking up names.
    pub(crate) dialer: Dialer,
}

/// The state of the link for other parts of the agent.
#[derive(Debug, Clone)]
pub(crate) enum LinkState {
    /// No connection.
    Down(Outage),
    /// A connection.
    Up(Session),
}

impl LinkState {
    /// Returns the status topic while the broker refuses messages on it.
    pub(crate) fn refused_status(&self) -> Option<&RefusedStatus> {
        match self {
            Self::Down(outage) => outage.refused_status.as_ref(),
            Self::Up(session) => session.refused_status.as_ref(),
        }
    }
}

/// The time without a connection, with its reason.
#[derive(Debug, Clone)]
pub(crate) struct Outage {
    /// In words, for `status`; `None` before the first attempt.
    pub(crate) reason: Option<String>,
    pub(crate) since: Mono,
    /// Attempts since the last good connection.
    pub(crate) attempts: u64,
    /// Time of the next attempt.
    pub(crate) retry_at: Option<Mono>,
    /// The status topic, while the broker refuses messages on it.
    pub(crate) refused_status: Option<RefusedStatus>,
}

/// A status topic whose messages the broker answers by closing the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefusedStatus {
    pub(crate) topic: Arc<str>,
    pub(crate) since: Mono,
    pub(crate) next_trial: Mono,
}

impl Outage {
    /// Returns the outage before the first attempt.
    pub(crate) fn before_first_attempt(now: Mono) -> Self {
        Self { reason: None, since: now, attempts: 0, retry_at: None, refused_status: None }
    }
}

/// The end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) death: LinkEnd,
    pub(crate) at: Mono,
}

/// A connection.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    client: AsyncClient,
    /// Counts the connections of this start of the agent.
    pub(crate) number: u64,
    pub(crate) port: u16,
    pub(crate) since: Mono,
    /// Time to the acknowledgement of the greeting, or the time for which that was awaited; `None`
    /// without a greeting.
    pub(crate) round_trip: Option<Duration>,
    /// See [`Outage::refused_status`].
    pub(crate) refused_status: Option<RefusedStatus>,
    /// Set when the connection ends. The watch channel may skip a [`LinkState`]; this cell is never
    /// reset.
    end: Arc<OnceLock<End>>,
}

/// The link cannot take a message just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkBusy;

impl Session {
    /// Returns the end of the connection; `None` while the connection lives, and after an orderly
    /// disconnect.
    pub(crate) fn connection_end(&self) -> Option<End> {
        self.end.get().copied()
    }

    /// Hands a message to the link. The future resolves to true when the broker acknowledged the
    /// message, and to false when the connection ended first.
    pub(crate) fn publish_message(
        &self,
        topic: &str,
        payload: Bytes,
    ) -> Result<impl Future<Output = bool> + use<>, LinkBusy> {
        let options = PublishOptions::new(QoS::AtLeastOnce);
        let notice =
            self.client.try_publish_tracked(topic, payload, options).map_err(|_| LinkBusy)?;
        Ok(async move { notice.wait_completion_async().await.is_ok() })
    }
}

/// The wish of the agent for the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkRequest {
    /// Keep a connection.
    Stay,
    /// Say goodbye and end.
    Leave,
}

/// Keeps a connection to the broker until [`LinkRequest::Leave`] arrives.
///
/// # Errors
/// When no port of the broker is configured.
pub(crate) async fn run(
    options: LinkOptions,
    states: watch::Sender<LinkState>,
    mut wishes: watch::Receiver<LinkRequest>,
    mut doubts: watch::Receiver<u64>,
    trials: watch::Receiver<u64>,
    is_clock_set: impl Fn() -> bool,
) -> anyhow::Result<()> {
    let mut backoff = Backoff::new(BACKOFF_BASE, options.link.retry_max);
    let mut attempts = 0_u64;
    let mut doubt = Doubt::default();
    let mut complaint = None;
    let mut ports = options.link.list_ports().cycle();
    let mut port = ports.next().context("no port of the broker is configured")?;
    while *wishes.borrow() == LinkRequest::Stay {
        let number = options.connections.fetch_add(1, Ordering::Relaxed) + 1;
        attempts += 1;
        let refused = refused_status(&options, &doubt);
        let mut attempt = Attempt::new(port, number, refused);
        let ended = match options.dialer.read_identity(&options.identity).await {
            Ok(tls) => {
                run_connection(&options, &tls, &mut attempt, &states, &mut wishes, &mut doubts)
                    .await
            }
            Err(error) => EndedConnection { cause: EndCause::NoIdentity(error), up_since: None },
        };
        let now = clock::mono();
        let reason = match ended.cause {
            EndCause::Asked => break,
            EndCause::Doubted => Reason::from_network("the broker acknowledges nothing"),
            EndCause::NoIdentity(error) => Reason::from_refusal(format!("{error:#}")),
            EndCause::Failed(error) => reason::explain_connection_error(&error, is_clock_set()),
        };
        attempt.end.get_or_init(|| End { death: reason.death, at: now });
        let killed = judge_greeting(&options, &mut doubt, attempt.greeting, reason.death, now);
        let random = fastrand::f64();
        let wait = match ended.up_since {
            Some(since) => {
                attempts = 0;
                if killed || (reason.death == LinkEnd::ByPeer && *trials.borrow() == number) {
                    backoff.wait_after_trial(random)
                } else {
                    backoff.wait_after_loss(now.since(since), random)
                }
            }
            None => {
                port = ports.next().unwrap_or(port);
                backoff.wait_after_failure(reason.failure, random)
            }
        };
        if ended.up_since.is_some() || complaint.as_ref() != Some(&reason.text) {
            tracing::warn!(reason = reason.text, wait_s = wait.as_secs_f32(), "no link");
            complaint = Some(reason.text.clone());
        }
        let outage = Outage {
            reason: Some(reason.text),
            since: now,
            attempts,
            retry_at: Some(now + wait),
            refused_status: refused_status(&options, &doubt),
        };
        states.send_replace(LinkState::Down(outage));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = wishes.wait_for(|wish| *wish == LinkRequest::Leave) => {}
        }
    }
    Ok(())
}

/// Adds the end of a connection to the evidence about the status topic. Returns true if the
/// greeting may have caused the end.
fn judge_greeting(
    options: &LinkOptions,
    doubt: &mut Doubt,
    greeting: Greeting,
    death: LinkEnd,
    now: Mono,
) -> bool {
    let was_refused = doubt.is_refused();
    let finding = greeting.judge_death(death, now);
    let killed = finding == GreetingVerdict::Against;
    match finding {
        GreetingVerdict::Against => doubt.add_failure(now),
        GreetingVerdict::Nothing => {}
        GreetingVerdict::For => *doubt = Doubt::default(),
    }
    if doubt.is_refused() && !was_refused {
        let topic = options.status_topic.as_str();
        tracing::warn!(topic, "the broker hangs up on the status: data goes without it");
    }
    killed
}

/// Returns the status topic while the broker refuses messages on it.
fn refused_status(options: &LinkOptions, doubt: &Doubt) -> Option<RefusedStatus> {
    let topic = options.status_topic.as_str().into();
    let (since, next_trial) = (doubt.failing_since(), doubt.next_trial());
    doubt.is_refused().then_some(RefusedStatus { topic, since, next_trial })
}

struct Attempt {
    port: Port,
    number: u64,
    /// The status topic while refused: then data goes first, and the greeting follows at its next
    /// trial.
    refused: Option<RefusedStatus>,
    greeting: Greeting,
    /// Time to the acknowledgement of the greeting.
    answered_after: Option<Duration>,
    /// True once the connection was announced as [`LinkState::Up`].
    is_announced: bool,
    end: Arc<OnceLock<End>>,
}

impl Attempt {
    fn new(port: Port, number: u64, refused: Option<RefusedStatus>) -> Self {
        let (greeting, end) = (Greeting::None, Arc::default());
        Self { port, number, refused, greeting, answered_after: None, is_announced: false, end }
    }

    fn take_answer(&mut self) {
        let now = clock::mono();
        if let Greeting::Unanswered(sent) = self.greeting {
            self.answered_after = Some(now.since(sent));
        }
        self.greeting = Greeting::Answered(now);
    }

    fn round_trip(&self) -> Option<Duration> {
        match self.greeting {
            Greeting::Unanswered(sent) => Some(clock::mono().since(sent)),
            Greeting::None | Greeting::Answered(_) => self.answered_after,
        }
    }
}

struct EndedConnection {
    cause: EndCause,
    up_since: Option<Mono>,
}

enum EndCause {
    Asked,
    Doubted,
    NoIdentity(anyhow::Error),
    Failed(rumqttc::ConnectionError),
}

async fn run_connection(
    options: &LinkOptions,
    tls: &Clients,
    attempt: &mut Attempt,
    states: &watch::Sender<LinkState>,
    wishes: &mut watch::Receiver<LinkRequest>,
    doubts: &mut watch::Receiver<u64>,
) -> EndedConnection {
    let (port, number) = (attempt.port, attempt.number);
    let (client, mut events) = build_client(options, tls, port);
    let (mut greeted, mut up_since, mut is_leaving) = (None::<Acknowledgement>, None, false);
    let cause = loop {
        let event = tokio::select! {
            event = events.poll() => event,
            answered = await_answer(&mut greeted) => {
                greeted = None;
                if answered {
                    attempt.take_answer();
                }
                announce_session(states, &client, attempt, up_since);
                continue;
            }
            () = await_answer_timeout(attempt) => {
                announce_session(states, &client, attempt, up_since);
                continue;
            }
            () = await_trusted_answer(attempt), if attempt.refused.is_some() => {
                attempt.refused = None;
                announce_session(states, &client, attempt, up_since);
                continue;
            }
            () = await_greeting_trial(attempt), if up_since.is_some() && greeted.is_none() => {
                greeted = send_greeting(&client, options, attempt);
                continue;
            }
            _ = wishes.wait_for(|wish| *wish == LinkRequest::Leave), if !is_leaving => {
                if up_since.is_none() {
                    break EndCause::Asked;
                }
                is_leaving = true;
                leave_broker(&client, options, attempt);
                continue;
            }
            Ok(_) = doubts.wait_for(|doubted| *doubted == number) => break EndCause::Doubted,
        };
        match event {
            Ok(Event::Incoming(Packet::ConnAck(ack))) if ack.code == ConnectReturnCode::Success => {
                up_since = Some(clock::mono());
                tracing::info!(host = options.host, port = port.number, "the link is up");
                if attempt.refused.is_none() {
                    greeted = send_greeting(&client, options, attempt);
                }
                if greeted.is_none() {
                    announce_session(states, &client, attempt, up_since);
                }
            }
            Ok(_) => {}
            Err(error) if is_leaving => {
                tracing::debug!(%error, "said goodbye");
                break EndCause::Asked;
            }
            Err(error) => break EndCause::Failed(error),
        }
    };
    // An answer may have been read together with the end of the connection.
    if greeted.as_mut().and_then(|greeted| greeted.now_or_never()) == Some(true) {
        attempt.take_answer();
    }
    EndedConnection { cause, up_since }
}

/// Publishes that the thing is offline, unless the broker refuses the status topic, and asks for a disconnect.
fn leave_broker(client: &AsyncClient, options: &LinkOptions, attempt: &Attempt) {
    if attempt.refused.is_none() {
        drop(send_presence(client, options, Presence::Offline));
    }
    // A full queue is emptied before the disconnect anyway.
    drop(client.try_disconnect_with_timeout(GOODBYE));
}

/// Completes when other messages no longer wait for an answer to the greeting. The answer may come
/// later.
async fn await_answer_timeout(attempt: &Attempt) {
    match attempt.greeting {
        Greeting::Unanswered(sent) if !attempt.is_announced => {
            tokio::time::sleep((sent + GREETING).since(clock::mono())).await;
        }
        Greeting::None | Greeting::Unanswered(_) | Greeting::Answered(_) => {
            std::future::pending().await
        }
    }
}

/// Completes when an answer to the greeting has stood long enough to be believed.
async fn await_trusted_answer(attempt: &Attempt) {
    match attempt.greeting {
        Greeting::Answered(at) => {
            tokio::time::sleep((at + ANSWER_STANDS).since(clock::mono())).await;
        }
        Greeting::None | Greeting::Unanswered(_) => std::future::pending().await,
    }
}

/// Completes when a refused greeting is due again.
async fn await_greeting_trial(attempt: &Attempt) {
    match (&attempt.refused, attempt.greeting) {
        (Some(refused), Greeting::None) => {
            tokio::time::sleep(refused.next_trial.since(clock::mono())).await;
        }
        (Some(_) | None, _) => std::future::pending().await,
    }
}

/// Publishes the message online.
fn send_greeting(
    client: &AsyncClient,
    options: &LinkOptions,
    attempt: &mut Attempt,
) -> Option<Acknowledgement> {
    let answer = send_presence(client, options, Presence::Online)?;
    attempt.greeting = Greeting::Unanswered(clock::mono());
    Some(answer)
}

fn announce_session(
    states: &watch::Sender<LinkState>,
    client: &AsyncClient,
    attempt: &mut Attempt,
    up_since: Option<Mono>,
) {
    let Some(since) = up_since else { return };
    attempt.is_announced = true;
    let session = Session {
        client: client.clone(),
        number: attempt.number,
        port: attempt.port.number,
        since,
        round_trip: attempt.round_trip(),
        refused_status: attempt.refused.clone(),
        end: Arc::clone(&attempt.end),
    };
    states.send_replace(LinkState::Up(session));
}

/// Resolves to true when the broker acknowledged the message, to false when the connection ended
/// first.
type Acknowledgement = Pin<Box<dyn Future<Output = bool> + Send>>;

async fn await_answer(answer: &mut Option<Acknowledgement>) -> bool {
    match answer {
        Some(answer) => answer.await,
        None => std::future::pending().await,
    }
}

/// Publishes a retained presence message on the status topic. The message is not a stored record:
/// the last will takes its place when the thing cannot send.
fn send_presence(
    client: &AsyncClient,
    options: &LinkOptions,
    presence: Presence,
) -> Option<Acknowledgement> {
    let payload = presence.to_payload();
    let how = PublishOptions::new(QoS::AtLeastOnce).retain(true);
    match client.try_publish_tracked(options.status_topic.as_str(), payload, how) {
        Ok(notice) => Some(Box::pin(async move { notice.wait_completion_async().await.is_ok() })),
        Err(_) => {
            tracing::debug!(status = ?presence, "no room to say so");
            None
        }
    }
}

/// Returns the number of messages in the queue to the client: the publish window and the status
/// messages.
fn queue_capacity(options: &LinkOptions) -> usize {
    usize::from(options.link.window) + 2
}

/// Builds a client of the MQTT library. The connection is made when the events are polled.
fn build_client(options: &LinkOptions, tls: &Clients, port: Port) -> (AsyncClient, EventLoop) {
    let (client, mut events) = AsyncClient::builder(mqtt_options(options, tls, port))
        .capacity(queue_capacity(options))
        .build();
    let mut network = rumqttc::NetworkOptions::new();
    network.set_connection_timeout(options.link.connect_timeout.as_secs().max(1));
    network.set_tcp_nodelay(true);
    events.set_network_options(network);
    (client, events)
}

fn mqtt_options(options: &LinkOptions, tls: &Clients, port: Port) -> MqttOptions {
    let broker = Broker::tcp(options.host.clone(), port.number);
    let mut mqtt = MqttOptions::new(options.thing.clone(), broker);
    let tls = if port.alpn { &tls.mqtt_alpn } else { &tls.plain };
    mqtt.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.clone())));
    mqtt.set_keep_alive(u16::try_from(options.link.keep_alive.as_secs()).unwrap_or(u16::MAX));
    mqtt.set_clean_session(true);
    mqtt.set_inflight(options.link.window.saturating_add(2));
    mqtt.set_max_request_batch(usize::from(options.link.window));
    let max_packet = match options.link.limits {
        Limits::Aws => MAX_PACKET_BYTES,
        Limits::None => MAX_FOREIGN_PACKET_BYTES,
    };
    mqtt.set_max_packet_size(max_packet, max_packet);
    let payload = Presence::Lost.to_payload();
    let will = LastWill::new(options.status_topic.clone(), payload, QoS::AtLeastOnce, true);
    mqtt.set_last_will(will);
    options.dialer.install_connector(&mut mqtt, options.link.connect_timeout / 2);
    mqtt
}

#[cfg(test)]
impl Session {
    /// Returns a session without a connection.
    pub(crate) fn unused(number: u64) -> Self {
        let options = MqttOptions::new("box", Broker::tcp("localhost", 8883));
        let (client, _) = AsyncClient::builder(options).capacity(1).build();
        let (since, end) = (clock::mono(), Arc::default());
        Self { client, number, port: 8883, since, round_trip: None, refused_status: None, end }
    }

    pub(crate) fn ended(self, death: LinkEnd, at: Mono) -> Self {
        self.end.set(End { death, at }).expect("it ends once");
        self
    }
}
