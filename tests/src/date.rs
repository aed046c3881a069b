//! Dates for tests: computed from now, so that no test fails because of the day on which it runs.
//!
//! Readings with a time of their own begin at 10:00 UTC of the day before yesterday, the beginning of a
//! minute and of an hour. A whole day of them lies in the past, and is younger than the default `history`.

use std::sync::LazyLock;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

/// One day for the whole process, also when that runs past midnight.
static DAY: LazyLock<Date> = LazyLock::new(|| {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    today
        .checked_sub(2.days())
        .expect("the clock of this machine is right within thousands of years")
});

/// Returns 10:00 UTC of the day before yesterday, in milliseconds since 1970.
///
/// # Panics
/// When this machine has no UTC.
#[must_use]
pub fn ten() -> i64 {
    let ten = DAY.at(10, 0, 0, 0).in_tz("UTC").expect("10:00 is a time of every day");
    ten.timestamp().as_millisecond()
}

/// Returns the date of the day of [`ten`], or so many days later, as records have it: `2001-02-03`.
///
/// # Panics
/// When there is no such date.
#[must_use]
pub fn day(later: i64) -> String {
    DAY.checked_add(later.days()).expect("tests look a few days ahead").to_string()
}

/// Returns a time of the day of [`ten`] as records have it: `at("10:02:30.000")`.
#[must_use]
pub fn at(time: &str) -> String {
    format!("{}T{time}Z", *DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_readings_lies_in_the_past_and_within_the_default_history() {
        let age = Timestamp::now().as_millisecond() - ten();

        let hour = 60 * 60 * 1_000;
        assert!((38 * hour..63 * hour).contains(&age), "{age} ms");
        assert_eq!(at("10:00:00").parse::<Timestamp>().unwrap().as_millisecond(), ten());
    }
}
