//! Readings of other programs: JSON lines on a Unix stream socket.
//!
//! A line is `{"source":"7","kind":"heart_rate","value":72,"time":"2026-11-20T10:00:00.000Z"}`, with
//! `time` optional. Each is answered in order: with `{"id":"<start>-<seq>"}` once it is durable, with
//! `{"id":"<start>-<seq>","durable":false}` once it is taken into memory because the disk takes no writes,
//! or with `{"error":"...","field":"..."}`. A bad line costs its sender that line and nothing else. A
//! client that does not read its answers stalls itself and nobody else; while others need the memory
//! that it holds, it is cut off.
//!
//! The lines of one read travel as one [`Chunk`]: whoever stores it answers it as a whole. An
//! unanswered line may or may not be stored: a program that must know sends it again.

mod answer;
mod client;
mod desk;
mod fault;
mod json;
mod line;
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
use client::Inbox;
use desk::{Desk, Register};
use fault::Fault;
pub use memory::Memory;
pub use rights::Owners;
use rights::Rights;

/// Who may write to an inbox: programs that need not see the configuration or the status.
pub const GROUP: &str = "pulsegate-inbox";
/// Clients of all inboxes together: bounds descriptors and what stalled clients hold; far more programs
/// than a gateway runs.
pub const MAX_CLIENTS: usize = 256;
/// How many of them may be of one user at one inbox: the rest is for others.
pub const MAX_CLIENTS_OF_A_USER: usize = MAX_CLIENTS / 4 * 3;
/// How long a line may take from its first byte to its end: programs write a line at once, and one
/// that is stopped amid a line is to begin anew.
const LINE_PATIENCE: Duration = Duration::from_secs(30);
/// Room for every legal line with all its characters escaped; bounds what an endless line costs.
pub const MAX_LINE_BYTES: usize = 4 * 1024;
/// How long clients may take to read their last answers once the agent stops listening.
const CLOSING_TIME: Duration = Duration::from_secs(1);
/// How long to leave the listener alone after a failed accept: most likely no descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What one line said.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Whose reading it is.
    pub source: SourceId,
    /// The time given with it, in milliseconds since 1970-01-01T00:00:00Z.
    pub time_ms: Option<i64>,
    /// What was read.
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

/// The good lines of one read, at least one, in their order.
#[derive(Debug)]
pub struct Chunk {
    /// What they said.
    pub entries: Vec<Entry>,
    /// Where to answer, once they are taken. Dropped: the client is closed without an answer.
    pub answer: oneshot::Sender<Result<Receipt, Refused>>,
}

/// The names under which a chunk was taken: `first_seq`, `first_seq + 1`, and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The part of the record ids before the hyphen: the start of the agent in which it was stored.
    pub start: Arc<str>,
    /// The place of the first entry.
    pub first_seq: u64,
    /// Whether it survives a power cut. If not, it is kept in memory until the disk takes writes.
    pub is_durable: bool,
}

/// Why a chunk was not stored: each of its lines is answered with this as its error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Which sources may speak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// All.
    Any,
    /// Those with these ids.
    Only(HashSet<Box<str>>),
}

impl Admission {
    fn admits(&self, source: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(sources) => sources.contains(source),
        }
    }
}

/// Reads lines as the inbox does, from wherever they come.
#[derive(Debug)]
pub struct Lines(Register);

impl Lines {
    /// Any source may speak; each gets a number of `sources`.
    #[must_use]
    pub fn new(sources: Arc<Sources>) -> Self {
        Self(Register::new(Admission::Any, Forbidden::default(), sources))
    }

    /// What a line says; `None` if there is nothing on it.
    ///
    /// # Errors
    /// What is wrong with it, in the words of the inbox.
    pub fn read(&mut self, line: &[u8]) -> Option<Result<Entry, Refused>> {
        let refused = |fault: Fault| match fault.field_name() {
            Some(field) => Refused(format!("`{field}`: {}", fault.code)),
            None => Refused(fault.code.to_string()),
        };
        self.0.entry(line).map(|entry| entry.map_err(refused))
    }
}

/// What happened so far, for the agent's status.
#[derive(Debug, Default)]
pub struct Counters {
    /// Clients connected now.
    pub clients: AtomicU64,
    /// Clients that were one too many.
    pub turned_away: AtomicU64,
    /// Idle clients that had to make room for another one.
    pub displaced: AtomicU64,
    /// Lines that were begun and not ended in time; their clients were closed.
    pub unfinished: AtomicU64,
    /// Lines read, empty ones aside.
    pub lines: AtomicU64,
    /// Lines answered with an id.
    pub stored: AtomicU64,
    /// Lines answered with an error.
    pub refused: AtomicU64,
    /// Sources in the table that count towards the share of the inbox.
    pub sources: AtomicU64,
    /// The share of the inbox in the table of sources.
    pub max_sources: AtomicU64,
    /// Clients cut off because they did not read their answers while others needed the room.
    pub cut: AtomicU64,
}

/// Opens the socket, for its owner and group, and removes one that nobody listens on any more.
///
/// # Errors
/// `AddrInUse` when somebody listens there, `AlreadyExists` when the path is not a socket, and
/// whatever the file system says. Panics outside a tokio runtime.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
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

/// As [`bind`], for the programs of the group [`GROUP`]. Where there is no such group, or the agent is
/// no member of it, the socket stays with the agent's own group.
///
/// # Errors
/// As [`bind`].
pub fn bind_inbox(path: &Path) -> io::Result<UnixListener> {
    let listener = bind(path)?;
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

/// The number of a group by the text of `/etc/group` (group(5)).
fn group_id(groups: &str, name: &str) -> Option<u32> {
    let mut lines = groups.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?)
}

/// Connecting a datagram socket asks whether a stream socket is alive without disturbing its owner
/// and without waiting: a dead one refuses, a live one is "the wrong type" (unix(7), `EPROTOTYPE`).
fn remove_stale(path: &Path) -> io::Result<()> {
    match UnixDatagram::unbound()?.connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        Ok(()) | Err(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens on it")),
    }
}

/// An inbox: who may speak, and where the lines go.
#[derive(Debug)]
pub struct Service {
    /// Which sources may speak.
    pub admission: Admission,
    /// A line with one of these texts is refused.
    pub forbidden: Forbidden,
    /// Where sources get their numbers.
    pub sources: Arc<Sources>,
    /// Where good lines go.
    pub chunks: mpsc::Sender<Chunk>,
    /// What happened so far.
    pub counters: Arc<Counters>,
    /// What the clients of all inboxes may hold together.
    pub memory: Arc<Memory>,
    /// Whose the sources are; may change while the inbox is served.
    pub owners: watch::Receiver<Arc<Owners>>,
    /// The clock by which times from the future are refused.
    pub clock: Clock,
}

/// Asks for the wall time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Option<i64> + Send + Sync>);

impl Clock {
    /// A function that tells the milliseconds since 1970, or `None` while they are not trusted: then
    /// any time is taken, since there is nothing to hold it against.
    pub fn new(now: impl Fn() -> Option<i64> + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    fn milliseconds(&self) -> Option<i64> {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.milliseconds()).finish()
    }
}

/// Serves any number of clients, until the receiver of `chunks` is closed; what was answered by
/// then still goes out.
pub async fn serve(listener: UnixListener, service: Service) {
    let Service { admission, forbidden, sources, chunks, counters, memory, owners, clock } =
        service;
    let rights = Rights::new(owners, Arc::clone(&counters));
    let register = Register::new(admission, forbidden, sources).guarded(rights, clock);
    let desk = Mutex::new(Desk::new(register));
    let answers = Mutex::default();
    let places = Arc::clone(&memory.places);
    let socket = places.socket();
    let inbox = Arc::new(Inbox { desk, answers, chunks: chunks.clone(), counters, memory });
    let mut clients = JoinSet::new();
    let mut is_deaf = false;
    let closed = chunks.closed();
    tokio::pin!(closed);
    loop {
        tokio::select! {
            biased;
            () = &mut closed => break,
            Some(ended) = clients.join_next(), if !clients.is_empty() => propagate(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    is_deaf = false;
                    match places.admit(socket, &stream) {
                        Some(place) => {
                            clients.spawn(client::serve(stream, place, Arc::clone(&inbox)));
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
            propagate(ended)
        }
    };
    if tokio::time::timeout(CLOSING_TIME, goodbye).await.is_err() {
        tracing::debug!(
            clients = clients.len(),
            "left inbox clients that do not read their answers"
        );
    }
}

/// A panic means a bug, in a client's task as anywhere else.
fn propagate(ended: Result<(), JoinError>) {
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
