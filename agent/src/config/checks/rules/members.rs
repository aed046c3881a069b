//! The sources that `all` or `any` looks at together.

use pulsegate_core::rules::{MAX_MEMBERS, Member, Range, Test};

use super::super::known::Known;
use super::condition::{of_one_sort, thresholds};
use super::{Finding, Findings, boxed, kind, of_kind, unknown_source};
use crate::config::place::At;
use crate::config::tables::MemberTable;

pub(super) fn build(
    tables: &At<Vec<At<MemberTable>>>,
    word: &str,
    known: &Known,
    findings: &mut Findings,
) -> Vec<Member> {
    if tables.len() < 2 {
        let fault = Finding::fault(tables.span(), format!("`{word}` looks at two or more"));
        findings.push(fault.help("a rule on one source says `source`"));
    }
    if tables.len() > MAX_MEMBERS {
        let message = format!("`{word}` looks at no more than {MAX_MEMBERS}");
        findings.push(Finding::fault(tables.span(), message));
    }
    let members: Vec<_> = tables.iter().map(|table| member(table, word, known, findings)).collect();
    for (at, table) in tables.iter().enumerate() {
        beside(&members[at], table, members.iter().zip(tables.iter()).take(at), word, findings);
    }
    members
}

/// What a member says beside what those before it say of the same readings.
fn beside<'a>(
    member: &Member,
    table: &At<MemberTable>,
    before: impl Iterator<Item = (&'a Member, &'a At<MemberTable>)>,
    word: &str,
    findings: &mut Findings,
) {
    let alike = |(other, _): &(&Member, _)| member.source == other.source && member.on == other.on;
    for (other, first) in before.filter(alike) {
        let message = if member.test == other.test {
            format!("`{word}` asks the same of `{}` twice", member.source)
        } else if word == "all" && excludes(&member.test, &other.test) {
            "`all` can never hold: one source is asked two things that exclude each other"
                .to_owned()
        } else {
            continue;
        };
        findings.push(Finding::fault(table.span(), message).also(first.span(), "the other"));
        return;
    }
}

/// Whether no value fits both tests.
fn excludes(one: &Test, other: &Test) -> bool {
    match (one, other) {
        (Test::Is(one), Test::Is(other)) => one != other,
        (
            Test::Outside(Range { above: high, below: low }),
            Test::Outside(Range { above: other_high, below: other_low }),
        ) => {
            let both = |a: &Option<f64>, b: &Option<f64>| a.is_some() && b.is_some();
            let overlap = |above: &Option<f64>, below: &Option<f64>| {
                above.zip(*below).is_some_and(|(above, below)| above < below)
            };
            !(both(high, other_high)
                || both(low, other_low)
                || overlap(high, other_low)
                || overlap(other_high, low))
        }
        (Test::Is(_), Test::Outside(_)) | (Test::Outside(_), Test::Is(_)) => false,
    }
}

fn member(table: &At<MemberTable>, word: &str, known: &Known, findings: &mut Findings) -> Member {
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
    let range = thresholds((table.above.as_ref(), table.below.as_ref(), outside), findings);
    Member {
        source: table.source.as_str().into(),
        on: boxed(table.on.as_ref()),
        test: match &table.is {
            Some(is) => Test::Is(is.as_str().into()),
            None => Test::Outside(range),
        },
    }
}
