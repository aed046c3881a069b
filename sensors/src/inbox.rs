//! The inbox: readings of other programs, as JSON lines on a Unix stream socket.
//!
//! A line is `{"source":"7","kind":"heart_rate","value":72,"time":"2026-11-20T10:00:00.000Z"}`,
//! with `time` optional. Lines are answered in order: with `{"id":"<start>-<seq>"}` after the
//! reading is durable, with `{"id":"<start>-<seq>","durable":false}` if the reading is in memory
//! because the disk takes no writes, or with `{"error":"...","field":"..."}`. A bad line loses only
//! its own reading. A client with unread answers delays only itself; if other clients need its
//! memory, the client is cut off.
//!
//! The lines of one read travel as one [`Chunk`] and are answered together. An unanswered line may
//! or may not be stored: a program must send the line again to be sure.

mod answer;
mod client;
mod fault;
mod json;
mod line;
mod line_reader;
mod memory;
mod rights;
mod scan;
mod stamp;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};

use crate::forbidden::Forbidden;
use crate::{SourceId, Sources};
use client::SharedInbox;
use fault::LineFault;
use line_reader::{EntryParser, LineReader};
pub use memory::ClientMemory;
pub use rights::Owners;
use rights::Rights;

/// The group of the programs that may write to an inbox but need not see the configuration or the
/// status.
pub const GROUP: &str = "pulsegate-inbox";
/// The maximum number of clients of all inboxes together: bounds descriptors and the memory of
/// stalled clients; far more programs than a gateway runs.
pub const MAX_CLIENTS: usize = 256;
/// The maximum number of clients of one user at one inbox: the remaining places are for other
/// users.
pub const MAX_CLIENTS_OF_A_USER: usize = MAX_CLIENTS / 4 * 3;
/// The time limit from the first byte of a line to its end. Programs write a line at once; a
/// program stopped within a line must start the line again.
const LINE_PATIENCE: Duration = Duration::from_secs(30);
/// The maximum length of a line: enough for every legal line with all characters escaped; bounds
/// the cost of an endless line.
pub const MAX_LINE_BYTES: usize = 4 * 1024;
/// The time for clients to read their last answers after the agent stops listening.
const CLOSING_TIME: Duration = Duration::from_secs(1);
/// The pause after a failed accept: most likely no descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The reading of one line.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The source of the reading.
    pub source: SourceId,
    /// The time in the line, in milliseconds since 1970-01-01T00:00:00Z.
    pub time_ms: Option<i64>,
    /// The value of the reading.
    pub value: EntryValue,
}

/// The value of an [`Entry`].
#[derive(Debug, Clone, PartialEq)]
pub enum EntryValue {
    /// A finite number.
    Number(f64),
    /// A word of 1 to 64 bytes without control characters.
    State(Box<str>),
}

/// The good lines of one read, at least one, in order.
#[derive(Debug)]
pub struct Chunk {
    /// The readings.
    pub entries: Vec<Entry>,
    /// The sender of the answer. If dropped, the client is closed without an answer.
    pub answer: oneshot::Sender<Result<Receipt, ChunkRefused>>,
}

/// The record ids of a stored chunk: `first_seq`, `first_seq + 1`, and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The part of the record ids before the hyphen: the start of the agent that stored the chunk.
    pub start: Arc<str>,
    /// The sequence number of the first entry.
    pub first_seq: u64,
    /// `true` if the chunk survives a power cut; otherwise it is kept in memory until the disk
    /// takes writes.
    pub is_durable: bool,
}

/// The reason a chunk was not stored, sent as the error of each of its lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ChunkRefused(pub String);

/// The sources that an inbox accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceAdmission {
    /// All sources.
    Any,
    /// The sources with these ids.
    Only(HashSet<Box<str>>),
}

impl SourceAdmission {
    fn allows_source(&self, source: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(sources) => sources.contains(source),
        }
    }
}

/// Parses lines like the inbox, from any input.
#[derive(Debug)]
pub struct Lines(EntryParser);

impl Lines {
    /// Accepts any source; each source gets a number of `sources`.
    #[must_use]
    pub fn new(sources: Arc<Sources>) -> Self {
        Self(EntryParser::new(SourceAdmission::Any, Forbidden::default(), sources))
    }

    /// Parses a line; returns `None` for an empty line.
    ///
    /// # Errors
    /// The fault of the line, in the words of the inbox.
    pub fn parse_line(&mut self, line: &[u8]) -> Option<Result<Entry, ChunkRefused>> {
        let refused = |fault: LineFault| match fault.field_name() {
            Some(field) => ChunkRefused(format!("`{field}`: {}", fault.code)),
            None => ChunkRefused(fault.code.to_string()),
        };
        self.0.parse_entry(line).map(|entry| entry.map_err(refused))
    }
}

/// Counters of one inbox since its start, for `status`.
#[derive(Debug, Default)]
pub struct Counters {
    /// The number of connected clients.
    pub clients: AtomicU64,
    /// Clients refused because no place was free.
    pub turned_away: AtomicU64,
    /// Idle clients closed to make room for another client.
    pub displaced: AtomicU64,
    /// Lines without an end within the time limit; their clients were closed.
    pub unfinished: AtomicU64,
    /// Lines read, without empty lines.
    pub lines: AtomicU64,
    /// Lines answered with an id.
    pub stored: AtomicU64,
    /// Lines answered with an error.
    pub refused: AtomicU64,
    /// The number of sources that count towards the share of the inbox.
    pub sources: AtomicU64,
    /// The share of the inbox in the table of sources.
    pub max_sources: AtomicU64,
    /// Clients cut off because other clients needed the memory of their unread answers.
    pub cut: AtomicU64,
}

/// Opens the socket for its owner and group. A socket file left by an ended process is replaced.
///
/// # Errors
/// `AddrInUse` if another process listens on the path, `AlreadyExists` if the path is not a socket,
/// or the error of the file system. Panics outside a tokio runtime.
pub fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => remove_stale(path)?,
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "not a socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Opens the socket of an inbox for the programs of the group [`GROUP`]. If the group does not
/// exist or the agent is not a member, the socket keeps the agent's own group.
///
/// # Errors
/// `AddrInUse` if another process listens on the path, `AlreadyExists` if the path is not a socket,
/// or the error of the file system. Panics outside a tokio runtime.
pub fn bind_inbox(path: &Path) -> io::Result<UnixListener> {
    let listener = bind_socket(path)?;
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let Some(group) = group_id(&groups, GROUP) else {
        tracing::debug!(group = GROUP, "no such group: the inbox is for the agent's own");
        return Ok(listener);
    };
    if let Err(error) = chown(path, None, Some(group)) {
        tracing::warn!(group = GROUP, %error, "the inbox cannot be given to its group");
    }
    Ok(listener)
}

/// Returns the number of a group from the text of `/etc/group` (group(5)).
fn group_id(groups: &str, name: &str) -> Option<u32> {
    let mut lines = groups.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?)
}

/// Removes a socket file that no process listens on. Connecting a datagram socket tests the
/// listener without disturbing it and without waiting: a dead socket refuses, and a live stream
/// socket is "the wrong type" (unix(7), `EPROTOTYPE`).
fn remove_stale(path: &Path) -> io::Result<()> {
    match UnixDatagram::unbound()?.connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        Ok(()) | Err(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens on it")),
    }
}

/// The settings and connections of an inbox.
#[derive(Debug)]
pub struct Service {
    /// The sources that the inbox accepts.
    pub admission: SourceAdmission,
    /// A line that contains one of these texts is refused.
    pub forbidden: Forbidden,
    /// The table of sources, which numbers new sources.
    pub sources: Arc<Sources>,
    /// The receiver of good lines.
    pub chunks: mpsc::Sender<Chunk>,
    /// The counters of the inbox.
    pub counters: Arc<Counters>,
    /// The memory limit shared by the clients of all inboxes.
    pub memory: Arc<ClientMemory>,
    /// The owners of the sources; may change while the inbox is served.
    pub owners: watch::Receiver<Arc<Owners>>,
    /// The clock used to refuse times in the future.
    pub clock: WallClock,
}

/// A function that returns the wall time.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> Option<i64> + Send + Sync>);

impl WallClock {
    /// Wraps a function that returns the milliseconds since 1970, or `None` while the clock is not
    /// trusted. Without a trusted clock, any time is accepted.
    pub fn new(now: impl Fn() -> Option<i64> + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    fn now_ms(&self) -> Option<i64> {
        (self.0)()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now_ms()).finish()
    }
}

/// Serves clients until the receiver of `chunks` is closed. Answers that are ready by then are
/// still sent.
pub async fn serve_clients(listener: UnixListener, service: Service) {
    let Service { admission, forbidden, sources, chunks, counters, memory, owners, clock } =
        service;
    let rights = Rights::new(owners, Arc::clone(&counters));
    let register = EntryParser::new(admission, forbidden, sources).with_rights(rights, clock);
    let desk = Mutex::new(LineReader::new(register));
    let answers = Mutex::default();
    let places = Arc::clone(&memory.places);
    let socket = places.register_socket();
    let inbox = Arc::new(SharedInbox { desk, answers, chunks: chunks.clone(), counters, memory });
    let mut clients = JoinSet::new();
    let mut is_deaf = false;
    let closed = chunks.closed();
    tokio::pin!(closed);
    loop {
        tokio::select! {
            biased;
            () = &mut closed => break,
            Some(ended) = clients.join_next(), if !clients.is_empty() => propagate_panic(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    is_deaf = false;
                    match places.admit_connection(socket, &stream) {
                        Some(place) => {
                            clients.spawn(client::serve_client(stream, place, Arc::clone(&inbox)));
                        }
                        None => turn_away(&stream, &inbox.counters),
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_deaf, true) {
                        tracing::warn!(%error, "the inbox accepts no clients for now");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let goodbye = async {
        while let Some(ended) = clients.join_next().await {
            propagate_panic(ended)
        }
    };
    if tokio::time::timeout(CLOSING_TIME, goodbye).await.is_err() {
        tracing::debug!(
            clients = clients.len(),
            "left inbox clients that do not read their answers"
        );
    }
}

/// Continues a panic of a client's task, since a panic means a bug.
fn propagate_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

fn turn_away(stream: &UnixStream, counters: &Counters) {
    counters.turned_away.fetch_add(1, Ordering::Relaxed);
    let courtesy = stream.try_write(b"{\"error\":\"too many clients\"}\n");
    tracing::debug!(told = courtesy.is_ok(), "turned an inbox client away");
}
