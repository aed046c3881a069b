//! One client: its lines in, its answers out, each side at its own pace within a window.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::answer::Faults;
use super::desk::{BUFFER_BYTES, Batch, Desk, Intake};
use super::{Chunk, Counters, Receipt, Refused};

/// What one client may have unanswered, some 45,000 lines: enough to keep the store busy between
/// two commits, little enough to bound what a client that never reads its answers costs.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;
/// What a chunk takes besides its lines, so that many small ones are bounded too.
const CHUNK_BYTES: usize = 512;

/// What all clients share.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) desk: Mutex<Desk>,
    pub(super) chunks: mpsc::Sender<Chunk>,
    pub(super) counters: Arc<Counters>,
}

/// The answers that are owed for one read.
struct Owed {
    /// `None` when none of its lines was good.
    answer: Option<oneshot::Receiver<Result<Receipt, Refused>>>,
    good: usize,
    faults: Faults,
    _window: OwnedSemaphorePermit,
}

/// Serves one client until it has its last answer, is gone, or the agent stops.
pub(super) async fn serve(mut stream: UnixStream, inbox: Arc<Inbox>) {
    let _present = Present::new(&inbox.counters.clients);
    let (lines, answers) = stream.split();
    // The window bounds it.
    let (owing, owed) = mpsc::unbounded_channel();
    let answering = answer_all(answers, owed, &inbox.counters);
    tokio::pin!(answering);
    tokio::select! {
        biased;
        () = &mut answering => return,
        () = inbox.chunks.closed() => {}
        () = read_all(lines, owing, &inbox) => {}
    }
    answering.await;
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
async fn read_all(mut lines: ReadHalf<'_>, owing: mpsc::UnboundedSender<Owed>, inbox: &Inbox) {
    let window = Arc::new(Semaphore::new(WINDOW_BYTES));
    let mut intake = Intake::default();
    while !intake.is_over() {
        let batch = poll_fn(|cx| {
            let mut desk = inbox.desk.lock().unwrap_or_else(PoisonError::into_inner);
            desk.poll_batch(cx, &mut lines, &mut intake)
        });
        let Ok(batch) = batch.await else { return };
        let is_full = batch.bytes * 2 > BUFFER_BYTES;
        if hand_on(batch, &window, &owing, inbox).await.is_none() {
            return;
        }
        if is_full {
            // Whoever sends this much would else have the thread for many reads in a row.
            tokio::task::yield_now().await;
        }
    }
}

/// `None`: nobody wants it.
async fn hand_on(
    batch: Batch,
    window: &Arc<Semaphore>,
    owing: &mpsc::UnboundedSender<Owed>,
    inbox: &Inbox,
) -> Option<()> {
    let Batch { entries, faults, bytes } = batch;
    let good = entries.len();
    if good == 0 && faults.is_empty() {
        return Some(());
    }
    count(&inbox.counters.lines, good + faults.len());
    let cost = u32::try_from(bytes + faults.bytes() + CHUNK_BYTES).ok()?;
    let permit = Arc::clone(window).acquire_many_owned(cost).await.ok()?;
    let answer = if good == 0 {
        None
    } else {
        let (answer, receipt) = oneshot::channel();
        inbox.chunks.send(Chunk { entries, answer }).await.ok()?;
        Some(receipt)
    };
    owing.send(Owed { answer, good, faults, _window: permit }).ok()
}

/// Ends with the last answer, with the client, or with a chunk that will never be answered.
async fn answer_all(
    mut answers: WriteHalf<'_>,
    mut owed: mpsc::UnboundedReceiver<Owed>,
    counters: &Counters,
) {
    let mut text = Vec::new();
    while let Some(Owed { answer, good, faults, _window }) = owed.recv().await {
        text.clear();
        let stored = match answer {
            None => faults.write(&mut text),
            Some(answer) => {
                let Ok(verdict) = answer.await else { return };
                faults.write_among(&mut text, good, &verdict)
            }
        };
        count(&counters.stored, stored);
        count(&counters.refused, good + faults.len() - stored);
        if answers.write_all(&text).await.is_err() {
            return;
        }
    }
}

fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(u64::try_from(more).unwrap_or(u64::MAX), Ordering::Relaxed);
}
