//! The condition `anomaly`: a reading unlike the readings before, without a threshold.
//!
//! The score of a reading is its distance from the median of the readings before, in robust
//! standard deviations: 1.4826 times the median distance from the median. Up to half of the learnt
//! readings may be outliers, and a new level is believed after half of `learn`.
//!
//! The condition finds leaps, but neither a constant value nor a slow drift; use `window` with
//! `max` or `rate` for both. The table compares this condition, with its default score of 5, with
//! random cut forests (rcf3 0.5.2, 50 trees of 256, and its isolation forest), each with the best
//! threshold for the run. The figures are injected anomalies found, and false alarms, over three
//! seeds, with 10 minutes of learning and one reading a second:
//!
//! | | AN-1, 9,300 readings | heart rate, 20 spikes in 2,460 s | a reading, a source |
//! |---|---|---|---|
//! | this | all of 272, 0 false | 49 of 59, 0 false | < 1 us, 4 KiB |
//! | cut forest | 260, 1 false | 48 of 59, 8 false | 285 us, 3.3 MB |
//! | isolation forest | all, 0 false | 59 of 59, 142 false | 14 us |
//!
//! None of the three found two minutes of a constant value, and each found next to nothing of a
//! drift by 60 % within five minutes.
//!
//! The readings of `learn` are divided into panes on the grid of event time. Each pane keeps a
//! sample, chosen by a hash of the reading: memory is bounded, and neither the order of the
//! readings nor a restart makes a difference. A reading is compared with the panes that ended at
//! least [`LATENESS`] before, as their late readings have arrived.

use std::collections::VecDeque;
use std::time::Duration;

use super::LATENESS;
use super::judge::{Judge, RuleFinding, TransitionSink};
use super::windows::floor_to;
use crate::record::reading::Value;
use crate::time::Wall;

/// The number of panes in `learn`. A reading waits for up to one pane (a sixteenth of `learn`)
/// before later readings are compared with it.
const PANES: u32 = 16;
/// The readings kept of a pane. Bounds memory, with [`PANES`]: 4 KiB for a rule and source.
const SAMPLE: usize = 16;
/// The fewest readings with a meaningful median.
const LEAST: usize = 32;
/// The factor from the median distance from the median to the standard deviation of a normal
/// distribution.
const NORMAL_BY_MEDIAN: f64 = 1.4826;
/// The factor from the mean distance to the standard deviation. The mean distance is used if most
/// readings are equal and the median distance is 0.
const NORMAL_BY_MEAN: f64 = 1.2533;
/// The least deviation, as a share of the median: a change in the last digit of a steady value is
/// no anomaly.
const RESOLUTION: f64 = 0.005;

#[derive(Debug, Clone)]
pub(super) struct Anomaly {
    learn: Duration,
    limit: f64,
    newest: Option<Wall>,
    panes: VecDeque<SamplePane>,
    /// The cached statistics of the panes up to an end: the end, and the statistics if there were
    /// enough readings.
    common: Option<(Wall, Option<SampleStatistics>)>,
}

#[derive(Debug, Clone)]
struct SamplePane {
    start: Wall,
    /// The readings with the lowest hashes, as (hash, value), by rising hash.
    sample: Vec<(u64, f64)>,
}

#[derive(Debug, Clone, Copy)]
struct SampleStatistics {
    median: f64,
    deviation: f64,
}

impl Anomaly {
    pub(super) fn new(learn: Duration, limit: f64) -> Self {
        Self { learn, limit, newest: None, panes: VecDeque::new(), common: None }
    }

    pub(super) fn judge_reading(
        &mut self,
        event: Wall,
        value: &Value,
        judge: &mut Judge,
        sink: &mut TransitionSink<'_>,
    ) {
        let Value::Number(number) = *value else { return };
        if self.newest.is_some_and(|newest| event < newest) {
            sink.counts.late += 1;
        } else {
            self.newest = Some(event);
            judge.release_pending(event, sink);
            let score = self.statistics_before(event).map(|common| common.score_number(number));
            let holds = score.is_some_and(|score| score > self.limit);
            judge.apply_finding(
                holds,
                || RuleFinding { score, ..RuleFinding::new(value.clone(), event) },
                sink,
            );
        }
        if self.newest.is_some_and(|newest| newest <= event + LATENESS) {
            self.learn_reading(event, number);
        }
    }

    pub(super) fn forget_readings(&mut self) {
        *self = Self::new(self.learn, self.limit);
    }

    fn pane_length(&self) -> Duration {
        self.learn / PANES
    }

    fn learn_reading(&mut self, event: Wall, number: f64) {
        let start = floor_to(event, self.pane_length());
        let index = match self.panes.binary_search_by_key(&start, |pane| pane.start) {
            Ok(index) => index,
            Err(index) => {
                self.panes.insert(index, SamplePane { start, sample: Vec::new() });
                index
            }
        };
        self.panes[index].add_sample((hash_reading(event, number), number));
    }

    /// Returns the statistics of the readings before `event`; `None` before half of `learn` has
    /// passed, or with fewer than [`LEAST`] readings.
    fn statistics_before(&mut self, event: Wall) -> Option<SampleStatistics> {
        let until = floor_to(event - LATENESS, self.pane_length());
        if let Some((known, common)) = self.common
            && known == until
        {
            return common;
        }
        while self.panes.front().is_some_and(|pane| pane.start + self.learn < until) {
            self.panes.pop_front();
        }
        let ended = self.panes.iter().take_while(|pane| pane.start < until);
        let sample = ended.flat_map(|pane| pane.sample.iter().map(|(_, number)| *number));
        let long = self.panes.front().is_some_and(|pane| pane.start + self.learn / 2 <= until);
        let common = if long { SampleStatistics::from_sample(sample.collect()) } else { None };
        self.common = Some((until, common));
        common
    }
}

impl SamplePane {
    fn add_sample(&mut self, entry: (u64, f64)) {
        let by_hash = |kept: &(u64, f64)| kept.0.cmp(&entry.0).then(kept.1.total_cmp(&entry.1));
        let index = self.sample.binary_search_by(by_hash).unwrap_or_else(|index| index);
        if index < SAMPLE {
            self.sample.insert(index, entry);
            self.sample.truncate(SAMPLE);
        }
    }
}

impl SampleStatistics {
    fn from_sample(mut sample: Vec<f64>) -> Option<Self> {
        if sample.len() < LEAST {
            return None;
        }
        let median = upper_median(&mut sample);
        sample.iter_mut().for_each(|number| *number = (*number - median).abs());
        let by_median = upper_median(&mut sample) * NORMAL_BY_MEDIAN;
        let count = f64::from(u32::try_from(sample.len()).unwrap_or(u32::MAX));
        let by_mean = || sample.iter().sum::<f64>() / count * NORMAL_BY_MEAN;
        let deviation = if by_median > 0.0 { by_median } else { by_mean() };
        let least = (median.abs() * RESOLUTION).max(f64::MIN_POSITIVE);
        Some(Self { median, deviation: deviation.max(least) })
    }

    fn score_number(self, number: f64) -> f64 {
        ((number - self.median).abs() / self.deviation).min(f64::MAX)
    }
}

/// Returns the upper median, always an element of `numbers`.
fn upper_median(numbers: &mut [f64]) -> f64 {
    let half = numbers.len() / 2;
    *numbers.select_nth_unstable_by(half, f64::total_cmp).1
}

/// Mixes every bit of a reading into every bit of the result (the finaliser of `SplitMix64`).
fn hash_reading(event: Wall, number: f64) -> u64 {
    let mixed = event.0.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number.to_bits();
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
