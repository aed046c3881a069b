//! Tests of the order of arrival.
//!
//! Windows and conditions with a duration do not depend on the order of readings within the
//! lateness. Rules without either use the newest reading: their alerts depend only on the order
//! within each source, several sources give a single alert, and the final state does not depend on
//! the order.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::properties::*;
use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn windows_are_the_same_shuffled_by_up_to_five_seconds(history in history(IN_TIME)) {
        let expected = run(specs(), &in_order(history.clone()));

        let got = run(specs(), &shuffled(history));

        same(&got, &expected)?;
    }

    #[test]
    fn what_lasts_is_the_same_shuffled_by_up_to_five_seconds(history in history(IN_TIME)) {
        let expected = run(lasting(), &in_order(history.clone()));

        let got = run(lasting(), &shuffled(history));

        same(&got, &expected)?;
    }

    #[test]
    fn it_makes_no_difference_who_says_when_a_reading_was(history in history(1)) {
        let history = apart(history);
        let expected = run(of_readings(), &in_order(history.clone()));

        let got = run(of_readings(), &stamped(history));

        same(&got, &expected)?;
    }

    #[test]
    fn a_rule_on_one_source_does_not_mind_how_late_all_of_it_is(
        history in history(1),
        delays in [0..IN_TIME, 0..IN_TIME, 0..IN_TIME],
    ) {
        let of_one = || -> Vec<RuleSpec> {
            of_readings().into_iter().filter(|spec| spec.members().is_none()).collect()
        };
        let expected = run(of_one(), &in_order(history.clone()));
        let mut delayed = history;
        for told in &mut delayed {
            told.arrival = told.event + delays[usize::try_from(told.source).unwrap()];
        }

        let got = run(of_one(), &shuffled(delayed));

        same(&got, &expected)?;
    }

    #[test]
    fn what_answers_at_once_comes_to_the_same_when_all_has_arrived(history in history(IN_TIME)) {
        let history = apart(history);
        let newest_decides = ["level", "all 0ns", "any 0ns"];
        let specs = || -> Vec<RuleSpec> {
            at_once().into_iter().filter(|spec| newest_decides.contains(&&*spec.name)).collect()
        };
        prop_assert_eq!(specs().len(), newest_decides.len());
        let is_raised = |history: &[Heard]| {
            let (sources, mut out) = (sources(), Vec::new());
            let mut rules = begin(specs(), &sources);
            history.iter().for_each(|one| fold(*one, |input| rules.fold_reading(input, &sources, &mut out)));
            let mut raised = BTreeSet::new();
            out.retain(|one: &Transition| one.report != Publication::Later);
            for Transition { rule, source, state, .. } in out {
                // A rule over several sources names the first source that holds.
                let key = (rule.name.clone(), rule.members().is_none().then_some(source.0));
                match state {
                    AlertState::Raised => assert!(raised.insert(key)),
                    AlertState::Cleared => assert!(raised.remove(&key)),
                }
            }
            raised
        };

        prop_assert_eq!(is_raised(&shuffled(history.clone())), is_raised(&in_order(history)));
    }

    #[test]
    fn what_holds_together_is_one_alert_in_whatever_order_it_is_told(
        told in vec((0..IN_TIME, 0..IN_TIME, 1usize..3), 3),
        is_near in any::<bool>(),
    ) {
        let within = is_near.then_some(LATENESS);
        let mut spec = together(Duration::ZERO, None).swap_remove(0);
        if let Condition::All { within: own, .. } = &mut spec.condition {
            *own = within;
        }
        let of = |source, event, arrival, number| Heard { source, event, arrival, number, dated: true };
        let before = (0..3).map(|source| of(source, 0, 0, 80.0));
        let minute = 60_000;
        let now = (0..).zip(&told).flat_map(|(source, (event, delay, times))| {
            let event = event + minute;
            std::iter::repeat_n(of(source, event, event + delay, 100.0), *times)
        });
        let history = shuffled(before.chain(now).collect());
        let last = told.iter().map(|(event, delay, _)| event + delay).max().unwrap_or_default();
        let newest = told.iter().map(|(event, ..)| *event).max().unwrap_or_default();
        let (sources, mut out) = (sources(), Vec::new());
        let mut rules = begin(vec![spec], &sources);

        for one in &history {
            fold(*one, |input| rules.fold_reading(input, &sources, &mut out));
            let is_complete = one.arrival >= minute + last;
            prop_assert!(is_complete || out.is_empty(), "before the last of them");
        }

        prop_assert_eq!(out.len(), 1);
        prop_assert_eq!(out[0].time, at(minute + newest).1);
    }

    #[test]
    fn windows_are_the_same_when_they_arrive_within_a_second(history in history(IN_TIME)) {
        let expected = run(specs(), &in_order(history.clone()));
        let mut at_once = shuffled(history);
        for told in &mut at_once {
            told.arrival = 0;
        }

        let got = run(specs(), &at_once);

        same(&got, &expected)?;
    }
}
