//! The database for its only writer: the connection, and the facts about its content needed to
//! append without reading.
//!
//! Every change is a [`CommitWork`] in a transaction. The facts in memory change only after the commit,
//! so a refused commit can be tried again.

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
use super::untold::{GapReports, UnreportedGaps};
use super::withheld::{self, SourceMark, Withheld};
use super::write::{self, LaneWriter};
use super::{carry, ledger, schema};
use crate::platform::pulse::Pulse;

/// The writer: this start of the agent, on this run of the kernel.
#[derive(Debug, Clone)]
pub(crate) struct WriterIdentity {
    /// The start.
    pub(crate) boot: Boot,
    /// The thing of this start's records.
    pub(crate) thing: Box<str>,
    /// The run of the kernel.
    pub(crate) kernel_boot_id: String,
    /// Wall minus monotonic time at the start, right or wrong.
    pub(crate) reference_ms: i64,
}

/// An alert in its stored form.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AlertRow {
    pub(crate) rule: Box<str>,
    pub(crate) source: u32,
    pub(crate) raised: bool,
    pub(crate) severity: &'static str,
    pub(crate) value: Value,
    /// The anomaly score: the distance from earlier values; `None` unless the rule computes a
    /// score.
    pub(crate) score: Option<f64>,
    pub(crate) window: Option<(Wall, Wall)>,
    pub(crate) time: Wall,
    /// True if the times lie on the reference axis of this kernel run, and are corrected when read.
    pub(crate) derived: bool,
}

/// An event in its stored form.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EventRow {
    pub(crate) event: Event,
    /// Time of the event.
    pub(crate) mono: Mono,
}

/// Bytes reserved for a reading. Most readings take a third, and readings with intervals two
/// thirds.
const READING_BYTES: u64 = 64;
/// Bytes reserved for an alert or an event. The text is bounded by the names of sources and rules.
const DECIDED_BYTES: u64 = 1 << 10;
/// Bytes reserved for the pages added by any commit: inner pages, marks, the clock.
const COMMIT_BYTES: u64 = 32 << 10;

/// The changes of a transaction.
#[derive(Debug, Default)]
pub(crate) struct CommitWork {
    pub(crate) readings: Vec<Reading>,
    pub(crate) alerts: Vec<AlertRow>,
    pub(crate) events: Vec<EventRow>,
    /// By lane: records that arrived after the others and were given up before they could be
    /// written.
    pub(crate) unwritten: [Unwritten; 3],
    pub(crate) marks: Vec<Mark>,
    /// Changes of the withheld sources: withheld from now on, settled, or released.
    pub(crate) source_marks: Vec<SourceMark>,
    /// True if the clock was set or stepped.
    pub(crate) clock: bool,
    /// Time of the last addition.
    pub(crate) now: Mono,
}

/// Records given up before they could be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Unwritten {
    pub(crate) count: u64,
    /// Arrival of the first and the last record, by the clock of the time.
    pub(crate) span: Option<(Wall, Wall)>,
    /// Arrival of the last record.
    pub(crate) until: Mono,
}

impl CommitWork {
    /// Returns the number of alerts and events.
    pub(crate) fn count_decided(&self) -> usize {
        self.alerts.len() + self.events.len()
    }

    /// Returns an upper bound of the bytes in the database.
    pub(crate) fn estimate_bytes(&self) -> u64 {
        let readings = self.readings.len() as u64 * READING_BYTES;
        readings + self.count_decided() as u64 * DECIDED_BYTES + COMMIT_BYTES
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

/// The place of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreLocation {
    /// In the file.
    File,
    /// In memory, while the file is missing or takes no writes.
    Memory,
    /// The file was damaged and is not replaced yet; the facts in memory are still valid.
    Lost,
}

/// The progress of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Counter of the last start of the agent with a write.
    pub(crate) boot: u32,
    /// The last place assigned to a record.
    pub(crate) seq: u64,
}

/// The connection, and the facts about its content.
pub(crate) struct Database {
    pub(crate) connection: Connection,
    pub(crate) place: StoreLocation,
    pub(crate) lanes: [LaneRow; 3],
    pub(crate) boots: Vec<BootRow>,
    pub(crate) timeline: Timeline,
    pub(crate) epoch: Epoch,
    pub(crate) identity: WriterIdentity,
    pub(crate) last_seq: u64,
    /// True if no start of the agent ever wrote to the file.
    is_new: bool,
    /// The newest row of the ledger, while further gaps can extend the row.
    pub(crate) growing: Option<ledger::Growing>,
    sources: Arc<Sources>,
    sources_stored: usize,
    /// Beats in long statements.
    pulse: Pulse,
    is_boot_written: bool,
    /// By lane: records up to here were in the publisher's hands when the store was damaged. The
    /// disk may have lost them, and then they count as dropped already.
    pub(crate) doubtful: [Seq; 3],
    /// True if the ledger has rows without an event.
    pub(crate) has_untold: bool,
    /// Gaps whose event was given up.
    pub(crate) untold: UnreportedGaps,
    /// The withheld sources after the next commit.
    pub(crate) withheld: Withheld,
    /// The withheld sources after the last commit.
    pub(crate) stored_withheld: Withheld,
    /// By lane, while a source is withheld: all remaining records before this place are withheld.
    pub(crate) forgotten: [u64; 3],
    /// By lane: withheld records before this place are in hand, or were given up.
    pub(crate) given_up: [u64; 3],
}

impl Database {
    /// Opens the store, migrates the tables, and begins a start of the agent. The cost does not
    /// depend on the number of records (P9).
    pub(crate) fn open_database(
        path: &Path,
        identity: &WriterIdentity,
        sources: Arc<Sources>,
        pulse: &Pulse,
    ) -> rusqlite::Result<Self> {
        let connection = schema::open_writer(path, pulse)?;
        let mut database = Self::load_database(connection, identity, sources, pulse)?;
        let last_boot = database.boots.iter().map(|row| row.boot.counter()).max();
        bounds::check_headroom(database.last_seq, last_boot.unwrap_or(0))?;
        database.begin_boot()?;
        database.number_sources()?;
        carry::forget_steps(&database.connection);
        Ok(database)
    }

    /// Opens the store again within a start of the agent that began on an earlier connection.
    pub(crate) fn reopen_database(path: &Path, before: &Self) -> rusqlite::Result<Self> {
        let sources = Arc::clone(&before.sources);
        let connection = schema::open_writer(path, &before.pulse)?;
        let mut database =
            Self::load_database(connection, &before.identity, sources, &before.pulse)?;
        database.number_sources()?;
        carry::forget_steps(&database.connection);
        // The sources in memory include the marks waiting for the next commit, and the records in
        // hand.
        database.withheld = before.withheld.clone();
        database.epoch = before.epoch;
        database.is_boot_written = true;
        Ok(database)
    }

    /// Returns an empty database in memory, in place of a file that cannot be opened.
    pub(crate) fn open_placeholder(
        identity: &WriterIdentity,
        sources: Arc<Sources>,
        pulse: &Pulse,
    ) -> rusqlite::Result<Self> {
        let connection = Connection::open_in_memory()?;
        schema::migrate_tables(&connection)?;
        let mut database = Self::load_database(connection, identity, sources, pulse)?;
        database.begin_boot()?;
        database.place = StoreLocation::Memory;
        Ok(database)
    }

    /// Returns an empty database in memory that continues with the next places and the same facts.
    pub(crate) fn go_on_in_memory(&self) -> rusqlite::Result<Self> {
        let connection = Connection::open_in_memory()?;
        schema::migrate_tables(&connection)?;
        self.stored_withheld.write_withheld(&connection)?;
        Ok(Self {
            connection,
            place: StoreLocation::Memory,
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

    /// Connects to the file again. Returns true if the file is the same: its last place is not
    /// below the last place known here, and not above `last_seq`.
    pub(crate) fn connect_again(&mut self, path: &Path, last_seq: u64) -> rusqlite::Result<bool> {
        let connection = schema::open_writer(path, &self.pulse)?;
        let there = load::last_seq(&connection, &load::read_lanes(&connection)?)?;
        let is_same = (self.last_seq..=last_seq).contains(&there);
        if is_same {
            self.connection = connection;
        }
        Ok(is_same)
    }

    /// Returns the bytes of free pages inside the database.
    pub(crate) fn free_bytes(&self) -> rusqlite::Result<u64> {
        let (used, all) = self.measure_size()?;
        Ok(all - used)
    }

    fn load_database(
        connection: Connection,
        identity: &WriterIdentity,
        sources: Arc<Sources>,
        pulse: &Pulse,
    ) -> rusqlite::Result<Self> {
        let lanes = load::read_lanes(&connection)?;
        let boots = load::read_boots(&connection)?;
        let last_seq = load::last_seq(&connection, &lanes)?;
        let stored_withheld = Withheld::load_withheld(&connection)?;
        load::check_accounts(&lanes, &stored_withheld)?;
        Ok(Self {
            place: StoreLocation::File,
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
            untold: UnreportedGaps::load_untold(&connection)?,
            connection,
        })
    }

    /// Registers the stored sources under their numbers. Comes last in opening: if the store turns
    /// out to be damaged, the registry must not keep its sources for the next store.
    fn number_sources(&mut self) -> rusqlite::Result<()> {
        self.sources_stored = load::load_sources(&self.connection, &self.sources)?;
        Ok(())
    }

    /// Returns the progress of the store at `path`; `None` if no start of the agent wrote to the
    /// store.
    pub(crate) fn read_reached(path: &Path) -> rusqlite::Result<Option<Reached>> {
        let connection = schema::open_reader(path)?;
        let last = "SELECT boot FROM boots ORDER BY boot DESC LIMIT 1";
        let last = connection.query_row(last, [], |row| bounds::read_start(row, 0)).optional()?;
        let Some(boot) = last else { return Ok(None) };
        let seq = load::last_seq(&connection, &load::read_lanes(&connection)?)?;
        bounds::check_headroom(seq, boot)?;
        Ok(Some(Reached { boot, seq }))
    }

    /// Begins this start of the agent in memory. The start is written with the first commit, so a
    /// store on a full disk can be opened.
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
            // A clock set back must not move the axis of the rules back.
            let floor = load::newest_reference(&self.connection, &self.boots, &self.timeline)?;
            let reference_ms = &mut self.identity.reference_ms;
            *reference_ms = floor.map_or(*reference_ms, |floor| floor.0.max(*reference_ms));
            self.timeline.add_boot(self.epoch, *reference_ms);
        }
        // If the counter was lost, the starts found in a damaged store set it right.
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
    pub(crate) fn commit_work(&mut self, work: &CommitWork) -> rusqlite::Result<Seq> {
        let first = Seq(self.last_seq + 1);
        let clock = work.clock.then(|| self.timeline.segments(self.epoch).to_vec());
        let (boot, has_untold) = (self.identity.boot, self.has_untold);
        let untold = if has_untold { ledger::read_untold(self)? } else { Vec::new() };
        let telling = self.gather_gap_reports(work)?;
        self.run_transaction(|writer| {
            writer.write_readings(&work.readings)?;
            ledger::write_untold_events(writer, &untold, work.now)?;
            work.alerts.iter().try_for_each(|alert| writer.write_alert(alert))?;
            work.events.iter().try_for_each(|event| writer.write_event(event))?;
            for lane in Lane::ALL {
                ledger::write_unwritten(writer, boot, lane, &work.unwritten[lane.index()])?;
            }
            work.marks.iter().try_for_each(|mark| writer.write_watermark(mark, work.now))?;
            for mark in &work.source_marks {
                withheld::write_source_mark(writer, mark, work.now)?;
            }
            telling.write_reports(writer)?;
            clock.iter().try_for_each(|clock| write::write_clock(writer.tx, writer.epoch, clock))
        })?;
        self.has_untold = false;
        self.untold = telling.into_untold();
        for mark in &work.source_marks {
            // Settled records can be forgotten from here on.
            if let Some((lane, first)) = mark.first_after(&self.stored_withheld) {
                let forgotten = &mut self.forgotten[lane.index()];
                *forgotten = first.min(*forgotten);
            }
            self.stored_withheld.apply_mark(mark);
        }
        Ok(first)
    }

    /// Gathers the events about given-up messages, and about gaps not reported yet.
    fn gather_gap_reports(&self, work: &CommitWork) -> rusqlite::Result<GapReports> {
        let mut telling = GapReports::from_untold(self);
        let withheld = work.source_marks.iter().flat_map(SourceMark::quarantine_gaps);
        for gap in work.marks.iter().flat_map(|mark| &mark.gaps).chain(withheld) {
            telling.report_quarantined(self, gap, work.now)?;
        }
        let of_events = |mark: &Mark| mark.lane == Lane::Events && mark.delivered > 0;
        let get_through = work.marks.iter().any(of_events)
            || work.source_marks.iter().any(SourceMark::delivers_events);
        telling.report_if_due(get_through, work.now);
        Ok(telling)
    }

    /// Runs a transaction. Also writes this start of the agent and new sources, if they are not
    /// stored yet.
    pub(crate) fn run_transaction<T>(
        &mut self,
        write: impl FnOnce(&mut LaneWriter<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        if self.place == StoreLocation::Lost {
            return Err(rusqlite::Error::InvalidPath("there is no store".into()));
        }
        let mut lanes = self.lanes;
        let tx = self.connection.transaction()?;
        if !self.is_boot_written {
            write::write_boot(&tx, &self.identity, self.epoch, Seq(self.last_seq + 1))?;
        }
        let new_sources = self.sources.list_since(self.sources_stored);
        write::write_sources(&tx, self.sources_stored, &new_sources)?;
        let (last_seq, epoch) = (self.last_seq, self.epoch);
        let mut writer = LaneWriter { tx: &tx, lanes: &mut lanes, last_seq, epoch };
        let written = write(&mut writer)?;
        let last_seq = writer.last_seq;
        if last_seq >= MAX_PLACE {
            // No store gets there by counting.
            return Err(bounds::out_of_bounds(0));
        }
        write::write_lanes(&tx, &self.lanes, &lanes)?;
        tx.commit()?;
        self.lanes = lanes;
        self.last_seq = last_seq;
        self.sources_stored += new_sources.len();
        self.is_boot_written = true;
        Ok(written)
    }

    /// Closes a damaged file without a checkpoint: its log is needed for the salvage.
    pub(crate) fn abandon_file(&mut self) -> rusqlite::Result<()> {
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        self.connection = Connection::open_in_memory()?;
        self.place = StoreLocation::Lost;
        self.growing = None;
        Ok(())
    }

    /// Returns true if no start of the agent ever wrote to the file.
    pub(crate) fn is_new(&self) -> bool {
        self.place == StoreLocation::File && self.is_new
    }

    /// Returns the start of the agent that wrote the record `seq`.
    pub(crate) fn boot_of(&self, seq: u64) -> BootRow {
        load::boot_of(&self.boots, seq)
    }

    /// Returns the last trusted time: the time of the newest record, or of the last moment with a
    /// set clock. `None` if the store cannot be read.
    pub(crate) fn last_trusted(&self) -> Option<Wall> {
        load::last_trusted(&self.connection, &self.boots, &self.timeline)
            .inspect_err(|error| tracing::warn!(%error, "the last trusted time is not known"))
            .ok()
            .flatten()
    }

    /// The sources, by number.
    pub(crate) fn known_sources(&self) -> &Sources {
        &self.sources
    }

    /// Deletes the starts of the agent, and the runs of the kernel, without any record from `first`
    /// on.
    pub(crate) fn forget_boots(&mut self, first: u64) -> rusqlite::Result<()> {
        let kept = self.boots.partition_point(|boot| boot.first_seq <= first).saturating_sub(1);
        if kept == 0 {
            return Ok(());
        }
        let (boot, epoch) = (self.boots[kept].boot, self.boots[kept].epoch);
        self.run_transaction(|writer| {
            writer.tx.execute("DELETE FROM boots WHERE boot < ?1", [boot.counter()])?;
            writer.tx.execute("DELETE FROM kernel_boots WHERE epoch < ?1", [epoch.0])?;
            writer.tx.execute("DELETE FROM clock WHERE epoch < ?1", [epoch.0])
        })?;
        self.boots.drain(..kept);
        self.timeline.forget_before(epoch);
        Ok(())
    }

    /// Changes the withheld sources in memory. The next commit writes the change.
    pub(crate) fn apply_source_mark(&mut self, mark: &SourceMark) {
        self.withheld.apply_mark(mark);
        // Retention has not looked behind a new watermark yet.
        if let SourceMark::Withhold { lane, after, .. } = mark {
            let given_up = &mut self.given_up[lane.index()];
            *given_up = (*given_up).min(*after);
        }
    }

    /// Notes that no record of these withheld sources is in hand any more, so all may be given up
    /// again.
    pub(crate) fn forget_in_hand(&mut self, lane: Lane, sources: &[u32]) {
        self.withheld.forget_in_hand(lane, sources);
        self.given_up[lane.index()] = 0;
    }

    /// Checks the accounts, see [`load::check_accounts`].
    pub(crate) fn check_accounts(&self) -> rusqlite::Result<()> {
        load::check_accounts(&self.lanes, &self.stored_withheld)
    }

    /// Returns the bytes in use, and the bytes of the file.
    pub(crate) fn measure_size(&self) -> rusqlite::Result<(u64, u64)> {
        let pragma =
            |name: &str| self.connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
        let (pages, free, page) =
            (pragma("page_count")?, pragma("freelist_count")?, pragma("page_size")?);
        Ok((pages.saturating_sub(free) * page, pages * page))
    }
}
