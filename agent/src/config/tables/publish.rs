//! Tables of what is published.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::config::model::{Field, Format};
use crate::config::place::At;
use crate::config::units::{Period, Size};

/// By name, in the order of the file.
pub(in crate::config) type PublishTables = BTreeMap<At<String>, PublishTable>;

/// The sections that are no kind of reading: anything else is one.
pub(super) fn schema(generator: &mut SchemaGenerator) -> Schema {
    let section = generator.subschema_for::<PublishTable>();
    json_schema!({
        "type": "object",
        "properties": { "readings": section, "alerts": section, "events": section },
        "additionalProperties": section,
    })
}

/// How one sort of record is published. What a kind of reading leaves out is as in `readings`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct PublishTable {
    /// The topic, with `{thing}`, `{source}` and `{kind}`.
    pub(in crate::config) topic: Option<At<String>>,
    /// The keys of a record, each with what stands there; the standard record if absent.
    pub(in crate::config) fields: Option<At<BTreeMap<At<String>, At<Field>>>>,
    /// How the records of a batch are put together.
    pub(in crate::config) format: Option<Format>,
    /// When a batch is full.
    pub(in crate::config) batch: BatchTable,
}

/// When a batch is full.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct BatchTable {
    /// Payload bytes; a multiple of 5KiB, which is what AWS bills.
    #[schemars(extend("x-range" = ["1KiB", "1MiB"]))]
    pub(in crate::config) bytes: Option<At<Size>>,
    /// How long its first record may wait for others.
    #[schemars(extend("x-range" = ["0s", "1h"]))]
    pub(in crate::config) delay: Option<Period>,
}
