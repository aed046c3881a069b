//! Aggregates over the readings of a pane, and of several panes together. The result is the same in
//! every order of the readings, to the last bit.

use super::Take;
use super::sum::ExactSum;
use crate::time::Wall;

const MINUTE_MS: f64 = 60_000.0;

/// The running aggregate of a pane. Counts are exact up to 2^53.
#[derive(Debug, Clone)]
pub(super) enum Tally {
    /// The sum and the number of readings.
    Sum(ExactSum, f64),
    Min(f64),
    Max(f64),
    Count(f64),
    /// The first and the last reading. Among readings at the same time, the lowest is the first and
    /// the highest is the last.
    Span((Wall, f64), (Wall, f64)),
}

impl Tally {
    pub(super) fn new(take: Take, event: Wall, number: f64) -> Self {
        match take {
            Take::Mean | Take::Sum => Self::Sum(ExactSum::from_number(number), 1.0),
            Take::Min => Self::Min(number),
            Take::Max => Self::Max(number),
            Take::Count => Self::Count(1.0),
            Take::Rate => Self::Span((event, number), (event, number)),
        }
    }

    pub(super) fn add_reading(&mut self, event: Wall, number: f64) {
        match self {
            Self::Sum(sum, count) => {
                sum.add_number(number);
                *count += 1.0;
            }
            Self::Min(least) => *least = least.min(number),
            Self::Max(greatest) => *greatest = greatest.max(number),
            Self::Count(count) => *count += 1.0,
            Self::Span(first, last) => {
                *first = earlier_of(*first, (event, number));
                *last = later_of(*last, (event, number));
            }
        }
    }

    /// Merges `other`, an aggregate of the same variant, into `self`.
    pub(super) fn merge_with(self, other: &Self) -> Self {
        match (self, other) {
            (Self::Sum(mut sum, count), Self::Sum(more, others)) => {
                sum.add_sum(more);
                Self::Sum(sum, count + others)
            }
            (Self::Min(a), Self::Min(b)) => Self::Min(a.min(*b)),
            (Self::Max(a), Self::Max(b)) => Self::Max(a.max(*b)),
            (Self::Count(a), Self::Count(b)) => Self::Count(a + b),
            (Self::Span(first, last), Self::Span(a, b)) => {
                Self::Span(earlier_of(first, *a), later_of(last, *b))
            }
            (own, _) => own,
        }
    }

    /// Returns the value of the aggregate; `None` for a rate without two readings at different
    /// times.
    pub(super) fn aggregate_value(&self, take: Take) -> Option<f64> {
        match self {
            Self::Sum(sum, _) if take == Take::Sum => Some(sum.rounded_sum()),
            Self::Sum(sum, count) => Some(sum.rounded_sum() / count),
            Self::Min(number) | Self::Max(number) | Self::Count(number) => Some(*number),
            Self::Span((from, first), (to, last)) => {
                let apart = i32::try_from(to.0 - from.0).ok().filter(|apart| *apart > 0)?;
                Some((last - first) / f64::from(apart) * MINUTE_MS)
            }
        }
    }
}

fn earlier_of(a: (Wall, f64), b: (Wall, f64)) -> (Wall, f64) {
    if b.0 < a.0 || (b.0 == a.0 && b.1 < a.1) { b } else { a }
}

fn later_of(a: (Wall, f64), b: (Wall, f64)) -> (Wall, f64) {
    if b.0 > a.0 || (b.0 == a.0 && b.1 > a.1) { b } else { a }
}
