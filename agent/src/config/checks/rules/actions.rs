//! Builds the actions of rules and visits, and checks that each can be taken.

use std::time::Duration;

use pulsegate_core::rules::{Action, Drive};
use pulsegate_core::visits::{Moment, VisitAction};

use super::super::known::Known;
use super::super::names;
use super::{Finding, Findings};
use crate::config::nearest::suggest;
use crate::config::place::At;
use crate::config::tables::RuleTable;
use crate::config::units::Quantity;

/// The forms of the actions of a rule.
const ACTIONS: [&str; 4] = ["alert", "capture:<camera>", "output:<output>", "record:<duration>"];
/// The forms of the actions of a visit.
const VISIT_ACTIONS: [&str; 2] = ["capture:<camera>", "output:<output>"];
/// The longest recording, in milliseconds: bounds the readings that one alert sends beyond the
/// filters.
const MAX_RECORD_MS: u64 = 600_000;

/// Returns the actions of a rule, each once; not empty unless a fault was reported.
pub(super) fn build_actions(
    table: &RuleTable,
    known: &Known,
    findings: &mut Findings,
) -> Vec<Action> {
    if table.then.is_empty() {
        let fault = Finding::fault(table.then.span(), "this rule does nothing when it fires");
        findings.push(fault.label("such as [\"alert\"]"));
    }
    names::unique(table.then.iter(), "action", findings);
    let actions: Vec<Action> =
        table.then.iter().filter_map(|word| of_rule(word, known, findings)).collect();
    let record = table.then.iter().find(|word| word.starts_with("record:"));
    if let Some(record) = record.filter(|_| !actions.contains(&Action::Alert)) {
        let fault = Finding::fault(record.span(), "a recording belongs to an alert");
        findings.push(fault.label("add `\"alert\"`: it tells where the recording begins"));
    }
    actions
}

/// Returns the actions of a visit, each once.
pub(in super::super) fn of_visits(
    words: &[At<String>],
    known: &Known,
    findings: &mut Findings,
) -> Vec<VisitAction> {
    names::unique(words.iter(), "action", findings);
    words.iter().filter_map(|word| of_visit(word, known, findings)).collect()
}

fn of_rule(word: &At<String>, known: &Known, findings: &mut Findings) -> Option<Action> {
    if word.as_str() == "alert" {
        return Some(Action::Alert);
    }
    let (verb, object) = word.split_once(':').unwrap_or((word, ""));
    match verb {
        "capture" => capture(object, word, known, findings).map(Action::Capture),
        "output" => {
            let (output, drive) = output(object, word, known, findings)?;
            Some(Action::Output(output, drive))
        }
        "record" => record(object, word, findings),
        _ => {
            findings.push(unknown(word, &ACTIONS));
            None
        }
    }
}

fn of_visit(word: &At<String>, known: &Known, findings: &mut Findings) -> Option<VisitAction> {
    let (verb, object) = word.split_once(':').unwrap_or((word, ""));
    match verb {
        "capture" => {
            let (camera, moment) = object.split_once(':').unwrap_or((object, "begin"));
            let camera = capture(camera, word, known, findings)?;
            let moment = match moment {
                "begin" => Moment::Begin,
                "opening" => Moment::Opening,
                "end" => Moment::End,
                _ => {
                    let message = format!("a visit has no moment `{moment}`");
                    let fault = Finding::fault(word.span(), message);
                    let moments = ["begin", "opening", "end"];
                    findings.push(suggest(fault, moment, &moments, "moments"));
                    return None;
                }
            };
            Some(VisitAction::Capture(camera, moment))
        }
        "output" => {
            let (output, drive) = output(object, word, known, findings)?;
            Some(VisitAction::Output(output, drive))
        }
        "alert" | "record" => {
            let message = format!("a visit cannot `{verb}`");
            let fault = Finding::fault(word.span(), message);
            findings.push(fault.label("it is an event of its own, and its readings are states"));
            None
        }
        _ => {
            findings.push(unknown(word, &VISIT_ACTIONS));
            None
        }
    }
}

fn unknown(word: &At<String>, actions: &[&str]) -> Finding {
    let fault = Finding::fault(word.span(), format!("unknown action `{}`", **word));
    suggest(fault, word, actions, "actions")
}

fn capture(
    camera: &str,
    word: &At<String>,
    known: &Known,
    findings: &mut Findings,
) -> Option<Box<str>> {
    if known.has_camera(camera) {
        return Some(camera.into());
    }
    let fault = Finding::fault(word.span(), format!("unknown camera `{camera}`"));
    findings.push(suggest(fault, camera, &known.cameras(), "cameras"));
    None
}

fn output(
    object: &str,
    word: &At<String>,
    known: &Known,
    findings: &mut Findings,
) -> Option<(Box<str>, Drive)> {
    let (id, how) = object.split_once(':').unwrap_or((object, "on"));
    let drive = match how {
        "on" => Drive::On,
        "pulse" => Drive::Pulse,
        "count" => Drive::Count,
        _ => {
            let fault = Finding::fault(word.span(), format!("an output cannot be driven `{how}`"));
            findings.push(suggest(fault, how, &["on", "pulse", "count"], "ways"));
            return None;
        }
    };
    let Some(output) = known.output(id) else {
        let fault = Finding::fault(word.span(), format!("unknown output `{id}`"));
        findings.push(suggest(fault, id, &known.outputs(), "outputs"));
        return None;
    };
    if drive == Drive::Count && !output.shows_numbers {
        let fault = Finding::fault(word.span(), format!("output `{id}` is one line: on or off"));
        findings.push(fault.label("a count needs an output with `pins` or `file`"));
    }
    if drive != Drive::Count && output.is_display {
        let fault = Finding::fault(word.span(), format!("output `{id}` is a display: a count"));
        findings.push(fault.label(format!("such as \"output:{id}:count\"")));
    }
    Some((id.into(), drive))
}

fn record(length: &str, word: &At<String>, findings: &mut Findings) -> Option<Action> {
    let millis = Quantity::Duration.parse(length);
    let Some(millis) = millis.filter(|millis| (1_000..=MAX_RECORD_MS).contains(millis)) else {
        let fault = Finding::fault(word.span(), format!("`{length}` is no time to record"));
        findings.push(fault.label("1s to 10m, such as \"record:30s\""));
        return None;
    };
    Some(Action::Record(Duration::from_millis(millis)))
}
