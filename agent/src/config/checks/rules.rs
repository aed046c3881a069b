//! Rules: that each can fire, and names only what exists.

use pulsegate_sensors::is_kind;

use super::known::{Known, KnownSource};
use super::names;
use crate::config::findings::{Finding, Findings};
use crate::config::model::{Action, LimitConfig, RuleConfig, Take, WindowConfig};
use crate::config::nearest::suggest;
use crate::config::place::At;
use crate::config::tables::{LimitTable, RuleTable};

/// Bounds what a rule's name adds to each of its alerts.
const MAX_NAME_BYTES: usize = 128;

pub(super) fn build(
    tables: Vec<At<RuleTable>>,
    known: &Known,
    findings: &mut Findings,
) -> Vec<RuleConfig> {
    names::unique(tables.iter().map(|table| &table.name), "rule", findings);
    tables.into_iter().map(|table| rule(table, known, findings)).collect()
}

fn rule(table: At<RuleTable>, known: &Known, findings: &mut Findings) -> RuleConfig {
    name(&table.name, findings);
    coverage(&table, known, findings);
    condition(&table, findings);
    states_and_numbers(&table, known, findings);
    limits(&table, known, findings);
    let then = actions(&table, known, findings);
    let table = table.into_inner();
    let (above, below) = (value(table.above.as_ref()), value(table.below.as_ref()));
    let limit = |limit: At<LimitTable>| LimitConfig {
        above: value(limit.above.as_ref()).or(above),
        below: value(limit.below.as_ref()).or(below),
        source: limit.into_inner().source.into_inner(),
    };
    RuleConfig {
        name: table.name.into_inner(),
        on: table.on.map(At::into_inner),
        source: table.source.map(At::into_inner),
        above,
        below,
        is: table.is.map(At::into_inner),
        window: table
            .window
            .map(|window| WindowConfig { length: window.tumbling.0, take: window.take }),
        limits: table.limits.into_iter().map(limit).collect(),
        at_most_every: table.at_most_every.map(|every| every.0),
        severity: table.severity,
        then,
    }
}

fn value(number: Option<&At<f64>>) -> Option<f64> {
    number.map(|number| **number)
}

fn name(name: &At<String>, findings: &mut Findings) {
    let fits = (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.contains(char::is_control);
    if !fits || name.trim().is_empty() {
        let fault = Finding::fault(name.span(), "this cannot be the name of a rule");
        findings.push(fault.label(format!("1 to {MAX_NAME_BYTES} bytes of text on one line")));
    }
}

/// Which readings it looks at.
fn coverage(table: &At<RuleTable>, known: &Known, findings: &mut Findings) {
    if table.on.is_none() && table.source.is_none() {
        let message = format!("rule `{}` says neither `on` nor `source`", *table.name);
        findings.push(Finding::fault(table.span(), message).help("such as `on = \"heart_rate\"`"));
    }
    if let Some(on) = &table.on {
        kind(on, known, findings);
    }
    if let Some(id) = &table.source {
        match known.source(id) {
            None if known.is_open() => {}
            None => findings.push(unknown_source(id, known)),
            Some(source) => of_kind(id, source, table.on.as_ref(), known, findings),
        }
    }
}

fn kind(kind: &At<String>, known: &Known, findings: &mut Findings) {
    if known.has_kind(kind) {
        return;
    }
    if !known.has_foreign_kinds() {
        let fault =
            Finding::fault(kind.span(), format!("no source gives readings of kind `{}`", **kind));
        findings.push(suggest(fault, kind, &known.kinds(), "kinds"));
    } else if !is_kind(kind) {
        findings.push(names::malformed_kind(kind));
    }
}

pub(super) fn unknown_source(id: &At<String>, known: &Known) -> Finding {
    let fault = Finding::fault(id.span(), format!("unknown source `{}`", **id));
    suggest(fault, id, &known.ids(), "sources")
}

/// A rule on one kind never sees a source of another.
fn of_kind(
    id: &At<String>,
    source: &KnownSource,
    on: Option<&At<String>>,
    known: &Known,
    findings: &mut Findings,
) {
    let (Some(on), Some(readings)) = (on, &source.readings) else { return };
    if known.covered(Some(on), Some(id)).is_empty() {
        let kind = &readings.kind;
        let message = format!("this rule never sees source `{}`, whose kind is `{kind}`", **id);
        findings.push(Finding::fault(id.span(), message).also(on.span(), "only this kind"));
    }
}

/// When it fires.
fn condition(table: &At<RuleTable>, findings: &mut Findings) {
    let by_value = [&table.above, &table.below].into_iter().flatten();
    let by_limit = table.limits.iter().flat_map(|limit| [&limit.above, &limit.below]).flatten();
    let threshold = by_value.chain(by_limit).next();
    match (&table.is, threshold) {
        (None, None) => {
            let message = format!("rule `{}` can never fire: it has no condition", *table.name);
            let fault = Finding::fault(table.span(), message);
            findings.push(fault.help("give it `above`, `below` or `is`"));
        }
        (Some(is), Some(threshold)) => {
            let message = "`is` compares a state, and no state is above or below a number";
            let fault = Finding::fault(is.span(), message);
            findings.push(fault.also(threshold.span(), "make this a rule of its own"));
        }
        (Some(is), None) => {
            if let Some(window) = &table.window {
                let fault = Finding::fault(
                    window.span(),
                    "a window takes numbers, and `is` compares a state",
                );
                findings.push(fault.also(is.span(), "a state"));
            }
        }
        (None, Some(_)) => {}
    }
    thresholds(table.above.as_ref(), table.below.as_ref(), findings);
}

/// Below 40 or above 120 makes sense; below 120 or above 40 is always.
fn thresholds(above: Option<&At<f64>>, below: Option<&At<f64>>, findings: &mut Findings) {
    if let (Some(above), Some(below)) = (above, below)
        && **above <= **below
    {
        let message =
            format!("`above` {} and `below` {} fire at nearly any value", **above, **below);
        let fault = Finding::fault(above.span(), message).label("must be greater than `below`");
        findings.push(fault.also(below.span(), "`below`"));
    }
}

/// That states are compared with states, and numbers with numbers.
fn states_and_numbers(table: &At<RuleTable>, known: &Known, findings: &mut Findings) {
    let kind = table.on.as_ref().map(|on| on.as_str());
    let id = table.source.as_ref().map(|id| id.as_str());
    let covered = known.covered(kind, id);
    let readings: Option<Vec<_>> = covered.iter().map(|source| source.readings.as_ref()).collect();
    let Some(readings) = readings.filter(|readings| !readings.is_empty()) else { return };
    let what = format!("readings of kind `{}`", readings[0].kind);

    let states: Vec<&str> = readings.iter().flat_map(|readings| readings.states).copied().collect();
    if let Some(is) = &table.is {
        if states.is_empty() {
            let message = format!("`is` compares a state, and {what} are numbers");
            findings.push(Finding::fault(is.span(), message).label("use `above` or `below`"));
        } else if !states.contains(&is.as_str()) {
            let fault = Finding::fault(is.span(), format!("{what} are never `{}`", **is));
            findings.push(suggest(fault, is, &states, "states"));
        }
    }
    let counts = table.window.as_ref().is_some_and(|window| window.take == Take::Count);
    let all_states = readings.iter().all(|readings| !readings.states.is_empty());
    if let Some(number) =
        table.above.as_ref().or(table.below.as_ref()).filter(|_| all_states && !counts)
    {
        let fault = Finding::fault(number.span(), format!("{what} are states, not numbers"));
        findings.push(
            fault.label(format!("use `is = \"{}\"`, or a window that takes `count`", states[0])),
        );
    }
}

fn limits(table: &At<RuleTable>, known: &Known, findings: &mut Findings) {
    names::unique(table.limits.iter().map(|limit| &limit.source), "a limit of source", findings);
    for limit in &table.limits {
        match known.source(&limit.source) {
            None if known.is_open() => {}
            None => findings.push(unknown_source(&limit.source, known)),
            Some(source) => of_kind(&limit.source, source, table.on.as_ref(), known, findings),
        }
        if let Some(only) =
            table.source.as_ref().filter(|only| only.as_str() != limit.source.as_str())
        {
            let message = format!("this rule never sees source `{}`", *limit.source);
            let fault = Finding::fault(limit.source.span(), message);
            findings.push(fault.also(only.span(), "only this source"));
        }
        if limit.above.is_none() && limit.below.is_none() {
            let message =
                format!("the limits of `{}` have neither `above` nor `below`", *limit.source);
            findings.push(Finding::fault(limit.span(), message));
        } else {
            let above = limit.above.as_ref().or(table.above.as_ref());
            thresholds(above, limit.below.as_ref().or(table.below.as_ref()), findings);
        }
    }
}

fn actions(table: &At<RuleTable>, known: &Known, findings: &mut Findings) -> Vec<Action> {
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
    match verb {
        "capture" if known.has_camera(object) => {
            let message = format!("camera `{object}` is not captured by this version");
            findings.push(Finding::warning(word.span(), message));
            return Some(Action::Capture(object.to_owned()));
        }
        "capture" => {
            let fault = Finding::fault(word.span(), format!("unknown camera `{object}`"));
            findings.push(suggest(fault, object, &known.cameras(), "cameras"));
        }
        "output" | "record" => {
            let message = format!("`{verb}` is not available in this version");
            findings.push(Finding::fault(word.span(), message));
        }
        _ => {
            let fault = Finding::fault(word.span(), format!("unknown action `{}`", **word));
            findings.push(suggest(fault, word, &["alert", "capture:<camera>"], "actions"));
        }
    }
    None
}
