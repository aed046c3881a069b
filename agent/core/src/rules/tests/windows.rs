//! Windows of one minute: HR-2 to HR-6, HR-7 and EV-1 of the acceptance scenarios.

use super::*;

#[test]
fn raises_one_alert_for_a_minute_with_a_mean_above_the_threshold_and_clears_it() {
    let mut bench = Bench::new(vec![heart_rule()]);
    let belt = bench.belt("7");

    bench.beat(belt, 0..1, 130.0);
    bench.beat(belt, 1..2, 80.0);
    bench.tick(125.0);

    assert_eq!(bench.said(), ["raised 7 130 @60 (0..60)", "cleared 7 80 @120 (60..120)"]);
}

#[test]
fn raises_one_alert_for_a_minute_with_a_mean_below_the_threshold() {
    let mut bench = Bench::new(vec![heart_rule()]);
    let belt = bench.belt("7");

    bench.beat(belt, 0..1, 39.0);
    bench.tick(65.0);

    assert_eq!(bench.said(), ["raised 7 39 @60 (0..60)"]);
}

#[test]
fn raises_nothing_for_a_mean_of_exactly_the_threshold() {
    for (low, high) in [(120.0, 120.0), (40.0, 40.0), (119.9, 120.1), (39.9, 40.1)] {
        let mut bench = Bench::new(vec![heart_rule()]);
        let belt = bench.belt("7");

        for second in 0..MINUTE {
            bench.put(belt, seconds(second), if second % 2 == 0 { low } else { high });
        }
        bench.tick(65.0);

        assert_eq!(bench.said(), [""; 0], "mean of {low} and {high}");
    }
}

#[test]
fn raises_an_alert_for_a_mean_just_past_the_threshold() {
    let mut bench = Bench::new(vec![heart_rule()]);
    let belt = bench.belt("7");

    for bpm in [120.0, 120.0, 120.0, 120.25] {
        bench.put(belt, 1.0, bpm);
    }
    bench.tick(65.0);

    assert_eq!(bench.said(), ["raised 7 120.0625 @60 (0..60)"]);
}

#[test]
fn raises_nothing_for_one_spike() {
    let mut bench = Bench::new(vec![heart_rule()]);
    let belt = bench.belt("7");

    bench.beat(belt, 0..1, 80.0);
    bench.put(belt, 59.5, 240.0);
    bench.tick(65.0);

    assert_eq!(bench.said(), [""; 0]);
}

#[test]
fn keeps_the_limits_of_each_wearer() {
    let limit = Limit { source: "7".into(), above: Some(150.0), below: None };
    let mut bench = Bench::new(vec![RuleSpec { limits: vec![limit], ..heart_rule() }]);
    let (three, seven) = (bench.belt("3"), bench.belt("7"));

    bench.beat(three, 0..1, 130.0);
    bench.beat(seven, 0..1, 130.0);
    bench.beat(three, 1..2, 30.0);
    bench.beat(seven, 1..2, 30.0);
    bench.tick(125.0);

    let below_is_the_rules_own = "raised 7 30 @120 (60..120)";
    assert_eq!(bench.said(), ["raised 3 130 @60 (0..60)", below_is_the_rules_own]);
}

#[test]
fn keeps_the_windows_of_each_monitor_apart() {
    let mut bench = Bench::new(vec![heart_rule()]);
    let (three, seven) = (bench.belt("3"), bench.belt("7"));

    for second in 0..MINUTE {
        bench.put(three, seconds(second), 130.0);
        bench.put(seven, seconds(second), 80.0);
    }
    bench.tick(65.0);

    assert_eq!(bench.said(), ["raised 3 130 @60 (0..60)"]);
}

#[test]
fn tells_rule_source_value_window_and_severity_in_an_alert() {
    let spec = RuleSpec { severity: Severity::Critical, ..heart_rule() };
    let mut bench = Bench::new(vec![spec.clone()]);
    let belt = bench.belt("7");

    bench.beat(belt, 0..1, 130.0);
    bench.tick(65.0);

    let alert = Transition {
        rule: Arc::new(spec),
        source: belt,
        state: AlertState::Raised,
        value: Value::Number(130.0),
        score: None,
        window: Some((wall(0.0), wall(60.0))),
        time: wall(60.0),
        report: Publication::Now,
    };
    assert_eq!(bench.out, [alert]);
}

#[test]
fn raises_once_while_the_condition_holds_for_ten_minutes() {
    for at_most_every in [None, Some(minutes(10))] {
        let mut bench = Bench::new(vec![RuleSpec { at_most_every, ..heart_rule() }]);
        let belt = bench.belt("7");

        bench.beat(belt, 0..10, 130.0);
        bench.tick(605.0);

        assert_eq!(bench.said(), ["raised 7 130 @60 (0..60)"]);
    }
}

#[test]
fn raises_once_in_ten_minutes_when_asked_to_though_every_other_minute_is_good() {
    let mut bench = Bench::new(vec![RuleSpec { at_most_every: Some(minutes(10)), ..heart_rule() }]);
    let belt = bench.belt("7");

    for minute in (0..12).step_by(2) {
        bench.beat(belt, minute..minute + 1, 130.0);
        bench.beat(belt, minute + 1..minute + 2, 80.0);
    }
    bench.tick(725.0);

    let said = bench.said();
    assert_eq!(said[..2], ["raised 7 130 @60 (0..60)", "cleared 7 80 @120 (60..120)"]);
    assert_eq!(said[2..], ["raised 7 130 @660 (600..660)", "cleared 7 80 @720 (660..720)"]);
    assert_eq!(bench.rules.counts().suppressed, 4);
}

#[test]
fn raises_at_the_first_window_after_the_cool_down_what_still_holds() {
    let mut bench = Bench::new(vec![RuleSpec { at_most_every: Some(minutes(3)), ..heart_rule() }]);
    let belt = bench.belt("7");

    bench.beat(belt, 0..1, 130.0);
    bench.beat(belt, 1..2, 80.0);
    bench.beat(belt, 2..6, 131.0);
    bench.tick(365.0);

    let said = bench.said();
    assert_eq!(said[2..], ["raised 7 131 @240 (180..240)"]);
    assert_eq!(bench.rules.counts().suppressed, 1);
}

#[test]
fn closes_a_window_five_seconds_after_its_end_though_the_source_fell_silent() {
    let mut bench = Bench::new(vec![heart_rule()]);
    let belt = bench.belt("7");
    bench.put(belt, 30.0, 130.0);

    assert_eq!(bench.rules.next_deadline(), Some(mono(65.0)));
    bench.tick(64.999);
    assert_eq!(bench.said(), [""; 0]);
    bench.tick(65.0);

    assert_eq!(bench.said(), ["raised 7 130 @60 (0..60)"]);
    assert_eq!(bench.rules.next_deadline(), None);
}

#[test]
fn closes_an_hour_of_windows_by_their_own_times_when_it_arrives_within_a_second() {
    let mut bench = Bench::new(vec![heart_rule()]);
    let belt = bench.belt("7");

    for second in 0..3600 {
        let bpm = if second / 60 % 2 == 0 { 130.0 } else { 80.0 };
        bench.put_late(belt, seconds(second), seconds(second) / 3600.0, bpm);
    }

    assert_eq!(bench.out.len(), 59);
    assert_eq!(bench.said()[58], "raised 7 130 @3540 (3480..3540)");
    assert_eq!(bench.rules.counts(), RuleCounts::default());
}

#[test]
fn uses_a_reading_that_is_not_later_than_five_seconds_and_counts_a_later_one() {
    let mut bench = Bench::new(vec![heart_rule()]);
    let belt = bench.belt("7");
    bench.put(belt, 58.0, 120.0);

    bench.put_late(belt, 57.0, 64.999, 122.0);
    bench.put_late(belt, 57.5, 65.0, 200.0);

    assert_eq!(bench.said(), ["raised 7 121 @60 (0..60)"]);
    assert_eq!(bench.rules.counts().late, 1);
}

#[test]
fn raises_no_second_alert_for_a_backlog_however_old() {
    for days in [0, 3] {
        let mut bench = Bench::new(vec![heart_rule()]);
        let belt = bench.belt("7");
        bench.beat(belt, 0..1, 130.0);
        bench.beat(belt, 1..2, 80.0);
        let later = days * 24 * 60 + 5;
        bench.tick(seconds(later * MINUTE));

        for second in 0..2 * MINUTE {
            let bpm = if second < MINUTE { 130.0 } else { 80.0 };
            bench.put_late(belt, seconds(second), seconds(later * MINUTE), bpm);
        }
        bench.beat(belt, later..later + 2, 80.0);
        bench.tick(seconds((later + 3) * MINUTE));

        let said = ["raised 7 130 @60 (0..60)", "cleared 7 80 @120 (60..120)"];
        assert_eq!(bench.said(), said, "{days} days old");
        let RuleCounts { late, doubtful, .. } = bench.rules.counts();
        assert_eq!(late + doubtful, 120, "{days} days old");
    }
}

#[test]
fn uses_neither_a_heart_rate_of_zero_nor_one_without_contact() {
    let mut bench = Bench::new(vec![heart_rule()]);
    let belt = bench.belt("7");

    bench.beat(belt, 0..1, 0.0);
    bench.put(belt, 59.5, Said::NoContact(200.0));
    bench.beat(belt, 1..2, 80.0);
    bench.put(belt, 119.5, Said::NoContact(20_000.0));
    bench.tick(125.0);

    assert_eq!(bench.said(), [""; 0]);
}

#[test]
fn uses_a_zero_that_is_no_heart_rate() {
    let spec =
        RuleSpec { on: Some("number".into()), window: each_minute(Take::Mean), ..rule(under(1.0)) };
    let mut bench = Bench::new(vec![spec]);
    let air = bench.source("air", "number");

    bench.put(air, 0.0, 0.0);
    bench.tick(65.0);

    assert_eq!(bench.said(), ["raised air 0 @60 (0..60)"]);
}

#[test]
fn takes_the_least_or_the_greatest_of_a_window() {
    for (take, condition, raised) in [
        (Take::Min, under(50.0), "raised 7 49 @60 (0..60)"),
        (Take::Max, over(90.0), "raised 7 91 @60 (0..60)"),
    ] {
        let mut bench = Bench::new(vec![RuleSpec { window: each_minute(take), ..rule(condition) }]);
        let belt = bench.belt("7");

        for bpm in [70.0, 49.0, 91.0, 70.0] {
            bench.put(belt, 1.0, bpm);
        }
        bench.tick(65.0);

        assert_eq!(bench.said(), [raised]);
    }
}

#[test]
fn counts_the_readings_of_a_window_and_none_in_an_empty_one() {
    let spec =
        RuleSpec { on: Some("lid".into()), window: each_minute(Take::Count), ..rule(over(2.0)) };
    let mut bench = Bench::new(vec![spec]);
    let lid = bench.source("feeder", "lid");

    for at in [1.0, 2.0, 3.0] {
        bench.put(lid, at, "open");
    }
    bench.tick(65.0);
    assert_eq!(bench.rules.next_deadline(), Some(mono(125.0)));
    bench.tick(1000.0);

    let said = ["raised feeder 3 @60 (0..60)", "cleared feeder 0 @120 (60..120)"];
    assert_eq!(bench.said(), said);
    assert_eq!(bench.rules.next_deadline(), None);
}

#[test]
fn counts_a_year_of_empty_windows_at_once() {
    let spec = RuleSpec {
        window: tumbling(MIN_WINDOW, Take::Count),
        at_most_every: Some(minutes(1)),
        ..rule(under(2.0))
    };
    let mut bench = Bench::new(vec![spec]);
    let belt = bench.belt("7");

    for at in [0.0, 1.0, 1.5, 2.0, 2.5] {
        bench.put(belt, at, 80.0);
    }
    bench.tick(31_536_000.0);

    let first = ["raised 7 1 @1 (0..1)", "cleared 7 2 @2 (1..2)"];
    assert_eq!(bench.said()[..2], first);
    assert_eq!(bench.said()[2..], ["raised 7 0 @61 (60..61)"]);
}

#[test]
fn slides_by_its_step_and_raises_between_two_minutes() {
    let mut bench =
        Bench::new(vec![RuleSpec { window: sliding(60, 15, Take::Mean), ..rule(over(120.0)) }]);
    let belt = bench.belt("7");

    for second in 0..180 {
        bench.put(belt, seconds(second), if (75..150).contains(&second) { 140.0 } else { 80.0 });
    }
    bench.tick(185.0);

    let said = ["raised 7 125 @120 (60..120)", "cleared 7 110 @180 (120..180)"];
    assert_eq!(bench.said(), said);
}

#[test]
fn slides_on_over_a_source_that_fell_silent_until_nothing_is_left() {
    let mut bench =
        Bench::new(vec![RuleSpec { window: sliding(60, 20, Take::Count), ..rule(over(1.0)) }]);
    let belt = bench.belt("7");
    bench.put(belt, 5.0, 80.0);
    bench.put(belt, 30.0, 80.0);

    let mut deadlines = Vec::new();
    while let Some(deadline) = bench.rules.next_deadline() {
        deadlines.push(deadline);
        bench.rules.advance_time(BOOT, deadline, &mut bench.out);
    }

    assert_eq!(deadlines, [45.0, 65.0, 85.0].map(mono));
    assert_eq!(bench.said(), ["raised 7 2 @40 (-20..40)", "cleared 7 1 @80 (20..80)"]);
}

#[test]
fn takes_the_sum_or_the_rate_of_change_a_minute() {
    for (take, condition, raised) in [
        (Take::Sum, over(59.0), "raised 7 60 @60 (0..60)"),
        (Take::Rate, over(19.0), "raised 7 20 @60 (0..60)"),
        (Take::Rate, under(-1.0), ""),
    ] {
        let mut bench = Bench::new(vec![RuleSpec { window: each_minute(take), ..rule(condition) }]);
        let belt = bench.belt("7");

        for (at, value) in [(10.0, 10.0), (20.0, 30.0), (40.0, 20.0)] {
            bench.put(belt, at, value);
        }
        bench.tick(65.0);

        assert_eq!(bench.said().concat(), raised);
    }
}

#[test]
fn has_no_rate_for_readings_of_one_time() {
    let mut bench =
        Bench::new(vec![RuleSpec { window: each_minute(Take::Rate), ..rule(out_of(-1.0, 1.0)) }]);
    let belt = bench.belt("7");

    bench.put(belt, 10.0, 1.0);
    bench.put(belt, 10.0, 100.0);
    bench.tick(65.0);

    assert_eq!(bench.said(), [""; 0]);
}

#[test]
fn raises_only_after_windows_that_held_for_long_enough() {
    let mut bench = Bench::new(vec![RuleSpec { hold_for: minutes(2), ..heart_rule() }]);
    let belt = bench.belt("7");

    bench.beat(belt, 0..2, 130.0);
    bench.beat(belt, 2..3, 80.0);
    bench.beat(belt, 3..6, 131.0);
    bench.tick(365.0);

    assert_eq!(bench.said(), ["raised 7 131 @360 (300..360)"]);
}

#[test]
fn does_not_take_a_silence_for_what_must_last() {
    let mut bench = Bench::new(vec![RuleSpec { hold_for: minutes(2), ..heart_rule() }]);
    let belt = bench.belt("7");

    bench.beat(belt, 0..2, 130.0);
    bench.beat(belt, 3..5, 130.0);
    bench.tick(305.0);
    assert_eq!(bench.said(), [""; 0]);
    bench.beat(belt, 5..6, 130.0);
    bench.tick(365.0);

    assert_eq!(bench.said(), ["raised 7 130 @360 (300..360)"]);
}

#[test]
fn sees_no_clock_step() {
    // The offset from monotonic to event time is fixed, so a step of the wall clock does not change
    // the input of the rules, except for times given by another program: an hour back within a
    // window raises nothing, and later windows are judged again.
    let mut bench = Bench::new(vec![heart_rule()]);
    let belt = bench.belt("7");
    bench.beat(belt, 0..60, 80.0);

    for second in 0..3 * 3600 {
        let bpm = if second < 2 * 3600 + 60 { 80.0 } else { 130.0 };
        bench.put_late(belt, seconds(second), seconds(3600 + second), bpm);
    }

    assert_eq!(bench.said(), ["raised 7 130 @7320 (7260..7320)"]);
}
