//! Checks the names of the thing, of sources, cameras and outputs, and of kinds.

use std::collections::HashMap;
use std::hash::Hash;

use pulsegate_sensors::{is_kind, is_source_name};

use crate::config::findings::{Finding, Findings, Span};
use crate::config::places::Place;
use crate::config::tables::Tables;

/// The longest name of a thing: AWS IoT, `CreateThing`, `thingName`. A client id has the same
/// limit.
const MAX_THING_BYTES: usize = 128;
/// Kinds of readings that only the agent creates.
const RESERVED_KINDS: [&str; 4] = ["heart_rate", "lid", "movement", "button"];

pub(super) fn check_names(tables: &Tables, findings: &mut Findings) {
    thing(&tables.thing, findings);
    ids(tables, findings);
    for (index, number) in tables.number.iter().enumerate() {
        let place = format!("number[{index}].kind");
        if !is_kind(&number.kind) {
            findings.push(malformed_kind(&number.kind, place));
        } else if RESERVED_KINDS.contains(&number.kind.as_str()) {
            let message = format!("`{}` is the kind of another table's readings", number.kind);
            findings.push(Finding::fault(place, message));
        }
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
    let mut ids: Vec<(&str, Span)> = Vec::new();
    add_ids(&mut ids, "heart_rate", tables.heart_rate.iter().map(|table| &table.id), findings);
    add_ids(&mut ids, "lid", tables.lid.iter().map(|table| &table.id), findings);
    add_ids(&mut ids, "trigger", tables.trigger.iter().map(|table| &table.id), findings);
    add_ids(&mut ids, "number", tables.number.iter().map(|table| &table.id), findings);
    add_ids(&mut ids, "simulated", tables.simulated.iter().map(|table| &table.id), findings);
    let sensors = ids.clone();
    add_ids(&mut ids, "camera", tables.camera.iter().map(|table| &table.id), findings);
    add_ids(&mut ids, "output", tables.output.iter().map(|table| &table.id), findings);
    for (inbox, table) in tables.inbox.iter().enumerate() {
        for (index, id) in table.sources.iter().flatten().enumerate() {
            let span = findings.span_of(format!("inbox[{inbox}].sources[{index}]"));
            match sensors.iter().find(|(sensor, _)| sensor == id) {
                Some((_, sensor)) => findings.push(of_sensor(id, span, sensor.clone())),
                None => ids.push((id, span)),
            }
        }
    }
    for (id, span) in &ids {
        if !is_source_name(id) {
            let fault = Finding::fault(span.clone(), format!("`{id}` cannot be an id"));
            findings.push(fault.label("1 to 64 of `A-Z a-z 0-9 . _ : -`"));
        }
    }
    report_repeated(ids.into_iter(), "id", findings);
}

/// Adds the ids of all tables `[[name]]`, with their places.
fn add_ids<'a>(
    ids: &mut Vec<(&'a str, Span)>,
    name: &str,
    given: impl Iterator<Item = &'a String>,
    findings: &Findings,
) {
    let place = |index: usize| findings.span_of(format!("{name}[{index}].id"));
    ids.extend(given.enumerate().map(|(index, id)| (id.as_str(), place(index))));
}

/// Returns the fault of an inbox that lists a sensor of this device among its sources: the agent
/// would refuse each line of that source.
fn of_sensor(id: &str, place: Span, sensor: Span) -> Finding {
    let message = format!("an inbox cannot speak for `{id}`, which is a sensor of this device");
    let fault = Finding::fault(place, message).label("give the program an id of its own");
    fault.also(sensor, "the sensor")
}

/// Reports each name that occurs twice in the file. Each name has its path.
pub(super) fn check_unique<'a>(
    names: impl Iterator<Item = (&'a str, String)>,
    what: &str,
    findings: &mut Findings,
) {
    let names: Vec<_> = names.map(|(name, path)| (name, findings.span_of(path))).collect();
    report_repeated(names.into_iter(), what, findings);
}

fn report_repeated<'a>(
    names: impl Iterator<Item = (&'a str, Span)>,
    what: &str,
    findings: &mut Findings,
) {
    for (name, first) in repeated(names) {
        let fault = Finding::fault(name.1, format!("{what} `{}` is given twice", name.0));
        findings.push(fault.also(first, "first here"));
    }
}

/// Returns each further occurrence of a key, together with the place of its first occurrence.
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

pub(super) fn malformed_kind(kind: &str, place: impl Into<Place>) -> Finding {
    Finding::fault(place, format!("`{kind}` cannot be a kind of reading"))
        .label("a lower-case letter, then up to 63 of `a-z 0-9 _`")
}
