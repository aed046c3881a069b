//! Rules over several sources (SO-1), on silence, and on anomalies (AN-1).

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn member(source: &str, test: Test) -> Member {
    Member { source: source.into(), on: None, test }
}

fn state(source: &str, word: &str) -> Member {
    member(source, Test::Is(word.into()))
}

fn headlights(within: Option<Duration>) -> RuleSpec {
    let members = vec![state("engine", "off"), state("door", "closed"), state("headlights", "on")];
    RuleSpec { on: None, ..rule(Condition::All { members, within }) }
}

/// Returns engine, door and headlights, in the state of a drive a minute before [`START`].
fn car(rules: Vec<RuleSpec>) -> (Bench, [SourceId; 3]) {
    let mut bench = Bench::new(rules);
    let car = ["engine", "door", "headlights"].map(|name| bench.source(name, "state"));
    for (source, state) in car.into_iter().zip(["on", "open", "off"]) {
        bench.put(source, -60.0, state);
    }
    (bench, car)
}

#[test]
fn raises_one_alert_when_all_hold_in_whatever_order_they_arrive() {
    let told = [(0, 0.0, "off"), (1, 2.0, "closed"), (2, 4.0, "on")];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let (mut bench, car) = car(vec![headlights(Some(5 * SECOND))]);

        for (place, arrival) in order.into_iter().zip([4.0, 6.5, 9.0]) {
            assert_eq!(bench.said(), [""; 0], "{order:?}");
            let (source, at, state) = told[place];
            bench.put_late(car[source], at, arrival, state);
        }
        assert_eq!(bench.said(), ["raised engine off @4"], "{order:?}");
        for (second, (source, _, state)) in (20..).zip(told) {
            bench.put(car[source], seconds(second), state);
        }
        bench.put(car[1], 30.0, "open");

        let said = ["raised engine off @4", "cleared engine off @30"];
        assert_eq!(bench.said(), said, "{order:?}");
    }
}

#[test]
fn does_not_put_together_what_lies_too_far_apart() {
    let (mut bench, [engine, door, headlights]) = car(vec![headlights(Some(5 * SECOND))]);

    bench.put(headlights, 0.0, "on");
    bench.put(door, 1.0, "closed");
    bench.put(engine, 5.001, "off");
    assert_eq!(bench.said(), [""; 0]);
    bench.put(headlights, 6.0, "on");

    assert_eq!(bench.said(), ["raised engine off @6"]);
}

#[test]
fn puts_levels_together_however_old_they_are_if_not_asked_otherwise() {
    let (mut bench, [engine, door, headlights]) = car(vec![headlights(None)]);

    bench.put(headlights, 0.0, "on");
    bench.put(door, 1000.0, "closed");
    bench.put(engine, 2000.0, "off");

    assert_eq!(bench.said(), ["raised engine off @2000"]);
}

#[test]
fn does_not_go_back_to_a_state_that_is_older_than_the_one_known() {
    let (mut bench, [engine, door, headlights]) = car(vec![headlights(Some(5 * SECOND))]);

    bench.put(engine, 0.0, "off");
    bench.put(door, 3.0, "closed");
    bench.put_late(door, 2.0, 3.5, "open");
    bench.put(headlights, 4.0, "on");

    assert_eq!(bench.said(), ["raised engine off @4"]);
    assert_eq!(bench.rules.counts().late, 1);
}

#[test]
fn raises_when_one_of_several_holds_and_clears_when_none_does() {
    let over =
        |source, above| member(source, Test::Outside(Range { above: Some(above), below: None }));
    let any = vec![over("air", 30.0), over("water", 20.0), state("lid", "open")];
    let mut bench =
        Bench::new(vec![RuleSpec { on: None, ..rule(Condition::Any { members: any }) }]);
    let [air, water, lid] = [("air", "number"), ("water", "number"), ("lid", "lid")]
        .map(|(name, kind)| bench.source(name, kind));

    bench.put(air, 0.0, 30.0);
    bench.put(water, 1.0, 21.0);
    bench.put(lid, 2.0, "open");
    bench.put(water, 3.0, 19.0);
    bench.put(air, 4.0, 31.0);
    bench.put(lid, 5.0, "closed");
    bench.put(air, 6.0, 29.0);

    assert_eq!(bench.said(), ["raised water 21 @1", "cleared water 19 @6"]);
}

#[test]
fn keeps_what_several_raised_together_across_a_restart() {
    let (mut bench, [engine, door, headlights]) = car(vec![headlights(Some(5 * SECOND))]);
    bench.put(engine, 0.0, "off");
    bench.put(door, 1.0, "closed");
    bench.put(headlights, 2.0, "on");

    bench.forget();
    bench.put(headlights, 10.0, "on");
    bench.put(engine, 11.0, "off");
    assert_eq!(bench.out.len(), 1);
    bench.put(door, 12.0, "open");

    assert_eq!(bench.said()[1..], ["cleared engine off @12"]);
}

#[test]
fn asks_several_together_to_hold_for_a_while() {
    let spec = RuleSpec { hold_for: minutes(1), ..headlights(Some(5 * SECOND)) };
    let (mut bench, [engine, door, headlights]) = car(vec![spec]);
    bench.put(engine, 0.0, "off");
    bench.put(door, 1.0, "closed");
    bench.put(headlights, 2.0, "on");
    bench.put(headlights, 40.0, "on");

    assert_eq!(bench.rules.next_deadline(), Some(mono(62.0)));
    bench.tick(62.0);

    assert_eq!(bench.said(), ["raised engine off @62"]);
}

fn silent(after: u64, expected: &[&str]) -> RuleSpec {
    let expected = expected.iter().map(|name| Source::new(name, "heart_rate").unwrap()).collect();
    rule(Condition::Silent { after: Duration::from_secs(after), expected })
}

impl Bench {
    fn begin(&mut self, at: f64) {
        self.rules.await_sources(BOOT, mono(at), wall(at), &self.sources);
    }
}

#[test]
fn raises_when_a_source_falls_silent_and_clears_when_it_speaks() {
    let mut bench = Bench::new(vec![silent(60, &[])]);
    let belt = bench.belt("7");
    bench.put(belt, 0.0, 80.0);
    bench.put(belt, 59.0, 80.0);

    assert_eq!(bench.rules.next_deadline(), Some(mono(60.0)));
    bench.tick(118.999);
    assert_eq!(bench.said(), [""; 0]);
    bench.tick(119.0);
    assert_eq!(bench.said(), ["raised 7 60 @119"]);
    assert_eq!(bench.rules.next_deadline(), None);
    bench.tick(1000.0);
    bench.put(belt, 1059.0, 0.0);

    assert_eq!(bench.said()[1..], ["cleared 7 1000 @1059"]);
}

#[test]
fn raises_for_a_source_that_never_spoke_since_the_start() {
    let mut bench = Bench::new(vec![silent(60, &["3", "7"])]);
    let seven = bench.belt("7");
    bench.begin(0.0);
    bench.put(seven, 30.0, 80.0);

    bench.tick(60.0);
    assert_eq!(bench.said(), ["raised 3 60 @60"]);
    bench.tick(90.0);
    let three = bench.belt("3");
    bench.put_late(three, CENTURY, 100.0, 80.0);

    assert_eq!(bench.said()[1..], ["raised 7 60 @90", "cleared 3 100 @100"]);
}

const CENTURY: f64 = 2_300_000_000.0;

#[test]
fn does_not_take_the_agents_own_absence_for_silence() {
    let mut bench = Bench::new(vec![silent(60, &["7"])]);
    let belt = bench.belt("7");
    bench.begin(0.0);
    bench.put(belt, 10.0, 80.0);
    let unexpected = bench.belt("guest");
    bench.put(unexpected, 10.0, 80.0);

    bench.forget();
    bench.begin(1000.0);
    bench.tick(1059.0);
    assert_eq!(bench.said(), [""; 0]);
    bench.tick(1060.0);

    assert_eq!(bench.said(), ["raised 7 60 @1060"]);
}

#[test]
fn does_not_take_the_absence_before_the_last_start_for_silence() {
    let mut bench = Bench::new(vec![silent(60, &["7"])]);
    let (belt, other) = (bench.belt("7"), bench.source("air", "number"));
    let folded = [(belt, 0.0), (other, 101.0)];
    bench.put(belt, 0.0, 80.0);
    // The agent was off from 1 to 100 s, and starts again at 102 s.
    bench.forget();
    bench.begin(100.0);
    bench.put(other, 101.0, 20.0);

    let mut rebuild = Rules::begin_rebuild(vec![silent(60, &["7"])], [], &bench.sources).unwrap();
    for (source, at) in folded {
        let reading = reading(source, mono(at), 80.0);
        rebuild.fold_stored(
            &TimedReading { reading: &reading, boot: BOOT, event: wall(at) },
            &bench.sources,
        );
    }
    bench.rules = rebuild.finish_rebuild();
    bench.begin(102.0);
    bench.tick(161.0);
    assert_eq!(bench.said(), [""; 0]);
    bench.tick(162.0);

    assert_eq!(bench.said(), ["raised 7 60 @162"]);
}

#[test]
fn does_not_take_a_clock_that_steps_for_silence() {
    let mut bench = Bench::new(vec![silent(60, &["7"])]);
    let belt = bench.belt("7");
    bench.begin(0.0);

    for (at, arrival) in
        [(0.0, 1.0), (3600.0, 30.0), (10.0, 60.0), (CENTURY, 90.0), (CENTURY, 120.0)]
    {
        bench.put_late(belt, at, arrival, 80.0);
    }
    bench.tick(179.999);
    assert_eq!(bench.said(), [""; 0]);
    bench.tick(180.0);

    assert_eq!(bench.out.len(), 1);
}

#[test]
fn keeps_a_silence_that_was_raised_across_a_restart() {
    let mut bench = Bench::new(vec![silent(60, &["7"])]);
    bench.begin(0.0);
    bench.tick(60.0);

    bench.forget();
    bench.begin(100.0);
    bench.tick(1000.0);
    assert_eq!(bench.out.len(), 1);
    let belt = bench.belt("7");
    bench.put(belt, 1010.0, 80.0);

    assert_eq!(bench.said(), ["raised 7 60 @60", "cleared 7 910 @1010"]);
}

/// Returns the values of AN-1, one per second: 10 to 20, and one in a hundred from 100 to 120.
fn an_1(seed: u64) -> Vec<f64> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut value = || match random.f64() < 0.01 {
        true => 100.0 + 20.0 * random.f64(),
        false => 10.0 + 10.0 * random.f64(),
    };
    (0..10_000).map(|_| value()).collect()
}

#[test]
fn finds_without_a_threshold_what_a_threshold_finds_once_it_has_learnt() {
    let anomaly = Condition::Anomaly { learn: minutes(10), score: 5.0 };
    let named = |name: &str, spec: RuleSpec| RuleSpec { name: name.into(), ..spec };
    for seed in [1, 7, 4711, fastrand::u64(..)] {
        println!("seed {seed}");
        let mut bench = Bench::new(vec![
            named("threshold", rule(over(50.0))),
            named("anomaly", rule(anomaly.clone())),
        ]);
        let belt = bench.belt("7");

        for (second, value) in (0..).zip(an_1(seed)) {
            bench.put(belt, seconds(second), value);
        }

        let learnt = wall(400.0);
        let of = |name: &str| -> Vec<(AlertState, Wall)> {
            let own = bench.out.iter().filter(|t| &*t.rule.name == name && t.time > learnt);
            own.map(|t| (t.state, t.time)).collect()
        };
        assert!(of("threshold").len() > 100);
        assert_eq!(of("anomaly"), of("threshold"));
        let scores = bench.out.iter().filter(|t| &*t.rule.name == "anomaly");
        assert!(scores.clone().all(|t| t.score.is_some() && t.time > wall(260.0)));
    }
}

#[test]
fn believes_a_new_level_once_it_has_lasted() {
    let anomaly = Condition::Anomaly { learn: minutes(10), score: 5.0 };
    let mut bench = Bench::new(vec![rule(anomaly)]);
    let belt = bench.belt("7");

    for second in 0..3600 {
        let level = if second < 1800 { 20.0 } else { 40.0 };
        bench.put(
            belt,
            seconds(second),
            level + f64::from(i32::try_from(second % 7).unwrap()) / 10.0,
        );
    }

    let said = bench.said();
    assert_eq!(said[0], "raised 7 40.1 @1800");
    let [_, cleared] = &bench.out[..] else { panic!("{said:?}") };
    assert!((wall(2040.0)..wall(2200.0)).contains(&cleared.time), "{said:?}");
}

#[test]
fn does_not_mind_the_last_digit_of_a_value_that_stood_still() {
    let mut bench = Bench::new(vec![rule(Condition::Anomaly { learn: minutes(10), score: 5.0 })]);
    let belt = bench.belt("7");
    for second in 0..1200 {
        bench.put(belt, seconds(second), 20.0);
    }

    bench.put(belt, 1200.0, 20.1);
    assert_eq!(bench.said(), [""; 0]);
    bench.put(belt, 1201.0, 25.0);

    assert_eq!(bench.said(), ["raised 7 25 @1201"]);
}
