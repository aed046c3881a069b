//! Builds the condition of a rule, and checks that there is exactly one.

use pulsegate_core::rules::{Condition, Member, Range, Take, Test};
use pulsegate_sensors::{Source, is_kind, is_source_name};

use super::super::known::Known;
use super::{Finding, Findings, check_kind, check_source, is_derived};
use crate::config::nearest::suggest;
use crate::config::tables::{MemberTable, RuleTable};

/// Reports combinations of keys that no rule can have: two conditions, or two keys for the same
/// threshold. Returns `true` if there are none, so that the condition is what the file says.
pub(super) fn has_clear_words(table: &RuleTable, path: &str, findings: &mut Findings) -> bool {
    let threshold = threshold(table.above, table.below, table.outside.as_ref());
    let words = [
        table.is.as_ref().map(|_| "is"),
        threshold,
        table.silent_for.map(|_| "silent_for"),
        table.anomaly.as_ref().map(|_| "anomaly"),
        table.all.as_ref().map(|_| "all"),
        table.any.as_ref().map(|_| "any"),
    ];
    let mut words = words.into_iter().flatten();
    let two = words.next().zip(words.next());
    if let Some((first, second)) = two {
        let message = match (first, threshold) {
            ("is", Some(_)) => state_and_number(),
            _ => format!("a rule has one condition, not both `{first}` and `{second}`"),
        };
        let fault = Finding::fault(format!("{path}.{first}"), message);
        findings.push(fault.also(format!("{path}.{second}"), "make this a rule of its own"));
    }
    if table.within.is_some() && table.all.is_none() {
        let message = match &table.any {
            Some(_) => "`within` is for `all`: `any` fires as soon as one of its members holds",
            None => "`within` is for `all`, which compares the readings of several sources",
        };
        findings.push(Finding::fault(format!("{path}.within"), message));
    }
    let is_empty = table
        .clear
        .as_ref()
        .is_some_and(|clear| clear.above.or(clear.below).is_none() && clear.hold_for.is_none());
    if is_empty {
        let fault = Finding::fault(format!("{path}.clear"), "`clear` is empty");
        findings.push(fault.help("add `below`, `above` or `for`, by which an alert is over"));
    }
    let outside = (table.above, table.below, table.outside.as_ref());
    let is_range = has_clear_range(outside, path, findings);
    let members = |word: &str, members: &Option<Vec<MemberTable>>, findings: &mut Findings| {
        let members = members.iter().flatten().enumerate();
        members.fold(true, |is_clear, (at, member)| {
            let path = format!("{path}.{word}[{at}]");
            is_member_clear(member, &path, findings) && is_clear
        })
    };
    let is_all = members("all", &table.all, findings);
    let is_any = members("any", &table.any, findings);
    two.is_none() && is_range && is_all && is_any
}

fn state_and_number() -> String {
    "`is` compares a state, and no state is above or below a number".to_owned()
}

/// Returns the key of the thresholds that the file gives.
fn threshold(
    above: Option<f64>,
    below: Option<f64>,
    outside: Option<&Vec<f64>>,
) -> Option<&'static str> {
    let own = above.map(|_| "above").or(below.map(|_| "below"));
    own.or(outside.map(|_| "outside"))
}

fn threshold_of(member: &MemberTable) -> Option<&'static str> {
    threshold(member.above, member.below, member.outside.as_ref())
}

fn is_member_clear(member: &MemberTable, path: &str, findings: &mut Findings) -> bool {
    let two = member.is.as_ref().and(threshold_of(member));
    if let Some(number) = two {
        let fault = Finding::fault(format!("{path}.is"), state_and_number());
        findings.push(fault.also(format!("{path}.{number}"), "a number"));
    }
    let outside = (member.above, member.below, member.outside.as_ref());
    has_clear_range(outside, path, findings) && two.is_none()
}

/// The values of `above`, `below` and `outside` in the file.
type Given<'a> = (Option<f64>, Option<f64>, Option<&'a Vec<f64>>);

/// Returns `true` if `outside` has two thresholds, and stands without `above` and `below`.
fn has_clear_range(
    (above, below, outside): Given<'_>,
    path: &str,
    findings: &mut Findings,
) -> bool {
    let Some(outside) = outside else { return true };
    let place = format!("{path}.outside");
    if let Some(own) = threshold(above, below, None) {
        let message = "`outside` has both thresholds: `above` and `below` have no effect";
        let fault = Finding::fault(format!("{path}.{own}"), message);
        findings.push(fault.also(place, "`outside`"));
        return false;
    }
    if outside.len() != 2 {
        let fault = Finding::fault(place, "`outside` has two thresholds");
        findings.push(fault.label("such as [40, 120]"));
        return false;
    }
    true
}

fn range((above, below, outside): Given<'_>) -> Range {
    match outside.map(Vec::as_slice) {
        Some([low, high]) => Range { above: Some(*high), below: Some(*low) },
        Some(_) | None => Range { above, below },
    }
}

/// Returns the key in the file for the key `key` of core: a threshold may be part of `outside`.
pub(super) fn key_in_file(table: &RuleTable, key: &str) -> String {
    let (holder, side) = key.rsplit_once('.').map_or(("", key), |(holder, side)| (holder, side));
    let (word, at) = holder.split_once('[').unwrap_or((holder, ""));
    let members = match word {
        "all" => table.all.as_deref(),
        "any" => table.any.as_deref(),
        _ => None,
    };
    let member = at.trim_end_matches(']').parse().ok().and_then(|at: usize| members?.get(at));
    let has_outside = match member {
        Some(member) => member.outside.is_some(),
        None => holder.is_empty() && table.outside.is_some(),
    };
    let dot = if holder.is_empty() { "" } else { "." };
    match side {
        "above" if has_outside => format!("{holder}{dot}outside[1]"),
        "below" if has_outside => format!("{holder}{dot}outside[0]"),
        _ => key.to_owned(),
    }
}

/// Builds the condition; a range without thresholds if the file gives no condition.
pub(super) fn build_condition(table: &RuleTable, known: &Known) -> Condition {
    let members = |tables: &[MemberTable]| tables.iter().map(member).collect();
    if let Some(state) = &table.is {
        Condition::Reading(Test::Is(state.as_str().into()))
    } else if let Some(after) = &table.silent_for {
        Condition::Silent { after: after.0, expected: expected(table, known) }
    } else if let Some(anomaly) = &table.anomaly {
        Condition::Anomaly { learn: anomaly.learn.0, score: anomaly.score }
    } else if let Some(all) = &table.all {
        Condition::All { members: members(all), within: table.within.map(|within| within.0) }
    } else if let Some(any) = &table.any {
        Condition::Any { members: members(any) }
    } else {
        let outside = range((table.above, table.below, table.outside.as_ref()));
        Condition::Reading(Test::Outside(outside))
    }
}

fn member(table: &MemberTable) -> Member {
    Member {
        source: table.source.as_str().into(),
        on: table.on.as_deref().map(Into::into),
        test: match &table.is {
            Some(is) => Test::Is(is.as_str().into()),
            None => Test::Outside(range((table.above, table.below, table.outside.as_ref()))),
        },
    }
}

/// Returns each source that must send readings: the sources of the file, and a source of another
/// program if the rule names both its id and its kind.
fn expected(table: &RuleTable, known: &Known) -> Vec<Source> {
    // Not `Source::new`, which takes only kinds that programs may name, and no derived kind.
    let source = |id: &str, kind: &str| Source { name: id.into(), kind: kind.into() };
    let kind = table.on.as_deref();
    let id = table.source.as_deref();
    // Readings of other programs have no derived kind.
    let foreign_kind = kind.filter(|kind| is_kind(kind));
    let named = known.covered(kind, id).into_iter().filter_map(|source| {
        let kind = match &source.readings {
            // A rule without a kind covers measured readings only.
            Some(readings) if kind.is_none() && is_derived(&readings.kind) => return None,
            Some(readings) => readings.kind.as_str(),
            None => foreign_kind?,
        };
        Some((source.id.as_str(), kind))
    });
    let is_unknown = |id: &&str| known.source(id).is_none() && is_source_name(id);
    let other = id.filter(is_unknown).zip(foreign_kind);
    named.chain(other).map(|(id, kind)| source(id, kind)).collect()
}

/// Checks that the sources and kinds of members exist, that states are compared with states, and
/// numbers with numbers.
pub(super) fn check_names(table: &RuleTable, path: &str, known: &Known, findings: &mut Findings) {
    for (word, members) in [("all", &table.all), ("any", &table.any)] {
        for (at, member) in members.iter().flatten().enumerate() {
            let path = format!("{path}.{word}[{at}]");
            let on = member.on.as_deref().map(|on| (on, format!("{path}.on")));
            if let Some((on, place)) = &on {
                check_kind(on, place, known, findings);
            }
            check_source((&member.source, format!("{path}.source")), on, known, findings);
            let number = threshold_of(member).map(|key| format!("{path}.{key}"));
            let is = member.is.as_deref().map(|is| (is, format!("{path}.is")));
            let which = (member.on.as_deref(), Some(member.source.as_str()));
            of_one_sort(which, is, number, known, findings);
        }
    }
    if table.all.is_some() || table.any.is_some() {
        return;
    }
    let counts = table.window.as_ref().is_some_and(|window| window.take == Take::Count);
    let number = threshold(table.above, table.below, table.outside.as_ref()).map(str::to_owned);
    let limit = table.limits.iter().enumerate().find_map(|(at, limit)| {
        Some(format!("limits[{at}].{}", threshold(limit.above, limit.below, None)?))
    });
    let number = number.or(limit).filter(|_| !counts);
    let number = number.or(table.anomaly.as_ref().map(|_| "anomaly".to_owned()));
    let kind = table.on.as_deref();
    let id = table.source.as_deref();
    let number = number.map(|key| format!("{path}.{key}"));
    let is = table.is.as_deref().map(|is| (is, format!("{path}.is")));
    of_one_sort((kind, id), is, number, known, findings);
}

/// Checks that the readings of a kind and source can be the state `is`, which has a path, or can be
/// the number at the path `number`.
fn of_one_sort(
    (kind, id): (Option<&str>, Option<&str>),
    is: Option<(&str, String)>,
    number: Option<String>,
    known: &Known,
    findings: &mut Findings,
) {
    if is.is_some() && number.is_some() {
        return; // Two conditions, which are a fault themselves.
    }
    let covered = known.covered(kind, id);
    let readings: Option<Vec<_>> = covered.iter().map(|source| source.readings.as_ref()).collect();
    let Some(readings) = readings.filter(|readings| !readings.is_empty()) else { return };
    let what = format!("readings of kind `{}`", readings[0].kind);

    let states: Vec<&str> = readings.iter().flat_map(|readings| readings.states).copied().collect();
    if let Some((is, place)) = is {
        if states.is_empty() {
            let message = format!("`is` compares a state, and {what} are numbers");
            findings.push(Finding::fault(place, message).label("use `above` or `below`"));
        } else if !states.contains(&is) {
            let fault = Finding::fault(place, format!("{what} are never `{is}`"));
            findings.push(suggest(fault, is, &states, "states"));
        }
    }
    let all_states = readings.iter().all(|readings| !readings.states.is_empty());
    if let Some(number) = number.filter(|_| all_states) {
        let fault = Finding::fault(number, format!("{what} are states, not numbers"));
        findings.push(
            fault.label(format!("use `is = \"{}\"`, or a window that takes `count`", states[0])),
        );
    }
}
