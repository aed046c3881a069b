//! The fold gives the same transitions with or without ticks and with restarts anywhere, for every
//! form of rule; `orders.rs` tests the order of arrival. A failure prints its input and its seed,
//! stored by proptest in a file.

use std::collections::{HashMap, HashSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::history::past;
use super::*;
use crate::rules::sum::ExactSum;

/// A reading of one of three sources: its event time and its arrival in milliseconds after
/// [`START`], and its value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    pub(super) source: u32,
    pub(super) event: i64,
    pub(super) arrival: i64,
    pub(super) number: f64,
    /// `true` if the reading has a time of its own.
    pub(super) dated: bool,
}

pub(super) fn specs() -> Vec<RuleSpec> {
    let window = |millis, take| tumbling(Duration::from_millis(millis), take);
    let named = |name: &str, spec: RuleSpec| RuleSpec { name: name.into(), ..spec };
    let cool = Some(Duration::from_secs(45));
    vec![
        named("mean", RuleSpec { window: window(10_000, Take::Mean), ..rule(out_of(99.0, 101.0)) }),
        named(
            "max",
            RuleSpec { window: window(7_000, Take::Max), at_most_every: cool, ..rule(over(118.0)) },
        ),
        named(
            "min",
            RuleSpec { window: window(1_000, Take::Min), at_most_every: cool, ..rule(under(90.0)) },
        ),
        named(
            "few",
            RuleSpec {
                window: window(5_000, Take::Count),
                at_most_every: cool,
                ..rule(under(2.0))
            },
        ),
        named("many", RuleSpec { window: window(3_000, Take::Count), ..rule(over(2.0)) }),
        named(
            "sliding",
            RuleSpec {
                window: sliding(20, 1, Take::Mean),
                clear: Clear { below: Some(100.0), ..Clear::default() },
                ..rule(over(101.0))
            },
        ),
        named(
            "sum",
            RuleSpec {
                window: sliding(12, 4, Take::Sum),
                hold_for: Duration::from_secs(9),
                at_most_every: cool,
                ..rule(under(400.0))
            },
        ),
        named(
            "rate",
            RuleSpec {
                window: sliding(10, 5, Take::Rate),
                clear: Clear { hold_for: Duration::from_secs(30), ..Clear::default() },
                ..rule(out_of(-60.0, 60.0))
            },
        ),
        named(
            "lull",
            RuleSpec {
                window: sliding(30, 3, Take::Count),
                clear: Clear {
                    above: Some(12.0),
                    hold_for: Duration::from_secs(7),
                    ..Clear::default()
                },
                ..rule(under(10.0))
            },
        ),
    ]
}

/// Returns rules that decide on each reading at once.
pub(super) fn at_once() -> Vec<RuleSpec> {
    let cool = Some(Duration::from_secs(45));
    let anomaly = Condition::Anomaly { learn: Duration::from_secs(80), score: 1.5 };
    let clear = Clear { below: Some(100.0), ..Clear::default() };
    let mut specs = vec![
        RuleSpec { name: "level".into(), ..rule(over(110.0)) },
        RuleSpec { name: "calm".into(), at_most_every: cool, ..rule(over(105.0)) },
        RuleSpec { name: "hysteresis".into(), clear, ..rule(over(115.0)) },
        RuleSpec { name: "unlike".into(), ..rule(anomaly) },
    ];
    specs.extend(together(Duration::ZERO, None));
    specs
}

/// Returns rules with a duration.
pub(super) fn lasting() -> Vec<RuleSpec> {
    let cool = Some(Duration::from_secs(45));
    let hold_for = Duration::from_secs(4);
    let clear = Clear { below: Some(90.0), hold_for: Duration::from_secs(2), ..Clear::default() };
    let anomaly = Condition::Anomaly { learn: Duration::from_secs(80), score: 1.2 };
    let mut specs = vec![
        RuleSpec { name: "long".into(), hold_for, at_most_every: cool, clear, ..rule(over(95.0)) },
        RuleSpec { name: "a while".into(), hold_for: hold_for / 4, ..rule(under(100.0)) },
        RuleSpec { name: "unlike for a while".into(), hold_for: hold_for / 4, ..rule(anomaly) },
    ];
    specs.extend(together(Duration::from_secs(2), cool));
    specs
}

/// Returns rules over the three sources together.
pub(super) fn together(hold_for: Duration, at_most_every: Option<Duration>) -> Vec<RuleSpec> {
    let member = |source: &str, above| Member {
        source: source.into(),
        on: None,
        test: Test::Outside(Range { above: Some(above), below: None }),
    };
    let members = vec![member("1", 90.0), member("2", 85.0), member("3", 90.0)];
    let within = Some(Duration::from_secs(3));
    let named = |name: &str, condition| RuleSpec {
        name: format!("{name} {hold_for:?}").into(),
        on: None,
        hold_for,
        at_most_every,
        ..rule(condition)
    };
    vec![
        named("all near", Condition::All { members: members.clone(), within }),
        named("all", Condition::All { members: members.clone(), within: None }),
        named("any", Condition::Any { members }),
    ]
}

/// Returns all rules that depend on the readings alone.
pub(super) fn of_readings() -> Vec<RuleSpec> {
    [specs(), at_once(), lasting()].concat()
}

/// Returns all rules, with a `silent` rule. A silence begins no earlier than the agent, so restarts
/// make a difference.
fn with_silence() -> Vec<RuleSpec> {
    let expected = vec![Source::new("3", "heart_rate").unwrap()];
    let silent = Condition::Silent { after: Duration::from_secs(6), expected };
    let silent = RuleSpec { name: "silent".into(), ..rule(silent) };
    of_readings().into_iter().chain([silent]).collect()
}

pub(super) fn begin(specs: Vec<RuleSpec>, sources: &Sources) -> Rules {
    let mut rules = Rules::new(specs).unwrap();
    rules.await_sources(BOOT, at(0).0, at(0).1, sources);
    rules
}

pub(super) fn sources() -> Sources {
    let sources = Sources::default();
    for name in ["1", "2", "3"] {
        sources.intern_source(Source::new(name, "heart_rate").unwrap()).unwrap();
    }
    sources
}

/// The longest delay at which every reading counts, in milliseconds.
pub(super) const IN_TIME: i64 = 5_000;
/// A delay at which some readings are too late, in milliseconds.
const TOO_LATE: i64 = 20_000;

/// Generates readings in the order of their event times, each delayed by less than `delay`
/// milliseconds: mostly a few readings a second, with an occasional silence.
pub(super) fn history(delay: i64) -> impl Strategy<Value = Vec<Heard>> {
    let step = prop_oneof![30 => 0i64..1500, 1 => 8_000i64..90_000];
    vec((0u32..3, step, 0..delay, 80.0f64..120.0), 1..250).prop_map(|steps| {
        let mut event = 0;
        let told = steps.into_iter().map(|(source, step, delay, number)| {
            event += step;
            Heard { source, event, arrival: event + delay, number, dated: true }
        });
        told.collect()
    })
}

pub(super) fn in_order(mut history: Vec<Heard>) -> Vec<Heard> {
    for told in &mut history {
        told.arrival = told.event;
    }
    history
}

/// Makes all times different, because neither of two readings at the same time is the newest.
pub(super) fn apart(mut history: Vec<Heard>) -> Vec<Heard> {
    for (nth, told) in (0..).zip(&mut history) {
        told.event += nth;
        told.arrival += nth;
    }
    history
}

/// Returns the readings in order, each stamped on arrival.
pub(super) fn stamped(history: Vec<Heard>) -> Vec<Heard> {
    in_order(history).into_iter().map(|told| Heard { dated: false, ..told }).collect()
}

pub(super) fn shuffled(mut history: Vec<Heard>) -> Vec<Heard> {
    history.sort_by_key(|told| told.arrival);
    history
}

pub(super) fn at(millis: i64) -> (Mono, Wall) {
    (Mono(u64::try_from(millis + 3_600_000).unwrap()), Wall(START * 1000 + millis))
}

pub(super) fn fold(told: Heard, mut take: impl FnMut(&TimedReading<'_>)) {
    let event = at(told.event).1;
    let time = told.dated.then_some(event);
    let reading = reading(SourceId(told.source), at(told.arrival).0, told.number);
    take(&TimedReading { reading: &Reading { time, ..reading }, boot: BOOT, event });
}

/// Returns a time after all decisions.
fn end(history: &[Heard]) -> Mono {
    let last = history.iter().map(|told| told.arrival).max().unwrap_or(0);
    at(last + 200_000).0
}

/// Returns the published transitions as text, sorted by rule and source: different rules and
/// sources have no order.
fn sorted(mut out: Vec<Transition>) -> Vec<String> {
    out.retain(|transition| transition.report != Publication::Held);
    out.sort_by(|a, b| (&a.rule.name, a.source).cmp(&(&b.rule.name, b.source)));
    let sources = sources();
    out.iter().map(|t| format!("{}: {}", t.rule.name, short(t, &sources))).collect()
}

pub(super) fn same(got: &[String], expected: &[String]) -> Result<(), TestCaseError> {
    let at = got.iter().zip(expected).take_while(|(got, expected)| got == expected).count();
    prop_assert_eq!(got.get(at), expected.get(at));
    Ok(())
}

pub(super) fn run(specs: Vec<RuleSpec>, history: &[Heard]) -> Vec<String> {
    sorted(run_to_end(specs, history))
}

/// Returns all transitions, those held back included.
fn run_to_end(specs: Vec<RuleSpec>, history: &[Heard]) -> Vec<Transition> {
    let (sources, mut out) = (sources(), Vec::new());
    let mut rules = begin(specs, &sources);
    for told in history {
        fold(*told, |input| rules.fold_reading(input, &sources, &mut out));
    }
    rules.advance_time(BOOT, end(history), &mut out);
    out
}

/// Returns the rules and sources with an alert held back as flapping. Held alerts are not stored,
/// so a restart may change the alerts of these rules and sources.
fn find_flapping(out: &[Transition]) -> HashSet<(Box<str>, SourceId)> {
    let held = out.iter().filter(|transition| transition.report == Publication::Held);
    held.map(|transition| (transition.rule.name.clone(), transition.source)).collect()
}

/// Splits `out` into the transitions of steady and of `flapping` rules and sources.
fn split_flapping(
    out: Vec<Transition>,
    flapping: &HashSet<(Box<str>, SourceId)>,
) -> (Vec<Transition>, Vec<Transition>) {
    out.into_iter().partition(|transition| {
        !flapping.contains(&(transition.rule.name.clone(), transition.source))
    })
}

/// Checks that the published alerts of one rule and source alternate between raised and cleared.
fn assert_alternate(out: &[Transition]) -> Result<(), TestCaseError> {
    let mut last = HashMap::new();
    for transition in out.iter().filter(|transition| transition.report != Publication::Held) {
        let before = last.insert((&transition.rule.name, transition.source), transition.state);
        prop_assert_eq!(before == Some(transition.state), false, "twice: {:?}", transition);
    }
    Ok(())
}

/// The stored readings and transitions: they survive a restart, the state of the rules does not.
struct Store {
    folded: Vec<Heard>,
    out: Vec<Transition>,
}

impl Store {
    /// Rebuilds the rules from the last readings and the last alerts alone.
    fn rebuild(&self, specs: Vec<RuleSpec>, sources: &Sources) -> Rules {
        let mut rebuild = Rules::begin_rebuild(specs, past(&self.out), sources).unwrap();
        let horizon = i64::try_from(rebuild.history_length().as_millis()).unwrap();
        let newest = self.folded.iter().map(|told| told.arrival).max().unwrap_or(0);
        for told in self.folded.iter().filter(|told| told.arrival >= newest - horizon) {
            fold(*told, |input| rebuild.fold_stored(input, sources));
        }
        rebuild.finish_rebuild()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// SO-1.
    #[test]
    fn ticks_make_no_difference(history in history(TOO_LATE), every in 1i64..5000) {
        let history = shuffled(history);
        let expected = run(with_silence(), &history);
        let (sources, mut out) = (sources(), Vec::new());
        let mut rules = begin(with_silence(), &sources);

        let mut now = 0;
        for told in &history {
            while now < told.arrival {
                rules.advance_time(BOOT, at(now).0, &mut out);
                now += every;
            }
            fold(*told, |input| rules.fold_reading(input, &sources, &mut out));
        }
        rules.advance_time(BOOT, end(&history), &mut out);

        same(&sorted(out), &expected)?;
    }

    #[test]
    fn deadlines_are_all_the_ticks_there_need_be(
        history in history(TOO_LATE),
        is_stamped in any::<bool>(),
    ) {
        let history = if is_stamped { stamped(history) } else { shuffled(history) };
        let expected = run(with_silence(), &history);
        let (sources, mut out) = (sources(), Vec::new());
        let mut rules = begin(with_silence(), &sources);

        let wait = |rules: &mut Rules, out: &mut Vec<Transition>, until: Mono| {
            while let Some(deadline) = rules.next_deadline().filter(|at| *at <= until) {
                rules.advance_time(BOOT, deadline, out);
                if rules.next_deadline().is_some_and(|next| next <= deadline) {
                    return Err(TestCaseError::fail("a deadline that stays"));
                }
            }
            Ok(())
        };
        for told in &history {
            wait(&mut rules, &mut out, at(told.arrival).0)?;
            fold(*told, |input| rules.fold_reading(input, &sources, &mut out));
        }
        wait(&mut rules, &mut out, end(&history))?;

        same(&sorted(out), &expected)?;
    }

    #[test]
    fn a_crash_anywhere_changes_nothing(
        history in history(IN_TIME),
        crashes in vec(any::<prop::sample::Index>(), 1..12),
        stored in vec(any::<bool>(), 12),
        is_stamped in any::<bool>(),
    ) {
        let history = if is_stamped { stamped(history) } else { shuffled(history) };
        let expected = run_to_end(of_readings(), &history);
        let flapping = find_flapping(&expected);
        let (expected, _) = split_flapping(expected, &flapping);
        let crashes: Vec<_> = crashes.iter().map(|crash| crash.index(history.len())).collect();
        let sources = sources();
        let mut rules = Rules::new(of_readings()).unwrap();
        let mut store = Store { folded: Vec::new(), out: Vec::new() };

        for (index, told) in history.iter().enumerate() {
            fold(*told, |input| rules.fold_reading(input, &sources, &mut store.out));
            store.folded.push(*told);
            for _ in crashes.iter().filter(|crash| **crash == index) {
                // Tick before the next reading. The transitions of the tick may be lost with the
                // state.
                let next = history.get(index + 1).map_or(told.arrival, |next| next.arrival);
                let mut ticked = Vec::new();
                rules.advance_time(BOOT, at(i64::midpoint(told.arrival, next)).0, &mut ticked);
                if stored[index % stored.len()] {
                    store.out.append(&mut ticked);
                }
                rules = store.rebuild(of_readings(), &sources);
            }
        }
        rules.advance_time(BOOT, end(&history), &mut store.out);

        let (kept, flapping) = split_flapping(store.out, &flapping);
        same(&sorted(kept), &sorted(expected))?;
        assert_alternate(&flapping)?;
    }

    #[test]
    fn a_sum_is_the_same_in_every_order(
        numbers in vec(prop_oneof![-1e300..1e300, -1.0..1.0, -1e-300..1e-300], 0..40).prop_shuffle(),
    ) {
        let sum = |numbers: &mut dyn Iterator<Item = &f64>| {
            let mut sum = ExactSum::default();
            numbers.for_each(|number| sum.add_number(*number));
            sum.rounded_sum().to_bits()
        };
        let mut by_size = numbers.clone();
        by_size.sort_by(f64::total_cmp);

        prop_assert_eq!(sum(&mut numbers.iter()), sum(&mut numbers.iter().rev()));
        prop_assert_eq!(sum(&mut numbers.iter()), sum(&mut by_size.iter()));
    }

    #[test]
    fn a_sum_is_exact(halves in vec(-1_000_000_000i32..1_000_000_000, 0..100)) {
        let mut sum = ExactSum::default();
        for half in &halves {
            // Adding and subtracting 1e15 must not lose a bit.
            sum.add_number(1e15);
            sum.add_number(f64::from(*half) / 1024.0);
        }
        halves.iter().for_each(|_| sum.add_number(-1e15));

        let exact: i64 = halves.iter().map(|half| i64::from(*half)).sum();
        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
        let exact = exact as f64 / 1024.0;
        prop_assert_eq!(sum.rounded_sum(), exact);
    }
}
