//! What a rule does: that it can be done.

use std::time::Duration;

use super::super::known::Known;
use super::super::names;
use super::{Finding, Findings};
use crate::config::model::{Action, Drive};
use crate::config::nearest::suggest;
use crate::config::place::At;
use crate::config::tables::RuleTable;
use crate::config::units::Quantity;

/// Each action, as it is written.
const ACTIONS: [&str; 4] = ["alert", "capture:<camera>", "output:<pin>", "record:<duration>"];
/// Bounds what one alert can write to the card, in milliseconds.
const MAX_RECORD_MS: u64 = 600_000;

/// The actions, each once; never empty if nothing is a fault.
pub(super) fn build(table: &RuleTable, known: &Known, findings: &mut Findings) -> Vec<Action> {
    if table.then.is_empty() {
        let fault = Finding::fault(table.then.span(), "this rule does nothing when it fires");
        findings.push(fault.label("such as [\"alert\"]"));
    }
    names::unique(table.then.iter(), "action", findings);
    table.then.iter().filter_map(|word| action(word, known, findings)).collect()
}

fn action(word: &At<String>, known: &Known, findings: &mut Findings) -> Option<Action> {
    if word.as_str() == "alert" {
        return Some(Action::Alert);
    }
    let (verb, object) = word.split_once(':').unwrap_or((word, ""));
    let (found, what) = match verb {
        "capture" => {
            (capture(object, word, known, findings), format!("camera `{object}` is not captured"))
        }
        "output" => {
            (output(object, word, known, findings), format!("line `{object}` is not driven"))
        }
        "record" => (record(object, word, findings), "nothing is recorded".to_owned()),
        _ => {
            let fault = Finding::fault(word.span(), format!("unknown action `{}`", **word));
            findings.push(suggest(fault, word, &ACTIONS, "actions"));
            return None;
        }
    };
    if found.is_some() {
        findings.push(Finding::warning(word.span(), format!("{what} by this version")));
    }
    found
}

fn capture(
    camera: &str,
    word: &At<String>,
    known: &Known,
    findings: &mut Findings,
) -> Option<Action> {
    if known.has_camera(camera) {
        return Some(Action::Capture(camera.to_owned()));
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
) -> Option<Action> {
    let (pin, how) = object.split_once(':').unwrap_or((object, "on"));
    let Ok(pin) = pin.parse() else {
        let fault = Finding::fault(word.span(), format!("`{pin}` is not the number of a line"));
        findings.push(fault.label("such as \"output:17\""));
        return None;
    };
    if known.is_input(pin) {
        let message = format!("line {pin} is read by a sensor: it cannot be driven");
        findings.push(Finding::fault(word.span(), message));
    }
    match how {
        "on" => Some(Action::Output(pin, Drive::Raised)),
        "pulse" => Some(Action::Output(pin, Drive::Pulse)),
        "count" => Some(Action::Output(pin, Drive::Count)),
        _ => {
            let fault = Finding::fault(word.span(), format!("an output cannot be driven `{how}`"));
            findings.push(suggest(fault, how, &["on", "pulse", "count"], "ways"));
            None
        }
    }
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
