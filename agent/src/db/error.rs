//! The errors of the database, and the reaction to each.

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_ERROR;
pub(crate) use rusqlite::{Error, Result};

/// Returns true if the database is at fault, not the disk or the request.
pub(crate) fn is_damage(error: &Error) -> bool {
    let code = error.sqlite_error_code();
    let damaged = matches!(
        code,
        Some(
            ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                // A place assigned twice: the last place of the store cannot be believed.
                | ErrorCode::ConstraintViolation
                // A text or row longer than any the agent writes.
                | ErrorCode::TooBig
        )
    );
    // The agent cannot have written these values.
    let nonsense = [
        matches!(error, Error::InvalidColumnType(..) | Error::FromSqlConversionFailure(..)),
        matches!(error, Error::IntegralValueOutOfRange(..) | Error::Utf8Error(..)),
        // The statements of the agent are right, so the tables are wrong.
        matches!(error, Error::SqlInputError { .. }),
        matches!(error, Error::StatementChangedRows(_)),
        // The triggers are wrong: a fault in a trigger has no position in the statement that runs
        // it.
        matches!(error, Error::SqliteFailure(code, _) if code.extended_code == SQLITE_ERROR),
    ];
    damaged || nonsense.contains(&true)
}

/// Returns true if the same statement may succeed later without a repair.
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

/// Returns true if another record already has the place.
pub(crate) fn is_place_taken(error: &Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

/// Returns true if a progress handler ended the statement.
pub(crate) fn is_interrupted(error: &Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}
