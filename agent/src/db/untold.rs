//! Gaps still to be reported, because their event was itself given up before delivery.
//!
//! A given-up event about a gap makes no event of its own. Its members, and its own loss, are
//! merged into a growing row for each lane and reason. The rows become events when events are
//! delivered again or after some time, and may be merged back then. A cloud that takes no events
//! costs a bounded number of rows, and in the end the reported gaps add up to all dropped records
//! (P3).

use std::time::Duration;

use pulsegate_core::record::event::{Event, GapMembers};
use pulsegate_core::record::lane::{Gap, Lane};
use pulsegate_core::time::Mono;
use rusqlite::{Connection, Transaction, params};

use super::database::{Database, EventRow};
use super::ledger;
use super::write::LaneWriter;

/// Pause between two reports while events are delivered.
const TELL_AFTER_DELIVERY: Duration = Duration::from_secs(60);
/// Pause between two reports while nothing shows that events are delivered.
const TELL_ANYWAY: Duration = Duration::from_secs(600);

/// The rows, and the time of the last report.
#[derive(Debug, Clone, Default)]
pub(crate) struct UnreportedGaps {
    rows: Vec<GapMembers>,
    told_at: Option<Mono>,
}

/// The changes of the rows in a transaction, and the events to write.
#[derive(Debug, Default)]
pub(crate) struct GapReports {
    next: UnreportedGaps,
    is_changed: bool,
    events: Vec<EventRow>,
}

impl UnreportedGaps {
    /// Reads the rows of a store.
    pub(crate) fn load_untold(connection: &Connection) -> rusqlite::Result<Self> {
        let select = "SELECT members FROM untold_gaps ORDER BY lane, reason";
        let mut select = connection.prepare(select)?;
        let rows = select.query_map([], |row| row.get::<_, String>(0))?;
        let rows: rusqlite::Result<Vec<String>> = rows.collect();
        Ok(Self {
            rows: rows?.iter().filter_map(|row| GapMembers::from_members(row)).collect(),
            told_at: None,
        })
    }

    /// Returns true if another report is due, delivered or not.
    pub(crate) fn is_due(&self, now: Mono) -> bool {
        self.is_due_after(TELL_ANYWAY, now)
    }

    fn is_due_after(&self, pause: Duration, now: Mono) -> bool {
        !self.rows.is_empty() && self.told_at.is_none_or(|at| now.since(at) >= pause)
    }

    /// Replaces the stored rows.
    pub(crate) fn write_untold(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        tx.execute("DELETE FROM untold_gaps", [])?;
        for row in &self.rows {
            tx.execute(
                "INSERT OR REPLACE INTO untold_gaps VALUES (?1, ?2, ?3)",
                params![row.lane, row.reason, row.to_text()],
            )?;
        }
        Ok(())
    }

    fn fold_gap(&mut self, gap: GapMembers, now: Mono) {
        // The given-up event was the last try.
        self.told_at.get_or_insert(now);
        let alike = |row: &&mut GapMembers| row.lane == gap.lane && row.reason == gap.reason;
        match self.rows.iter_mut().find(alike) {
            Some(row) => row.widen_over(&gap),
            None => self.rows.push(gap),
        }
    }
}

impl GapReports {
    /// Begins with the rows of the database.
    pub(crate) fn from_untold(database: &Database) -> Self {
        Self { next: database.untold.clone(), is_changed: false, events: Vec::new() }
    }

    /// Merges the events about gaps given up with `gap` into the rows. Returns true if there were
    /// any.
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
            if let Some(told) = GapMembers::from_members(row.get_ref(0)?.as_str()?) {
                self.next.fold_gap(told, now);
            }
        }
        Ok(found)
    }

    /// Reports a message given up because of the broker. A message with events about gaps is merged
    /// into the rows with them, because the broker hung up on such an event.
    pub(crate) fn report_quarantined(
        &mut self,
        database: &Database,
        gap: &Gap,
        now: Mono,
    ) -> rusqlite::Result<()> {
        let held_gaps = self.fold_events_of(database, gap, now)?;
        let members = ledger::gap_members(database, gap)?;
        if held_gaps {
            self.next.fold_gap(members, now);
        } else {
            self.events.push(EventRow { event: Event::Gap(members), mono: now });
        }
        Ok(())
    }

    /// Turns the rows into events if a report is due. `delivered`: an event was delivered since the
    /// last commit.
    pub(crate) fn report_if_due(&mut self, delivered: bool, now: Mono) {
        let pause = if delivered { TELL_AFTER_DELIVERY } else { TELL_ANYWAY };
        if !self.next.is_due_after(pause, now) {
            return;
        }
        let rows = std::mem::take(&mut self.next.rows);
        let event = |row: GapMembers| EventRow { event: Event::Gap(row), mono: now };
        self.events.extend(rows.into_iter().map(event));
        (self.next.told_at, self.is_changed) = (Some(now), true);
    }

    /// Writes the events and the remaining rows.
    pub(crate) fn write_reports(&self, writer: &mut LaneWriter<'_>) -> rusqlite::Result<()> {
        self.events.iter().try_for_each(|event| writer.write_event(event))?;
        if self.is_changed { self.next.write_untold(writer.tx) } else { Ok(()) }
    }

    /// Returns the rows after the transaction.
    pub(crate) fn into_untold(self) -> UnreportedGaps {
        self.next
    }
}
