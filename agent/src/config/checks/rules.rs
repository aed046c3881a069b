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
use crate::config::places::Place;
use crate::config::tables::RuleTable;

/// The fix for a source without derived readings.
const VARIABILITY: &str = "add `variability = true`";
/// The longest name of a rule, in bytes, since the name is part of each alert.
const MAX_NAME_BYTES: usize = 128;

pub(super) fn build_rules(
    tables: &[RuleTable],
    known: &Known,
    findings: &mut Findings,
) -> Vec<RuleSpec> {
    let rules = tables.iter().enumerate();
    let names = rules.clone().map(|(at, table)| (&*table.name, format!("rule[{at}].name")));
    names::check_unique(names, "rule", findings);
    rules.map(|(at, table)| rule(table, &format!("rule[{at}]"), known, findings)).collect()
}

/// Warns of a recording without effect, because all readings are published in full anyway.
pub(super) fn recordings(tables: &[RuleTable], is_filtered: bool, findings: &mut Findings) {
    for (rule, table) in tables.iter().enumerate().filter(|_| !is_filtered) {
        for (at, _) in table.then.iter().enumerate().filter(|(_, word)| word.starts_with("record:"))
        {
            let message = "a recording makes no difference: every reading is published";
            let warning = Finding::warning(format!("rule[{rule}].then[{at}]"), message);
            findings.push(warning.label("no section of `publish` filters any"));
        }
    }
}

/// Builds the rule at `path` in the file.
fn rule(table: &RuleTable, path: &str, known: &Known, findings: &mut Findings) -> RuleSpec {
    check_rule_name(&table.name, path, findings);
    check_coverage(table, path, known, findings);
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
        on: table.on.as_deref().map(Into::into),
        source: table.source.as_deref().map(Into::into),
        condition: condition::build_condition(table, known),
        window: window
            .map(|window| window::build_window(window, &format!("{path}.window"), findings)),
        limits: limits.collect(),
        hold_for: table.hold_for.map(|period| period.0).unwrap_or_default(),
        clear: clear.unwrap_or_default(),
        at_most_every: table.at_most_every.map(|every| every.0),
        severity: table.severity,
        then: actions::build_actions(table, path, known, findings),
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

fn check_rule_name(name: &str, path: &str, findings: &mut Findings) {
    let fits = (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.contains(char::is_control);
    if !fits || name.trim().is_empty() {
        let fault = Finding::fault(format!("{path}.name"), "this cannot be the name of a rule");
        findings.push(fault.label(format!("1 to {MAX_NAME_BYTES} bytes of text on one line")));
    }
}

/// Checks the names of the readings that the rule covers.
fn check_coverage(table: &RuleTable, path: &str, known: &Known, findings: &mut Findings) {
    if table.all.is_some() || table.any.is_some() {
        return;
    }
    let on = table.on.as_deref().map(|on| (on, format!("{path}.on")));
    if let Some((on, place)) = &on {
        check_kind(on, place, known, findings);
    }
    let source = table.source.as_deref().map(|id| (id, format!("{path}.source")));
    let limits = table.limits.iter().enumerate();
    let limited = limits.map(|(at, limit)| (&*limit.source, format!("{path}.limits[{at}].source")));
    for id in source.into_iter().chain(limited) {
        check_source(id, on.clone(), known, findings);
    }
}

/// Checks that a source exists, and can have readings of the kind `on`. Both have their paths.
fn check_source(
    (id, place): (&str, String),
    on: Option<(&str, String)>,
    known: &Known,
    findings: &mut Findings,
) {
    match known.source(id) {
        None if known.is_open() => {}
        None => findings.push(unknown_source(id, place, known)),
        Some(source) => findings.push_all(of_kind(source, place, on, known)),
    }
}

fn check_kind(kind: &str, place: &str, known: &Known, findings: &mut Findings) {
    if known.has_kind(kind) {
        return;
    }
    if is_derived(kind) {
        let fault = Finding::fault(place, format!("no source derives `{kind}`"));
        findings.push(fault.label(format!("{VARIABILITY} to a heart-rate source")));
    } else if !known.has_foreign_kinds() {
        let fault = Finding::fault(place, format!("no source gives readings of kind `{kind}`"));
        findings.push(suggest(fault, kind, &known.kinds(), "kinds"));
    } else if !is_kind(kind) {
        findings.push(names::malformed_kind(kind, place));
    }
}

fn is_derived(kind: &str) -> bool {
    Derived::ALL.iter().any(|derived| derived.reading_kind() == kind)
}

pub(super) fn unknown_source(id: &str, place: impl Into<Place>, known: &Known) -> Finding {
    let fault = Finding::fault(place, format!("unknown source `{id}`"));
    suggest(fault, id, &known.ids(), "sources")
}

/// Returns the fault of a rule on one kind that names a source of another kind, at `place`.
fn of_kind(
    source: &KnownSource,
    place: String,
    on: Option<(&str, String)>,
    known: &Known,
) -> Option<Finding> {
    let (id, (on, kind_place)) = (&source.id, on?);
    let kind = &source.readings.as_ref()?.kind;
    if !known.covered(Some(on), Some(id)).is_empty() {
        return None;
    }
    if is_derived(on) && kind == "heart_rate" {
        // If no source derives the kind, that is reported already.
        known.has_kind(on).then(|| {
            let fault = Finding::fault(place, format!("source `{id}` derives no `{on}`"));
            fault.label(format!("{VARIABILITY} to it"))
        })
    } else {
        let message = format!("this rule never sees source `{id}`, whose kind is `{kind}`");
        Some(Finding::fault(place, message).also(kind_place, "only this kind"))
    }
}
