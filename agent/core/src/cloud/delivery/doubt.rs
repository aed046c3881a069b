//! Doubt: the failures in a row of one topic, and the time of the next trial.

use std::time::Duration;

use crate::time::Mono;

/// The failures in a row from which a topic counts as refused. The network may cause one or two
/// failures; three in a row are the fault of the topic.
const REFUSED_AFTER: u32 = 3;
/// The pause after the first failure; each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause. A corrected policy of the broker takes effect within this time; later if many
/// topics are refused, because one topic is tried at a time.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The failures of a topic since the last success.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Doubt {
    failures: u32,
    since: Mono,
    last: Mono,
}

impl Doubt {
    /// Counts a failure.
    pub fn add_failure(&mut self, now: Mono) {
        if self.failures == 0 {
            self.since = now;
        }
        self.failures = self.failures.saturating_add(1);
        self.last = now;
    }

    /// Returns `true` if the topic failed since the last success.
    #[must_use]
    pub fn has_failures(&self) -> bool {
        self.failures > 0
    }

    /// Returns the number of failures in a row.
    #[must_use]
    pub fn failure_count(&self) -> u32 {
        self.failures
    }

    /// Returns `true` if the topic counts as refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.failures >= REFUSED_AFTER
    }

    /// Returns the time of the first failure.
    #[must_use]
    pub fn failing_since(&self) -> Mono {
        self.since
    }

    /// Returns the time from which the topic may be tried again.
    #[must_use]
    pub fn next_trial(&self) -> Mono {
        if self.failures == 0 {
            return self.last;
        }
        let doublings = (self.failures - 1).min(16);
        self.last + FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_over_after_a_success() {
        let mut doubt = Doubt::default();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            doubt.add_failure(Mono(1_000));
            pauses.push(doubt.next_trial().since(Mono(1_000)).as_secs());
        }

        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(doubt.is_refused());
        assert!(!Doubt::default().is_refused());
    }
}
