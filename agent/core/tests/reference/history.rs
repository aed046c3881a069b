//! The complete history of a device, and the event clock of each source.

use crate::imports::*;

/// A reading and its arrival.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) at: ArrivalTime,
    /// The time of the reading itself, or else the arrival on the reference axis.
    pub(crate) event: Wall,
    pub(crate) dated: bool,
    pub(crate) source: usize,
    pub(crate) value: Value,
    pub(crate) has_contact: bool,
    pub(crate) is_too_late: bool,
}

/// One entry of the history.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Heard(Heard),
    /// A tick: only time passed.
    Passed(ArrivalTime),
    /// The rules started at `axis` on the reference axis, with the readings of the history from
    /// index `from` on.
    Began {
        at: ArrivalTime,
        axis: Wall,
        from: usize,
    },
}

impl Entry {
    pub(crate) fn at(&self) -> ArrivalTime {
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

/// The event clock of a source: the highest event time so far, continued with the monotonic clock.
/// A kernel start takes no time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SourceClock(Option<(Wall, ArrivalTime)>);

impl SourceClock {
    pub(crate) fn assumed(time: Wall, at: ArrivalTime) -> Self {
        Self(Some((time, at)))
    }

    pub(crate) fn is_known(self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn tell(&mut self, time: Wall, at: ArrivalTime) {
        if self.0.is_none_or(|(highest, _)| time >= highest) {
            self.0 = Some((time, at));
        }
    }

    pub(crate) fn at(self, now: ArrivalTime) -> Option<Wall> {
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

/// One input of a rule, from the sources covered by the rule.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item<'a> {
    /// Event time has passed up to this time: a later reading with an earlier time is late.
    Known(Wall),
    /// A reading, and the index of its source.
    Says(&'a Heard, usize),
    /// A restart forgot the source, silent for longer than the horizon.
    Forgot(usize),
}

/// Returns the inputs of a rule. `place` returns the index of the source of a reading, if the rule
/// covers the source; `counts` returns `true` for a reading with a usable value.
pub(crate) fn items<'a>(
    history: &'a [Entry],
    place: impl Fn(&Heard) -> Option<usize>,
    counts: impl Fn(&Heard) -> bool,
) -> Vec<Item<'a>> {
    let mut clock = SourceClock::default();
    let mut items = Vec::new();
    for (index, entry) in history.iter().enumerate() {
        if let Entry::Began { from, .. } = entry {
            // Earlier entries are forgotten.
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

/// Returns the event time settled at `time`: all readings with an earlier time have arrived.
fn settled(time: Wall) -> Wall {
    Wall(time.0 - millis(LATENESS))
}
