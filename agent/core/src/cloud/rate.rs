//! The measured rate of the link: acknowledged bytes a second on the way to the broker.
//!
//! Each acknowledgement gives one sample: the bytes acknowledged since the message was sent, by the
//! time in which these bytes were sent and acknowledged, whichever took longer (as BBR does,
//! draft-cardwell-iccrg-bbr-congestion-control, section 4.1). The rate is the largest sample of the
//! last one or two panes of five seconds: a message that does not fill the link gives a smaller
//! sample, never a larger one.

use std::time::Duration;

use crate::time::Mono;

/// The time for which unacknowledged readings and events may occupy the link, and an alert may
/// therefore wait, unless a single message takes longer.
pub const HORIZON: Duration = Duration::from_secs(1);
/// Half of the time after which a sample no longer counts, as long as acknowledgements come.
const PANE: Duration = Duration::from_secs(5);
/// The most bytes a second assumed on a new connection before its first sample: the network may be
/// another one.
const CARRIED_OVER: u64 = 64 * 1024;
/// The slowest link for which a deadline is computed, in bytes a second: the 9,600 bit/s of GSM.
/// Small messages alone can give samples far below the rate of the link.
const SLOWEST: u64 = 1_200;

/// The longest time for which a deadline waits for bytes on their way: a message of 128 KiB on the
/// slowest link. Without a bound, large messages to a silent broker would wait for a quarter of an
/// hour.
const MAX_TRANSFER: Duration = Duration::from_secs(110);

/// The state of the measurement on one connection.
#[derive(Debug)]
pub struct LinkRate {
    /// The sum of acknowledged bytes.
    acknowledged: u64,
    acknowledged_at: Mono,
    /// The time at which the last acknowledged message was sent.
    first_sent: Mono,
    /// The largest sample of the current and of the last pane, in bytes a second.
    best: [u64; 2],
    pane_began: Mono,
    /// The rate assumed before the first sample, in bytes a second.
    carried_over: u64,
    round_trip: Duration,
}

/// The state of the measurement when a message was sent.
#[derive(Debug, Clone, Copy)]
pub struct SendStamp {
    sent: Mono,
    acknowledged: u64,
    acknowledged_at: Mono,
    first_sent: Mono,
}

impl Default for LinkRate {
    fn default() -> Self {
        Self {
            acknowledged: 0,
            acknowledged_at: Mono(0),
            first_sent: Mono(0),
            best: [0; 2],
            pane_began: Mono(0),
            carried_over: 0,
            round_trip: Duration::ZERO,
        }
    }
}

impl LinkRate {
    /// Begins a connection. `round_trip` is the time to the acknowledgement of a small message, if
    /// known.
    pub fn begin_connection(&mut self, now: Mono, round_trip: Option<Duration>) {
        self.forget_samples(now);
        self.round_trip = round_trip.unwrap_or_default();
    }

    /// Forgets the samples: the network may be another one, or may have become slow while nothing
    /// was sent (as TCP restarts after an idle time, RFC 5681, section 4.1).
    fn forget_samples(&mut self, now: Mono) {
        self.carried_over = self.bytes_per_second().unwrap_or(self.carried_over).min(CARRIED_OVER);
        (self.best, self.pane_began) = ([0; 2], now);
    }

    /// Notes that a message is sent; `is_idle` if no other message is on its way.
    pub fn note_sent(&mut self, now: Mono, is_idle: bool) -> SendStamp {
        if is_idle {
            if now.since(self.acknowledged_at.max(self.pane_began)) >= PANE * 2 {
                self.forget_samples(now);
            }
            (self.acknowledged_at, self.first_sent) = (now, now);
        }
        SendStamp {
            sent: now,
            acknowledged: self.acknowledged,
            acknowledged_at: self.acknowledged_at,
            first_sent: self.first_sent,
        }
    }

    /// Takes the acknowledgement of a message of `bytes`.
    pub fn note_acknowledged(&mut self, stamp: SendStamp, bytes: u64, now: Mono) {
        self.acknowledged += bytes;
        self.acknowledged_at = now;
        self.first_sent = self.first_sent.max(stamp.sent);
        let took = now.since(stamp.acknowledged_at).max(stamp.sent.since(stamp.first_sent));
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        let sample = (self.acknowledged - stamp.acknowledged) * 1_000 / took_ms;
        if now.since(self.pane_began) >= PANE {
            (self.best, self.pane_began) = ([0, self.best[0]], now);
        }
        self.best[0] = self.best[0].max(sample);
    }

    /// Returns the measured rate; `None` before the first acknowledgement on this connection.
    #[must_use]
    pub fn bytes_per_second(&self) -> Option<u64> {
        self.best.into_iter().max().filter(|rate| *rate > 0)
    }

    /// Returns the number of bytes that the link moves in [`HORIZON`], or in three round trips if
    /// these take longer: after one message a round trip, two must fit, or a link of long round
    /// trips would stay idle. Before the first acknowledgement, and after an idle time, the rate
    /// before counts, up to 64 KiB a second.
    #[must_use]
    pub fn flight_limit(&self) -> u64 {
        let horizon = HORIZON.max(self.round_trip * 3);
        let horizon_ms = u64::try_from(horizon.as_millis()).unwrap_or(u64::MAX);
        let rate = self.bytes_per_second().unwrap_or(self.carried_over);
        rate.saturating_mul(horizon_ms) / 1_000
    }

    /// Returns the time that the link takes for `bytes`, for a deadline: by the slower of the two
    /// panes, since the link may just have become slow, and at most 110 s.
    #[must_use]
    pub fn transfer_time(&self, bytes: u64) -> Duration {
        let measured = self.best.into_iter().filter(|rate| *rate > 0).min();
        let rate = measured.unwrap_or(0).max(SLOWEST);
        Duration::from_millis(bytes.saturating_mul(1_000) / rate).min(MAX_TRANSFER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: u64 = 5_000;

    /// Sends messages of `sizes` over a link of `rate` bytes a second and `latency_ms` each way,
    /// with at most `limit` messages on their way, and returns the measured rate.
    fn measured(rate: u64, latency_ms: u64, limit: usize, sizes: &[u64]) -> LinkRate {
        let mut link = LinkRate::default();
        link.begin_connection(Mono(1_000), None);
        let (mut now, mut free_at) = (1_000, 0);
        let mut flight = std::collections::VecDeque::new();
        let mut sizes = sizes.iter().copied().peekable();
        while sizes.peek().is_some() || !flight.is_empty() {
            while flight.len() < limit && sizes.peek().is_some() {
                let size = sizes.next().unwrap_or(0);
                free_at = now.max(free_at) + (size * 1_000).div_ceil(rate);
                let stamp = link.note_sent(Mono(now), flight.is_empty());
                flight.push_back((stamp, size, free_at + 2 * latency_ms));
            }
            if let Some((stamp, size, acknowledged_at)) = flight.pop_front() {
                now = acknowledged_at.max(now);
                link.note_acknowledged(stamp, size, Mono(now));
            }
        }
        link
    }

    #[test]
    fn a_full_link_is_measured_and_no_link_is_overestimated() {
        // Rate of the link, latency, messages on their way at once, and the least measured rate.
        let rows = [
            (6_000, 20, 1, 5_600),
            (6_000, 20, 12, 5_900),
            (6_000, 300, 12, 5_500),
            (100_000, 100, 1, 20_000),
            (100_000, 100, 12, 90_000),
            (1_000_000, 1, 12, 700_000),
        ];
        for (rate, latency_ms, limit, least) in rows {
            let link = measured(rate, latency_ms, limit, &[MESSAGE; 40]);
            let found = link.bytes_per_second().unwrap();
            assert!((least..=rate).contains(&found), "{found} of {rate}, {limit} at once");
        }
    }

    #[test]
    fn a_small_message_behind_a_large_one_does_not_count_as_a_fast_link() {
        let mut link = LinkRate::default();
        let large = link.note_sent(Mono(0), true);
        let small = link.note_sent(Mono(5_900), false);

        link.note_acknowledged(large, 36_000, Mono(6_000));
        link.note_acknowledged(small, 300, Mono(6_050));

        assert_eq!(link.bytes_per_second(), Some(6_000));
    }

    #[test]
    fn a_fast_link_opens_after_one_acknowledgement_and_a_far_one_after_three_round_trips() {
        let window = 12 * MESSAGE;
        assert!(measured(50_000_000, 0, 1, &[MESSAGE]).flight_limit() >= window);

        let (mut limit, mut round_trips) = (1, 0);
        while limit * MESSAGE < window {
            let count = usize::try_from(limit).unwrap();
            let link = measured(50_000_000, 100, count, &vec![MESSAGE; count * 2]);
            limit = link.flight_limit() / MESSAGE;
            round_trips += 1;
        }
        assert!(round_trips <= 3, "{round_trips}");
    }

    #[test]
    fn a_long_round_trip_leaves_room_for_two() {
        let mut link = LinkRate::default();
        link.begin_connection(Mono(0), Some(Duration::from_secs(3)));
        let stamp = link.note_sent(Mono(0), true);
        link.note_acknowledged(stamp, MESSAGE, Mono(3_500));

        assert!(link.flight_limit() >= 2 * MESSAGE, "{}", link.flight_limit());
    }

    #[test]
    fn the_rate_follows_a_link_that_becomes_slow_and_a_new_connection_trusts_it_less() {
        let mut link = measured(1_000_000, 1, 12, &[MESSAGE; 40]);
        let fast = link.bytes_per_second().unwrap();
        assert!(fast > CARRIED_OVER);
        let mut now = 10_000;
        for _ in 0..20 {
            let stamp = link.note_sent(Mono(now), true);
            now += 1_000;
            link.note_acknowledged(stamp, MESSAGE, Mono(now));
        }
        assert_eq!(link.bytes_per_second(), Some(MESSAGE));

        let mut link = measured(1_000_000, 1, 12, &[MESSAGE; 40]);
        link.begin_connection(Mono(20_000), None);
        assert_eq!((link.bytes_per_second(), link.flight_limit()), (None, CARRIED_OVER));
        assert_eq!(link.transfer_time(SLOWEST), Duration::from_secs(1));
    }

    #[test]
    fn a_fast_rate_is_not_believed_after_an_idle_time() {
        let mut link = measured(1_000_000, 1, 12, &[MESSAGE; 40]);
        assert!(link.flight_limit() > CARRIED_OVER);

        let stamp = link.note_sent(Mono(3_600_000), true);

        assert_eq!((link.bytes_per_second(), link.flight_limit()), (None, CARRIED_OVER));
        assert_eq!(link.transfer_time(SLOWEST), Duration::from_secs(1));
        link.note_acknowledged(stamp, MESSAGE, Mono(3_601_000));
        assert_eq!(link.bytes_per_second(), Some(MESSAGE));
    }

    #[test]
    fn a_deadline_waits_for_no_more_than_a_large_message_takes_on_the_slowest_link() {
        let link = LinkRate::default();
        assert_eq!(link.transfer_time(128 * 1024), Duration::from_millis(109_226));
        assert_eq!(link.transfer_time(1 << 30), MAX_TRANSFER);
    }

    #[test]
    fn a_deadline_assumes_no_link_slower_than_the_slowest() {
        let mut link = LinkRate::default();
        assert_eq!(link.transfer_time(SLOWEST), Duration::from_secs(1));
        let stamp = link.note_sent(Mono(0), true);
        link.note_acknowledged(stamp, 100, Mono(1_000));
        assert_eq!(link.transfer_time(SLOWEST), Duration::from_secs(1));
    }
}
