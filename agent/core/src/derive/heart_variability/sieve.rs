//! Which intervals are between two sinus beats.
//!
//! An interval counts if it is of 300 to 2000 ms and within 30 % of the running median: the median
//! of the last eleven that counted. One far above the median, or above 2000 ms, spans a beat that
//! was lost; any other that is off is ectopic, and so is mostly the one after it. A heart that
//! really changed its pace so much that five in a row are off is believed: the median begins anew.

use std::collections::VecDeque;

/// Faster is no heart of a person.
const MIN_MS: f64 = 300.0;
/// Slower is a beat that was lost.
const MAX_MS: f64 = 2000.0;
/// The greatest change from the running median, as a share of it. The usual 20 % would set 8 % of the
/// recorded, healthy heart aside, whose breath alone does more, and take a sixth off its SDNN; 30 %
/// sets 2.5 % aside, and premature beats mostly come earlier than that.
const MAX_CHANGE: f64 = 0.3;
/// From this multiple of the median on, a beat is missing in between.
const LOST_FACTOR: f64 = 1.75;
/// How many intervals the median is of: odd, and a few breaths long.
const MEDIAN_OF: usize = 11;
/// A median of fewer says little; until then only the range is judged.
const MEDIAN_FROM: usize = 5;
/// So many in a row that are off are a change of pace.
const BELIEVED_AFTER: u8 = 5;

/// What an interval is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Between two sinus beats.
    Good,
    /// Between beats of which one came early, late, or was none.
    Ectopic,
    /// Over a beat that was not told.
    Lost,
}

/// Judges one interval after the other.
#[derive(Debug, Clone, Default)]
pub struct Sieve {
    good: VecDeque<f64>,
    off: u8,
}

impl Sieve {
    /// Judges the next interval.
    pub fn judge(&mut self, rr_ms: f64) -> Beat {
        let beat = self.verdict(rr_ms);
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

    /// The running median, once it says something.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        if self.good.len() < MEDIAN_FROM {
            return None;
        }
        let mut sorted: Vec<f64> = self.good.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }

    fn verdict(&self, rr_ms: f64) -> Beat {
        let median = self.median();
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
