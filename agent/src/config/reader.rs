//! Reads the tables from a mended file.
//!
//! The deserializer of `toml` also offers spans and dates, for which each type of table is compiled
//! into the program three times. No table has a date, and [`super::places`] has the spans.

use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use toml::de::{DeString, DeTable, DeValue};

/// A value of a mended file. Members of tables come in the order of the file.
pub(super) struct TableReader<'de>(DeValue<'de>);

type ElementReader<'de> = SeqDeserializer<std::vec::IntoIter<TableReader<'de>>, Error>;
type MemberReader<'de> =
    MapDeserializer<'de, std::vec::IntoIter<(DeString<'de>, TableReader<'de>)>, Error>;

impl<'de> TableReader<'de> {
    /// Creates the reader of a whole file.
    pub(super) fn of(file: DeTable<'de>) -> Self {
        Self(DeValue::Table(file))
    }

    /// Returns the fault of a value of another type than `wanted`, which mending leaves nowhere.
    fn is_not(&self, wanted: &str) -> Error {
        Error::custom(format!("{wanted} is needed, not a value of type {}", self.0.type_str()))
    }

    fn into_elements(self) -> Result<ElementReader<'de>, Error> {
        let DeValue::Array(elements) = self.0 else { return Err(self.is_not("an array")) };
        let elements = elements.into_iter().map(|element| Self(element.into_inner()));
        Ok(SeqDeserializer::new(elements.collect::<Vec<_>>().into_iter()))
    }

    fn into_members(self) -> Result<MemberReader<'de>, Error> {
        let DeValue::Table(table) = self.0 else { return Err(self.is_not("a table")) };
        let mut members: Vec<_> = table.into_iter().collect();
        members.sort_by_key(|(key, _)| key.span().start);
        let members = members.into_iter();
        let members = members.map(|(key, value)| (key.into_inner(), Self(value.into_inner())));
        Ok(MapDeserializer::new(members.collect::<Vec<_>>().into_iter()))
    }
}

impl<'de> IntoDeserializer<'de> for TableReader<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for TableReader<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.0 {
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => visitor.visit_i64(number),
                    Err(error) => Err(Error::custom(error)),
                }
            }
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => visitor.visit_f64(number),
                Err(error) => Err(Error::custom(error)),
            },
            DeValue::Boolean(boolean) => visitor.visit_bool(*boolean),
            DeValue::Datetime(_) => Err(self.is_not("another value")),
            DeValue::String(_) => self.deserialize_string(visitor),
            DeValue::Array(_) => self.deserialize_seq(visitor),
            DeValue::Table(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let DeValue::String(text) = self.0 else { return Err(self.is_not("a string")) };
        visitor.visit_string(text.into_owned())
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(self.into_elements()?)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(self.into_members()?)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let DeValue::String(word) = self.0 else { return Err(self.is_not("a string")) };
        visitor.visit_enum(word.into_deserializer())
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        tuple tuple_struct identifier ignored_any
    }
}
