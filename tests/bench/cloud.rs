//! The cloud's side: a mosquitto that everything is published to over mutual TLS, and a subscriber
//! over TLS that notes which readings arrived, how often, and when the last did.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memchr::memmem::Finder;
use pulsegate_tests::PATIENCE;
use pulsegate_tests::certs::{Certs, HOST};
use pulsegate_tests::columns::reading_times;
use pulsegate_tests::mosquitto::{Mosquitto, Options, WATCHER};
use pulsegate_tests::subscriber::tls;
use rumqttc::mqttbytes::v4::Packet;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, QoS, Transport};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::feed::TEN_MS;

/// Room for the largest batch with its topic.
const MAX_PACKET_BYTES: usize = 2 * 1024 * 1024;
const TOPICS: &str = "pulsegate/+/readings";

/// A broker that knows the things of the benchmark, and who watches it.
pub(crate) struct Cloud {
    pub(crate) certs: Certs,
    pub(crate) broker: Mosquitto,
    seen: Arc<Mutex<Seen>>,
    arrived: watch::Receiver<u32>,
    _watching: JoinSet<()>,
}

/// What arrived since the last [`Cloud::expect`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// A place for each reading that is expected.
    places: Vec<bool>,
    pub(crate) different: u32,
    pub(crate) duplicates: u32,
    pub(crate) first: Option<Instant>,
    pub(crate) last: Option<Instant>,
}

impl Cloud {
    pub(crate) async fn start(things: &[&str]) -> Self {
        let certs = Certs::new();
        // What a broker logs of each message would be most of its work.
        let quiet = ["none", "error", "warning", "notice", "information"];
        let options = quiet.iter().fold(Options::default().persistent(), |options, what| {
            options.line(&format!("log_type {what}"))
        });
        let options = things.iter().fold(options, |options, thing| options.thing(thing));
        let broker = Mosquitto::start(&certs, options).await;
        let watcher = certs.device(WATCHER);

        let mut mqtt = MqttOptions::new("counter", (HOST, broker.port()));
        mqtt.set_transport(Transport::tls_with_config(tls(&certs.ca(), &watcher.files).into()));
        mqtt.set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
        let (client, events) = AsyncClient::builder(mqtt).capacity(10).build();
        let seen = Arc::<Mutex<Seen>>::default();
        let (count, arrived) = watch::channel(0);
        let mut watching = JoinSet::new();
        watching.spawn(listen(client, events, Arc::clone(&seen), count));
        Self { certs, broker, seen, arrived, _watching: watching }
    }

    /// Forgets what arrived, and expects readings below `end`.
    pub(crate) fn expect(&self, end: u32) {
        let places = vec![false; usize::try_from(end).expect("a number of readings")];
        *lock(&self.seen) = Seen { places, ..Seen::default() };
    }

    /// Waits until so many different readings have arrived; tells what did by then.
    pub(crate) async fn arrived(&self, count: u32, deadline: Duration) -> Seen {
        let mut arrived = self.arrived.clone();
        let all = arrived.wait_for(|_| lock(&self.seen).different >= count);
        if tokio::time::timeout(deadline, all).await.is_err() {
            let different = lock(&self.seen).different;
            panic!("{different} of {count} readings arrived within {deadline:?}");
        }
        lock(&self.seen).clone()
    }

    /// Waits for one reading of a subject that is just coming up.
    pub(crate) async fn hears(&self) {
        self.arrived(1, PATIENCE).await;
    }
}

async fn listen(
    client: AsyncClient,
    mut events: EventLoop,
    seen: Arc<Mutex<Seen>>,
    count: watch::Sender<u32>,
) {
    let marks = [Finder::new(b"\"t\":"), Finder::new(b"\"time\":\"")];
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                let asked = client.subscribe(TOPICS, QoS::AtLeastOnce).await;
                asked.expect("the filter is valid and the event loop is here");
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let different = lock(&seen).take(&publish.payload, &marks);
                count.send_replace(different);
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await, // it is away
        }
    }
}

impl Seen {
    /// Counts the readings of a payload by their times, whatever its records look like besides.
    fn take(&mut self, payload: &[u8], [number, text]: &[Finder<'_>; 2]) -> u32 {
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
        if payload.starts_with(b"{\"columns\"") {
            let message = serde_json::from_slice(payload).expect("the agent publishes JSON");
            for ms in reading_times(&message).expect("columns") {
                let since_ten = u64::try_from(ms).ok().and_then(|ms| ms.checked_sub(TEN_MS));
                self.count(since_ten.and_then(|ms| usize::try_from(ms).ok()));
            }
            return self.different;
        }
        for at in number.find_iter(payload) {
            self.count(milliseconds(&payload[at + number.needle().len()..]));
        }
        for at in text.find_iter(payload) {
            self.count(time_of_day(&payload[at + text.needle().len()..]));
        }
        self.different
    }

    fn count(&mut self, reading: Option<usize>) {
        match reading.and_then(|reading| self.places.get_mut(reading)) {
            Some(place) if !*place => {
                *place = true;
                self.different += 1;
            }
            Some(_) => self.duplicates += 1,
            None => {} // of an earlier pass
        }
    }
}

fn milliseconds(text: &[u8]) -> Option<usize> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    let ms = digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    usize::try_from(ms.checked_sub(TEN_MS)?).ok()
}

/// Of `2026-11-20T10:00:00.123Z`.
fn time_of_day(text: &[u8]) -> Option<usize> {
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?.iter();
        Some(digits.fold(0, |number, digit| number * 10 + usize::from(digit.wrapping_sub(b'0'))))
    };
    let hours = number(11, 13)?.checked_sub(10)?;
    let seconds = (hours * 60 + number(14, 16)?) * 60 + number(17, 19)?;
    Some(seconds * 1000 + number(20, 23)?)
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
