//! A replay over what is stored, beside what was told.
//!
//! The agent is started and stopped as it was, as far as its records tell: readings say when it
//! ran, and so do alerts and events. One snapshot is read, beside a running agent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pulsegate_core::record::event::{VISIT, VisitMembers};
use pulsegate_core::rules::{Input, KernelBoot, LATENESS};
use pulsegate_core::time::timeline::{Epoch, Trust};
use pulsegate_core::time::{Mono, Wall};
use pulsegate_sensors::Sources;
use rusqlite::{Connection, params};

use super::{Key, Plan, Raw, RawDecided, Replay, Replayed, Silences, TOLD_EVERY};
use crate::db::bounds::Rising;
use crate::db::load;
use crate::db::reader::{AlertFound, Reader};
use crate::db::rows::{owned, read_reading, read_value};
use crate::store::fold::Fold;
use crate::store::visits::key_of;

impl Reader {
    /// Runs rules and visits over all stored readings. `told` hears now and then how many of how
    /// many places are behind.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn replay(
        &self,
        plan: Plan<'_>,
        mut told: impl FnMut(u64, u64),
    ) -> anyhow::Result<Replayed> {
        // One snapshot, so that what a running agent adds meanwhile is on neither side.
        let _snapshot = self.connection.unchecked_transaction()?;
        let Some((first, last)) = self.span()? else { return Ok(Replayed::default()) };
        let sources = Arc::new(Sources::default());
        load::load_sources(&self.connection, &sources)?;
        let boot_of = |seq| KernelBoot(self.boot_of(seq).epoch.0);
        let fold = Fold::after(plan.rules, &self.connection, first, &sources, boot_of)?;
        let mut replay = Replay::over(fold, plan, Arc::clone(&sources));
        let lives = self.lives()?;
        let mut life = None;
        let mut select = self.connection.prepare(
            "SELECT source, mono_ms, value, time_ms, detail, seq FROM readings ORDER BY seq",
        )?;
        let mut rows = select.query([])?;
        let mut places = Rising::default();
        while let Some(row) = rows.next()? {
            let seq = places.read(row, 5)?;
            let reading = read_reading(row)?;
            let (now, at) = (self.life_of(seq), self.boot_of(seq));
            let boot = KernelBoot(at.epoch.0);
            if life != Some(now) {
                if let Some(before) = life {
                    replay.pass_to(&lives, before);
                }
                let begun = lives.get(&now).map_or(reading.mono, |life| life.0.min(reading.mono));
                replay.begin(boot, begun, self.timeline.reference(at.epoch, begun));
                life = Some(now);
            }
            let event = reading.time.unwrap_or(self.timeline.reference(at.epoch, reading.mono));
            replay.take(&Input { reading: &reading, boot, event });
            if replay.readings.is_multiple_of(TOLD_EVERY) {
                told(seq - first, last - first + 1);
            }
        }
        if let Some(life) = life {
            replay.pass_to(&lives, life);
        }
        replay.pass(replay.last.1 + replay.patience, false);
        let silences = &replay.silences;
        let stored = self.stored(first, silences)?;
        Ok(replay.compared(stored, &self.timeline))
    }

    /// The places of the first and the last reading.
    fn span(&self) -> rusqlite::Result<Option<(u64, u64)>> {
        let select = "SELECT min(seq), max(seq) FROM readings";
        self.connection.query_row(select, [], |row| {
            Ok(row.get::<_, Option<u64>>(0)?.zip(row.get::<_, Option<u64>>(1)?))
        })
    }

    /// By start of the agent, the first and the last moment at which it is known to have run: all
    /// but readings tell.
    fn lives(&self) -> rusqlite::Result<HashMap<u64, (Mono, Mono)>> {
        let mut lives: HashMap<u64, (Mono, Mono)> = HashMap::new();
        let mut note = |seq, mono: Mono| {
            let life = lives.entry(self.life_of(seq)).or_insert((mono, mono));
            *life = (life.0.min(mono), life.1.max(mono));
        };
        let mut select = self.connection.prepare("SELECT seq, mono_ms FROM events")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            note(row.get(0)?, Mono(row.get(1)?));
        }
        let mut select = self.connection.prepare(
            "SELECT seq, time_ms, epoch, window_end_ms IS NOT NULL FROM alerts
             WHERE epoch IS NOT NULL",
        )?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (time, epoch): (i64, u32) = (row.get(1)?, row.get(2)?);
            let begun = self.timeline.reference(Epoch(epoch), Mono(0));
            // A window of the kernel start before may end before this one began.
            if let Ok(mono) = u64::try_from(time.saturating_sub(begun.0)) {
                let late = if row.get(3)? { LATENESS } else { Duration::ZERO };
                note(row.get(0)?, Mono(mono) + late);
            }
        }
        Ok(lives)
    }

    fn life_of(&self, seq: u64) -> u64 {
        self.boot_of(seq).first_seq
    }

    /// The alerts and visits from the place `first` on.
    fn stored(&self, first: u64, silences: &Silences) -> rusqlite::Result<Vec<Raw>> {
        let mut stored = stored_alerts(&self.connection, first, silences)?;
        let mut select = self
            .connection
            .prepare("SELECT members FROM events WHERE seq >= ?1 AND event = ?2 ORDER BY seq")?;
        let mut rows = select.query(params![first, VISIT])?;
        while let Some(row) = rows.next()? {
            let Some(visit) = VisitMembers::read(VISIT, row.get_ref(0)?.as_str()?) else {
                continue;
            };
            let (key, what) = (Key::Visit(key_of(&visit)), RawDecided::Visit(visit));
            stored.push(Raw { key, what, certain: true });
        }
        Ok(stored)
    }
}

impl Replay {
    /// Lets time pass to where a start of the agent is known to have come.
    fn pass_to(&mut self, lives: &HashMap<u64, (Mono, Mono)>, life: u64) {
        if let Some((_, end)) = lives.get(&life) {
            self.pass(*end, true);
        }
    }
}

fn stored_alerts(
    connection: &Connection,
    first: u64,
    silences: &Silences,
) -> rusqlite::Result<Vec<Raw>> {
    let mut select = connection.prepare(
        "SELECT rule, source, raised, severity, value, window_start_ms, window_end_ms, time_ms,
         epoch, coalesce(name, source), score
         FROM alerts LEFT JOIN sources ON sources.id = alerts.source LEFT JOIN scores USING (seq)
         WHERE seq >= ?1 ORDER BY seq",
    )?;
    let read = |row: &rusqlite::Row<'_>| {
        let rule: String = row.get(0)?;
        let (raised, time): (bool, i64) = (row.get(2)?, row.get(7)?);
        let told = silences.key_time(&rule, time);
        let key = Key::Alert(rule.as_str().into(), row.get(1)?, raised, told);
        let window = row.get::<_, Option<i64>>(5)?.zip(row.get::<_, Option<i64>>(6)?);
        let found = AlertFound {
            rule,
            source: row.get(9)?,
            raised,
            severity: row.get(3)?,
            value: owned(read_value(row, 4)?),
            score: row.get(10)?,
            window: window.map(|(start, end)| (Wall(start), Wall(end))),
            time: Wall(time),
            trust: Trust::Trusted,
        };
        let what = RawDecided::Alert(found, row.get::<_, Option<u32>>(8)?.map(Epoch));
        Ok(Raw { key, what, certain: true })
    };
    select.query_map([first], read)?.collect()
}
