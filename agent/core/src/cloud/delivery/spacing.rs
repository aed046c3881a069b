//! The spacing of trials: a trial that ends a connection holds up every other topic.

use std::time::Duration;

use crate::time::Mono;

/// Length of the pause after a trial, as a multiple of the duration of the interruption. The factor
/// 3 leaves three quarters of the time to accepted topics, regardless of the number of refused
/// topics.
const SHARE: u32 = 3;
/// Longest interruption counted as caused by a trial: the deadline of an acknowledgement plus a
/// reconnect. Any longer interruption is an unrelated outage.
const LONGEST_COST: Duration = Duration::from_secs(40);

/// Limits how often a message of any topic is sent on trial.
#[derive(Debug, Default)]
pub(super) struct Spacing {
    /// Time at which the trial that ended the connection was sent; `None` once reconnected.
    since: Option<Mono>,
    next: Mono,
}

impl Spacing {
    /// Notes that the connection ended while a message on trial, sent at `sent`, was on its way.
    pub(super) fn link_lost(&mut self, sent: Mono) {
        self.since.get_or_insert(sent);
    }

    /// Notes a new connection, and starts the pause: the length of the interruption is now known.
    pub(super) fn link_up(&mut self, now: Mono) {
        if let Some(since) = self.since.take() {
            self.next = now + now.since(since).min(LONGEST_COST) * SHARE;
        }
    }

    /// Returns `true` if a message may be sent on trial at `now`.
    pub(super) fn is_due(&self, now: Mono) -> bool {
        self.since.is_none() && self.next <= now
    }

    /// Returns the earliest time of the next trial, as far as known.
    pub(super) fn next(&self) -> Mono {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_is_three_times_the_cost_of_the_trial_and_bounded() {
        // Time of the trial, of the reconnect and of the next permitted trial, in seconds.
        for (sent, up, next) in [(10, 12, 18), (10, 50, 170), (10, 4_000, 4_120)] {
            let at = |seconds: u64| Mono(seconds * 1_000);
            let mut spacing = Spacing::default();
            assert!(spacing.is_due(at(sent)));

            spacing.link_lost(at(sent));
            assert!(!spacing.is_due(at(up)), "there is no connection yet");
            spacing.link_up(at(up));

            assert!(!spacing.is_due(at(next - 1)) && spacing.is_due(at(next)), "sent at {sent}");
        }
    }
}
