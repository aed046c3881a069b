//! A value swinging about its limit gives few alerts, and the last alert gives the current state.

use proptest::prelude::*;

use super::*;

fn hot() -> RuleSpec {
    RuleSpec { name: "hot".into(), on: Some("number".into()), ..rule(over(100.0)) }
}

impl Bench {
    /// Folds `count` values, 200 and 60 in turns, from `from` on, a hundred a second.
    fn swing(&mut self, source: SourceId, from: f64, count: u32) {
        for n in 0..count {
            let value = if n % 2 == 0 { 200.0 } else { 60.0 };
            self.put(source, from + f64::from(n) / 100.0, value);
        }
    }

    fn told(&self) -> Vec<&Transition> {
        self.out.iter().filter(|transition| transition.report != Publication::Held).collect()
    }
}

#[test]
fn of_a_value_that_swings_for_eight_seconds_few_alerts_are_told_and_the_last_is_right() {
    let mut bench = Bench::new(vec![hot()]);
    let tank = bench.source("tank", "number");

    bench.swing(tank, 0.0, 801);
    assert_eq!(bench.told().len(), MAX_ALERTS);
    bench.tick(50.0);
    assert_eq!(bench.told().len(), MAX_ALERTS);
    bench.tick(70.0);

    let told = bench.told();
    let last = told.last().expect("alerts");
    assert_eq!(
        (told.len(), last.state, last.report),
        (MAX_ALERTS + 1, AlertState::Raised, Publication::Later)
    );
    assert_eq!(last.time, wall(8.0));
    assert_eq!(bench.rules.counts().flapping, 801 - 20);
}

#[test]
fn what_acts_by_a_rule_sees_each_transition_once() {
    let mut bench = Bench::new(vec![hot()]);
    let tank = bench.source("tank", "number");

    bench.swing(tank, 0.0, 801);
    bench.tick(200.0);

    let seen = bench.out.iter().filter(|transition| transition.report != Publication::Later);
    assert_eq!(seen.count(), 801);
}

#[test]
fn flapping_is_told_when_it_begins_and_when_it_is_over() {
    let mut bench = Bench::new(vec![hot()]);
    let tank = bench.source("tank", "number");
    let flaps = |bench: &mut Bench| {
        let flaps = bench.rules.drain_flaps();
        flaps.map(|flap| (flap.source, flap.suppressed, flap.is_over)).collect::<Vec<_>>()
    };

    bench.swing(tank, 0.0, 20);
    assert_eq!(flaps(&mut bench), []);
    bench.swing(tank, 0.2, 180);
    assert_eq!(flaps(&mut bench), [(tank, 1, false)]);
    bench.tick(66.0);
    assert_eq!(flaps(&mut bench), []);
    bench.tick(67.0);

    assert_eq!(flaps(&mut bench), [(tank, 180, true)]);
    assert_eq!(bench.rules.next_deadline(), None);
}

#[test]
fn a_rule_and_source_that_flap_hold_back_no_other() {
    let mut bench = Bench::new(vec![hot(), RuleSpec { name: "other".into(), ..hot() }]);
    let (tank, other) = (bench.source("tank", "number"), bench.source("other", "number"));

    bench.swing(tank, 0.0, 801);
    bench.put(other, 8.1, 200.0);

    let of_other = bench.told().into_iter().filter(|transition| transition.source == other);
    assert_eq!(of_other.count(), 2, "of both rules");
}

#[test]
fn a_rule_that_changes_nineteen_times_a_minute_is_told_each_time() {
    let mut bench = Bench::new(vec![hot()]);
    let tank = bench.source("tank", "number");

    for n in 0..190_u32 {
        let value = if n % 2 == 0 { 200.0 } else { 60.0 };
        bench.put(tank, f64::from(n) * 60.0 / 19.0, value);
    }

    assert_eq!(bench.told().len(), 190);
}

impl Bench {
    /// Folds a value for each of `times`, 200 and 60 in turns, all arriving within a second from
    /// `arrival` on.
    fn flood(&mut self, source: SourceId, arrival: f64, times: impl IntoIterator<Item = f64>) {
        for (n, at) in (0_u32..).zip(times) {
            let value = if n % 2 == 0 { 200.0 } else { 60.0 };
            self.put_dated(source, at, arrival + f64::from(n) / 10_000.0, value);
        }
    }

    fn flaps(&mut self) -> Vec<bool> {
        self.rules.drain_flaps().map(|flap| flap.is_over).collect()
    }
}

/// Returns `count` times, `step` seconds apart.
fn steps(count: u32, step: f64) -> impl Iterator<Item = f64> {
    (0..count).map(move |n| f64::from(n) * step)
}

#[test]
fn no_times_that_a_program_gives_make_more_alerts_than_a_backlog_has() {
    let a_day_and_back = || (0..5001).map(|n| f64::from(n % 2) * 172_800.0);
    for step in [0.0, 0.001, 3.1, 61.0, 3600.0, f64::NAN] {
        let mut bench = Bench::new(vec![hot()]);
        let tank = bench.source("tank", "number");

        match step.is_nan() {
            true => bench.flood(tank, 0.0, a_day_and_back()),
            false => bench.flood(tank, 0.0, steps(5001, step)),
        }

        assert!(bench.told().len() <= 240, "{} at steps of {step} s", bench.told().len());
        assert_eq!(bench.flaps(), [false], "at steps of {step} s");
        bench.tick(200.0);
        let last = bench.told().last().map(|last| (last.state, last.report));
        assert_eq!(last, Some((AlertState::Raised, Publication::Later)), "at steps of {step} s");
        assert!(bench.told().len() <= 241, "at steps of {step} s");
        assert_eq!(bench.flaps(), [true], "at steps of {step} s");
        assert_eq!(bench.rules.next_deadline(), None);
    }
}

#[test]
fn a_source_whose_time_is_set_back_ceases_to_flap_and_its_last_news_has_the_time_that_holds() {
    let mut bench = Bench::new(vec![hot()]);
    let tank = bench.source("tank", "number");
    // The value is high two days ahead.
    bench.flood(tank, 0.0, (0..501).map(|n| f64::from((n + 1) % 2) * 172_800.0));
    assert_eq!(bench.flaps(), [false]);

    bench.put_dated(tank, 0.0, 1.0, 200.0);
    bench.tick(200.0);

    let last = bench.told().last().map(|last| (last.state, last.report, last.time));
    let (_, _, time) = last.expect("alerts");
    assert_eq!(last, Some((AlertState::Raised, Publication::Later, time)));
    assert!(time <= wall(200.0), "two days later");
    assert_eq!(bench.flaps(), [true]);
}

#[test]
fn a_flood_that_goes_on_is_told_twenty_times_a_minute() {
    let mut bench = Bench::new(vec![hot()]);
    let tank = bench.source("tank", "number");
    bench.flood(tank, 0.0, steps(5001, 61.0));
    let before = bench.told().len();

    for second in 1..=600_u32 {
        let first = f64::from(second) * 1e6;
        bench.flood(tank, f64::from(second), steps(10, 61.0).map(|at| first + at));
    }

    let told = bench.told().len() - before;
    assert!((195..=200).contains(&told), "{told} in ten minutes");
    assert_eq!(bench.flaps(), [false]);
}

#[test]
fn an_hour_of_kept_readings_that_comes_within_a_second_gives_all_its_alerts() {
    let mut bench = Bench::new(vec![hot()]);
    let tank = bench.source("tank", "number");

    bench.flood(tank, 3600.0, steps(BACKLOG_ALERTS, 15.0));

    assert_eq!(bench.told().len(), 240);
    assert!(bench.flaps().is_empty());
}

#[test]
fn a_restart_gives_no_program_more_alerts() {
    let mut bench = Bench::new(vec![hot()]);
    let tank = bench.source("tank", "number");
    bench.flood(tank, 0.0, steps(1000, 61.0));
    let before = bench.told().len();

    let arrival = Some(ArrivalTime { boot: BOOT, mono: mono(0.0) });
    let past = super::history::past(&bench.out);
    let past = past.into_iter().map(|alert| PastAlert { arrival, ..alert });
    bench.rules =
        Rules::begin_rebuild(vec![hot()], past, &bench.sources).expect("valid").finish_rebuild();
    bench.flood(tank, 1.0, steps(1000, 61.0).map(|at| 61_000.0 + at));

    assert!(bench.told().len() <= before + 1, "{} after {before}", bench.told().len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_restart_makes_no_difference_to_what_is_told(
        values in proptest::collection::vec((any::<bool>(), 1_u32..4000), 1..200),
        restart in 0_usize..200,
        ticks in any::<bool>(),
    ) {
        let told = |restart: Option<usize>| {
            let mut bench = Bench::new(vec![hot()]);
            let tank = bench.source("tank", "number");
            let mut folded: Vec<(f64, f64)> = Vec::new();
            let mut at = 0.0;
            for (n, (high, pause_ms)) in values.iter().enumerate() {
                if restart == Some(n) {
                    bench.begin_anew(tank, &folded);
                }
                at += f64::from(*pause_ms) / 1000.0;
                if ticks && restart.is_none() {
                    bench.tick(at);
                }
                let value = if *high { 200.0 } else { 60.0 };
                bench.put(tank, at, value);
                folded.push((at, value));
            }
            bench.tick(at + 1000.0);
            let sources = &bench.sources;
            bench.told().into_iter().map(|one| short(one, sources)).collect::<Vec<_>>()
        };

        prop_assert_eq!(told(Some(restart)), told(None));
    }
}

impl Bench {
    /// Loses the state of the rules, and rebuilds the state from the published alerts and the
    /// readings within the horizon.
    fn begin_anew(&mut self, source: SourceId, folded: &[(f64, f64)]) {
        let past = super::history::past(&self.out);
        let mut rebuild = Rules::begin_rebuild(vec![hot()], past, &self.sources).expect("valid");
        let newest = folded.last().map_or(0.0, |(at, _)| *at);
        for (at, value) in folded {
            if *at >= newest - rebuild.history_length().as_secs_f64() {
                let reading = reading(source, mono(*at), *value);
                let input = TimedReading { reading: &reading, boot: BOOT, event: wall(*at) };
                rebuild.fold_stored(&input, &self.sources);
            }
        }
        self.rules = rebuild.finish_rebuild();
    }
}
