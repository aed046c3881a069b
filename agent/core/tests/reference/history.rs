//! Everything that happened to a device so far, and what a source's own clock says of it.

use crate::imports::*;

/// A reading as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) at: Arrival,
    /// Its own time, or its arrival on the axis that never steps.
    pub(crate) event: Wall,
    pub(crate) dated: bool,
    pub(crate) source: usize,
    pub(crate) value: Value,
    pub(crate) has_contact: bool,
    pub(crate) is_too_late: bool,
}

/// One moment at which the agent looked at what happened.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Heard(Heard),
    /// Only time passed.
    Passed(Arrival),
    /// The rules began, at this time of the axis, with the readings from this place of the history on.
    Began {
        at: Arrival,
        axis: Wall,
        from: usize,
    },
}

impl Entry {
    pub(crate) fn at(&self) -> Arrival {
        match self {
            Self::Heard(heard) => heard.at,
            Self::Passed(at) | Self::Began { at, .. } => *at,
        }
    }

    pub(crate) fn heard(&self) -> Option<&Heard> {
        match self {
            Self::Heard(heard) => Some(heard),
            Self::Passed(_) | Self::Began { .. } => None,
        }
    }
}

/// The time of a source: the highest that it told, running on with the monotonic clock. A start of the
/// kernel takes no time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SourceClock(Option<(Wall, Arrival)>);

impl SourceClock {
    pub(crate) fn assumed(time: Wall, at: Arrival) -> Self {
        Self(Some((time, at)))
    }

    pub(crate) fn is_known(self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn tell(&mut self, time: Wall, at: Arrival) {
        if self.0.is_none_or(|(highest, _)| time >= highest) {
            self.0 = Some((time, at));
        }
    }

    pub(crate) fn at(self, now: Arrival) -> Option<Wall> {
        let (time, told) = self.0?;
        let same_start = told.boot == now.boot;
        let passed = if same_start { now.mono.0 - told.mono.0 } else { now.mono.0 };
        Some(later(time, passed))
    }
}

pub(crate) fn later(time: Wall, millis: u64) -> Wall {
    Wall(time.0 + i64::try_from(millis).expect("a test is short"))
}

pub(crate) fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).expect("a test is short")
}

/// What the rules come to know of the sources that one of them covers, in order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item<'a> {
    /// Whatever comes with a time before this is late.
    Known(Wall),
    /// A reading, and which of the sources it is of.
    Says(&'a Heard, usize),
    /// The source had been silent for so long that it begins anew after a restart.
    Forgot(usize),
}

/// Follows the clock of the sources for which `place` gives a place. `counts` says which of their
/// readings tell a value.
pub(crate) fn items<'a>(
    history: &'a [Entry],
    place: impl Fn(&Heard) -> Option<usize>,
    counts: impl Fn(&Heard) -> bool,
) -> Vec<Item<'a>> {
    let mut clock = SourceClock::default();
    let mut items = Vec::new();
    for (index, entry) in history.iter().enumerate() {
        if let Entry::Began { from, .. } = entry {
            // What lies before that is forgotten.
            let placed = |entries: &'a [Entry]| {
                let heard = entries.iter().filter_map(Entry::heard);
                heard.filter_map(|heard| Some((place(heard)?, heard))).collect::<Vec<_>>()
            };
            let kept = placed(&history[*from..index]);
            clock = SourceClock::default();
            kept.iter().for_each(|(_, heard)| clock.tell(heard.event, heard.at));
            let mut gone: Vec<usize> =
                placed(&history[..*from]).iter().map(|(place, _)| *place).collect();
            gone.retain(|place| kept.iter().all(|(other, _)| other != place));
            gone.sort_unstable();
            gone.dedup();
            items.extend(gone.into_iter().map(Item::Forgot));
            continue;
        }
        let known =
            |clock: SourceClock| clock.at(entry.at()).map(|time| Item::Known(settled(time)));
        items.extend(known(clock));
        let Some(heard) = entry.heard() else { continue };
        let Some(member) = place(heard) else { continue };
        clock.tell(heard.event, heard.at);
        items.extend(known(clock));
        if counts(heard) {
            items.push(Item::Says(heard, member));
        }
    }
    items
}

/// What was taken before this has come by `time`.
fn settled(time: Wall) -> Wall {
    Wall(time.0 - millis(LATENESS))
}
