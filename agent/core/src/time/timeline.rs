//! The timeline: converts monotonic times to wall times (P8).
//!
//! A device without a clock chip starts with a wrong wall clock, and learns the right time later or
//! never. The agent therefore stores no wall time of its own: a reading has the monotonic time of
//! its kernel boot, and the timeline converts the monotonic time to a wall time on each request, as
//! far as the wall time is known by then. A kernel boot continues across restarts of the agent.
//!
//! Each kernel boot also has a fixed reference: monotonic time plus the reference is an axis that
//! looks like wall time but never steps. Rules use the reference axis.

use crate::time::{Mono, Wall};

/// The number of a kernel boot in this store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u32);

/// The trust in a wall time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The clock had been set, or was set later and the time corrected.
    Trusted,
    /// The clock was not set during that kernel boot, or not yet.
    Unset,
}

/// An offset of the wall clock: from `since` on, wall time was monotonic time plus `offset_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The start of the segment.
    pub since: Mono,
    /// The milliseconds to add to a monotonic time.
    pub offset_ms: i64,
    /// Tells if the clock was known to be right.
    pub trust: Trust,
}

/// The most segments of a kernel boot; bounds the cost of a clock that steps every second. The
/// first trusted segment always stays.
const MAX_SEGMENTS: usize = 64;
/// The least difference of a step, in milliseconds; below it, the clock is slewed or the read slow.
pub const STEP_MS: u64 = 500;

#[derive(Debug, Clone)]
struct KernelBoot {
    epoch: Epoch,
    reference_ms: i64,
    segments: Vec<Segment>,
}

/// The wall times of every kernel boot that the store remembers.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    boots: Vec<KernelBoot>,
}

impl Timeline {
    /// Adds a kernel boot with its reference in milliseconds. Epochs must be added in rising order.
    pub fn begin(&mut self, epoch: Epoch, reference_ms: i64) {
        self.boots.push(KernelBoot { epoch, reference_ms, segments: Vec::new() });
    }

    /// Takes the time of the wall clock at `now`. Returns the new segment, to be stored, if the
    /// clock stepped or its trust changed.
    pub fn observe(
        &mut self,
        epoch: Epoch,
        now: Mono,
        wall: Wall,
        trust: Trust,
    ) -> Option<Segment> {
        let offset_ms = wall.0.saturating_sub(i64::try_from(now.0).unwrap_or(i64::MAX));
        let boot = self.boot_mut(epoch)?;
        if let Some(last) = boot.segments.last()
            && last.offset_ms.abs_diff(offset_ms) < STEP_MS
            && last.trust == trust
        {
            return None;
        }
        let segment = Segment { since: now, offset_ms, trust };
        self.restore(epoch, segment);
        Some(segment)
    }

    /// Restores a stored segment.
    pub fn restore(&mut self, epoch: Epoch, segment: Segment) {
        let Some(boot) = self.boot_mut(epoch) else { return };
        if boot.segments.len() >= MAX_SEGMENTS {
            let first = boot.segments.iter().position(|segment| segment.trust == Trust::Trusted);
            let middle = MAX_SEGMENTS / 2;
            boot.segments.remove(if first == Some(middle) { middle + 1 } else { middle });
        }
        boot.segments.push(segment);
    }

    /// Returns the wall time of `mono`, as far as known by now; `Wall(0)` and [`Trust::Unset`] for
    /// an unknown epoch.
    #[must_use]
    pub fn wall(&self, epoch: Epoch, mono: Mono) -> (Wall, Trust) {
        let Some(boot) = self.boot(epoch) else { return (Wall(0), Trust::Unset) };
        let (offset_ms, trust) = boot.offset_at(mono);
        (shifted(mono, offset_ms), trust)
    }

    /// Returns the time of `mono` on the reference axis of the kernel boot.
    #[must_use]
    pub fn reference(&self, epoch: Epoch, mono: Mono) -> Wall {
        shifted(mono, self.boot(epoch).map_or(0, |boot| boot.reference_ms))
    }

    /// Converts a time on the reference axis of a kernel boot to wall time.
    #[must_use]
    pub fn corrected(&self, epoch: Epoch, reference: Wall) -> (Wall, Trust) {
        let Some(boot) = self.boot(epoch) else { return (reference, Trust::Unset) };
        let mono = reference.0.saturating_sub(boot.reference_ms);
        self.wall(epoch, Mono(u64::try_from(mono).unwrap_or(0)))
    }

    /// Returns `true` if the clock of this kernel boot is known to be right by now.
    #[must_use]
    pub fn is_set(&self, epoch: Epoch) -> bool {
        self.boot(epoch)
            .is_some_and(|boot| boot.segments.iter().any(|segment| segment.trust == Trust::Trusted))
    }

    /// Returns the latest wall time at which a trusted segment began.
    #[must_use]
    pub fn last_set(&self) -> Option<Wall> {
        let segments = self.boots.iter().flat_map(|boot| &boot.segments);
        let trusted = segments.filter(|segment| segment.trust == Trust::Trusted);
        trusted.map(|segment| shifted(segment.since, segment.offset_ms)).max()
    }

    /// Returns the remembered segments of a kernel boot.
    #[must_use]
    pub fn segments(&self, epoch: Epoch) -> &[Segment] {
        self.boot(epoch).map_or(&[], |boot| &boot.segments)
    }

    /// Returns the epoch and the reference in milliseconds of every kernel boot, the oldest first.
    pub fn references(&self) -> impl Iterator<Item = (Epoch, i64)> {
        self.boots.iter().map(|boot| (boot.epoch, boot.reference_ms))
    }

    /// Returns the highest reference, as a wall time.
    #[must_use]
    pub fn newest_reference(&self) -> Option<Wall> {
        self.boots.iter().map(|boot| Wall(boot.reference_ms)).max()
    }

    /// Forgets the kernel boots before `epoch`.
    pub fn forget_before(&mut self, epoch: Epoch) {
        self.boots.retain(|boot| boot.epoch >= epoch);
    }

    fn boot(&self, epoch: Epoch) -> Option<&KernelBoot> {
        self.boots.iter().rev().find(|boot| boot.epoch == epoch)
    }

    fn boot_mut(&mut self, epoch: Epoch) -> Option<&mut KernelBoot> {
        self.boots.iter_mut().rev().find(|boot| boot.epoch == epoch)
    }
}

impl KernelBoot {
    /// Returns the offset at `mono`: that of the segment in force, if trusted; else of the first
    /// segment trusted later, because the clock was then set right for the time before; else of the
    /// last segment trusted before.
    fn offset_at(&self, mono: Mono) -> (i64, Trust) {
        let trusted = |segment: &&Segment| segment.trust == Trust::Trusted;
        let after = self.segments.partition_point(|segment| segment.since <= mono);
        let (past, future) = self.segments.split_at(after);
        if let Some(now) = past.last().filter(trusted) {
            return (now.offset_ms, Trust::Trusted);
        }
        if let Some(set) = future.iter().find(trusted).or_else(|| past.iter().rev().find(trusted)) {
            return (set.offset_ms, Trust::Trusted);
        }
        let guess = past.last().or(future.first());
        (guess.map_or(self.reference_ms, |segment| segment.offset_ms), Trust::Unset)
    }
}

fn shifted(mono: Mono, offset_ms: i64) -> Wall {
    Wall(i64::try_from(mono.0).unwrap_or(i64::MAX).saturating_add(offset_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: Epoch = Epoch(1);
    const NOON: i64 = 1_795_262_400_000;

    fn timeline() -> Timeline {
        let mut timeline = Timeline::default();
        timeline.begin(DEVICE, 0);
        timeline
    }

    #[test]
    fn a_reading_taken_before_the_clock_was_set_has_the_corrected_time_afterwards() {
        let mut timeline = timeline();
        timeline.observe(DEVICE, Mono(1_000), Wall(1_000), Trust::Unset);
        assert_eq!(timeline.wall(DEVICE, Mono(5_000)), (Wall(5_000), Trust::Unset));

        timeline.observe(DEVICE, Mono(60_000), Wall(NOON), Trust::Trusted);

        assert_eq!(timeline.wall(DEVICE, Mono(5_000)), (Wall(NOON - 55_000), Trust::Trusted));
        assert_eq!(timeline.wall(DEVICE, Mono(61_000)), (Wall(NOON + 1_000), Trust::Trusted));
    }

    #[test]
    fn the_reference_axis_does_not_step_with_the_clock() {
        let mut timeline = timeline();
        let before = timeline.reference(DEVICE, Mono(5_000));

        timeline.observe(DEVICE, Mono(60_000), Wall(NOON), Trust::Trusted);

        assert_eq!(timeline.reference(DEVICE, Mono(5_000)), before);
        assert_eq!(timeline.corrected(DEVICE, before).0, Wall(NOON - 55_000));
    }

    #[test]
    fn what_was_trusted_stays_as_it_was_published() {
        let mut timeline = timeline();
        timeline.observe(DEVICE, Mono(0), Wall(NOON), Trust::Trusted);
        timeline.observe(DEVICE, Mono(10_000), Wall(NOON + 3_610_000), Trust::Trusted);

        assert_eq!(timeline.wall(DEVICE, Mono(5_000)).0, Wall(NOON + 5_000));
        assert_eq!(timeline.wall(DEVICE, Mono(15_000)).0, Wall(NOON + 3_615_000));
    }

    #[test]
    fn a_clock_that_loses_its_synchronisation_keeps_the_offset_it_had() {
        let mut timeline = timeline();
        timeline.observe(DEVICE, Mono(0), Wall(NOON), Trust::Trusted);
        timeline.observe(DEVICE, Mono(10_000), Wall(5), Trust::Unset);

        assert_eq!(timeline.wall(DEVICE, Mono(20_000)), (Wall(NOON + 20_000), Trust::Trusted));
    }

    #[test]
    fn only_a_step_or_a_change_of_trust_is_news() {
        let mut timeline = timeline();
        assert!(timeline.observe(DEVICE, Mono(0), Wall(NOON), Trust::Unset).is_some());
        assert!(timeline.observe(DEVICE, Mono(1_000), Wall(NOON + 1_100), Trust::Unset).is_none());
        assert!(
            timeline.observe(DEVICE, Mono(2_000), Wall(NOON + 2_100), Trust::Trusted).is_some()
        );
        assert!(
            timeline.observe(DEVICE, Mono(3_000), Wall(NOON + 9_000), Trust::Trusted).is_some()
        );
    }

    #[test]
    fn a_clock_that_steps_for_ever_costs_a_bounded_amount() {
        let mut timeline = timeline();
        for step in 0..10_000_u64 {
            let wall = Wall(NOON + i64::try_from(step * 7_000).unwrap());
            timeline.observe(DEVICE, Mono(step * 1_000), wall, Trust::Unset);
        }

        assert_eq!(timeline.boots[0].segments.len(), MAX_SEGMENTS);
    }
}
