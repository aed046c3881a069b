//! A replay over the stored readings, compared with the stored alerts and visits.
//!
//! The starts and stops of the agent are repeated as far as known: readings, alerts and events show
//! that the agent ran. All is read from a snapshot, beside a running agent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pulsegate_core::rules::{KernelBoot, LATENESS, TimedReading};
use pulsegate_core::time::Mono;
use pulsegate_sensors::Sources;

use super::{DecisionKey, Raw, RawDecided, Replay, ReplayPlan, Replayed, Silences, TOLD_EVERY};
use crate::db::cursor::Select;
use crate::db::reader::{AlertFound, Reader, SourceNames};
use crate::db::rows::{StoredAlerts, StoredEvents, StoredReadings};
use crate::db::{self, load};
use crate::store::fold::Fold;
use crate::store::visits::key_of;

impl Reader {
    /// Runs rules and visits over all stored readings. `told` receives the progress: places done,
    /// and all places.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn replay_stored(
        &self,
        plan: ReplayPlan<'_>,
        mut told: impl FnMut(u64, u64),
    ) -> anyhow::Result<Replayed> {
        // In a snapshot, since records added meanwhile by a running agent would be on one side
        // only.
        let _snapshot = self.connection.unchecked_transaction()?;
        let Some((first, last)) = self.reading_span()? else { return Ok(Replayed::default()) };
        let sources = Arc::new(Sources::default());
        load::load_sources(&self.connection, &sources)?;
        let fold = Fold::after_alerts(plan.rules, self, first, &sources)?;
        let mut replay = Replay::with_fold(fold, plan, Arc::clone(&sources));
        let lives = self.read_agent_runs()?;
        let mut life = None;
        let mut select = Select::<StoredReadings>::from(&self.connection, 0)?;
        let mut cursor = select.open_cursor()?;
        while let Some((seq, reading)) = cursor.read_next()? {
            let (now, at) = (self.life_of(seq), self.boot_of(seq));
            let boot = KernelBoot(at.epoch.0);
            if life != Some(now) {
                if let Some(before) = life {
                    replay.pass_to(&lives, before);
                }
                let begun = lives.get(&now).map_or(reading.mono, |life| life.0.min(reading.mono));
                replay.begin_agent_start(
                    boot,
                    begun,
                    self.timeline.reference_time(at.epoch, begun),
                );
                life = Some(now);
            }
            replay.fold_reading(&TimedReading::new(reading, &self.timeline, at.epoch));
            if replay.readings.is_multiple_of(TOLD_EVERY) {
                told(seq - first, last - first + 1);
            }
        }
        if let Some(life) = life {
            replay.pass_to(&lives, life);
        }
        replay.pass_time(replay.last.1 + replay.patience, false);
        let silences = &replay.silences;
        let stored = self.read_stored_decisions(first, silences)?;
        Ok(replay.compare_with_stored(stored, &self.timeline))
    }

    /// Returns by start of the agent the first and the last moment in which the agent is known to
    /// have run, from alerts and events alone.
    fn read_agent_runs(&self) -> db::Result<HashMap<u64, (Mono, Mono)>> {
        let mut lives: HashMap<u64, (Mono, Mono)> = HashMap::new();
        let mut note = |seq, mono: Mono| {
            let life = lives.entry(self.life_of(seq)).or_insert((mono, mono));
            *life = (life.0.min(mono), life.1.max(mono));
        };
        let mut select = Select::<StoredEvents>::from(&self.connection, 0)?;
        let mut cursor = select.open_cursor()?;
        while let Some((seq, event)) = cursor.read_next()? {
            note(seq, event.mono);
        }
        let mut select = Select::<StoredAlerts>::from(&self.connection, 0)?;
        let mut cursor = select.open_cursor()?;
        while let Some((seq, alert)) = cursor.read_next()? {
            let Some(epoch) = alert.epoch else { continue };
            let begun = self.timeline.reference_time(epoch, Mono(0));
            // A window of an earlier run of the kernel may end before this run began.
            if let Ok(mono) = u64::try_from(alert.time.0.saturating_sub(begun.0)) {
                let late = if alert.window_end.is_some() { LATENESS } else { Duration::ZERO };
                note(seq, Mono(mono) + late);
            }
        }
        Ok(lives)
    }

    fn life_of(&self, seq: u64) -> u64 {
        self.boot_of(seq).first_seq
    }

    /// Returns the alerts and visits from the place `first` on.
    fn read_stored_decisions(&self, first: u64, silences: &Silences) -> db::Result<Vec<Raw>> {
        let mut stored = Vec::new();
        let mut names = SourceNames::new(&self.connection);
        let mut select = Select::<StoredAlerts>::from(&self.connection, first)?;
        let mut cursor = select.open_cursor()?;
        while let Some((_, alert)) = cursor.read_next()? {
            let told = silences.key_time(&alert.rule, alert.time.0);
            let key = DecisionKey::Alert(alert.rule.clone(), alert.source.0, alert.raised, told);
            let (epoch, source) = (alert.epoch, names.find_source(alert.source)?);
            let found = AlertFound::new(alert, source.map(|source| &*source.name));
            stored.push(Raw { key, what: RawDecided::Alert(found, epoch), certain: true });
        }
        let mut select = Select::<StoredEvents>::from(&self.connection, first)?;
        let mut cursor = select.open_cursor()?;
        while let Some((_, event)) = cursor.read_next()? {
            let Some(visit) = event.ended_visit() else { continue };
            let (key, what) = (DecisionKey::Visit(key_of(&visit)), RawDecided::Visit(visit));
            stored.push(Raw { key, what, certain: true });
        }
        Ok(stored)
    }
}

impl Replay {
    /// Passes time to the last known moment of a start of the agent.
    fn pass_to(&mut self, lives: &HashMap<u64, (Mono, Mono)>, life: u64) {
        if let Some((_, end)) = lives.get(&life) {
            self.pass_time(*end, true);
        }
    }
}
