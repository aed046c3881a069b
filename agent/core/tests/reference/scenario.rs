//! The sources, rules and visits of the device.

use std::time::Duration;

use crate::imports::*;

/// A source; `dated` is `true` if the readings have times of their own.
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) dated: bool,
}

/// All sources, by index.
pub(crate) const SOURCES: [Named; 5] = [
    Named { name: "1", kind: "heart_rate", dated: false },
    Named { name: "2", kind: "heart_rate", dated: true },
    Named { name: "3", kind: "number", dated: true },
    Named { name: "lid", kind: "lid", dated: false },
    Named { name: "gate", kind: "door", dated: true },
];

/// Returns the value of a reading, by a byte of the input.
pub(crate) fn value(source: usize, word: u8) -> (Value, Option<Box<HeartDetail>>) {
    if SOURCES[source].kind == "lid" || SOURCES[source].kind == "door" {
        return (Value::State(if word % 2 == 1 { "open" } else { "closed" }.into()), None);
    }
    // A monitor without skin contact, and a monitor without a heart rate: both are heard, but have
    // no usable value.
    let detail = HeartDetail { contact: Contact::Lost, energy_kj: None, rr: Vec::new() };
    match word {
        254 => (Value::Number(110.0), Some(Box::new(detail))),
        255 => (Value::Number(0.0), None),
        _ => (Value::Number(80.0 + f64::from(word % 81) / 2.0), None),
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn rule(name: &str, on: &str, condition: Condition) -> RuleSpec {
    RuleSpec {
        name: name.into(),
        on: Some(on.into()),
        source: None,
        condition,
        window: None,
        limits: Vec::new(),
        hold_for: Duration::ZERO,
        clear: Clear::default(),
        at_most_every: None,
        severity: Severity::default(),
        then: vec![Action::Alert],
    }
}

fn heart(name: &str, condition: Condition) -> RuleSpec {
    rule(name, "heart_rate", condition)
}

fn outside(below: Option<f64>, above: Option<f64>) -> Condition {
    Condition::Reading(Test::Outside(Range { above, below }))
}

fn over(above: f64) -> Condition {
    outside(None, Some(above))
}

fn under(below: f64) -> Condition {
    outside(Some(below), None)
}

fn open() -> Condition {
    Condition::Reading(Test::Is("open".into()))
}

fn window(length: u64, step: u64, take: Take) -> Option<WindowSpec> {
    Some(WindowSpec { length: seconds(length), step: seconds(step), take })
}

fn member(source: &str, above: f64) -> Member {
    let test = Test::Outside(Range { above: Some(above), below: None });
    Member { source: source.into(), on: None, test }
}

fn members() -> Vec<Member> {
    let open = Member { source: "lid".into(), on: None, test: Test::Is("open".into()) };
    vec![member("1", 95.0), member("3", 90.0), open]
}

fn together(name: &str, condition: Condition) -> RuleSpec {
    RuleSpec { on: None, ..heart(name, condition) }
}

/// Returns rules of every form except `anomaly`: the sample of an anomaly rule is internal to the
/// engine.
pub(crate) fn rules() -> Vec<RuleSpec> {
    [at_once(), lasting(), in_windows(), of_several()].concat()
}

fn at_once() -> Vec<RuleSpec> {
    let calm = Some(seconds(40));
    let clear = Clear { below: Some(100.0), ..Clear::default() };
    let after_a_while = Clear { above: Some(95.0), hold_for: seconds(6), ..Clear::default() };
    let limit = |source: &str, above| Limit { source: source.into(), above, below: None };
    vec![
        heart("level", over(110.0)),
        RuleSpec { at_most_every: calm, ..heart("calm", over(100.0)) },
        RuleSpec { clear, ..heart("hysteresis", over(110.0)) },
        RuleSpec { clear: after_a_while, ..heart("clears late", under(90.0)) },
        RuleSpec {
            limits: vec![limit("1", Some(90.0)), limit("2", Some(115.0))],
            at_most_every: calm,
            ..heart("limits", outside(Some(82.0), Some(105.0)))
        },
        rule("flaps", "number", over(100.0)),
        rule("lid open", "lid", open()),
        RuleSpec { at_most_every: calm, ..rule("gate open", "door", open()) },
    ]
}

fn lasting() -> Vec<RuleSpec> {
    let calm = Some(seconds(40));
    let clear = Clear { below: Some(92.0), hold_for: seconds(3), ..Clear::default() };
    vec![
        RuleSpec { hold_for: seconds(4), ..heart("lasts", over(95.0)) },
        RuleSpec { hold_for: seconds(2), at_most_every: calm, clear, ..heart("all", over(94.0)) },
        RuleSpec { hold_for: seconds(1), ..rule("briefly", "number", under(100.0)) },
        RuleSpec { hold_for: seconds(8), ..rule("lid long open", "lid", open()) },
        RuleSpec { hold_for: seconds(8), ..rule("gate long open", "door", open()) },
    ]
}

fn in_windows() -> Vec<RuleSpec> {
    let calm = Some(seconds(45));
    let lull = Clear { above: Some(6.0), hold_for: seconds(7), ..Clear::default() };
    let hold = |seconds_long| Clear { hold_for: seconds(seconds_long), ..Clear::default() };
    let below = Clear { below: Some(98.0), ..Clear::default() };
    vec![
        RuleSpec {
            window: window(10, 10, Take::Mean),
            ..heart("mean", outside(Some(90.0), Some(105.0)))
        },
        RuleSpec {
            window: window(7, 7, Take::Max),
            at_most_every: calm,
            ..heart("max", over(112.0))
        },
        RuleSpec { window: window(3, 1, Take::Min), ..rule("min", "number", under(88.0)) },
        RuleSpec { window: window(3, 3, Take::Count), ..heart("many", over(1.0)) },
        RuleSpec {
            window: window(5, 5, Take::Count),
            at_most_every: calm,
            ..heart("few", under(2.0))
        },
        RuleSpec {
            window: window(20, 2, Take::Mean),
            clear: below,
            ..heart("slides", over(101.0))
        },
        RuleSpec {
            window: window(12, 4, Take::Sum),
            hold_for: seconds(9),
            at_most_every: calm,
            ..rule("sum", "number", under(300.0))
        },
        RuleSpec {
            window: window(10, 5, Take::Rate),
            clear: hold(30),
            ..heart("rate", outside(Some(-60.0), Some(60.0)))
        },
        RuleSpec { window: window(30, 3, Take::Count), clear: lull, ..heart("lull", under(4.0)) },
        RuleSpec {
            window: window(9, 3, Take::Max),
            hold_for: seconds(6),
            ..heart("high", over(100.0))
        },
        RuleSpec { window: window(6, 2, Take::Count), ..rule("gate count", "door", over(2.0)) },
    ]
}

fn of_several() -> Vec<RuleSpec> {
    let within = Some(seconds(3));
    let expected = vec![Source { name: "1".into(), kind: "heart_rate".into() }];
    let silent = |after, expected| Condition::Silent { after: seconds(after), expected };
    let on_lid = |spec: RuleSpec| RuleSpec { on: Some("lid".into()), ..spec };
    vec![
        together("near", Condition::All { members: members(), within }),
        together("together", Condition::All { members: members(), within: None }),
        together("any", Condition::Any { members: members() }),
        RuleSpec {
            hold_for: seconds(2),
            at_most_every: Some(seconds(30)),
            ..together("any lasts", Condition::Any { members: members() })
        },
        RuleSpec {
            hold_for: seconds(1),
            ..together("together lasts", Condition::All { members: members(), within: None })
        },
        RuleSpec { source: Some("1".into()), ..heart("silent", silent(6, expected)) },
        on_lid(heart("lid silent", silent(20, Vec::new()))),
    ]
}

/// Returns the visits to the lid and the gate.
pub(crate) fn visits() -> Vec<VisitSpec> {
    let spec = |source: &str, first, gap| VisitSpec {
        source: source.into(),
        opening: "open".into(),
        first,
        gap: seconds(gap),
        units_per_opening: 0.5,
        live: true,
        then: Vec::new(),
    };
    vec![spec("lid", First::Level, 30), spec("gate", First::Change, 12)]
}
