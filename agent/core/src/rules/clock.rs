//! The event clock of one source, for the rules and the visits.
//!
//! The clock is anchored at the highest event time in the readings of the source, and runs on from
//! the anchor with the monotonic clock. An hour of readings within a second therefore closes an
//! hour of windows, and the last window of a silent source is still closed. After a kernel start
//! the clock runs on from the last anchor, as if no time had passed in between.
//!
//! An event time far off the clock is not believed at once: one broken timestamp must not close
//! every window until the year 2099. Readings with the new time are set aside until the source has
//! kept to the new time: for two readings on a leap ahead, for [`BELIEVED_AFTER`] on a leap back.
//! An old backlog looks like a leap back, and a backlog must not raise an alert twice.

use std::time::Duration;

use super::KernelBoot;
use crate::time::{Mono, Wall};

/// The greatest distance between a reading and the clock of its source at which the reading is
/// believed at once. Clocks of other programs are wrong by time zones, not by days.
pub const MAX_LEAP: Duration = Duration::from_secs(24 * 60 * 60);

/// The time for which a source must keep to an earlier time before its clock is set back. Longer
/// than any client needs to hand over a backlog.
pub const BELIEVED_AFTER: Duration = Duration::from_secs(60 * 60);

/// The verdict on the event time of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeVerdict {
    /// The reading can be used.
    Good,
    /// The reading cannot be used.
    Doubtful,
    /// The reading can be used; the clock was set back, and all state from later event times is
    /// void.
    Back,
}

#[derive(Debug, Clone)]
pub(crate) struct EventClock {
    boot: KernelBoot,
    anchor: Anchor,
    /// `true` until the first reading; `anchor` is then only assumed.
    assumed: bool,
    /// `true` if a second reading agreed with the anchor. A far-off reading replaces an unconfirmed
    /// anchor at once.
    confirmed: bool,
    /// The first reading of the new time, while the source has not kept to the new time for long
    /// enough.
    doubt: Option<Anchor>,
}

/// An event time, and the monotonic time of its arrival.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    event: Wall,
    mono: Mono,
}

impl EventClock {
    /// Creates the clock of a source without any reading yet. The first reading may have any event
    /// time.
    pub(crate) fn new_assumed(boot: KernelBoot, mono: Mono, event: Wall) -> Self {
        Self { assumed: true, ..Self::anchored_at(boot, Anchor { event, mono }) }
    }

    fn anchored_at(boot: KernelBoot, anchor: Anchor) -> Self {
        Self { boot, anchor, assumed: false, confirmed: false, doubt: None }
    }

    /// Returns `true` until the first reading.
    pub(crate) fn is_assumed(&self) -> bool {
        self.assumed
    }

    /// Returns the event time of the source at the monotonic time `now`.
    pub(crate) fn time_at(&self, boot: KernelBoot, now: Mono) -> Wall {
        self.anchor_in(boot).time_at(now)
    }

    /// Returns the monotonic time at which the clock of the source reaches `event`.
    pub(crate) fn reached_at(&self, boot: KernelBoot, event: Wall) -> Mono {
        let anchor = self.anchor_in(boot);
        let ahead = event.0.saturating_sub(anchor.event.0);
        anchor.mono + Duration::from_millis(u64::try_from(ahead).unwrap_or(0))
    }

    /// Returns the highest believed event time of the source.
    pub(crate) fn newest_event(&self) -> Wall {
        self.anchor.event
    }

    /// Takes the event time of one more reading, and moves the clock if the event time is believed.
    pub(crate) fn judge_event(&mut self, boot: KernelBoot, mono: Mono, event: Wall) -> TimeVerdict {
        let rebooted = boot != self.boot;
        self.anchor = self.anchor_in(boot);
        self.boot = boot;
        let told = Anchor { event, mono };
        if self.assumed {
            *self = Self::anchored_at(boot, told);
            return TimeVerdict::Good;
        }
        let now = self.anchor.time_at(mono);
        let near = is_near(event, now);
        let off_for_long = rebooted && event > now;
        if near || off_for_long {
            if event >= self.anchor.event {
                self.anchor = told;
            }
            self.confirmed = near;
            self.doubt = None;
            return TimeVerdict::Good;
        }
        if self.confirmed && !self.is_kept_to(told, event > now) {
            return TimeVerdict::Doubtful;
        }
        *self = Self::anchored_at(boot, told);
        if event < now { TimeVerdict::Back } else { TimeVerdict::Good }
    }

    /// Returns `true` if the source has kept to the new time of the reading `told` for long enough;
    /// otherwise remembers the new time.
    fn is_kept_to(&mut self, told: Anchor, ahead: bool) -> bool {
        match self.doubt {
            Some(first) if is_near(told.event, first.time_at(told.mono)) => {
                ahead || told.mono.since(first.mono) >= BELIEVED_AFTER
            }
            Some(_) | None => {
                self.doubt = Some(told);
                false
            }
        }
    }

    /// Returns the anchor in the monotonic time of `boot`. Another boot is a later one, so its
    /// monotonic time starts at 0.
    fn anchor_in(&self, boot: KernelBoot) -> Anchor {
        if boot == self.boot { self.anchor } else { Anchor { mono: Mono(0), ..self.anchor } }
    }
}

impl Anchor {
    fn time_at(self, now: Mono) -> Wall {
        self.event + now.since(self.mono)
    }
}

fn is_near(a: Wall, b: Wall) -> bool {
    u128::from(a.0.abs_diff(b.0)) <= MAX_LEAP.as_millis()
}
