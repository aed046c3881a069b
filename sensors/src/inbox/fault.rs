//! The reason for refusing a line. A fault is a code of four bytes and becomes text only when its
//! answer is written, since unread answers must cost little memory.

use std::fmt;

use serde_json::error::Category;

use super::{LINE_PATIENCE, MAX_LINE_BYTES};
use crate::MAX_NAME_BYTES;

/// A field of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineField {
    Source,
    Kind,
    Value,
    Time,
}

/// The fault of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    Missing,
    Twice,
    NotString,
    NotValue,
    NotTime,
    NotRfc3339,
    OutOfYears,
    NotName,
    NotKind,
    WordLength,
    WordControl,
    Forbidden,
    NotAdmitted,
    OfSensor,
    NoRoom,
    Ahead,
}

/// The fault of a line, without the line's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    NotUtf8,
    TooLong,
    /// Not JSON from this byte on, counted from 1.
    Syntax(u16),
    /// JSON without its end.
    CutOff,
    /// JSON, but not an object with string keys.
    NotObject,
    /// A line without an end within the time limit.
    Unfinished,
    Field(LineField, Wrong),
    /// An unknown field, with the length of its name in bytes.
    UnknownField(u8),
}

/// The reason for refusing a line, and the field at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LineFault {
    pub(super) code: Code,
    /// The name of an unknown field, cut to [`MAX_NAME_BYTES`].
    pub(super) name: Option<Box<str>>,
}

impl LineField {
    fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Kind => "kind",
            Self::Value => "value",
            Self::Time => "time",
        }
    }
}

impl Wrong {
    fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Twice => "given twice",
            Self::NotString => "not a string",
            Self::NotValue => "neither a number nor a word",
            Self::NotTime => "neither an RFC 3339 time nor whole milliseconds",
            Self::NotRfc3339 => "not a time as in RFC 3339",
            Self::OutOfYears => "not between the years 1970 and 9999",
            Self::NotName => "not 1 to 64 of A-Z a-z 0-9 . _ : -",
            Self::NotKind => "not 1 to 64 of a-z 0-9 _, a letter first",
            Self::WordLength => "a word of 1 to 64 bytes",
            Self::WordControl => "a word without control characters",
            Self::Forbidden => "a text that `privacy.forbidden` lists",
            Self::NotAdmitted => "may not speak here",
            Self::OfSensor => "a sensor of this device, which speaks for itself",
            Self::NoRoom => "a new source, of which this inbox has too many",
            Self::Ahead => "more than 5 minutes ahead of the clock of this device",
        }
    }
}

impl Code {
    /// Returns the field at fault, unless the field is unknown.
    pub(super) fn field_name(self) -> Option<&'static str> {
        if let Self::Field(field, _) = self { Some(field.as_str()) } else { None }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("not UTF-8"),
            Self::TooLong => write!(f, "longer than {MAX_LINE_BYTES} bytes"),
            Self::Syntax(at) => write!(f, "not a reading in JSON: a syntax error at byte {at}"),
            Self::CutOff => f.write_str("not a reading in JSON: it ends too early"),
            Self::NotObject => f.write_str("not a reading in JSON: not an object with string keys"),
            Self::Unfinished => {
                write!(f, "a line without an end for {} s", LINE_PATIENCE.as_secs())
            }
            Self::Field(_, wrong) => f.write_str(wrong.as_str()),
            Self::UnknownField(_) => f.write_str("unknown field"),
        }
    }
}

impl LineFault {
    pub(super) fn from_code(code: Code) -> Self {
        Self { code, name: None }
    }

    pub(super) fn in_field(field: LineField, wrong: Wrong) -> Self {
        Self::from_code(Code::Field(field, wrong))
    }

    pub(super) fn unknown_field(name: &str) -> Self {
        let fits = |end: &usize| *end <= MAX_NAME_BYTES;
        let ends = name.char_indices().map(|(at, one)| at + one.len_utf8());
        let name = &name[..ends.take_while(fits).last().unwrap_or(0)];
        let length = u8::try_from(name.len()).expect("at most MAX_NAME_BYTES");
        Self { code: Code::UnknownField(length), name: Some(name.into()) }
    }

    pub(super) fn from_json(error: &serde_json::Error) -> Self {
        Self::from_code(match error.classify() {
            Category::Syntax => Code::Syntax(u16::try_from(error.column()).unwrap_or(u16::MAX)),
            Category::Eof => Code::CutOff,
            Category::Data | Category::Io => Code::NotObject,
        })
    }

    /// Returns the field at fault.
    pub(super) fn field_name(&self) -> Option<&str> {
        self.name.as_deref().or(self.code.field_name())
    }
}
