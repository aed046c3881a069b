//! The wait before the next attempt to connect: exponential, with full jitter.
//!
//! The jitter keeps the devices of a fleet from reconnecting in step. No device exceeds one CONNECT
//! a second, the limit of AWS IoT for a client id. Only a link of at least [`HEALTHY_AFTER`] resets
//! the wait: a link lost soon after each CONNECT must not cause a tight loop. The available
//! libraries reset on connect, so none of them is used. Durations and random numbers are passed in
//! by the caller.

use std::time::Duration;

/// The least wait: AWS IoT refuses a second CONNECT of one client id within a second.
pub const MIN_WAIT: Duration = Duration::from_secs(1);
/// The least time that a link must have been up to count as healthy.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// The cause of a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectFailure {
    /// The network: no route, no name, no answer, or a lost connection. Likely to be over soon.
    Network,
    /// The broker refused: certificate, policy or protocol. Lasts until somebody acts.
    Refused,
}

/// The consecutive failures, and the resulting wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    /// The upper bound of the last wait; zero after a healthy link.
    range: Duration,
    failures: u32,
}

impl Backoff {
    /// Starts with waits of up to twice `base`, and never waits longer than `cap`. Both are at
    /// least [`MIN_WAIT`].
    #[must_use]
    pub fn new(base: Duration, cap: Duration) -> Self {
        let base = base.max(MIN_WAIT);
        Self { base, cap: cap.max(base), range: Duration::ZERO, failures: 0 }
    }

    /// Counts a failed attempt, and returns the wait before the next attempt. `random` is uniform
    /// in `0.0..1.0`.
    pub fn wait_after_failure(&mut self, failure: ConnectFailure, random: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.range = match failure {
            ConnectFailure::Network => self.range.max(self.base).saturating_mul(2).min(self.cap),
            ConnectFailure::Refused => self.cap,
        };
        let random = if random.is_nan() { 1.0 } else { random.clamp(0.0, 1.0) };
        MIN_WAIT + (self.range - MIN_WAIT).mul_f64(random)
    }

    /// Counts the loss of a link after `up_for`, and returns the wait before the next attempt. A
    /// healthy link resets the count first.
    pub fn wait_after_loss(&mut self, up_for: Duration, random: f64) -> Duration {
        if up_for >= HEALTHY_AFTER {
            self.range = Duration::ZERO;
            self.failures = 0;
        }
        self.wait_after_failure(ConnectFailure::Network, random)
    }

    /// Returns the wait after the peer closed a link because of a message on trial. The wait is
    /// short and not counted, because the pauses between trials grow on their own.
    #[must_use]
    pub fn wait_after_trial(&self, random: f64) -> Duration {
        let random = if random.is_nan() { 1.0 } else { random.clamp(0.0, 1.0) };
        MIN_WAIT + (self.base.saturating_mul(2).min(self.cap) - MIN_WAIT).mul_f64(random)
    }

    /// Returns the number of failed attempts and short-lived links since the last healthy link.
    #[must_use]
    pub fn failure_count(&self) -> u32 {
        self.failures
    }
}

impl Default for Backoff {
    /// Up to 2 s at first, and up to 5 min in the end: long enough to spare an unavailable service,
    /// and short enough for a person waiting for the connection.
    fn default() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(300))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONGEST: f64 = 1.0;

    fn seconds(waits: impl IntoIterator<Item = Duration>) -> Vec<u64> {
        waits.into_iter().map(|wait| wait.as_secs()).collect()
    }

    #[test]
    fn doubles_the_range_up_to_the_cap() {
        let mut backoff = Backoff::default();

        let waits = (0..10).map(|_| backoff.wait_after_failure(ConnectFailure::Network, LONGEST));

        assert_eq!(seconds(waits), [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn spreads_a_fleet_evenly_over_the_range() {
        let mut third = Backoff::default();
        third.wait_after_failure(ConnectFailure::Network, 0.0);
        third.wait_after_failure(ConnectFailure::Network, 0.0);

        let waits = [0.0, 0.5, LONGEST]
            .map(|random| third.clone().wait_after_failure(ConnectFailure::Network, random));

        assert_eq!(waits, [1.0, 4.5, 8.0].map(Duration::from_secs_f64));
    }

    #[test]
    fn goes_straight_to_the_cap_when_it_is_refused_and_stays_there() {
        let mut backoff = Backoff::default();

        let refused = backoff.wait_after_failure(ConnectFailure::Refused, LONGEST);
        let cut = backoff.wait_after_failure(ConnectFailure::Network, LONGEST);

        assert_eq!(seconds([refused, cut]), [300, 300]);
    }

    #[test]
    fn does_not_take_a_link_that_dies_again_for_a_good_one() {
        let mut backoff = Backoff::default();

        let waits = (0..3).map(|_| backoff.wait_after_loss(Duration::from_millis(59_999), LONGEST));

        assert_eq!(seconds(waits), [2, 4, 8]);
        assert_eq!(backoff.failure_count(), 3);
    }

    #[test]
    fn waits_shortly_after_a_trial_and_does_not_count_it() {
        let mut backoff = Backoff::default();
        backoff.wait_after_failure(ConnectFailure::Refused, LONGEST);

        assert_eq!(backoff.wait_after_trial(LONGEST), Duration::from_secs(2));
        assert_eq!(backoff.failure_count(), 1);
        let shortest = Backoff::new(Duration::from_secs(1), Duration::from_secs(1));
        assert_eq!(shortest.wait_after_trial(LONGEST), Duration::from_secs(1));
    }

    #[test]
    fn starts_over_after_a_minute_of_health() {
        let mut backoff = Backoff::default();
        backoff.wait_after_failure(ConnectFailure::Refused, LONGEST);

        let wait = backoff.wait_after_loss(HEALTHY_AFTER, LONGEST);

        assert_eq!(seconds([wait]), [2]);
        assert_eq!(backoff.failure_count(), 1);
    }

    proptest! {
        #[test]
        fn never_waits_less_than_a_second_or_longer_than_the_cap(
            steps in proptest::collection::vec((0..3u8, proptest::num::f64::ANY, 0..120u64), 1..200),
            base in 0..400u64,
            cap in 0..400u64,
        ) {
            let mut backoff = Backoff::new(Duration::from_secs(base), Duration::from_secs(cap));
            let cap = cap.max(base).max(1);

            for (kind, random, up_for) in steps {
                let wait = match kind {
                    0 => backoff.wait_after_failure(ConnectFailure::Network, random),
                    1 => backoff.wait_after_failure(ConnectFailure::Refused, random),
                    _ => backoff.wait_after_loss(Duration::from_secs(up_for), random),
                };

                prop_assert!((MIN_WAIT..=Duration::from_secs(cap)).contains(&wait), "{wait:?}");
            }
        }
    }
}
