//! The event clock of one source: how far its own time has come.
//!
//! It stands at the highest event time that the source told, and runs on from there with the
//! monotonic clock. So an hour of readings that arrives within a second closes an hour of windows,
//! and a source that falls silent still sees its last window closed. After a kernel start it runs
//! on from its last time as if no time had passed in between.
//!
//! A time that is far off is not believed at once: one broken timestamp must not close every
//! window until the year 2099. It is set aside, and so are those that follow, until the source has
//! kept to the new time: twice for a leap ahead, for [`BELIEVED_AFTER`] for a leap back, because
//! that is also what an old backlog looks like, and a backlog must raise nothing twice.

use std::time::Duration;

use super::KernelBoot;
use crate::time::{Mono, Wall};

/// The farthest that a reading may be from its source's clock and be believed at once. Clocks of
/// other programs are wrong by time zones, not by days.
pub const MAX_LEAP: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a source must keep to a time that lies back before its clock is set back. Longer than
/// any client needs to hand over what it had kept.
pub const BELIEVED_AFTER: Duration = Duration::from_secs(60 * 60);

/// What to make of a reading's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It can be used.
    Good,
    /// It cannot be used.
    Doubtful,
    /// It can be used, and everything known of times after it is void.
    Back,
}

#[derive(Debug, Clone)]
pub(crate) struct EventClock {
    boot: KernelBoot,
    anchor: Anchor,
    /// Whether the source told no time yet.
    assumed: bool,
    /// Whether a second reading agreed with the anchor.
    confirmed: bool,
    /// The first of those that told another time.
    doubt: Option<Anchor>,
}

/// An event time, and the monotonic time at which it was told.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    event: Wall,
    mono: Mono,
}

impl EventClock {
    /// The clock of a source that told nothing yet, and may tell any time.
    pub(crate) fn assumed(boot: KernelBoot, mono: Mono, event: Wall) -> Self {
        Self { assumed: true, ..Self::told(boot, Anchor { event, mono }) }
    }

    fn told(boot: KernelBoot, anchor: Anchor) -> Self {
        Self { boot, anchor, assumed: false, confirmed: false, doubt: None }
    }

    /// Whether the source told no time yet.
    pub(crate) fn is_assumed(&self) -> bool {
        self.assumed
    }

    /// The source's time at the monotonic time `now`.
    pub(crate) fn at(&self, boot: KernelBoot, now: Mono) -> Wall {
        self.anchor(boot).at(now)
    }

    /// The monotonic time at which the source's time will be `event`.
    pub(crate) fn when(&self, boot: KernelBoot, event: Wall) -> Mono {
        let anchor = self.anchor(boot);
        let ahead = event.0.saturating_sub(anchor.event.0);
        anchor.mono + Duration::from_millis(u64::try_from(ahead).unwrap_or(0))
    }

    /// The highest time that the source told.
    pub(crate) fn newest(&self) -> Wall {
        self.anchor.event
    }

    /// Takes the time of one more reading.
    pub(crate) fn judge(&mut self, boot: KernelBoot, mono: Mono, event: Wall) -> Verdict {
        let rebooted = boot != self.boot;
        self.anchor = self.anchor(boot);
        self.boot = boot;
        let told = Anchor { event, mono };
        if self.assumed {
            *self = Self::told(boot, told);
            return Verdict::Good;
        }
        let now = self.anchor.at(mono);
        let near = is_near(event, now);
        let off_for_long = rebooted && event > now;
        if near || off_for_long {
            if event >= self.anchor.event {
                self.anchor = told;
            }
            self.confirmed = near;
            self.doubt = None;
            return Verdict::Good;
        }
        if self.confirmed && !self.is_kept_to(told, event > now) {
            return Verdict::Doubtful;
        }
        *self = Self::told(boot, told);
        if event < now { Verdict::Back } else { Verdict::Good }
    }

    /// Whether the source told this other time before, and often enough.
    fn is_kept_to(&mut self, told: Anchor, ahead: bool) -> bool {
        match self.doubt {
            Some(first) if is_near(told.event, first.at(told.mono)) => {
                ahead || told.mono.since(first.mono) >= BELIEVED_AFTER
            }
            Some(_) | None => {
                self.doubt = Some(told);
                false
            }
        }
    }

    /// The anchor in the monotonic time of `boot`: a later kernel start began no earlier.
    fn anchor(&self, boot: KernelBoot) -> Anchor {
        if boot == self.boot { self.anchor } else { Anchor { mono: Mono(0), ..self.anchor } }
    }
}

impl Anchor {
    fn at(self, now: Mono) -> Wall {
        self.event + now.since(self.mono)
    }
}

fn is_near(a: Wall, b: Wall) -> bool {
    u128::from(a.0.abs_diff(b.0)) <= MAX_LEAP.as_millis()
}
