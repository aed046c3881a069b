//! Gaps that are still to be told: those whose event was itself given up before anybody heard of it.
//!
//! An event that tells of a gap and is given up makes no event of its own: what it told is folded into one
//! growing row for each lane and reason, and its own loss with it. The rows are told as events when events
//! get through again, or when some time has passed, and may be folded back then. So a cloud that takes no
//! events costs a bounded number of rows, and what it hears in the end adds up to what was dropped (P3).

use std::time::Duration;

use pulsegate_core::lane::{Gap, Lane};
use pulsegate_core::record_id::RecordId;
use pulsegate_core::time::Mono;
use rusqlite::{Connection, Transaction, params};
use serde::{Deserialize, Serialize};

use super::database::{Database, EventRow};
use super::ledger;
use super::write::LaneWriter;

/// Events get through: what is untold is told then, but not with each of them.
const TELL_AFTER_DELIVERY: Duration = Duration::from_secs(60);
/// Nothing tells whether events get through: it is tried.
const TELL_ANYWAY: Duration = Duration::from_secs(600);

/// The members of an event that tells of a gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GapText {
    pub(super) lane: String,
    /// The ids of the first and the last record that are missing.
    pub(super) first: String,
    pub(super) last: String,
    pub(super) count: u64,
    pub(super) reason: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) topic: Option<String>,
    /// RFC 3339 in UTC to the millisecond: of one length, so that earlier is less.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) end: Option<String>,
}

/// The rows, and when something of them was told last.
#[derive(Debug, Clone, Default)]
pub(super) struct Untold {
    rows: Vec<GapText>,
    told_at: Option<Mono>,
}

/// What a transaction changes of the rows, and the events that it writes.
#[derive(Debug, Default)]
pub(super) struct Telling {
    next: Untold,
    is_changed: bool,
    events: Vec<EventRow>,
}

impl GapText {
    /// The members of an event: JSON without braces.
    pub(super) fn members(&self) -> String {
        let object = serde_json::to_string(self).expect("texts and a number are JSON");
        object[1..object.len() - 1].to_owned()
    }

    fn parse(members: &str) -> Option<Self> {
        serde_json::from_str(&format!("{{{members}}}")).ok()
    }

    /// Widens this gap over another one of the same lane and reason.
    fn widen(&mut self, other: &Self) {
        let place = |id: &str| id.parse::<RecordId>().ok().map(|id| id.seq);
        if place(&other.first) < place(&self.first) {
            self.first.clone_from(&other.first);
        }
        if place(&other.last) > place(&self.last) {
            self.last.clone_from(&other.last);
        }
        self.count = self.count.saturating_add(other.count);
        if self.topic != other.topic {
            self.topic = None;
        }
        let starts = self.start.iter().chain(&other.start).min().cloned();
        let ends = self.end.iter().chain(&other.end).max().cloned();
        (self.start, self.end) = (starts, ends);
    }
}

impl Untold {
    /// Reads the rows of a store.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let select = "SELECT members FROM untold_gaps ORDER BY lane, reason";
        let mut select = connection.prepare(select)?;
        let rows = select.query_map([], |row| row.get::<_, String>(0))?;
        let rows: rusqlite::Result<Vec<String>> = rows.collect();
        Ok(Self {
            rows: rows?.iter().filter_map(|row| GapText::parse(row)).collect(),
            told_at: None,
        })
    }

    /// Whether it is time to try whether the cloud takes an event.
    pub(super) fn is_due(&self, now: Mono) -> bool {
        self.is_due_after(TELL_ANYWAY, now)
    }

    fn is_due_after(&self, pause: Duration, now: Mono) -> bool {
        !self.rows.is_empty() && self.told_at.is_none_or(|at| now.since(at) >= pause)
    }

    /// Writes the rows in the place of those that are there.
    pub(super) fn write(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        tx.execute("DELETE FROM untold_gaps", [])?;
        for row in &self.rows {
            tx.execute(
                "INSERT OR REPLACE INTO untold_gaps VALUES (?1, ?2, ?3)",
                params![row.lane, row.reason, row.members()],
            )?;
        }
        Ok(())
    }

    fn fold(&mut self, gap: GapText, now: Mono) {
        // It was tried just now.
        self.told_at.get_or_insert(now);
        let alike = |row: &&mut GapText| row.lane == gap.lane && row.reason == gap.reason;
        match self.rows.iter_mut().find(alike) {
            Some(row) => row.widen(&gap),
            None => self.rows.push(gap),
        }
    }
}

impl Telling {
    /// Begins with what is untold.
    pub(super) fn begin(database: &Database) -> Self {
        Self { next: database.untold.clone(), is_changed: false, events: Vec::new() }
    }

    /// Folds in what the events in `gap` told that are given up with it. Returns whether there are any.
    pub(super) fn fold_events_of(
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
            if let Some(told) = GapText::parse(row.get_ref(0)?.as_str()?) {
                self.next.fold(told, now);
            }
        }
        Ok(found)
    }

    /// Tells of a message that was given up because of the broker. One that held events of gaps is folded in
    /// with them: the broker hung up on just such an event.
    pub(super) fn give_up(
        &mut self,
        database: &Database,
        gap: &Gap,
        now: Mono,
    ) -> rusqlite::Result<()> {
        let held_gaps = self.fold_events_of(database, gap, now)?;
        let text = ledger::gap_text(database, gap)?;
        if held_gaps {
            self.next.fold(text, now);
        } else {
            self.events.push(EventRow { event: "gap", mono: now, members: text.members() });
        }
        Ok(())
    }

    /// Tells what is untold, if it is time: events get through (`delivered`), or nobody knows for long.
    pub(super) fn tell(&mut self, delivered: bool, now: Mono) {
        let pause = if delivered { TELL_AFTER_DELIVERY } else { TELL_ANYWAY };
        if !self.next.is_due_after(pause, now) {
            return;
        }
        let rows = std::mem::take(&mut self.next.rows);
        let event = |row: GapText| EventRow { event: "gap", mono: now, members: row.members() };
        self.events.extend(rows.into_iter().map(event));
        (self.next.told_at, self.is_changed) = (Some(now), true);
    }

    /// Writes the events, and the rows that are left.
    pub(super) fn write(&self, writer: &mut LaneWriter<'_>) -> rusqlite::Result<()> {
        self.events.iter().try_for_each(|event| writer.event(event))?;
        if self.is_changed { self.next.write(writer.tx) } else { Ok(()) }
    }

    /// The rows as they are after the transaction.
    pub(super) fn into_untold(self) -> Untold {
        self.next
    }
}
