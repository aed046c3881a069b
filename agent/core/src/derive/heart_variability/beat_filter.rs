//! Finds the intervals between two sinus beats.
//!
//! An interval is good if it is from 300 to 2000 ms long and within 30 % of the running median: the
//! median of the last eleven good intervals. An interval far above the median, or above 2000 ms,
//! spans a lost beat; any other bad interval is ectopic, and the interval after an ectopic one
//! mostly is, too. After five bad intervals in a row, the heart is taken to have changed its pace,
//! and the median begins anew.

use std::collections::VecDeque;

/// The shortest interval: no human heart is faster.
const MIN_MS: f64 = 300.0;
/// The longest interval: a longer one spans a lost beat.
const MAX_MS: f64 = 2000.0;
/// The greatest change from the running median, as a share of the median. The usual 20 % would set
/// aside 8 % of the recorded, healthy heart, whose breath alone does more, and take a sixth off its
/// SDNN; 30 % sets aside 2.5 %, and premature beats mostly come earlier than 30 %.
const MAX_CHANGE: f64 = 0.3;
/// The multiple of the median from which an interval spans a lost beat.
const LOST_FACTOR: f64 = 1.75;
/// The number of intervals under the median: odd, and a few breaths long.
const MEDIAN_OF: usize = 11;
/// The fewest intervals with a meaningful median; with fewer, only the range is judged.
const MEDIAN_FROM: usize = 5;
/// The number of bad intervals in a row taken as a change of pace.
const BELIEVED_AFTER: u8 = 5;

/// The class of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Between two sinus beats.
    Good,
    /// Between beats of which one came early or late, or was no beat.
    Ectopic,
    /// Across a beat that the monitor did not report.
    Lost,
}

/// Judges intervals one after the other, by their running median.
#[derive(Debug, Clone, Default)]
pub struct BeatFilter {
    good: VecDeque<f64>,
    off: u8,
}

impl BeatFilter {
    /// Classifies the next interval, in milliseconds.
    pub fn classify_interval(&mut self, rr_ms: f64) -> Beat {
        let beat = self.judge_by_median(rr_ms);
        if beat == Beat::Good {
            self.off = 0;
            self.good.push_back(rr_ms);
            if self.good.len() > MEDIAN_OF {
                self.good.pop_front();
            }
            return beat;
        }
        self.off += 1;
        if self.off >= BELIEVED_AFTER {
            *self = Self::default();
        }
        beat
    }

    /// Returns the running median in milliseconds; `None` below five good intervals.
    #[must_use]
    pub fn running_median(&self) -> Option<f64> {
        if self.good.len() < MEDIAN_FROM {
            return None;
        }
        let mut sorted: Vec<f64> = self.good.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }

    fn judge_by_median(&self, rr_ms: f64) -> Beat {
        let median = self.running_median();
        if rr_ms > MAX_MS || median.is_some_and(|median| rr_ms >= LOST_FACTOR * median) {
            Beat::Lost
        } else if rr_ms < MIN_MS
            || median.is_some_and(|median| (rr_ms - median).abs() > MAX_CHANGE * median)
        {
            Beat::Ectopic
        } else {
            Beat::Good
        }
    }
}
