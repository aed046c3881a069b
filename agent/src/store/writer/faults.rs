//! Faults of the file: the times of further tries, and the opening of the store at a start.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use pulsegate_core::record::event::Event;
use pulsegate_core::record::lane::Lane;
use pulsegate_sensors::Sources;
use tokio::time::Instant;

use super::Writer;
use super::salvaging::Salvage;
use crate::db::database::{Database, EventRow};
use crate::db::disk::{self, DiskFault};
use crate::db::error::is_damage;
use crate::db::salvage::{Replaced, TellProgress};
use crate::db::{self, ThingChange, ballast, begun, overflow, salvage};
use crate::store::StoreOptions;

/// Readings kept in memory while the disk refuses writes: hours of ten belts.
pub(super) const WAITING_ROWS: usize = 50_000;
/// Alerts, and events, kept in memory meanwhile.
pub(super) const WAITING_FEW: usize = 2_000;
const _: () = assert!(super::COMMIT_ROWS < WAITING_ROWS);
/// First pause before another try while the disk refuses writes, and the longest ([`RETRY_MAX`]).
/// Each try writes all waiting records, as far as there is room.
pub(super) const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Least time between two replacements. A store damaged again earlier lies on a failing card.
pub(super) const REPLACE_PAUSE: Duration = Duration::from_secs(60);

/// The present fault of the disk.
#[derive(Debug, Default)]
pub(super) struct WriteFaults {
    /// Set while the disk refuses writes: the fault, the time of the next try, and the pause before
    /// it.
    refusal: Option<(DiskFault, Instant, Duration)>,
    pub(super) replaced_at: Option<Instant>,
}

impl WriteFaults {
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.refusal.as_ref().map(|(_, at, _)| *at)
    }

    pub(super) fn current_fault(&self) -> Option<&DiskFault> {
        self.refusal.as_ref().map(|(fault, ..)| fault)
    }

    /// Notes a failed try. Another fault before the next try does not change its time.
    pub(super) fn begin_refusal(&mut self, fault: DiskFault) {
        let now = Instant::now();
        let (at, pause) = match &self.refusal {
            Some((_, at, pause)) if *at > now => (*at, *pause),
            Some((_, _, pause)) => {
                let pause = (*pause * 2).min(RETRY_MAX);
                (now + pause, pause)
            }
            None => (now + RETRY, RETRY),
        };
        self.refusal = Some((fault, at, pause));
    }

    /// Makes the next try due at once.
    pub(super) fn try_now(&mut self) {
        if let Some((_, at, _)) = &mut self.refusal {
            *at = Instant::now();
        }
    }

    pub(super) fn end_refusal(&mut self) {
        self.refusal = None;
    }
}

/// The store as found by a start.
pub(super) struct OpenedStore {
    pub(super) database: Database,
    /// The fate of a damaged store.
    pub(super) replaced: Option<Replaced>,
    /// The reason for a database in memory.
    pub(super) fault: Option<DiskFault>,
    /// A salvage still under way when the start continues.
    pub(super) salvage: Option<Salvage>,
}

/// Opens the database. If the file cannot be opened, returns an empty database in memory and the
/// reason, and the writer tries again. A damaged database is replaced on a thread of its own; the
/// start waits for it as long as the options allow.
pub(super) fn open_at_start(
    options: &StoreOptions,
    sources: &Arc<Sources>,
) -> anyhow::Result<OpenedStore> {
    let path = &options.path;
    disk::make_private(path);
    let open = || salvage::open_whole(path, true, &options.identity, sources, &options.pulse);
    let found = open().or_else(|error| {
        // Even reading a store needs some room beside its file.
        if ballast::release_room(path) { open() } else { Err(error) }
    });
    let opened = match found {
        Ok(Ok(database)) => Ok((database, None)),
        Ok(Err(_)) => {
            ballast::release_room(path);
            let salvage = Salvage::of_unknown(options)?;
            match salvage.wait_until_done(options) {
                None => {
                    let fault = DiskFault::Damaged { path: path.clone() };
                    let database = begin_in_memory(options, sources, &fault)?;
                    let (fault, salvage) = (Some(fault), Some(salvage));
                    return Ok(OpenedStore { database, replaced: None, fault, salvage });
                }
                Some(Ok(replaced)) => Database::open_database(
                    path,
                    &options.identity,
                    Arc::clone(sources),
                    &options.pulse,
                )
                .map(|database| (database, Some(replaced)))
                .with_context(|| format!("cannot open the new store `{}`", path.display())),
                Some(Err(error)) => Err(error),
            }
        }
        Err(error) => Err(error),
    };
    match opened {
        Ok((database, replaced)) => {
            ballast::hold_room(path);
            Ok(OpenedStore { database, replaced, fault: None, salvage: None })
        }
        Err(error) => {
            let fault = DiskFault::find_fault(path, &error);
            let database = begin_in_memory(options, sources, &fault)?;
            Ok(OpenedStore { database, replaced: None, fault: Some(fault), salvage: None })
        }
    }
}

fn begin_in_memory(
    options: &StoreOptions,
    sources: &Arc<Sources>,
    fault: &DiskFault,
) -> anyhow::Result<Database> {
    tracing::error!(%fault, "there is no store; records are kept in memory");
    Ok(Database::open_placeholder(&options.identity, Arc::clone(sources), &options.pulse)?)
}

impl StoreOptions {
    /// Runs work that may be a salvage, and publishes its progress for the status.
    pub(super) fn tell_salvage<T>(&self, work: impl FnOnce(TellProgress<'_>) -> T) -> T {
        let done = work(&mut |progress| {
            self.salvaging.send_replace(Some(progress));
        });
        self.salvaging.send_replace(None);
        done
    }
}

impl Writer {
    /// Handles a commit refused by the file.
    pub(super) fn handle_failed_commit(&mut self, error: &db::Error) {
        if is_damage(error) {
            return self.handle_damage(error);
        }
        let path = &self.options.path;
        let fault = DiskFault::find_sqlite(path, error);
        if fault.wants_room() && ballast::release_room(path) {
            tracing::warn!(%fault, "the ballast is dropped");
            let made = overflow::make_room(
                &mut self.database,
                self.work.estimate_bytes(),
                (self.options.clock)(),
            );
            ballast::take_back(path);
            match made.and_then(|()| self.database.commit_work(&self.work)) {
                Ok(first) => return self.finish_commit(first),
                Err(error) => tracing::debug!(%error, "the ballast was not enough"),
            }
        }
        self.go_on_in_memory(fault);
    }

    /// Continues in memory alone, because the records in the file cannot be read.
    pub(super) fn go_on_without_file(&mut self, fault: DiskFault) {
        self.go_on_in_memory(fault);
        self.detach_file();
    }

    /// Reports a damaged or lost store by an event, because gaps may not cover all lost records.
    pub(super) fn report_loss(&mut self) {
        let progress = self.progress.borrow().clone();
        let is_lost = || self.database.is_new() && begun::is_marked(&self.options.path);
        let change = self.options.thing_change.as_ref();
        let event = match (&progress.set_aside, progress.left_rows) {
            (Some(name), left_rows) => Some(Event::StoreDamaged {
                set_aside: name.clone(),
                left_rows: Some(left_rows).filter(|rows| *rows > 0),
            }),
            (None, _) if change.is_some() => change.map(ThingChange::to_event),
            (None, _) if is_lost() => Some(Event::StoreLost),
            (None, _) => None,
        };
        if let Some(event) = event {
            self.work.events.push(EventRow { event, mono: self.mono_now() });
            self.urgent = true;
        }
    }

    /// Counts records given up before they were written.
    pub(super) fn count_given_up(&mut self, lane: Lane, count: u64) {
        let now = self.mono_now();
        let (wall, _) = self.database.timeline.wall_time(self.database.epoch, now);
        self.given_up[lane.index()] += count;
        let lost = &mut self.work.unwritten[lane.index()];
        lost.count += count;
        lost.span = Some((lost.span.map_or(wall, |(start, _)| start), wall));
        lost.until = now;
        // The gap is committed soon, even if nothing else is gathered.
        self.gather_work(|_| ());
    }
}
