//! Tables of what is published.

use std::borrow::Cow;
use std::collections::BTreeMap;

use pulsegate_core::cloud::record_text::{Field, Framing};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::config::place::At;
use crate::config::units::{Period, Size};

/// By name, in the order of the file.
pub(in crate::config) type PublishTables = BTreeMap<At<String>, PublishTable>;

/// The sections that are no kind of reading: anything else is one.
pub(super) fn publish_schema(generator: &mut SchemaGenerator) -> Schema {
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
    pub(in crate::config) format: Option<Framing>,
    /// When a batch is full.
    pub(in crate::config) batch: BatchTable,
    /// Fixed keys of every record, such as `{ site = "garden" }`.
    pub(in crate::config) add: Option<At<BTreeMap<At<String>, At<Scalar>>>>,
    /// Publishes only readings that meet one of these.
    pub(in crate::config) keep: Option<At<Vec<At<TestTable>>>>,
    /// Publishes no readings that meet one of these.
    pub(in crate::config) drop: Option<At<Vec<At<TestTable>>>>,
    /// Publishes the mean of each such period instead of single readings, once the next one has begun. A
    /// reading that comes after one of a later period is in no mean.
    #[schemars(extend("x-range" = ["1s", "1d"]))]
    pub(in crate::config) mean_every: Option<At<Period>>,
    /// Publishes a reading only if it is so far from the last one published of its source.
    #[schemars(range(min = 0))]
    pub(in crate::config) min_change: Option<At<f64>>,
}

/// A test of a reading: all that it says must fit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct TestTable {
    /// Readings of this source.
    pub(in crate::config) source: Option<At<String>>,
    /// Numbers strictly above, or below `below` if that is given too.
    pub(in crate::config) above: Option<At<f64>>,
    /// Numbers strictly below.
    pub(in crate::config) below: Option<At<f64>>,
    /// Numbers below the first or above the second.
    #[schemars(length(min = 2, max = 2))]
    pub(in crate::config) outside: Option<At<Vec<At<f64>>>>,
    /// This state.
    #[schemars(length(min = 1))]
    pub(in crate::config) is: Option<At<String>>,
}

/// A string or a number.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(in crate::config) enum Scalar {
    /// A whole number.
    Whole(i64),
    /// Any other number.
    Number(f64),
    /// A string.
    Text(String),
}

impl JsonSchema for Scalar {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"] })
    }
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
