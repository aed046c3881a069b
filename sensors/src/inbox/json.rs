//! The complete parser of a line: accepts any JSON and names the fault of a bad line.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fault::{Fault, Field, Wrong};
use super::line::{Line, Time, Value};

/// Parses any line. Of several faults, a syntax error is reported before the fault of a field.
pub(super) fn line(text: &str) -> Result<Line<'_>, Fault> {
    let Judged(line) = serde_json::from_str(text).map_err(|error| Fault::json(&error))?;
    line
}

/// An object with its fields checked.
struct Judged<'a>(Result<Line<'a>, Fault>);

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
        while let Some(key) = map.next_key::<Scalar<'de>>()? {
            let value = map.next_value::<Scalar<'de>>()?;
            let Scalar::Text(key) = key else {
                return Err(A::Error::custom("a key that is not a string"));
            };
            verdict = verdict.and_then(|()| fields.put(&key, value));
        }
        Ok(Judged(verdict.and_then(|()| fields.line())))
    }
}

#[derive(Default)]
struct Fields<'a> {
    source: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
    value: Option<Value<'a>>,
    time: Option<Time<'a>>,
}

impl<'a> Fields<'a> {
    fn put(&mut self, key: &str, scalar: Scalar<'a>) -> Result<(), Fault> {
        match key {
            "source" => once(&mut self.source, Field::Source, scalar.text(Field::Source)?),
            "kind" => once(&mut self.kind, Field::Kind, scalar.text(Field::Kind)?),
            "value" => once(&mut self.value, Field::Value, scalar.value()?),
            "time" => once(&mut self.time, Field::Time, scalar.time()?),
            _ => Err(Fault::unknown_field(key)),
        }
    }

    fn line(self) -> Result<Line<'a>, Fault> {
        let missing = |field| move || Fault::field(field, Wrong::Missing);
        Ok(Line {
            source: self.source.ok_or_else(missing(Field::Source))?,
            kind: self.kind.ok_or_else(missing(Field::Kind))?,
            value: self.value.ok_or_else(missing(Field::Value))?,
            time: self.time,
        })
    }
}

fn once<T>(slot: &mut Option<T>, field: Field, value: T) -> Result<(), Fault> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Fault::field(field, Wrong::Twice)),
    }
}

/// A JSON value, reduced to the types that a field accepts.
enum Scalar<'a> {
    Text(Cow<'a, str>),
    Integer(i64),
    Float(f64),
    Other,
}

impl<'a> Scalar<'a> {
    fn text(self, field: Field) -> Result<Cow<'a, str>, Fault> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Integer(_) | Self::Float(_) | Self::Other => {
                Err(Fault::field(field, Wrong::NotString))
            }
        }
    }

    fn value(self) -> Result<Value<'a>, Fault> {
        match self {
            Self::Text(text) => Ok(Value::State(text)),
            #[expect(clippy::cast_precision_loss, reason = "a number means the nearest f64")]
            Self::Integer(integer) => Ok(Value::Number(integer as f64)),
            Self::Float(number) => Ok(Value::Number(number)),
            Self::Other => Err(Fault::field(Field::Value, Wrong::NotValue)),
        }
    }

    fn time(self) -> Result<Time<'a>, Fault> {
        match self {
            Self::Text(text) => Ok(Time::Text(text)),
            Self::Integer(milliseconds) => Ok(Time::Milliseconds(milliseconds)),
            Self::Float(_) | Self::Other => Err(Fault::field(Field::Time, Wrong::NotTime)),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyScalar)
    }
}

struct AnyScalar;

impl<'de> Visitor<'de> for AnyScalar {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E>(self, integer: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Integer(integer))
    }

    #[expect(clippy::cast_precision_loss, reason = "a number means the nearest f64")]
    fn visit_u64<E>(self, integer: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(integer).map_or(Scalar::Float(integer as f64), Scalar::Integer))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Float(number))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Other)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}
