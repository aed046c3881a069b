//! The threads that read number files: one thread for each bus with a configured file.
//!
//! A read may never return, as on a dead 1-wire bus or from a lost file server. The thread is then
//! neither joined nor replaced: a file configured on the same bus after a reload uses the same
//! thread. The lock on the buses is never held during a read.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;

use super::read_schedule::{BusFile, Next, ReadSchedule};
use super::{MAX_FILE_BYTES, NumberFile};
use crate::NoReading;

/// The maximum number of threads, including threads that hang on files of an earlier configuration.
/// A gateway with more devices has several on a bus.
pub const MAX_BUSES: usize = 64;
/// The stack size of a thread: enough for a page and a few calls; a hundred sensors must not use
/// 200 MiB of address space.
const STACK_BYTES: usize = 128 << 10;

/// The clocks used for readings.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// The wall time in milliseconds since the epoch, for the grid.
    pub wall_ms: fn() -> i64,
    /// `CLOCK_MONOTONIC`, for the time of a reading.
    pub since_boot: fn() -> Duration,
}

/// All buses, shared by all drivers of numbers.
#[derive(Debug, Clone)]
pub struct Buses(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clocks: Clocks,
    bus_of: fn(&Path) -> PathBuf,
    table: Mutex<BusTable>,
}

#[derive(Debug, Default)]
struct BusTable {
    buses: HashMap<PathBuf, Bus>,
    next_id: u64,
}

/// A bus with a thread.
#[derive(Debug)]
struct Bus {
    roster: ReadSchedule<mpsc::Sender<CompletedRead>>,
    reading: Option<PendingRead>,
    changed: Arc<Condvar>,
}

/// A read in progress.
#[derive(Debug, Clone, Copy)]
struct PendingRead {
    id: u64,
    since: Duration,
    patience: Duration,
}

/// The result of one read.
#[derive(Debug)]
pub(super) struct CompletedRead {
    pub(super) content: io::Result<Vec<u8>>,
    /// The end of the read, on the monotonic clock: a sensor that converts on request answers at
    /// the end.
    pub(super) at: Duration,
    pub(super) took: Duration,
    /// The number of grid points passed while the read waited for its turn.
    pub(super) missed: u64,
}

/// The registration of a file on its bus; ends when dropped.
#[derive(Debug)]
pub(super) struct BusRegistration {
    shared: Arc<Shared>,
    bus: PathBuf,
    id: u64,
    results: mpsc::Receiver<CompletedRead>,
}

/// A read beyond its time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HungRead {
    /// `true` if the read is of another file on the same bus.
    pub(super) is_another: bool,
    pub(super) lasts: Duration,
}

impl Buses {
    /// Creates the buses without a thread. The bus of a file is found by [`super::bus_of`].
    #[must_use]
    pub fn new(clocks: Clocks) -> Self {
        Self::found_by(super::bus_of, clocks)
    }

    /// Creates the buses with another function for finding the bus of a file.
    pub(super) fn found_by(bus_of: fn(&Path) -> PathBuf, clocks: Clocks) -> Self {
        Self(Arc::new(Shared { clocks, bus_of, table: Mutex::default() }))
    }

    pub(super) fn bus_of(&self, path: &Path) -> PathBuf {
        (self.0.bus_of)(path)
    }

    /// Registers `number` on `bus`, and starts the thread of the bus if there is none.
    pub(super) fn register_file(
        &self,
        bus: &Path,
        number: &NumberFile,
    ) -> Result<BusRegistration, NoReading> {
        let (sender, results) = mpsc::channel(1);
        let mut table = self.0.lock_table();
        if !table.buses.contains_key(bus) {
            if table.buses.len() >= MAX_BUSES {
                let text = format!("{MAX_BUSES} files or buses are read already, or hang");
                return Err(NoReading::Failed(text));
            }
            // The thread waits for the lock and then finds its bus in the table.
            let (shared, key) = (Arc::clone(&self.0), bus.to_owned());
            let builder = thread::Builder::new().name(thread_name(bus)).stack_size(STACK_BYTES);
            let thread = builder.spawn(move || shared.read_bus(&key));
            thread.map_err(|error| NoReading::Failed(format!("no thread to read it: {error}")))?;
        }
        let id = table.next_id;
        table.next_id += 1;
        let entry = table.buses.entry(bus.to_owned()).or_insert_with(Bus::new);
        let now_ms = (self.0.clocks.wall_ms)();
        entry.roster.add_file(BusFile::new(id, &number.path, number.every, now_ms, sender));
        entry.changed.notify_one();
        drop(table);
        Ok(BusRegistration { shared: Arc::clone(&self.0), bus: bus.to_owned(), id, results })
    }
}

impl Bus {
    fn new() -> Self {
        Self { roster: ReadSchedule::new(), reading: None, changed: Arc::default() }
    }
}

impl BusRegistration {
    pub(super) fn bus(&self) -> &Path {
        &self.bus
    }

    /// Waits for the next result for the file. Dropping the future loses no result.
    pub(super) async fn next(&mut self) -> Option<CompletedRead> {
        self.results.recv().await
    }

    /// Returns the read in progress on the bus if it has exceeded its time limit.
    pub(super) fn hung_read(&self) -> Option<HungRead> {
        let reading = self.shared.lock_table().buses.get(&self.bus)?.reading?;
        let lasts = (self.shared.clocks.since_boot)().saturating_sub(reading.since);
        (lasts >= reading.patience).then_some(HungRead { is_another: reading.id != self.id, lasts })
    }
}

impl Drop for BusRegistration {
    fn drop(&mut self) {
        let mut table = self.shared.lock_table();
        if let Some(bus) = table.buses.get_mut(&self.bus) {
            bus.roster.remove_id(self.id);
            bus.changed.notify_one();
        }
    }
}

impl Shared {
    /// Reads the files of a bus until none is configured any more. Runs on the thread of the bus.
    fn read_bus(&self, key: &Path) {
        let mut table = self.lock_table();
        loop {
            let Some(bus) = table.buses.get_mut(key).filter(|bus| !bus.roster.is_empty()) else {
                table.buses.remove(key);
                return;
            };
            let claim = |place: &mut BusFile<mpsc::Sender<CompletedRead>>| {
                let permit = place.results.clone().try_reserve_owned().ok()?;
                Some((
                    place.id,
                    Arc::clone(&place.path),
                    place.patience,
                    place.take_missed(),
                    permit,
                ))
            };
            let (id, path, patience, missed, permit) =
                match bus.roster.next((self.clocks.wall_ms)(), claim) {
                    Next::Read(claimed) => claimed,
                    Next::Wait(nap) => {
                        let changed = Arc::clone(&bus.changed);
                        let woken = changed.wait_timeout(table, nap);
                        table = woken.unwrap_or_else(PoisonError::into_inner).0;
                        continue;
                    }
                };
            let since = (self.clocks.since_boot)();
            bus.reading = Some(PendingRead { id, since, patience });
            drop(table);
            let content = read_bounded(&path);
            let at = (self.clocks.since_boot)();
            permit.send(CompletedRead { content, at, took: at.saturating_sub(since), missed });
            table = self.lock_table();
            if let Some(bus) = table.buses.get_mut(key) {
                bus.reading = None;
            }
        }
    }

    fn lock_table(&self) -> MutexGuard<'_, BusTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the thread name of a bus: the last part of its path, of which the kernel shows fifteen
/// bytes.
fn thread_name(bus: &Path) -> String {
    let name = bus.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_prefix("w1_bus_").unwrap_or(&name);
    format!("read {}", name.replace('\0', ""))
}

/// Reads one byte more than allowed, so a larger file can be recognised.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}
