//! The database as its one writer sees it: the connection, and what must be known of its content
//! to append to it without reading it.
//!
//! Every change is one [`Work`] in one transaction. What is kept in memory changes only after the
//! transaction committed, so a refused commit can simply be tried again.

use std::path::Path;
use std::sync::Arc;

use pulsegate_core::cloud::delivery::Mark;
use pulsegate_core::record::event::Event;
use pulsegate_core::record::lane::Lane;
use pulsegate_core::record::reading::{Boot, Reading, Seq, Value};
use pulsegate_core::time::timeline::{Epoch, Timeline};
use pulsegate_core::time::{Mono, Wall};
use pulsegate_sensors::Sources;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension as _};

use super::bounds::{self, MAX_PLACE};
use super::load::{self, BootRow, LaneRow};
use super::untold::{Telling, Untold};
use super::withheld::{self, SourceMark, Withheld};
use super::write::{self, LaneWriter};
use super::{carry, ledger, schema};
use crate::platform::pulse::Pulse;

/// Who is writing: this start of the agent, on this run of the kernel.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The start.
    pub(crate) boot: Boot,
    /// The thing that records of this start belong to.
    pub(crate) thing: Box<str>,
    /// The run of the kernel.
    pub(crate) kernel_boot_id: String,
    /// Wall minus monotonic time at the start, right or wrong.
    pub(crate) reference_ms: i64,
}

/// An alert as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AlertRow {
    pub(crate) rule: Box<str>,
    pub(crate) source: u32,
    pub(crate) raised: bool,
    pub(crate) severity: &'static str,
    pub(crate) value: Value,
    /// How unlike those before it is, if its rule asked that.
    pub(crate) score: Option<f64>,
    pub(crate) window: Option<(Wall, Wall)>,
    pub(crate) time: Wall,
    /// Whether the times lie on the reference axis of this kernel boot, and want correcting.
    pub(crate) derived: bool,
}

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EventRow {
    pub(crate) event: Event,
    /// When it happened.
    pub(crate) mono: Mono,
}

/// Most readings take a third of it; those with intervals between beats two thirds.
const READING_BYTES: u64 = 64;
/// An alert or an event: its text is bounded by what sources and rules are called.
const DECIDED_BYTES: u64 = 1 << 10;
/// Pages that any commit may add: inner ones, marks, the clock.
const COMMIT_BYTES: u64 = 32 << 10;

/// What one transaction writes.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) readings: Vec<Reading>,
    pub(crate) alerts: Vec<AlertRow>,
    pub(crate) events: Vec<EventRow>,
    /// By lane: what arrived after those and was given up before it could be written.
    pub(crate) unwritten: [Unwritten; 3],
    pub(crate) marks: Vec<Mark>,
    /// What is withheld from now on, and what of it is settled.
    pub(crate) source_marks: Vec<SourceMark>,
    /// Whether the clock was set or stepped.
    pub(crate) clock: bool,
    /// When it was last added to.
    pub(crate) now: Mono,
}

/// Records that were given up before they could be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Unwritten {
    pub(crate) count: u64,
    /// When the first and the last of them arrived, as far as was known then.
    pub(crate) span: Option<(Wall, Wall)>,
    /// When the last one arrived.
    pub(crate) until: Mono,
}

impl Work {
    /// How many alerts and events it holds.
    pub(crate) fn decided(&self) -> usize {
        self.alerts.len() + self.events.len()
    }

    /// An upper bound of the room that it takes in the database.
    pub(crate) fn bytes(&self) -> u64 {
        let readings = self.readings.len() as u64 * READING_BYTES;
        readings + self.decided() as u64 * DECIDED_BYTES + COMMIT_BYTES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.readings.is_empty()
            && self.alerts.is_empty()
            && self.events.is_empty()
            && self.unwritten == [Unwritten::default(); 3]
            && self.marks.is_empty()
            && self.source_marks.is_empty()
            && !self.clock
    }
}

/// Where the records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the file.
    File,
    /// In memory, while there is no file or it takes no writes.
    Memory,
    /// The file was damaged, and could not be replaced yet; what is known of it is still known.
    Lost,
}

/// How far a store has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reached {
    /// The counter of the last start of the agent that wrote to it.
    pub(crate) boot: u32,
    /// The last place that was given to a record.
    pub(crate) seq: u64,
}

/// See the module.
pub(crate) struct Database {
    pub(crate) connection: Connection,
    pub(crate) place: Place,
    pub(crate) lanes: [LaneRow; 3],
    pub(crate) boots: Vec<BootRow>,
    pub(crate) timeline: Timeline,
    pub(crate) epoch: Epoch,
    pub(crate) identity: Identity,
    pub(crate) last_seq: u64,
    /// Whether no start of the agent ever wrote to it.
    is_new: bool,
    /// The newest row of the ledger, while it can still grow.
    pub(crate) growing: Option<ledger::Growing>,
    sources: Arc<Sources>,
    sources_stored: usize,
    /// Beats in long statements.
    pulse: Pulse,
    is_boot_written: bool,
    /// By lane: see [`LaneWriter::doubtful`].
    pub(crate) doubtful: [Seq; 3],
    /// Whether the ledger has rows that no event tells of yet.
    pub(crate) has_untold: bool,
    /// Gaps whose event was given up.
    pub(crate) untold: Untold,
    /// As it will be with the next commit.
    pub(crate) withheld: Withheld,
    /// As it was left by the last one.
    pub(crate) stored_withheld: Withheld,
    /// By lane: the records before it that are left are withheld. Only while something is.
    pub(crate) forgotten: [u64; 3],
    /// By lane: what is withheld before it is in hand, or was given up.
    pub(crate) given_up: [u64; 3],
}

impl Database {
    /// Opens the store, migrates it, and begins a boot in it. Its cost does not depend on how much
    /// is stored (P9).
    pub(crate) fn open(
        path: &Path,
        identity: &Identity,
        sources: Arc<Sources>,
        pulse: &Pulse,
    ) -> rusqlite::Result<Self> {
        let connection = schema::open_writer(path, pulse)?;
        let mut database = Self::load(connection, identity, sources, pulse)?;
        let last_boot = database.boots.iter().map(|row| row.boot.counter()).max();
        bounds::check_headroom(database.last_seq, last_boot.unwrap_or(0))?;
        database.begin_boot()?;
        database.number_sources()?;
        carry::forget(&database.connection);
        Ok(database)
    }

    /// Goes on in the middle of a start of the agent that an earlier connection began.
    pub(crate) fn reopen(path: &Path, before: &Self) -> rusqlite::Result<Self> {
        let sources = Arc::clone(&before.sources);
        let connection = schema::open_writer(path, &before.pulse)?;
        let mut database = Self::load(connection, &before.identity, sources, &before.pulse)?;
        database.number_sources()?;
        carry::forget(&database.connection);
        // With the marks that wait for the next commit, and what is in hand.
        database.withheld = before.withheld.clone();
        database.epoch = before.epoch;
        database.is_boot_written = true;
        Ok(database)
    }

    /// Holds nothing and takes nothing, in the place of a file that cannot be opened.
    pub(crate) fn nowhere(
        identity: &Identity,
        sources: Arc<Sources>,
        pulse: &Pulse,
    ) -> rusqlite::Result<Self> {
        let connection = Connection::open_in_memory()?;
        schema::migrate(&connection)?;
        let mut database = Self::load(connection, identity, sources, pulse)?;
        database.begin_boot()?;
        database.place = Place::Memory;
        Ok(database)
    }

    /// Goes on in memory where this one stands: with the next places, and empty tables.
    pub(crate) fn go_on_in_memory(&self) -> rusqlite::Result<Self> {
        let connection = Connection::open_in_memory()?;
        schema::migrate(&connection)?;
        self.stored_withheld.write(&connection)?;
        Ok(Self {
            connection,
            place: Place::Memory,
            lanes: self.lanes,
            boots: self.boots.clone(),
            timeline: self.timeline.clone(),
            epoch: self.epoch,
            identity: self.identity.clone(),
            last_seq: self.last_seq,
            is_new: false,
            growing: None,
            sources: Arc::clone(&self.sources),
            pulse: self.pulse.clone(),
            sources_stored: self.sources_stored,
            is_boot_written: self.is_boot_written,
            doubtful: [Seq(0); 3],
            has_untold: false,
            untold: self.untold.clone(),
            withheld: self.withheld.clone(),
            stored_withheld: self.stored_withheld.clone(),
            forgotten: [0; 3],
            given_up: [0; 3],
        })
    }

    /// Connects to the same file again. Returns whether it is the same: it has come as far as this one,
    /// and no further than `last_seq`.
    pub(crate) fn connect_again(&mut self, path: &Path, last_seq: u64) -> rusqlite::Result<bool> {
        let connection = schema::open_writer(path, &self.pulse)?;
        let there = load::last_seq(&connection, &load::read_lanes(&connection)?)?;
        let is_same = (self.last_seq..=last_seq).contains(&there);
        if is_same {
            self.connection = connection;
        }
        Ok(is_same)
    }

    /// Bytes in pages that are free inside the database.
    pub(crate) fn free_bytes(&self) -> rusqlite::Result<u64> {
        let (used, all) = self.size()?;
        Ok(all - used)
    }

    fn load(
        connection: Connection,
        identity: &Identity,
        sources: Arc<Sources>,
        pulse: &Pulse,
    ) -> rusqlite::Result<Self> {
        let lanes = load::read_lanes(&connection)?;
        load::check_accounts(&lanes)?;
        let boots = load::read_boots(&connection)?;
        let last_seq = load::last_seq(&connection, &lanes)?;
        let stored_withheld = Withheld::load(&connection)?;
        Ok(Self {
            place: Place::File,
            pulse: pulse.clone(),
            is_new: boots.is_empty(),
            last_seq,
            sources_stored: 0,
            boots,
            timeline: load::read_timeline(&connection)?,
            lanes,
            epoch: Epoch(0),
            identity: identity.clone(),
            growing: None,
            doubtful: [Seq(0); 3],
            withheld: stored_withheld.clone(),
            stored_withheld,
            forgotten: [0; 3],
            given_up: [0; 3],
            sources,
            is_boot_written: false,
            has_untold: load::read_meta(&connection, load::UNTOLD_GAP)?.is_some(),
            untold: Untold::load(&connection)?,
            connection,
        })
    }

    /// Gives the stored sources their numbers. Comes last: a store that turns out to be damaged must not
    /// leave its sources behind for the store that takes its place.
    fn number_sources(&mut self) -> rusqlite::Result<()> {
        self.sources_stored = load::load_sources(&self.connection, &self.sources)?;
        Ok(())
    }

    /// How far the store at `path` has come; `None` where no start of the agent wrote to it.
    pub(crate) fn reached(path: &Path) -> rusqlite::Result<Option<Reached>> {
        let connection = schema::open_reader(path)?;
        let last = "SELECT boot FROM boots ORDER BY boot DESC LIMIT 1";
        let last = connection.query_row(last, [], |row| bounds::read_start(row, 0)).optional()?;
        let Some(boot) = last else { return Ok(None) };
        let seq = load::last_seq(&connection, &load::read_lanes(&connection)?)?;
        bounds::check_headroom(seq, boot)?;
        Ok(Some(Reached { boot, seq }))
    }

    /// Begins this start of the agent, on paper: it is written with the first commit, so that a
    /// store on a full disk opens as well.
    fn begin_boot(&mut self) -> rusqlite::Result<()> {
        let known: Option<u32> = self
            .connection
            .query_row(
                "SELECT epoch FROM kernel_boots WHERE boot_id = ?1",
                [&self.identity.kernel_boot_id],
                |row| bounds::read_start(row, 0),
            )
            .optional()?;
        let select = "SELECT coalesce(max(epoch), 0) + 1 FROM kernel_boots";
        self.epoch = match known {
            Some(epoch) => Epoch(epoch),
            None => self.connection.query_row(select, [], |row| bounds::read_epoch(row, 0))?,
        };
        if known.is_none() {
            // A clock that fell back must not take the axis of the rules back with it.
            let floor = load::newest_reference(&self.connection, &self.boots, &self.timeline)?;
            let reference_ms = &mut self.identity.reference_ms;
            *reference_ms = floor.map_or(*reference_ms, |floor| floor.0.max(*reference_ms));
            self.timeline.begin(self.epoch, *reference_ms);
        }
        // A counter that was lost, and found again in what a damaged store still told.
        let last = self.boots.iter().map(|row| row.boot.counter()).max();
        if let Some(last) = last.filter(|last| *last >= self.identity.boot.counter()) {
            self.identity.boot = self.identity.boot.with_counter(last.saturating_add(1));
        }
        let first_seq = self.last_seq + 1;
        self.boots.retain(|row| row.first_seq != first_seq);
        self.boots.push(BootRow { first_seq, boot: self.identity.boot, epoch: self.epoch });
        Ok(())
    }

    /// Writes everything or nothing. Returns the place of the first reading.
    pub(crate) fn commit(&mut self, work: &Work) -> rusqlite::Result<Seq> {
        let first = Seq(self.last_seq + 1);
        let clock = work.clock.then(|| self.timeline.segments(self.epoch).to_vec());
        let (boot, has_untold) = (self.identity.boot, self.has_untold);
        let untold = if has_untold { ledger::untold(self)? } else { Vec::new() };
        let telling = self.telling(work)?;
        self.write(|writer| {
            writer.readings(&work.readings)?;
            ledger::tell(writer, &untold, work.now)?;
            work.alerts.iter().try_for_each(|alert| writer.alert(alert))?;
            work.events.iter().try_for_each(|event| writer.event(event))?;
            for lane in Lane::ALL {
                ledger::unwritten(writer, boot, lane, &work.unwritten[lane.index()])?;
            }
            work.marks.iter().try_for_each(|mark| writer.mark(mark, work.now))?;
            for mark in &work.source_marks {
                withheld::write(writer, mark, work.now)?;
            }
            telling.write(writer)?;
            clock.iter().try_for_each(|clock| write::clock(writer.tx, writer.epoch, clock))
        })?;
        self.has_untold = false;
        self.untold = telling.into_untold();
        for mark in &work.source_marks {
            // What is settled can be forgotten from there on.
            if let Some((lane, first)) = mark.first_after(&self.stored_withheld) {
                let forgotten = &mut self.forgotten[lane.index()];
                *forgotten = first.min(*forgotten);
            }
            self.stored_withheld.apply(mark);
        }
        Ok(first)
    }

    /// What is to be told of the messages that were given up, and of what was not told before.
    fn telling(&self, work: &Work) -> rusqlite::Result<Telling> {
        let mut telling = Telling::begin(self);
        let withheld = work.source_marks.iter().flat_map(SourceMark::gaps);
        for gap in work.marks.iter().flat_map(|mark| &mark.gaps).chain(withheld) {
            telling.give_up(self, gap, work.now)?;
        }
        let of_events = |mark: &Mark| mark.lane == Lane::Events && mark.delivered > 0;
        let get_through = work.marks.iter().any(of_events)
            || work.source_marks.iter().any(SourceMark::delivers_events);
        telling.tell(get_through, work.now);
        Ok(telling)
    }

    /// Runs one transaction, in which this start of the agent and new sources are written too.
    pub(crate) fn write<T>(
        &mut self,
        write: impl FnOnce(&mut LaneWriter<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        if self.place == Place::Lost {
            return Err(rusqlite::Error::InvalidPath("there is no store".into()));
        }
        let mut lanes = self.lanes;
        let tx = self.connection.transaction()?;
        if !self.is_boot_written {
            write::boot(&tx, &self.identity, self.epoch, Seq(self.last_seq + 1))?;
        }
        let new_sources = self.sources.since(self.sources_stored);
        write::sources(&tx, self.sources_stored, &new_sources)?;
        let (last_seq, epoch) = (self.last_seq, self.epoch);
        let doubtful = self.doubtful;
        let mut writer = LaneWriter { tx: &tx, lanes: &mut lanes, last_seq, epoch, doubtful };
        let written = write(&mut writer)?;
        let last_seq = writer.last_seq;
        if last_seq >= MAX_PLACE {
            // No store gets there by counting.
            return Err(bounds::out_of_bounds(0));
        }
        write::lanes(&tx, &self.lanes, &lanes)?;
        tx.commit()?;
        self.lanes = lanes;
        self.last_seq = last_seq;
        self.sources_stored += new_sources.len();
        self.is_boot_written = true;
        Ok(written)
    }

    /// Lets go of a damaged file, without a last checkpoint: its log is part of what can be read.
    pub(crate) fn leave(&mut self) -> rusqlite::Result<()> {
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        self.connection = Connection::open_in_memory()?;
        self.place = Place::Lost;
        self.growing = None;
        Ok(())
    }

    /// Whether no start of the agent ever wrote to the file.
    pub(crate) fn is_new(&self) -> bool {
        self.place == Place::File && self.is_new
    }

    /// The start of the agent in which the record `seq` was written.
    pub(crate) fn boot_of(&self, seq: u64) -> BootRow {
        load::boot_of(&self.boots, seq)
    }

    /// The last time that was trusted: of the newest record, or of when the clock was last found set. A
    /// store that cannot tell knows of none.
    pub(crate) fn last_trusted(&self) -> Option<Wall> {
        load::last_trusted(&self.connection, &self.boots, &self.timeline)
            .inspect_err(|error| tracing::warn!(%error, "the last trusted time is not known"))
            .ok()
            .flatten()
    }

    /// The sources, by number.
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Forgets the starts of the agent, and of the kernel, of which no record from `first` on is.
    pub(crate) fn forget_boots(&mut self, first: u64) -> rusqlite::Result<()> {
        let kept = self.boots.partition_point(|boot| boot.first_seq <= first).saturating_sub(1);
        if kept == 0 {
            return Ok(());
        }
        let (boot, epoch) = (self.boots[kept].boot, self.boots[kept].epoch);
        self.write(|writer| {
            writer.tx.execute("DELETE FROM boots WHERE boot < ?1", [boot.counter()])?;
            writer.tx.execute("DELETE FROM kernel_boots WHERE epoch < ?1", [epoch.0])?;
            writer.tx.execute("DELETE FROM clock WHERE epoch < ?1", [epoch.0])
        })?;
        self.boots.drain(..kept);
        self.timeline.forget_before(epoch);
        Ok(())
    }

    /// Changes what is withheld; it is written with the next commit.
    pub(crate) fn apply(&mut self, mark: &SourceMark) {
        self.withheld.apply(mark);
        // Nothing behind a new watermark was looked at yet.
        if let SourceMark::Withhold { lane, after, .. } = mark {
            let given_up = &mut self.given_up[lane.index()];
            *given_up = (*given_up).min(*after);
        }
    }

    /// Nothing of these withheld sources is in hand any more: it may be given up again.
    pub(crate) fn dropped(&mut self, lane: Lane, sources: &[u32]) {
        self.withheld.dropped(lane, sources);
        self.given_up[lane.index()] = 0;
    }

    /// Bytes in use and bytes on disk.
    pub(crate) fn size(&self) -> rusqlite::Result<(u64, u64)> {
        let pragma =
            |name: &str| self.connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
        let (pages, free, page) =
            (pragma("page_count")?, pragma("freelist_count")?, pragma("page_size")?);
        Ok((pages.saturating_sub(free) * page, pages * page))
    }
}
