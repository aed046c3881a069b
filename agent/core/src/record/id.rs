//! Record ids: `<start>-<seq>`, such as `12k3f9x2ab-345`. Only this module writes and parses record
//! ids.
//!
//! The part before the hyphen names one start of the agent: the number of starts on this state
//! directory, in decimal, then [`SUFFIX_BYTES`] random characters, the first of them a letter. The
//! counter repeats if the state directory is lost, restored from a backup, cloned or discarded at
//! each boot; the suffix is drawn at every start, so the id of a record does not repeat. Starts
//! recorded by an earlier version have no suffix, and keep their ids: `12-345`.

use std::fmt;
use std::str::FromStr;

use crate::record::reading::Seq;

/// The number of characters of a suffix: a letter, then letters and digits. There are 26 * 36^7
/// suffixes, about 2 * 10^12: of ten thousand starts of one thing with the same counter, two share
/// a suffix with a probability of 2.5 * 10^-5.
pub const SUFFIX_BYTES: usize = 8;
/// The most digits of a `u32`.
const COUNTER_BYTES: usize = 10;
const START_BYTES: usize = COUNTER_BYTES + SUFFIX_BYTES;

const LETTERS: &[u8; 26] = b"abcdefghijklmnopqrstuvwxyz";
const LETTERS_AND_DIGITS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A start of the agent: the part of a record id before the hyphen, as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Boot {
    counter: u32,
    length: u8,
    text: [u8; START_BYTES],
}

/// The id of a record: a start of the agent, and a place in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordId {
    /// The start in which the record was stored.
    pub boot: Boot,
    /// The place of the record.
    pub seq: Seq,
}

/// The error for a text other than a record id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotARecordId;

impl Boot {
    /// Creates the start number `counter`, with a suffix made of the bits of `random`.
    #[must_use]
    pub fn new(counter: u32, random: u64) -> Self {
        let mut suffix = [0; SUFFIX_BYTES];
        let mut rest = random;
        for (at, character) in suffix.iter_mut().enumerate() {
            let alphabet = if at == 0 { &LETTERS[..] } else { &LETTERS_AND_DIGITS[..] };
            let count = alphabet.len() as u64;
            *character = alphabet[usize::try_from(rest % count).unwrap_or(0)];
            rest /= count;
        }
        Self::put_together(counter, &suffix)
    }

    /// Creates the start number `counter` of an earlier version, without a suffix.
    #[must_use]
    pub fn without_suffix(counter: u32) -> Self {
        Self::put_together(counter, &[])
    }

    /// Creates the start number `counter` with a stored suffix. Leaves out an invalid suffix.
    #[must_use]
    pub fn from_stored(counter: u32, suffix: &str) -> Self {
        let suffix = if is_suffix(suffix.as_bytes()) { suffix.as_bytes() } else { &[] };
        Self::put_together(counter, suffix)
    }

    /// Returns the start with the same suffix and the number `counter`.
    #[must_use]
    pub fn with_counter(self, counter: u32) -> Self {
        Self::put_together(counter, self.suffix().as_bytes())
    }

    /// Returns the number of starts on this state directory, up to and including this start.
    #[must_use]
    pub fn counter(self) -> u32 {
        self.counter
    }

    /// Returns the random characters; empty for a start of an earlier version.
    #[must_use]
    pub fn suffix(&self) -> &str {
        let text = self.as_str();
        text.trim_start_matches(|character: char| character.is_ascii_digit())
    }

    /// Returns the part of a record id before the hyphen.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("it was put together from ASCII")
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }

    fn put_together(counter: u32, suffix: &[u8]) -> Self {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(counter).as_bytes();
        let (length, mut text) = (digits.len() + suffix.len(), [0; START_BYTES]);
        text[..digits.len()].copy_from_slice(digits);
        text[digits.len()..length].copy_from_slice(suffix);
        let length = u8::try_from(length).expect("no longer than the array");
        Self { counter, length, text }
    }
}

impl RecordId {
    /// Appends the id to `out`, without quotes.
    pub fn write_to(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.boot.as_bytes());
        out.push(b'-');
        out.extend_from_slice(itoa::Buffer::new().format(self.seq.0).as_bytes());
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Boot({})", self.as_str())
    }
}

impl FromStr for Boot {
    type Err = NotARecordId;

    fn from_str(text: &str) -> Result<Self, NotARecordId> {
        let suffix = text.trim_start_matches(|character: char| character.is_ascii_digit());
        let digits = &text[..text.len() - suffix.len()];
        let counter = digits.parse().map_err(|_| NotARecordId)?;
        let boot = Self::from_stored(counter, suffix);
        if boot.as_str() == text { Ok(boot) } else { Err(NotARecordId) }
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}", self.boot, self.seq.0))
    }
}

impl FromStr for RecordId {
    type Err = NotARecordId;

    fn from_str(text: &str) -> Result<Self, NotARecordId> {
        let (boot, seq) = text.split_once('-').ok_or(NotARecordId)?;
        let id = Self { boot: boot.parse()?, seq: Seq(seq.parse().map_err(|_| NotARecordId)?) };
        if id.to_string() == text { Ok(id) } else { Err(NotARecordId) }
    }
}

impl fmt::Display for NotARecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a record id, such as `12k3f9x2ab-345`")
    }
}

impl std::error::Error for NotARecordId {}

fn is_suffix(suffix: &[u8]) -> bool {
    suffix.len() == SUFFIX_BYTES
        && suffix[0].is_ascii_lowercase()
        && suffix.iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_its_counter_and_a_suffix_that_begins_with_a_letter() {
        for (random, counter) in [(0, 1), (u64::MAX, u32::MAX), (0x0123_4567_89ab_cdef, 12)] {
            let boot = Boot::new(counter, random);

            let suffix = boot.as_str().strip_prefix(&counter.to_string()).unwrap().to_owned();
            assert!(is_suffix(suffix.as_bytes()), "{boot}");
            assert_eq!((boot.counter(), boot.suffix()), (counter, &*suffix));
        }
    }

    #[test]
    fn every_id_reads_back_as_it_was_written() {
        let boots = [Boot::new(12, 345), Boot::new(u32::MAX, 1 << 60), Boot::without_suffix(12)];
        for id in boots.map(|boot| RecordId { boot, seq: Seq(u64::MAX) }) {
            let mut written = Vec::new();
            id.write_to(&mut written);

            assert_eq!(written, id.to_string().into_bytes());
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        assert_eq!("12-345".parse::<RecordId>().unwrap().boot, Boot::without_suffix(12));
    }

    #[test]
    fn no_other_text_is_an_id() {
        let texts = [
            "",
            "-",
            "12",
            "12-",
            "-5",
            "a-1",
            "12k3f-1",
            "12K3F9X2AB-1",
            "12k3f9x2ab",
            "012-1",
            "12-01",
            "12-+1",
            "12k3f9x2abc-1",
            "4294967296-1",
            "12k3f9x2a\u{e4}-1",
            "12-1-1",
        ];
        for text in texts {
            assert_eq!(text.parse::<RecordId>(), Err(NotARecordId), "{text}");
        }
    }

    #[test]
    fn a_stored_suffix_that_makes_no_sense_is_left_out() {
        for suffix in ["", "9bcdefgh", "short", "UPPERCAS", "waytoolong"] {
            assert_eq!(Boot::from_stored(7, suffix), Boot::without_suffix(7), "{suffix}");
        }
    }

    #[test]
    fn suffixes_of_different_random_bits_differ() {
        let suffixes: std::collections::HashSet<String> =
            (0..10_000_u64).map(|random| Boot::new(1, random * 0x9e37_79b9).to_string()).collect();

        assert_eq!(suffixes.len(), 10_000);
    }
}
