//! Compares the rules and visits of a device with the reference, after each input.

use std::collections::BTreeMap;

use crate::alarms::Turn;
use crate::device::{Device, seen};
use crate::history::Entry;
use crate::imports::*;
use crate::inputs::{Bytes, Step};
use crate::rules::Said;
use crate::{rules, scenario, visits};

/// The most rules of the catalogue.
const MOST_RULES: u8 = 48;

/// Drives a device with all inputs. The first input selects the rules of the device.
pub(crate) fn check(inputs: &[Bytes]) -> Result<(), String> {
    let catalogue = scenario::rules();
    let Some((choice, inputs)) = inputs.split_first() else { return Ok(()) };
    // Rules appended to the catalogue do not change the meaning of the corpus.
    let places = choice.iter().map(|byte| usize::from(*byte % MOST_RULES));
    let mut configured: Vec<usize> = places.filter(|place| *place < catalogue.len()).collect();
    configured.sort_unstable();
    configured.dedup();
    let mut device = Device::new(catalogue, configured);
    for (nth, bytes) in inputs.iter().enumerate() {
        let step = Step::of(*bytes);
        device.take(&step);
        compare(&device).map_err(|fault| format!("after input {nth}, {step:?}:\n{fault}"))?;
    }
    Ok(())
}

/// Returns the inputs as readable text.
pub(crate) fn words(inputs: &[Bytes]) -> String {
    let steps: Vec<Step> = inputs.iter().skip(1).map(|bytes| Step::of(*bytes)).collect();
    format!("{steps:?}")
}

fn compare(device: &Device) -> Result<(), String> {
    let specs = device.rules();
    let all = rules::expected(&specs, &device.history);
    for ((name, source), said) in &all {
        let of_rule = |transition: &&Transition| {
            let place = Device::place(transition.source);
            *transition.rule.name == **name && source.is_none_or(|source| source == place)
        };
        let decided: Vec<&Transition> =
            device.decided.iter().map(|(transition, _)| transition).filter(of_rule).collect();
        let told = decided.iter().filter(|one| one.report != Publication::Held);
        let told: Vec<Turn> = told.map(|one| turn(one)).collect();
        is_in_turns(name, &told)?;
        let rule = specs.iter().find(|rule| *rule.name == **name).expect("one of them");
        if is_uncertain(device, rule, *source, said) {
            continue;
        }
        same(&format!("`{name}` for {source:?} tells"), &told, &said.told)?;
        let turned = decided.iter().filter(|one| one.report != Publication::Later);
        let turned: Vec<Turn> = turned.map(|one| turn(one)).collect();
        // Held-back transitions are not stored, so a restart may repeat them.
        if device.restarts == 0 {
            same(&format!("`{name}` for {source:?} turns"), &turned, &said.turns)?;
        }
    }
    // Decisions of a tick before a restart are repeated with the next tick.
    let has_looked = !matches!(device.history.last(), Some(Entry::Began { .. }));
    if has_looked {
        stands(device, &specs, &all)?;
    }
    check_visits(device, has_looked)
}

/// Returns `true` if a restart may make a difference. A raise held back as flapping is not stored,
/// and a value between the thresholds, or a single source of several, does not restore the raise. A
/// source silent for longer than the horizon is forgotten.
fn is_uncertain(device: &Device, rule: &RuleSpec, source: Option<usize>, said: &Said) -> bool {
    let has_held = said.turns.len() > MAX_ALERTS && device.restarts > 0;
    let depends_on_stand =
        rule.clear.above.or(rule.clear.below).is_some() || rule.members().is_some();
    let is_forgotten = match source {
        Some(source) => device.forgotten.contains(&source),
        None => !device.forgotten.is_empty(),
    };
    // The windows after the last stored window count as empty, so the first of them clears a raised
    // alarm.
    let of_nothing = |window: WindowSpec| matches!(window.take, Take::Count | Take::Sum);
    let is_gone = rule.window.is_some_and(of_nothing)
        && source.is_some_and(|source| device.gone.contains(&source));
    device.changed.contains(&*rule.name)
        || is_forgotten
        || is_gone
        || (has_held && depends_on_stand)
}

/// Checks that the alerts of a rule and source alternate between raised and cleared.
fn is_in_turns(name: &str, told: &[Turn]) -> Result<(), String> {
    let mut raised: BTreeMap<usize, bool> = BTreeMap::new();
    for turn in told {
        if raised.insert(turn.source, turn.raised).unwrap_or(false) == turn.raised {
            return Err(format!("`{name}` tells twice: {turn:?}"));
        }
    }
    Ok(())
}

fn turn(transition: &Transition) -> Turn {
    Turn {
        raised: transition.state == AlertState::Raised,
        source: Device::place(transition.source),
        time: transition.time,
        value: transition.value.clone(),
        window: transition.window,
    }
}

/// Checks that the same alarms are raised, for rules without held-back alerts.
fn stands(
    device: &Device,
    specs: &[RuleSpec],
    all: &BTreeMap<(String, Option<usize>), Said>,
) -> Result<(), String> {
    let raised: Vec<(String, usize)> = device
        .rules
        .raised_rules()
        .map(|(rule, source)| (rule.name.to_string(), Device::place(source)))
        .collect();
    for ((name, source), said) in all {
        let rule = specs.iter().find(|rule| *rule.name == **name).expect("one of them");
        if is_uncertain(device, rule, *source, said) || said.turns.len() != said.told.len() {
            continue;
        }
        let last = said.turns.last().filter(|turn| turn.raised).map(|turn| turn.source);
        let of_rule = |(rule, place): &&(String, usize)| {
            rule == name && source.is_none_or(|source| source == *place)
        };
        let stands: Vec<usize> = raised.iter().filter(of_rule).map(|(_, place)| *place).collect();
        let expected: Vec<usize> = last.into_iter().collect();
        if stands != expected {
            return Err(format!("`{name}` stands for {stands:?}, not for {expected:?}"));
        }
    }
    Ok(())
}

fn check_visits(device: &Device, has_looked: bool) -> Result<(), String> {
    for spec in scenario::visits() {
        let (expected, under_way) = visits::expected(&spec, &device.history);
        let source = |visit: &Visit| visit.spec.source == spec.source;
        let happened = device.happened.iter().filter_map(|happening| match happening {
            VisitEvent::Began(visit) => source(visit).then(|| seen(visit, false)),
            VisitEvent::Ended(visit) => source(visit).then(|| seen(visit, true)),
        });
        same(&format!("visits to `{}`", spec.source), &happened.collect::<Vec<_>>(), &expected)?;
        let running = device.visits.under_way().find(source).map(|visit| seen(&visit, false));
        if has_looked && running != under_way {
            return Err(format!("under way at `{}`: {running:?}, not {under_way:?}", spec.source));
        }
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(of: &str, got: &[T], expected: &[T]) -> Result<(), String> {
    let at = got.iter().zip(expected).take_while(|(got, expected)| got == expected).count();
    if got.len() == at && expected.len() == at {
        return Ok(());
    }
    Err(format!(
        "{of}, at place {at}:\n     core {:?}\nreference {:?}",
        got.get(at),
        expected.get(at)
    ))
}
