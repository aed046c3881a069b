//! An exact sum of floating-point numbers: the same in every order, to the last bit.
//!
//! Shewchuk, Adaptive Precision Floating-Point Arithmetic (1997), as in Python's `math.fsum`: the
//! sum is a list of numbers without overlapping bits, rounded once, in [`ExactSum::rounded_sum`]. Whole
//! numbers and most others need one or two list entries; no sum needs more than 40.

#[derive(Debug, Clone, Default)]
pub(super) struct ExactSum {
    /// Numbers of rising magnitude, without overlapping bits; their exact sum is the sum.
    partials: Vec<f64>,
}

impl ExactSum {
    pub(super) fn from_number(number: f64) -> Self {
        Self { partials: vec![number] }
    }

    pub(super) fn add_sum(&mut self, other: &Self) {
        other.partials.iter().for_each(|partial| self.add_number(*partial));
    }

    pub(super) fn add_number(&mut self, number: f64) {
        let mut carry = number;
        let mut kept = 0;
        for index in 0..self.partials.len() {
            let (high, low) = two_sum(carry, self.partials[index]);
            if low != 0.0 {
                self.partials[kept] = low;
                kept += 1;
            }
            carry = high;
        }
        self.partials.truncate(kept);
        self.partials.push(carry);
    }

    /// Returns the sum, rounded to the nearest number, ties to even; not finite if out of range.
    pub(super) fn rounded_sum(&self) -> f64 {
        let mut rest = self.partials.iter().rev().copied();
        let mut high = rest.next().unwrap_or(0.0);
        let mut low = 0.0;
        for partial in rest.by_ref() {
            (high, low) = two_sum(high, partial);
            if low != 0.0 {
                break;
            }
        }
        // The partials below `low` matter only if `low` is exactly half a unit in the last place of
        // `high`.
        let below = rest.next().unwrap_or(0.0);
        if (low < 0.0 && below < 0.0) || (low > 0.0 && below > 0.0) {
            let nudge = low * 2.0;
            let nudged = high + nudge;
            if nudged - high == nudge {
                return nudged;
            }
        }
        high
    }
}

/// Returns the rounded sum of two numbers and the rounding error.
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let (large, small) = if a.abs() < b.abs() { (b, a) } else { (a, b) };
    let high = large + small;
    (high, small - (high - large))
}
