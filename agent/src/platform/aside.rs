//! Runs work that may hang: each kind of work on a separate thread, with a deadline.
//!
//! A file server, a resolver or a memory card may not answer for hours, and a blocking system call
//! cannot be cancelled. The work therefore runs neither on the runtime's thread nor in a pool
//! shared with other work: each kind has at most one thread at a time, and callers wait for a
//! limited time. A hanging thread is neither joined nor replaced; the next work begins after its
//! call returns.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

/// Limit of threads of all kinds together, including hanging threads of parts that a reload
/// removed.
const MAX_THREADS: usize = 64;

static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Kind of work with at most one thread; see the module. Clones share this limit.
#[derive(Debug, Clone)]
pub(crate) struct BlockingWorker {
    name: Arc<str>,
    free: Arc<Semaphore>,
}

/// Reason work was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotDone {
    /// The work, together with the work queued before, did not finish within the limit.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Hangs(Duration),
    /// The system refuses another thread, or [`MAX_THREADS`] are running.
    #[error("no thread for it: {0}")]
    NoThread(#[source] io::Error),
    /// The work panicked, which is a bug.
    #[error("it panicked")]
    Panicked,
}

impl BlockingWorker {
    /// Creates a kind of work. The kernel shows the first fifteen bytes of `name` as the thread's
    /// name.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.replace('\0', "").into(), free: Arc::new(Semaphore::new(1)) }
    }

    /// Runs `work` on the thread of this kind, and waits at most `limit` for the result.
    ///
    /// # Errors
    /// Returns [`NotDone`]. Work that has begun may still finish later.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        let done = async {
            let free = Arc::clone(&self.free).acquire_owned().await;
            let turn = (free.expect("it is never closed"), Counted::try_new()?);
            let (answer, answered) = oneshot::channel();
            let thread = thread::Builder::new().name(self.name.to_string()).spawn(move || {
                // The caller is gone after the limit; the result is dropped then.
                answer.send(work()).ok();
                drop(turn);
            });
            thread.map_err(NotDone::NoThread)?;
            answered.await.map_err(|_| NotDone::Panicked)
        };
        timeout(limit, done).await.unwrap_or(Err(NotDone::Hangs(limit)))
    }
}

/// Running thread, counted against [`MAX_THREADS`] until dropped.
struct Counted;

impl Counted {
    fn try_new() -> Result<Self, NotDone> {
        let more = |count| (count < MAX_THREADS).then_some(count + 1);
        match THREADS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Self),
            Err(_) => {
                let error = io::Error::other(format!("{MAX_THREADS} of them hang already"));
                Err(NotDone::NoThread(error))
            }
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        THREADS.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const DEADLINE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn work_is_done_away_from_the_runtime_and_answered() {
        let name = || thread::current().name().map(str::to_owned);

        let answer = BlockingWorker::new("resolver").run(DEADLINE, name).await;

        assert_eq!(answer.unwrap().as_deref(), Some("resolver"));
    }

    #[tokio::test]
    async fn work_that_hangs_is_not_begun_twice_and_holds_up_no_other_kind() {
        let (begun, beginnings) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let dead = BlockingWorker::new("dead");
        let hang = move || {
            begun.send(()).unwrap();
            released.recv().ok()
        };

        let first = dead.run(SOON, hang).await;
        let second = dead.run(SOON, || unreachable!("the first has not returned")).await;
        let other = BlockingWorker::new("other").run(DEADLINE, || 7).await;

        assert!(matches!(first, Err(NotDone::Hangs(_))), "{first:?}");
        assert!(matches!(second, Err(NotDone::Hangs(_))));
        assert_eq!(other.unwrap(), 7);
        drop(release);
        assert_eq!(dead.run(DEADLINE, || 8).await.unwrap(), 8, "it goes on once it returned");
        assert_eq!(beginnings.try_iter().count(), 1);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_does_not_end_the_kind() {
        let aside = BlockingWorker::new("panics");

        let panicked = aside.run(DEADLINE, || panic!("a test of panics")).await;

        assert!(matches!(panicked, Err::<(), _>(NotDone::Panicked)));
        assert_eq!(aside.run(DEADLINE, || 7).await.unwrap(), 7);
    }
}
