//! The keys of a rule: the specification that each becomes, and the combinations that are refused.

use std::time::Duration;

use pulsegate_core::rules::{Clear, Condition, Member, Range, RuleSpec, Take, Test, WindowSpec};
use pulsegate_sensors::Source;

use super::rules::rule;
use super::{expect_fault, fix_of, with};

const BELT: &str = "on = \"heart_rate\"";
const LID: &str = "on = \"lid\"\nis = \"open\"";

fn read(lines: &str) -> RuleSpec {
    let (config, _) = with(&rule(lines));
    config.rules[0].clone()
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn source(id: &str, kind: &str) -> Source {
    Source { name: id.into(), kind: kind.into() }
}

fn number(above: f64, below: f64) -> Test {
    Test::Outside(Range { above: Some(above), below: Some(below) })
}

#[test]
fn outside_is_both_sides_at_once() {
    let condition = read(&format!("{BELT}\noutside = [40, 120]")).condition;

    assert_eq!(condition, Condition::Reading(number(120.0, 40.0)));
}

#[test]
fn outside_has_two_thresholds_and_stands_alone() {
    let outside = |rest: &str| rule(&format!("{BELT}\noutside = {rest}"));

    expect_fault(&outside("[40]"), "`outside` has two thresholds", "[40]");
    let message = "nearly every number is above 40 or below 120";
    expect_fault(&outside("[120, 40]"), message, "40]");
    let message = "`outside` has both thresholds: `above` and `below` have no effect";
    expect_fault(&outside("[40, 120]\nabove = 1"), message, "1");
}

#[test]
fn a_window_slides_by_the_finest_step_unless_told_otherwise() {
    let window = |window: &str| read(&format!("{BELT}\nabove = 1\nwindow = {window}")).window;
    let sliding = |length, step, take| Some(WindowSpec { length, step, take });

    let minute = window("{ sliding = \"60s\", take = \"sum\" }");
    assert_eq!(minute, sliding(seconds(60), seconds(1), Take::Sum));
    let day = window("{ sliding = \"1d\", take = \"rate\" }");
    assert_eq!(day, sliding(seconds(86_400), seconds(1440), Take::Rate));
    let odd = window("{ sliding = \"1009ms\", take = \"max\" }");
    assert_eq!(odd, sliding(Duration::from_millis(1009), Duration::from_millis(1009), Take::Max));
    let told = window("{ sliding = \"60s\", every = \"5s\", take = \"mean\" }");
    assert_eq!(told, sliding(seconds(60), seconds(5), Take::Mean));
}

#[test]
fn a_window_has_one_length_and_whole_steps() {
    let window = |window: &str| {
        rule(&format!("{BELT}\nabove = 1\nwindow = {{ {window}, take = \"mean\" }}"))
    };

    let none = rule(&format!("{BELT}\nabove = 1\nwindow = {{ take = \"mean\" }}"));
    expect_fault(&none, "this window has no length", "{ take");
    let both = window("tumbling = \"60s\", sliding = \"50s\"");
    expect_fault(&both, "a window is either tumbling or sliding", "\"50s\"");
    let message =
        "`every` is for sliding windows: a tumbling window begins at the end of the window before";
    expect_fault(&window("tumbling = \"60s\", every = \"5s\""), message, "\"5s\"");
    let message = "a window of 60s is not a whole number of steps of 7s";
    expect_fault(&window("sliding = \"60s\", every = \"7s\""), message, "\"7s\"");
    let message = "a window of 60s is not a whole number of steps of 120s";
    expect_fault(&window("sliding = \"60s\", every = \"2m\""), message, "\"2m\"");
    let fine = window("sliding = \"2m\", every = \"1s\"");
    expect_fault(&fine, "a window of 120s has more than 60 steps of 1s", "\"1s\"");
    assert_eq!(fix_of(&fine), "such as \"2s\"");
}

#[test]
fn for_and_clear_say_how_long_and_how_far() {
    let clear = "clear = { below = 110, above = 45, for = \"2m\" }";

    let rule = read(&format!("{BELT}\noutside = [40, 120]\nfor = \"30s\"\n{clear}"));

    assert_eq!(rule.hold_for, seconds(30));
    let over = Clear { above: Some(45.0), below: Some(110.0), hold_for: seconds(120) };
    assert_eq!(rule.clear, over);
}

#[test]
fn an_alert_clears_between_its_thresholds() {
    let clear = |rest: &str| rule(&format!("{BELT}\n{rest}"));

    let empty = clear("above = 120\nclear = {}");
    expect_fault(&empty, "`clear` is empty", "{}");
    let beyond = clear("above = 120\nclear = { below = 130 }");
    expect_fault(&beyond, "an alert raised above 120 cannot be over below 130", "130");
    let beyond = clear("below = 40\nclear = { above = 30 }");
    expect_fault(&beyond, "an alert raised below 40 cannot be over above 30", "30");
    let other = clear("above = 120\nclear = { above = 30 }");
    expect_fault(&other, "`above` of `clear` has no effect: no `below` raises an alert", "30");
    let none = clear("outside = [40, 120]\nclear = { above = 100, below = 90 }");
    expect_fault(&none, "no number is above 100 and below 90: the alert is never over", "100");
    let never = clear("outside = [40, 120]\nclear = { below = 30 }");
    expect_fault(&never, "the alert is never over: numbers below 30 are below 40, too", "30");
    let never = clear("outside = [40, 120]\nclear = { above = 120 }");
    expect_fault(&never, "the alert is never over: numbers above 120 are above 120, too", "120");
    let limit = "limits = [{ source = \"7\", above = 100 }]";
    let limited = clear(&format!("above = 120\nclear = {{ below = 110 }}\n{limit}"));
    expect_fault(&limited, "an alert raised above 100 cannot be over below 110", "110");
    let state = rule(&format!("{LID}\nclear = {{ below = 1 }}"));
    expect_fault(&state, "`below` of `clear` is for numbers, and `is` compares a state", "1");
    with(&rule(&format!("{LID}\nclear = {{ for = \"1m\" }}")));
}

#[test]
fn silent_for_expects_every_source_that_the_rule_covers() {
    let of = |lines: &str| read(&format!("{lines}\nsilent_for = \"90s\"")).condition;
    let silent = |expected: &[(&str, &str)]| {
        let expected = expected.iter().map(|(id, kind)| source(id, kind));
        Condition::Silent { after: seconds(90), expected: expected.collect() }
    };

    assert_eq!(of(BELT), silent(&[("7", "heart_rate")]));
    assert_eq!(of("source = \"feeder\""), silent(&[("feeder", "lid")]));
    let inbox = "inbox = [{ path = \"a\", sources = [\"meter\"] }]\n[[rule]]\nname = \"r\"\nsource = \"meter\"";
    let (config, _) = with(&format!("{inbox}\non = \"power\"\nsilent_for = \"90s\""));
    assert_eq!(config.rules[0].condition, silent(&[("meter", "power")]));
    let (config, _) = with(&format!("{inbox}\nsilent_for = \"90s\""));
    assert_eq!(config.rules[0].condition, silent(&[]), "its kind is not known yet");
    let open = "inbox = [{ path = \"a\" }]\n[[rule]]\nname = \"r\"\nsource = \"car\"";
    let (config, _) = with(&format!("{open}\non = \"speed\"\nsilent_for = \"90s\""));
    assert_eq!(config.rules[0].condition, silent(&[("car", "speed")]));
    let (config, _) = with(&format!("{open}\nsilent_for = \"90s\""));
    assert_eq!(config.rules[0].condition, silent(&[]), "its kind is not known yet");
}

#[test]
fn silent_for_expects_what_is_derived_only_where_a_rule_names_its_kind() {
    let of = |lines: &str| {
        let belt = "heart_rate = [{ id = \"7\", name = \"P\", variability = true }]";
        let inbox = "inbox = [{ path = \"a\", sources = [\"meter\"] }]";
        let rule = format!("[[rule]]\nname = \"r\"\n{lines}\nsilent_for = \"90s\"");
        let (config, _) = with(&format!("{belt}\n{inbox}\n{rule}"));
        config.rules[0].condition.clone()
    };
    let silent = |id: &str, kind: &str| Condition::Silent {
        after: seconds(90),
        expected: vec![source(id, kind)],
    };

    assert_eq!(of("source = \"7\""), silent("7", "heart_rate"));
    assert_eq!(of("on = \"heart_rate.rmssd\""), silent("7", "heart_rate.rmssd"));
    let both = of("on = \"heart_rate.rmssd\"\nsource = \"7\"");
    assert_eq!(both, silent("7", "heart_rate.rmssd"));
}

#[test]
fn anomaly_learns_and_scores() {
    let anomaly = |table: &str| read(&format!("{BELT}\nanomaly = {table}")).condition;

    let common = Condition::Anomaly { learn: seconds(600), score: 5.0 };
    assert_eq!(anomaly("{ learn = \"10m\" }"), common);
    let strict = Condition::Anomaly { learn: seconds(60), score: 7.0 };
    assert_eq!(anomaly("{ learn = \"1m\", score = 7 }"), strict);
    let states = rule("on = \"lid\"\nanomaly = { learn = \"10m\" }");
    expect_fault(&states, "readings of kind `lid` are states, not numbers", "{ learn");
    let loose = rule(&format!("{BELT}\nanomaly = {{ learn = \"10m\", score = 1 }}"));
    expect_fault(&loose, "`score` must be 3 to 1000, not 1", "1");
}

#[test]
fn all_and_any_look_at_several_sources() {
    let members = "[{ source = \"feeder\", is = \"open\" }, { source = \"air\", above = 30 }]";
    let lid = Member { source: "feeder".into(), on: None, test: Test::Is("open".into()) };
    let air = Member {
        source: "air".into(),
        on: None,
        test: Test::Outside(Range { above: Some(30.0), below: None }),
    };

    let all = read(&format!("all = {members}\nwithin = \"5s\"")).condition;
    let any = read(&format!("any = {members}")).condition;

    let members = vec![lid, air];
    assert_eq!(all, Condition::All { members: members.clone(), within: Some(seconds(5)) });
    assert_eq!(any, Condition::Any { members });
}

#[test]
fn a_member_is_a_source_that_is_asked_one_thing() {
    let all =
        |second: &str| rule(&format!("all = [{{ source = \"feeder\", is = \"open\" }}, {second}]"));

    let unknown = all("{ source = \"airr\", above = 1 }");
    expect_fault(&unknown, "unknown source `airr`", "\"airr\"");
    assert_eq!(fix_of(&unknown), "did you mean `air`?");
    let nothing = all("{ source = \"air\" }");
    expect_fault(&nothing, "the member of `air` has no condition", "{ source = \"air\"");
    let two = all("{ source = \"air\", above = 1, is = \"open\" }");
    let message = "`is` compares a state, and no state is above or below a number";
    expect_fault(&two, message, "\"open\"");
    let state = all("{ source = \"air\", is = \"open\" }");
    let message = "`is` compares a state, and readings of kind `number` are numbers";
    expect_fault(&state, message, "\"open\"");
    let never = all("{ source = \"feeder\", is = \"opn\" }").replace("all", "any");
    expect_fault(&never, "readings of kind `lid` are never `opn`", "\"opn\"");
    let kind = all("{ source = \"air\", on = \"lid\", above = 1 }");
    let message = "this rule never sees source `air`, whose kind is `number`";
    expect_fault(&kind, message, "\"air\"");
    let one = rule("all = [{ source = \"feeder\", is = \"open\" }]");
    expect_fault(&one, "`all` needs two or more members", "[{");
    let crowd: String = (0..33).map(|n| format!("{{ source = \"air\", above = {n} }}, ")).collect();
    expect_fault(&rule(&format!("any = [{crowd}]")), "`any` takes at most 32 members", "[{");
}

#[test]
fn members_that_say_the_same_or_never_hold_at_once_are_refused() {
    let joint = |word: &str, first: &str, second: &str| {
        rule(&format!("{word} = [{{ source = {first} }}, {{ source = {second} }}]"))
    };
    let (open, closed) = ("\"feeder\", is = \"open\"", "\"feeder\", is = \"closed\"");
    let (hot, cold) = ("\"air\", above = 30", "\"air\", below = 30");

    let message = "`any` has the same condition on `air` twice";
    expect_fault(&joint("any", hot, hot), message, &format!("{{ source = {hot}"));
    let message = "`all` never holds: two conditions on one source exclude each other";
    expect_fault(&joint("all", open, closed), message, &format!("{{ source = {closed}"));
    expect_fault(&joint("all", hot, cold), message, &format!("{{ source = {cold}"));
    with(&joint("any", open, closed));
    with(&joint("all", hot, "\"air\", outside = [-10, 20]"));
    with(&joint("all", hot, "\"air\", below = 31"));
}

#[test]
fn a_count_is_compared_with_what_it_can_be() {
    let count = |lines: &str| {
        rule(&format!("{BELT}\nwindow = {{ tumbling = \"1m\", take = \"count\" }}\n{lines}"))
    };

    expect_fault(&count("below = 0"), "a count is never below 0", "0");
    expect_fault(&count("above = -1"), "a count is always above -1", "-1");
    let limit = "below = 5\nlimits = [{ source = \"7\", below = -3 }]";
    expect_fault(&count(limit), "a count is never below -3", "-3");
    with(&count("outside = [1, 100]"));
    with(&count("above = 0"));
}

#[test]
fn a_rule_fires_by_one_condition() {
    let silent = "silent_for = \"1m\"";
    let anomaly = "anomaly = { learn = \"1m\" }";
    let all = "all = [{ source = \"7\", above = 1 }, { source = \"air\", above = 1 }]";
    let any = "any = [{ source = \"7\", above = 1 }, { source = \"air\", above = 1 }]";
    let cases = [
        (format!("{BELT}\nabove = 1\n{silent}"), "above", "silent_for", "1"),
        (format!("{BELT}\noutside = [1, 2]\n{anomaly}"), "outside", "anomaly", "[1"),
        (format!("{BELT}\n{silent}\n{anomaly}"), "silent_for", "anomaly", "\"1m\""),
        (format!("above = 1\n{all}"), "above", "all", "1"),
        (format!("{all}\n{any}"), "all", "any", "[{"),
    ];

    for (lines, first, second, caret) in cases {
        let message = format!("a rule has one condition, not both `{first}` and `{second}`");
        expect_fault(&rule(&lines), &message, caret);
    }
}

#[test]
fn what_adds_nothing_to_a_condition_is_refused_with_the_reason() {
    let window = "window = { tumbling = \"1m\", take = \"mean\" }";
    let silent = format!("{BELT}\nsilent_for = \"1m\"");
    let anomaly = format!("{BELT}\nanomaly = {{ learn = \"1m\" }}");
    let members = "[{ source = \"7\", above = 1 }, { source = \"air\", above = 1 }]";
    let limits = "limits = [{ source = \"7\", above = 1 }]";
    let all = format!("all = {members}");
    let cases = [
        (
            format!("{silent}\n{window}"),
            "a window takes numbers, and `silent_for` compares no values",
            "{ tumbling",
        ),
        (
            format!("{anomaly}\n{window}"),
            "a window takes numbers, and `anomaly` compares readings with each other",
            "{ tumbling",
        ),
        (
            format!("{all}\n{window}"),
            "a window takes numbers, and `all` has the conditions of several sources",
            "{ tumbling",
        ),
        (
            format!("{all}\n{BELT}"),
            "`on` has no effect: the members of `all` name their sources",
            "\"heart_rate\"",
        ),
        (
            format!("any = {members}\nsource = \"7\""),
            "`source` has no effect: the members of `any` name their sources",
            "\"7\"",
        ),
        (
            format!("{silent}\nfor = \"5s\""),
            "`for` has no effect: `silent_for` is the duration of the silence",
            "\"5s\"",
        ),
        (
            format!("{silent}\nclear = {{ for = \"5s\" }}"),
            "`clear` has no effect: the next reading ends a silence",
            "{ for",
        ),
        (
            format!("{anomaly}\nclear = {{ below = 1 }}"),
            "`below` of `clear` is for numbers, and `anomaly` compares readings with each other",
            "1",
        ),
        (
            format!("any = {members}\nwithin = \"5s\""),
            "`within` is for `all`: `any` fires as soon as one of its members holds",
            "\"5s\"",
        ),
        (
            format!("{LID}\nwithin = \"5s\""),
            "`within` is for `all`, which compares the readings of several sources",
            "\"5s\"",
        ),
    ];

    for (lines, message, caret) in cases {
        expect_fault(&rule(&lines), message, caret);
    }
    let message = "limits replace `above` and `below`, and `silent_for` compares no values";
    expect_fault(&rule(&format!("{silent}\n{limits}")), message, "{ source");
}
