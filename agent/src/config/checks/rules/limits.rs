//! Thresholds besides those of the rule: of single sources, and of `clear`.

use pulsegate_core::rules::{Clear, Limit, Take};

use super::super::known::Known;
use super::super::names;
use super::condition::{Word, apart, numberless};
use super::{Finding, Findings, of_kind, unknown_source, value};
use crate::config::place::At;
use crate::config::tables::{LimitTable, RuleTable};

/// The limits of single sources, complete.
pub(super) fn build(table: &RuleTable, known: &Known, findings: &mut Findings) -> Vec<Limit> {
    check(table, known, findings);
    let (above, below) = own(table);
    let limit = |limit: &At<LimitTable>| Limit {
        source: limit.source.as_str().into(),
        above: value(limit.above.as_ref()).or(above),
        below: value(limit.below.as_ref()).or(below),
    };
    table.limits.iter().map(limit).collect()
}

fn check(table: &RuleTable, known: &Known, findings: &mut Findings) {
    if let (Some(limit), Some(word)) = (table.limits.first(), numberless(table)) {
        let Word { word, span, does } = word;
        let message = format!("limits replace `above` and `below`, and `{word}` {does}");
        findings.push(Finding::fault(limit.span(), message).also(span, format!("`{word}`")));
        return;
    }
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
            apart(
                limit.above.as_ref().or(own_above(table)),
                limit.below.as_ref().or(own_below(table)),
                findings,
            );
        }
    }
}

/// When an alert is over.
pub(super) fn clear(table: &RuleTable, findings: &mut Findings) -> Clear {
    let Some(clear) = &table.clear else { return Clear::default() };
    let (above, below) = (clear.above.as_ref(), clear.below.as_ref());
    match (above.or(below), &clear.hold_for) {
        (None, None) => {
            let fault = Finding::fault(clear.span(), "`clear` does not say when an alert is over");
            findings.push(fault.help("give it `below`, `above` or `for`"));
        }
        (Some(number), _) => match numberless(table) {
            Some(Word { word, span, does }) => {
                let message = format!("`clear` compares a number here, and `{word}` {does}");
                let fault = Finding::fault(number.span(), message);
                findings.push(fault.also(span, format!("`{word}`")));
            }
            None => hysteresis(table, above, below, findings),
        },
        (None, Some(_)) => {}
    }
    let hold_for = clear.hold_for.as_ref().map(|period| period.0).unwrap_or_default();
    Clear { above: value(above), below: value(below), hold_for }
}

/// What is raised above 30 can be over below 28, but neither above anything nor below 32.
fn hysteresis(
    table: &RuleTable,
    above: Option<&At<f64>>,
    below: Option<&At<f64>>,
    findings: &mut Findings,
) {
    let tops = table.limits.iter().filter_map(|limit| limit.above.as_ref()).chain(own_above(table));
    let floors =
        table.limits.iter().filter_map(|limit| limit.below.as_ref()).chain(own_below(table));
    let least = tops.min_by(|a, b| a.total_cmp(b));
    let greatest = floors.max_by(|a, b| a.total_cmp(b));
    let sides = [
        ("below", "above", below.map(|below| (below, least, least.is_some_and(|l| **below > **l)))),
        (
            "above",
            "below",
            above.map(|above| (above, greatest, greatest.is_some_and(|g| **above < **g))),
        ),
    ];
    for (side, other, given) in sides {
        match given {
            Some((own, None, _)) => {
                let message = format!("this rule has no `{other}` that it could clear `{side}`");
                findings.push(Finding::fault(own.span(), message));
            }
            Some((own, Some(limit), true)) => {
                let message =
                    format!("what is raised {other} {} cannot be over {side} {}", **limit, **own);
                let fault = Finding::fault(own.span(), message);
                findings.push(fault.also(limit.span(), format!("{other} this")));
            }
            Some((_, Some(_), false)) | None => {}
        }
    }
    if let (Some(above), Some(below)) = (above, below)
        && **above >= **below
    {
        let message = format!("no value is above {} and below {}", **above, **below);
        findings.push(Finding::fault(above.span(), message).also(below.span(), "`below`"));
        return;
    }
    let never = [
        ("below", below.zip(greatest).filter(|(own, limit)| ***own <= ***limit)),
        ("above", above.zip(least).filter(|(own, limit)| ***own >= ***limit)),
    ];
    for (side, (own, limit)) in never.into_iter().filter_map(|(side, at)| Some((side, at?))) {
        let message =
            format!("what is {side} {} is {side} {} too: the alert is never over", **own, **limit);
        let fault = Finding::fault(own.span(), message);
        findings.push(fault.also(limit.span(), format!("{side} this")));
    }
}

/// A count is 0 or more, whatever is counted.
pub(super) fn counted(table: &RuleTable, findings: &mut Findings) {
    if table.window.as_ref().is_none_or(|window| window.take != Take::Count) {
        return;
    }
    let limits = || table.limits.iter();
    for above in limits().filter_map(|limit| limit.above.as_ref()).chain(own_above(table)) {
        if **above < 0.0 {
            let message = format!("a count is always above {}", **above);
            findings.push(Finding::fault(above.span(), message));
        }
    }
    for below in limits().filter_map(|limit| limit.below.as_ref()).chain(own_below(table)) {
        if **below <= 0.0 {
            let message = format!("a count is never below {}", **below);
            findings.push(Finding::fault(below.span(), message));
        }
    }
}

fn own(table: &RuleTable) -> (Option<f64>, Option<f64>) {
    (value(own_above(table)), value(own_below(table)))
}

fn own_above(table: &RuleTable) -> Option<&At<f64>> {
    table.above.as_ref().or_else(|| table.outside.as_ref()?.get(1))
}

fn own_below(table: &RuleTable) -> Option<&At<f64>> {
    table.below.as_ref().or_else(|| table.outside.as_ref()?.first())
}
