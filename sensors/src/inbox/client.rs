//! The connection of one client: reading lines and writing answers progress independently within a
//! window.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::answer::{Answers, LineFaults};
use super::fault::{Code, LineFault};
use super::line_reader::{BUFFER_BYTES, LEAST_ROOM, LineBatch, LineReader, MOST_ROOM, PartialLine};
use super::memory::{Charge, ClientAccount, ClientMemory};
use super::{Chunk, ChunkRefused, Counters, LINE_PATIENCE, Receipt};
use crate::places::ConnectionPlace;

/// The interval between checks whether a client with a pending answer has gone.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// State shared by all clients.
#[derive(Debug)]
pub(super) struct SharedInbox {
    pub(super) desk: Mutex<LineReader>,
    /// The text of the answers being written.
    pub(super) answers: Mutex<Vec<u8>>,
    pub(super) chunks: mpsc::Sender<Chunk>,
    pub(super) counters: Arc<Counters>,
    pub(super) memory: Arc<ClientMemory>,
}

/// The pending answers to one read.
struct PendingAnswers<'a> {
    /// `None` if no line of the read was good.
    answer: Option<oneshot::Receiver<Result<Receipt, ChunkRefused>>>,
    good: usize,
    faults: LineFaults,
    _held: Charge<'a>,
}

/// Serves one client until its last answer is written, the client has gone, is cut off or loses its
/// place, or the agent stops.
pub(super) async fn serve_client(
    mut stream: UnixStream,
    place: ConnectionPlace,
    inbox: Arc<SharedInbox>,
) {
    let _present = ClientGuard::new(&inbox.counters.clients);
    let account = ClientAccount::open_in(&inbox.memory, &inbox.counters);
    let (lines, answers) = stream.split();
    // The account of the client bounds the channel.
    let (owing, owed) = mpsc::unbounded_channel();
    let client = Client { inbox: &inbox, account: &account, place: &place };
    let serving = async {
        let answering = client.answer_all(answers, owed);
        tokio::pin!(answering);
        tokio::select! {
            biased;
            () = &mut answering => return,
            () = inbox.chunks.closed() => {}
            () = client.read_all(lines, owing) => {}
        }
        answering.await;
    };
    tokio::select! {
        biased;
        () = account.wait_for_cut() => {}
        () = place.wait_until_lost() => increase_counter(&inbox.counters.displaced, 1),
        () = serving => {}
    }
}

/// The shared state, account and place of one client.
#[derive(Clone, Copy)]
struct Client<'a> {
    inbox: &'a SharedInbox,
    account: &'a ClientAccount,
    place: &'a ConnectionPlace,
}

/// Counts a client while the value exists.
struct ClientGuard<'a>(&'a AtomicU64);

impl<'a> ClientGuard<'a> {
    fn new(clients: &'a AtomicU64) -> Self {
        clients.fetch_add(1, Ordering::Relaxed);
        Self(clients)
    }
}

impl Drop for ClientGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<'a> Client<'a> {
    /// Reads lines until the client sends no more, a line has no end within the time limit, or the
    /// receivers are gone.
    async fn read_all(
        self,
        mut lines: ReadHalf<'_>,
        owing: mpsc::UnboundedSender<PendingAnswers<'a>>,
    ) {
        let mut intake = PartialLine::default();
        let mut begun = None;
        while !intake.is_over() {
            // A client without data holds no memory.
            match begun {
                None if lines.readable().await.is_err() => return,
                None => {}
                Some(since) => match timeout_at(since + LINE_PATIENCE, lines.readable()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return,
                    Err(_) => return self.answer_unfinished(&owing).await,
                },
            }
            let mut held = self.account.reserve_bytes(LEAST_ROOM, MOST_ROOM).await;
            let batch = poll_fn(|cx| {
                let mut desk = self.inbox.desk.lock().unwrap_or_else(PoisonError::into_inner);
                Poll::Ready(desk.read_batch(cx, &mut lines, &mut intake, held.bytes()))
            });
            let batch = match batch.await {
                Ok(Some(batch)) => batch,
                Ok(None) => {
                    // A task that has used up its budget finds nothing to read until it yields,
                    // although the socket stays readable.
                    tokio::task::yield_now().await;
                    continue;
                }
                Err(_) => return,
            };
            held.shrink_to(batch.heap_bytes());
            begun = self.place.record_lines(batch.has_line(), intake.has_begun());
            let is_full = batch.bytes * 2 > BUFFER_BYTES;
            if self.forward_batch(batch, held, &owing).await.is_none() {
                return;
            }
            if is_full {
                // A client with this much data would otherwise keep the thread for many reads in a
                // row.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Sends an error for the line without an end, as the last answer.
    async fn answer_unfinished(self, owing: &mpsc::UnboundedSender<PendingAnswers<'a>>) {
        let mut faults = LineFaults::default();
        faults.push_fault(0, &LineFault::from_code(Code::Unfinished));
        increase_counter(&self.inbox.counters.unfinished, 1);
        increase_counter(&self.inbox.counters.lines, 1);
        let held = self.account.reserve_bytes(0, 0).await;
        // An error: the client has gone.
        owing.send(PendingAnswers { answer: None, good: 0, faults, _held: held }).ok();
    }

    /// Sends the good lines on and queues the answer. Returns `None` if a receiver is gone.
    async fn forward_batch(
        self,
        batch: LineBatch,
        held: Charge<'a>,
        owing: &mpsc::UnboundedSender<PendingAnswers<'a>>,
    ) -> Option<()> {
        let LineBatch { entries, faults, .. } = batch;
        let good = entries.len();
        if good == 0 && faults.is_empty() {
            return Some(());
        }
        increase_counter(&self.inbox.counters.lines, good + faults.len());
        let (answer, receipt) = if good > 0 {
            let (answer, receipt) = oneshot::channel();
            (Some(answer), Some(receipt))
        } else {
            (None, None)
        };
        // The answer is queued first: a client counts as busy while its lines wait for the store.
        owing.send(PendingAnswers { answer: receipt, good, faults, _held: held }).ok()?;
        if let Some(answer) = answer {
            self.inbox.chunks.send(Chunk { entries, answer }).await.ok()?;
        }
        Some(())
    }

    /// Writes answers until the last answer, until the client has gone, or until a chunk will never
    /// be answered.
    async fn answer_all(
        self,
        mut stream: WriteHalf<'_>,
        mut owed: mpsc::UnboundedReceiver<PendingAnswers<'_>>,
    ) {
        let counters = &self.inbox.counters;
        while let Some(PendingAnswers { answer, good, faults, _held }) = owed.recv().await {
            let verdict = match answer {
                None => None,
                Some(answer) => {
                    let verdict = tokio::select! {
                        biased;
                        verdict = answer => verdict,
                        () = wait_until_gone(stream.as_ref()) => return,
                    };
                    let Ok(verdict) = verdict else { return };
                    Some(verdict)
                }
            };
            let bad = faults.len();
            let answers = Answers::new(verdict, good, faults);
            increase_counter(&counters.stored, answers.stored_lines());
            increase_counter(&counters.refused, good + bad - answers.stored_lines());
            if self.write_answers(&mut stream, answers).await.is_err() {
                return;
            }
            if owed.is_empty() {
                self.place.record_answered();
            }
        }
    }

    /// Writes answers at the client's pace. The text is in a buffer shared by all clients, for the
    /// duration of one write.
    async fn write_answers(
        self,
        stream: &mut WriteHalf<'_>,
        mut answers: Answers,
    ) -> io::Result<()> {
        let mut is_unread = false;
        loop {
            stream.writable().await?;
            let written = {
                let texts = &self.inbox.answers;
                let mut text = texts.lock().unwrap_or_else(PoisonError::into_inner);
                text.clear();
                let is_all = answers.encode_pending(&mut text, BUFFER_BYTES);
                match stream.try_write(&text) {
                    Ok(bytes) if is_all && bytes == text.len() => break,
                    Ok(bytes) => {
                        answers.skip_written(&text[..bytes]);
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            };
            match written {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Ok(()) | Err(_) if !is_unread => {
                    is_unread = true;
                    self.account.set_unread(Some(Instant::now()));
                }
                Ok(()) | Err(_) => {}
            }
        }
        if is_unread {
            self.account.set_unread(None);
        }
        Ok(())
    }
}

/// Returns when the client has closed its reading side. A client that only ended its lines still
/// waits for answers; the kernel distinguishes the two, but sends no separate event.
async fn wait_until_gone(stream: &UnixStream) {
    loop {
        sleep(LOOK_EVERY).await;
        match stream.ready(Interest::WRITABLE).await {
            Ok(ready) if !ready.is_write_closed() => {}
            Ok(_) | Err(_) => return,
        }
    }
}

fn increase_counter(counter: &AtomicU64, more: usize) {
    counter.fetch_add(u64::try_from(more).unwrap_or(u64::MAX), Ordering::Relaxed);
}
