//! Limits the heap memory of the clients of all inboxes together: unanswered lines and unread
//! answers.
//!
//! Each client has a small reserved share. Further memory comes from one pool. If the pool is
//! short, the client with the oldest unread answers is cut off: the connection is closed, and the
//! client must send its unanswered lines again.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Counters, MAX_CLIENTS, MAX_CLIENTS_OF_A_USER, MAX_LINE_BYTES};
use crate::places::Places;

/// The size of the pool, in bytes. A flood of 100,000 lines a second needs 1.2 MB between two
/// commits on a slow card (0.25 s).
pub(super) const POOL_BYTES: usize = 4 * 1024 * 1024;
/// The largest part of the pool for one client, in bytes: memory is left for a second client at
/// once.
pub(super) const MAX_OF_POOL_BYTES: usize = POOL_BYTES / 2;
/// The reserved share of a client, in bytes: the beginning of one line, and a few hundred lines on
/// their way.
pub(super) const SHARE_BYTES: usize = 12 * 1024;
/// The time for which answers may stay unread before the client may be cut off: longer than a
/// program is swapped out or stopped for a moment.
pub(super) const UNREAD_GRACE: Duration = Duration::from_secs(5);
/// The shortest interval between two cuts: the memory freed by the first cut must be visible before
/// the second.
const CUT_EVERY: Duration = Duration::from_millis(100);

/// The accounts and places of all clients. The number of places bounds the sum of the shares.
#[derive(Debug)]
pub struct ClientMemory {
    pub(super) places: Arc<Places>,
    ledger: Mutex<Ledger>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Ledger {
    rows: HashMap<u64, AccountRow>,
    next: u64,
    /// The used part of the pool, in bytes.
    pool: usize,
    last_cut: Option<Instant>,
}

#[derive(Debug)]
struct AccountRow {
    used: usize,
    /// The time since which the client's oldest answer has been ready and unread.
    unread_since: Option<Instant>,
    end: Arc<Notify>,
    counters: Arc<Counters>,
}

impl Default for ClientMemory {
    fn default() -> Self {
        let places = Places::new(MAX_CLIENTS, MAX_CLIENTS_OF_A_USER);
        Self { places, ledger: Mutex::default(), freed: Notify::default() }
    }
}

impl ClientMemory {
    /// Returns the used part of the pool, in bytes.
    #[must_use]
    pub fn pool_bytes(&self) -> usize {
        self.lock_ledger().pool
    }

    /// Returns the memory used by all clients, in bytes.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.lock_ledger().rows.values().map(|row| row.used).sum()
    }

    fn lock_ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// Returns the number of bytes still available to a client, from its share and from the pool.
    fn room_for(&self, id: u64) -> usize {
        let used = self.rows.get(&id).map_or(0, |row| row.used);
        let pooled = used.saturating_sub(SHARE_BYTES);
        let from_pool = (POOL_BYTES - self.pool).min(MAX_OF_POOL_BYTES - pooled);
        SHARE_BYTES.saturating_sub(used) + from_pool
    }

    /// Changes the number of bytes used by a client.
    fn set_used(&mut self, id: u64, used: impl FnOnce(usize) -> usize) {
        let Some(row) = self.rows.get_mut(&id) else { return };
        let before = row.used;
        row.used = used(before);
        let pooled = |used: usize| used.saturating_sub(SHARE_BYTES);
        self.pool = self.pool + pooled(row.used) - pooled(before);
    }

    /// Cuts off the client with the oldest unread answers, if they are older than [`UNREAD_GRACE`].
    fn cut_slowest(&mut self, now: Instant) {
        if self.last_cut.is_some_and(|last| now.duration_since(last) < CUT_EVERY) {
            return;
        }
        let slowest = self
            .rows
            .values_mut()
            .filter_map(|row| Some((row.unread_since?, row)))
            .min_by_key(|(since, _)| *since);
        let Some((since, row)) = slowest else { return };
        if now.duration_since(since) >= UNREAD_GRACE {
            row.unread_since = None;
            row.counters.cut.fetch_add(1, Ordering::Relaxed);
            row.end.notify_one();
            self.last_cut = Some(now);
        }
    }
}

/// The account of one client; closed when dropped.
#[derive(Debug)]
pub(super) struct ClientAccount {
    memory: Arc<ClientMemory>,
    id: u64,
    end: Arc<Notify>,
}

impl ClientAccount {
    /// Opens an account, charged with [`MAX_LINE_BYTES`] for the beginning of a line.
    pub(super) fn open_in(memory: &Arc<ClientMemory>, counters: &Arc<Counters>) -> Self {
        let mut ledger = memory.lock_ledger();
        let (id, end) = (ledger.next, Arc::<Notify>::default());
        ledger.next += 1;
        let row = AccountRow {
            used: MAX_LINE_BYTES,
            unread_since: None,
            end: Arc::clone(&end),
            counters: Arc::clone(counters),
        };
        ledger.rows.insert(id, row);
        drop(ledger);
        Self { memory: Arc::clone(memory), id, end }
    }

    /// Waits until the client is to be cut off.
    pub(super) async fn wait_for_cut(&self) {
        self.end.notified().await;
    }

    /// Waits until at least `least` bytes are available, and reserves up to `wanted` bytes.
    pub(super) async fn reserve_bytes(&self, least: usize, wanted: usize) -> Charge<'_> {
        loop {
            let freed = self.memory.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            {
                let mut ledger = self.memory.lock_ledger();
                let bytes = ledger.room_for(self.id).min(wanted);
                if POOL_BYTES - ledger.pool < wanted {
                    ledger.cut_slowest(Instant::now());
                }
                if bytes >= least {
                    ledger.set_used(self.id, |used| used + bytes);
                    return Charge { account: self, bytes };
                }
            }
            // No event reports the end of a grace period.
            drop(tokio::time::timeout(CUT_EVERY, freed).await);
        }
    }

    /// Records the time since which the client's oldest answer has been ready and unread; `None` if
    /// no answer is.
    pub(super) fn set_unread(&self, since: Option<Instant>) {
        if let Some(row) = self.memory.lock_ledger().rows.get_mut(&self.id) {
            row.unread_since = since;
        }
    }
}

impl Drop for ClientAccount {
    fn drop(&mut self) {
        let mut ledger = self.memory.lock_ledger();
        ledger.set_used(self.id, |_| 0);
        ledger.rows.remove(&self.id);
        drop(ledger);
        self.memory.freed.notify_waiters();
    }
}

/// Bytes reserved in an account until the value is dropped.
#[derive(Debug)]
pub(super) struct Charge<'a> {
    account: &'a ClientAccount,
    bytes: usize,
}

impl Charge<'_> {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives the bytes above `bytes` back to the account.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes);
        if surplus > 0 {
            self.bytes -= surplus;
            self.account.memory.lock_ledger().set_used(self.account.id, |used| used - surplus);
            self.account.memory.freed.notify_waiters();
        }
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts<const N: usize>(memory: &Arc<ClientMemory>) -> ([ClientAccount; N], Arc<Counters>) {
        let counters = Arc::<Counters>::default();
        (std::array::from_fn(|_| ClientAccount::open_in(memory, &counters)), counters)
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(test);
    }

    #[test]
    fn no_client_takes_the_share_of_another() {
        run(async {
            let memory = Arc::<ClientMemory>::default();
            let (greedy, _) = accounts::<4>(&memory);
            let mut charges = Vec::new();
            for account in &greedy {
                let room = memory.lock_ledger().room_for(account.id);
                charges.push(account.reserve_bytes(0, room).await);
            }
            assert_eq!(memory.pool_bytes(), POOL_BYTES);

            let ([modest], _) = accounts(&memory);
            let charge = modest.reserve_bytes(4096, usize::MAX).await;

            assert_eq!(charge.bytes(), SHARE_BYTES - MAX_LINE_BYTES);
            assert_eq!(memory.used_bytes(), POOL_BYTES + SHARE_BYTES * 5);
        });
    }

    #[test]
    fn what_is_given_back_is_there_for_whoever_waits() {
        run(async {
            let memory = Arc::<ClientMemory>::default();
            let ([one, two, three], counters) = accounts(&memory);
            let mut first = one.reserve_bytes(1, usize::MAX).await;
            let second = two.reserve_bytes(1, usize::MAX).await;
            let patience = Duration::from_secs(60);
            let take = || three.reserve_bytes(SHARE_BYTES, usize::MAX);
            assert!(tokio::time::timeout(patience, take()).await.is_err(), "no room");

            let give_back = async { first.shrink_to(0) };
            let (charge, ()) = tokio::join!(take(), give_back);

            assert_eq!(charge.bytes(), MAX_OF_POOL_BYTES + SHARE_BYTES - MAX_LINE_BYTES);
            assert_eq!(counters.cut.load(Ordering::Relaxed), 0, "everybody reads their answers");
            drop((first, second, charge));
            drop((one, two, three));
            assert_eq!((memory.pool_bytes(), memory.used_bytes()), (0, 0));
        });
    }

    #[test]
    fn the_client_with_the_oldest_unread_answers_is_cut_once_room_is_short() {
        run(async {
            let memory = Arc::<ClientMemory>::default();
            let ([older, newer, third], counters) = accounts(&memory);
            let held = (
                older.reserve_bytes(1, usize::MAX).await,
                newer.reserve_bytes(1, usize::MAX).await,
            );
            let began = Instant::now();
            older.set_unread(Some(began));
            newer.set_unread(Some(began + Duration::from_millis(1)));
            let waiting = third.reserve_bytes(SHARE_BYTES, usize::MAX);

            tokio::select! {
                _ = waiting => unreachable!("nothing was given back"),
                () = newer.wait_for_cut() => unreachable!("the older one goes first"),
                () = older.wait_for_cut() => {}
            }

            assert!(began.elapsed() >= UNREAD_GRACE);
            assert_eq!(counters.cut.load(Ordering::Relaxed), 1);
            drop(held);
        });
    }
}
