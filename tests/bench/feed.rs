//! What is fed, and who feeds it: readings of ten belts, each with a time of its own, so that the
//! far end can tell which of them arrived.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use pulsegate_tests::{PATIENCE, eventually};
use rumqttc::mqttbytes::v4::Packet;
use rumqttc::{AsyncClient, Event, MqttOptions, PublishOptions, QoS};
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

/// Programs that speak to the inbox at once.
pub(crate) const CLIENTS: u32 = 4;
/// What a peer that takes MQTT may have unanswered: the limit of AWS IoT Core.
const IN_FLIGHT: u16 = 100;
const BELTS: u32 = 10;
/// Between two looks for a socket.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// When feeding began, and when the last reading was taken: durable, if its taker promises that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fed {
    pub(crate) began: Instant,
    pub(crate) taken: Instant,
}

/// 2026-11-20T10:00:00Z, the time of reading 0.
pub(crate) const TEN_MS: u64 = 1_795_168_800_000;

/// The line of reading `n`, with a time `n` milliseconds after ten.
pub(crate) fn line(n: u32) -> String {
    let (second, ms) = (n / 1000, n % 1000);
    let (hour, minute, second) = (10 + second / 3600, second / 60 % 60, second % 60);
    format!(
        "{{\"source\":\"belt-{:02}\",\"kind\":\"heart_rate\",\"value\":{},\
         \"time\":\"2026-11-20T{hour:02}:{minute:02}:{second:02}.{ms:03}Z\"}}\n",
        n % BELTS,
        60 + n % 61,
    )
}

/// Sends lines to a socket through several clients at once, each as fast as it is read, and waits
/// for an answer to every line.
pub(crate) async fn socket(path: &Path, clients: u32, readings: Range<u32>) -> Fed {
    let each = (readings.end - readings.start).div_ceil(clients);
    let mut talks = Vec::new();
    for client in 0..clients {
        let from = readings.start + client * each;
        let share = from..readings.end.min(from + each);
        let text: String = share.clone().map(line).collect();
        talks.push((connect(path).await, text, share.len()));
    }
    let began = Instant::now();
    let talking: Vec<_> = talks
        .into_iter()
        .map(|(stream, text, count)| thread::spawn(move || talk(&stream, &text, count)))
        .collect();
    let join = || {
        for talk in talking {
            let talked = talk.join().expect("a client does not panic");
            talked.expect("a client is heard to its end");
        }
        Instant::now()
    };
    let taken = tokio::task::spawn_blocking(join).await.expect("joining does not panic");
    Fed { began, taken }
}

/// Sends the readings of ten belts one by one, `every` so often, with the agent's own times. Reads the answers, and
/// ends with an error when the agent does.
pub(crate) async fn trickle(path: PathBuf, every: Duration) -> io::Result<()> {
    let (answers, mut sender) = tokio::net::UnixStream::connect(path).await?.into_split();
    let drain = async move { tokio::io::copy(&mut { answers }, &mut tokio::io::sink()).await };
    let send = async move {
        let mut ticks = tokio::time::interval(every);
        for n in 0_u32.. {
            ticks.tick().await;
            let (belt, value) = (n % BELTS, 60 + n % 61);
            let line = format!(
                "{{\"source\":\"belt-{belt:02}\",\"kind\":\"heart_rate\",\"value\":{value}}}\n"
            );
            sender.write_all(line.as_bytes()).await?;
        }
        Ok(())
    };
    tokio::try_join!(drain, send).map(drop)
}

/// Sends lines through one client.
pub(crate) async fn lines(path: &Path, text: String) {
    let stream = connect(path).await;
    let count = memchr::memchr_iter(b'\n', text.as_bytes()).count();
    let talking = tokio::task::spawn_blocking(move || talk(&stream, &text, count));
    talking.await.expect("a client does not panic").expect("a client is heard to its end");
}

async fn connect(path: &Path) -> UnixStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return stream,
            Err(error) if Instant::now() > deadline => {
                panic!("nobody listens on `{}`: {error}", path.display())
            }
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// Writes everything while it reads as many answers.
fn talk(stream: &UnixStream, text: &str, count: usize) -> io::Result<()> {
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut writing = stream;
            writing.write_all(text.as_bytes())?;
            writing.shutdown(Shutdown::Write)
        });
        let (mut reading, mut answers, mut buffer) = (stream, 0, vec![0; 64 * 1024]);
        loop {
            match reading.read(&mut buffer)? {
                0 => break,
                read => answers += memchr::memchr_iter(b'\n', &buffer[..read]).count(),
            }
        }
        assert_eq!(answers, count, "every line is answered");
        writer.join().expect("the writer does not panic")
    })
}

/// Publishes readings, one a message, to a broker without TLS on this machine.
pub(crate) async fn mqtt(port: u16, topic: &str, readings: Range<u32>) -> Fed {
    let mut options = MqttOptions::new("feeder", ("127.0.0.1", port));
    options.set_inflight(IN_FLIGHT);
    let (client, mut events) = AsyncClient::builder(options).capacity(IN_FLIGHT.into()).build();
    let connected = eventually("the feeder connects", PATIENCE, async || {
        matches!(events.poll().await, Ok(Event::Incoming(Packet::ConnAck(_)))).then_some(())
    });
    connected.await;
    let lines: Vec<String> = readings.map(line).collect();
    let count = lines.len();
    let began = Instant::now();
    let publish = async {
        for line in lines {
            let options = PublishOptions::new(QoS::AtLeastOnce);
            let published = client.publish(topic, line.trim_end().to_owned(), options);
            published.await.expect("the event loop is here");
        }
    };
    let acknowledge = async {
        let mut acknowledged = 0;
        while acknowledged < count {
            let event = events.poll().await.expect("a broker on loopback stays");
            acknowledged += usize::from(matches!(event, Event::Incoming(Packet::PubAck(_))));
        }
        Instant::now()
    };
    let ((), taken) = tokio::join!(publish, acknowledge);
    Fed { began, taken }
}
