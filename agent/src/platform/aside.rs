//! Work that may hang: each kind of it on a thread of its own, with a deadline.
//!
//! A file server, a resolver or a card may not answer for hours, and a call to the kernel cannot be taken
//! back. So nothing of the kind runs on the runtime's thread, nor in a pool that it would share with other
//! work: an [`Aside`] has at most one thread at a time, and whoever asks waits for a limited time only. A
//! thread that hangs is neither joined nor replaced; once its call returns, the next may begin.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

/// Bounds the threads of all kinds together, also those that hang for what is not configured any more.
const MAX_THREADS: usize = 64;

static THREADS: AtomicUsize = AtomicUsize::new(0);

/// One kind of work; see the module. A clone is the same one.
#[derive(Debug, Clone)]
pub(crate) struct Aside {
    name: Arc<str>,
    free: Arc<Semaphore>,
}

/// Why work was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotDone {
    /// It, or the one before it, did not return in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Hangs(Duration),
    /// The system has no thread left, or too many hang.
    #[error("no thread for it: {0}")]
    NoThread(#[source] io::Error),
    /// A bug.
    #[error("it panicked")]
    Panicked,
}

impl Aside {
    /// A kind of work; the kernel shows the first fifteen bytes of `name` as that of its thread.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.replace('\0', "").into(), free: Arc::new(Semaphore::new(1)) }
    }

    /// Does `work` on the thread of its kind, and waits for its outcome for at most `limit`.
    ///
    /// # Errors
    /// See [`NotDone`]. Work that was begun may still be done later.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        let done = async {
            let free = Arc::clone(&self.free).acquire_owned().await;
            let turn = (free.expect("it is never closed"), Counted::begin()?);
            let (answer, answered) = oneshot::channel();
            let thread = thread::Builder::new().name(self.name.to_string()).spawn(move || {
                // Nobody waits any more if it took too long.
                answer.send(work()).ok();
                drop(turn);
            });
            thread.map_err(NotDone::NoThread)?;
            answered.await.map_err(|_| NotDone::Panicked)
        };
        timeout(limit, done).await.unwrap_or(Err(NotDone::Hangs(limit)))
    }
}

/// One of [`MAX_THREADS`].
struct Counted;

impl Counted {
    fn begin() -> Result<Self, NotDone> {
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

        let answer = Aside::new("resolver").run(DEADLINE, name).await;

        assert_eq!(answer.unwrap().as_deref(), Some("resolver"));
    }

    #[tokio::test]
    async fn work_that_hangs_is_not_begun_twice_and_holds_up_no_other_kind() {
        let (begun, beginnings) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let dead = Aside::new("dead");
        let hang = move || {
            begun.send(()).unwrap();
            released.recv().ok()
        };

        let first = dead.run(SOON, hang).await;
        let second = dead.run(SOON, || unreachable!("the first has not returned")).await;
        let other = Aside::new("other").run(DEADLINE, || 7).await;

        assert!(matches!(first, Err(NotDone::Hangs(_))), "{first:?}");
        assert!(matches!(second, Err(NotDone::Hangs(_))));
        assert_eq!(other.unwrap(), 7);
        drop(release);
        assert_eq!(dead.run(DEADLINE, || 8).await.unwrap(), 8, "it goes on once it returned");
        assert_eq!(beginnings.try_iter().count(), 1);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_does_not_end_the_kind() {
        let aside = Aside::new("panics");

        let panicked = aside.run(DEADLINE, || panic!("a test of panics")).await;

        assert!(matches!(panicked, Err::<(), _>(NotDone::Panicked)));
        assert_eq!(aside.run(DEADLINE, || 7).await.unwrap(), 7);
    }
}
