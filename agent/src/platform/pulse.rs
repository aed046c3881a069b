//! Heartbeat of a part of the agent: the part beats after each piece of work, and every few seconds
//! at rest. The systemd watchdog is fed only while every part beats.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pulsegate_core::time::Mono;

/// Longest time between two beats of a part at rest.
pub(crate) const AT_REST: Duration = Duration::from_secs(10);
/// Time without a beat after which a part counts as stuck: several beats and a slow memory card.
const STUCK_AFTER: Duration = Duration::from_secs(45);

/// Beat counter, shared between a part and its observer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Counts one beat.
    pub(crate) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of beats.
    #[cfg(test)]
    pub(crate) fn beats(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for another part, which has its own pulse, and beats meanwhile, so the waiting part
    /// does not count as stuck.
    pub(crate) async fn beat_during<T>(&self, waiting: impl Future<Output = T>) -> T {
        let mut waiting = std::pin::pin!(waiting);
        loop {
            if let Ok(done) = tokio::time::timeout(AT_REST, &mut waiting).await {
                return done;
            }
            self.beat();
        }
    }
}

/// Observer of the pulses of several parts.
#[derive(Debug, Default)]
pub(crate) struct Watchdog(Vec<WatchedPulse>);

#[derive(Debug)]
struct WatchedPulse {
    part: &'static str,
    pulse: Pulse,
    /// Number of beats at the last change, and the time of that change.
    seen: (u64, Mono),
}

impl Watchdog {
    /// Observes the pulse of `part` as well.
    pub(crate) fn watch_pulse(&mut self, part: &'static str, pulse: &Pulse, now: Mono) {
        self.0.push(WatchedPulse { part, pulse: pulse.clone(), seen: (0, now) });
    }

    /// Returns whether every part is alive, i.e. has beaten within [`STUCK_AFTER`].
    pub(crate) fn all_alive(&mut self, now: Mono) -> bool {
        self.0.iter_mut().all(|watched| watched.is_alive(now))
    }
}

impl WatchedPulse {
    fn is_alive(&mut self, now: Mono) -> bool {
        let beats = self.pulse.0.load(Ordering::Relaxed);
        if beats != self.seen.0 {
            self.seen = (beats, now);
        }
        let alive = now.since(self.seen.1) < STUCK_AFTER;
        if !alive {
            tracing::error!(part = self.part, "stuck: the watchdog is not fed");
        }
        alive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_that_waits_for_another_part_beats_meanwhile() {
        let pulse = Pulse::default();
        let mut watchdog = Watchdog::default();
        watchdog.watch_pulse("publisher", &pulse, Mono(0));
        let work = tokio::time::sleep(Duration::from_secs(600));
        let looks = async {
            for second in (10..600_u64).step_by(10) {
                tokio::time::sleep(Duration::from_secs(10)).await;
                assert!(watchdog.all_alive(Mono(second * 1_000)), "after {second} s");
            }
        };

        tokio::join!(pulse.beat_during(work), looks);
    }

    #[test]
    fn a_part_that_stops_beating_is_stuck_after_a_while_and_only_then() {
        let pulse = Pulse::default();
        let mut watchdog = Watchdog::default();
        watchdog.watch_pulse("store", &pulse, Mono(0));

        for second in 1..100 {
            pulse.beat();
            assert!(watchdog.all_alive(Mono(second * 1_000)));
        }
        assert!(watchdog.all_alive(Mono(140_000)));
        assert!(!watchdog.all_alive(Mono(150_000)));
        pulse.beat();
        assert!(watchdog.all_alive(Mono(151_000)));
    }

    #[test]
    fn one_stuck_part_among_living_ones_is_enough_to_leave_the_watchdog_unfed() {
        let (living, stuck) = (Pulse::default(), Pulse::default());
        let mut watchdog = Watchdog::default();
        watchdog.watch_pulse("store", &living, Mono(0));
        watchdog.watch_pulse("sensors", &stuck, Mono(0));

        assert!(watchdog.all_alive(Mono(44_000)));
        living.beat();
        assert!(!watchdog.all_alive(Mono(45_000)));
    }
}
