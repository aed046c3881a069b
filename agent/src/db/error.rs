//! The errors of the database, and what each asks for.

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_ERROR;
pub(crate) use rusqlite::{Error, Result};

/// Whether an error means that the database, not the disk or the request, is at fault.
pub(crate) fn is_damage(error: &Error) -> bool {
    let code = error.sqlite_error_code();
    let damaged = matches!(
        code,
        Some(
            ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                // A place that was given twice: what tells the next place cannot be believed.
                | ErrorCode::ConstraintViolation
                // A text or a row that is longer than any of ours.
                | ErrorCode::TooBig
        )
    );
    // What is stored cannot be what was written.
    let nonsense = [
        matches!(error, Error::InvalidColumnType(..) | Error::FromSqlConversionFailure(..)),
        matches!(error, Error::IntegralValueOutOfRange(..) | Error::Utf8Error(..)),
        // Our statements are right, so the tables are wrong.
        matches!(error, Error::SqlInputError { .. }),
        matches!(error, Error::StatementChangedRows(_)),
        // So are the triggers: a fault in one has no place in the statement that runs it.
        matches!(error, Error::SqliteFailure(code, _) if code.extended_code == SQLITE_ERROR),
    ];
    damaged || nonsense.contains(&true)
}

/// Whether the same statement may succeed later although nothing is done about the error.
pub(crate) fn is_passing(error: &Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OperationInterrupted
                | ErrorCode::OutOfMemory
        )
    )
}

/// Whether a record could not be written because another record has its place.
pub(crate) fn is_place_taken(error: &Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

/// Whether a progress handler ended the statement.
pub(crate) fn is_interrupted(error: &Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}
