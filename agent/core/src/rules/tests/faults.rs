//! Invalid rules.

use super::*;

/// Asserts that each specification has one fault, at the path, with the words in its message.
fn assert_faults(cases: impl IntoIterator<Item = (RuleSpec, &'static str, &'static str)>) {
    for (spec, path, words) in cases {
        let faults = spec.find_faults();
        let [fault] = &faults[..] else { panic!("{spec:?}: {faults:?}") };
        assert_eq!(fault.path, path, "{fault:?}");
        assert!(fault.message.contains(words), "{fault:?}");
        let refused = Rules::new(vec![spec]).unwrap_err();
        assert_eq!(refused.to_string(), format!("rule `out of range` cannot run: {fault}"));
    }
}

#[test]
fn says_why_a_rule_makes_no_sense() {
    let good = heart_rule();
    let window = |length| tumbling(length, Take::Mean);
    let limit = Limit { source: "7".into(), above: Some(30.0), below: None };
    let clear = |above, below| Clear { above, below, ..Clear::default() };
    let endless = Duration::from_secs(24 * 3600 + 1);
    let silent = rule(Condition::Silent { after: minutes(1), expected: Vec::new() });
    let cases = [
        (RuleSpec { on: None, ..good.clone() }, "", "covers no source"),
        (rule(Condition::Reading(Test::Outside(Range::default()))), "", "no condition"),
        (RuleSpec { window: good.window, ..rule(is("open")) }, "window", "takes numbers"),
        (RuleSpec { limits: vec![limit.clone()], ..rule(is("open")) }, "limits[0]", "replace"),
        (RuleSpec { clear: clear(None, Some(1.0)), ..rule(is("open")) }, "clear.below", "numbers"),
        (RuleSpec { clear: clear(Some(1.0), None), ..silent.clone() }, "clear", "no effect"),
        (RuleSpec { hold_for: minutes(1), ..silent }, "for", "no effect"),
        (rule(out_of(120.0, 40.0)), "above", "above 40 or below 120"),
        (
            RuleSpec { limits: vec![limit.clone()], ..good.clone() },
            "limits[0].above",
            "above 30 or below 40",
        ),
        (rule(over(f64::INFINITY)), "above", "must be a finite number, not inf"),
        (
            RuleSpec { window: window(Duration::from_millis(999)), ..good.clone() },
            "window",
            "999ms",
        ),
        (RuleSpec { window: window(endless), ..good.clone() }, "window", "at most 86400s"),
        (RuleSpec { hold_for: endless, ..good.clone() }, "for", "at most 86400s, not 86401s"),
        (RuleSpec { window: sliding(60, 7, Take::Mean), ..good.clone() }, "window.every", "7s"),
        (RuleSpec { window: sliding(60, 0, Take::Mean), ..good.clone() }, "window.every", "0s"),
        (
            RuleSpec { window: sliding(61, 1, Take::Mean), ..good.clone() },
            "window.every",
            "60 steps",
        ),
        (RuleSpec { window: sliding(60, 120, Take::Mean), ..good.clone() }, "window.every", "120s"),
    ];

    assert_faults(cases);
    assert_eq!(good.find_faults(), []);
    assert_eq!(Rules::new(vec![good.clone(), good]).unwrap_err().fault.path, "name");
}

#[test]
fn says_which_thresholds_make_no_sense() {
    let limit = Limit { source: "7".into(), above: Some(30.0), below: None };
    let clear = |above, below| Clear { above, below, ..Clear::default() };
    let cases = [
        (
            RuleSpec { window: each_minute(Take::Count), ..rule(under(0.0)) },
            "below",
            "a count is never below 0",
        ),
        (
            RuleSpec { clear: clear(None, Some(121.0)), ..rule(over(120.0)) },
            "clear.below",
            "raised above 120 cannot be over below 121",
        ),
        (
            RuleSpec { clear: clear(Some(40.0), None), ..rule(over(120.0)) },
            "clear.above",
            "no `below` raises",
        ),
        (
            RuleSpec { clear: clear(Some(90.0), Some(90.0)), ..rule(out_of(40.0, 120.0)) },
            "clear.above",
            "above 90 and below 90",
        ),
        (
            RuleSpec { clear: clear(None, Some(30.0)), ..rule(out_of(40.0, 120.0)) },
            "clear.below",
            "below 30 are below 40",
        ),
        (
            RuleSpec {
                limits: vec![limit.clone()],
                clear: clear(None, Some(90.0)),
                ..rule(over(120.0))
            },
            "clear.below",
            "raised above 30 cannot be over below 90",
        ),
        (
            RuleSpec { limits: vec![limit.clone(), limit.clone()], ..rule(over(1.0)) },
            "limits[1].source",
            "its limits twice",
        ),
        (
            RuleSpec { source: Some("8".into()), limits: vec![limit], ..rule(over(1.0)) },
            "limits[0].source",
            "never sees",
        ),
    ];

    assert_faults(cases);
}

#[test]
fn says_which_members_make_no_sense() {
    let member = |source: &str, test| Member { source: source.into(), on: None, test };
    let wide = |above| Test::Outside(Range { above: Some(above), below: None });
    let all = |members| RuleSpec { on: None, ..rule(Condition::All { members, within: None }) };
    let cases = [
        (all(vec![member("7", wide(1.0))]), "all", "two or more"),
        (all(vec![member("7", wide(1.0)), member("7", wide(1.0))]), "all[1]", "twice"),
        (
            all(vec![member("7", wide(1.0)), member("8", Test::Outside(Range::default()))]),
            "all[1]",
            "no condition",
        ),
        (
            RuleSpec {
                on: Some("number".into()),
                ..all(vec![member("7", wide(1.0)), member("8", wide(1.0))])
            },
            "on",
            "no effect",
        ),
    ];

    assert_faults(cases);
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

    let (good, off) = split_runnable(&specs);

    assert_eq!(good, specs[..1]);
    let off: Vec<String> = off.iter().map(ToString::to_string).collect();
    assert_eq!(
        off,
        [
            "rule `b` cannot run: a threshold must be a finite number, not NaN",
            "rule `a` cannot run: another rule has the same name"
        ]
    );
    assert!(Rules::new(good).is_ok());
}
