//! The pace of publishing, under limits of messages, bytes and records a second.
//!
//! Services treat a client above the limit differently; AWS IoT drops the message without notice.
//! The agent therefore keeps the pace itself.

use std::time::Duration;

use crate::record::lane::Lane;
use crate::time::Mono;

/// Half of the quota of AWS IoT Core: 100 publish requests a second and connection, in and out. The
/// other half leaves room for commands, and for messages repeated by the service.
pub const MESSAGES_PER_SECOND: u32 = 50;
/// Three quarters of the quota of AWS IoT Core: 512 KiB a second and connection.
pub const BYTES_PER_SECOND: u32 = 384 * 1024;
/// The default limit of unacknowledged messages; fewer than [`MAX_WINDOW`] suffice.
pub const WINDOW: usize = 16;
/// The quota of AWS IoT Core for unacknowledged messages of a connection.
pub const MAX_WINDOW: usize = 100;
const _: () = assert!(MESSAGES_PER_SECOND <= 100 && BYTES_PER_SECOND <= 512 * 1024);
const _: () = assert!(WINDOW <= MAX_WINDOW);

/// The allowance saved up in a pause and usable at once, in milliseconds of the limits.
const BURST_MS: u64 = 250;
/// The further allowance of alerts, in milliseconds, so an alert need not wait for earlier
/// messages.
const ALERT_BURST_MS: u64 = 80;
/// The allowance for readings and events, in microseconds.
const BURST_US: u64 = BURST_MS * 1_000;
/// The largest debt after any message, in microseconds: of alerts, and of a message above the size
/// of a burst.
const LARGE_BURST_US: u64 = (BURST_MS + ALERT_BURST_MS) * 1_000;
const _: () = {
    let worst_ms = 1_000 + BURST_MS + ALERT_BURST_MS;
    assert!(MESSAGES_PER_SECOND as u64 * worst_ms <= 100 * 1_000);
    assert!(BYTES_PER_SECOND as u64 * worst_ms <= 512 * 1024 * 1_000);
};

/// The limits of the pace; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PaceLimits {
    /// Messages a second.
    pub messages: Option<u32>,
    /// Payload bytes a second.
    pub bytes: Option<u32>,
    /// Records a second, for the services behind the broker.
    pub records: Option<u32>,
}

/// The cost of one message.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Bytes of payload and topic.
    pub bytes: u64,
    /// Number of records.
    pub records: u64,
}

/// Computes the delay of messages from the costs of the messages sent.
#[derive(Debug)]
pub struct Pace {
    limits: PaceLimits,
    /// The monotonic time up to which each allowance is used up, in microseconds.
    paid_until: [u64; 3],
}

impl Pace {
    /// Begins with a full allowance.
    #[must_use]
    pub fn new(limits: PaceLimits) -> Self {
        Self { limits, paid_until: [0; 3] }
    }

    /// Returns the delay before a message of `cost` may be sent; zero for now. A message above the
    /// size of a burst waits until most of its price is saved up: after any message, an alert waits
    /// for its own price at most.
    #[must_use]
    pub fn required_delay(&self, now: Mono, lane: Lane, cost: Cost) -> Duration {
        let owed = self.paid_until.iter().zip(self.price_message(cost));
        let delay = |(paid_until, price): (&u64, u64)| {
            let burst = match lane {
                Lane::Events | Lane::Readings if price <= BURST_US => BURST_US,
                Lane::Alerts | Lane::Events | Lane::Readings => LARGE_BURST_US,
            };
            (paid_until + price).saturating_sub(now.0 * 1_000 + burst)
        };
        Duration::from_micros(owed.map(delay).max().unwrap_or(0))
    }

    /// Charges `cost` for a message sent at `now`.
    pub fn spend_cost(&mut self, now: Mono, cost: Cost) {
        let prices = self.price_message(cost);
        for (paid_until, price) in self.paid_until.iter_mut().zip(prices) {
            // What a message above the size of a burst saved up is spent.
            let saved = price.saturating_sub(LARGE_BURST_US);
            *paid_until = (*paid_until).max((now.0 * 1_000).saturating_sub(saved)) + price;
        }
    }

    /// Returns the price of a message for each allowance, in microseconds.
    fn price_message(&self, cost: Cost) -> [u64; 3] {
        let price = |limit: Option<u32>, amount: u64| {
            limit.map_or(0, |limit| amount * 1_000_000 / u64::from(limit.max(1)))
        };
        let PaceLimits { messages, bytes, records } = self.limits;
        [price(messages, 1), price(bytes, cost.bytes), price(records, cost.records)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent_in_ten_seconds(limits: PaceLimits, cost: Cost) -> u64 {
        let mut pace = Pace::new(limits);
        let mut sent = 0;
        for ms in 0..10_000 {
            while pace.required_delay(Mono(ms), Lane::Readings, cost).is_zero() {
                pace.spend_cost(Mono(ms), cost);
                sent += 1;
            }
        }
        sent
    }

    #[test]
    fn no_second_takes_more_than_the_limit_allows() {
        let cost = Cost { bytes: 1_000, records: 10 };
        let by_messages = PaceLimits { messages: Some(50), ..PaceLimits::default() };
        let by_bytes = PaceLimits { bytes: Some(20_000), ..PaceLimits::default() };
        let by_records = PaceLimits { records: Some(1_000), ..PaceLimits::default() };

        assert!((500..=515).contains(&sent_in_ten_seconds(by_messages, cost)));
        assert!((200..=206).contains(&sent_in_ten_seconds(by_bytes, cost)));
        assert!((1_000..=1_027).contains(&sent_in_ten_seconds(by_records, cost)));
    }

    #[test]
    fn without_limits_nothing_waits() {
        let mut pace = Pace::new(PaceLimits::default());
        for _ in 0..10_000 {
            pace.spend_cost(Mono(1), Cost { bytes: 1 << 20, records: 10_000 });
        }
        let cost = Cost { bytes: 1 << 20, records: 10_000 };
        assert_eq!(pace.required_delay(Mono(1), Lane::Readings, cost), Duration::ZERO);
    }

    /// Returns the most messages and bytes in any second, for messages of random sizes and lanes,
    /// each sent without any further delay.
    fn worst_second(seed: u64, limits: PaceLimits, max_bytes: u64) -> (usize, u64) {
        let mut random = Xorshift(seed);
        let mut pace = Pace::new(limits);
        let mut sent: Vec<(u64, u64)> = Vec::new();
        let mut worst = (0, 0);
        for ms in 0..20_000 {
            loop {
                let lane = Lane::ALL[usize::try_from(random.next() % 3).unwrap()];
                let cost = Cost { bytes: 1 + random.next() % max_bytes, records: 1 };
                if random.next().is_multiple_of(8)
                    || !pace.required_delay(Mono(ms), lane, cost).is_zero()
                {
                    break;
                }
                pace.spend_cost(Mono(ms), cost);
                sent.push((ms, cost.bytes));
            }
            let recent = sent.iter().rev().take_while(|(at, _)| at + 1_000 > ms);
            let (count, bytes) = recent.fold((0, 0), |(n, sum), (_, bytes)| (n + 1, sum + bytes));
            worst = (worst.0.max(count), worst.1.max(bytes));
        }
        worst
    }

    struct Xorshift(u64);

    impl Xorshift {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }
    }

    #[test]
    fn no_second_exceeds_what_aws_takes_whatever_the_sizes_and_though_alerts_go_first() {
        let limits = PaceLimits {
            messages: Some(MESSAGES_PER_SECOND),
            bytes: Some(BYTES_PER_SECOND),
            records: None,
        };
        for (seed, max_bytes) in [(1, 100), (2, 20 << 10), (3, 125 << 10), (4, 128 << 10)] {
            let (messages, bytes) = worst_second(seed, limits, max_bytes);

            assert!(messages <= 100 && bytes <= 512 << 10, "{messages} messages, {bytes} bytes");
            assert!(messages >= 50 || bytes >= 300 << 10, "{messages} messages, {bytes} bytes");
        }
    }

    #[test]
    fn an_alert_does_not_wait_for_the_readings_before_it() {
        let limits = PaceLimits { bytes: Some(BYTES_PER_SECOND), ..PaceLimits::default() };
        let cost = Cost { bytes: 20 << 10, records: 200 };
        let alert = Cost { bytes: 300, records: 1 };
        let mut pace = Pace::new(limits);
        while pace.required_delay(Mono(0), Lane::Readings, cost).is_zero() {
            pace.spend_cost(Mono(0), cost);
        }

        assert_eq!(pace.required_delay(Mono(0), Lane::Alerts, alert), Duration::ZERO);
    }

    /// Readings keep to a pace far below their size, as one message of 125 KiB every two seconds.
    #[test]
    fn an_alert_waits_for_its_own_price_at_most_whatever_the_size_of_the_readings() {
        let alert = Cost { bytes: 300, records: 1 };
        for (bytes_per_second, size) in
            [(64 << 10, 125 << 10), (64 << 10, 20 << 10), (1_024, 5_120)]
        {
            let limits = PaceLimits { bytes: Some(bytes_per_second), ..PaceLimits::default() };
            let own_price = Duration::from_millis(300 * 1_000 / u64::from(bytes_per_second) + 1);
            let cost = Cost { bytes: size, records: 200 };
            let (mut pace, mut sent) = (Pace::new(limits), 0);
            for ms in 0..60_000 {
                let now = Mono(100_000 + ms);
                if pace.required_delay(now, Lane::Readings, cost).is_zero() {
                    pace.spend_cost(now, cost);
                    sent += size;
                }
                let delay = pace.required_delay(now, Lane::Alerts, alert);
                assert!(delay <= own_price, "{delay:?} for an alert beside {size} bytes");
            }

            let expected = 60 * u64::from(bytes_per_second);
            assert!(sent + size >= expected, "{sent} of {expected} bytes");
            assert!(sent <= expected + 2 * size, "{sent} of {expected} bytes");
        }
    }
}
