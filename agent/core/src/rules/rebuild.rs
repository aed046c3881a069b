//! The state after a restart: the last readings folded again, with the alerts of the store known.
//!
//! What these readings decide was decided before the restart and stored with them; so nothing is
//! decided here. What was decided between readings, by a tick, may or may not have been stored:
//! windows up to the last stored alert are closed, later ones are judged (again) by the next tick,
//! and come out the same.
//!
//! A source that was silent for longer than the horizon starts anew: what it then tells too late
//! is not known to be late, but no window that raised or cleared an alert opens again.

use pulsegate_sensors::{SourceId, Sources};

use super::{AlertState, Arrival, Counts, Input, InvalidRule, MAX_LEAP, RuleSpec, Rules};
use crate::time::Wall;

/// A transition, as the store kept it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastAlert<'a> {
    /// The name of its rule.
    pub rule: &'a str,
    /// Its source.
    pub source: SourceId,
    /// Raised or cleared.
    pub state: AlertState,
    /// When.
    pub time: Wall,
    /// When it was told, if its readings bring their own time and the store still knows.
    pub arrival: Option<Arrival>,
    /// The end of its window, if it had one.
    pub window_end: Option<Wall>,
}

/// Rules that remember, but do not decide yet.
#[derive(Debug)]
pub struct Rebuild {
    rules: Rules,
}

impl Rules {
    /// Begins to rebuild the state from the alerts in the store, in their order; the last raised
    /// and the last cleared of each rule and source suffice. Alerts of rules that are no more are
    /// passed over.
    ///
    /// # Errors
    /// As [`Rules::new`].
    pub fn rebuild<'a>(
        specs: Vec<RuleSpec>,
        alerts: impl IntoIterator<Item = PastAlert<'a>>,
        sources: &Sources,
    ) -> Result<Rebuild, InvalidRule> {
        let mut rules = Self::new(specs)?;
        rules.extend(sources);
        for alert in alerts {
            rules.resume(&alert);
        }
        Ok(Rebuild { rules })
    }

    fn resume(&mut self, alert: &PastAlert<'_>) {
        let own = self.index(alert.source).filter(|index| *index < self.tracks.len());
        for index in (0..self.joints).chain(own) {
            for watch in &mut self.tracks[index].watches {
                if &*watch.judge.rule().name == alert.rule {
                    watch.resume(alert);
                }
            }
        }
    }
}

impl Rebuild {
    /// How far back, counted from the newest reading in the store, readings must be folded.
    #[must_use]
    pub fn horizon(&self) -> std::time::Duration {
        self.rules.horizon()
    }

    /// Takes one stored reading, in the order of the store.
    pub fn fold(&mut self, input: &Input<'_>, sources: &Sources) {
        self.rules.take(input, sources, None);
    }

    /// The rules as they were, ready for the next reading or tick.
    #[must_use]
    pub fn done(mut self) -> Rules {
        for track in &mut self.rules.tracks {
            let Some(clock) = &track.clock else { continue };
            // An alert from the time before the source's clock was set back.
            let believed = clock.newest() + MAX_LEAP;
            track.watches.iter_mut().for_each(|watch| watch.forget_after(believed));
        }
        self.rules.counts = Counts::default();
        self.rules.schedule_all();
        self.rules
    }
}
