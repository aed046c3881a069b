//! Invalid rules.

use super::*;

#[test]
fn says_why_a_rule_makes_no_sense() {
    let good = heart_rule();
    let window = |length| tumbling(length, Take::Mean);
    let limit = Limit { source: "7".into(), above: Some(30.0), below: None };
    let clear = |above, below| Clear { above, below, ..Clear::default() };
    let endless = Duration::from_secs(24 * 3600 + 1);
    let cases = [
        (RuleSpec { on: None, ..good.clone() }, Fault::CoversNothing),
        (rule(Condition::Reading(Test::Outside(Range::default()))), Fault::NoCondition),
        (RuleSpec { window: good.window, ..rule(is("open")) }, Fault::NoNumber("window")),
        (RuleSpec { limits: vec![limit.clone()], ..rule(is("open")) }, Fault::NoNumber("limits")),
        (RuleSpec { clear: clear(None, Some(1.0)), ..rule(is("open")) }, Fault::NoNumber("clear")),
        (rule(out_of(120.0, 40.0)), Fault::AlwaysHolds { above: 40.0, below: 120.0 }),
        (
            RuleSpec { limits: vec![limit.clone()], ..good.clone() },
            Fault::AlwaysHolds { above: 30.0, below: 40.0 },
        ),
        (rule(over(f64::INFINITY)), Fault::NotFinite(f64::INFINITY)),
        (
            RuleSpec { window: window(Duration::from_millis(999)), ..good.clone() },
            Fault::ShortWindow,
        ),
        (RuleSpec { window: window(endless), ..good.clone() }, Fault::TooLong),
        (RuleSpec { hold_for: endless, ..good.clone() }, Fault::TooLong),
        (RuleSpec { window: sliding(60, 7, Take::Mean), ..good.clone() }, Fault::UnevenSteps),
        (RuleSpec { window: sliding(60, 0, Take::Mean), ..good.clone() }, Fault::UnevenSteps),
        (RuleSpec { window: sliding(61, 1, Take::Mean), ..good.clone() }, Fault::UnevenSteps),
        (RuleSpec { window: sliding(60, 120, Take::Mean), ..good.clone() }, Fault::UnevenSteps),
        (RuleSpec { clear: clear(None, Some(121.0)), ..rule(over(120.0)) }, Fault::NeverClears),
        (RuleSpec { clear: clear(Some(40.0), None), ..rule(over(120.0)) }, Fault::NeverClears),
        (
            RuleSpec { clear: clear(Some(90.0), Some(90.0)), ..rule(out_of(40.0, 120.0)) },
            Fault::NeverClears,
        ),
        (
            RuleSpec { clear: clear(None, Some(30.0)), ..rule(out_of(40.0, 120.0)) },
            Fault::NeverClears,
        ),
        (
            RuleSpec {
                limits: vec![limit.clone()],
                clear: clear(None, Some(90.0)),
                ..rule(over(120.0))
            },
            Fault::NeverClears,
        ),
        (
            RuleSpec { limits: vec![limit.clone(), limit], ..rule(over(1.0)) },
            Fault::LimitTwice("7".into()),
        ),
    ];

    for (spec, fault) in cases {
        assert_eq!(spec.faults(), std::slice::from_ref(&fault), "{spec:?}");
        let refused = Rules::new(vec![spec]).unwrap_err();
        assert_eq!(refused.to_string(), format!("rule `out of range` {fault}"));
    }
    assert_eq!(good.faults(), []);
    assert_eq!(Rules::new(vec![good.clone(), good]).unwrap_err().fault, Fault::NameTwice);
}

/// Sources without a lower threshold are cleared as if `clear` had no `above`.
#[test]
fn clears_above_a_threshold_that_only_the_limit_of_one_source_gives() {
    let limit = Limit { source: "7".into(), above: None, below: Some(40.0) };
    let clear = Clear { above: Some(45.0), ..Clear::default() };
    let mut bench = Bench::new(vec![RuleSpec { limits: vec![limit], clear, ..rule(over(120.0)) }]);
    let (seven, eight) = (bench.belt("7"), bench.belt("8"));

    for (at, bpm) in [(0.0, 39.0), (1.0, 44.0), (2.0, 46.0)] {
        bench.put(seven, at, bpm);
    }
    for (at, bpm) in [(3.0, 121.0), (4.0, 44.0)] {
        bench.put(eight, at, bpm);
    }

    let expected = ["raised 7 39 @0", "cleared 7 46 @2", "raised 8 121 @3", "cleared 8 44 @4"];
    assert_eq!(bench.said(), expected);
}

#[test]
fn a_rule_that_cannot_run_leaves_the_others() {
    let named = |name: &str, condition| RuleSpec { name: name.into(), ..rule(condition) };
    let specs = [named("a", over(1.0)), named("b", over(f64::NAN)), named("a", under(1.0))];

    let (good, off) = runnable(&specs);

    assert_eq!(good, specs[..1]);
    let off: Vec<String> = off.iter().map(ToString::to_string).collect();
    assert_eq!(off, ["rule `b` NaN is not a threshold", "rule `a` another rule has the same name"]);
    assert!(Rules::new(good).is_ok());
}
