//! The records read by a cursor: their columns as values of core.

use pulsegate_core::record::event::{VISIT, VisitMembers};
use pulsegate_core::record::reading::{HeartDetail, Reading, Value};
use pulsegate_core::time::timeline::Epoch;
use pulsegate_core::time::{Mono, Wall};
use pulsegate_sensors::{Contact, SourceId};
use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::cursor::Record;
use super::{bounds, detail};

/// Readings. Each reuses the memory of the reading before, to save an allocation for each row.
pub(crate) struct StoredReadings {
    reading: Reading,
    /// The memory of a detail, while the reading has none.
    spare: Option<Box<HeartDetail>>,
}

impl Default for StoredReadings {
    fn default() -> Self {
        let (source, mono, value) = (SourceId(0), Mono(0), Value::Number(0.0));
        Self { reading: Reading { source, mono, time: None, value, detail: None }, spare: None }
    }
}

impl Record for StoredReadings {
    const TABLE: &'static str = "readings";
    const SELECT: &'static str =
        "SELECT seq, source, mono_ms, value, time_ms, detail FROM readings";
    /// The borrower may change the reading.
    type Lent<'a> = &'a mut Reading;

    fn read_row<'a>(&'a mut self, row: &'a Row<'_>) -> rusqlite::Result<&'a mut Reading> {
        let reading = &mut self.reading;
        reading.source = bounds::read_source(row, 1)?;
        reading.mono = bounds::read_mono(row, 2)?;
        read_value_into(row, 3, &mut reading.value)?;
        reading.time = bounds::read_optional_time(row, 4)?.map(Wall);
        let memory = reading.detail.take().or_else(|| self.spare.take());
        match bounds::read_detail_bytes(row, 5)? {
            Some(bytes) => {
                let mut detail = memory.unwrap_or_else(new_detail);
                detail::decode_into(bytes, &mut detail);
                reading.detail = Some(detail);
            }
            None => self.spare = memory,
        }
        Ok(reading)
    }
}

fn new_detail() -> Box<HeartDetail> {
    Box::new(HeartDetail { contact: Contact::Unsupported, energy_kj: None, rr: Vec::new() })
}

/// An alert of the store, with times on the axis of its decision.
#[derive(Debug)]
pub(crate) struct StoredAlert {
    pub(crate) rule: Box<str>,
    pub(crate) source: SourceId,
    pub(crate) raised: bool,
    pub(crate) severity: Box<str>,
    pub(crate) value: Value,
    pub(crate) window_start: Option<Wall>,
    pub(crate) window_end: Option<Wall>,
    pub(crate) time: Wall,
    /// The run of the kernel of the times' axis; `None` for times given by another program.
    pub(crate) epoch: Option<Epoch>,
    /// The anomaly score; `None` unless the rule computes a score.
    pub(crate) score: Option<f64>,
    /// Arrival in the run of the kernel of its place; only if its readings carry their own time.
    pub(crate) arrival: Option<Mono>,
}

impl StoredAlert {
    fn read_alert_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let time_at = |column| bounds::read_optional_time(row, column);
        let is_dated = row.get_ref(11)? != ValueRef::Null;
        Ok(Self {
            rule: bounds::read_name(row, 1)?.into(),
            source: bounds::read_source(row, 2)?,
            raised: row.get(3)?,
            severity: bounds::read_name(row, 4)?.into(),
            value: read_value(row, 5)?,
            window_start: time_at(6)?.map(Wall),
            window_end: time_at(7)?.map(Wall),
            time: Wall(bounds::read_time(row, 8)?),
            epoch: bounds::read_optional_epoch(row, 9)?,
            score: row.get(10)?,
            arrival: is_dated.then(|| bounds::read_mono(row, 11)).transpose()?,
        })
    }

    /// Returns the window of the decision; `None` for a rule without windows.
    pub(crate) fn decided_window(&self) -> Option<(Wall, Wall)> {
        self.window_start.zip(self.window_end)
    }
}

/// Alerts.
#[derive(Default)]
pub(crate) struct StoredAlerts;

impl Record for StoredAlerts {
    const TABLE: &'static str = "alerts";
    const SELECT: &'static str =
        "SELECT alerts.seq, rule, source, raised, severity, value, window_start_ms, window_end_ms,
         time_ms, epoch, score, mono_ms
         FROM alerts LEFT JOIN scores USING (seq) LEFT JOIN alert_arrivals USING (seq)";
    type Lent<'a> = StoredAlert;

    fn read_row(&mut self, row: &Row<'_>) -> rusqlite::Result<StoredAlert> {
        StoredAlert::read_alert_row(row)
    }
}

/// The last alert raised, and the last alert cleared, of each rule and source.
#[derive(Default)]
pub(crate) struct StandingAlerts;

impl Record for StandingAlerts {
    const TABLE: &'static str = "standing";
    const SELECT: &'static str =
        "SELECT standing.seq, rule, source, raised, severity, value, NULL, window_end_ms, time_ms,
         NULL, NULL, mono_ms
         FROM standing LEFT JOIN alert_arrivals USING (seq)";
    type Lent<'a> = StoredAlert;

    fn read_row(&mut self, row: &Row<'_>) -> rusqlite::Result<StoredAlert> {
        StoredAlert::read_alert_row(row)
    }
}

/// An event of the store.
#[derive(Debug)]
pub(crate) struct StoredEvent<'a> {
    pub(crate) event: &'a str,
    pub(crate) epoch: Epoch,
    pub(crate) mono: Mono,
    /// A JSON object without its braces.
    pub(crate) members: &'a str,
}

impl StoredEvent<'_> {
    /// Returns the visit of the event; `None` unless the event is about an ended visit.
    pub(crate) fn ended_visit(&self) -> Option<VisitMembers> {
        (self.event == VISIT).then(|| VisitMembers::from_text(VISIT, self.members))?
    }
}

/// Events.
#[derive(Default)]
pub(crate) struct StoredEvents;

impl Record for StoredEvents {
    const TABLE: &'static str = "events";
    const SELECT: &'static str = "SELECT seq, event, epoch, mono_ms, members FROM events";
    type Lent<'a> = StoredEvent<'a>;

    fn read_row<'a>(&'a mut self, row: &'a Row<'_>) -> rusqlite::Result<StoredEvent<'a>> {
        Ok(StoredEvent {
            event: bounds::read_name(row, 1)?,
            epoch: bounds::read_epoch(row, 2)?,
            mono: bounds::read_mono(row, 3)?,
            members: bounds::read_members(row, 4)?,
        })
    }
}

/// Reads the value of a reading or an alert.
///
/// # Errors
/// When a number is not finite, or a state is too long.
pub(crate) fn read_value(row: &Row<'_>, column: usize) -> rusqlite::Result<Value> {
    let mut value = Value::Number(0.0);
    read_value_into(row, column, &mut value)?;
    Ok(value)
}

fn read_value_into(row: &Row<'_>, column: usize, value: &mut Value) -> rusqlite::Result<()> {
    *value = match row.get_ref(column)? {
        #[expect(clippy::cast_precision_loss, reason = "written from a whole f64")]
        ValueRef::Integer(whole) => Value::Number(whole as f64),
        ValueRef::Real(number) if number.is_finite() => Value::Number(number),
        ValueRef::Real(_) => return Err(bounds::out_of_bounds(column)),
        ValueRef::Null | ValueRef::Text(_) | ValueRef::Blob(_) => {
            let state = bounds::read_state(row, column)?;
            if matches!(value, Value::State(known) if **known == *state) {
                return Ok(());
            }
            Value::State(state.into())
        }
    };
    Ok(())
}
