//! One client: its lines in, its answers out, each side at its own pace within a window.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::answer::{Answers, Faults};
use super::desk::{BUFFER_BYTES, Batch, Desk, Intake, LEAST_ROOM, MOST_ROOM};
use super::memory::{Account, Charge, Memory};
use super::{Chunk, Counters, Receipt, Refused};

/// What all clients share.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) desk: Mutex<Desk>,
    /// The text of the answers that are being written.
    pub(super) answers: Mutex<Vec<u8>>,
    pub(super) chunks: mpsc::Sender<Chunk>,
    pub(super) counters: Arc<Counters>,
    pub(super) memory: Arc<Memory>,
}

/// The answers that are owed for one read.
struct Owed<'a> {
    /// `None` when none of its lines was good.
    answer: Option<oneshot::Receiver<Result<Receipt, Refused>>>,
    good: usize,
    faults: Faults,
    _held: Charge<'a>,
}

/// Serves one client until it has its last answer, is gone, is cut off, or the agent stops.
pub(super) async fn serve(mut stream: UnixStream, inbox: Arc<Inbox>) {
    let _present = Present::new(&inbox.counters.clients);
    let account = Account::open(&inbox.memory, &inbox.counters);
    let (lines, answers) = stream.split();
    // The account bounds it.
    let (owing, owed) = mpsc::unbounded_channel();
    let answering = answer_all(answers, owed, &inbox, &account);
    tokio::pin!(answering);
    tokio::select! {
        biased;
        () = account.cut() => return,
        () = &mut answering => return,
        () = inbox.chunks.closed() => {}
        () = read_all(lines, owing, &inbox, &account) => {}
    }
    tokio::select! {
        biased;
        () = account.cut() => {}
        () = answering => {}
    }
}

/// Counts a client as long as it is served.
struct Present<'a>(&'a AtomicU64);

impl<'a> Present<'a> {
    fn new(clients: &'a AtomicU64) -> Self {
        clients.fetch_add(1, Ordering::Relaxed);
        Self(clients)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ends with the client's last line, or when nobody wants more.
async fn read_all<'a>(
    mut lines: ReadHalf<'_>,
    owing: mpsc::UnboundedSender<Owed<'a>>,
    inbox: &Inbox,
    account: &'a Account,
) {
    let mut intake = Intake::default();
    while !intake.is_over() {
        // A client that has nothing to say holds no room.
        if lines.readable().await.is_err() {
            return;
        }
        let mut held = account.take(LEAST_ROOM, MOST_ROOM).await;
        let batch = poll_fn(|cx| {
            let mut desk = inbox.desk.lock().unwrap_or_else(PoisonError::into_inner);
            Poll::Ready(desk.read_batch(cx, &mut lines, &mut intake, held.bytes()))
        });
        let batch = match batch.await {
            Ok(Some(batch)) => batch,
            Ok(None) => continue,
            Err(_) => return,
        };
        held.shrink_to(batch.heap_bytes());
        let is_full = batch.bytes * 2 > BUFFER_BYTES;
        if hand_on(batch, held, &owing, inbox).await.is_none() {
            return;
        }
        if is_full {
            // Whoever sends this much would else have the thread for many reads in a row.
            tokio::task::yield_now().await;
        }
    }
}

/// `None`: nobody wants it.
async fn hand_on<'a>(
    batch: Batch,
    held: Charge<'a>,
    owing: &mpsc::UnboundedSender<Owed<'a>>,
    inbox: &Inbox,
) -> Option<()> {
    let Batch { entries, faults, .. } = batch;
    let good = entries.len();
    if good == 0 && faults.is_empty() {
        return Some(());
    }
    count(&inbox.counters.lines, good + faults.len());
    let answer = if good == 0 {
        None
    } else {
        let (answer, receipt) = oneshot::channel();
        inbox.chunks.send(Chunk { entries, answer }).await.ok()?;
        Some(receipt)
    };
    owing.send(Owed { answer, good, faults, _held: held }).ok()
}

/// Ends with the last answer, with the client, or with a chunk that will never be answered.
async fn answer_all(
    mut stream: WriteHalf<'_>,
    mut owed: mpsc::UnboundedReceiver<Owed<'_>>,
    inbox: &Inbox,
    account: &Account,
) {
    while let Some(Owed { answer, good, faults, _held }) = owed.recv().await {
        let verdict = match answer {
            None => None,
            Some(answer) => match answer.await {
                Ok(verdict) => Some(verdict),
                Err(_) => return,
            },
        };
        let bad = faults.len();
        let answers = Answers::new(verdict, good, faults);
        count(&inbox.counters.stored, answers.stored());
        count(&inbox.counters.refused, good + bad - answers.stored());
        if write(&mut stream, answers, inbox, account).await.is_err() {
            return;
        }
    }
}

/// Writes answers at the pace at which the client reads them. Their text lies in a buffer that all
/// clients share, only as long as one write takes.
async fn write(
    stream: &mut WriteHalf<'_>,
    mut answers: Answers,
    inbox: &Inbox,
    account: &Account,
) -> io::Result<()> {
    let mut is_unread = false;
    loop {
        stream.writable().await?;
        let written = {
            let mut text = inbox.answers.lock().unwrap_or_else(PoisonError::into_inner);
            text.clear();
            let is_all = answers.encode(&mut text, BUFFER_BYTES);
            match stream.try_write(&text) {
                Ok(bytes) if is_all && bytes == text.len() => break,
                Ok(bytes) => {
                    answers.advance(&text[..bytes]);
                    Ok(())
                }
                Err(error) => Err(error),
            }
        };
        match written {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Ok(()) | Err(_) if !is_unread => {
                is_unread = true;
                account.set_unread(Some(Instant::now()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    if is_unread {
        account.set_unread(None);
    }
    Ok(())
}

fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(u64::try_from(more).unwrap_or(u64::MAX), Ordering::Relaxed);
}
