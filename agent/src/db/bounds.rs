//! Bounds for the values in the store. A damaged or crafted file can hold any value, so each number
//! is compared with its bound when read, and a row outside its bounds is damage.

use pulsegate_core::time::Mono;
use pulsegate_core::time::timeline::Epoch;
use pulsegate_sensors::inbox::MAX_LINE_BYTES;
use pulsegate_sensors::{MAX_SOURCES, Source, SourceId, is_kind, is_source_name};
use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, Error, OptionalExtension as _, Row, params};
use serde::de::IgnoredAny;

/// Exclusive bound of places, counts and milliseconds of a kernel run: the last whole number exact
/// in JSON and f64.
pub(crate) const MAX_PLACE: u64 = 1 << 53;
/// Exclusive bound of the numbers of kernel runs and of starts: one a second for sixty years.
const MAX_START: u32 = 1 << 31;
/// A store is opened while its last place and last start are below this part of their bounds. Such
/// a store cannot reach the bounds within the life of a device.
const OPENED_SHARE: u64 = 2;
/// Largest distance of a time from 1970, in milliseconds: up to the end of the year 9999. The inbox
/// of earlier versions accepted such times.
const MAX_TIME_MS: i64 = 253_402_300_799_999;
/// Bytes of the name of a rule, an event or a reason. A rule's name may have 128.
const MAX_NAME_BYTES: usize = 256;
/// Bytes of the members of an event: half of the room of a message.
const MAX_MEMBERS_BYTES: usize = 64 << 10;
/// Bytes of a monitor's detail: the intervals of a packet of 512 bytes.
const MAX_DETAIL_BYTES: usize = 1 << 10;
/// Bounds the rows read from a table of the frame, whatever its pages refer to: more than a store
/// has after ten years.
pub(crate) const MAX_FRAME_ROWS: u64 = 1_000_000;
/// Bounds the bytes of a text or row read by SQLite: far more than any row of ours has.
pub(crate) const MAX_ROW_BYTES: i32 = 1 << 20;

/// Consecutive places that a walk through a lane may leave out unchecked. Alerts, events and
/// readings share the places, so a walk through a lane leaves some out.
const MAX_LEFT_OUT: u64 = 64;

/// Checks that places rise during a walk. On a damaged page places may fall: the walk would repeat
/// rows or never end.
#[derive(Debug, Default)]
pub(crate) struct RisingPlaces(Option<u64>);

impl RisingPlaces {
    /// Reads the place in `column`.
    ///
    /// # Errors
    /// When the place is out of bounds, or not above the place before.
    pub(crate) fn read_rising(&mut self, row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
        let place = read_place(row, column)?;
        if self.0.is_some_and(|before| place <= before) {
            return Err(out_of_bounds(column));
        }
        self.0 = Some(place);
        Ok(place)
    }
}

/// Checks that no record of `table` lies between two places read in succession by a walk. If a page
/// was overwritten by a copy of another page, a walk leaps over all records between; reading
/// backwards from `place` finds them.
///
/// # Errors
/// When a record lies between.
pub(crate) fn check_left_out(
    connection: &Connection,
    table: &str,
    after: u64,
    place: u64,
) -> rusqlite::Result<()> {
    if place.saturating_sub(after) <= MAX_LEFT_OUT {
        return Ok(());
    }
    let between =
        format!("SELECT 1 FROM {table} WHERE seq > ?1 AND seq < ?2 ORDER BY seq DESC LIMIT 1");
    let found = connection
        .prepare_cached(&between)?
        .query_row(params![after, place], |row| row.get::<_, i64>(0))
        .optional()?;
    if found.is_none() { Ok(()) } else { Err(out_of_bounds(0)) }
}

/// Reads a place or a count.
///
/// # Errors
/// When the number is negative, or [`MAX_PLACE`] or more.
pub(crate) fn read_place(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let place: u64 = row.get(column)?;
    if place < MAX_PLACE { Ok(place) } else { Err(out_of_bounds(column)) }
}

/// Reads a count, or NULL.
///
/// # Errors
/// When the number is out of bounds.
pub(crate) fn read_optional_place(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    if row.get_ref(column)? == ValueRef::Null {
        return Ok(None);
    }
    read_place(row, column).map(Some)
}

/// Checks that the next places and starts of a store are far from their bounds.
///
/// # Errors
/// When the store could reach the bounds within the life of a device: no store gets there by
/// counting.
pub(crate) fn check_headroom(last_place: u64, last_start: u32) -> rusqlite::Result<()> {
    let has_headroom = |last: u64, bound: u64| last < bound / OPENED_SHARE;
    if has_headroom(last_place, MAX_PLACE) && has_headroom(last_start.into(), MAX_START.into()) {
        Ok(())
    } else {
        Err(out_of_bounds(0))
    }
}

/// Reads the number of a run of the kernel.
///
/// # Errors
/// When the number is out of bounds.
pub(crate) fn read_epoch(row: &Row<'_>, column: usize) -> rusqlite::Result<Epoch> {
    read_start(row, column).map(Epoch)
}

/// Reads the number of a run of the kernel, or NULL.
///
/// # Errors
/// When the number is out of bounds.
pub(crate) fn read_optional_epoch(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Epoch>> {
    if row.get_ref(column)? == ValueRef::Null {
        return Ok(None);
    }
    read_epoch(row, column).map(Some)
}

/// Reads the number of a start of the agent.
///
/// # Errors
/// When the number is out of bounds.
pub(crate) fn read_start(row: &Row<'_>, column: usize) -> rusqlite::Result<u32> {
    let start: u32 = row.get(column)?;
    if start < MAX_START { Ok(start) } else { Err(out_of_bounds(column)) }
}

/// Reads a monotonic time.
///
/// # Errors
/// When the time is out of bounds.
pub(crate) fn read_mono(row: &Row<'_>, column: usize) -> rusqlite::Result<Mono> {
    read_place(row, column).map(Mono)
}

/// Reads a wall time, or the difference between a wall time and a monotonic time, in milliseconds.
///
/// # Errors
/// When the time is out of bounds.
pub(crate) fn read_time(row: &Row<'_>, column: usize) -> rusqlite::Result<i64> {
    let time: i64 = row.get(column)?;
    if (-MAX_TIME_MS..=MAX_TIME_MS).contains(&time) { Ok(time) } else { Err(out_of_bounds(column)) }
}

/// Reads a wall time, or NULL.
///
/// # Errors
/// When the time is out of bounds.
pub(crate) fn read_optional_time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<i64>> {
    if row.get_ref(column)? == ValueRef::Null {
        return Ok(None);
    }
    read_time(row, column).map(Some)
}

/// Reads the number of a source. Bounded, because tables are indexed by the number.
///
/// # Errors
/// When no source can have the number.
pub(crate) fn read_source(row: &Row<'_>, column: usize) -> rusqlite::Result<SourceId> {
    let id: u32 = row.get(column)?;
    if usize::try_from(id).is_ok_and(|id| id < MAX_SOURCES) {
        Ok(SourceId(id))
    } else {
        Err(out_of_bounds(column))
    }
}

/// Reads the name and the kind of a source.
///
/// # Errors
/// When no source can have the name: topics contain the name.
pub(crate) fn read_source_names(row: &Row<'_>, name: usize) -> rusqlite::Result<Source> {
    let text = |column| read_text(row, column, MAX_NAME_BYTES);
    let (name_text, kind_text) = (text(name)?, text(name + 1)?);
    // Derived sources have a kind of two words.
    let is_ours = is_source_name(name_text) && kind_text.split('.').all(is_kind);
    if is_ours {
        Ok(Source { name: name_text.into(), kind: kind_text.into() })
    } else {
        Err(Error::InvalidColumnType(name, "name of a source".into(), Type::Text))
    }
}

/// Reads the name of a rule, an event, a severity or a reason.
///
/// # Errors
/// When the text is too long.
pub(crate) fn read_name<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<&'a str> {
    read_text(row, column, MAX_NAME_BYTES)
}

/// Reads the members of an event: a JSON object without its braces. Messages contain the members
/// unchanged, so invalid JSON would make a whole message unreadable.
///
/// # Errors
/// When the text is too long, or not JSON.
pub(crate) fn read_members<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<&'a str> {
    let members = read_text(row, column, MAX_MEMBERS_BYTES)?;
    match serde_json::from_str::<IgnoredAny>(&format!("{{{members}}}")) {
        Ok(_) => Ok(members),
        Err(error) => Err(Error::FromSqlConversionFailure(column, Type::Text, error.into())),
    }
}

/// Reads the state of a reading or an alert.
///
/// # Errors
/// When the text is longer than any line of the inbox.
pub(crate) fn read_state<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<&'a str> {
    read_text(row, column, MAX_LINE_BYTES)
}

/// Reads the packed detail of a monitor's reading.
///
/// # Errors
/// When the detail is too long, or of another type.
pub(crate) fn read_detail_bytes<'a>(
    row: &'a Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<&'a [u8]>> {
    let bytes = row.get_ref(column)?.as_blob_or_null()?;
    if bytes.is_some_and(|bytes| bytes.len() > MAX_DETAIL_BYTES) {
        return Err(out_of_bounds(column));
    }
    Ok(bytes)
}

fn read_text<'a>(row: &'a Row<'_>, column: usize, most: usize) -> rusqlite::Result<&'a str> {
    let text = row.get_ref(column)?.as_str()?;
    if text.len() <= most { Ok(text) } else { Err(out_of_bounds(column)) }
}

/// The content of a column.
#[derive(Debug, Clone, Copy)]
enum ColumnKind {
    /// A place or a count.
    Place,
    OptionalPlace,
    Start,
    OptionalStart,
    Lane,
    Source,
    /// The name of a source, with its kind in the next column.
    SourceName,
    Mono,
    Time,
    OptionalTime,
    Flag,
    Name,
    Members,
    Value,
    Detail,
    Score,
}

/// Returns the checked columns of a table.
fn table_columns(table: &str) -> &'static [ColumnKind] {
    use ColumnKind::{
        Detail, Flag, Lane, Members, Mono, Name, OptionalPlace, OptionalStart, OptionalTime, Place,
        Score, Source, SourceName, Start, Time, Value,
    };
    match table {
        "meta" => &[Name, Place],
        "kernel_boots" => &[Start, Name, Time],
        "clock" => &[Start, Mono, Time, Flag],
        "boots" => &[Start, Start, Place],
        "starts" => &[Start, Name, Name],
        "sources" => &[Source, SourceName],
        "accounts" => &[Lane, Place, Place, Place, Place, OptionalPlace],
        "gaps" => &[Place, Lane, Place, Place, Place, Name, Start, Mono],
        "standing" => &[Name, Source, Flag, Place, Name, Value, OptionalTime, Time],
        "scores" => &[Place, Score],
        "alert_arrivals" => &[Place, Mono],
        "withheld" => &[Lane, Source, Place],
        "untold_gaps" => &[Name, Name, Members],
        "readings" => &[Place, Source, Mono, Value, OptionalTime, Detail],
        "alerts" => &[
            Place,
            Name,
            Source,
            Flag,
            Name,
            Value,
            OptionalTime,
            OptionalTime,
            Time,
            OptionalStart,
        ],
        "events" => &[Place, Name, Start, Mono, Members],
        _ => &[],
    }
}

/// The distance from the bounds required of a row for carrying over into another store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closeness {
    /// Below the bounds. The store was opened, so its numbers are far below the bounds anyway.
    Below,
    /// Far enough below the bounds for a store with later numbers to be opened.
    FarBelow,
}

impl Closeness {
    fn bound_share(self) -> u64 {
        match self {
            Self::Below => 1,
            Self::FarBelow => 2 * OPENED_SHARE,
        }
    }

    /// Returns true if a place or a count is carried over.
    pub(crate) fn holds_place(self, place: u64) -> bool {
        place < MAX_PLACE / self.bound_share()
    }

    fn holds_start(self, start: u32) -> bool {
        u64::from(start) < u64::from(MAX_START) / self.bound_share()
    }
}

/// Checks a row of `table` before carrying over into another store.
///
/// # Errors
/// When the row would be damage in the other store, or would bring its numbers near their bounds.
pub(crate) fn check_row(table: &str, row: &Row<'_>, close: Closeness) -> rusqlite::Result<()> {
    for (at, column) in table_columns(table).iter().enumerate() {
        check_column(row, at, *column, close)?;
    }
    if table == "gaps" {
        let (first, last, count): (u64, u64, u64) = (row.get(2)?, row.get(3)?, row.get(4)?);
        if last < first || count > last - first + 1 {
            return Err(out_of_bounds(4));
        }
    }
    Ok(())
}

fn check_column(
    row: &Row<'_>,
    at: usize,
    column: ColumnKind,
    close: Closeness,
) -> rusqlite::Result<()> {
    let is_sane = match column {
        ColumnKind::Place => close.holds_place(read_place(row, at)?),
        ColumnKind::OptionalPlace => {
            read_optional_place(row, at)?.is_none_or(|place| close.holds_place(place))
        }
        ColumnKind::Start => close.holds_start(read_start(row, at)?),
        ColumnKind::OptionalStart => {
            read_optional_epoch(row, at)?.is_none_or(|epoch| close.holds_start(epoch.0))
        }
        ColumnKind::Lane => {
            row.get::<_, usize>(at)? < pulsegate_core::record::lane::Lane::ALL.len()
        }
        ColumnKind::Source => read_source(row, at).map(|_| true)?,
        ColumnKind::SourceName => read_source_names(row, at).map(|_| true)?,
        ColumnKind::Mono => close.holds_place(read_mono(row, at)?.0),
        ColumnKind::Time => read_time(row, at).map(|_| true)?,
        ColumnKind::OptionalTime => read_optional_time(row, at).map(|_| true)?,
        ColumnKind::Flag => row.get::<_, bool>(at).map(|_| true)?,
        ColumnKind::Name => read_name(row, at).map(|_| true)?,
        ColumnKind::Members => read_members(row, at).map(|_| true)?,
        ColumnKind::Value => super::rows::read_value(row, at).map(|_| true)?,
        ColumnKind::Detail => read_detail_bytes(row, at).map(|_| true)?,
        ColumnKind::Score => row.get::<_, f64>(at)?.is_finite(),
    };
    if is_sane { Ok(()) } else { Err(out_of_bounds(at)) }
}

/// Returns the error for a number outside its bounds.
pub(crate) fn out_of_bounds(column: usize) -> Error {
    Error::IntegralValueOutOfRange(column, i64::MAX)
}
