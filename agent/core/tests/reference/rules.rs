//! The expected transitions and alerts of the rules, computed from the complete history each time,
//! by the README and the documentation of the rules. A restart loses only the state that the engine
//! documents as lost.

use std::collections::BTreeMap;

use crate::alarms::{Ask, Finding, Newest, Step, Turn, alarms};
use crate::flapping::reports;
use crate::history::*;
use crate::imports::*;
use crate::scenario::SOURCES;

/// The expected results of one rule for one source, or for several sources together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Said {
    /// All transitions.
    pub(crate) turns: Vec<Turn>,
    /// The transitions published as alerts, in the order of publication.
    pub(crate) told: Vec<Turn>,
}

/// Returns the expected results by rule and source; the source is `None` for a rule over several
/// sources.
pub(crate) fn expected(
    rules: &[RuleSpec],
    history: &[Entry],
) -> BTreeMap<(String, Option<usize>), Said> {
    let mut all = BTreeMap::new();
    for rule in rules {
        if let Condition::All { members, .. } | Condition::Any { members } = &rule.condition {
            all.insert((rule.name.to_string(), None), of_several(rule, members, history));
            continue;
        }
        let covered = (0..SOURCES.len()).filter(|source| covers(rule, *source));
        for source in covered {
            all.insert((rule.name.to_string(), Some(source)), of_one(rule, source, history));
        }
    }
    all
}

fn covers(rule: &RuleSpec, source: usize) -> bool {
    let named = &SOURCES[source];
    rule.on.as_deref().is_none_or(|kind| kind == named.kind)
        && rule.source.as_deref().is_none_or(|name| name == named.name)
}

/// Returns `false` for a monitor without skin contact, and for a heart rate of 0, meaning no
/// measurement.
fn tells_something(heard: &Heard) -> bool {
    let is_none = SOURCES[heard.source].kind == "heart_rate" && heard.value == Value::Number(0.0);
    heard.has_contact && !is_none
}

fn of_one(rule: &RuleSpec, source: usize, history: &[Entry]) -> Said {
    if let Condition::Silent { after, expected } = &rule.condition {
        let is_expected = expected.iter().any(|one| *one.name == *SOURCES[source].name);
        return crate::silence::of_one(millis(*after), is_expected, source, history);
    }
    let place = |heard: &Heard| (heard.source == source).then_some(0);
    let items = items(history, place, tells_something);
    let steps = match &rule.window {
        Some(window) => window_steps(window, &items),
        None => {
            level_steps(&items, !rule.hold_for.is_zero(), |rule_item| of_value(rule, rule_item))
        }
    };
    let turns = alarms(rule, source, &steps, rule.window.is_none());
    let told = reports(&turns, &items);
    Said { turns: turns.into_iter().map(|(_, turn)| turn).collect(), told }
}

/// Returns the input of the condition, if the condition applies to the type of the value.
fn of_value(rule: &RuleSpec, heard: &Heard) -> Option<Ask> {
    let Condition::Reading(test) = &rule.condition else { return None };
    match (test, &heard.value) {
        (Test::Outside(_), Value::Number(_)) | (Test::Is(_), Value::State(_)) => {
            Some(Ask::Value(heard.value.clone()))
        }
        (Test::Outside(_), Value::State(_)) | (Test::Is(_), Value::Number(_)) => None,
    }
}

fn of_several(rule: &RuleSpec, members: &[Member], history: &[Entry]) -> Said {
    let of_member = |heard: &Heard| {
        let place = members.iter().position(|one| *one.source == *SOURCES[heard.source].name);
        place.filter(|_| tells_something(heard))
    };
    let items = items(history, of_member, tells_something);
    let mut newest: Vec<Option<Newest>> = vec![None; members.len()];
    let ordered = in_order(&items, !rule.hold_for.is_zero());
    let mut steps = Vec::new();
    for (item, ordered) in ordered {
        match ordered {
            Ordered::Known(time) => steps.push(Step::time(item, time)),
            Ordered::Forgot(place) => newest[place] = None,
            Ordered::Says(heard, place) | Ordered::Late(heard, place) => {
                let is_late = matches!(ordered, Ordered::Late(..));
                let Some(holds) = member_holds(&members[place].test, &heard.value) else {
                    continue;
                };
                let before = newest[place].as_ref().map(|newest| newest.event);
                if before.is_some_and(|before| heard.event < before) {
                    continue;
                }
                let value = heard.value.clone();
                newest[place] =
                    Some(Newest { source: heard.source, event: heard.event, value, holds });
                let at =
                    newest.iter().flatten().map(|one| one.event).max().expect("one was put in");
                let ask = Ask::Together(newest.clone());
                let finding = Finding { value: heard.value.clone(), window: None, ask };
                steps.push(Step { finding: Some(finding), is_late, ..Step::time(item, at) });
            }
        }
    }
    let turns = alarms(rule, usize::MAX, &steps, true);
    let told = reports(&turns, &items);
    Said { turns: turns.into_iter().map(|(_, turn)| turn).collect(), told }
}

fn member_holds(test: &Test, value: &Value) -> Option<bool> {
    match (test, value) {
        (Test::Outside(range), Value::Number(number)) => Some(
            range.above.is_some_and(|above| *number > above)
                || range.below.is_some_and(|below| *number < below),
        ),
        (Test::Is(is), Value::State(state)) => Some(is == state),
        (Test::Outside(_), Value::State(_)) | (Test::Is(_), Value::Number(_)) => None,
    }
}

/// Returns the steps of a rule without a window: the newest reading decides at once, and older
/// readings are not used.
fn level_steps(items: &[Item<'_>], lasts: bool, ask: impl Fn(&Heard) -> Option<Ask>) -> Vec<Step> {
    let mut newest = Wall(i64::MIN);
    let mut steps = Vec::new();
    for (item, ordered) in in_order(items, lasts) {
        match ordered {
            Ordered::Known(time) => steps.push(Step::time(item, time)),
            Ordered::Forgot(_) => {
                newest = Wall(i64::MIN);
                steps.push(Step { forgets: true, ..Step::time(item, newest) });
            }
            Ordered::Says(heard, _) | Ordered::Late(heard, _) => {
                let is_late = matches!(ordered, Ordered::Late(..));
                let Some(ask) = ask(heard).filter(|_| heard.event >= newest) else { continue };
                newest = heard.event;
                let finding = Finding { value: heard.value.clone(), window: None, ask };
                let step = Step::time(item, heard.event);
                steps.push(Step { finding: Some(finding), is_late, ..step });
            }
        }
    }
    steps
}

enum Ordered<'a> {
    Known(Wall),
    Says(&'a Heard, usize),
    Late(&'a Heard, usize),
    Forgot(usize),
}

/// Returns the readings in the order of evaluation: the order of arrival, or, with `lasts`, the
/// order of event times, each reading once no earlier reading can arrive any more. A reading too
/// late for its place is evaluated on arrival.
fn in_order<'a>(items: &[Item<'a>], lasts: bool) -> Vec<(usize, Ordered<'a>)> {
    let mut ordered = Vec::new();
    let mut waiting: Vec<(&Heard, usize)> = Vec::new();
    let (mut passed, mut any_dated, mut any) = (Wall(i64::MIN), false, false);
    for (index, item) in items.iter().enumerate() {
        match *item {
            Item::Says(heard, place) if !lasts => {
                ordered.push((index, Ordered::Says(heard, place)))
            }
            Item::Known(time) if !lasts => ordered.push((index, Ordered::Known(time))),
            Item::Forgot(place) => {
                waiting.retain(|(_, other)| *other != place);
                if lasts && waiting.is_empty() {
                    (passed, any_dated, any) = (Wall(i64::MIN), false, false);
                }
                ordered.push((index, Ordered::Forgot(place)));
            }
            Item::Says(heard, place) => {
                (any, any_dated) = (true, any_dated || heard.dated);
                if heard.event < passed {
                    ordered.push((index, Ordered::Late(heard, place)));
                    continue;
                }
                waiting.push((heard, place));
                if !any_dated {
                    // The reading is stamped on arrival, so no earlier reading can arrive.
                    passed = passed.max(later(heard.event, 1));
                }
                hand_on(&mut waiting, passed, index, &mut ordered);
            }
            Item::Known(time) => {
                let stamped = any && !any_dated;
                let time = if stamped { Wall(time.0 + millis(LATENESS)) } else { time };
                passed = passed.max(time);
                hand_on(&mut waiting, passed, index, &mut ordered);
                ordered.push((index, Ordered::Known(time)));
            }
        }
    }
    ordered
}

fn hand_on<'a>(
    waiting: &mut Vec<(&'a Heard, usize)>,
    before: Wall,
    index: usize,
    ordered: &mut Vec<(usize, Ordered<'a>)>,
) {
    let key = |(heard, place): &(&Heard, usize)| {
        let number = match &heard.value {
            Value::Number(number) => *number,
            Value::State(state) => f64::from(u8::from(&**state == "open")),
        };
        (heard.event, *place, heard.source, number.to_bits())
    };
    waiting.sort_by_key(key);
    let ready = waiting.iter().take_while(|(heard, _)| heard.event < before).count();
    ordered
        .extend(waiting.drain(..ready).map(|(heard, place)| (index, Ordered::Says(heard, place))));
}

/// Returns the steps of a rule with a window: one for each window since the first reading, once no
/// reading of the window can arrive any more. A reading in an ended step of the grid is not used.
fn window_steps(window: &WindowSpec, items: &[Item<'_>]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut from = 0;
    for (index, item) in items.iter().enumerate() {
        if matches!(item, Item::Forgot(_)) {
            steps.extend(windows_between(window, items, from..index));
            steps.push(Step { forgets: true, ..Step::time(index, Wall(i64::MIN)) });
            from = index + 1;
        }
    }
    steps.extend(windows_between(window, items, from..items.len()));
    steps
}

fn windows_between(
    window: &WindowSpec,
    items: &[Item<'_>],
    between: std::ops::Range<usize>,
) -> Vec<Step> {
    let (length, step) = (millis(window.length), millis(window.step));
    let start_of = |time: Wall| time.0.div_euclid(step) * step;
    let mut panes: BTreeMap<i64, Vec<(Wall, f64)>> = BTreeMap::new();
    // The ends of windows, each with the index of the item that ended the window.
    let mut over: Vec<(usize, i64)> = Vec::new();
    for index in between {
        let newest = over.last().map_or(i64::MIN, |(_, end)| *end);
        match &items[index] {
            Item::Known(time) if start_of(*time) > newest => over.push((index, start_of(*time))),
            Item::Known(_) | Item::Forgot(_) => {}
            Item::Says(heard, _) if start_of(heard.event) < newest => {}
            Item::Says(heard, _) => {
                let number = match &heard.value {
                    Value::Number(number) => *number,
                    Value::State(_) if window.take == Take::Count => 0.0,
                    Value::State(_) => continue,
                };
                panes.entry(start_of(heard.event)).or_default().push((heard.event, number));
            }
        }
    }
    let Some(first) = panes.keys().next() else { return Vec::new() };
    let mut steps = Vec::new();
    let mut end = first + step;
    for (item, until) in over {
        while end <= until {
            let inside: Vec<_> =
                panes.range(end - length..end).flat_map(|(_, pane)| pane).collect();
            let finding = taken(window.take, &inside).map(|number| {
                let value = Value::Number(number);
                let ask = Ask::Value(value.clone());
                Finding { value, window: Some((Wall(end - length), Wall(end))), ask }
            });
            steps.push(Step { finding, ..Step::time(item, Wall(end)) });
            end += step;
        }
    }
    steps
}

fn taken(take: Take, inside: &[&(Wall, f64)]) -> Option<f64> {
    let numbers = || inside.iter().map(|(_, number)| *number);
    let count = f64::from(u32::try_from(inside.len()).expect("a test is short"));
    match take {
        Take::Count => Some(count),
        Take::Sum => Some(numbers().fold(0.0, |sum, number| sum + number)),
        Take::Mean => (count > 0.0).then(|| numbers().sum::<f64>() / count),
        Take::Min => numbers().min_by(f64::total_cmp),
        Take::Max => numbers().max_by(f64::total_cmp),
        Take::Rate => {
            let times = || inside.iter().map(|(time, _)| *time);
            let (first, last) = (times().min()?, times().max()?);
            let at = |time: Wall| inside.iter().filter(move |one| one.0 == time).map(|one| one.1);
            // Among readings at the same time, the lowest is the first and the highest is the last.
            let (least, most) =
                (at(first).min_by(f64::total_cmp)?, at(last).max_by(f64::total_cmp)?);
            let apart = f64::from(i32::try_from(last.0 - first.0).expect("a test is short"));
            (apart > 0.0).then(|| (most - least) / apart * 60_000.0)
        }
    }
}
