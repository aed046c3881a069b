//! Rules without a window, broken clocks, and invalid rules.

use super::*;

fn lid_rule() -> RuleSpec {
    RuleSpec { on: Some("lid".into()), ..rule(is("open")) }
}

#[test]
fn raises_at_once_and_clears_at_once() {
    let mut bench = Bench::new(vec![rule(out_of(40.0, 120.0))]);
    let belt = bench.belt("7");

    for (at, bpm) in [(0.0, 120.0), (1.0, 121.0), (2.0, 130.0), (3.0, 120.0), (4.0, 40.0)] {
        bench.put(belt, at, bpm);
    }

    assert_eq!(bench.said(), ["raised 7 121 @1", "cleared 7 120 @3"]);
}

#[test]
fn goes_from_one_side_to_the_other_without_a_second_alert() {
    let mut bench = Bench::new(vec![rule(out_of(40.0, 120.0))]);
    let belt = bench.belt("7");

    bench.put(belt, 0.0, 130.0);
    bench.put(belt, 1.0, 30.0);

    assert_eq!(bench.said(), ["raised 7 130 @0"]);
}

#[test]
fn holds_while_the_state_is_the_word() {
    let mut bench = Bench::new(vec![lid_rule()]);
    let lid = bench.source("feeder", "lid");

    for (at, state) in [(0.0, "closed"), (1.0, "open"), (2.0, "open"), (3.0, "ajar")] {
        bench.put(lid, at, state);
    }

    assert_eq!(bench.said(), ["raised feeder open @1", "cleared feeder ajar @3"]);
}

#[test]
fn has_no_opinion_on_a_value_of_the_other_kind() {
    let mut bench = Bench::new(vec![
        lid_rule(),
        RuleSpec { name: "b".into(), on: Some("lid".into()), ..rule(over(1.0)) },
    ]);
    let lid = bench.source("feeder", "lid");

    bench.put(lid, 0.0, "open");
    bench.put(lid, 1.0, 2.0);
    bench.put(lid, 2.0, "open");

    assert_eq!(bench.said(), ["raised feeder open @0", "raised feeder 2 @1"]);
}

#[test]
fn covers_a_kind_a_source_or_a_source_of_a_kind() {
    let named = |name: &str, on: Option<&str>, source: Option<&str>| RuleSpec {
        name: name.into(),
        on: on.map(Into::into),
        source: source.map(Into::into),
        ..rule(over(1.0))
    };
    let mut bench = Bench::new(vec![
        named("kind", Some("number"), None),
        named("source", None, Some("7")),
        named("both", Some("number"), Some("7")),
    ]);
    let readings = [
        bench.source("air", "number"),
        bench.belt("7"),
        bench.source("7", "number"),
        bench.belt("8"),
    ];

    for source in readings {
        bench.put(source, 0.0, 2.0);
    }

    let raised: Vec<_> = bench.out.iter().map(|t| (&*t.rule.name, t.source.0)).collect();
    assert_eq!(raised, [("kind", 0), ("source", 1), ("kind", 2), ("source", 2), ("both", 2)]);
}

#[test]
fn does_not_use_a_reading_older_than_the_one_before() {
    let mut bench = Bench::new(vec![rule(over(120.0))]);
    let belt = bench.belt("7");

    bench.put(belt, 2.0, 80.0);
    bench.put_late(belt, 1.0, 2.5, 130.0);

    assert_eq!(bench.said(), [""; 0]);
    assert_eq!(bench.rules.counts().late, 1);
}

#[test]
fn raises_when_the_cool_down_ends_what_still_holds_though_nothing_more_is_read() {
    let mut bench = Bench::new(vec![RuleSpec { at_most_every: Some(minutes(10)), ..lid_rule() }]);
    let lid = bench.source("feeder", "lid");
    for (at, state) in
        [(0.0, "open"), (1.0, "closed"), (2.0, "open"), (3.0, "closed"), (4.0, "open")]
    {
        bench.put(lid, at, state);
    }

    assert_eq!(bench.rules.next_deadline(), Some(mono(605.0)));
    bench.tick(605.0);

    let said = ["raised feeder open @0", "cleared feeder closed @1", "raised feeder open @600"];
    assert_eq!(bench.said(), said);
    assert_eq!(bench.rules.counts().suppressed, 2);
    assert_eq!(bench.rules.next_deadline(), None);
}

#[test]
fn raises_at_the_end_of_the_cool_down_also_when_the_next_reading_comes_later() {
    let mut bench = Bench::new(vec![RuleSpec { at_most_every: Some(minutes(10)), ..lid_rule() }]);
    let lid = bench.source("feeder", "lid");

    for (at, state) in [(0.0, "open"), (1.0, "closed"), (2.0, "open"), (700.0, "closed")] {
        bench.put(lid, at, state);
    }

    assert_eq!(bench.said()[2..], ["raised feeder open @600", "cleared feeder closed @700"]);
}

#[test]
fn says_nothing_of_what_ended_within_the_cool_down() {
    let mut bench = Bench::new(vec![RuleSpec { at_most_every: Some(minutes(10)), ..lid_rule() }]);
    let lid = bench.source("feeder", "lid");

    for (at, state) in [(0.0, "open"), (1.0, "closed"), (2.0, "open"), (599.0, "closed")] {
        bench.put(lid, at, state);
    }
    bench.tick(1000.0);

    assert_eq!(bench.said(), ["raised feeder open @0", "cleared feeder closed @1"]);
}

#[test]
fn raises_what_held_for_long_enough_though_nothing_more_is_read() {
    let mut bench = Bench::new(vec![RuleSpec { hold_for: minutes(10), ..lid_rule() }]);
    let lid = bench.source("feeder", "lid");
    for (at, state) in [(0.0, "open"), (599.0, "closed"), (600.0, "open")] {
        bench.put(lid, at, state);
    }

    bench.tick(1199.999);
    assert_eq!(bench.said(), [""; 0]);
    assert_eq!(bench.rules.next_deadline(), Some(mono(1200.0)));
    bench.tick(1200.0);

    assert_eq!(bench.said(), ["raised feeder open @1200"]);
}

#[test]
fn waits_for_what_may_be_late_before_it_believes_that_something_lasted() {
    let mut bench = Bench::new(vec![RuleSpec { hold_for: minutes(10), ..lid_rule() }]);
    let lid = bench.source("feeder", "lid");
    bench.put_dated(lid, 0.0, 0.0, "open");
    bench.put_dated(lid, 601.0, 601.0, "open");
    bench.put_dated(lid, 300.0, 604.0, "closed");

    bench.tick(1205.999);
    assert_eq!(bench.said(), [""; 0]);
    assert_eq!(bench.rules.next_deadline(), Some(mono(1206.0)));
    bench.tick(1206.0);

    assert_eq!(bench.said(), ["raised feeder open @1201"]);
}

#[test]
fn waits_for_what_must_last_and_for_the_cool_down_side_by_side() {
    let spec = RuleSpec { hold_for: minutes(1), at_most_every: Some(minutes(10)), ..lid_rule() };
    let mut bench = Bench::new(vec![spec]);
    let lid = bench.source("feeder", "lid");

    for (at, state) in [(0.0, "open"), (61.0, "closed"), (62.0, "open"), (800.0, "closed")] {
        bench.put(lid, at, state);
    }

    let said = ["raised feeder open @60", "cleared feeder closed @61", "raised feeder open @660"];
    assert_eq!(bench.said()[..3], said);
}

#[test]
fn clears_only_beyond_the_other_threshold() {
    let clear = Clear { below: Some(110.0), above: Some(50.0), ..Clear::default() };
    let mut bench = Bench::new(vec![RuleSpec { clear, ..rule(out_of(40.0, 120.0)) }]);
    let belt = bench.belt("7");

    for (at, bpm) in [(0.0, 119.0), (1.0, 121.0), (2.0, 110.0), (3.0, 121.0), (4.0, 109.0)] {
        bench.put(belt, at, bpm);
    }
    for (at, bpm) in [(5.0, 39.0), (6.0, 50.0), (7.0, 115.0), (8.0, 51.0)] {
        bench.put(belt, at, bpm);
    }

    let said = ["raised 7 121 @1", "cleared 7 109 @4", "raised 7 39 @5", "cleared 7 51 @8"];
    assert_eq!(bench.said(), said);
}

#[test]
fn clears_only_what_stayed_clear_for_long_enough() {
    let clear = Clear { hold_for: minutes(1), ..Clear::default() };
    let mut bench = Bench::new(vec![RuleSpec { clear, ..rule(over(120.0)) }]);
    let belt = bench.belt("7");

    for (at, bpm) in [(0.0, 121.0), (1.0, 80.0), (60.0, 121.0), (61.0, 80.0)] {
        bench.put(belt, at, bpm);
    }
    bench.tick(126.0);

    assert_eq!(bench.said(), ["raised 7 121 @0", "cleared 7 80 @121"]);
}

const CENTURY: f64 = 2_300_000_000.0;

#[test]
fn sets_one_broken_timestamp_aside() {
    let mut bench = Bench::new(vec![heart_rule()]);
    let belt = bench.belt("7");
    bench.beat(belt, 0..1, 130.0);

    bench.put_late(belt, CENTURY, 60.0, 200.0);
    bench.beat(belt, 1..2, 80.0);
    bench.put_late(belt, CENTURY, 120.0, 200.0);
    bench.tick(125.0);

    assert_eq!(bench.said(), ["raised 7 130 @60 (0..60)", "cleared 7 80 @120 (60..120)"]);
    assert_eq!(bench.rules.counts(), RuleCounts { doubtful: 2, ..RuleCounts::default() });
}

#[test]
fn does_not_depend_on_a_first_timestamp_that_is_broken() {
    let mut bench = Bench::new(vec![heart_rule()]);
    let belt = bench.belt("7");

    bench.put_late(belt, CENTURY, 0.0, 80.0);
    bench.beat(belt, 0..1, 130.0);
    bench.tick(65.0);

    assert_eq!(bench.said(), ["raised 7 130 @60 (0..60)"]);
}

#[test]
fn follows_a_source_that_keeps_to_a_time_far_ahead() {
    let mut bench = Bench::new(vec![heart_rule()]);
    let belt = bench.belt("7");
    bench.beat(belt, 0..1, 130.0);

    for second in 0..125 {
        let at = CENTURY + seconds(second);
        bench.put_late(belt, at, seconds(60 + second), 80.0);
    }

    let said = bench.said();
    assert_eq!(said.len(), 2);
    assert!(said[1].starts_with("cleared 7 80 @2300000"), "{}", said[1]);
    assert_eq!(bench.rules.counts().doubtful, 1);
}

#[test]
fn goes_back_with_a_source_that_was_far_ahead_after_an_hour() {
    let mut bench = Bench::new(vec![heart_rule()]);
    let belt = bench.belt("7");
    for second in 0..120 {
        bench.put_late(belt, CENTURY + seconds(second), seconds(second), 130.0);
    }
    assert_eq!(bench.out.len(), 1);

    bench.beat(belt, 2..65, 80.0);

    assert_eq!(bench.said()[1], "cleared 7 80 @3780 (3720..3780)");
    assert_eq!(bench.rules.counts(), RuleCounts { doubtful: 3600, ..RuleCounts::default() });
}

#[test]
fn survives_times_and_numbers_at_the_ends_of_their_range() {
    let mut bench = Bench::new(vec![
        heart_rule(),
        RuleSpec { name: "b".into(), at_most_every: Some(Duration::MAX), ..rule(over(1.0)) },
    ]);
    let belt = bench.belt("7");
    let events = [i64::MIN, i64::MAX, 0, i64::MAX, i64::MAX - 1, i64::MIN, i64::MIN + 1];

    for (event, number) in events
        .into_iter()
        .cycle()
        .take(70)
        .zip([f64::MAX, f64::NAN, f64::MIN, f64::INFINITY, -0.0].into_iter().cycle())
    {
        for mono in [0, u64::MAX] {
            let reading = reading(belt, Mono(mono), number);
            let input = TimedReading { reading: &reading, boot: BOOT, event: Wall(event) };
            bench.rules.fold_reading(&input, &bench.sources, &mut bench.out);
            bench.rules.advance_time(BOOT, Mono(u64::MAX), &mut bench.out);
        }
    }

    let told = bench.out.iter().all(|t| matches!(&t.value, Value::Number(n) if n.is_finite()));
    assert!(told, "{:?}", bench.said());
}
