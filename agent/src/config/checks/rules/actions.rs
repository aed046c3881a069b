//! Builds the actions of rules and visits, and checks that each can be taken.

use std::time::Duration;

use pulsegate_core::rules::{Action, Drive};
use pulsegate_core::visits::{Moment, VisitAction};

use super::super::known::Known;
use super::super::names;
use super::{Finding, Findings};
use crate::config::nearest::suggest;
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
    path: &str,
    known: &Known,
    findings: &mut Findings,
) -> Vec<Action> {
    let path = format!("{path}.then");
    if table.then.is_empty() {
        let fault = Finding::fault(&*path, "this rule does nothing when it fires");
        findings.push(fault.label("such as [\"alert\"]"));
    }
    let words = with_paths(&table.then, &path);
    names::check_unique(words.iter().cloned(), "action", findings);
    let actions = words.iter().filter_map(|(word, place)| of_rule(word, place, known, findings));
    let actions: Vec<Action> = actions.collect();
    let record = words.into_iter().find(|(word, _)| word.starts_with("record:"));
    if let Some((_, place)) = record.filter(|_| !actions.contains(&Action::Alert)) {
        let fault = Finding::fault(place, "a recording belongs to an alert");
        findings.push(fault.label("add `\"alert\"`: it tells where the recording begins"));
    }
    actions
}

/// Returns the actions of the visit at `path`, each once.
pub(in super::super) fn of_visits(
    words: &[String],
    path: &str,
    known: &Known,
    findings: &mut Findings,
) -> Vec<VisitAction> {
    let words = with_paths(words, &format!("{path}.then"));
    names::check_unique(words.iter().cloned(), "action", findings);
    words.iter().filter_map(|(word, place)| of_visit(word, place, known, findings)).collect()
}

/// Returns the words of the list at `path`, each with its own path.
fn with_paths<'a>(words: &'a [String], path: &str) -> Vec<(&'a str, String)> {
    let words = words.iter().enumerate();
    words.map(|(at, word)| (word.as_str(), format!("{path}[{at}]"))).collect()
}

fn of_rule(word: &str, place: &str, known: &Known, findings: &mut Findings) -> Option<Action> {
    if word == "alert" {
        return Some(Action::Alert);
    }
    let (verb, object) = word.split_once(':').unwrap_or((word, ""));
    match verb {
        "capture" => capture(object, place, known, findings).map(Action::Capture),
        "output" => {
            let (output, drive) = output(object, place, known, findings)?;
            Some(Action::Output(output, drive))
        }
        "record" => record(object, place, findings),
        _ => {
            findings.push(unknown(word, place, &ACTIONS));
            None
        }
    }
}

fn of_visit(
    word: &str,
    place: &str,
    known: &Known,
    findings: &mut Findings,
) -> Option<VisitAction> {
    let (verb, object) = word.split_once(':').unwrap_or((word, ""));
    match verb {
        "capture" => {
            let (camera, moment) = object.split_once(':').unwrap_or((object, "begin"));
            let camera = capture(camera, place, known, findings)?;
            let moment = match moment {
                "begin" => Moment::Begin,
                "opening" => Moment::Opening,
                "end" => Moment::End,
                _ => {
                    let message = format!("a visit has no moment `{moment}`");
                    let fault = Finding::fault(place, message);
                    let moments = ["begin", "opening", "end"];
                    findings.push(suggest(fault, moment, &moments, "moments"));
                    return None;
                }
            };
            Some(VisitAction::Capture(camera, moment))
        }
        "output" => {
            let (output, drive) = output(object, place, known, findings)?;
            Some(VisitAction::Output(output, drive))
        }
        "alert" | "record" => {
            let message = format!("a visit cannot `{verb}`");
            let fault = Finding::fault(place, message);
            findings.push(fault.label("it is an event of its own, and its readings are states"));
            None
        }
        _ => {
            findings.push(unknown(word, place, &VISIT_ACTIONS));
            None
        }
    }
}

fn unknown(word: &str, place: &str, actions: &[&str]) -> Finding {
    let fault = Finding::fault(place, format!("unknown action `{word}`"));
    suggest(fault, word, actions, "actions")
}

fn capture(camera: &str, place: &str, known: &Known, findings: &mut Findings) -> Option<Box<str>> {
    if known.has_camera(camera) {
        return Some(camera.into());
    }
    let fault = Finding::fault(place, format!("unknown camera `{camera}`"));
    findings.push(suggest(fault, camera, &known.cameras(), "cameras"));
    None
}

fn output(
    object: &str,
    place: &str,
    known: &Known,
    findings: &mut Findings,
) -> Option<(Box<str>, Drive)> {
    let (id, how) = object.split_once(':').unwrap_or((object, "on"));
    let drive = match how {
        "on" => Drive::On,
        "pulse" => Drive::Pulse,
        "count" => Drive::Count,
        _ => {
            let fault = Finding::fault(place, format!("an output cannot be driven `{how}`"));
            findings.push(suggest(fault, how, &["on", "pulse", "count"], "ways"));
            return None;
        }
    };
    let Some(output) = known.output(id) else {
        let fault = Finding::fault(place, format!("unknown output `{id}`"));
        findings.push(suggest(fault, id, &known.outputs(), "outputs"));
        return None;
    };
    if drive == Drive::Count && !output.shows_numbers {
        let fault = Finding::fault(place, format!("output `{id}` is one line: on or off"));
        findings.push(fault.label("a count needs an output with `pins` or `file`"));
    }
    if drive != Drive::Count && output.is_display {
        let fault = Finding::fault(place, format!("output `{id}` is a display: a count"));
        findings.push(fault.label(format!("such as \"output:{id}:count\"")));
    }
    Some((id.into(), drive))
}

fn record(length: &str, place: &str, findings: &mut Findings) -> Option<Action> {
    let millis = Quantity::Duration.parse(length);
    let Some(millis) = millis.filter(|millis| (1_000..=MAX_RECORD_MS).contains(millis)) else {
        let fault = Finding::fault(place, format!("`{length}` is no time to record"));
        findings.push(fault.label("1s to 10m, such as \"record:30s\""));
        return None;
    };
    Some(Action::Record(Duration::from_millis(millis)))
}
