//! The places of the records that a walk through a lane reads.

use pulsegate_core::record::lane::Lane;
use pulsegate_core::record::reading::Seq;
use rusqlite::Row;

use crate::db::bounds::{self, Rising};
use crate::db::database::Database;

/// See the module.
pub(super) struct LaneWalk<'a> {
    database: &'a Database,
    lane: Lane,
    last: u64,
    places: Rising,
}

impl<'a> LaneWalk<'a> {
    pub(super) fn behind(database: &'a Database, lane: Lane, after: Seq) -> Self {
        Self { database, lane, last: after.0, places: Rising::default() }
    }

    /// Reads the place in the first column.
    pub(super) fn place(&mut self, row: &Row<'_>) -> rusqlite::Result<u64> {
        let place = self.places.read(row, 0)?;
        let (connection, table) = (&self.database.connection, self.lane.as_str());
        bounds::check_left_out(connection, table, self.last, place)?;
        self.last = place;
        Ok(place)
    }
}
