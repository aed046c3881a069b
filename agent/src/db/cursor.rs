//! A cursor over records: the rows of a table, in the order of their places or backwards.
//!
//! A damaged file can hold anything, so each column is compared with its bounds when read. A place
//! that does not follow the place before is damage as well: a walk along such a page would repeat
//! rows, or never end. A long walk needs no beat of its own, because the statements of the writer's
//! connection beat ([`beat_in_statements`](super::schema::beat_in_statements)).

use std::marker::PhantomData;

use rusqlite::{CachedStatement, Connection, Row, Rows};

use super::bounds;

/// The highest place in SQLite.
pub(crate) const LAST_PLACE: u64 = u64::MAX >> 1;

/// A kind of record, with the buffer into which rows are read.
pub(crate) trait Record: Default {
    /// The table with a record at each place.
    const TABLE: &'static str;
    /// The statement without its conditions. The first column is the place.
    const SELECT: &'static str;
    /// A record lent until the cursor moves on.
    type Lent<'a>
    where
        Self: 'a;

    /// Reads a row.
    ///
    /// # Errors
    /// When a column is out of its bounds.
    fn read_row<'a>(&'a mut self, row: &'a Row<'_>) -> rusqlite::Result<Self::Lent<'a>>;
}

/// A statement selecting records by their places.
pub(crate) struct Select<'c, R> {
    connection: &'c Connection,
    statement: CachedStatement<'c>,
    span: RowSpan,
    record: PhantomData<R>,
}

/// The rows read by a cursor, and their checks.
#[derive(Debug, Clone, Copy)]
struct RowSpan {
    first: u64,
    last: u64,
    /// True if the last row comes first.
    is_backward: bool,
    rows_left: u32,
    /// The place of the row before.
    previous: Option<u64>,
    /// True if records left out between two rows are looked for.
    is_gapless: bool,
}

/// Reads the selected records in succession.
pub(crate) struct Cursor<'s, R> {
    connection: &'s Connection,
    rows: Rows<'s>,
    span: RowSpan,
    record: R,
}

impl<'c, R: Record> Select<'c, R> {
    /// Selects the records behind the place `after`, and checks that the walk leaves none out.
    pub(crate) fn select_behind(connection: &'c Connection, after: u64) -> rusqlite::Result<Self> {
        let mut select = Self::from(connection, after.saturating_add(1))?;
        (select.span.previous, select.span.is_gapless) = (Some(after), true);
        Ok(select)
    }

    /// Selects the records from the place `first` on.
    pub(crate) fn from(connection: &'c Connection, first: u64) -> rusqlite::Result<Self> {
        Self::select_between(connection, first, LAST_PLACE)
    }

    /// Selects the records from the place `first` to the place `last`.
    pub(crate) fn select_between(
        connection: &'c Connection,
        first: u64,
        last: u64,
    ) -> rusqlite::Result<Self> {
        Self::prepare_select(connection, (first, last), false)
    }

    /// Selects the records from the place `last` back to the place `first`.
    pub(crate) fn select_backward(
        connection: &'c Connection,
        first: u64,
        last: u64,
    ) -> rusqlite::Result<Self> {
        Self::prepare_select(connection, (first, last), true)
    }

    fn prepare_select(
        connection: &'c Connection,
        (first, last): (u64, u64),
        is_backward: bool,
    ) -> rusqlite::Result<Self> {
        let (select, table) = (R::SELECT, R::TABLE);
        let (reach, order) = if is_backward { ("<=", "DESC") } else { (">=", "ASC") };
        let statement = connection.prepare_cached(&format!(
            "{select} WHERE {table}.seq {reach} ?1 ORDER BY {table}.seq {order}"
        ))?;
        let (rows_left, previous, is_gapless) = (u32::MAX, None, false);
        let span = RowSpan { first, last, is_backward, rows_left, previous, is_gapless };
        Ok(Self { connection, statement, span, record: PhantomData })
    }

    /// Selects only the first `rows` records.
    pub(crate) fn at_most(mut self, rows: u32) -> Self {
        self.span.rows_left = rows;
        self
    }

    /// Begins to read.
    pub(crate) fn open_cursor(&mut self) -> rusqlite::Result<Cursor<'_, R>> {
        let span = self.span;
        let begin = if span.is_backward { span.last } else { span.first };
        let rows = self.statement.query([begin.min(LAST_PLACE)])?;
        Ok(Cursor { connection: self.connection, rows, span, record: R::default() })
    }
}

impl<R: Record> Cursor<'_, R> {
    /// Reads the next record. Returns its place and the record.
    ///
    /// # Errors
    /// When the row cannot be read, is out of its bounds, or has a place not behind the place
    /// before.
    pub(crate) fn read_next(&mut self) -> rusqlite::Result<Option<(u64, R::Lent<'_>)>> {
        let span = &mut self.span;
        if span.rows_left == 0 {
            return Ok(None);
        }
        let Some(row) = self.rows.next()? else { return Ok(None) };
        let place = bounds::read_place(row, 0)?;
        if span.ends_before(place) {
            return Ok(None);
        }
        if let Some(previous) = span.previous {
            let follows = if span.is_backward { place < previous } else { place > previous };
            if !follows {
                return Err(bounds::out_of_bounds(0));
            }
            if span.is_gapless {
                bounds::check_left_out(self.connection, R::TABLE, previous, place)?;
            }
        }
        span.previous = Some(place);
        span.rows_left = span.rows_left.saturating_sub(1);
        Ok(Some((place, self.record.read_row(row)?)))
    }
}

impl RowSpan {
    fn ends_before(&self, place: u64) -> bool {
        if self.is_backward { place < self.first } else { place > self.last }
    }
}

#[cfg(test)]
mod tests {
    use pulsegate_core::record::reading::{HeartDetail, Reading, Value};
    use pulsegate_core::time::{Mono, Wall};
    use pulsegate_sensors::{Contact, SourceId};
    use rusqlite::params;

    use super::*;
    use crate::db::detail;
    use crate::db::rows::StoredReadings;
    use crate::db::schema;

    fn store(readings: &[(u64, Reading)]) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        schema::migrate_tables(&connection).unwrap();
        for (seq, reading) in readings {
            let detail = reading.detail.as_deref().map(detail::encode_detail);
            let time = reading.time.map(|time| time.0);
            let value: &dyn rusqlite::ToSql = match &reading.value {
                Value::Number(number) => number,
                Value::State(state) => state,
            };
            let insert = "INSERT INTO readings VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let (source, mono) = (reading.source.0, reading.mono.0);
            connection.execute(insert, params![seq, source, mono, value, time, detail]).unwrap();
        }
        connection
    }

    fn reading(value: Value, time: Option<Wall>, detail: Option<HeartDetail>) -> Reading {
        let (source, mono) = (SourceId(3), Mono(1_000));
        Reading { source, mono, value, time, detail: detail.map(Box::new) }
    }

    fn number(number: f64) -> Reading {
        reading(Value::Number(number), None, None)
    }

    fn read_all(mut select: Select<'_, StoredReadings>) -> Vec<(u64, Reading)> {
        let (mut cursor, mut found) = (select.open_cursor().unwrap(), Vec::new());
        while let Some((seq, reading)) = cursor.read_next().unwrap() {
            found.push((seq, reading.clone()));
            // As a filter does that puts a mean in the place of a reading.
            reading.value = Value::Number(-1.0);
        }
        found
    }

    #[test]
    fn a_reading_holds_nothing_of_the_reading_before() {
        let heart = |energy_kj, rr: &[u16]| {
            Some(HeartDetail { contact: Contact::Detected, energy_kj, rr: rr.to_vec() })
        };
        let state = |state: &str| Value::State(state.into());
        let readings = [
            reading(Value::Number(61.0), None, heart(Some(7), &[800, 810, 820])),
            reading(Value::Number(62.0), Some(Wall(5)), heart(None, &[790])),
            reading(state("open"), None, None),
            reading(state("open"), None, None),
            reading(state("closed"), Some(Wall(6)), None),
            reading(Value::Number(63.5), None, heart(None, &[])),
        ];
        let readings: Vec<_> = (1..).zip(readings).collect();
        let store = store(&readings);

        assert_eq!(read_all(Select::from(&store, 0).unwrap()), readings);
    }

    #[test]
    fn a_cursor_reads_what_is_selected_in_either_order() {
        let readings: Vec<_> = (1..=9).map(|seq| (seq, number(1.0))).collect();
        let store = store(&readings);
        let places = |select: rusqlite::Result<Select<'_, StoredReadings>>| -> Vec<u64> {
            read_all(select.unwrap()).into_iter().map(|(seq, _)| seq).collect()
        };

        assert_eq!(places(Select::select_behind(&store, 7)), [8, 9]);
        assert_eq!(places(Select::from(&store, 7)), [7, 8, 9]);
        assert_eq!(places(Select::select_between(&store, 4, 6)), [4, 5, 6]);
        assert_eq!(places(Select::select_backward(&store, 4, 6)), [6, 5, 4]);
        let last = Select::select_backward(&store, 0, LAST_PLACE).map(|select| select.at_most(2));
        assert_eq!(places(last), [9, 8]);
        assert_eq!(places(Select::from(&store, u64::MAX)), [0; 0]);
    }

    #[test]
    fn a_row_outside_its_bounds_is_an_error_where_it_is_read() {
        let store = store(&[(1, number(1.0)), (2, number(2.0))]);
        store.execute("UPDATE readings SET source = 4000000000 WHERE seq = 2", []).unwrap();
        let mut select = Select::<StoredReadings>::from(&store, 0).unwrap();
        let mut cursor = select.open_cursor().unwrap();

        assert!(matches!(cursor.read_next(), Ok(Some((1, _)))));
        assert!(cursor.read_next().is_err());
    }
}
