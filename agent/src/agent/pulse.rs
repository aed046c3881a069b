//! The pulse of a part: it beats whenever the part gets something done, and at rest every few
//! seconds. The watchdog is fed only while every pulse beats.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pulsegate_core::time::Mono;

/// At rest, a part beats at least this often.
pub(crate) const AT_REST: Duration = Duration::from_secs(10);
/// A part whose pulse was not felt for so long is stuck: several beats, and a slow card.
const STUCK_AFTER: Duration = Duration::from_secs(45);

/// One end of a pulse; the part has the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Something got done.
    pub(crate) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Feels a pulse now and then.
#[derive(Debug)]
pub(super) struct Finger {
    name: &'static str,
    pulse: Pulse,
    felt: u64,
    at: Mono,
}

impl Finger {
    pub(super) fn on(name: &'static str, pulse: &Pulse, now: Mono) -> Self {
        Self { name, pulse: pulse.clone(), felt: 0, at: now }
    }

    /// Whether the part is alive.
    pub(super) fn feel(&mut self, now: Mono) -> bool {
        let beats = self.pulse.0.load(Ordering::Relaxed);
        if beats != self.felt {
            (self.felt, self.at) = (beats, now);
        }
        let alive = now.since(self.at) < STUCK_AFTER;
        if !alive {
            tracing::error!(part = self.name, "stuck: the watchdog is not fed");
        }
        alive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_stops_beating_is_stuck_after_a_while_and_only_then() {
        let pulse = Pulse::default();
        let mut finger = Finger::on("store", &pulse, Mono(0));

        for second in 1..100 {
            pulse.beat();
            assert!(finger.feel(Mono(second * 1_000)));
        }
        assert!(finger.feel(Mono(140_000)));
        assert!(!finger.feel(Mono(150_000)));
        pulse.beat();
        assert!(finger.feel(Mono(151_000)));
    }
}
