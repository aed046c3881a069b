//! Restarts of the agent and of the kernel.

use super::*;

/// Returns the stored alerts of the transitions, without arrivals.
pub(super) fn past(out: &[Transition]) -> Vec<PastAlert<'_>> {
    out.iter()
        .filter(|transition| transition.report != Publication::Held)
        .map(|transition| PastAlert {
            rule: &transition.rule.name,
            source: transition.source,
            state: transition.state,
            time: transition.time,
            arrival: None,
            window_end: transition.window.map(|(_, end)| end),
        })
        .collect()
}

impl Bench {
    /// Loses the state of the rules, and rebuilds the state from the alerts alone.
    pub(super) fn forget(&mut self) {
        let specs = self.rules.rules.iter().map(|rule| RuleSpec::clone(rule)).collect();
        let rebuild = Rules::begin_rebuild(specs, past(&self.out), &self.sources);
        self.rules = rebuild.unwrap().finish_rebuild();
    }
}

#[test]
fn raises_no_second_alert_after_a_restart() {
    let mut bench = Bench::new(vec![heart_rule()]);
    let belt = bench.belt("7");
    bench.beat(belt, 0..1, 130.0);
    bench.tick(65.0);

    bench.forget();
    bench.beat(belt, 2..3, 130.0);
    bench.beat(belt, 3..4, 80.0);
    bench.tick(245.0);

    assert_eq!(bench.said(), ["raised 7 130 @60 (0..60)", "cleared 7 80 @240 (180..240)"]);
}

#[test]
fn decides_for_a_silent_source_with_the_next_reading_of_any_other() {
    // Due transitions are stored with the next reading, so a later restart need not look back
    // further.
    let mut bench = Bench::new(vec![heart_rule()]);
    let (three, seven) = (bench.belt("3"), bench.belt("7"));
    bench.put(three, 0.0, 130.0);

    bench.put(seven, 3600.0, 80.0);
    bench.forget();
    bench.tick(7200.0);

    assert_eq!(bench.said(), ["raised 3 130 @60 (0..60)"]);
}

#[test]
fn keeps_a_cool_down_across_a_restart() {
    let mut bench =
        Bench::new(vec![RuleSpec { at_most_every: Some(minutes(3)), ..rule(over(120.0)) }]);
    let belt = bench.belt("7");
    bench.put(belt, 0.0, 130.0);
    bench.put(belt, 1.0, 80.0);

    bench.forget();
    bench.put(belt, 2.0, 130.0);
    bench.put(belt, 181.0, 131.0);

    assert_eq!(bench.said()[2..], ["raised 7 130 @180"]);
}

#[test]
fn stays_on_the_grid_when_the_length_of_a_window_changes_with_a_restart() {
    let counting = |seconds| RuleSpec {
        window: tumbling(Duration::from_secs(seconds), Take::Count),
        ..rule(over(0.0))
    };
    let mut bench = Bench::new(vec![counting(7)]);
    let belt = bench.belt("7");
    bench.put(belt, 30.0, 80.0);
    bench.tick(40.0);
    assert_eq!(bench.out.len(), 1);

    let mut rebuild =
        Rules::begin_rebuild(vec![counting(60)], past(&bench.out), &bench.sources).unwrap();
    let only = reading(belt, mono(30.0), 80.0);
    rebuild.fold_stored(
        &TimedReading { reading: &only, boot: BOOT, event: wall(30.0) },
        &bench.sources,
    );
    bench.rules = rebuild.finish_rebuild();
    bench.tick(300.0);

    assert_eq!(bench.said()[1..], ["cleared 7 0 @120 (60..120)"]);
}

#[test]
fn raises_no_second_time_for_a_reading_that_came_too_late_before_a_restart() {
    let mut bench =
        Bench::new(vec![RuleSpec { hold_for: Duration::from_secs(8), ..rule(over(120.0)) }]);
    let belt = bench.belt("7");
    let told = [(0.0, 0.0, 80.0), (0.0, 15.0, 130.0), (15.0, 15.5, 80.0)];
    bench.put_dated(belt, 0.0, 0.0, 80.0);
    bench.tick(14.0);
    told[1..].iter().for_each(|(at, arrival, bpm)| bench.put_dated(belt, *at, *arrival, *bpm));
    bench.tick(30.0);
    assert_eq!(bench.said(), ["raised 7 130 @8", "cleared 7 80 @15"]);

    let specs = bench.rules.rules.iter().map(|rule| RuleSpec::clone(rule)).collect();
    let mut rebuild = Rules::begin_rebuild(specs, past(&bench.out), &bench.sources).unwrap();
    for (at, arrival, bpm) in told {
        let event = wall(at);
        let reading = Reading { time: Some(event), ..reading(belt, mono(arrival), bpm) };
        rebuild.fold_stored(&TimedReading { reading: &reading, boot: BOOT, event }, &bench.sources);
    }
    bench.rules = rebuild.finish_rebuild();
    bench.tick(60.0);

    assert_eq!(bench.out.len(), 2);
}

#[test]
fn passes_over_the_alerts_of_rules_and_sources_that_are_no_more() {
    let alert = |rule, source| PastAlert {
        rule,
        source: SourceId(source),
        state: AlertState::Raised,
        time: wall(0.0),
        arrival: None,
        window_end: None,
    };
    let mut bench = Bench::new(Vec::new());
    let belt = bench.belt("7");
    let alerts = [alert("no more", belt.0), alert("out of range", 4711)];

    bench.rules = Rules::begin_rebuild(vec![rule(over(120.0))], alerts, &bench.sources)
        .unwrap()
        .finish_rebuild();
    bench.put(belt, 1.0, 130.0);

    assert_eq!(bench.said(), ["raised 7 130 @1"]);
}

#[test]
fn forgets_an_alert_of_the_future_but_for_its_being_raised() {
    let mut bench = Bench::new(vec![heart_rule()]);
    let belt = bench.belt("7");
    let alert = PastAlert {
        rule: "out of range",
        source: belt,
        state: AlertState::Raised,
        time: Wall(4_070_908_800_000),
        arrival: None,
        window_end: Some(Wall(4_070_908_800_000)),
    };
    let mut rebuild = Rules::begin_rebuild(vec![heart_rule()], [alert], &bench.sources).unwrap();
    let first = reading(belt, mono(0.0), 80.0);
    rebuild.fold_stored(
        &TimedReading { reading: &first, boot: BOOT, event: wall(0.0) },
        &bench.sources,
    );

    bench.rules = rebuild.finish_rebuild();
    bench.beat(belt, 0..1, 80.0);
    bench.tick(65.0);

    assert_eq!(bench.said(), ["cleared 7 80 @60 (0..60)"]);
}

#[test]
fn goes_on_after_a_kernel_start_where_the_source_had_stopped() {
    let mut bench = Bench::new(vec![heart_rule()]);
    let belt = bench.belt("7");
    bench.put(belt, 30.0, 130.0);
    let next = KernelBoot(2);

    bench.rules.advance_time(next, Mono(34_999), &mut bench.out);
    assert_eq!(bench.said(), [""; 0]);
    assert_eq!(bench.rules.next_deadline(), Some(Mono(35_000)));
    bench.rules.advance_time(next, Mono(35_000), &mut bench.out);

    assert_eq!(bench.said(), ["raised 7 130 @60 (0..60)"]);
}

#[test]
fn takes_up_a_source_after_the_device_was_off_for_a_month() {
    let mut bench = Bench::new(vec![heart_rule()]);
    let belt = bench.belt("7");
    bench.beat(belt, 0..1, 130.0);
    let month = 30 * 24 * 3600;

    for second in 0..61 {
        let reading = reading(belt, Mono(20_000 + u64::try_from(second).unwrap() * 1000), 80.0);
        let event = wall(seconds(month + second));
        bench.rules.fold_reading(
            &TimedReading { reading: &reading, boot: KernelBoot(2), event },
            &bench.sources,
            &mut bench.out,
        );
    }
    bench.rules.advance_time(KernelBoot(2), Mono(86_000), &mut bench.out);

    let cleared = "cleared 7 80 @2592060 (2592000..2592060)";
    assert_eq!(bench.said(), ["raised 7 130 @60 (0..60)", cleared]);
    assert_eq!(bench.rules.counts(), RuleCounts::default());
}
