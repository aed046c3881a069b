//! JSON, a value a line, over a Unix socket: how QEMU's monitor and guest agent are spoken to.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use pulsegate_tests::eventually;

/// QEMU makes its sockets while it starts.
const CONNECT: Duration = Duration::from_secs(30);
/// The guest agent begins an answer with it when asked for a clean start.
const SENTINEL: u8 = 0xff;

/// A connection.
#[derive(Debug)]
pub(crate) struct Wire {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Wire {
    pub(crate) async fn connect(socket: &Path) -> Self {
        let what = format!("QEMU listens on `{}`", socket.display());
        let connect = async || UnixStream::connect(socket).await.ok();
        let (reader, writer) = eventually(&what, CONNECT, connect).await.into_split();
        Self { reader: BufReader::new(reader), writer }
    }

    pub(crate) async fn send(&mut self, value: &Value) -> Result<()> {
        self.send_bytes(format!("{value}\n").as_bytes()).await
    }

    /// Makes the guest agent forget half a line that somebody else may have sent.
    pub(crate) async fn send_sentinel(&mut self) -> Result<()> {
        self.send_bytes(&[SENTINEL]).await
    }

    /// The next value; what stands before a sentinel on its line is not part of it.
    pub(crate) async fn receive(&mut self) -> Result<Value> {
        let mut line = Vec::new();
        if self.reader.read_until(b'\n', &mut line).await? == 0 {
            bail!("QEMU has closed the connection");
        }
        let begin = line.iter().rposition(|&byte| byte == SENTINEL).map_or(0, |place| place + 1);
        let text = String::from_utf8_lossy(&line[begin..]);
        serde_json::from_str(&text).with_context(|| format!("not JSON: `{}`", text.trim()))
    }

    async fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write_all(bytes).await.context("QEMU has closed the connection")
    }
}
