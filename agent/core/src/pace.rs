//! The pace of publishing: how soon the next message may go, under limits of messages, bytes and
//! records a second. What a service does to a client that is too fast differs (AWS IoT drops the
//! publish without a word), so the client keeps the pace itself.

use std::time::Duration;

use crate::time::Mono;

/// AWS IoT Core quotas: 100 publish requests a second and connection, in and out. Half of it
/// leaves room for commands, and for what the service sends again.
pub const MESSAGES_PER_SECOND: u32 = 50;
/// AWS IoT Core quotas: 512 KiB a second and connection; three quarters of it.
pub const BYTES_PER_SECOND: u32 = 384 * 1024;
/// AWS IoT Core quotas: 100 unacknowledged messages; far fewer do, and bound what is sent twice.
pub const WINDOW: usize = 16;
/// See [`WINDOW`].
pub const MAX_WINDOW: usize = 100;
const _: () = assert!(MESSAGES_PER_SECOND <= 100 && BYTES_PER_SECOND <= 512 * 1024);
const _: () = assert!(WINDOW <= MAX_WINDOW);

/// Saved-up allowance: this much of a second may be used at once after a pause.
const BURST_MS: u64 = 250;

/// The limits; `None` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Messages a second.
    pub messages: Option<u32>,
    /// Payload bytes a second.
    pub bytes: Option<u32>,
    /// Records a second: for what stands behind the broker.
    pub records: Option<u32>,
}

/// What one message uses up.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Bytes of payload and topic.
    pub bytes: u64,
    /// Records in it.
    pub records: u64,
}

/// Keeps the pace.
#[derive(Debug)]
pub struct Pace {
    limits: Limits,
    /// In microseconds on the monotonic clock: when each allowance is paid for.
    paid_until: [u64; 3],
}

impl Pace {
    /// Begins with a full allowance.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, paid_until: [0; 3] }
    }

    /// How long the next message has to wait; zero: it may go.
    #[must_use]
    pub fn delay(&self, now: Mono) -> Duration {
        let allowed = (now.0 + BURST_MS) * 1000;
        let latest = self.paid_until.iter().copied().max().unwrap_or(0);
        Duration::from_micros(latest.saturating_sub(allowed))
    }

    /// A message went. An alert goes whatever [`Pace::delay`] says; the others then wait for it.
    pub fn spend(&mut self, now: Mono, cost: Cost) {
        let costs = [
            (self.limits.messages, 1),
            (self.limits.bytes, cost.bytes),
            (self.limits.records, cost.records),
        ];
        for (paid_until, (limit, amount)) in self.paid_until.iter_mut().zip(costs) {
            if let Some(limit) = limit {
                let price = amount * 1_000_000 / u64::from(limit.max(1));
                *paid_until = (*paid_until).max(now.0 * 1000) + price;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent_in_ten_seconds(limits: Limits, cost: Cost) -> u64 {
        let mut pace = Pace::new(limits);
        let mut sent = 0;
        for ms in 0..10_000 {
            while pace.delay(Mono(ms)).is_zero() {
                pace.spend(Mono(ms), cost);
                sent += 1;
            }
        }
        sent
    }

    #[test]
    fn no_second_takes_more_than_the_limit_allows() {
        let cost = Cost { bytes: 1_000, records: 10 };
        let by_messages = Limits { messages: Some(50), ..Limits::default() };
        let by_bytes = Limits { bytes: Some(20_000), ..Limits::default() };
        let by_records = Limits { records: Some(1_000), ..Limits::default() };

        assert!((500..=515).contains(&sent_in_ten_seconds(by_messages, cost)));
        assert!((200..=206).contains(&sent_in_ten_seconds(by_bytes, cost)));
        assert!((1_000..=1_027).contains(&sent_in_ten_seconds(by_records, cost)));
    }

    #[test]
    fn without_limits_nothing_waits() {
        let mut pace = Pace::new(Limits::default());
        for _ in 0..10_000 {
            pace.spend(Mono(1), Cost { bytes: 1 << 20, records: 10_000 });
        }
        assert_eq!(pace.delay(Mono(1)), Duration::ZERO);
    }
}
