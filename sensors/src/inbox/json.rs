//! The complete parser of a line: accepts any JSON and names the fault of a bad line.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fault::{LineFault, LineField, Wrong};
use super::line::{InboxLine, LineTime, LineValue};

/// Parses any line. Of several faults, a syntax error is reported before the fault of a field.
pub(super) fn parse_json(text: &str) -> Result<InboxLine<'_>, LineFault> {
    let Judged(line) = serde_json::from_str(text).map_err(|error| LineFault::from_json(&error))?;
    line
}

/// An object with its fields checked.
struct Judged<'a>(Result<InboxLine<'a>, LineFault>);

impl<'de> Deserialize<'de> for Judged<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object)
    }
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Judged<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        let mut verdict = Ok(());
        while let Some(key) = map.next_key::<JsonScalar<'de>>()? {
            let value = map.next_value::<JsonScalar<'de>>()?;
            let JsonScalar::Text(key) = key else {
                return Err(A::Error::custom("a key that is not a string"));
            };
            verdict = verdict.and_then(|()| fields.set_field(&key, value));
        }
        Ok(Judged(verdict.and_then(|()| fields.into_line())))
    }
}

#[derive(Default)]
struct Fields<'a> {
    source: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
    value: Option<LineValue<'a>>,
    time: Option<LineTime<'a>>,
}

impl<'a> Fields<'a> {
    fn set_field(&mut self, key: &str, scalar: JsonScalar<'a>) -> Result<(), LineFault> {
        match key {
            "source" => {
                set_once(&mut self.source, LineField::Source, scalar.into_text(LineField::Source)?)
            }
            "kind" => set_once(&mut self.kind, LineField::Kind, scalar.into_text(LineField::Kind)?),
            "value" => set_once(&mut self.value, LineField::Value, scalar.into_value()?),
            "time" => set_once(&mut self.time, LineField::Time, scalar.into_time()?),
            _ => Err(LineFault::unknown_field(key)),
        }
    }

    fn into_line(self) -> Result<InboxLine<'a>, LineFault> {
        let missing = |field| move || LineFault::in_field(field, Wrong::Missing);
        Ok(InboxLine {
            source: self.source.ok_or_else(missing(LineField::Source))?,
            kind: self.kind.ok_or_else(missing(LineField::Kind))?,
            value: self.value.ok_or_else(missing(LineField::Value))?,
            time: self.time,
        })
    }
}

fn set_once<T>(slot: &mut Option<T>, field: LineField, value: T) -> Result<(), LineFault> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(LineFault::in_field(field, Wrong::Twice)),
    }
}

/// A JSON value, reduced to the types that a field accepts.
enum JsonScalar<'a> {
    Text(Cow<'a, str>),
    Integer(i64),
    Float(f64),
    Other,
}

impl<'a> JsonScalar<'a> {
    fn into_text(self, field: LineField) -> Result<Cow<'a, str>, LineFault> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Integer(_) | Self::Float(_) | Self::Other => {
                Err(LineFault::in_field(field, Wrong::NotString))
            }
        }
    }

    fn into_value(self) -> Result<LineValue<'a>, LineFault> {
        match self {
            Self::Text(text) => Ok(LineValue::State(text)),
            #[expect(clippy::cast_precision_loss, reason = "a number means the nearest f64")]
            Self::Integer(integer) => Ok(LineValue::Number(integer as f64)),
            Self::Float(number) => Ok(LineValue::Number(number)),
            Self::Other => Err(LineFault::in_field(LineField::Value, Wrong::NotValue)),
        }
    }

    fn into_time(self) -> Result<LineTime<'a>, LineFault> {
        match self {
            Self::Text(text) => Ok(LineTime::Text(text)),
            Self::Integer(milliseconds) => Ok(LineTime::Milliseconds(milliseconds)),
            Self::Float(_) | Self::Other => {
                Err(LineFault::in_field(LineField::Time, Wrong::NotTime))
            }
        }
    }
}

impl<'de> Deserialize<'de> for JsonScalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyScalar)
    }
}

struct AnyScalar;

impl<'de> Visitor<'de> for AnyScalar {
    type Value = JsonScalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(JsonScalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(JsonScalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E>(self, integer: i64) -> Result<Self::Value, E> {
        Ok(JsonScalar::Integer(integer))
    }

    #[expect(clippy::cast_precision_loss, reason = "a number means the nearest f64")]
    fn visit_u64<E>(self, integer: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(integer).map_or(JsonScalar::Float(integer as f64), JsonScalar::Integer))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(JsonScalar::Float(number))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(JsonScalar::Other)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(JsonScalar::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(JsonScalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(JsonScalar::Other)
    }
}
