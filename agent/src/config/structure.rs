//! The first pass: compares a file with the JSON Schema of its tables.
//!
//! Finds every unknown key, missing key, and value of the wrong type or range, and mends each at
//! once: a misspelt key gets its right name, and a broken value a stand-in. The tables can then be
//! read, and the later checks see the whole file. Mended places are muted: see [`super::findings`].

mod value;

use schemars::Schema;
use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::findings::{Finding, Findings, NOWHERE, Span};
use super::nearest::{nearest, suggest};
use super::units::Quantity;

/// Checks and mends a whole file.
pub(super) fn mend(file: &mut Spanned<DeTable<'_>>, schema: &Schema, findings: &mut Findings) {
    let root = schema.as_value();
    Walk { root, findings }.table(root, file.get_mut(), "", NOWHERE);
}

/// Returns the type of value that a schema requires.
fn sort(schema: &Value) -> &str {
    // The only choice of types in the schema: a string or a number.
    if schema["type"].is_array() {
        return "scalar";
    }
    schema["type"].as_str().unwrap_or("string")
}

/// Returns the words that a schema lists under `key`.
fn words<'a>(schema: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    schema[key].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Returns the words to which a string is limited; empty if any string is valid.
fn choices(schema: &Value) -> Vec<&str> {
    let documented = schema["oneOf"].as_array().into_iter().flatten();
    words(schema, "enum").chain(documented.filter_map(|choice| choice["const"].as_str())).collect()
}

fn quantity(schema: &Value) -> Option<Quantity> {
    Quantity::of_name(schema["x-quantity"].as_str()?)
}

/// Returns `true` if any string is valid.
fn is_text(schema: &Value) -> bool {
    sort(schema) == "string" && quantity(schema).is_none() && choices(schema).is_empty()
}

/// Returns the text of a value as if in quotes: a rule may name an id by its text even if the
/// quotes are missing.
fn text_of<'i>(value: &DeValue<'i>) -> Option<DeString<'i>> {
    match value {
        DeValue::String(text) => Some(text.clone()),
        DeValue::Integer(number) => Some(number.to_string().into()),
        DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => None,
    }
}

struct Walk<'a> {
    root: &'a Value,
    findings: &'a mut Findings,
}

impl<'a> Walk<'a> {
    fn table(&mut self, schema: &'a Value, table: &mut DeTable<'_>, name: &str, span: Span) {
        let others = schema.get("additionalProperties").filter(|others| others.is_object());
        if others.is_none() {
            self.unknown_keys(schema, table, name, &span);
        }
        for (key, value) in table.iter_mut() {
            let key = key.get_ref().as_ref();
            if let Some(schema) = schema["properties"].get(key).or(others) {
                let name = if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
                self.value(schema, value, &name);
            }
        }
        for key in words(schema, "required") {
            if !table.contains_key(key) {
                self.missing(key, name, &span);
                let value = self.stand_in(&schema["properties"][key], NOWHERE);
                table.insert(Spanned::new(NOWHERE, DeString::from(key.to_owned())), value);
            }
        }
    }

    fn unknown_keys(
        &mut self,
        schema: &Value,
        table: &mut DeTable<'_>,
        name: &str,
        table_span: &Span,
    ) {
        let known: Vec<&str> = schema["properties"]
            .as_object()
            .into_iter()
            .flat_map(Map::keys)
            .map(|key| &**key)
            .collect();
        let unknown: Vec<(String, Span)> = table
            .keys()
            .filter(|key| !known.contains(&key.get_ref().as_ref()))
            .map(|key| (key.get_ref().to_string(), key.span()))
            .collect();
        for (key, span) in unknown {
            let meant = self.unknown_key(&key, &span, name, &known);
            let value = table.remove(key.as_str());
            match (meant.filter(|meant| !table.contains_key(*meant)), value) {
                (Some(meant), Some(value)) => {
                    table.insert(Spanned::new(span, DeString::from(meant.to_owned())), value);
                }
                _ => self.findings.mute(table_span.clone()),
            }
        }
    }

    /// Reports a key that the table does not have. Returns the key that was probably meant.
    fn unknown_key<'k>(
        &mut self,
        key: &str,
        span: &Span,
        table: &str,
        known: &[&'k str],
    ) -> Option<&'k str> {
        let wherein = match table {
            "" => "at the top level".to_owned(),
            table => format!("in `{table}`"),
        };
        let fault = Finding::fault(span.clone(), format!("unknown key `{key}` {wherein}"));
        if self.root["properties"].get(key).is_some() {
            let label = format!("`{key}` belongs at the top level, before the first `[table]`");
            self.findings.record(fault.label(label));
            return None;
        }
        self.findings.record(suggest(fault, key, known, "keys"));
        nearest(key, known)
    }

    fn missing(&mut self, key: &str, table: &str, span: &Span) {
        let fault = match table {
            "" => Finding::of_the_file(format!("`{key}` is missing at the top level")),
            _ => Finding::fault(span.clone(), format!("`{key}` is missing in `{table}`")),
        };
        self.findings.report(fault);
    }

    fn value(&mut self, place: &'a Value, value: &mut Spanned<DeValue<'_>>, name: &str) {
        let span = value.span();
        let schema = self.resolve(place);
        match (sort(schema), value.get_mut()) {
            ("object", DeValue::Table(table)) => self.table(schema, table, name, span),
            ("array", DeValue::Array(elements)) => {
                for element in elements.iter_mut() {
                    self.value(&schema["items"], element, name);
                }
            }
            (_, found) => {
                if let Some(finding) = value::check_value(place, schema, found, name) {
                    self.findings.record(finding.at(span.clone()));
                    *value = match text_of(found) {
                        Some(text) if is_text(schema) => Spanned::new(span, DeValue::String(text)),
                        _ => self.stand_in(schema, span),
                    };
                }
            }
        }
    }

    fn resolve(&self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(path) => self.root.pointer(path.trim_start_matches('#')).unwrap_or(schema),
            None => schema,
        }
    }

    /// Returns a valid value in place of a broken one.
    fn stand_in<'i>(&self, schema: &'a Value, span: Span) -> Spanned<DeValue<'i>> {
        let schema = self.resolve(schema);
        let value = match sort(schema) {
            "object" => {
                let mut table = DeTable::new();
                for key in words(schema, "required") {
                    let value = self.stand_in(&schema["properties"][key], span.clone());
                    let key = DeString::from(key.to_owned());
                    table.insert(Spanned::new(span.clone(), key), value);
                }
                DeValue::Table(table)
            }
            "array" => DeValue::Array(DeArray::new()),
            "boolean" => DeValue::Boolean(false),
            "integer" | "number" => DeValue::parse("1").expect("`1` is TOML").into_inner(),
            _ => DeValue::String(match (quantity(schema), choices(schema).first()) {
                (Some(Quantity::Duration), _) => "1s".into(),
                (Some(Quantity::Size), _) => "5KiB".into(),
                (None, Some(first)) => DeString::from((*first).to_owned()),
                (None, None) => "".into(),
            }),
        };
        Spanned::new(span, value)
    }
}
