//! Gaps that are still to be told: those whose event was itself given up before anybody heard of it.
//!
//! An event that tells of a gap and is given up makes no event of its own: what it told is folded into one
//! growing row for each lane and reason, and its own loss with it. The rows are told as events when events
//! get through again, or when some time has passed, and may be folded back then. So a cloud that takes no
//! events costs a bounded number of rows, and what it hears in the end adds up to what was dropped (P3).

use std::time::Duration;

use pulsegate_core::record::event::{Event, GapMembers};
use pulsegate_core::record::lane::{Gap, Lane};
use pulsegate_core::time::Mono;
use rusqlite::{Connection, Transaction, params};

use super::database::{Database, EventRow};
use super::ledger;
use super::write::LaneWriter;

/// Events get through: what is untold is told then, but not with each of them.
const TELL_AFTER_DELIVERY: Duration = Duration::from_secs(60);
/// Nothing tells whether events get through: it is tried.
const TELL_ANYWAY: Duration = Duration::from_secs(600);

/// The rows, and when something of them was told last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Untold {
    rows: Vec<GapMembers>,
    told_at: Option<Mono>,
}

/// What a transaction changes of the rows, and the events that it writes.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    next: Untold,
    is_changed: bool,
    events: Vec<EventRow>,
}

impl Untold {
    /// Reads the rows of a store.
    pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let select = "SELECT members FROM untold_gaps ORDER BY lane, reason";
        let mut select = connection.prepare(select)?;
        let rows = select.query_map([], |row| row.get::<_, String>(0))?;
        let rows: rusqlite::Result<Vec<String>> = rows.collect();
        Ok(Self {
            rows: rows?.iter().filter_map(|row| GapMembers::read(row)).collect(),
            told_at: None,
        })
    }

    /// Whether it is time to try whether the cloud takes an event.
    pub(crate) fn is_due(&self, now: Mono) -> bool {
        self.is_due_after(TELL_ANYWAY, now)
    }

    fn is_due_after(&self, pause: Duration, now: Mono) -> bool {
        !self.rows.is_empty() && self.told_at.is_none_or(|at| now.since(at) >= pause)
    }

    /// Writes the rows in the place of those that are there.
    pub(crate) fn write(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        tx.execute("DELETE FROM untold_gaps", [])?;
        for row in &self.rows {
            tx.execute(
                "INSERT OR REPLACE INTO untold_gaps VALUES (?1, ?2, ?3)",
                params![row.lane, row.reason, row.to_text()],
            )?;
        }
        Ok(())
    }

    fn fold(&mut self, gap: GapMembers, now: Mono) {
        // It was tried just now.
        self.told_at.get_or_insert(now);
        let alike = |row: &&mut GapMembers| row.lane == gap.lane && row.reason == gap.reason;
        match self.rows.iter_mut().find(alike) {
            Some(row) => row.widen(&gap),
            None => self.rows.push(gap),
        }
    }
}

impl Telling {
    /// Begins with what is untold.
    pub(crate) fn begin(database: &Database) -> Self {
        Self { next: database.untold.clone(), is_changed: false, events: Vec::new() }
    }

    /// Folds in what the events in `gap` told that are given up with it. Returns whether there are any.
    pub(crate) fn fold_events_of(
        &mut self,
        database: &Database,
        gap: &Gap,
        now: Mono,
    ) -> rusqlite::Result<bool> {
        if gap.lane != Lane::Events {
            return Ok(false);
        }
        let select = "SELECT members FROM events WHERE event = 'gap' AND seq BETWEEN ?1 AND ?2";
        let mut select = database.connection.prepare_cached(select)?;
        let mut rows = select.query(params![gap.first.0, gap.last.0])?;
        let mut found = false;
        while let Some(row) = rows.next()? {
            found = true;
            self.is_changed = true;
            if let Some(told) = GapMembers::read(row.get_ref(0)?.as_str()?) {
                self.next.fold(told, now);
            }
        }
        Ok(found)
    }

    /// Tells of a message that was given up because of the broker. One that held events of gaps is folded in
    /// with them: the broker hung up on just such an event.
    pub(crate) fn give_up(
        &mut self,
        database: &Database,
        gap: &Gap,
        now: Mono,
    ) -> rusqlite::Result<()> {
        let held_gaps = self.fold_events_of(database, gap, now)?;
        let members = ledger::gap_members(database, gap)?;
        if held_gaps {
            self.next.fold(members, now);
        } else {
            self.events.push(EventRow { event: Event::Gap(members), mono: now });
        }
        Ok(())
    }

    /// Tells what is untold, if it is time: events get through (`delivered`), or nobody knows for long.
    pub(crate) fn tell(&mut self, delivered: bool, now: Mono) {
        let pause = if delivered { TELL_AFTER_DELIVERY } else { TELL_ANYWAY };
        if !self.next.is_due_after(pause, now) {
            return;
        }
        let rows = std::mem::take(&mut self.next.rows);
        let event = |row: GapMembers| EventRow { event: Event::Gap(row), mono: now };
        self.events.extend(rows.into_iter().map(event));
        (self.next.told_at, self.is_changed) = (Some(now), true);
    }

    /// Writes the events, and the rows that are left.
    pub(crate) fn write(&self, writer: &mut LaneWriter<'_>) -> rusqlite::Result<()> {
        self.events.iter().try_for_each(|event| writer.event(event))?;
        if self.is_changed { self.next.write(writer.tx) } else { Ok(()) }
    }

    /// The rows as they are after the transaction.
    pub(crate) fn into_untold(self) -> Untold {
        self.next
    }
}
