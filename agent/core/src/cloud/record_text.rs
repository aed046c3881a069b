//! Records: the published JSON text of readings, alerts and events. Each record is one flat object
//! with lower-case keys. Fields are added, but never renamed or removed.
//!
//! The constant text of the records of a source (keys, source, kind) is prepared once per source;
//! for each reading, only the variable values are written.

use std::io::Write as _;
use std::sync::Arc;

use pulsegate_sensors::{Contact, Source};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cloud::topic::Template;
use crate::record::id::RecordId;
use crate::record::reading::{Boot, HeartDetail, Reading, Seq, Value};
use crate::time::Wall;
use crate::time::timeline::ClockTrust;

/// The form of the records of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Framing {
    /// One JSON array per message: for AWS IoT rules with batch mode.
    #[default]
    Array,
    /// One JSON object per line.
    Lines,
    /// One JSON object per message, with an array for each member of the records: a tenth of the
    /// bytes or less in messages of some hundred readings, more with few readings a message. AWS
    /// bills 5 KiB a message, so raise `batch.delay`. Decoded by `agent/decode_columns.py`. Only
    /// for readings.
    Columns,
}

/// The content of a field in the record of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// The record id, unique for ever within the thing. Needed to remove duplicates.
    Seq,
    /// The id of the source.
    Source,
    /// The kind of the reading.
    Kind,
    /// The time in RFC 3339 with milliseconds, in UTC, such as `2026-11-20T10:00:00.123Z`.
    Time,
    /// The time in milliseconds since 1970, in UTC.
    TimeMs,
    /// The time in seconds since 1970, in UTC.
    TimeS,
    /// The number or the state of the reading.
    Value,
    /// The same as `value`: a heart rate is a number, in beats per minute.
    Bpm,
    /// The same as `value`: the state of a line or of another program's reading.
    State,
    /// The configured unit of the source; left out if the source has no unit.
    Unit,
    /// Skin contact, `detected` or `lost`; left out if the monitor reports no contact.
    Contact,
    /// The energy expended in kilojoule; left out if the monitor reports no energy.
    EnergyKj,
    /// The beat-to-beat intervals in milliseconds, separated by spaces in one string, so that the
    /// record stays flat; left out if the packet has none.
    RrMs,
    /// No key of its own: each record has `"clock":"unset"` while the time is not trusted, whatever
    /// `fields` lists.
    Clock,
}

impl Field {
    /// Returns `true` if some readings lack the field.
    #[must_use]
    pub fn is_optional(self) -> bool {
        matches!(self, Self::Contact | Self::EnergyKj | Self::RrMs)
    }
}

/// The format of the records of one kind of readings.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadingFormat {
    /// The template of the topic.
    pub topic: Template,
    /// The keys with their fields; `None` for the standard record.
    pub fields: Option<Vec<(Box<str>, Field)>>,
    /// The framing of the records.
    pub framing: Framing,
    /// Constant members at the end of each record: JSON without braces.
    pub add: Box<str>,
}

/// The id and the time of a record.
#[derive(Debug, Clone, Copy)]
pub struct RecordStamp {
    /// The start of the agent in which the record was stored, and the place in the store.
    pub id: RecordId,
    /// The wall time, as far as known by now.
    pub time: Wall,
    /// The trust in `time`.
    pub trust: ClockTrust,
}

/// The prepared record of one source: constant text and variable values, in order.
#[derive(Debug, Clone)]
pub struct ReadingLayout {
    /// The topic of the records.
    pub topic: Arc<str>,
    /// The framing of the records.
    pub framing: Framing,
    pieces: Vec<Piece>,
    /// The constant members of the standard record: JSON without braces.
    pub(super) members: Vec<u8>,
    /// Whether the standard record has the intervals between beats.
    pub(super) has_rr: bool,
}

#[derive(Debug, Clone)]
enum Piece {
    /// Constant text.
    Text(Vec<u8>),
    Seq,
    Time,
    TimeMs,
    TimeS,
    /// The key of a number, and the key of a state.
    Value {
        number: Vec<u8>,
        state: Vec<u8>,
    },
    /// An optional value with its key, as the next two; without a value, the key is left out, too.
    Contact(Vec<u8>),
    EnergyKj(Vec<u8>),
    RrMs(Vec<u8>),
}

impl ReadingLayout {
    /// Prepares the record of `source`. Without `unit`, the field of the unit is left out. The
    /// standard record has the intervals between beats if `rr` is `true`.
    #[must_use]
    pub fn new(format: &ReadingFormat, source: &Source, unit: Option<&str>, rr: bool) -> Self {
        let mut layout = LayoutText { pieces: Vec::new(), text: b"{".to_vec() };
        match &format.fields {
            // Optional fields go last, so that a comma always precedes them.
            Some(fields) => {
                let (last, first): (Vec<_>, Vec<_>) =
                    fields.iter().partition(|(_, field)| field.is_optional());
                for (key, field) in first.into_iter().chain(last) {
                    layout.add_field(key, *field, source, unit);
                }
            }
            None => layout.add_default_fields(source, unit, rr),
        }
        layout.add_members(&format.add);
        let mut members = LayoutText { pieces: Vec::new(), text: b"{".to_vec() };
        for (key, field) in
            [("source", Field::Source), ("kind", Field::Kind), ("unit", Field::Unit)]
        {
            members.add_field(key, field, source, unit);
        }
        members.add_members(&format.add);
        Self {
            topic: format.topic.fill_in(&source.name, &source.kind).into(),
            framing: format.framing,
            pieces: layout.into_pieces(),
            members: members.text.split_off(1),
            has_rr: rr,
        }
    }

    /// Appends the record of `reading` to `out`.
    pub fn write_record(
        &self,
        reading: &Reading,
        stamp: &RecordStamp,
        clock: &mut ClockText,
        out: &mut Vec<u8>,
    ) {
        let detail = reading.detail.as_deref();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Seq => stamp.id.write_to(out),
                Piece::Time => clock.write_time(stamp.time, out),
                Piece::TimeMs => write_integer(stamp.time.0, out),
                Piece::TimeS => write_integer(stamp.time.0.div_euclid(1000), out),
                Piece::Value { number, state } => match &reading.value {
                    Value::Number(value) => {
                        out.extend_from_slice(number);
                        write_number(*value, out);
                    }
                    Value::State(value) => {
                        out.extend_from_slice(state);
                        write_text(value, out);
                    }
                },
                Piece::Contact(key) => {
                    if let Some(contact) = contact_word(detail) {
                        out.extend_from_slice(key);
                        write_text(contact, out);
                    }
                }
                Piece::EnergyKj(key) => {
                    if let Some(energy) = detail.and_then(|detail| detail.energy_kj) {
                        out.extend_from_slice(key);
                        write_integer(energy, out);
                    }
                }
                Piece::RrMs(key) => write_rr(key, detail, out),
            }
        }
        end_record(stamp.trust, out);
    }
}

/// Collects the pieces of a layout: constant text in `text`, completed by each variable value.
struct LayoutText {
    pieces: Vec<Piece>,
    text: Vec<u8>,
}

impl LayoutText {
    fn add_default_fields(&mut self, source: &Source, unit: Option<&str>, rr: bool) {
        for (key, field) in [
            ("seq", Field::Seq),
            ("source", Field::Source),
            ("kind", Field::Kind),
            ("time", Field::Time),
        ] {
            self.add_field(key, field, source, unit);
        }
        let number = if &*source.kind == "heart_rate" { "bpm" } else { "value" };
        self.add_value(number, "state");
        self.add_field("unit", Field::Unit, source, unit);
        self.add_field("contact", Field::Contact, source, unit);
        self.add_field("energy_kj", Field::EnergyKj, source, unit);
        if rr {
            self.add_field("rr_ms", Field::RrMs, source, unit);
        }
    }

    fn add_field(&mut self, key: &str, field: Field, source: &Source, unit: Option<&str>) {
        match field {
            Field::Seq => self.add_quoted(key, Piece::Seq),
            Field::Time => self.add_quoted(key, Piece::Time),
            Field::TimeMs => self.add_bare(key, Piece::TimeMs),
            Field::TimeS => self.add_bare(key, Piece::TimeS),
            Field::Source => self.add_constant(key, &source.name),
            Field::Kind => self.add_constant(key, &source.kind),
            Field::Unit => {
                if let Some(unit) = unit {
                    self.add_constant(key, unit);
                }
            }
            Field::Value | Field::Bpm | Field::State => self.add_value(key, key),
            // Written anyway while the time is not trusted, whatever the fields are.
            Field::Clock => {}
            Field::Contact => self.add_optional(key, Piece::Contact),
            Field::EnergyKj => self.add_optional(key, Piece::EnergyKj),
            Field::RrMs => self.add_optional(key, Piece::RrMs),
        }
    }

    fn write_key(&mut self, key: &str) {
        if !(self.pieces.is_empty() && self.text == b"{") {
            self.text.push(b',');
        }
        write_text(key, &mut self.text);
        self.text.push(b':');
    }

    fn add_constant(&mut self, key: &str, value: &str) {
        self.write_key(key);
        write_text(value, &mut self.text);
    }

    fn add_quoted(&mut self, key: &str, piece: Piece) {
        self.write_key(key);
        self.text.push(b'"');
        self.push_piece(piece);
        self.text.push(b'"');
    }

    fn add_bare(&mut self, key: &str, piece: Piece) {
        self.write_key(key);
        self.push_piece(piece);
    }

    fn add_value(&mut self, number: &str, state: &str) {
        let [number, state] = [number, state].map(|key| {
            let mut text = LayoutText { pieces: self.pieces.clone(), text: self.text.clone() };
            text.write_key(key);
            text.text.split_off(self.text.len())
        });
        self.push_piece(Piece::Value { number, state });
    }

    fn add_optional(&mut self, key: &str, piece: fn(Vec<u8>) -> Piece) {
        let mut text = vec![b','];
        write_text(key, &mut text);
        text.push(b':');
        self.push_piece(piece(text));
    }

    fn add_members(&mut self, json: &str) {
        if !json.is_empty() {
            self.text.push(b',');
            self.text.extend_from_slice(json.as_bytes());
        }
    }

    fn push_piece(&mut self, piece: Piece) {
        if !self.text.is_empty() {
            self.pieces.push(Piece::Text(std::mem::take(&mut self.text)));
        }
        self.pieces.push(piece);
    }

    fn into_pieces(mut self) -> Vec<Piece> {
        if !self.text.is_empty() {
            self.pieces.push(Piece::Text(self.text));
        }
        self.pieces
    }
}

/// Writes the record of one alert or event: a flat object beginning with the record id.
#[derive(Debug)]
pub struct ObjectText<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> ObjectText<'a> {
    /// Begins the object with the record id.
    pub fn begin_record(boot: Boot, seq: Seq, out: &'a mut Vec<u8>) -> Self {
        out.extend_from_slice(b"{\"seq\":\"");
        RecordId { boot, seq }.write_to(out);
        out.push(b'"');
        Self { out }
    }

    /// Adds a text.
    pub fn add_text(&mut self, key: &str, value: &str) -> &mut Self {
        self.write_key(key);
        write_text(value, self.out);
        self
    }

    /// Adds a number.
    pub fn add_number(&mut self, key: &str, value: f64) -> &mut Self {
        self.write_key(key);
        write_number(value, self.out);
        self
    }

    /// Adds a number with a decimal point even if whole, so receivers see the same type in every
    /// record.
    pub fn add_decimal(&mut self, key: &str, value: f64) -> &mut Self {
        self.write_key(key);
        // Writing to a Vec cannot fail; a number that is not finite becomes `null`.
        serde_json::to_writer(&mut *self.out, &value).expect("writing a number to memory");
        self
    }

    /// Adds a time in RFC 3339 with milliseconds, in UTC.
    pub fn add_time(&mut self, key: &str, value: Wall, clock: &mut ClockText) -> &mut Self {
        self.write_key(key);
        self.out.push(b'"');
        clock.write_time(value, self.out);
        self.out.push(b'"');
        self
    }

    /// Adds members from their JSON text: `"key":value,...` without braces.
    pub fn add_members(&mut self, json: &str) -> &mut Self {
        if !json.is_empty() {
            self.out.push(b',');
            self.out.extend_from_slice(json.as_bytes());
        }
        self
    }

    /// Ends the object, with `"clock":"unset"` if the times are not trusted.
    pub fn end_object(self, trust: ClockTrust) {
        end_record(trust, self.out);
    }

    fn write_key(&mut self, key: &str) {
        self.out.push(b',');
        write_text(key, self.out);
        self.out.push(b':');
    }
}

/// Formats times as `2026-11-20T10:00:00.123Z`. Keeps the text of the last second, because many
/// readings of a batch lie within the same second.
#[derive(Debug, Default)]
pub struct ClockText {
    second: Option<i64>,
    text: String,
}

impl ClockText {
    /// Appends `time` to `out`, without quotes.
    pub fn write_time(&mut self, time: Wall, out: &mut Vec<u8>) {
        let (second, millisecond) = (time.0.div_euclid(1000), time.0.rem_euclid(1000));
        if self.second != Some(second) {
            let timestamp = jiff::Timestamp::from_second(second).unwrap_or_default();
            self.text = format!("{}", timestamp.strftime("%Y-%m-%dT%H:%M:%S."));
            self.second = Some(second);
        }
        out.extend_from_slice(self.text.as_bytes());
        let digit = |n: i64| b'0' + u8::try_from(n % 10).unwrap_or(0);
        out.extend_from_slice(&[
            digit(millisecond / 100),
            digit(millisecond / 10),
            digit(millisecond),
            b'Z',
        ]);
    }

    /// Returns `time` as text.
    #[must_use]
    pub fn format_time(time: Wall) -> String {
        let mut out = Vec::new();
        Self::default().write_time(time, &mut out);
        String::from_utf8(out).unwrap_or_default()
    }
}

fn end_record(trust: ClockTrust, out: &mut Vec<u8>) {
    match trust {
        ClockTrust::Trusted => out.push(b'}'),
        ClockTrust::Unset => out.extend_from_slice(b",\"clock\":\"unset\"}"),
    }
}

pub(super) fn write_integer(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// 2^53: an `f64` holds every smaller whole number exactly.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

/// Appends a number, without a decimal point if it is whole; `null` if it is not finite.
pub fn write_number(value: f64, out: &mut Vec<u8>) {
    if value.fract() == 0.0 && value.abs() < MAX_WHOLE {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53: exact")]
        write_integer(value as i64, out);
    } else if serde_json::to_writer(&mut *out, &value).is_err() {
        out.extend_from_slice(b"null");
    }
}

pub(super) fn write_text(value: &str, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail, and every str can be JSON.
    serde_json::to_writer(out, value).expect("writing a text to memory");
}

/// Returns the skin contact of a monitor as in the standard record, if the monitor reports contact.
#[must_use]
pub fn contact_word(detail: Option<&HeartDetail>) -> Option<&'static str> {
    match detail?.contact {
        Contact::Unsupported => None,
        Contact::Lost => Some("lost"),
        Contact::Detected => Some("detected"),
    }
}

fn write_rr(key: &[u8], detail: Option<&HeartDetail>, out: &mut Vec<u8>) {
    let Some(detail) = detail.filter(|detail| !detail.rr.is_empty()) else { return };
    out.extend_from_slice(key);
    out.push(b'"');
    write_intervals(&detail.rr, out);
    out.push(b'"');
}

/// Appends intervals between beats, given in 1/1024 s, in milliseconds with two decimals, separated
/// by spaces.
pub fn write_intervals(rr: &[u16], out: &mut Vec<u8>) {
    for (i, raw) in rr.iter().enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        // Heart Rate Service 1.0, 3.1.1.5: the unit is 1/1024 s.
        let milliseconds = f64::from(*raw) * 1000.0 / 1024.0;
        write!(out, "{milliseconds:.2}").expect("writing a number to memory");
    }
}

#[cfg(test)]
mod tests;
