//! One test for each class of fault of a rule.

use pulsegate_core::rules::{Action, Condition, Range, Test};

use super::{expect_fault, fix_of, with};

/// A belt `7`, a lid `feeder`, a number `air`, a camera `nest`, and a rule of these lines.
pub(super) fn rule(lines: &str) -> String {
    format!(
        "heart_rate = [{{ id = \"7\", name = \"P\" }}]\nlid = [{{ id = \"feeder\", pin = 1 }}]\n\
         number = [{{ id = \"air\", file = \"f\" }}]\n\
         camera = [{{ id = \"nest\", capture = {{ command = [\"true\", \"{{path}}\"] }} }}]\n\
         [[rule]]\nname = \"r\"\n{lines}"
    )
}

#[test]
fn an_unknown_source_is_named_with_the_nearest() {
    let lines = rule("source = \"feedr\"\nis = \"open\"");

    expect_fault(&lines, "unknown source `feedr`", "\"feedr\"");
    assert_eq!(fix_of(&lines), "did you mean `feeder`?");
    let fix = fix_of(&rule("source = \"chairs\"\nabove = 1"));
    assert_eq!(fix, "valid sources: `air`, `7`, `feeder`");
}

#[test]
fn an_unknown_kind_is_named_with_the_nearest() {
    let lines = rule("on = \"hart_rate\"\nabove = 1");

    expect_fault(&lines, "no source gives readings of kind `hart_rate`", "\"hart_rate\"");
    assert_eq!(fix_of(&lines), "did you mean `heart_rate`?");
}

#[test]
fn a_rule_about_variability_says_what_derives_it() {
    let derived = "on = \"heart_rate.rmssd\"\nbelow = 20";

    let nowhere = rule(derived);
    expect_fault(&nowhere, "no source derives `heart_rate.rmssd`", "\"heart_rate.rmssd\"");
    assert_eq!(fix_of(&nowhere), "add `variability = true` to a heart-rate source");
    let open = format!("inbox = [{{ path = \"a\" }}]\n{nowhere}");
    expect_fault(&open, "no source derives `heart_rate.rmssd`", "\"heart_rate.rmssd\"");
    let other = rule(&format!("source = \"7\"\n{derived}")).replace(
        "heart_rate = [",
        "heart_rate = [{ id = \"8\", name = \"Q\", variability = true }, ",
    );
    expect_fault(&other, "source `7` derives no `heart_rate.rmssd`", "\"7\"");
}

#[test]
fn an_unknown_camera_is_named_with_the_nearest() {
    let lines = rule("on = \"lid\"\nis = \"open\"\nthen = [\"capture:nets\"]");

    expect_fault(&lines, "unknown camera `nets`", "\"capture:nets\"");
    assert_eq!(fix_of(&lines), "did you mean `nest`?");
}

#[test]
fn an_unknown_action_is_named_with_the_nearest() {
    let lines = rule("on = \"lid\"\nis = \"open\"\nthen = [\"alrt\"]");

    expect_fault(&lines, "unknown action `alrt`", "\"alrt\"");
    assert_eq!(fix_of(&lines), "did you mean `alert`?");
}

#[test]
fn a_capture_names_its_camera() {
    let (config, _) =
        with(&rule("on = \"lid\"\nis = \"open\"\nthen = [\"alert\", \"capture:nest\"]"));

    assert_eq!(config.rules[0].then, [Action::Alert, Action::Capture("nest".into())]);
}

#[test]
fn with_an_open_inbox_a_rule_may_name_any_source() {
    let (config, _) = with(
        "inbox = [{ path = \"a\" }]\n[[rule]]\nname = \"r\"\non = \"speed\"\nsource = \"car\"\nabove = 130",
    );

    assert_eq!(config.rules[0].source.as_deref(), Some("car"));
}

#[test]
fn with_a_closed_inbox_a_rule_names_only_its_sources() {
    let inbox = "inbox = [{ path = \"a\", sources = [\"engine\"] }]\n[[rule]]\nname = \"r\"\non = \"state\"\nis = \"off\"";

    with(&format!("{inbox}\nsource = \"engine\""));
    expect_fault(&format!("{inbox}\nsource = \"engin\""), "unknown source `engin`", "\"engin\"");
}

#[test]
fn the_name_of_a_rule_is_unique_and_readable() {
    let twice =
        rule("on = \"lid\"\nis = \"open\"\n[[rule]]\nname = \"r\"\non = \"lid\"\nis = \"closed\"");
    let empty = rule("on = \"lid\"\nis = \"open\"").replace("name = \"r\"", "name = \" \"");

    expect_fault(&twice, "rule `r` is given twice", "\"r\"");
    expect_fault(&empty, "this cannot be the name of a rule", "\" \"");
}

#[test]
fn a_rule_without_condition_can_never_fire() {
    expect_fault(&rule("on = \"lid\""), "rule `r` cannot run: it has no condition", "[[rule]]");
    with(&rule("on = \"heart_rate\"\nlimits = [{ source = \"7\", above = 150 }]"));
}

#[test]
fn a_rule_whose_condition_is_misspelt_has_one_fault() {
    expect_fault(&rule("on = \"heart_rate\"\nabov = 120"), "unknown key `abov` in `rule`", "abov");
    expect_fault(
        &rule("on = \"heart_rate\"\ngreater = 1"),
        "unknown key `greater` in `rule`",
        "greater",
    );
}

#[test]
fn a_rule_looks_at_a_kind_or_a_source() {
    expect_fault(
        &rule("above = 1"),
        "rule `r` cannot run: it covers no source, as it has neither `on` nor `source`",
        "[[rule]]",
    );
}

#[test]
fn above_is_greater_than_below() {
    let message = "nearly every number is above 40 or below 40";
    expect_fault(&rule("on = \"heart_rate\"\nabove = 40\nbelow = 40"), message, "40");

    let limits =
        rule("on = \"heart_rate\"\nbelow = 160\nlimits = [{ source = \"7\", above = 150 }]");
    expect_fault(&limits, "nearly every number is above 150 or below 160", "150");
}

#[test]
fn states_are_not_numbers() {
    let cases = [
        (
            "on = \"heart_rate\"\nis = \"high\"",
            "`is` compares a state, and readings of kind `heart_rate` are numbers",
        ),
        (
            "source = \"air\"\nis = \"high\"",
            "`is` compares a state, and readings of kind `number` are numbers",
        ),
        ("on = \"lid\"\nabove = 1", "readings of kind `lid` are states, not numbers"),
        ("on = \"lid\"\nis = \"opn\"", "readings of kind `lid` are never `opn`"),
        (
            "on = \"lid\"\nis = \"open\"\nabove = 1",
            "`is` compares a state, and no state is above or below a number",
        ),
    ];

    for (lines, message) in &cases[..4] {
        expect_fault(&rule(lines), message, "");
    }
    let text = format!("{}\n{}", super::LEAST, rule(cases[4].0));
    assert!(
        super::Config::from_str_at(&text, super::path())
            .unwrap_err()
            .to_string()
            .contains(cases[4].1)
    );
}

#[test]
fn openings_can_be_counted() {
    let window = "window = { tumbling = \"1m\", take = \"count\" }";

    let (config, _) = with(&rule(&format!("on = \"lid\"\nabove = 10\n{window}")));

    let above_ten = Test::Outside(Range { above: Some(10.0), below: None });
    assert_eq!(config.rules[0].condition, Condition::Reading(above_ten));
}

#[test]
fn a_window_takes_numbers() {
    let lines =
        rule("on = \"lid\"\nis = \"open\"\nwindow = { tumbling = \"1m\", take = \"count\" }");

    expect_fault(&lines, "a window takes numbers, and `is` compares a state", "{ tumbling");
}

#[test]
fn limits_are_of_sources_that_the_rule_sees() {
    let limits = |of: &str, limits: &str| rule(&format!("{of}\nabove = 120\nlimits = [{limits}]"));
    let on = "on = \"heart_rate\"";

    let of_lid = limits(on, "{ source = \"feeder\", above = 1 }");
    expect_fault(
        &of_lid,
        "this rule never sees source `feeder`, whose kind is `lid`",
        "\"feeder\"",
    );
    let of_none = limits(on, "{ source = \"8\", above = 1 }");
    expect_fault(&of_none, "unknown source `8`", "\"8\"");
    let of_other = limits("source = \"7\"", "{ source = \"air\", above = 1 }");
    expect_fault(&of_other, "this rule never sees source `air`", "\"air\"");
    let empty = limits(on, "{ source = \"7\" }");
    expect_fault(&empty, "the limits of `7` have neither `above` nor `below`", "{ source");
    let twice = limits(on, "{ source = \"7\", above = 1 }, { source = \"7\", above = 2 }");
    expect_fault(&twice, "source `7` has its limits twice", "\"7\"");
}

#[test]
fn limits_keep_what_they_do_not_replace() {
    let (config, _) = with(&rule(
        "on = \"heart_rate\"\nabove = 120\nbelow = 40\nlimits = [{ source = \"7\", above = 150 }]",
    ));

    let limited = Range { above: Some(150.0), below: Some(40.0) };
    assert_eq!(config.rules[0].range_for("7"), limited);
}

#[test]
fn a_rule_does_something_once() {
    expect_fault(
        &rule("on = \"lid\"\nis = \"open\"\nthen = []"),
        "this rule does nothing when it fires",
        "[]",
    );
    let twice = rule("on = \"lid\"\nis = \"open\"\nthen = [\"alert\", \"alert\"]");
    expect_fault(&twice, "action `alert` is given twice", "\"alert\"]");
}
