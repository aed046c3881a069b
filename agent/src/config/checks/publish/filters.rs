//! Builds the filters of readings, and checks that tests can be passed and that means are of
//! numbers.

use pulsegate_core::cloud::filter::{FilterSpec, FilterTest};

use crate::config::checks::known::Known;
use crate::config::checks::rules::unknown_source;
use crate::config::findings::{Finding, Findings};
use crate::config::model::PublishConfig;
use crate::config::tables::{PublishTable, TestTable};

/// Builds the filter of a section; keys missing in the table have the values of `usual`.
pub(super) fn build_filter(
    table: &PublishTable,
    kind: &str,
    usual: &PublishConfig,
    known: &Known,
    findings: &mut Findings,
) -> FilterSpec {
    let path = &table.path;
    let mut tests = |key: &str, tables: &Option<Vec<TestTable>>, usual: &[FilterTest]| {
        let Some(tables) = tables else { return usual.to_vec() };
        let tables = tables.iter().enumerate();
        tables
            .map(|(at, table)| build_test(table, &format!("{path}.{key}[{at}]"), known, findings))
            .collect()
    };
    let keep = tests("keep", &table.keep, &usual.filter.keep);
    let drop = tests("drop", &table.drop, &usual.filter.drop);
    if table.mean_every.is_some() {
        let covered = known.covered(Some(kind), None);
        let readings = covered.iter().filter_map(|source| source.readings.as_ref());
        if let Some(readings) = readings.into_iter().find(|readings| !readings.states.is_empty()) {
            let message = format!("readings of kind `{}` are states: no means", readings.kind);
            findings.push(Finding::fault(format!("{path}.mean_every"), message));
        }
    }
    let mean_every = table.mean_every.map(|every| every.0);
    FilterSpec {
        keep,
        drop,
        mean_every: mean_every.or(usual.filter.mean_every),
        min_change: table.min_change.or(usual.filter.min_change),
    }
}

/// Reports each filter key in a section of alerts or events, which are never held back.
pub(super) fn none(table: &PublishTable, findings: &mut Findings) {
    let keys = [
        table.keep.as_ref().map(|_| "keep"),
        table.drop.as_ref().map(|_| "drop"),
        table.mean_every.map(|_| "mean_every"),
        table.min_change.map(|_| "min_change"),
    ];
    for key in keys.into_iter().flatten() {
        let place = format!("{}.{key}", table.path);
        findings.push(Finding::fault(place, "only readings can be filtered"));
    }
}

/// Builds the test at `path` in the file.
fn build_test(table: &TestTable, path: &str, known: &Known, findings: &mut Findings) -> FilterTest {
    let TestTable { source, above, below, outside, is } = table;
    let place = |key: &str| format!("{path}.{key}");
    if let Some(source) = source
        && known.source(source).is_none()
        && !known.is_open()
    {
        findings.push(unknown_source(source, place("source"), known));
    }
    let range = above.map(|_| "above").or(below.map(|_| "below"));
    let range = range.or(outside.as_ref().map(|_| "outside"));
    if source.is_none() && range.is_none() && is.is_none() {
        let fault = Finding::fault(path, "this test says nothing");
        findings.push(fault.label("`source`, `above`, `below`, `outside` or `is`"));
    }
    if let Some(range) = range.filter(|_| is.is_some()) {
        let message = "`is` compares a state, and no state is above or below a number";
        let fault = Finding::fault(place("is"), message);
        findings.push(fault.also(place(range), "make this a test of its own"));
    }
    let (low, high) = match outside.as_deref() {
        None => (None, None),
        Some([low, high]) => {
            if above.is_some() || below.is_some() {
                let message = "`outside` says what is above and below";
                let fault = Finding::fault(place("outside"), message);
                findings.push(fault.label("leave out `above` and `below`"));
            } else if low > high {
                findings.push(Finding::fault(place("outside[0]"), "the lower limit comes first"));
            }
            (Some(*low), Some(*high))
        }
        Some(_) => {
            let fault = Finding::fault(place("outside"), "`outside` takes two numbers");
            findings.push(fault.label("such as `[40, 120]`"));
            (None, None)
        }
    };
    FilterTest {
        source: source.as_deref().map(Into::into),
        above: above.or(high),
        below: below.or(low),
        is: is.as_deref().map(Into::into),
    }
}
