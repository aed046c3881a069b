//! A client of the agent's inbox: JSON lines in, an answer a line out, in order.

use std::fmt;
use std::path::Path;

use serde_json::Value;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, ReadHalf, WriteHalf,
};
use tokio::net::UnixStream;

use crate::{PATIENCE, eventually};

/// What a connection runs over: the inbox's own socket, or what leads to it.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl fmt::Debug for dyn Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a stream")
    }
}

/// A connection to an inbox. Sending and receiving may be split between two tasks.
#[derive(Debug)]
pub struct Inbox {
    /// The way in.
    pub sender: Sender,
    /// The way back.
    pub answers: Answers,
}

/// The way in.
#[derive(Debug)]
pub struct Sender(WriteHalf<Box<dyn Stream>>);

/// The way back.
#[derive(Debug)]
pub struct Answers(BufReader<ReadHalf<Box<dyn Stream>>>);

impl Inbox {
    /// Connects, as soon as the agent listens.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`].
    pub async fn connect(socket: &Path) -> Self {
        let what = format!("the inbox `{}` takes connections", socket.display());
        let stream =
            eventually(&what, PATIENCE, async || UnixStream::connect(socket).await.ok()).await;
        Self::over(stream)
    }

    /// Speaks to the inbox at the far end of a stream.
    #[must_use]
    pub fn over(stream: impl Stream + 'static) -> Self {
        let stream: Box<dyn Stream> = Box::new(stream);
        let (reader, writer) = tokio::io::split(stream);
        Self { sender: Sender(writer), answers: Answers(BufReader::new(reader)) }
    }

    /// Sends one reading and returns its answer; `None` if the agent went away before it.
    pub async fn exchange(&mut self, reading: &Value) -> Option<Value> {
        if !self.sender.send(&reading.to_string()).await {
            return None;
        }
        self.answers.next().await
    }

    /// Sends all lines, reading the answers meanwhile, and returns these; fewer than there were
    /// lines if the agent went away.
    pub async fn exchange_all(&mut self, lines: &[String]) -> Vec<Value> {
        let Self { sender, answers } = self;
        let send = async {
            for line in lines {
                if !sender.send(line).await {
                    return;
                }
            }
        };
        let receive = async {
            let mut received = Vec::with_capacity(lines.len());
            while received.len() < lines.len() {
                let Some(answer) = answers.next().await else { break };
                received.push(answer);
            }
            received
        };
        tokio::join!(send, receive).1
    }
}

impl Inbox {
    /// Hands over lines, all of which must be taken, and returns their ids once they are durable.
    ///
    /// # Panics
    /// When one is refused or not durable, or the agent goes away.
    pub async fn store(&mut self, lines: &[String]) -> Vec<String> {
        let answers = self.exchange_all(lines).await;
        assert_eq!(answers.len(), lines.len(), "the agent went away");
        let id = |(answer, line): (&Value, &String)| {
            assert!(answer["durable"] != false, "`{line}` is in memory only: {answer}");
            let id = answer["id"].as_str();
            id.unwrap_or_else(|| panic!("`{line}` was refused: {answer}")).to_owned()
        };
        answers.iter().zip(lines).map(id).collect()
    }
}

impl Sender {
    /// Sends one line; `false` once the agent has gone away.
    pub async fn send(&mut self, line: &str) -> bool {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        self.send_bytes(&bytes).await
    }

    /// Sends bytes as they are; `false` once the agent has gone away.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }
}

impl Answers {
    /// The next answer; `None` once the agent has gone away, even amid an answer.
    ///
    /// # Panics
    /// When it is not JSON, or does not come within [`PATIENCE`].
    pub async fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        tokio::time::timeout(PATIENCE, self.0.read_line(&mut line))
            .await
            .expect("the inbox answers in time")
            .ok()?;
        let line = line.strip_suffix('\n')?;
        Some(serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in `{line}`")))
    }
}

/// The line of a heart rate with a time of its own, in milliseconds since 1970.
#[must_use]
pub fn heart_rate(source: &str, bpm: f64, time_ms: i64) -> String {
    let mut reading = reading(source, "heart_rate", bpm);
    reading["time"] = time_ms.into();
    reading.to_string()
}

/// The line of a reading without a time of its own.
#[must_use]
pub fn reading(source: &str, kind: &str, value: f64) -> Value {
    serde_json::json!({ "source": source, "kind": kind, "value": value })
}
