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
pub enum ClockTrust {
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
    pub trust: ClockTrust,
}

/// The most segments of a kernel boot; bounds the cost of a clock that steps every second. The
/// first trusted segment always stays.
const MAX_SEGMENTS: usize = 64;
/// The least difference of a step, in milliseconds; below it, the clock is slewed or the read slow.
pub const STEP_MS: u64 = 500;

#[derive(Debug, Clone)]
struct BootTimeline {
    epoch: Epoch,
    reference_ms: i64,
    segments: Vec<Segment>,
}

/// The wall times of every kernel boot that the store remembers.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    boots: Vec<BootTimeline>,
}

impl Timeline {
    /// Adds a kernel boot with its reference in milliseconds. Epochs must be added in rising order.
    pub fn add_boot(&mut self, epoch: Epoch, reference_ms: i64) {
        self.boots.push(BootTimeline { epoch, reference_ms, segments: Vec::new() });
    }

    /// Takes the time of the wall clock at `now`. Returns the new segment, to be stored, if the
    /// clock stepped or its trust changed.
    pub fn observe_clock(
        &mut self,
        epoch: Epoch,
        now: Mono,
        wall: Wall,
        trust: ClockTrust,
    ) -> Option<Segment> {
        let offset_ms = wall.0.saturating_sub(i64::try_from(now.0).unwrap_or(i64::MAX));
        let boot = self.find_boot_mut(epoch)?;
        if let Some(last) = boot.segments.last()
            && last.offset_ms.abs_diff(offset_ms) < STEP_MS
            && last.trust == trust
        {
            return None;
        }
        let segment = Segment { since: now, offset_ms, trust };
        self.restore_segment(epoch, segment);
        Some(segment)
    }

    /// Restores a stored segment.
    pub fn restore_segment(&mut self, epoch: Epoch, segment: Segment) {
        let Some(boot) = self.find_boot_mut(epoch) else { return };
        if boot.segments.len() >= MAX_SEGMENTS {
            let first =
                boot.segments.iter().position(|segment| segment.trust == ClockTrust::Trusted);
            let middle = MAX_SEGMENTS / 2;
            boot.segments.remove(if first == Some(middle) { middle + 1 } else { middle });
        }
        boot.segments.push(segment);
    }

    /// Returns the wall time of `mono`, as far as known by now; `Wall(0)` and [`ClockTrust::Unset`] for
    /// an unknown epoch.
    #[must_use]
    pub fn wall_time(&self, epoch: Epoch, mono: Mono) -> (Wall, ClockTrust) {
        let Some(boot) = self.find_boot(epoch) else { return (Wall(0), ClockTrust::Unset) };
        let (offset_ms, trust) = boot.offset_at(mono);
        (shift_by(mono, offset_ms), trust)
    }

    /// Returns the time of `mono` on the reference axis of the kernel boot.
    #[must_use]
    pub fn reference_time(&self, epoch: Epoch, mono: Mono) -> Wall {
        shift_by(mono, self.find_boot(epoch).map_or(0, |boot| boot.reference_ms))
    }

    /// Converts a time on the reference axis of a kernel boot to wall time.
    #[must_use]
    pub fn correct_reference(&self, epoch: Epoch, reference: Wall) -> (Wall, ClockTrust) {
        let Some(boot) = self.find_boot(epoch) else { return (reference, ClockTrust::Unset) };
        let mono = reference.0.saturating_sub(boot.reference_ms);
        self.wall_time(epoch, Mono(u64::try_from(mono).unwrap_or(0)))
    }

    /// Returns `true` if the clock of this kernel boot is known to be right by now.
    #[must_use]
    pub fn is_set(&self, epoch: Epoch) -> bool {
        self.find_boot(epoch).is_some_and(|boot| {
            boot.segments.iter().any(|segment| segment.trust == ClockTrust::Trusted)
        })
    }

    /// Returns the latest wall time at which a trusted segment began.
    #[must_use]
    pub fn last_set(&self) -> Option<Wall> {
        let segments = self.boots.iter().flat_map(|boot| &boot.segments);
        let trusted = segments.filter(|segment| segment.trust == ClockTrust::Trusted);
        trusted.map(|segment| shift_by(segment.since, segment.offset_ms)).max()
    }

    /// Returns the remembered segments of a kernel boot.
    #[must_use]
    pub fn segments(&self, epoch: Epoch) -> &[Segment] {
        self.find_boot(epoch).map_or(&[], |boot| &boot.segments)
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

    fn find_boot(&self, epoch: Epoch) -> Option<&BootTimeline> {
        self.boots.iter().rev().find(|boot| boot.epoch == epoch)
    }

    fn find_boot_mut(&mut self, epoch: Epoch) -> Option<&mut BootTimeline> {
        self.boots.iter_mut().rev().find(|boot| boot.epoch == epoch)
    }
}

impl BootTimeline {
    /// Returns the offset at `mono`: that of the segment in force, if trusted; else of the first
    /// segment trusted later, because the clock was then set right for the time before; else of the
    /// last segment trusted before.
    fn offset_at(&self, mono: Mono) -> (i64, ClockTrust) {
        let trusted = |segment: &&Segment| segment.trust == ClockTrust::Trusted;
        let after = self.segments.partition_point(|segment| segment.since <= mono);
        let (past, future) = self.segments.split_at(after);
        if let Some(now) = past.last().filter(trusted) {
            return (now.offset_ms, ClockTrust::Trusted);
        }
        if let Some(set) = future.iter().find(trusted).or_else(|| past.iter().rev().find(trusted)) {
            return (set.offset_ms, ClockTrust::Trusted);
        }
        let guess = past.last().or(future.first());
        (guess.map_or(self.reference_ms, |segment| segment.offset_ms), ClockTrust::Unset)
    }
}

fn shift_by(mono: Mono, offset_ms: i64) -> Wall {
    Wall(i64::try_from(mono.0).unwrap_or(i64::MAX).saturating_add(offset_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: Epoch = Epoch(1);
    const NOON: i64 = 1_795_262_400_000;

    fn timeline() -> Timeline {
        let mut timeline = Timeline::default();
        timeline.add_boot(DEVICE, 0);
        timeline
    }

    #[test]
    fn a_reading_taken_before_the_clock_was_set_has_the_corrected_time_afterwards() {
        let mut timeline = timeline();
        timeline.observe_clock(DEVICE, Mono(1_000), Wall(1_000), ClockTrust::Unset);
        assert_eq!(timeline.wall_time(DEVICE, Mono(5_000)), (Wall(5_000), ClockTrust::Unset));

        timeline.observe_clock(DEVICE, Mono(60_000), Wall(NOON), ClockTrust::Trusted);

        assert_eq!(
            timeline.wall_time(DEVICE, Mono(5_000)),
            (Wall(NOON - 55_000), ClockTrust::Trusted)
        );
        assert_eq!(
            timeline.wall_time(DEVICE, Mono(61_000)),
            (Wall(NOON + 1_000), ClockTrust::Trusted)
        );
    }

    #[test]
    fn the_reference_axis_does_not_step_with_the_clock() {
        let mut timeline = timeline();
        let before = timeline.reference_time(DEVICE, Mono(5_000));

        timeline.observe_clock(DEVICE, Mono(60_000), Wall(NOON), ClockTrust::Trusted);

        assert_eq!(timeline.reference_time(DEVICE, Mono(5_000)), before);
        assert_eq!(timeline.correct_reference(DEVICE, before).0, Wall(NOON - 55_000));
    }

    #[test]
    fn what_was_trusted_stays_as_it_was_published() {
        let mut timeline = timeline();
        timeline.observe_clock(DEVICE, Mono(0), Wall(NOON), ClockTrust::Trusted);
        timeline.observe_clock(DEVICE, Mono(10_000), Wall(NOON + 3_610_000), ClockTrust::Trusted);

        assert_eq!(timeline.wall_time(DEVICE, Mono(5_000)).0, Wall(NOON + 5_000));
        assert_eq!(timeline.wall_time(DEVICE, Mono(15_000)).0, Wall(NOON + 3_615_000));
    }

    #[test]
    fn a_clock_that_loses_its_synchronisation_keeps_the_offset_it_had() {
        let mut timeline = timeline();
        timeline.observe_clock(DEVICE, Mono(0), Wall(NOON), ClockTrust::Trusted);
        timeline.observe_clock(DEVICE, Mono(10_000), Wall(5), ClockTrust::Unset);

        assert_eq!(
            timeline.wall_time(DEVICE, Mono(20_000)),
            (Wall(NOON + 20_000), ClockTrust::Trusted)
        );
    }

    #[test]
    fn only_a_step_or_a_change_of_trust_is_news() {
        let mut timeline = timeline();
        assert!(timeline.observe_clock(DEVICE, Mono(0), Wall(NOON), ClockTrust::Unset).is_some());
        assert!(
            timeline
                .observe_clock(DEVICE, Mono(1_000), Wall(NOON + 1_100), ClockTrust::Unset)
                .is_none()
        );
        assert!(
            timeline
                .observe_clock(DEVICE, Mono(2_000), Wall(NOON + 2_100), ClockTrust::Trusted)
                .is_some()
        );
        assert!(
            timeline
                .observe_clock(DEVICE, Mono(3_000), Wall(NOON + 9_000), ClockTrust::Trusted)
                .is_some()
        );
    }

    #[test]
    fn a_clock_that_steps_for_ever_costs_a_bounded_amount() {
        let mut timeline = timeline();
        for step in 0..10_000_u64 {
            let wall = Wall(NOON + i64::try_from(step * 7_000).unwrap());
            timeline.observe_clock(DEVICE, Mono(step * 1_000), wall, ClockTrust::Unset);
        }

        assert_eq!(timeline.boots[0].segments.len(), MAX_SEGMENTS);
    }
}
