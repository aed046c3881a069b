//! The spacing of trials: a trial that ends a connection holds up every other topic.

use std::time::Duration;

use crate::time::Mono;

/// How much longer than a trial took is the time without trials behind it: three quarters of the time
/// belong to the topics that the broker takes, however many it refuses.
const SHARE: u32 = 3;
/// The longest time that is laid to a trial: the deadline of an acknowledgement, and a new connection. An
/// outage that happens to follow lasts longer.
const LONGEST_COST: Duration = Duration::from_secs(40);

/// When a message of any topic may be on trial.
#[derive(Debug, Default)]
pub(super) struct Spacing {
    /// When the trial was sent that ended the connection, until there is another connection.
    since: Option<Mono>,
    next: Mono,
}

impl Spacing {
    /// Notes that the connection ended while a message on trial, sent at `sent`, was on its way.
    pub(super) fn link_lost(&mut self, sent: Mono) {
        self.since.get_or_insert(sent);
    }

    /// Notes that there is a connection again: the cost of the trial is known.
    pub(super) fn link_up(&mut self, now: Mono) {
        if let Some(since) = self.since.take() {
            self.next = now + now.since(since).min(LONGEST_COST) * SHARE;
        }
    }

    /// Whether a message on trial may go.
    pub(super) fn is_due(&self, now: Mono) -> bool {
        self.since.is_none() && self.next <= now
    }

    /// The time from which a message on trial may go, as far as is known.
    pub(super) fn next(&self) -> Mono {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_is_three_times_the_cost_of_the_trial_and_bounded() {
        // Sent, up again, and when the next may go, in seconds.
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
