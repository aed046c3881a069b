//! Tests of the present state and of the triggers between two states.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::record::reading::Value;
use crate::rules::Drive;
use crate::rules::{Clear, Condition, KernelBoot, Publication, Range, Severity, Test};
use crate::time::Wall;
use crate::visits::{First, VisitSpec};

fn rule(name: &str, then: Vec<Action>) -> Arc<RuleSpec> {
    Arc::new(RuleSpec {
        name: name.into(),
        on: Some("heart_rate".into()),
        source: None,
        condition: Condition::Reading(Test::Outside(Range { above: Some(1.0), below: None })),
        window: None,
        limits: Vec::new(),
        hold_for: Duration::ZERO,
        clear: Clear::default(),
        at_most_every: None,
        severity: Severity::Warning,
        then,
    })
}

fn acting(name: &str) -> Arc<RuleSpec> {
    rule(name, vec![Action::Output("lamp".into(), Drive::On)])
}

fn turned(rule: &Arc<RuleSpec>, source: u32, state: AlertState) -> Transition {
    Transition {
        rule: Arc::clone(rule),
        source: SourceId(source),
        state,
        value: Value::Number(2.0),
        score: None,
        window: None,
        time: Wall(0),
        report: Publication::Now,
    }
}

fn visit(start: i64, openings: u32) -> Visit {
    let spec = VisitSpec {
        source: "feeder".into(),
        opening: "open".into(),
        first: First::Level,
        gap: Duration::from_secs(90),
        units_per_opening: 1.0,
        live: false,
        then: Vec::new(),
    };
    Visit {
        spec: Arc::new(spec),
        source: SourceId(0),
        start: Wall(start),
        end: Wall(start),
        openings,
        boot: Some(KernelBoot(3)),
    }
}

/// The state after a start without any history.
fn known() -> Standing {
    let mut standing = Standing::default();
    standing.restore_visits(std::iter::empty());
    standing
}

/// Returns the visits among `turns`, each with its moment.
fn moments(turns: Vec<ActionTrigger>) -> Vec<(String, Moment)> {
    let moment = |turn| match turn {
        ActionTrigger::Visit { visit, moment, .. } => Some((visit.into(), moment)),
        ActionTrigger::Raised { .. } => None,
    };
    turns.into_iter().filter_map(moment).collect()
}

#[test]
fn alerts_that_are_raised_are_counted_and_each_raise_is_a_turn() {
    let (warm, before) = (acting("warm"), known());
    let mut standing = before.clone();

    for source in [1, 2] {
        assert!(standing.alerts.apply_transition(&turned(&warm, source, AlertState::Raised)));
    }
    assert_eq!(standing.count_active(&ActionCause::Rule("warm".into())), 2);
    let turn = ActionTrigger::Raised { rule: "warm".into(), source: SourceId(2) };
    assert_eq!(
        standing.triggers_since(&before),
        [turn],
        "what was not looked at between is one turn"
    );

    standing.alerts.apply_transition(&turned(&warm, 1, AlertState::Cleared));
    assert_eq!(standing.count_active(&ActionCause::Rule("warm".into())), 1);
    assert_eq!(standing.triggers_since(&standing.clone()), []);
}

#[test]
fn a_rule_that_only_tells_makes_no_difference() {
    let tells = rule("tells", vec![Action::Alert, Action::Record(Duration::from_secs(5))]);
    let mut standing = known();

    assert!(!standing.alerts.apply_transition(&turned(&tells, 1, AlertState::Raised)));
    assert_eq!(standing, known());
}

#[test]
fn what_a_start_remembers_stands_and_has_not_just_happened() {
    let (warm, tells) = (acting("warm"), rule("tells", vec![Action::Alert]));
    let mut standing = Standing::default();

    standing.alerts.restore_raised([(&*warm, SourceId(7)), (&*tells, SourceId(7))].into_iter());
    standing.restore_visits([visit(10, 4)].into_iter());

    assert_eq!(standing.count_active(&ActionCause::Rule("warm".into())), 1);
    assert_eq!(standing.count_active(&ActionCause::Rule("tells".into())), 0);
    assert_eq!(standing.count_active(&ActionCause::Visit("feeder".into())), 4);
    assert_eq!(standing.triggers_since(&Standing::default()), []);
}

#[test]
fn what_happens_before_the_first_look_is_seen_at_that() {
    let warm = acting("warm");
    let never_looked = Standing::default();
    let mut standing = Standing::default();
    standing.restore_visits([visit(10, 4)].into_iter());

    standing.alerts.apply_transition(&turned(&warm, 1, AlertState::Raised));
    standing.update_visits([visit(10, 5)].into_iter());
    let turns = standing.triggers_since(&never_looked);

    let raised = ActionTrigger::Raised { rule: "warm".into(), source: SourceId(1) };
    assert!(turns.contains(&raised), "{turns:?}");
    assert_eq!(moments(turns), [("feeder-3-a".to_owned(), Moment::Opening)]);
}

#[test]
fn a_visit_begins_goes_on_and_ends() {
    let mut standing = known();
    let mut follow = |visits: Vec<Visit>| {
        let before = standing.clone();
        standing.update_visits(visits.into_iter());
        (
            moments(standing.triggers_since(&before)),
            standing.count_active(&ActionCause::Visit("feeder".into())),
        )
    };

    let first = |moment| ("feeder-3-a".to_owned(), moment);
    let begun = vec![first(Moment::Begin), first(Moment::Opening)];
    assert_eq!(follow(vec![visit(10, 1)]), (begun, 1));
    assert_eq!(follow(vec![visit(10, 1)]), (vec![], 1));
    assert_eq!(follow(vec![visit(10, 3)]), (vec![first(Moment::Opening)], 3));
    assert_eq!(follow(vec![]), (vec![first(Moment::End)], 0));
    assert_eq!(follow(vec![]), (vec![], 0));
}

#[test]
fn a_visit_that_follows_unseen_ends_the_one_before() {
    let mut before = known();
    before.update_visits([visit(10, 2)].into_iter());
    let mut standing = before.clone();

    standing.update_visits([visit(500, 1)].into_iter());

    let second = |moment| ("feeder-3-1f4".to_owned(), moment);
    let first = ("feeder-3-a".to_owned(), Moment::End);
    let expected = [first, second(Moment::Begin), second(Moment::Opening)];
    assert_eq!(moments(standing.triggers_since(&before)), expected);
}
