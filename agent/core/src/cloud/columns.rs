//! Columns: the readings of a message as one JSON object with an array for each member of a record,
//! in place of one object for each reading. README.md describes the members;
//! `agent/decode_columns.py` restores the standard records.
//!
//! A series is the readings of a message that come from one source and have the same constant
//! members. Times and numbers are differences within a series, so the readings of several sources
//! may alternate. Nothing is rounded: a number without an exact form of at most
//! [`MAX_DECIMALS`] decimals, whose integer is at most [`MAX_SCALED`], is written in full.

use std::collections::HashMap;

use pulsegate_sensors::SourceId;

use super::record_text::{
    ReadingLayout, RecordStamp, contact_word, write_integer, write_number, write_text,
};
use crate::record::id::{Boot, RecordId};
use crate::record::reading::{Reading, Value};
use crate::time::timeline::ClockTrust;

/// The greatest number of decimals of a scaled number. Powers of ten up to 10^22 are exact in
/// an `f64`; numbers of 15 significant digits need no more.
const MAX_DECIMALS: u8 = 15;
/// 2^52: the difference of two scaled numbers stays below 2^53, so receivers whose numbers are all
/// `f64` add the differences exactly.
const MAX_SCALED: f64 = 4_503_599_627_370_496.0;
/// The years 1 to 9999, in milliseconds since 1970. Other years cannot be written in RFC 3339, and
/// their differences could overflow.
const YEARS_MS: std::ops::RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;

/// The readings of one message, in columns. Each column is JSON text that begins with the end of
/// the column before, and its key.
#[derive(Debug)]
pub(super) struct ColumnBatch {
    begin_ms: i64,
    places: HashMap<SeriesKey, usize>,
    series: Vec<Series>,
    sequence: Sequence,
    head: Vec<u8>,
    seq: Vec<u8>,
    /// The records behind the text of `seq`, each with the next higher sequence number.
    seq_run: Vec<u8>,
    index: Vec<u8>,
    ms: Vec<u8>,
    value: Vec<u8>,
    energy_kj: Vec<u8>,
    rr: Vec<u8>,
}

/// The source and the constant members of a series, apart from those of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct SeriesKey {
    source: SourceId,
    contact: Option<&'static str>,
    has_energy: bool,
    has_rr: bool,
    is_clock_unset: bool,
}

/// The last reading of a series: the bases of the next differences.
#[derive(Debug, Clone, Copy)]
struct Series {
    time_ms: i64,
    step_ms: i64,
    /// `None` behind a number that is written in full.
    number: Option<Decimal>,
}

/// The id of the last record, and the length of the run of `seq_run`.
#[derive(Debug, Clone, Copy, Default)]
struct Sequence {
    boot: Option<Boot>,
    last: u64,
    run: u64,
}

/// A number as an integer divided by a power of ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decimal {
    scaled: i64,
    decimals: u8,
}

/// The state of a batch before a reading that may find no room.
struct Undo {
    lengths: [usize; 7],
    sequence: Sequence,
    series: usize,
}

impl ColumnBatch {
    pub(super) fn new() -> Self {
        Self {
            begin_ms: 0,
            places: HashMap::new(),
            series: Vec::new(),
            sequence: Sequence::default(),
            head: Vec::new(),
            seq: b"],\"seq\":[".to_vec(),
            seq_run: Vec::new(),
            index: b"],\"index\":[".to_vec(),
            ms: b"],\"ms\":[".to_vec(),
            value: b"],\"value\":[".to_vec(),
            energy_kj: b"],\"energy_kj\":[".to_vec(),
            rr: b"],\"rr\":[".to_vec(),
        }
    }

    /// Appends a reading, unless the message would then have more than `room` bytes. Returns `true`
    /// if the reading was appended.
    pub(super) fn push_reading(
        &mut self,
        layout: &ReadingLayout,
        reading: &Reading,
        stamp: &RecordStamp,
        room: usize,
    ) -> bool {
        let undo = self.undo_point();
        let time_ms = stamp.time.0.clamp(*YEARS_MS.start(), *YEARS_MS.end());
        if self.series.is_empty() {
            self.begin_ms = time_ms;
            self.head.extend_from_slice(b"{\"columns\":1,\"time\":");
            write_integer(time_ms, &mut self.head);
            self.head.extend_from_slice(b",\"series\":[");
        }
        self.push_id(stamp.id);
        let at = self.find_or_add_series(layout, reading, stamp.trust);
        let series = self.series[at];
        write_integer(at, begin_element(&mut self.index));
        let step_ms = time_ms - series.time_ms;
        write_integer(step_ms - series.step_ms, begin_element(&mut self.ms));
        let number = write_value(&reading.value, series.number, begin_element(&mut self.value));
        self.series[at] = Series { time_ms, step_ms, number };
        self.push_detail(layout, reading);
        let fits = self.encoded_len() <= room;
        if !fits {
            self.undo_to(undo);
            if let Some(kept) = self.series.get_mut(at) {
                *kept = series;
            }
        }
        fits
    }

    /// Returns the length of the message in bytes.
    pub(super) fn encoded_len(&self) -> usize {
        self.list_parts().iter().map(|part| part.len()).sum()
    }

    /// Returns the message.
    pub(super) fn to_payload(&self) -> Vec<u8> {
        self.list_parts().concat()
    }

    /// Lists the parts of the message, in order. `index` is left out if all readings are of one
    /// series, and a column without elements is left out, too.
    fn list_parts(&self) -> [&[u8]; 10] {
        let index = if self.series.len() > 1 { &self.index[..] } else { &[] };
        let filled = |column: &'_ Vec<u8>| !column.ends_with(b"[");
        let energy_kj = if filled(&self.energy_kj) { &self.energy_kj[..] } else { &[] };
        let rr = if filled(&self.rr) { &self.rr[..] } else { &[] };
        let (seq, run) = (&self.seq[..], &self.seq_run[..]);
        [&self.head, seq, run, b"]", index, &self.ms, &self.value, energy_kj, rr, b"]}"]
    }

    fn push_id(&mut self, id: RecordId) {
        let Sequence { boot, last, run } = self.sequence;
        let is_next = boot == Some(id.boot) && id.seq.0 > last;
        let run = if is_next && id.seq.0 - last == 1 { run + 1 } else { 0 };
        if run == 0 {
            self.seq.append(&mut self.seq_run);
            if is_next {
                write_integer(id.seq.0 - last, begin_element(&mut self.seq));
            } else {
                if boot.is_some() {
                    self.seq.push(b']');
                }
                let seq = begin_element(&mut self.seq);
                seq.push(b'[');
                write_text(id.boot.as_str(), seq);
                write_integer(id.seq.0, begin_element(seq));
            }
        }
        self.sequence = Sequence { boot: Some(id.boot), last: id.seq.0, run };
        self.write_run();
    }

    fn write_run(&mut self) {
        self.seq_run.clear();
        match self.sequence.run {
            0 => {}
            1 => self.seq_run.extend_from_slice(b",1"),
            run => {
                self.seq_run.extend_from_slice(b",-");
                write_integer(run, &mut self.seq_run);
            }
        }
    }

    fn find_or_add_series(
        &mut self,
        layout: &ReadingLayout,
        reading: &Reading,
        trust: ClockTrust,
    ) -> usize {
        let detail = reading.detail.as_deref();
        let key = SeriesKey {
            source: reading.source,
            contact: contact_word(detail),
            has_energy: detail.is_some_and(|detail| detail.energy_kj.is_some()),
            has_rr: layout.has_rr && detail.is_some_and(|detail| !detail.rr.is_empty()),
            is_clock_unset: trust == ClockTrust::Unset,
        };
        let next = self.series.len();
        let at = *self.places.entry(key).or_insert(next);
        if at == next {
            let head = begin_element(&mut self.head);
            head.push(b'{');
            head.extend_from_slice(&layout.members);
            if let Some(contact) = key.contact {
                head.extend_from_slice(b",\"contact\":");
                write_text(contact, head);
            }
            // A member that is null has its values in the column of its own.
            for (has, member) in [
                (key.has_energy, &b",\"energy_kj\":null"[..]),
                (key.has_rr, b",\"rr_ms\":null"),
                (key.is_clock_unset, b",\"clock\":\"unset\""),
            ] {
                head.extend_from_slice(if has { member } else { b"" });
            }
            head.push(b'}');
            let number = Some(Decimal { scaled: 0, decimals: 0 });
            self.series.push(Series { time_ms: self.begin_ms, step_ms: 0, number });
        }
        at
    }

    fn push_detail(&mut self, layout: &ReadingLayout, reading: &Reading) {
        let Some(detail) = reading.detail.as_deref() else { return };
        if let Some(energy) = detail.energy_kj {
            write_integer(energy, begin_element(&mut self.energy_kj));
        }
        if layout.has_rr && !detail.rr.is_empty() {
            let rr = begin_element(&mut self.rr);
            rr.push(b'[');
            detail.rr.iter().for_each(|raw| write_integer(*raw, begin_element(rr)));
            rr.push(b']');
        }
    }

    fn list_texts(&mut self) -> [&mut Vec<u8>; 7] {
        let Self { head, seq, index, ms, value, energy_kj, rr, .. } = self;
        [head, seq, index, ms, value, energy_kj, rr]
    }

    fn undo_point(&mut self) -> Undo {
        Undo {
            lengths: self.list_texts().map(|text| text.len()),
            sequence: self.sequence,
            series: self.series.len(),
        }
    }

    fn undo_to(&mut self, undo: Undo) {
        for (text, length) in self.list_texts().into_iter().zip(undo.lengths) {
            text.truncate(length);
        }
        self.sequence = undo.sequence;
        self.write_run();
        self.series.truncate(undo.series);
        self.places.retain(|_, at| *at < undo.series);
    }
}

impl Decimal {
    /// Returns `number` with as few decimals as are exact: the quotient of `scaled` and the power
    /// of ten, rounded to an `f64`, is `number`.
    fn from_number(number: f64) -> Option<Self> {
        let mut power = 1.0;
        for decimals in 0..=MAX_DECIMALS {
            let scaled = (number * power).round();
            if scaled.abs() > MAX_SCALED {
                return None;
            }
            if scaled / power == number {
                #[expect(clippy::cast_possible_truncation, reason = "whole and at most 2^52")]
                return Some(Self { scaled: scaled as i64, decimals });
            }
            power *= 10.0;
        }
        None
    }

    /// Returns the same number with more decimals.
    fn with_decimals(self, decimals: u8) -> Option<Self> {
        let more = decimals.checked_sub(self.decimals)?;
        let scaled = self.scaled.checked_mul(10_i64.checked_pow(more.into())?)?;
        #[expect(clippy::cast_possible_truncation, reason = "a power of two")]
        (scaled.abs() <= MAX_SCALED as i64).then_some(Self { scaled, decimals })
    }
}

/// Writes a value as the shorter of the difference to `last` and the number itself,
/// `[scaled, decimals]`; a state as a text. Returns the number that the next difference refers to.
fn write_value(value: &Value, last: Option<Decimal>, out: &mut Vec<u8>) -> Option<Decimal> {
    let number = match value {
        Value::Number(number) if number.is_finite() => *number,
        Value::Number(_) => {
            out.extend_from_slice(b"null");
            return last;
        }
        Value::State(state) => {
            write_text(state, out);
            return last;
        }
    };
    let before = out.len();
    let decimal = Decimal::from_number(number);
    out.push(b'[');
    match decimal {
        Some(decimal) => write_integer(decimal.scaled, out),
        None => write_number(number, out),
    }
    out.push(b',');
    write_integer(decimal.map_or(0, |decimal| decimal.decimals), out);
    out.push(b']');
    let last = last.and_then(|last| Some((last, decimal?.with_decimals(last.decimals)?)));
    let Some((last, rescaled)) = last else { return decimal };
    let mut buffer = itoa::Buffer::new();
    let difference = buffer.format(rescaled.scaled - last.scaled).as_bytes();
    if difference.len() > out.len() - before {
        return decimal;
    }
    out.truncate(before);
    out.extend_from_slice(difference);
    Some(rescaled)
}

/// Separates an element from the one before, and returns the text.
fn begin_element(text: &mut Vec<u8>) -> &mut Vec<u8> {
    if !text.ends_with(b"[") {
        text.push(b',');
    }
    text
}

#[cfg(test)]
mod tests;
