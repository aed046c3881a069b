//! The steps of a salvage. Each is a durable transaction of the new database, which holds the state
//! of the salvage beside the records: an interrupted salvage continues behind its last step.

use std::time::Duration;

use pulsegate_core::record::lane::Lane;
use pulsegate_core::time::Mono;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Extent, Holes};
use crate::db::bounds;
use crate::db::salvage::{SalvageProgress, TellProgress};
use crate::platform::clock;

/// Records of a step: a quarter of a megabyte, as fast on a card as a few pages. Less in tests, to
/// make their stores take several steps.
pub(super) const STEP_ROWS: u64 = if cfg!(test) { 2_000 } else { 10_000 };
/// A step ends after this time even with few records: a device with only minutes of power loses
/// little work, and a part full of damage costs no commit for each place.
const STEP_TIME: Duration = Duration::from_secs(2);
/// First distance of a leap in the walk through a damaged lane.
const FIRST_LEAP: u64 = 16;

/// The tables of the new database with the [`SalvageState`]. The file keeps them when moved into its
/// place, and opening the file there drops them.
const TABLES: &str = "
CREATE TABLE salvage(
    set_aside TEXT NOT NULL, with_readings INTEGER NOT NULL, account_told INTEGER NOT NULL,
    left_rows INTEGER NOT NULL, read_rows INTEGER NOT NULL, lane INTEGER NOT NULL, place INTEGER NOT NULL,
    leap INTEGER NOT NULL, back_from INTEGER, back_at INTEGER, closed INTEGER NOT NULL
) STRICT;
CREATE TABLE salvage_holes(
    id INTEGER PRIMARY KEY, lane INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL
) STRICT;";
const DROP_TABLES: &str = "DROP TABLE IF EXISTS salvage; DROP TABLE IF EXISTS salvage_holes;";

/// The state of a salvage. If there is a state, the frame is carried over.
#[derive(Debug)]
pub(crate) struct SalvageState {
    /// The name of the damaged database.
    pub(crate) set_aside: String,
    pub(crate) extent: Extent,
    /// True if the damaged database has the account of each lane.
    pub(super) is_account_told: bool,
    /// Number of invalid rows.
    pub(super) left_rows: u64,
    /// Number of rows read.
    pub(super) rows: u64,
    /// Index of the lane under way; earlier lanes are done.
    pub(super) lane: usize,
    pub(super) walk: DamageWalk,
    /// By lane.
    pub(super) holes: [Holes; 3],
    /// True once the accounts are closed, the last step.
    pub(super) is_closed: bool,
}

/// The position of a walk through a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DamageWalk {
    /// The next place to read; 0 before the walk.
    pub(super) at: u64,
    /// Number of places to leap over if the next place is damaged.
    pub(super) leap: u64,
    /// Set after a leap, while reading backwards: the place after the leap, and the next place to
    /// read.
    pub(super) back: Option<(u64, u64)>,
}

impl DamageWalk {
    /// Begins a walk at the place `at`, or behind damage.
    pub(super) fn begin_at(at: u64) -> Self {
        Self { at, leap: FIRST_LEAP, back: None }
    }
}

impl SalvageState {
    pub(super) fn begin_salvage(set_aside: String, extent: Extent) -> Self {
        let (walk, holes) = (DamageWalk::begin_at(0), Default::default());
        let (left_rows, rows, lane) = (0, 0, 0);
        let (is_account_told, is_closed) = (false, false);
        Self { set_aside, extent, is_account_told, left_rows, rows, lane, walk, holes, is_closed }
    }

    /// Reads the state of the salvage that writes this database; `None` before its first step.
    ///
    /// # Errors
    /// Also when a number is out of bounds.
    pub(crate) fn load_reached(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        let is_there = "SELECT 1 FROM sqlite_schema WHERE name = 'salvage'";
        if connection.query_row(is_there, [], |_| Ok(())).optional()?.is_none() {
            return Ok(None);
        }
        let select = "SELECT set_aside, with_readings, account_told, left_rows, read_rows, lane, place, leap,
            back_from, back_at, closed FROM salvage";
        let reached = connection.query_row(select, [], |row| {
            let with_readings = row.get(1)?;
            let back = match row.get::<_, Option<u64>>(8)? {
                Some(_) => Some((bounds::read_place(row, 8)?, bounds::read_place(row, 9)?)),
                None => None,
            };
            Ok(Self {
                set_aside: bounds::read_name(row, 0)?.to_owned(),
                extent: if with_readings { Extent::Everything } else { Extent::WithoutReadings },
                is_account_told: row.get(2)?,
                left_rows: bounds::read_place(row, 3)?,
                rows: bounds::read_place(row, 4)?,
                lane: row.get(5)?,
                walk: DamageWalk {
                    at: bounds::read_place(row, 6)?,
                    leap: row.get::<_, u64>(7)?.max(1),
                    back,
                },
                holes: Default::default(),
                is_closed: row.get(10)?,
            })
        });
        let Some(mut reached) = reached.optional()? else { return Ok(None) };
        let mut select =
            connection.prepare("SELECT lane, first, last FROM salvage_holes ORDER BY id")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (first, last) = (bounds::read_place(row, 1)?, bounds::read_place(row, 2)?);
            let holes = reached.holes.get_mut(row.get::<_, usize>(0)?);
            holes.ok_or_else(|| bounds::out_of_bounds(0))?.0.push((first, last));
        }
        Ok(Some(reached))
    }

    fn save_reached(&self, into: &Connection) -> rusqlite::Result<()> {
        let (place, leap, back) = (self.walk.at, self.walk.leap, self.walk.back);
        into.execute("DELETE FROM salvage", [])?;
        into.execute(
            "INSERT INTO salvage VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                self.set_aside,
                self.extent == Extent::Everything,
                self.is_account_told,
                self.left_rows,
                self.rows,
                self.lane,
                place,
                leap,
                back.map(|(from, _)| from),
                back.map(|(_, at)| at),
                self.is_closed
            ],
        )?;
        Ok(())
    }
}

/// Drops the state of the salvage, once the database is in its place. If the drop fails, the next
/// start tries again.
pub(crate) fn forget_steps(connection: &Connection) {
    if let Err(error) = connection.execute_batch(DROP_TABLES) {
        tracing::debug!(%error, "the store still tells of its salvage");
    }
}

/// Writes the steps of a salvage.
pub(super) struct Steps<'a> {
    into: &'a Connection,
    pub(super) reached: SalvageState,
    /// The holes in the new database.
    written_holes: [Holes; 3],
    /// Upper bound of the number of records.
    pub(super) most_rows: u64,
    /// Rows since the last step, and its time.
    rows: u64,
    since: Mono,
    tell: TellProgress<'a>,
}

impl<'a> Steps<'a> {
    /// Begins the step behind the state `reached`, in a transaction.
    pub(super) fn begin_steps(
        into: &'a Connection,
        reached: SalvageState,
        tell: TellProgress<'a>,
    ) -> rusqlite::Result<Self> {
        into.execute_batch("BEGIN")?;
        let (written_holes, since) = (reached.holes.clone(), clock::mono());
        Ok(Self { into, reached, written_holes, most_rows: 0, rows: 0, since, tell })
    }

    /// Counts rows read, and the invalid rows among them.
    pub(super) fn note_rows(&mut self, rows: u64, left_rows: u64) {
        self.rows += rows;
        self.reached.rows += rows;
        self.reached.left_rows += left_rows;
    }

    /// Ends the step if large or long.
    pub(super) fn end_if_due(&mut self) -> rusqlite::Result<()> {
        let is_due = self.rows >= STEP_ROWS || clock::mono().since(self.since) >= STEP_TIME;
        if is_due { self.end_step() } else { Ok(()) }
    }

    /// Ends the step and begins the next.
    pub(super) fn end_step(&mut self) -> rusqlite::Result<()> {
        self.save_step()?;
        self.into.execute_batch("COMMIT; BEGIN")?;
        (self.rows, self.since) = (0, clock::mono());
        let done = self.reached.rows;
        (self.tell)(SalvageProgress { done, of: self.most_rows.max(done) });
        Ok(())
    }

    /// Ends the last step.
    pub(super) fn close_salvage(mut self) -> rusqlite::Result<u64> {
        self.reached.is_closed = true;
        self.save_step()?;
        self.into.execute_batch("COMMIT")?;
        Ok(self.reached.left_rows)
    }

    fn save_step(&mut self) -> rusqlite::Result<()> {
        self.reached.save_reached(self.into)?;
        if self.written_holes == self.reached.holes {
            return Ok(());
        }
        self.into.execute("DELETE FROM salvage_holes", [])?;
        let mut insert = self
            .into
            .prepare("INSERT INTO salvage_holes(lane, first, last) VALUES (?1, ?2, ?3)")?;
        for lane in Lane::ALL {
            for (first, last) in &self.reached.holes[lane.index()].0 {
                insert.execute(params![lane.index(), first, last])?;
            }
        }
        self.written_holes.clone_from(&self.reached.holes);
        Ok(())
    }
}

/// Makes the tables of the steps.
pub(super) fn make_tables(into: &Connection) -> rusqlite::Result<()> {
    into.execute_batch(TABLES)
}
