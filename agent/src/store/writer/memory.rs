//! The writer while the file takes no writes. New records go into a database in memory and are
//! published from there. The file is tried again, ever less often, and takes over all records as
//! soon as it can (P7).
//!
//! Memory is bounded: delivered records are deleted first, then new records are given up and
//! counted (P3). Other programs are answered at once, and told that their readings are not durable.

use std::sync::Arc;

use pulsegate_core::record::event::Event;
use pulsegate_core::record::lane::Lane;
use pulsegate_core::record::reading::{Reading, Seq};
use pulsegate_sensors::Sources;
use tokio::time::Instant;

use super::faults::{WAITING_FEW, WAITING_ROWS};
use super::{PendingAnswer, Receipt, Writer};
use crate::config::Backlog;
use crate::db::database::{Database, EventRow, StoreLocation};
use crate::db::disk::DiskFault;
use crate::db::error::{is_damage, is_place_taken};
use crate::db::overflow::DetachedFile;
use crate::db::owner::{self, DroppedBacklog, StoreChoice};
use crate::db::{self, ThingChange, ballast, begun, overflow, salvage};
use crate::platform::state_lock;
use crate::store::StoreOptions;

/// The state of the writer while the file takes no writes.
pub(super) struct MemoryMode {
    /// The database in the file; `None` while the file cannot be opened or read.
    pub(super) file: Option<Database>,
    /// Set while the records in the file cannot be read, see [`Writer::detach_file`].
    pub(super) apart: Option<DetachedFile>,
    since: Instant,
    /// Number of readings in memory.
    rows: usize,
}

impl MemoryMode {
    pub(super) fn new(file: Option<Database>) -> Self {
        Self { file, apart: None, since: Instant::now(), rows: 0 }
    }
}

impl Writer {
    /// Continues in memory until the file takes writes again. The gathered records go to memory at
    /// once.
    pub(super) fn go_on_in_memory(&mut self, fault: DiskFault) {
        if self.memory.is_none() {
            match self.database.go_on_in_memory() {
                Ok(memory) => {
                    tracing::error!(%fault, "records are kept in memory, and are not durable");
                    let file = std::mem::replace(&mut self.database, memory);
                    self.memory = Some(MemoryMode::new(Some(file)));
                    self.report_fault(&fault);
                }
                Err(error) => tracing::error!(%error, "there is no memory for the records"),
            }
        }
        self.faults.begin_refusal(fault);
        self.urgent = true;
        self.report_progress();
    }

    /// Reports once by an event that records are not durable.
    pub(super) fn report_fault(&mut self, fault: &DiskFault) {
        let event = Event::StoreInMemory { reason: fault.as_str().to_owned() };
        self.work.events.push(EventRow { event, mono: self.mono_now() });
        self.urgent = true;
    }

    /// Tries to move the records in memory into the file.
    pub(super) fn retry_file(&mut self) {
        if self.salvage.is_some() {
            return;
        }
        // All gathered records move together with the rest.
        self.commit_gathered();
        let now = self.mono_now();
        let path = &self.options.path;
        let fault = self.faults.current_fault().cloned();
        let Some(memory) = &mut self.memory else { return };
        let Some(file) = &mut memory.file else { return self.reopen_file() };
        if file.place == StoreLocation::Lost {
            return self.replace_damaged();
        }
        let apart = memory.apart.clone();
        // A connection made while nothing could be written stays read-only, and a connection to a
        // failed file system fails for ever.
        if apart.is_some() || fault.is_some_and(|fault| fault.wants_connection()) {
            match file.connect_again(path, self.database.last_seq) {
                Ok(true) => {}
                Ok(false) => return self.leave_file(),
                Err(error) if is_damage(&error) => return self.handle_damage(&error),
                Err(error) => {
                    let fault = DiskFault::find_sqlite(path, &error);
                    return self.go_on_in_memory(fault);
                }
            }
        }
        let mut moved = overflow::move_into(file, &self.database, apart.as_ref());
        if let Err(error) = &moved
            && !is_damage(error)
            && DiskFault::find_sqlite(path, error).wants_room()
        {
            ballast::release_room(path);
            let (bytes, _) = self.database.measure_size().unwrap_or_default();
            let marked = match apart {
                // Records wait in the file behind the watermarks in memory.
                Some(_) => Ok(()),
                None => overflow::move_watermarks(file, &self.database),
            };
            let room = marked.and_then(|()| overflow::make_room(file, bytes + bytes / 2, now));
            ballast::take_back(path);
            moved = room.and_then(|()| overflow::move_into(file, &self.database, apart.as_ref()));
        }
        match moved {
            Ok(()) => self.back_on_disk(),
            Err(error) if is_damage(&error) => self.handle_damage(&error),
            Err(error) => {
                let fault = DiskFault::find_sqlite(path, &error);
                self.go_on_in_memory(fault);
            }
        }
    }

    /// Handles an error that means damage. A place already taken may have been assigned by another
    /// program with the file open; anything else is damage, and the file is replaced.
    pub(super) fn handle_damage(&mut self, error: &db::Error) {
        let path = &self.options.path;
        if let Some(pid) = is_place_taken(error).then(|| state_lock::other_user(path)).flatten() {
            return self.go_on_in_memory(DiskFault::InUse { path: path.clone(), pid });
        }
        tracing::error!(%error, "the store is damaged");
        self.replace_damaged();
    }

    fn back_on_disk(&mut self) {
        let Some(memory) = self.memory.take() else { return };
        let Some(file) = memory.file else { return };
        self.database = file;
        self.faults.end_refusal();
        ballast::hold_room(&self.options.path);
        begun::write_mark(&self.options.path);
        let seconds = memory.since.elapsed().as_secs();
        tracing::info!(seconds, "the disk takes writes again; what was in memory is stored");
        let event = Event::StoreOnDisk { seconds };
        self.work.events.push(EventRow { event, mono: self.mono_now() });
        self.urgent = true;
        if memory.apart.is_some() {
            self.begin_pass();
        }
        self.report_progress();
    }

    /// Answers the clients of a commit with their places, and whether the places are durable.
    pub(super) fn answer_clients(&mut self, first: Seq, rows: usize) {
        let start: Arc<str> = self.database.identity.boot.as_str().into();
        let is_durable = self.memory.is_none();
        if let Some(memory) = &mut self.memory {
            memory.rows += rows;
        }
        for PendingAnswer { to, offset } in self.answers.drain(..) {
            let first_seq = first.0 + offset;
            // A client that left does not wait for its answer.
            drop(to.send(Ok(Receipt { start: Arc::clone(&start), first_seq, is_durable })));
        }
    }

    /// Returns true if `readings` more readings may be kept.
    pub(super) fn has_room(&mut self, readings: usize) -> bool {
        let gathered = self.work.readings.len() + readings;
        let Some(memory) = &mut self.memory else { return true };
        if memory.rows + gathered <= WAITING_ROWS {
            return true;
        }
        let lane = Lane::Readings;
        let counted = overflow::forget_delivered(&self.database)
            .and_then(|()| overflow::count_behind(&self.database, lane, 0));
        match counted {
            Ok(rows) => memory.rows = usize::try_from(rows).unwrap_or(usize::MAX),
            Err(error) => tracing::error!(%error, "nothing can be forgotten in memory"),
        }
        memory.rows.saturating_add(gathered) <= WAITING_ROWS
    }

    /// Gives up the latest alerts and events above the bounds of memory.
    pub(super) fn give_up_beyond_bounds(&mut self) {
        if self.memory.is_none() {
            return;
        }
        for lane in [Lane::Alerts, Lane::Events] {
            let gathered = match lane {
                Lane::Alerts => self.work.alerts.len(),
                Lane::Events | Lane::Readings => self.work.events.len(),
            };
            if gathered == 0 {
                continue;
            }
            let kept = |database: &Database| {
                let kept = overflow::count_behind(database, lane, 0);
                kept.ok().and_then(|kept| usize::try_from(kept).ok()).unwrap_or(WAITING_FEW)
            };
            let mut room = WAITING_FEW.saturating_sub(kept(&self.database));
            if gathered > room && overflow::forget_delivered(&self.database).is_ok() {
                room = WAITING_FEW.saturating_sub(kept(&self.database));
            }
            if gathered > room {
                self.count_given_up(lane, (gathered - room) as u64);
                match lane {
                    Lane::Alerts => self.work.alerts.truncate(room),
                    Lane::Events | Lane::Readings => self.work.events.truncate(room),
                }
            }
        }
    }

    /// Drops a file replaced from outside by another file: its records leave the accounts.
    fn leave_file(&mut self) {
        self.detach_file();
        let Some(memory) = &mut self.memory else { return };
        let (Some(file), Some(_)) = (memory.file.take(), memory.apart.take()) else { return };
        tracing::error!("another store is in the place of the one that was open");
        let pending = overflow::count_pending_in_file(&self.database).unwrap_or_default();
        for ((row, was), pending) in self.database.lanes.iter_mut().zip(file.lanes).zip(pending) {
            let delivered = was.recorded.saturating_sub(pending + was.dropped + was.filtered);
            row.recorded -= was.recorded.min(row.recorded);
            row.delivered -= delivered.min(row.delivered);
            row.pending -= pending.min(row.pending);
            row.dropped -= was.dropped.min(row.dropped);
            row.filtered -= was.filtered.min(row.filtered);
        }
        self.report_progress();
    }

    /// Tries to open the file again. Its sources have other numbers than the sources registered
    /// since the start, so waiting records are written under the file's numbers, and the agent
    /// starts anew.
    pub(super) fn reopen_file(&mut self) {
        let was_there = self.options.path.exists();
        let change = match self.settle_owner() {
            Ok(change) => change,
            Err(fault) => return self.go_on_in_memory(fault),
        };
        let sources = Arc::new(Sources::default());
        let options = self.options.clone();
        let mut identity = options.identity.clone();
        if self.database.last_seq > 0 {
            // Places of this start were published, and would name other records in the file.
            let counter = identity.boot.counter().saturating_add(1);
            identity.boot = identity.boot.with_counter(counter);
        }
        // A file that appears now may be another thing's, so the next try reads its owner.
        let path = &options.path;
        let opened = salvage::open_whole(path, was_there, &identity, &sources, &options.pulse);
        let opened = match opened {
            Ok(Ok(file)) => Ok(file),
            Ok(Err(_)) => return self.replace_unknown(),
            Err(error) => Err(error),
        };
        let adopted = opened.and_then(|mut file| {
            if change.is_some_and(|change| change.backlog == Backlog::Drop) {
                DroppedBacklog::drop_backlog_of(&mut file, self.mono_now())?;
                // The file is this thing's now, even if the rest fails and is tried again.
                self.options.thing_change = None;
            }
            overflow::adopt_memory(&mut file, &self.database, &self.sources, &sources)?;
            Ok(file)
        });
        match adopted {
            Ok(file) => {
                tracing::warn!("there is a store again: the agent starts anew");
                self.database = file;
                self.memory = None;
                self.faults.end_refusal();
                self.urgent = true;
                self.commit_gathered();
                self.ended = true;
            }
            Err(error) => {
                let fault = DiskFault::find_fault(&self.options.path, &error);
                self.go_on_in_memory(fault);
            }
        }
    }

    /// Decides on another thing's store that appeared after the start.
    fn settle_owner(&mut self) -> Result<Option<ThingChange>, DiskFault> {
        let StoreOptions { path, identity, thing_change, backlog, .. } = &self.options;
        let StoreChoice { path: taken, change, .. } =
            owner::choose_store(path, &identity.thing, *backlog);
        if taken != *path {
            let path = path.display();
            let fault = format!("`{path}` is another thing's store and cannot be set aside");
            return Err(DiskFault::Other(fault));
        }
        if let (Some(change), None) = (&change, thing_change) {
            self.work.events.push(EventRow { event: change.to_event(), mono: self.mono_now() });
            // Reported once, however often the file is tried.
            self.options.thing_change = Some(change.clone());
        }
        Ok(change.or_else(|| self.options.thing_change.clone()))
    }
}

/// Returns the readings for rules begun anew: the database with the stored readings, and the
/// readings in memory only. Without a file, memory has all readings.
pub(super) fn stored_readings<'a>(
    memory: Option<&'a MemoryMode>,
    database: &'a Database,
) -> (&'a Database, Vec<Reading>) {
    match memory.and_then(|memory| memory.file.as_ref()) {
        Some(file) if file.place == StoreLocation::File => {
            (file, overflow::select_readings(database, "TRUE").unwrap_or_default())
        }
        Some(_) | None => (database, Vec::new()),
    }
}
