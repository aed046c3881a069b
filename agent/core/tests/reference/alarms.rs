//! The expected transitions of one alarm, from the evaluations of its rule in order: each
//! transition is searched for among the evaluations after the previous transition.

use crate::history::{later, millis};
use crate::imports::*;
use crate::scenario::SOURCES;

/// One evaluation of a rule, or the passing of time.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// The index of the causing item of the history.
    pub(crate) item: usize,
    pub(crate) at: Wall,
    /// The finding; `None` if only time passed, or a window had no value.
    pub(crate) finding: Option<Finding>,
    /// `true` if a pending transition is forgotten.
    pub(crate) forgets: bool,
    /// `true` if the reading arrived too late to be put in order.
    pub(crate) is_late: bool,
}

impl Step {
    /// Creates a step in which only time passed.
    pub(crate) fn time(item: usize, at: Wall) -> Self {
        Self { item, at, finding: None, forgets: false, is_late: false }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) value: Value,
    pub(crate) window: Option<(Wall, Wall)>,
    pub(crate) ask: Ask,
}

/// The input of the condition.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Value(Value),
    Together(Vec<Option<Newest>>),
}

/// The newest reading of one source, for a rule over several sources.
#[derive(Debug, Clone)]
pub(crate) struct Newest {
    pub(crate) source: usize,
    pub(crate) event: Wall,
    pub(crate) value: Value,
    pub(crate) holds: bool,
}

/// A transition: an alarm was raised or cleared.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Turn {
    pub(crate) raised: bool,
    pub(crate) source: usize,
    pub(crate) time: Wall,
    pub(crate) value: Value,
    pub(crate) window: Option<(Wall, Wall)>,
}

/// The state of the alarm.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stand {
    Quiet,
    /// The condition holds, but not for long enough.
    Waits,
    Raised,
}

/// Returns all transitions, each with the index of the causing item. With `by_time`, a condition
/// with a duration changes the alarm at the end of the duration; without, at the next finding, as
/// for windows.
pub(crate) fn alarms(
    rule: &RuleSpec,
    source: usize,
    steps: &[Step],
    by_time: bool,
) -> Vec<(usize, Turn)> {
    let mut turns: Vec<(usize, Turn)> = Vec::new();
    let (mut from, mut raised, mut last_raise) = (0, false, None);
    let mut speaker = source;
    loop {
        let stand = if raised { Stand::Raised } else { Stand::Quiet };
        let speaks_against = |step: &Step, stand, speaker| {
            let finding = step.finding.as_ref();
            finding.map(|finding| holds(rule, &finding.ask, stand, speaker) != raised)
        };
        // A late finding from before the last transition changes the alarm at once or not at all.
        let waits_for_nothing = raised && rule.clear.hold_for.is_zero();
        let last_turn = turns.last().map(|(_, turn)| turn.time);
        let is_over = |step: &Step| {
            !waits_for_nothing && step.is_late && last_turn.is_some_and(|last| step.at < last)
        };
        let begins =
            |step: &Step| speaks_against(step, stand, speaker) == Some(true) && !is_over(step);
        let Some(first) = (from..steps.len()).find(|at| begins(&steps[*at])) else { return turns };
        let begun = steps[first].finding.as_ref().expect("it speaks against");
        if !raised {
            speaker = first_that_holds(&begun.ask).unwrap_or(source);
        }
        let due = due(rule, raised, last_raise, steps[first].at);
        let waits = if raised { Stand::Raised } else { Stand::Waits };
        let mut turned = None;
        from = steps.len();
        for (at, step) in steps.iter().enumerate().skip(first) {
            let against = speaks_against(step, waits, speaker);
            if at == first && step.at >= due {
                turned = Some((at, step.at, begun));
                from = at + 1;
                break;
            }
            if at == first {
                continue;
            }
            if by_time && step.at >= due {
                turned = Some((at, due, begun));
                from = at;
                break;
            }
            if !by_time && against == Some(true) && step.at >= due {
                turned = Some((at, step.at, step.finding.as_ref().expect("it speaks against")));
                from = at + 1;
                break;
            }
            // A window without a value ends the duration; the passing of time does not.
            if against == Some(false) || step.forgets || (!by_time && against.is_none()) {
                from = at;
                break;
            }
        }
        let Some((at, time, finding)) = turned else {
            if from == steps.len() {
                return turns;
            }
            continue;
        };
        raised = !raised;
        if raised {
            last_raise = Some(time);
        }
        let value = value_of(finding, speaker);
        let window = finding.window;
        turns.push((steps[at].item, Turn { raised, source: speaker, time, value, window }));
    }
}

/// Returns the time of the next transition, if the condition for the transition lasts from `since`
/// on.
fn due(rule: &RuleSpec, raised: bool, last_raise: Option<Wall>, since: Wall) -> Wall {
    if raised {
        return Wall(since.0 + millis(rule.clear.hold_for));
    }
    let held = Wall(since.0 + millis(rule.hold_for));
    let every = rule.at_most_every.map_or(0, millis);
    let cooled = last_raise.filter(|last| *last <= held).map(|last| Wall(last.0 + every));
    cooled.map_or(held, |cooled| cooled.max(held))
}

/// Returns `true` if the condition holds, or, for a pending or raised alarm, still holds.
fn holds(rule: &RuleSpec, ask: &Ask, stand: Stand, speaker: usize) -> bool {
    match (ask, &rule.condition) {
        (Ask::Value(Value::State(state)), Condition::Reading(Test::Is(is))) => is == state,
        (Ask::Value(Value::Number(number)), Condition::Reading(Test::Outside(range))) => {
            let limit = rule.limits.iter().find(|limit| *limit.source == *SOURCES[speaker].name);
            let above = limit.and_then(|limit| limit.above).or(range.above);
            let below = limit.and_then(|limit| limit.below).or(range.below);
            let too_high = match (stand, rule.clear.below) {
                (Stand::Raised, Some(clear)) if above.is_some() => *number >= clear,
                _ => above.is_some_and(|above| *number > above),
            };
            let too_low = match (stand, rule.clear.above) {
                (Stand::Raised, Some(clear)) if below.is_some() => *number <= clear,
                _ => below.is_some_and(|below| *number < below),
            };
            too_high || too_low
        }
        (Ask::Together(newest), Condition::All { within, .. }) => {
            let known = newest.iter().flatten();
            if stand != Stand::Quiet {
                return known.clone().all(|one| one.holds);
            }
            let times = || newest.iter().flatten().map(|one| one.event);
            let (Some(first), Some(last)) = (times().min(), times().max()) else { return false };
            let is_near = within.is_none_or(|within| last.0 - first.0 <= millis(within));
            is_near && newest.iter().all(|one| one.as_ref().is_some_and(|one| one.holds))
        }
        (Ask::Together(newest), Condition::Any { .. }) => {
            newest.iter().flatten().any(|one| one.holds)
        }
        _ => panic!("{ask:?} is nothing for {:?}", rule.condition),
    }
}

fn first_that_holds(ask: &Ask) -> Option<usize> {
    match ask {
        Ask::Value(_) => None,
        Ask::Together(newest) => {
            newest.iter().flatten().find(|one| one.holds).map(|one| one.source)
        }
    }
}

/// Returns the value of the alert: for several sources, the value of the source named by the alert.
fn value_of(finding: &Finding, speaker: usize) -> Value {
    match &finding.ask {
        Ask::Value(_) => finding.value.clone(),
        Ask::Together(newest) => {
            let own = newest.iter().flatten().find(|one| one.source == speaker);
            own.map_or(&finding.value, |own| &own.value).clone()
        }
    }
}

/// Returns the time at which a silence since `since` has lasted `after` milliseconds.
pub(crate) fn silent_at(since: Wall, after: i64) -> Wall {
    later(since, u64::try_from(after).expect("not negative"))
}
