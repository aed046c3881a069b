//! Limits the connections of a socket: a fixed number of places, shared among users.
//!
//! No user holds more than a share. If several sockets share the places, a user counts separately
//! at each socket, so no socket locks another out. If no place is free for a new connection, the
//! user with the most places gives one back: first a connection with an unfinished line only, then
//! a connection that never sent a line, then the longest idle connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The time after a connect or an answer before a connection counts as idle: a line may be on its
/// way.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// A limited number of places.
#[derive(Debug)]
pub struct Places {
    all: usize,
    a_user: usize,
    table: Mutex<PlaceTable>,
}

#[derive(Debug, Default)]
struct PlaceTable {
    rows: HashMap<u64, PlaceRow>,
    next: u64,
    sockets: u64,
}

/// The socket and the user of a connection. `None`: the kernel does not report the user.
type Holder = (Socket, Option<u32>);

/// One of the sockets with the same places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket(u64);

#[derive(Debug)]
struct PlaceRow {
    holder: Holder,
    /// The time of the last line or answer.
    since: Instant,
    /// The time at which the unfinished line began.
    begun: Option<Instant>,
    has_spoken: bool,
    /// `true` while lines of the connection are unanswered.
    is_busy: bool,
    end: Arc<Notify>,
}

/// The order of closing connections, the first to go first; of two alike, the longer idle one goes
/// first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    Begun,
    Silent,
    Idle,
    Busy,
}

impl PlaceRow {
    fn of_use(&self) -> (Use, Instant) {
        match self.begun {
            _ if self.is_busy => (Use::Busy, self.since),
            Some(begun) => (Use::Begun, begun),
            None if self.has_spoken => (Use::Idle, self.since),
            None => (Use::Silent, self.since),
        }
    }

    fn is_idle(&self, now: Instant) -> bool {
        match self.of_use() {
            (Use::Busy, _) => false,
            (Use::Begun, _) => true,
            (Use::Silent | Use::Idle, since) => now.duration_since(since) >= IDLE_AFTER,
        }
    }
}

impl PlaceTable {
    fn count_places(&self, holder: Holder) -> usize {
        self.rows.values().filter(|row| row.holder == holder).count()
    }

    /// Returns the connection of `holder` to close first.
    fn least_used(&self, holder: Holder, is_free: impl Fn(&PlaceRow) -> bool) -> Option<u64> {
        let rows = self.rows.iter().filter(|(_, row)| row.holder == holder && is_free(row));
        rows.min_by_key(|(_, row)| row.of_use()).map(|(id, _)| *id)
    }

    fn close_connection(&mut self, id: u64) {
        if let Some(row) = self.rows.remove(&id) {
            row.end.notify_one();
        }
    }

    /// Returns the user with the most places, and the number of these places.
    fn largest_holder(&self) -> Option<(Holder, usize)> {
        let holders = self.rows.values().map(|row| row.holder);
        holders.map(|holder| (holder, self.count_places(holder))).max_by_key(|(_, count)| *count)
    }
}

impl Places {
    /// Creates `all` places, of which one user holds at most `a_user`.
    #[must_use]
    pub fn new(all: usize, a_user: usize) -> Arc<Self> {
        Arc::new(Self { all, a_user, table: Mutex::default() })
    }

    /// Registers another socket whose connections share the places.
    pub fn register_socket(&self) -> Socket {
        let mut table = self.lock_table();
        table.sockets += 1;
        Socket(table.sockets)
    }

    /// Gives a place to the user at the other end of `stream`, which was accepted at `socket`.
    /// Returns `None` if no place is free and no connection can be closed.
    #[must_use]
    pub fn admit_connection(
        self: &Arc<Self>,
        socket: Socket,
        stream: &UnixStream,
    ) -> Option<ConnectionPlace> {
        let user = stream.peer_cred().ok().map(|peer| peer.uid());
        self.admit_holder((socket, user), Instant::now())
    }

    fn admit_holder(self: &Arc<Self>, holder: Holder, now: Instant) -> Option<ConnectionPlace> {
        let mut table = self.lock_table();
        let own = table.count_places(holder);
        let is_idle = |row: &PlaceRow| row.is_idle(now);
        if own >= self.a_user {
            let id = table.least_used(holder, is_idle)?;
            table.close_connection(id);
        } else if table.rows.len() >= self.all {
            let (largest, count) = table.largest_holder()?;
            // A user with fewer places on that socket is served, however busy the other user is.
            let any = |_: &PlaceRow| count > own + 1;
            let id = table
                .least_used(largest, is_idle)
                .or_else(|| table.least_used(largest, any))
                .or_else(|| table.least_used(holder, is_idle))?;
            table.close_connection(id);
        }
        let (id, end) = (table.next, Arc::<Notify>::default());
        table.next += 1;
        let row = PlaceRow {
            holder,
            since: now,
            begun: None,
            has_spoken: false,
            is_busy: false,
            end: Arc::clone(&end),
        };
        table.rows.insert(id, row);
        Some(ConnectionPlace { places: Arc::clone(self), id, end })
    }

    fn lock_table(&self) -> MutexGuard<'_, PlaceTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct ConnectionPlace {
    places: Arc<Places>,
    id: u64,
    end: Arc<Notify>,
}

impl ConnectionPlace {
    /// Waits until the place is given to another connection.
    pub async fn wait_until_lost(&self) {
        self.end.notified().await;
    }

    /// Records the arrival of lines or of the beginning of a line. Returns the time at which the
    /// unfinished line began.
    pub fn record_lines(&self, has_line: bool, has_begun: bool) -> Option<Instant> {
        let now = Instant::now();
        let mut table = self.places.lock_table();
        let row = table.rows.get_mut(&self.id)?;
        row.has_spoken |= has_line;
        row.is_busy |= has_line;
        row.since = now;
        row.begun = row.begun.filter(|_| !has_line).or(Some(now)).filter(|_| has_begun);
        row.begun
    }

    /// Records that all lines are answered.
    pub fn record_answered(&self) {
        if let Some(row) = self.places.lock_table().rows.get_mut(&self.id) {
            row.is_busy = false;
            row.since = Instant::now();
        }
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.places.lock_table().rows.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    impl Places {
        fn admit_user(
            self: &Arc<Self>,
            user: Option<u32>,
            now: Instant,
        ) -> Option<ConnectionPlace> {
            self.admit_holder((Socket(0), user), now)
        }
    }

    fn is_lost(place: &ConnectionPlace) -> bool {
        !place.places.lock_table().rows.contains_key(&place.id)
    }

    fn run(test: impl FnOnce()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async { test() });
    }

    #[test]
    fn one_user_never_has_more_than_a_share() {
        run(|| {
            let (places, now) = (Places::new(4, 3), Instant::now());
            let held: Vec<_> =
                (0..3).map(|_| places.admit_user(Some(1), now).expect("a place")).collect();

            assert!(places.admit_user(Some(1), now + SOON).is_none(), "none of them is idle yet");
            let other = places.admit_user(Some(2), now + SOON).expect("the share of others");

            assert!(!held.iter().any(is_lost) && !is_lost(&other));
        });
    }

    #[test]
    fn a_user_with_too_many_connections_loses_the_one_that_is_idle_for_longest() {
        run(|| {
            let (places, now) = (Places::new(4, 2), Instant::now());
            let first = places.admit_user(Some(1), now).expect("a place");
            let second = places.admit_user(Some(1), now + SOON).expect("a place");

            let third = places.admit_user(Some(1), now + 2 * IDLE_AFTER).expect("room was made");

            assert!(is_lost(&first) && !is_lost(&second) && !is_lost(&third));
        });
    }

    #[test]
    fn a_connection_that_only_began_a_line_makes_room_first_and_a_busy_one_does_not() {
        run(|| {
            let (places, now) = (Places::new(3, 3), Instant::now());
            let [busy, polite, half] =
                std::array::from_fn(|_| places.admit_user(Some(1), now).expect("a place"));
            assert_eq!(busy.record_lines(true, true), Some(now));
            assert_eq!(polite.record_lines(true, false), None);
            polite.record_answered();
            assert_eq!(half.record_lines(false, true), Some(now));
            let later = now + 2 * IDLE_AFTER;

            let first = places.admit_user(Some(2), later).expect("room was made");
            assert!(is_lost(&half) && !is_lost(&polite));
            let second = places.admit_user(Some(3), later).expect("room was made");
            assert!(is_lost(&polite) && !is_lost(&busy));

            assert!(places.admit_user(Some(4), later).is_none(), "nobody has two, or is idle");
            drop((first, second));
        });
    }

    #[test]
    fn busy_connections_of_one_user_do_not_keep_another_user_out() {
        run(|| {
            let (places, now) = (Places::new(2, 2), Instant::now());
            let busy: Vec<_> =
                (0..2).map(|_| places.admit_user(Some(1), now).expect("a place")).collect();
            for place in &busy {
                place.record_lines(true, false);
            }

            let other = places.admit_user(Some(2), now).expect("a share");

            assert_eq!(busy.iter().filter(|place| is_lost(place)).count(), 1);
            assert!(!is_lost(&other));
        });
    }
}
