//! A collector of everything that arrived and everything that was acknowledged, to wait on.
//!
//! Keeps every payload in memory: for tests and small runs. A long drain counts in its own callbacks.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::broker::Options;
use crate::record::Arrival;

/// What a [`Journal`] holds.
#[derive(Debug, Default, Clone)]
pub struct Contents {
    /// Every message that arrived, in order of arrival.
    pub arrivals: Vec<Arrival>,
    /// The numbers of the arrivals whose PUBACK was handed to the socket. What is not in here was
    /// certainly not acknowledged: it is noted before the first byte is written.
    pub acknowledged: HashSet<u64>,
}

/// Collects what a broker sees. Clones share one collection.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    contents: Mutex<Contents>,
    changes: watch::Sender<()>,
}

/// What was waited for did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("not within {waited:?}: {arrivals} arrived, {acknowledged} acknowledged")]
pub struct TooLate {
    /// How long was waited.
    pub waited: Duration,
    /// How many messages had arrived by then.
    pub arrivals: usize,
    /// How many of them were acknowledged.
    pub acknowledged: usize,
}

impl Default for Shared {
    fn default() -> Self {
        Self { contents: Mutex::default(), changes: watch::Sender::new(()) }
    }
}

impl Journal {
    /// Makes a journal and has the broker-to-be fill it.
    #[must_use]
    pub fn attach(options: &mut Options) -> Self {
        let journal = Self::default();
        let (arrivals, acknowledged) = (journal.clone(), journal.clone());
        options.on_publish = Arc::new(move |arrival| {
            arrivals.note(|contents| contents.arrivals.push(arrival.clone()));
        });
        options.on_acknowledge = Arc::new(move |arrival| {
            acknowledged.note(|contents| {
                contents.acknowledged.insert(arrival.number);
            });
        });
        journal
    }

    /// Copies out all that was collected so far.
    #[must_use]
    pub fn contents(&self) -> Contents {
        self.lock().clone()
    }

    /// The messages that were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> Vec<Arrival> {
        let contents = self.lock();
        let acknowledged = |arrival: &&Arrival| contents.acknowledged.contains(&arrival.number);
        contents.arrivals.iter().filter(acknowledged).cloned().collect()
    }

    /// Forgets all that was collected so far.
    pub fn clear(&self) {
        *self.lock() = Contents::default();
    }

    /// Waits until the predicate holds, looking again after each change.
    ///
    /// # Errors
    /// It did not within the deadline.
    pub async fn wait_until(
        &self,
        mut predicate: impl FnMut(&Contents) -> bool,
        deadline: Duration,
    ) -> Result<(), TooLate> {
        let mut changes = self.shared.changes.subscribe();
        let seen = async {
            while !predicate(&self.lock()) {
                if changes.changed().await.is_err() {
                    std::future::pending().await // the journal outlives this borrow of it
                }
            }
        };
        tokio::time::timeout(deadline, seen).await.map_err(|_elapsed| {
            let contents = self.lock();
            TooLate {
                waited: deadline,
                arrivals: contents.arrivals.len(),
                acknowledged: contents.acknowledged.len(),
            }
        })
    }

    fn note(&self, change: impl FnOnce(&mut Contents)) {
        change(&mut self.lock());
        self.shared.changes.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.shared.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
