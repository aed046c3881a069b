//! Checks the words of a rule, and the names in the rule. Core checks whether the rule can run.

mod actions;
mod condition;
mod window;

use pulsegate_core::derive::heart_variability::Derived;
use pulsegate_core::rules::{Clear, Limit, RuleSpec};
use pulsegate_sensors::is_kind;

pub(super) use actions::of_visits;

use super::known::{Known, KnownSource};
use super::names;
use crate::config::findings::{Finding, Findings};
use crate::config::nearest::suggest;
use crate::config::place::At;
use crate::config::tables::RuleTable;

/// The fix for a source without derived readings.
const VARIABILITY: &str = "add `variability = true`";
/// The longest name of a rule, in bytes, since the name is part of each alert.
const MAX_NAME_BYTES: usize = 128;

pub(super) fn build_rules(
    tables: &[At<RuleTable>],
    known: &Known,
    findings: &mut Findings,
) -> Vec<RuleSpec> {
    names::unique(tables.iter().map(|table| &table.name), "rule", findings);
    let rules = tables.iter().enumerate();
    rules.map(|(at, table)| rule(table, &format!("rule[{at}]"), known, findings)).collect()
}

/// Warns of a recording without effect, because all readings are published in full anyway.
pub(super) fn recordings(tables: &[At<RuleTable>], is_filtered: bool, findings: &mut Findings) {
    let words = tables.iter().flat_map(|table| table.then.iter());
    for word in words.filter(|word| !is_filtered && word.starts_with("record:")) {
        let message = "a recording makes no difference: every reading is published";
        let warning = Finding::warning(word.span(), message);
        findings.push(warning.label("no section of `publish` filters any"));
    }
}

/// Builds the rule at `path` in the file.
fn rule(table: &RuleTable, path: &str, known: &Known, findings: &mut Findings) -> RuleSpec {
    name(&table.name, findings);
    coverage(table, known, findings);
    let is_clear = condition::has_clear_words(table, path, findings);
    condition::check_names(table, path, known, findings);
    let window = table.window.as_ref();
    let limits = table.limits.iter().map(|limit| Limit {
        source: limit.source.as_str().into(),
        above: limit.above,
        below: limit.below,
    });
    let clear = table.clear.as_ref().map(|clear| Clear {
        above: clear.above,
        below: clear.below,
        hold_for: clear.hold_for.map(|period| period.0).unwrap_or_default(),
    });
    let rule = RuleSpec {
        name: table.name.as_str().into(),
        on: boxed(table.on.as_ref()),
        source: boxed(table.source.as_ref()),
        condition: condition::build_condition(table, known),
        window: window
            .map(|window| window::build_window(window, &format!("{path}.window"), findings)),
        limits: limits.collect(),
        hold_for: table.hold_for.map(|period| period.0).unwrap_or_default(),
        clear: clear.unwrap_or_default(),
        at_most_every: table.at_most_every.map(|every| every.0),
        severity: table.severity,
        then: actions::build_actions(table, known, findings),
    };
    if is_clear {
        faults(&rule, table, path, findings);
    }
    rule
}

/// Reports each reason for which core cannot run the rule, at its place in the file.
fn faults(rule: &RuleSpec, table: &RuleTable, path: &str, findings: &mut Findings) {
    for fault in rule.find_faults() {
        let place = |key: &str| match key {
            "" => path.to_owned(),
            _ => format!("{path}.{}", condition::key_in_file(table, key)),
        };
        let of_rule = fault.path.is_empty();
        let message = match of_rule {
            true => format!("rule `{}` cannot run: {fault}", rule.name),
            false => fault.to_string(),
        };
        let mut finding = Finding::fault(place(&fault.path), message);
        if let Some((key, label)) = fault.also {
            finding = finding.also(place(&key), label);
        }
        findings.push(match fault.fix {
            Some(fix) if of_rule => finding.help(fix),
            Some(fix) => finding.label(fix),
            None => finding,
        });
    }
}

fn boxed(text: Option<&At<String>>) -> Option<Box<str>> {
    text.map(|text| text.as_str().into())
}

fn name(name: &At<String>, findings: &mut Findings) {
    let fits = (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.contains(char::is_control);
    if !fits || name.trim().is_empty() {
        let fault = Finding::fault(name.span(), "this cannot be the name of a rule");
        findings.push(fault.label(format!("1 to {MAX_NAME_BYTES} bytes of text on one line")));
    }
}

/// Checks the names of the readings that the rule covers.
fn coverage(table: &RuleTable, known: &Known, findings: &mut Findings) {
    if table.all.is_some() || table.any.is_some() {
        return;
    }
    if let Some(on) = &table.on {
        kind(on, known, findings);
    }
    let limited = table.limits.iter().map(|limit| &limit.source);
    for id in table.source.iter().chain(limited) {
        check_source(id, table.on.as_ref(), known, findings);
    }
}

/// Checks that a source exists, and can have readings of the kind `on`.
fn check_source(id: &At<String>, on: Option<&At<String>>, known: &Known, findings: &mut Findings) {
    match known.source(id) {
        None if known.is_open() => {}
        None => findings.push(unknown_source(id, known)),
        Some(source) => of_kind(id, source, on, known, findings),
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
    Derived::ALL.iter().any(|derived| derived.reading_kind() == kind)
}

pub(super) fn unknown_source(id: &At<String>, known: &Known) -> Finding {
    let fault = Finding::fault(id.span(), format!("unknown source `{}`", **id));
    suggest(fault, id, &known.ids(), "sources")
}

/// Reports a rule on one kind that names a source of another kind.
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
        // If no source derives the kind, that is reported already.
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
