//! Builds the filters of readings, and checks that tests can be passed and that means are of
//! numbers.

use pulsegate_core::cloud::filter::{FilterSpec, FilterTest};

use crate::config::checks::known::Known;
use crate::config::checks::rules::unknown_source;
use crate::config::findings::{Finding, Findings};
use crate::config::model::PublishConfig;
use crate::config::place::At;
use crate::config::tables::{PublishTable, TestTable};

/// Builds the filter of a section; keys missing in the table have the values of `usual`.
pub(super) fn build_filter(
    table: &PublishTable,
    kind: &str,
    usual: &PublishConfig,
    known: &Known,
    findings: &mut Findings,
) -> FilterSpec {
    let mut tests = |tables: Option<&At<Vec<At<TestTable>>>>, usual: &[FilterTest]| match tables {
        Some(tables) => tables.iter().map(|table| test(table, known, findings)).collect(),
        None => usual.to_vec(),
    };
    let (keep, drop) = (
        tests(table.keep.as_ref(), &usual.filter.keep),
        tests(table.drop.as_ref(), &usual.filter.drop),
    );
    if let Some(mean_every) = &table.mean_every {
        let covered = known.covered(Some(kind), None);
        let readings = covered.iter().filter_map(|source| source.readings.as_ref());
        if let Some(readings) = readings.into_iter().find(|readings| !readings.states.is_empty()) {
            let message = format!("readings of kind `{}` are states: no means", readings.kind);
            findings.push(Finding::fault(mean_every.span(), message));
        }
    }
    let mean_every = table.mean_every.as_ref().map(|every| every.0);
    FilterSpec {
        keep,
        drop,
        mean_every: mean_every.or(usual.filter.mean_every),
        min_change: table.min_change.as_ref().map(|change| **change).or(usual.filter.min_change),
    }
}

/// Reports each filter key in a section of alerts or events, which are never held back.
pub(super) fn none(table: &PublishTable, findings: &mut Findings) {
    let spans = [
        table.keep.as_ref().map(At::span),
        table.drop.as_ref().map(At::span),
        table.mean_every.as_ref().map(At::span),
        table.min_change.as_ref().map(At::span),
    ];
    for span in spans.into_iter().flatten() {
        findings.push(Finding::fault(span, "only readings can be filtered"));
    }
}

fn test(table: &At<TestTable>, known: &Known, findings: &mut Findings) -> FilterTest {
    let TestTable { source, above, below, outside, is } = &**table;
    if let Some(source) = source
        && known.source(source).is_none()
        && !known.is_open()
    {
        findings.push(unknown_source(source, source.span(), known));
    }
    let range = above.as_ref().or(below.as_ref()).map(At::span).or(outside.as_ref().map(At::span));
    if source.is_none() && range.is_none() && is.is_none() {
        let fault = Finding::fault(table.span(), "this test says nothing");
        findings.push(fault.label("`source`, `above`, `below`, `outside` or `is`"));
    }
    if let (Some(is), Some(range)) = (is, range) {
        let message = "`is` compares a state, and no state is above or below a number";
        findings
            .push(Finding::fault(is.span(), message).also(range, "make this a test of its own"));
    }
    let (low, high) = match outside.as_ref().map(|outside| (outside, outside.as_slice())) {
        None => (None, None),
        Some((outside, [low, high])) => {
            if above.is_some() || below.is_some() {
                let fault =
                    Finding::fault(outside.span(), "`outside` says what is above and below");
                findings.push(fault.label("leave out `above` and `below`"));
            } else if **low > **high {
                findings.push(Finding::fault(low.span(), "the lower limit comes first"));
            }
            (Some(**low), Some(**high))
        }
        Some((outside, _)) => {
            let fault = Finding::fault(outside.span(), "`outside` takes two numbers");
            findings.push(fault.label("such as `[40, 120]`"));
            (None, None)
        }
    };
    let number = |number: &Option<At<f64>>| number.as_ref().map(|number| **number);
    FilterTest {
        source: source.as_ref().map(|source| source.as_str().into()),
        above: number(above).or(high),
        below: number(below).or(low),
        is: is.as_ref().map(|is| is.as_str().into()),
    }
}
