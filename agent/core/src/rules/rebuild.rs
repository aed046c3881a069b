//! Rebuilds the state of the rules after a restart, from the last stored readings and alerts.
//!
//! All decisions on these readings were made before the restart and stored with the readings, so a
//! rebuild decides nothing. A decision made between readings, by a tick, may or may not have been
//! stored: windows up to the last stored alert are closed, and the next tick judges later windows
//! (again), with the same outcome.
//!
//! A source silent for longer than the horizon starts anew. Its late readings are then not
//! recognised as late, but no window of a stored alert opens again.

use pulsegate_sensors::{SourceId, Sources};

use super::{
    AlertState, ArrivalTime, InvalidRule, MAX_LEAP, RuleCounts, RuleSpec, Rules, TimedReading,
};
use crate::time::Wall;

/// A stored transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastAlert<'a> {
    /// The name of the rule.
    pub rule: &'a str,
    /// The source named by the alert.
    pub source: SourceId,
    /// Raised or cleared.
    pub state: AlertState,
    /// The event time of the transition.
    pub time: Wall,
    /// The arrival of the published alert, if the readings have a time of their own and the store
    /// still has the arrival.
    pub arrival: Option<ArrivalTime>,
    /// The end of the window, if the rule has a window.
    pub window_end: Option<Wall>,
}

/// Rules during a rebuild: readings update the state but decide nothing.
#[derive(Debug)]
pub struct Rebuild {
    rules: Rules,
}

impl Rules {
    /// Begins a rebuild from the stored alerts, in the order of the store; the last raised and the
    /// last cleared alert of each rule and source suffice. Ignores alerts of removed rules.
    ///
    /// # Errors
    /// Returns the same errors as [`Rules::new`].
    pub fn begin_rebuild<'a>(
        specs: Vec<RuleSpec>,
        alerts: impl IntoIterator<Item = PastAlert<'a>>,
        sources: &Sources,
    ) -> Result<Rebuild, InvalidRule> {
        let mut rules = Self::new(specs)?;
        rules.add_tracks(sources);
        for alert in alerts {
            rules.restore_alert(&alert);
        }
        Ok(Rebuild { rules })
    }

    fn restore_alert(&mut self, alert: &PastAlert<'_>) {
        let own = self.track_index(alert.source).filter(|index| *index < self.tracks.len());
        for index in (0..self.combinations).chain(own) {
            for watch in &mut self.tracks[index].watches {
                if &*watch.judge.rule().name == alert.rule {
                    watch.restore_alert(alert);
                }
            }
        }
    }
}

impl Rebuild {
    /// Returns the length of the history to fold, counted back from the newest stored reading.
    #[must_use]
    pub fn history_length(&self) -> std::time::Duration {
        self.rules.rebuild_horizon()
    }

    /// Takes one stored reading, in the order of the store.
    pub fn fold_stored(&mut self, input: &TimedReading<'_>, sources: &Sources) {
        self.rules.apply_reading(input, sources, None);
    }

    /// Ends the rebuild and returns the rules, ready for the next reading or tick.
    #[must_use]
    pub fn finish_rebuild(mut self) -> Rules {
        for track in &mut self.rules.tracks {
            let Some(clock) = &track.clock else { continue };
            // An alert beyond `believed` dates from before the clock of the source was set back.
            let believed = clock.newest_event() + MAX_LEAP;
            track.watches.iter_mut().for_each(|watch| watch.forget_after(believed));
        }
        self.rules.counts = RuleCounts::default();
        self.rules.schedule_all();
        self.rules
    }
}
