//! What the writer does when it cannot write: it tries again, ever less often; keeps what arrives up
//! to a bound, and counts what it gives up beyond it (P3); replaces a damaged database; and waits
//! for a file that cannot be opened to become one that can (P7).

use std::sync::Arc;
use std::time::Duration;

use pulsegate_core::lane::Lane;
use pulsegate_core::reading::{Reading, Seq};
use pulsegate_sensors::inbox::Receipt;
use pulsegate_sensors::{SourceId, Sources};
use rusqlite::ErrorCode;
use tokio::time::Instant;

use super::Writer;
use crate::state_lock;
use crate::store::database::{Database, EventRow};
use crate::store::disk::{self, DiskFault};
use crate::store::salvage::Replaced;
use crate::store::{Options, ballast, begun, salvage};

/// Readings kept in memory while the disk refuses writes: hours of ten belts.
pub(super) const WAITING_ROWS: usize = 50_000;
/// Alerts, and events, kept in memory meanwhile.
pub(super) const WAITING_FEW: usize = 2_000;
const _: () = assert!(super::COMMIT_ROWS < WAITING_ROWS);
/// How soon to try again while the disk refuses writes, at first and in the end: each try writes
/// what waits, as far as there is room.
pub(super) const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// A store that is damaged again so soon after it was replaced lies on a card that fails.
const REPLACE_PAUSE: Duration = Duration::from_secs(60);

/// What is wrong with the disk.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Set while the disk refuses writes: when to try again, and how long that pause was.
    retry: Option<(Instant, Duration)>,
    replaced_at: Option<Instant>,
}

impl Faults {
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry.map(|(at, _)| at)
    }

    /// Whether so many readings are more than may wait.
    pub(super) fn is_full(&self, readings: usize) -> bool {
        self.retry.is_some() && readings > WAITING_ROWS
    }

    pub(super) fn begin(&mut self) {
        let pause = self.retry.map_or(RETRY, |(_, pause)| (pause * 2).min(RETRY_MAX));
        self.retry = Some((Instant::now() + pause, pause));
    }

    /// Whether there was something wrong that is over.
    pub(super) fn end(&mut self) -> bool {
        let is_over = self.retry.take().is_some();
        if is_over {
            tracing::info!("the disk takes writes again");
        }
        is_over
    }
}

/// Opens the database. What cannot be had now may be had later: then there is none yet, and why.
pub(super) fn open(
    options: &Options,
    sources: &Arc<Sources>,
) -> anyhow::Result<(Database, Option<Replaced>, Option<DiskFault>)> {
    let path = &options.path;
    disk::make_private(path);
    let opened = salvage::open(path, &options.identity, sources).or_else(|error| {
        // Even a store that is only read needs some room beside it.
        if ballast::release(path) {
            salvage::open(path, &options.identity, sources)
        } else {
            Err(error)
        }
    });
    match opened {
        Ok((database, replaced)) => {
            ballast::hold(path);
            Ok((database, replaced, None))
        }
        Err(error) => {
            let fault = DiskFault::find(path, &error);
            tracing::error!(%fault, "there is no store; readings wait in memory");
            let database = Database::nowhere(&options.identity, Arc::clone(sources))?;
            Ok((database, None, Some(fault)))
        }
    }
}

impl Writer {
    pub(super) fn failed(&mut self, error: &rusqlite::Error) {
        let path = &self.options.path;
        if salvage::is_damage(error) {
            // A place that is taken was perhaps given away by somebody else.
            let is_taken = error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation);
            if let Some(pid) = is_taken.then(|| state_lock::other_user(path)).flatten() {
                return self.refused(DiskFault::InUse { path: path.clone(), pid });
            }
            tracing::error!(%error, "the store is damaged");
            return self.replace();
        }
        let fault = DiskFault::find_sqlite(path, error);
        if self.faults.retry.is_none() && fault.wants_room() && ballast::release(path) {
            tracing::warn!(%fault, "the ballast is dropped");
            self.faults.retry = Some((Instant::now(), RETRY));
            return;
        }
        self.refused(fault);
    }

    fn refused(&mut self, fault: DiskFault) {
        if self.progress.borrow().fault.is_none() {
            tracing::error!(%fault, "the disk refuses writes; readings wait in memory");
        }
        self.faults.begin();
        // Room for what waits may be made by forgetting what was delivered.
        self.retain(self.now(), true);
        self.report(Some(fault));
        self.give_up_beyond_bounds();
    }

    /// Sets the damaged database aside and goes on in a new one; what was gathered is kept.
    pub(super) fn replace(&mut self) {
        let path = &self.options.path;
        if self.faults.replaced_at.is_some_and(|at| at.elapsed() < REPLACE_PAUSE) {
            return self.refused(DiskFault::Other("the store is damaged again".into()));
        }
        if let Err(error) = self.database.leave() {
            return self.refused(DiskFault::find_sqlite(path, &error));
        }
        let pulse = self.options.pulse.clone();
        let mut alive = || pulse.beat();
        let replaced = salvage::replace(path, Some(&self.database), &self.sources, &mut alive)
            .and_then(|replaced| Ok((Database::reopen(path, &self.database)?, replaced)));
        match replaced {
            Ok((database, Replaced { set_aside, left_rows })) => {
                self.database = database;
                self.database.doubtful = self.in_hand;
                self.faults.replaced_at = Some(Instant::now());
                self.progress.send_modify(|progress| {
                    (progress.set_aside, progress.left_rows) = (Some(set_aside), left_rows);
                });
                self.faults.end();
                self.say_what_was_lost();
            }
            Err(error) => self.refused(DiskFault::find(path, &error)),
        }
    }

    /// Where a store was damaged, or is gone, what is lost may be more than any gap can tell.
    pub(super) fn say_what_was_lost(&mut self) {
        let progress = self.progress.borrow().clone();
        let is_lost = || self.database.is_new() && begun::is_marked(&self.options.path);
        let change = self.options.thing_change.as_ref();
        let event = match (&progress.set_aside, progress.left_rows) {
            (Some(name), 0) => Some(("store_damaged", format!(r#""set_aside":"{name}""#))),
            (Some(name), left_rows) => {
                let members = format!(r#""set_aside":"{name}","left_rows":{left_rows}"#);
                Some(("store_damaged", members))
            }
            (None, _) if change.is_some() => {
                change.map(|change| ("thing_changed", change.members()))
            }
            (None, _) if is_lost() => Some(("store_lost", String::new())),
            (None, _) => None,
        };
        if let Some((event, members)) = event {
            self.work.events.push(EventRow { event, mono: self.now(), members });
            self.urgent = true;
        }
    }

    /// Tries to open the file again. Its sources have other numbers than those given out since the
    /// start: what waits is written under the right ones, and the agent starts anew.
    pub(super) fn look_for_file(&mut self) {
        let sources = Arc::new(Sources::default());
        let options = Options { path: self.options.path.clone(), ..self.options.clone() };
        let written = salvage::open(&options.path, &options.identity, &sources).and_then(
            |(mut database, _)| Ok((self.write_into(&mut database, &sources)?, database)),
        );
        match written {
            Ok((first, database)) => {
                tracing::warn!("there is a store again: the agent starts anew");
                self.database = database;
                self.committed(first);
                self.ended = true;
            }
            Err(error) => self.refused(DiskFault::find(&options.path, &error)),
        }
    }

    fn write_into(&mut self, database: &mut Database, theirs: &Sources) -> anyhow::Result<Seq> {
        let ours = &self.sources;
        let renumbered = |id: u32| match ours.get(SourceId(id)) {
            Some(source) => theirs.intern((*source).clone()).map(|id| id.0),
            None => Ok(id),
        };
        let renumber = |reading: &Reading| -> anyhow::Result<Reading> {
            let source = SourceId(renumbered(reading.source.0)?);
            Ok(Reading { source, ..reading.clone() })
        };
        let readings = self.work.readings.iter().map(renumber).collect::<Result<_, _>>()?;
        let mut alerts = self.work.alerts.clone();
        for alert in &mut alerts {
            alert.source = renumbered(alert.source)?;
        }
        let events = self.work.events.clone();
        let work = super::Work {
            readings,
            alerts,
            events,
            unwritten: self.work.unwritten,
            // Marks there are none: nothing was published.
            marks: Vec::new(),
            source_marks: Vec::new(),
            clock: self.work.clock,
            now: self.work.now,
        };
        for segment in self.database.timeline.segments(self.database.epoch) {
            database.timeline.restore(database.epoch, *segment);
        }
        Ok(database.commit(&work)?)
    }

    /// Gives up what arrived last, where more waits than may.
    pub(super) fn give_up_beyond_bounds(&mut self) {
        if self.faults.retry.is_none() {
            return;
        }
        let (alerts, events) = (self.work.alerts.len(), self.work.events.len());
        for (lane, waiting) in [(Lane::Alerts, alerts), (Lane::Events, events)] {
            if waiting > WAITING_FEW {
                self.give_up(lane, (waiting - WAITING_FEW) as u64);
            }
        }
        self.work.alerts.truncate(WAITING_FEW);
        self.work.events.truncate(WAITING_FEW);
    }

    /// Counts what is given up before it was written.
    pub(super) fn give_up(&mut self, lane: Lane, count: u64) {
        let now = self.now();
        let (wall, _) = self.database.timeline.wall(self.database.epoch, now);
        let lost = &mut self.work.unwritten[lane.index()];
        lost.count += count;
        lost.span = Some((lost.span.map_or(wall, |(start, _)| start), wall));
        lost.until = now;
    }

    /// Answers who waits for a place.
    pub(super) fn answer(&mut self, first: Seq) {
        let start: Arc<str> = self.database.identity.boot.as_str().into();
        for answer in self.answers.drain(..) {
            let receipt = Receipt { start: Arc::clone(&start), first_seq: first.0 + answer.offset };
            // A client that left does not wait for its answer.
            drop(answer.to.send(Ok(receipt)));
        }
    }
}
