//! The fast parser of a line: a scanner for the flat object that programs usually write.
//!
//! A returned line is exactly the line that the JSON parser would return; `None` means only that
//! the scanner does not know. Escapes, exponents, nested values and all faults are left to the JSON
//! parser.

use std::borrow::Cow;

use super::line::{InboxLine, LineTime, LineValue};

/// The maximum number of digits. Every integer with this many digits is an exact `f64`, and so is
/// every power of ten below, so their quotient is correctly rounded.
const EXACT_DIGITS: usize = 15;
const POWERS_OF_TEN: [f64; EXACT_DIGITS + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Parses a line in the usual notation.
pub(super) fn scan_line(text: &str) -> Option<InboxLine<'_>> {
    let mut rest = Scanner { text, at: 0 };
    let (mut source, mut kind, mut value, mut time) = (None, None, None, None);
    rest.expect_byte(b'{')?;
    loop {
        match rest.read_key()? {
            FieldKey::Source if source.is_none() => {
                source = Some(Cow::Borrowed(rest.read_string()?))
            }
            FieldKey::Kind if kind.is_none() => kind = Some(Cow::Borrowed(rest.read_string()?)),
            FieldKey::Value if value.is_none() => value = Some(rest.read_value()?),
            FieldKey::Time if time.is_none() => time = Some(rest.read_time()?),
            FieldKey::Source | FieldKey::Kind | FieldKey::Value | FieldKey::Time => return None,
        }
        match rest.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    rest.expect_end()?;
    Some(InboxLine { source: source?, kind: kind?, value: value?, time })
}

enum FieldKey {
    Source,
    Kind,
    Value,
    Time,
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// A number in plain notation: `digits` without the point, `decimals` of them after the point.
struct PlainNumber {
    negative: bool,
    digits: u64,
    decimals: usize,
}

impl<'a> Scanner<'a> {
    /// Returns the next byte that is not white space.
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek_byte()?;
        self.at += 1;
        Some(byte)
    }

    fn peek_byte(&mut self) -> Option<u8> {
        loop {
            match *self.text.as_bytes().get(self.at)? {
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    fn expect_byte(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn expect_end(&mut self) -> Option<()> {
        self.peek_byte().is_none().then_some(())
    }

    /// Reads a key and its colon.
    fn read_key(&mut self) -> Option<FieldKey> {
        self.expect_byte(b'"')?;
        let rest = self.text.as_bytes().get(self.at..)?;
        let (key, quoted) = match rest.first()? {
            b's' => (FieldKey::Source, b"source\"".as_slice()),
            b'k' => (FieldKey::Kind, b"kind\"".as_slice()),
            b'v' => (FieldKey::Value, b"value\"".as_slice()),
            b't' => (FieldKey::Time, b"time\"".as_slice()),
            _ => return None,
        };
        self.at += rest.starts_with(quoted).then_some(quoted.len())?;
        self.expect_byte(b':')?;
        Some(key)
    }

    fn read_string(&mut self) -> Option<&'a str> {
        self.expect_byte(b'"')?;
        let from = self.at;
        let rest = self.text.as_bytes().get(from..)?;
        let length = plain_length(rest);
        self.at = from + length + 1;
        (*rest.get(length)? == b'"').then(|| &self.text[from..from + length])
    }

    fn read_value(&mut self) -> Option<LineValue<'a>> {
        if self.peek_byte()? == b'"' {
            return Some(LineValue::State(Cow::Borrowed(self.read_string()?)));
        }
        let PlainNumber { negative, digits, decimals } = self.read_number()?;
        #[expect(clippy::cast_precision_loss, reason = "exact: of at most EXACT_DIGITS digits")]
        let size = digits as f64 / POWERS_OF_TEN[decimals];
        Some(LineValue::Number(if negative { -size } else { size }))
    }

    fn read_time(&mut self) -> Option<LineTime<'a>> {
        if self.peek_byte()? == b'"' {
            return Some(LineTime::Text(Cow::Borrowed(self.read_string()?)));
        }
        match self.read_number()? {
            PlainNumber { negative: false, digits, decimals: 0 } => {
                Some(LineTime::Milliseconds(i64::try_from(digits).ok()?))
            }
            _ => None,
        }
    }

    /// Reads a number as defined in RFC 8259, section 6, unless the number is long or has an
    /// exponent.
    fn read_number(&mut self) -> Option<PlainNumber> {
        let negative = self.peek_byte()? == b'-';
        self.at += usize::from(negative);
        let bytes = self.text.as_bytes();
        let (from, mut at, mut digits, mut point) = (self.at, self.at, 0, None);
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'0'..=b'9' => digits = digits * 10 + u64::from(byte - b'0'),
                b'.' if point.is_none() => point = Some(at),
                b'.' | b'e' | b'E' | b'+' | b'-' => return None,
                _ => break,
            }
            at += 1;
            if at - from > EXACT_DIGITS {
                return None;
            }
        }
        self.at = at;
        let whole = point.unwrap_or(at) - from;
        let decimals = point.map_or(0, |point| at - point - 1);
        let leading_zero = whole > 1 && bytes[from] == b'0';
        let complete = whole > 0 && (point.is_none() || decimals > 0);
        (complete && !leading_zero).then_some(PlainNumber { negative, digits, decimals })
    }
}

/// Returns the number of bytes of a string (RFC 8259, section 7) before the first byte with a
/// special meaning. Eight bytes are tested at once: a subtraction borrows into the top bit of a
/// byte that is too small. Borrows only go up, so the lowest mark is correct.
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const TOPS: u64 = ONES << 7;
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & TOPS;
    let equal = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let mut at = 0;
    while let Some(eight) = bytes[at..].first_chunk() {
        let word = u64::from_le_bytes(*eight);
        let marks = below(word, b' ') | equal(word, b'"') | equal(word, b'\\');
        if marks != 0 {
            return at + usize::try_from(marks.trailing_zeros() / 8).unwrap_or(0);
        }
        at += 8;
    }
    at + bytes[at..].iter().take_while(|byte| !matches!(byte, ..b' ' | b'"' | b'\\')).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_string_ends_at_the_first_byte_that_does_not_stand_for_itself(
            bytes in proptest::collection::vec(
                prop_oneof![8 => b'a'..=b'z', 4 => 0x80_u8..=0xff, 1 => any::<u8>(), 1 => b'!'..=b'#'],
                0..40,
            )
        ) {
            let first = bytes.iter().position(|byte| matches!(byte, 0..=0x1f | b'"' | b'\\'));

            prop_assert_eq!(plain_length(&bytes), first.unwrap_or(bytes.len()));
        }
    }
}
