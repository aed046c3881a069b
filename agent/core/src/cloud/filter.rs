//! Filters: the selection of the readings to publish. The store keeps all readings, and rules see
//! all readings.
//!
//! A filter judges the stored readings of one source, in their order, in three steps: `keep` and
//! `drop`; then means in place of single readings; then the least change. Readings held back are
//! counted (P3: recorded = delivered + pending + dropped + filtered). A mean is published in place
//! of the first reading of a later period, with the end of its own period as its time.

use std::sync::Arc;
use std::time::Duration;

use pulsegate_sensors::Source;

use crate::record::reading::Value;
use crate::time::Wall;

/// The specification of a filter for the readings of one kind. The default holds back nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FilterSpec {
    /// If not empty, only readings that pass any of these tests are published.
    pub keep: Vec<FilterTest>,
    /// Readings that pass any of these tests are held back.
    pub drop: Vec<FilterTest>,
    /// The period of means, on the grid of the clock: the mean of the numbers of a period is
    /// published in place of the numbers. A late number, after a number of a later period, is in no
    /// mean.
    pub mean_every: Option<Duration>,
    /// The least difference from the last published number. A state is published if different from
    /// the last published state.
    pub min_change: Option<f64>,
}

/// A test of one reading. Passes if the source fits, and if the number is above `above` or below
/// `below`, or the state is `is`. A test without `above`, `below` and `is` passes any value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FilterTest {
    /// The id of the source; `None` fits all sources.
    pub source: Option<Box<str>>,
    /// Passes greater numbers.
    pub above: Option<f64>,
    /// Passes lesser numbers.
    pub below: Option<f64>,
    /// Passes this state.
    pub is: Option<Box<str>>,
}

impl FilterSpec {
    /// Returns `true` if the filter holds back nothing.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }
}

impl FilterTest {
    fn is_about(&self, source: &Source) -> bool {
        self.source.as_ref().is_none_or(|name| *name == source.name)
    }

    fn fits_value(&self, value: &Value) -> bool {
        if self.above.is_none() && self.below.is_none() && self.is.is_none() {
            return true;
        }
        match value {
            Value::Number(number) => {
                self.above.is_some_and(|above| *number > above)
                    || self.below.is_some_and(|below| *number < below)
            }
            Value::State(state) => self.is.as_ref() == Some(state),
        }
    }
}

/// The decision of a filter about a reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FilterOutcome {
    /// The reading is published unchanged.
    AsItIs,
    /// The reading is held back.
    Filtered,
    /// The mean of the previous period is published in place of the reading.
    Mean {
        /// The mean.
        value: f64,
        /// The end of the previous period.
        time: Wall,
    },
}

/// A filter for one source, with the period under way and the last published value.
#[derive(Debug, Clone)]
pub struct Filter {
    tests: Arc<Tests>,
    period: Option<MeanPeriod>,
    /// The last published value.
    last: Option<Value>,
}

/// The tests about one source, and the rest of the specification.
#[derive(Debug)]
struct Tests {
    keeps_all: bool,
    keep: Vec<FilterTest>,
    drop: Vec<FilterTest>,
    mean_every: Option<i64>,
    min_change: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
struct MeanPeriod {
    number: i64,
    sum: f64,
    count: u32,
    /// The time of the newest number, on the axis of the rules.
    newest: Wall,
}

impl Filter {
    /// Creates the filter of `source`; `None` if `spec` holds back nothing.
    #[must_use]
    pub fn new(spec: &FilterSpec, source: &Source) -> Option<Self> {
        if spec.is_open() {
            return None;
        }
        let about = |tests: &[FilterTest]| -> Vec<FilterTest> {
            tests.iter().filter(|test| test.is_about(source)).cloned().collect()
        };
        let period = |every: Duration| i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1);
        let tests = Tests {
            keeps_all: spec.keep.is_empty(),
            keep: about(&spec.keep),
            drop: about(&spec.drop),
            mean_every: spec.mean_every.map(period),
            min_change: spec.min_change,
        };
        Some(Self { tests: Arc::new(tests), period: None, last: None })
    }

    /// Decides about the next reading. An implausible number is in no mean.
    ///
    /// `time` is the wall time of the reading, and `event` the time on the axis of the rules. A
    /// clock step does not move the axis of the rules: after the clock is set back, a reading of a
    /// period seen before is not late.
    pub fn filter_reading(
        &mut self,
        value: &Value,
        (time, event): (Wall, Wall),
        is_plausible: bool,
    ) -> FilterOutcome {
        let tests = Arc::clone(&self.tests);
        let any = |tests: &[FilterTest]| tests.iter().any(|test| test.fits_value(value));
        if !(tests.keeps_all || any(&tests.keep)) || any(&tests.drop) {
            return FilterOutcome::Filtered;
        }
        let passage = match (tests.mean_every, value) {
            (Some(every), Value::Number(number)) if is_plausible => {
                self.add_to_mean(every, *number, (time, event))
            }
            (Some(_), Value::Number(_)) => FilterOutcome::Filtered,
            (Some(_), Value::State(_)) | (None, _) => FilterOutcome::AsItIs,
        };
        let is_news = match (passage, tests.min_change) {
            (FilterOutcome::Filtered, _) => false,
            (_, None) => true,
            (FilterOutcome::Mean { value, .. }, Some(min_change)) => {
                self.is_news(&Value::Number(value), min_change)
            }
            (FilterOutcome::AsItIs, Some(min_change)) => self.is_news(value, min_change),
        };
        if is_news { passage } else { FilterOutcome::Filtered }
    }

    /// Forgets the last published value, so the next reading counts as changed. The sum of the
    /// period under way stays.
    pub fn forget_last(&mut self) {
        self.last = None;
    }

    fn add_to_mean(
        &mut self,
        every: i64,
        number: f64,
        (time, event): (Wall, Wall),
    ) -> FilterOutcome {
        let now = time.0.div_euclid(every);
        let begun = MeanPeriod { number: now, sum: number, count: 1, newest: event };
        match &mut self.period {
            Some(period) if period.number == now => {
                period.sum += number;
                period.count = period.count.saturating_add(1);
                period.newest = period.newest.max(event);
                FilterOutcome::Filtered
            }
            Some(period) if period.number > now && period.newest > event => FilterOutcome::Filtered,
            Some(period) => {
                let over = std::mem::replace(period, begun);
                let end = over.number.saturating_add(1).saturating_mul(every);
                FilterOutcome::Mean { value: over.sum / f64::from(over.count), time: Wall(end) }
            }
            none => {
                *none = Some(begun);
                FilterOutcome::Filtered
            }
        }
    }

    fn is_news(&mut self, value: &Value, min_change: f64) -> bool {
        let is_news = match (&self.last, value) {
            (Some(Value::Number(last)), Value::Number(now)) => (now - last).abs() >= min_change,
            (Some(Value::State(last)), Value::State(now)) => last != now,
            (None | Some(Value::Number(_) | Value::State(_)), _) => true,
        };
        if is_news {
            self.last = Some(value.clone());
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str) -> Source {
        Source::new(name, "air").unwrap()
    }

    fn filter(spec: FilterSpec) -> Filter {
        Filter::new(&spec, &source("a")).expect("a filter")
    }

    /// The same time on both axes, as without any clock step.
    fn at(time: i64) -> (Wall, Wall) {
        (Wall(time), Wall(time))
    }

    /// Returns the published value, if any, for each of the numbers, one a second.
    fn passed(filter: &mut Filter, numbers: &[f64]) -> Vec<Option<f64>> {
        let mut time = 0;
        let mut take = |number: &f64| {
            time += 1_000;
            match filter.filter_reading(&Value::Number(*number), at(time - 1_000), true) {
                FilterOutcome::AsItIs => Some(*number),
                FilterOutcome::Mean { value, .. } => Some(value),
                FilterOutcome::Filtered => None,
            }
        };
        numbers.iter().map(&mut take).collect()
    }

    #[test]
    fn no_filter_is_no_cost() {
        assert!(Filter::new(&FilterSpec::default(), &source("a")).is_none());
    }

    #[test]
    fn what_is_kept_meets_a_test_and_what_is_dropped_too() {
        let outside = FilterTest { above: Some(20.0), below: Some(10.0), ..FilterTest::default() };
        let spike = FilterTest { above: Some(90.0), ..FilterTest::default() };
        let spec = FilterSpec { keep: vec![outside], drop: vec![spike], ..FilterSpec::default() };

        let passed = passed(&mut filter(spec), &[9.0, 10.0, 15.0, 20.0, 21.0, 91.0]);

        assert_eq!(passed, [Some(9.0), None, None, None, Some(21.0), None]);
    }

    #[test]
    fn a_test_of_another_source_says_nothing() {
        let other = || vec![FilterTest { source: Some("b".into()), ..FilterTest::default() }];
        let drop = FilterSpec { drop: other(), ..FilterSpec::default() };
        let keep = FilterSpec { keep: other(), ..FilterSpec::default() };

        assert_eq!(passed(&mut filter(drop.clone()), &[1.0]), [Some(1.0)]);
        assert_eq!(passed(&mut filter(keep), &[1.0]), [None], "only the other is kept");
        let mut theirs = Filter::new(&drop, &source("b")).unwrap();
        assert_eq!(passed(&mut theirs, &[1.0]), [None]);
    }

    #[test]
    fn states_are_tested_by_their_word_and_pass_when_they_change() {
        let closed = FilterTest { is: Some("closed".into()), ..FilterTest::default() };
        let mut drop = filter(FilterSpec { drop: vec![closed], ..FilterSpec::default() });
        let mut change = filter(FilterSpec { min_change: Some(1.0), ..FilterSpec::default() });
        let take = |filter: &mut Filter, word: &str| {
            filter.filter_reading(&Value::State(word.into()), at(0), true)
        };

        assert_eq!(take(&mut drop, "closed"), FilterOutcome::Filtered);
        assert_eq!(take(&mut drop, "open"), FilterOutcome::AsItIs);
        assert_eq!(take(&mut change, "open"), FilterOutcome::AsItIs);
        assert_eq!(take(&mut change, "open"), FilterOutcome::Filtered);
        assert_eq!(take(&mut change, "closed"), FilterOutcome::AsItIs);
    }

    #[test]
    fn a_small_change_is_measured_from_what_passed_not_from_what_came() {
        let spec = FilterSpec { min_change: Some(1.0), ..FilterSpec::default() };

        let passed = passed(&mut filter(spec), &[20.0, 20.5, 20.9, 21.0, 20.5, 20.0]);

        assert_eq!(passed, [Some(20.0), None, None, Some(21.0), None, Some(20.0)]);
    }

    #[test]
    fn of_each_period_the_mean_passes_once_it_is_over() {
        let every = Some(Duration::from_secs(2));
        let mut filter = filter(FilterSpec { mean_every: every, ..FilterSpec::default() });

        let passed = passed(&mut filter, &[1.0, 3.0, 10.0, 20.0, 0.0]);

        assert_eq!(passed, [None, None, Some(2.0), None, Some(15.0)]);
        let later = filter.filter_reading(&Value::Number(7.0), at(60_500), true);
        assert_eq!(later, FilterOutcome::Mean { value: 0.0, time: Wall(6_000) });
    }

    #[test]
    fn a_period_has_one_mean_in_whatever_order_its_numbers_come() {
        let every = Some(Duration::from_secs(10));
        let mut filter = filter(FilterSpec { mean_every: every, ..FilterSpec::default() });

        let times = [1_000, 11_000, 2_000, 12_000, 3_000, 13_000, 21_000];
        let passed = times.map(|time| filter.filter_reading(&Value::Number(1.0), at(time), true));
        let means = passed.iter().filter_map(|passage| match passage {
            FilterOutcome::Mean { time, .. } => Some(time.0),
            FilterOutcome::AsItIs | FilterOutcome::Filtered => None,
        });

        assert_eq!(means.collect::<Vec<_>>(), [10_000, 20_000]);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_reading_late() {
        let every = Some(Duration::from_secs(10));
        let mut filter = filter(FilterSpec { mean_every: every, ..FilterSpec::default() });
        filter.filter_reading(&Value::Number(1.0), (Wall(3_600_000), Wall(5_000)), true);

        let mean = filter.filter_reading(&Value::Number(3.0), (Wall(0), Wall(6_000)), true);

        assert_eq!(mean, FilterOutcome::Mean { value: 1.0, time: Wall(3_610_000) });
    }

    #[test]
    fn what_is_not_plausible_is_in_no_mean() {
        let every = Some(Duration::from_secs(10));
        let mut filter = filter(FilterSpec { mean_every: every, ..FilterSpec::default() });
        filter.filter_reading(&Value::Number(70.0), at(0), true);
        filter.filter_reading(&Value::Number(0.0), at(1_000), false);

        let mean = filter.filter_reading(&Value::Number(80.0), at(10_000), true);

        assert_eq!(mean, FilterOutcome::Mean { value: 70.0, time: Wall(10_000) });
    }
}
