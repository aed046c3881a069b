//! Parses the times of other programs, in RFC 3339, fast enough for every line.

use jiff::Timestamp;

use super::fault::{LineFault, LineField, Wrong};
use super::line::LineTime;

/// The last millisecond that jiff accepts, 9999-12-30T22:00:00Z: jiff leaves 26 hours before the end
/// of the year 9999 for local times. Records with later times could not be written.
const MAX_MILLISECONDS: i64 = 253_402_207_200_000;
/// The length of `YYYY-MM-DDTHH:MM:SS`.
const SECOND_BYTES: usize = 19;

/// Parses times; caches the last second, since neighbouring lines usually share a second.
#[derive(Debug, Default)]
pub(super) struct TimeParser {
    written: [u8; SECOND_BYTES],
    second: i64,
}

impl TimeParser {
    /// Returns the milliseconds since the epoch.
    pub(super) fn parse_time(&mut self, time: &LineTime<'_>) -> Result<i64, LineFault> {
        let milliseconds = match time {
            LineTime::Milliseconds(milliseconds) => *milliseconds,
            LineTime::Text(text) => self
                .parse_rfc3339(text.as_bytes())
                .ok_or(LineFault::in_field(LineField::Time, Wrong::NotRfc3339))?,
        };
        if (0..=MAX_MILLISECONDS).contains(&milliseconds) {
            Ok(milliseconds)
        } else {
            Err(LineFault::in_field(LineField::Time, Wrong::OutOfYears))
        }
    }

    fn parse_rfc3339(&mut self, text: &[u8]) -> Option<i64> {
        let (second, rest) = text.split_first_chunk()?;
        let (fraction, zone) = parse_fraction(rest)?;
        let offset_minutes = parse_offset(zone)?;
        Some(self.cached_second(second)? * 1000 + fraction - offset_minutes * 60_000)
    }

    fn cached_second(&mut self, written: &[u8; SECOND_BYTES]) -> Option<i64> {
        if self.written != *written {
            self.second = parse_second(written)?;
            self.written = *written;
        }
        Some(self.second)
    }
}

/// Parses a second in UTC. The shape is checked first, since jiff accepts more notations than RFC
/// 3339.
fn parse_second(written: &[u8; SECOND_BYTES]) -> Option<i64> {
    let shaped = written.iter().enumerate().all(|(at, byte)| match at {
        4 | 7 => *byte == b'-',
        10 => matches!(byte, b'T' | b't' | b' '),
        13 | 16 => *byte == b':',
        _ => byte.is_ascii_digit(),
    });
    let mut utc = [b'Z'; SECOND_BYTES + 1];
    utc[..SECOND_BYTES].copy_from_slice(written);
    let utc = std::str::from_utf8(&utc).ok().filter(|_| shaped)?;
    Some(utc.parse::<Timestamp>().ok()?.as_second())
}

/// Returns the milliseconds of a fraction of a second, and the text after the fraction; finer
/// digits are cut off.
fn parse_fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = text.strip_prefix(b".") else {
        return Some((0, text));
    };
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = digits.split_at(length);
    let digit = |at: usize| digits.get(at).map_or(0, |byte| i64::from(byte - b'0'));
    (length > 0).then(|| (digit(0) * 100 + digit(1) * 10 + digit(2), rest))
}

/// Returns the offset from UTC in minutes, positive to the east.
fn parse_offset(zone: &[u8]) -> Option<i64> {
    let (sign, [h1, h2, b':', m1, m2]) = (match zone {
        b"Z" | b"z" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    }) else {
        return None;
    };
    let two = |tens: &u8, units: &u8| {
        (tens.is_ascii_digit() && units.is_ascii_digit())
            .then(|| i64::from(tens - b'0') * 10 + i64::from(units - b'0'))
    };
    let (hours, minutes) = (two(h1, h2)?, two(m1, m2)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<i64> {
        TimeParser::default().parse_time(&LineTime::Text(Cow::Borrowed(text))).ok()
    }

    #[test]
    fn reads_the_forms_of_rfc_3339() {
        let ten = Some(1_795_168_800_000);

        assert_eq!(read("2026-11-20T10:00:00Z"), ten);
        assert_eq!(read("2026-11-20T10:00:00.000Z"), ten);
        assert_eq!(read("2026-11-20t10:00:00z"), ten);
        assert_eq!(read("2026-11-20 11:30:00+01:30"), ten);
        assert_eq!(read("2026-11-20T00:00:00-10:00"), ten);
        assert_eq!(read("2026-11-20T10:00:00.1239999Z"), ten.map(|ten| ten + 123));
        assert_eq!(read("2026-11-20T10:00:00.5Z"), ten.map(|ten| ten + 500));
    }

    #[test]
    fn refuses_other_forms() {
        for wrong in [
            "",
            "now",
            "2026-11-20",
            "2026-11-20T10:00:00",
            "2026-11-20T10:00Z",
            "2026-13-20T10:00:00Z",
            "2026-02-30T10:00:00Z",
            "2026-11-20T24:00:00Z",
            "2026-11-20T10:00:00.Z",
            "2026-11-20T10:00:00,5Z",
            "2026-11-20T10:00:00+1:00",
            "2026-11-20T10:00:00+24:00",
            "2026-11-20T10:00:00Zulu",
            "2026-11-20T10:00:00+01:00[Europe/Paris]",
            "1969-12-31T23:59:59Z",
            "20261120T100000Z",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_second_that_is_wrong_is_not_remembered() {
        let mut calendar = TimeParser::default();
        let wrong = LineTime::Text("2026-11-31T10:00:00Z".into());

        assert!(calendar.parse_time(&wrong).is_err());
        assert!(calendar.parse_time(&wrong).is_err());
    }

    #[test]
    fn whole_milliseconds_count_from_the_epoch_to_the_year_9999() {
        let mut calendar = TimeParser::default();

        assert_eq!(calendar.parse_time(&LineTime::Milliseconds(7)), Ok(7));
        assert!(calendar.parse_time(&LineTime::Milliseconds(-1)).is_err());
        assert!(calendar.parse_time(&LineTime::Milliseconds(MAX_MILLISECONDS + 1)).is_err());
    }

    #[test]
    fn the_last_time_accepted_can_be_written_and_read_again() {
        let last = Timestamp::from_millisecond(MAX_MILLISECONDS).expect("jiff writes the time");

        assert_eq!(read(&format!("{last:.3}")), Some(MAX_MILLISECONDS));
        assert_eq!(read("9999-12-30T22:00:01Z"), None);
        assert_eq!(read("9999-12-30T22:00:00-10:00"), None);
    }

    proptest! {
        #[test]
        fn agrees_with_jiff(milliseconds in proptest::collection::vec(0..=MAX_MILLISECONDS, 1..5)) {
            let mut calendar = TimeParser::default();
            for milliseconds in milliseconds {
                let stamp = Timestamp::from_millisecond(milliseconds).expect("in range");

                let read = calendar.parse_time(&LineTime::Text(format!("{stamp:.3}").into()));

                prop_assert_eq!(read, Ok(milliseconds));
            }
        }
    }
}
