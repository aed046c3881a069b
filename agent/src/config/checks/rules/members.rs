//! The sources that `all` or `any` looks at together.

use super::super::known::Known;
use super::condition::{of_one_sort, thresholds};
use super::{Finding, Findings, kind, of_kind, unknown_source};
use crate::config::model::{MemberConfig, Test};
use crate::config::place::At;
use crate::config::tables::MemberTable;

/// Bounds what one reading of one source can cost.
const MAX_MEMBERS: usize = 32;

pub(super) fn build(
    tables: &At<Vec<At<MemberTable>>>,
    word: &str,
    known: &Known,
    findings: &mut Findings,
) -> Vec<MemberConfig> {
    if tables.len() < 2 {
        let fault = Finding::fault(tables.span(), format!("`{word}` looks at two or more"));
        findings.push(fault.help("a rule on one source says `source`"));
    }
    if tables.len() > MAX_MEMBERS {
        let message = format!("`{word}` looks at no more than {MAX_MEMBERS}");
        findings.push(Finding::fault(tables.span(), message));
    }
    tables.iter().map(|table| member(table, word, known, findings)).collect()
}

fn member(
    table: &At<MemberTable>,
    word: &str,
    known: &Known,
    findings: &mut Findings,
) -> MemberConfig {
    if let Some(on) = &table.on {
        kind(on, known, findings);
    }
    match known.source(&table.source) {
        None if known.is_open() => {}
        None => findings.push(unknown_source(&table.source, known)),
        Some(source) => of_kind(&table.source, source, table.on.as_ref(), known, findings),
    }
    let outside = table.outside.as_ref();
    let number = table.above.as_ref().or(table.below.as_ref()).map(At::span);
    let number = number.or_else(|| outside.map(At::span));
    match (&table.is, &number) {
        (Some(is), Some(number)) => {
            let message = "`is` compares a state, and no state is above or below a number";
            let fault = Finding::fault(is.span(), message);
            findings.push(fault.also(number.clone(), "a number"));
        }
        (None, None) => {
            let message = format!("`{word}` does not say what of `{}` must hold", *table.source);
            let fault = Finding::fault(table.span(), message);
            findings.push(fault.help("give it `above`, `below`, `outside` or `is`"));
        }
        (Some(_), None) | (None, Some(_)) => {
            let which = (table.on.as_ref().map(|on| on.as_str()), Some(table.source.as_str()));
            of_one_sort(which, table.is.as_ref(), number, known, findings);
        }
    }
    let (above, below) =
        thresholds((table.above.as_ref(), table.below.as_ref(), outside), findings);
    MemberConfig {
        source: table.source.to_string(),
        on: table.on.as_ref().map(|on| on.to_string()),
        test: match &table.is {
            Some(is) => Test::Is(is.to_string()),
            None => Test::Number { above, below },
        },
    }
}
