//! Rules that make no sense.

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
