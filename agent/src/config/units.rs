//! Durations and sizes, written with their unit.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A quantity that is written with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    /// A duration, counted in milliseconds.
    Duration,
    /// A size, counted in bytes.
    Size,
}

impl Quantity {
    /// Returns the units with their values, from small to large.
    const fn units(self) -> &'static [(&'static str, u64)] {
        match self {
            Self::Duration => {
                &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)]
            }
            Self::Size => &[
                ("B", 1),
                ("KB", 1_000),
                ("KiB", 1 << 10),
                ("MB", 1_000_000),
                ("MiB", 1 << 20),
                ("GB", 1_000_000_000),
                ("GiB", 1 << 30),
            ],
        }
    }

    /// Returns the name of the quantity in messages and in the schema.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Duration => "duration",
            Self::Size => "size",
        }
    }

    /// Returns the quantity with this name.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        [Self::Duration, Self::Size].into_iter().find(|quantity| quantity.name() == name)
    }

    /// Returns a description of a valid text.
    pub(super) const fn example(self) -> &'static str {
        match self {
            Self::Duration => {
                "a whole number and `ms`, `s`, `m`, `h` or `d`, such as \"20ms\" or \"90s\""
            }
            Self::Size => {
                "a whole number and `B`, `KB`, `KiB`, `MB`, `MiB`, `GB` or `GiB`, such as \"20KiB\""
            }
        }
    }

    /// Parses `text`; `None` if it is no such quantity, or too large to count.
    pub(super) fn parse(self, text: &str) -> Option<u64> {
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
        let (_, worth) = self.units().iter().find(|(name, _)| *name == unit)?;
        number.parse::<u64>().ok()?.checked_mul(*worth)
    }

    /// Returns the shortest exact text.
    fn write(self, amount: u64) -> String {
        let fits = |(_, worth): &&(&str, u64)| amount.is_multiple_of(*worth) && amount > 0;
        let (unit, worth) = self.units().iter().rfind(fits).unwrap_or(&self.units()[0]);
        format!("{}{unit}", amount / worth)
    }

    fn schema(self) -> Schema {
        let units: Vec<&str> = self.units().iter().map(|(unit, _)| *unit).collect();
        json_schema!({
            "type": "string",
            "pattern": format!("^[0-9]+({})$", units.join("|")),
            "x-quantity": self.name(),
        })
    }
}

/// A duration, written with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Period(pub(super) Duration);

/// A number of bytes, written with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        f.write_str(&Quantity::Duration.write(millis))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Quantity::Size.write(self.0))
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(Quantity::Duration, deserializer).map(|millis| Self(Duration::from_millis(millis)))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(Quantity::Size, deserializer).map(Self)
    }
}

fn read<'de, D: Deserializer<'de>>(quantity: Quantity, deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    quantity.parse(&text).ok_or_else(|| D::Error::custom(quantity.example()))
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Period {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        Quantity::Duration.schema()
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        Quantity::Size.schema()
    }
}

/// Returns a duration of `MILLIS` milliseconds, for `#[serde(default)]`.
pub(super) fn millis<const MILLIS: u64>() -> Duration {
    Duration::from_millis(MILLIS)
}

/// Reads and writes a [`Duration`], or an optional one, as a [`Period`], for `#[serde(with)]`.
pub(super) mod duration {
    use super::{Deserialize, Deserializer, Duration, Period, Serialize, Serializer};

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>, T: From<Duration>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        Period::deserialize(deserializer).map(|period| period.0.into())
    }

    pub(in crate::config) fn serialize<S: Serializer>(
        value: &(impl Copy + Into<Option<Duration>>),
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        (*value).into().map(Period).serialize(serializer)
    }
}

/// Reads and writes a number of bytes as a [`Size`], for `#[serde(with)]`.
pub(super) mod size {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Size};

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<u64, D::Error> {
        Size::deserialize(deserializer).map(|size| size.0)
    }

    pub(in crate::config) fn serialize<S: Serializer>(
        value: &u64,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        Size(*value).serialize(serializer)
    }
}
