//! Bounds of what a row of the store can hold. A damaged or crafted file tells anything: each number
//! is compared with its bound where it is read, and a row outside its bounds is damage.

use rusqlite::{Connection, Error, OptionalExtension as _, Row, params};

/// Places and counts stay below: the last whole number that JSON and f64 hold exactly.
pub(super) const MAX_PLACE: u64 = 1 << 53;

/// Places in a row that a walk may leave out unchecked: alerts, events and readings share the places,
/// so a walk through one lane leaves some out.
const MAX_LEFT_OUT: u64 = 64;

/// Checks that the places of one walk rise. On a damaged page they may not: the walk would then
/// repeat what it has read, or never end.
#[derive(Debug, Default)]
pub(super) struct Rising(Option<u64>);

impl Rising {
    /// Reads the place in `column`.
    ///
    /// # Errors
    /// A place that is out of bounds, or not above the one before.
    pub(super) fn read(&mut self, row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
        let place = read_place(row, column)?;
        if self.0.is_some_and(|before| place <= before) {
            return Err(out_of_bounds(column));
        }
        self.0 = Some(place);
        Ok(place)
    }
}

/// Checks that no record of `table` lies between two places that one walk read one after the other.
/// On a page that holds what another page holds, a walk leaps over all that lies between the two; the
/// look from the other side finds it.
///
/// # Errors
/// When there is one.
pub(super) fn check_left_out(
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
/// A number that is negative, or [`MAX_PLACE`] or more.
pub(super) fn read_place(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let place: u64 = row.get(column)?;
    if place < MAX_PLACE { Ok(place) } else { Err(out_of_bounds(column)) }
}

/// The error of a number that no row of ours holds.
pub(super) fn out_of_bounds(column: usize) -> Error {
    Error::IntegralValueOutOfRange(column, i64::MAX)
}
