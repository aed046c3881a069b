//! Rules: that each can fire, and names only what exists.

mod actions;
mod condition;
mod limits;
mod members;
mod window;

use pulsegate_core::derive::heart_variability::Derived;
use pulsegate_core::rules::{Fault, RuleSpec};
use pulsegate_sensors::is_kind;

pub(super) use actions::of_visits;

use super::known::{Known, KnownSource};
use super::names;
use crate::config::findings::{Finding, Findings, Span};
use crate::config::nearest::suggest;
use crate::config::place::At;
use crate::config::tables::RuleTable;

/// What a source needs for readings that are derived.
const VARIABILITY: &str = "add `variability = true`";
/// Bounds what a rule's name adds to each of its alerts.
const MAX_NAME_BYTES: usize = 128;

pub(super) fn build(
    tables: &[At<RuleTable>],
    known: &Known,
    is_readable: bool,
    findings: &mut Findings,
) -> Vec<RuleSpec> {
    names::unique(tables.iter().map(|table| &table.name), "rule", findings);
    let checked = |table: &At<RuleTable>| {
        let before = findings.faults();
        let rule = rule(table, known, findings);
        if is_readable && findings.faults() == before {
            runs(&rule, table, findings);
        }
        rule
    };
    tables.iter().map(checked).collect()
}

/// Warns of recordings of what is published in full anyway.
pub(super) fn recordings(tables: &[At<RuleTable>], is_filtered: bool, findings: &mut Findings) {
    let words = tables.iter().flat_map(|table| table.then.iter());
    for word in words.filter(|word| !is_filtered && word.starts_with("record:")) {
        let message = "a recording makes no difference: every reading is published";
        let warning = Finding::warning(word.span(), message);
        findings.push(warning.label("no section of `publish` filters any"));
    }
}

fn rule(table: &At<RuleTable>, known: &Known, findings: &mut Findings) -> RuleSpec {
    name(&table.name, findings);
    coverage(table, known, findings);
    let condition = condition::build(table, known, findings);
    let limits = limits::build(table, known, findings);
    let clear = limits::clear(table, findings);
    limits::counted(table, findings);
    let window = table.window.as_ref().map(|window| window::build(window, findings));
    let then = actions::build(table, known, findings);
    RuleSpec {
        name: table.name.as_str().into(),
        on: boxed(table.on.as_ref()),
        source: boxed(table.source.as_ref()),
        condition,
        window,
        limits,
        hold_for: table.hold_for.as_ref().map(|period| period.0).unwrap_or_default(),
        clear,
        at_most_every: table.at_most_every.map(|every| every.0),
        severity: table.severity,
        then,
    }
}

/// Asks the engine whether the rule runs: it decides, and the checks above, which know the words of the
/// file, only tell most of its faults better.
fn runs(rule: &RuleSpec, table: &At<RuleTable>, findings: &mut Findings) {
    for fault in rule.faults() {
        let window = || table.window.as_ref().map(At::span);
        let clear = || table.clear.as_ref().map(At::span);
        let place = match &fault {
            Fault::NoNumber("window") | Fault::ShortWindow | Fault::UnevenSteps => window(),
            Fault::NoNumber("clear") | Fault::NeverClears => clear(),
            Fault::SilenceLasts => table.silent_for.as_ref().map(At::span),
            Fault::TooLong => window().or_else(|| table.hold_for.as_ref().map(At::span)),
            Fault::CoversNothing
            | Fault::Members
            | Fault::NoCondition
            | Fault::NoNumber(_)
            | Fault::AlwaysHolds { .. }
            | Fault::AnythingGoes
            | Fault::NotFinite(_)
            | Fault::LimitTwice(_)
            | Fault::NameTwice => None,
        };
        let message = format!("rule `{}` {fault}", rule.name);
        findings.push(Finding::fault(place.unwrap_or_else(|| table.span()), message));
    }
}

fn boxed(text: Option<&At<String>>) -> Option<Box<str>> {
    text.map(|text| text.as_str().into())
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
    if condition::joint(table).is_some() {
        return;
    }
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
    if is_derived(kind) {
        let fault = Finding::fault(kind.span(), format!("no source derives `{}`", **kind));
        findings.push(fault.label(format!("{VARIABILITY} to a heart-rate source")));
    } else if !known.has_foreign_kinds() {
        let fault =
            Finding::fault(kind.span(), format!("no source gives readings of kind `{}`", **kind));
        findings.push(suggest(fault, kind, &known.kinds(), "kinds"));
    } else if !is_kind(kind) {
        findings.push(names::malformed_kind(kind));
    }
}

fn is_derived(kind: &str) -> bool {
    Derived::ALL.iter().any(|derived| derived.kind() == kind)
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
    if !known.covered(Some(on), Some(id)).is_empty() {
        return;
    }
    let kind = &readings.kind;
    if is_derived(on) && kind == "heart_rate" {
        // Where nothing derives it, that is said already.
        if known.has_kind(on) {
            let message = format!("source `{}` derives no `{}`", **id, **on);
            let fault = Finding::fault(id.span(), message);
            findings.push(fault.label(format!("{VARIABILITY} to it")));
        }
    } else {
        let message = format!("this rule never sees source `{}`, whose kind is `{kind}`", **id);
        findings.push(Finding::fault(id.span(), message).also(on.span(), "only this kind"));
    }
}
