//! Tables of published records.

use std::collections::BTreeMap;
use std::fmt;

use pulsegate_core::cloud::record_text::{Field, Framing};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::config::units::{Period, Size};

/// The tables of `publish` by name, in the order of the file.
pub(in crate::config) type PublishTables = Members<PublishTable>;

/// A table with any keys, in the order of the file.
#[derive(Debug, Default)]
pub(in crate::config) struct Members<T>(pub(in crate::config) Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self(Vec::new()))
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Self, A::Error> {
        while let Some(member) = members.next_entry()? {
            self.0.push(member);
        }
        Ok(self)
    }
}

/// Returns the schema of `publish`: three sections with fixed names, and a section for any kind of
/// reading.
pub(super) fn publish_schema(generator: &mut SchemaGenerator) -> Schema {
    let section = generator.subschema_for::<PublishTable>();
    json_schema!({
        "type": "object",
        "properties": { "readings": section, "alerts": section, "events": section },
        "additionalProperties": section,
    })
}

/// Returns the schema of `add`: any keys, each with a string or a number.
fn additions_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": { "type": ["string", "number"] },
    })
}

/// Topic, fields, batches and filters of one sort of records. A key left out for a kind of readings
/// has the value of `readings`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct PublishTable {
    /// Path of the table, set as the table is checked.
    #[serde(skip)]
    pub(in crate::config) path: String,
    /// Topic of the messages, with the placeholders `{thing}`, `{source}` and `{kind}` for
    /// readings, `{thing}` and `{source}` for alerts, and `{thing}` for events. At AWS IoT Core at
    /// most 256 bytes and 7 slashes. Default: `pulsegate/{thing}/readings`, `/alerts` or `/events`.
    pub(in crate::config) topic: Option<String>,
    /// Keys of a record, each with its content, such as
    /// `{ seq = "seq", at = "time", bpm = "value" }`; only for readings. Contents: `seq`, `source`,
    /// `kind`, `time` (RFC 3339), `time_ms`, `time_s`, `value`, `bpm`, `state`, `unit`, `contact`,
    /// `energy_kj`, `rr_ms`, `clock`. A key has 1 to 64 of `a-z 0-9 _`. Not for readings
    /// in columns. Default: the standard record.
    #[schemars(with = "Option<BTreeMap<String, Field>>")]
    pub(in crate::config) fields: Option<Members<Field>>,
    /// Arrangement of the records in a message. Default: `array`.
    pub(in crate::config) format: Option<Framing>,
    /// Limits at which a batch of records is published as one message.
    pub(in crate::config) batch: BatchTable,
    /// Fixed keys of every record, such as `{ site = "garden", floor = 3 }`: strings and numbers,
    /// at most 512 bytes together. A key that the record has anyway, or one that identifies a
    /// person or a place, is a fault. Default: none.
    #[schemars(schema_with = "additions_schema")]
    pub(in crate::config) add: Option<Members<Value>>,
    /// Tests, such as `[{ outside = [10, 20] }]`: only readings that pass at least one of them are
    /// published. The others stay in the store, and rules see them. Default: every reading is
    /// published.
    pub(in crate::config) keep: Option<Vec<TestTable>>,
    /// Tests, such as `[{ above = 80 }]`: readings that pass any of them are not published, even if
    /// they pass `keep`. Default: none.
    pub(in crate::config) drop: Option<Vec<TestTable>>,
    /// Period, on the grid of the clock, whose mean is published in place of its numbers, with the
    /// end of the period as its time. Published with the first number of a later period; a number
    /// that arrives after that is in no mean. Default: single readings. Range: `1s` to `1d`.
    #[schemars(extend("x-range" = ["1s", "1d"]))]
    pub(in crate::config) mean_every: Option<Period>,
    /// Least difference, 0 or more, from the last published number of the source: a smaller change
    /// is not published. A state is published if it differs from the last published state. Default:
    /// every reading is published.
    #[schemars(range(min = 0))]
    pub(in crate::config) min_change: Option<f64>,
}

/// A test of a reading, with at least one key. Several keys must all fit, except `above` and
/// `below`, of which one must fit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct TestTable {
    /// Id of the source, such as `air`. Default: any source.
    pub(in crate::config) source: Option<String>,
    /// Number that the reading must exceed; with `below`, either is enough. Default: no such
    /// threshold.
    pub(in crate::config) above: Option<f64>,
    /// Number that the reading must stay below; with `above`, either is enough. Default: no such
    /// threshold.
    pub(in crate::config) below: Option<f64>,
    /// Two numbers, the lower first, such as `[10, 20]`: the reading must be below the first or
    /// above the second. In place of `below` and `above`.
    #[schemars(length(min = 2, max = 2))]
    pub(in crate::config) outside: Option<Vec<f64>>,
    /// State that the reading must have, such as `open`. Default: any state.
    #[schemars(length(min = 1))]
    pub(in crate::config) is: Option<String>,
}

/// Limits at which a batch of records is published as one message. The first limit reached counts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct BatchTable {
    /// Most bytes of payload in a message. At AWS IoT Core a multiple of `5KiB`, the unit of its
    /// bills, and at most `125KiB`. Default: `20KiB`. Range: `1KiB` to `1MiB`.
    #[schemars(extend("x-range" = ["1KiB", "1MiB"]))]
    pub(in crate::config) bytes: Option<Size>,
    /// Longest time that the first record of a batch waits for further records. Default: `5s` for
    /// readings, `0s` for alerts and events. Range: `0s` to `1h`.
    #[schemars(extend("x-range" = ["0s", "1h"]))]
    pub(in crate::config) delay: Option<Period>,
}
