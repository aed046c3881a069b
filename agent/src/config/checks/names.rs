//! Names: of the thing, of sources and cameras, of kinds.

use std::collections::HashMap;
use std::hash::Hash;

use pulsegate_sensors::{is_kind, is_source_name};

use crate::config::findings::{Finding, Findings, Span};
use crate::config::place::At;
use crate::config::tables::Tables;

/// AWS IoT: `CreateThing`, `thingName`; a client id has the same bound.
const MAX_THING_BYTES: usize = 128;
/// Kinds whose readings the agent makes itself.
const RESERVED_KINDS: [&str; 4] = ["heart_rate", "lid", "movement", "button"];

pub(super) fn check(tables: &Tables, findings: &mut Findings) {
    thing(&tables.thing, findings);
    ids(tables, findings);
    for number in &tables.number {
        kind(&number.kind, findings);
    }
}

fn thing(name: &str, findings: &mut Findings) {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b":_-".contains(&b);
    if !(1..=MAX_THING_BYTES).contains(&name.len()) || !name.bytes().all(allowed) {
        let fault = Finding::fault("thing", format!("`{name}` cannot be the name of a thing"));
        findings.push(fault.label("1 to 128 of `A-Z a-z 0-9 : _ -`"));
    }
}

fn ids(tables: &Tables, findings: &mut Findings) {
    let mut ids: Vec<&At<String>> = Vec::new();
    ids.extend(tables.heart_rate.iter().map(|table| &table.id));
    ids.extend(tables.lid.iter().map(|table| &table.id));
    ids.extend(tables.trigger.iter().map(|table| &table.id));
    ids.extend(tables.number.iter().map(|table| &table.id));
    ids.extend(tables.simulated.iter().map(|table| &table.id));
    let sensors = ids.clone();
    ids.extend(tables.camera.iter().map(|table| &table.id));
    ids.extend(tables.output.iter().map(|table| &table.id));
    for id in tables.inbox.iter().flat_map(|table| &table.sources).flatten() {
        match sensors.iter().find(|sensor| sensor.as_str() == id.as_str()) {
            Some(sensor) => findings.push(of_sensor(id, sensor)),
            None => ids.push(id),
        }
    }
    for id in &ids {
        if !is_source_name(id) {
            let fault = Finding::fault(id.span(), format!("`{}` cannot be an id", ***id));
            findings.push(fault.label("1 to 64 of `A-Z a-z 0-9 . _ : -`"));
        }
    }
    unique(ids.into_iter(), "id", findings);
}

/// The fault of an inbox that lists a sensor of this device among its sources: the agent would refuse each
/// of the lines.
fn of_sensor(id: &At<String>, sensor: &At<String>) -> Finding {
    let message = format!("an inbox cannot speak for `{}`, which is a sensor of this device", **id);
    let fault = Finding::fault(id.span(), message).label("give the program an id of its own");
    fault.also(sensor.span(), "the sensor")
}

/// Reports each name that stands in the file twice.
pub(super) fn unique<'a>(
    names: impl Iterator<Item = &'a At<String>>,
    what: &str,
    findings: &mut Findings,
) {
    for (name, first) in repeated(names.map(|name| (name.as_str(), name.span()))) {
        let fault = Finding::fault(name.1, format!("{what} `{}` is given twice", name.0));
        findings.push(fault.also(first, "first here"));
    }
}

/// What is given more than once, each time but the first, and where it was first.
pub(super) fn repeated<K: Copy + Eq + Hash>(
    given: impl Iterator<Item = (K, Span)>,
) -> Vec<((K, Span), Span)> {
    let mut given: Vec<(K, Span)> = given.collect();
    given.sort_by_key(|(_, span)| span.start);
    let mut first = HashMap::new();
    given
        .into_iter()
        .filter_map(|(key, span)| {
            let earlier = first.entry(key).or_insert_with(|| span.clone()).clone();
            (earlier != span).then_some(((key, span), earlier))
        })
        .collect()
}

fn kind(kind: &At<String>, findings: &mut Findings) {
    if !is_kind(kind) {
        findings.push(malformed_kind(kind));
    } else if RESERVED_KINDS.contains(&kind.as_str()) {
        let message = format!("`{}` is the kind of another table's readings", **kind);
        findings.push(Finding::fault(kind.span(), message));
    }
}

pub(super) fn malformed_kind(kind: &At<String>) -> Finding {
    Finding::fault(kind.span(), format!("`{}` cannot be a kind of reading", **kind))
        .label("a lower-case letter, then up to 63 of `a-z 0-9 _`")
}
