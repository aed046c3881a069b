//! The columns of a stored reading as values of core.

use pulsegate_core::cloud::record_text::ValueRef;
use pulsegate_core::record::reading::{HeartDetail, Reading, Value};
use pulsegate_core::time::Wall;
use rusqlite::Row;
use rusqlite::types::ValueRef as SqlRef;

use super::{bounds, detail};

pub(crate) fn owned(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Number(number) => Value::Number(number),
        ValueRef::State(state) => Value::State(state.into()),
    }
}

pub(crate) fn read_reading(row: &Row<'_>) -> rusqlite::Result<Reading> {
    Ok(Reading {
        source: bounds::read_source(row, 0)?,
        mono: bounds::read_mono(row, 1)?,
        value: owned(read_value(row, 2)?),
        time: bounds::read_optional_time(row, 3)?.map(Wall),
        detail: read_detail(row, 4)?.map(Box::<HeartDetail>::new),
    })
}

pub(crate) fn read_value<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<ValueRef<'a>> {
    Ok(match row.get_ref(column)? {
        #[expect(clippy::cast_precision_loss, reason = "written from a whole f64")]
        SqlRef::Integer(whole) => ValueRef::Number(whole as f64),
        SqlRef::Real(number) if number.is_finite() => ValueRef::Number(number),
        SqlRef::Real(_) => return Err(bounds::out_of_bounds(column)),
        SqlRef::Null | SqlRef::Text(_) | SqlRef::Blob(_) => {
            ValueRef::State(bounds::read_state(row, column)?)
        }
    })
}

pub(crate) fn read_detail(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<HeartDetail>> {
    Ok(bounds::read_detail_bytes(row, column)?.map(detail::decode))
}
