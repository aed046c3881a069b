//! When a rule fires: that it says so once, and in words that go together.

use pulsegate_core::rules::{Condition, Range, Take, Test};
use pulsegate_sensors::{Source, is_kind, is_source_name};

use super::super::known::Known;
use super::{Finding, Findings, Span, is_derived, members, value};
use crate::config::nearest::suggest;
use crate::config::place::At;
use crate::config::tables::RuleTable;

/// A word that says when a rule fires, where it stands, and what it does.
pub(super) struct Word {
    pub(super) word: &'static str,
    pub(super) span: Span,
    pub(super) does: &'static str,
}

pub(super) fn build(table: &At<RuleTable>, known: &Known, findings: &mut Findings) -> Condition {
    let words = words(table);
    match words.as_slice() {
        [] => {
            let message = format!("rule `{}` can never fire: it has no condition", *table.name);
            let fault = Finding::fault(table.span(), message);
            findings.push(fault.help(
                "give it `above`, `below`, `outside`, `is`, `silent_for`, `anomaly`, `all` or `any`",
            ));
        }
        [only] => {
            goes_with(table, only, findings);
            states_and_numbers(table, known, findings);
        }
        [first, second, ..] => findings.push(two(first, second)),
    }
    within(table, findings);
    condition(table, known, findings)
}

/// The sources that `all` or `any` names.
pub(super) fn joint(table: &RuleTable) -> Option<Word> {
    let word = |word, span, does| Word { word, span, does };
    let all = table.all.as_ref().map(|all| word("all", all.span(), "names its sources itself"));
    let any = || table.any.as_ref().map(|any| word("any", any.span(), "names its sources itself"));
    all.or_else(any)
}

/// The word by which it fires, if it is none about a number.
pub(super) fn numberless(table: &RuleTable) -> Option<Word> {
    words(table).into_iter().find(|word| word.does != NUMBER)
}

const NUMBER: &str = "compares a number";

fn words(table: &RuleTable) -> Vec<Word> {
    let word = |word, span: Option<Span>, does| span.map(|span| Word { word, span, does });
    let words = [
        word("is", table.is.as_ref().map(At::span), "compares a state"),
        threshold(table),
        word("silent_for", table.silent_for.as_ref().map(At::span), "asks only whether one comes"),
        word("anomaly", table.anomaly.as_ref().map(At::span), "compares readings with each other"),
        joint(table),
    ];
    let both = table.all.as_ref().and(table.any.as_ref());
    let any = word("any", both.map(At::span), "names its sources itself");
    words.into_iter().flatten().chain(any).collect()
}

fn threshold(table: &RuleTable) -> Option<Word> {
    let word = |word, span| Word { word, span, does: NUMBER };
    let own = [("above", &table.above), ("below", &table.below)];
    let own = own.into_iter().find_map(|(name, at)| Some(word(name, at.as_ref()?.span())));
    let outside = || table.outside.as_ref().map(|outside| word("outside", outside.span()));
    let limit = || {
        let mut limits = table.limits.iter();
        limits.find_map(|limit| limit.above.as_ref().or(limit.below.as_ref()))
    };
    own.or_else(outside).or_else(|| limit().map(|limit| word("limits", limit.span())))
}

fn two(first: &Word, second: &Word) -> Finding {
    let message = match (first.word, second.does) {
        ("is", NUMBER) => {
            "`is` compares a state, and no state is above or below a number".to_owned()
        }
        _ => {
            format!("a rule fires by one condition, not by `{}` and `{}`", first.word, second.word)
        }
    };
    let fault = Finding::fault(first.span.clone(), message);
    fault.also(second.span.clone(), "make this a rule of its own")
}

/// What makes no sense beside the condition.
fn goes_with(table: &RuleTable, condition: &Word, findings: &mut Findings) {
    let Word { word, does, span } = condition;
    let mut refuse = |at: Option<Span>, message: String| {
        if let Some(at) = at {
            findings.push(Finding::fault(at, message).also(span.clone(), format!("`{word}`")));
        }
    };
    if *does != NUMBER {
        let window = table.window.as_ref().map(At::span);
        refuse(window, format!("a window takes numbers, and `{word}` {does}"));
    }
    if joint(table).is_some() {
        for (name, at) in [("on", &table.on), ("source", &table.source)] {
            let at = at.as_ref().map(At::span);
            refuse(at, format!("`{word}` names its sources itself: `{name}` adds nothing"));
        }
    }
    if table.silent_for.is_some() {
        let at = table.hold_for.as_ref().map(At::span);
        refuse(at, "`silent_for` says itself how long: `for` adds nothing".to_owned());
        let at = table.clear.as_ref().map(At::span);
        refuse(at, "a source that speaks is not silent: `clear` adds nothing".to_owned());
    }
}

fn within(table: &RuleTable, findings: &mut Findings) {
    let Some(within) = table.within.as_ref().filter(|_| table.all.is_none()) else { return };
    let message = match &table.any {
        Some(_) => "`any` fires as soon as one of them holds: `within` is for `all`",
        None => "`within` is about the readings of several sources: it is for `all`",
    };
    findings.push(Finding::fault(within.span(), message));
}

/// The first condition that it has; one that can never hold where it has none.
fn condition(table: &RuleTable, known: &Known, findings: &mut Findings) -> Condition {
    if let Some(state) = &table.is {
        return Condition::Reading(Test::Is(state.as_str().into()));
    }
    if let Some(after) = &table.silent_for {
        return Condition::Silent { after: after.0, expected: expected(table, known) };
    }
    if let Some(anomaly) = &table.anomaly {
        return Condition::Anomaly { learn: anomaly.learn.0, score: anomaly.score };
    }
    if let Some(all) = &table.all {
        let within = table.within.as_ref().map(|within| within.0);
        return Condition::All { members: members::build(all, "all", known, findings), within };
    }
    if let Some(any) = &table.any {
        return Condition::Any { members: members::build(any, "any", known, findings) };
    }
    let given = (table.above.as_ref(), table.below.as_ref(), table.outside.as_ref());
    Condition::Reading(Test::Outside(thresholds(given, findings)))
}

/// Returns each source that must send readings: those of the file, and the source of another program if the
/// rule names its id and its kind.
fn expected(table: &RuleTable, known: &Known) -> Vec<Source> {
    // Not `Source::new`, which takes only kinds that programs may name, and no derived kind.
    let source = |id: &str, kind: &str| Source { name: id.into(), kind: kind.into() };
    let kind = table.on.as_ref().map(|on| on.as_str());
    let id = table.source.as_ref().map(|id| id.as_str());
    // Other programs' readings are of no derived kind.
    let foreign_kind = kind.filter(|kind| is_kind(kind));
    let named = known.covered(kind, id).into_iter().filter_map(|source| {
        let kind = match &source.readings {
            // A rule that names no kind is about what is measured.
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

/// `above`, `below` and `outside`, as they stand.
type Given<'a> = (Option<&'a At<f64>>, Option<&'a At<f64>>, Option<&'a At<Vec<At<f64>>>>);

/// `above` and `below`, in whatever words. Below 40 or above 120 makes sense; below 120 or above 40
/// is always.
pub(super) fn thresholds(given: Given<'_>, findings: &mut Findings) -> Range {
    let (above, below, Some(outside)) = given else {
        let (above, below, _) = given;
        apart(above, below, findings);
        return Range { above: value(above), below: value(below) };
    };
    if let Some(own) = above.or(below) {
        let message = "`outside` gives both thresholds: `above` and `below` add nothing";
        findings.push(Finding::fault(own.span(), message).also(outside.span(), "`outside`"));
    }
    let [low, high] = outside.as_slice() else {
        let fault = Finding::fault(outside.span(), "`outside` has two thresholds");
        findings.push(fault.label("such as [40, 120]"));
        return Range::default();
    };
    if **low >= **high {
        let message = format!("`outside` {} and {} fires at nearly any value", **low, **high);
        let fault = Finding::fault(outside.span(), message);
        findings.push(fault.label("the first must be less than the second"));
    }
    Range { above: Some(**high), below: Some(**low) }
}

pub(super) fn apart(above: Option<&At<f64>>, below: Option<&At<f64>>, findings: &mut Findings) {
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
fn states_and_numbers(table: &RuleTable, known: &Known, findings: &mut Findings) {
    let kind = table.on.as_ref().map(|on| on.as_str());
    let id = table.source.as_ref().map(|id| id.as_str());
    let counts = table.window.as_ref().is_some_and(|window| window.take == Take::Count);
    let number = threshold(table).map(|word| word.span).filter(|_| !counts);
    let number = number.or_else(|| table.anomaly.as_ref().map(At::span));
    if joint(table).is_none() {
        of_one_sort((kind, id), table.is.as_ref(), number, known, findings);
    }
}

/// That the readings of a kind and source can be this state, or can be numbers at all.
pub(super) fn of_one_sort(
    (kind, id): (Option<&str>, Option<&str>),
    is: Option<&At<String>>,
    number: Option<Span>,
    known: &Known,
    findings: &mut Findings,
) {
    let covered = known.covered(kind, id);
    let readings: Option<Vec<_>> = covered.iter().map(|source| source.readings.as_ref()).collect();
    let Some(readings) = readings.filter(|readings| !readings.is_empty()) else { return };
    let what = format!("readings of kind `{}`", readings[0].kind);

    let states: Vec<&str> = readings.iter().flat_map(|readings| readings.states).copied().collect();
    if let Some(is) = is {
        if states.is_empty() {
            let message = format!("`is` compares a state, and {what} are numbers");
            findings.push(Finding::fault(is.span(), message).label("use `above` or `below`"));
        } else if !states.contains(&is.as_str()) {
            let fault = Finding::fault(is.span(), format!("{what} are never `{}`", **is));
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
