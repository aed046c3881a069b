//! The database: one SQLite file, its schema, and all reading, writing, bounding and salvaging of
//! the file.

pub(crate) mod ballast;
pub(crate) mod begun;
pub(crate) mod bounds;
pub(crate) mod carry;
pub(crate) mod cursor;
pub(crate) mod database;
pub(crate) mod detail;
pub(crate) mod disk;
pub(crate) mod error;
pub(crate) mod ledger;
pub(crate) mod load;
pub(crate) mod overflow;
pub(crate) mod owner;
pub(crate) mod reader;
pub(crate) mod retention;
pub(crate) mod rows;
pub(crate) mod salvage;
pub(crate) mod schema;
pub(crate) mod untold;
pub(crate) mod withheld;
pub(crate) mod write;

pub(crate) use database::{EventRow, Reached, WriterIdentity};
pub(crate) use disk::{DiskFault, Room, format_mebibytes};
pub(crate) use error::{Error, Result};
pub(crate) use owner::{ThingChange, choose_store, kept_aside};
pub(crate) use reader::{AlertFound, Choice, NamedRecords, Reader, ReadingFound, VisitFound};
pub(crate) use salvage::SalvageProgress;

/// The database, in the state directory.
pub(crate) const FILE: &str = "pulsegate.db";
