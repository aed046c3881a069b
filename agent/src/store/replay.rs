//! Rules and visits, run again over what was stored, or over what another program tells.
//!
//! It is the fold of the writer over the same readings in the same order, so it decides the same:
//! what differs from what was stored, other rules would have done. Decided is what the readings
//! decide; what only time decides after the last of them is taken over if it was stored, since
//! nobody knows for how long the agent ran on. Nothing is written.

mod curve;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use pulsegate_core::rules::{Condition, Input, KernelBoot, LATENESS, RuleSpec, Rules};
use pulsegate_core::time::{Mono, Wall};
use pulsegate_core::timeline::{Epoch, Timeline, Trust};
use pulsegate_sensors::{SourceId, Sources};
use rusqlite::{Connection, params};

pub(crate) use curve::Curve;
use curve::Curves;

use super::database::{AlertRow, EventRow};
use super::fold::{Fold, owned, read_reading};
use super::load;
use super::reader::{AlertFound, Reader};
use super::take::read_value;
use super::visits::{Stored, VISIT, VisitFold, VisitFormat, VisitFound, VisitKey};

/// How often the progress is told.
const TOLD_EVERY: u64 = 4_096;

/// What would have been.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decided {
    Alert(AlertFound),
    Visit(VisitFound),
}

/// How that differs from what was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It would have been, and was not.
    Added,
    /// It was, and would not have been.
    Removed,
    /// Both.
    Same,
}

/// One alert or visit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) change: Change,
    pub(crate) decided: Decided,
}

/// What rules and visits are run, and which of the rules is charted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<'a> {
    pub(crate) rules: &'a [RuleSpec],
    pub(crate) visits: &'a [VisitFormat],
    pub(crate) charted: Option<&'a RuleSpec>,
}

/// What a replay came to.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// How many readings were folded.
    pub(crate) readings: u64,
    /// In the order of their times.
    pub(crate) outcomes: Vec<Outcome>,
    /// What the charted rule was asked about, by source.
    pub(crate) curves: Vec<Curve>,
}

/// Rules and visits at work. What is decided is kept until the end.
pub(crate) struct Replay {
    fold: Fold,
    visits: VisitFold,
    sources: Arc<Sources>,
    silences: Silences,
    alerts: Vec<AlertRow>,
    events: Vec<EventRow>,
    outcomes: Vec<Raw>,
    readings: u64,
    last: (KernelBoot, Mono),
    /// How long after a reading there may be something to decide.
    patience: Duration,
    curves: Curves,
}

/// Rules about silence, and how long it takes: when they say what depends on when exactly the agent
/// started and stopped, which only what it stored then tells.
#[derive(Default)]
struct Silences(Vec<(Box<str>, Duration)>);

/// What was decided, or stored, on the axis of the rules.
struct Raw {
    key: Key,
    what: RawDecided,
    /// Whether the agent is known to have come so far.
    certain: bool,
}

enum RawDecided {
    Alert(AlertFound, Option<Epoch>),
    Visit(Stored),
}

/// What makes two of them the same.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    /// Rule, source, raised, and time.
    Alert(Box<str>, u32, bool, Option<i64>),
    Visit(VisitKey),
}

impl Replay {
    /// Runs rules and visits over what [`Replay::take`] is given.
    ///
    /// # Errors
    /// When the rules make no sense, which a checked configuration rules out.
    pub(crate) fn new(plan: Plan<'_>, sources: Arc<Sources>) -> anyhow::Result<Self> {
        let fold = Fold::over(Rules::new(plan.rules.to_vec())?);
        Ok(Self::over(fold, plan, sources))
    }

    fn over(mut fold: Fold, plan: Plan<'_>, sources: Arc<Sources>) -> Self {
        let Plan { rules, visits, charted } = plan;
        if let Some(rule) = charted {
            fold.trace(&rule.name);
        }
        let silent = |rule: &RuleSpec| match rule.condition {
            Condition::Silent { after, .. } => Some((rule.name.clone(), after)),
            Condition::Reading(_)
            | Condition::Anomaly { .. }
            | Condition::All { .. }
            | Condition::Any { .. } => None,
        };
        let gap = visits.iter().map(|format| format.spec.gap).max().unwrap_or_default();
        let patience = fold.horizon().max(gap + LATENESS) + LATENESS;
        Self {
            fold,
            visits: VisitFold::new(visits),
            sources,
            silences: Silences(rules.iter().filter_map(silent).collect()),
            alerts: Vec::new(),
            events: Vec::new(),
            outcomes: Vec::new(),
            readings: 0,
            last: (KernelBoot::default(), Mono(0)),
            patience,
            curves: Curves::of(charted),
        }
    }

    /// The agent starts.
    pub(crate) fn begin(&mut self, boot: KernelBoot, now: Mono, event: Wall) {
        self.fold.begin(boot, now, event, &self.sources);
    }

    /// Folds one more reading in.
    pub(crate) fn take(&mut self, input: &Input<'_>) {
        self.fold.take(input, &self.sources, &mut self.alerts);
        self.visits.take(input, &self.sources, &mut self.events);
        self.readings += 1;
        self.last = (input.boot, input.reading.mono.max(self.now_in(input.boot)));
        self.keep(true);
    }

    fn now_in(&self, boot: KernelBoot) -> Mono {
        if boot == self.last.0 { self.last.1 } else { Mono(0) }
    }

    /// Lets time pass without a reading.
    fn pass(&mut self, now: Mono, certain: bool) {
        let (boot, last) = self.last;
        if now <= last {
            return;
        }
        self.fold.tick(boot, now, &mut self.alerts);
        self.visits.tick(boot, now, &self.sources, &mut self.events);
        self.last = (boot, now);
        self.keep(certain);
    }

    /// Ends a replay that is compared with nothing: windows and visits that the last readings
    /// began come to their end, but that nothing follows is no silence.
    pub(crate) fn finish(mut self) -> Replayed {
        self.pass(self.last.1 + self.patience, false);
        for raw in &mut self.outcomes {
            raw.certain |= self.silences.length(&raw.key).is_none();
        }
        self.compared(Vec::new(), &Timeline::default())
    }

    fn keep(&mut self, certain: bool) {
        let epoch = Epoch(self.last.0.0);
        for (asked, is_dated) in self.fold.asked() {
            self.curves.add(&asked, (!is_dated).then_some(epoch));
        }
        for row in self.alerts.drain(..) {
            let time = self.silences.key_time(&row.rule, row.time.0);
            let key = Key::Alert(row.rule.clone(), row.source, row.raised, time);
            let source = self.sources.get(SourceId(row.source));
            let found = AlertFound {
                rule: row.rule.into(),
                source: source.map_or_else(String::new, |source| source.name.to_string()),
                raised: row.raised,
                severity: row.severity.into(),
                value: row.value,
                score: row.score,
                window: row.window,
                time: row.time,
                trust: Trust::Trusted,
            };
            let what = RawDecided::Alert(found, row.derived.then_some(epoch));
            self.outcomes.push(Raw { key, what, certain });
        }
        for row in self.events.drain(..).filter(|row| row.event == VISIT) {
            let Some(visit) = Stored::read(VISIT, &row.members) else { continue };
            let (key, what) = (Key::Visit(visit.key()), RawDecided::Visit(visit));
            self.outcomes.push(Raw { key, what, certain });
        }
    }

    /// What was decided beside what was `stored`.
    fn compared(self, stored: Vec<Raw>, timeline: &Timeline) -> Replayed {
        let mut by_key: HashMap<Key, VecDeque<RawDecided>> = HashMap::new();
        for raw in stored {
            by_key.entry(raw.key).or_default().push_back(raw.what);
        }
        let mut outcomes = Vec::new();
        for raw in self.outcomes {
            let found = by_key.get_mut(&raw.key);
            let was = match (found, self.silences.length(&raw.key)) {
                (Some(found), Some(length)) => raw.what.take_near(found, length),
                (Some(found), None) => found.pop_front(),
                (None, _) => None,
            };
            let change = match (was, raw.certain) {
                (Some(_), _) => Change::Same,
                (None, true) => Change::Added,
                (None, false) => continue,
            };
            outcomes.push(Outcome { change, decided: raw.what.found(timeline) });
        }
        let removed = by_key.into_values().flatten();
        outcomes.extend(
            removed.map(|what| Outcome { change: Change::Removed, decided: what.found(timeline) }),
        );
        outcomes.sort_by_key(|outcome| outcome.decided.time());
        let curves = self.curves.told(&self.sources, timeline);
        Replayed { readings: self.readings, outcomes, curves }
    }
}

impl Silences {
    /// How long it takes, if `key` is of a silence.
    fn length(&self, key: &Key) -> Option<Duration> {
        let Key::Alert(rule, ..) = key else { return None };
        self.0.iter().find(|(silent, _)| silent == rule).map(|(_, length)| *length)
    }

    /// The time that makes an alert of `rule` what it is.
    fn key_time(&self, rule: &str, time: i64) -> Option<i64> {
        (!self.0.iter().any(|(silent, _)| **silent == *rule)).then_some(time)
    }
}

impl RawDecided {
    /// Takes out the nearest one that is no farther away than `length`.
    fn take_near(&self, stored: &mut VecDeque<Self>, length: Duration) -> Option<Self> {
        let apart =
            |other: &Self| self.time().since(other.time()).max(other.time().since(self.time()));
        let (at, near) = stored.iter().map(apart).enumerate().min_by_key(|(_, apart)| *apart)?;
        (near <= length).then(|| stored.remove(at))?
    }

    /// On the axis of the rules.
    fn time(&self) -> Wall {
        match self {
            Self::Alert(found, _) => found.time,
            Self::Visit(visit) => visit.end(),
        }
    }

    fn found(self, timeline: &Timeline) -> Decided {
        match self {
            Self::Alert(found, epoch) => Decided::Alert(found.corrected(timeline, epoch)),
            Self::Visit(stored) => Decided::Visit(stored.found(timeline)),
        }
    }
}

impl Decided {
    /// Whose it is.
    pub(crate) fn source(&self) -> &str {
        match self {
            Self::Alert(alert) => &alert.source,
            Self::Visit(visit) => &visit.source,
        }
    }

    /// When it was: of a visit, its last opening.
    pub(crate) fn time(&self) -> Wall {
        match self {
            Self::Alert(alert) => alert.time,
            Self::Visit(visit) => visit.end,
        }
    }
}

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
        let fold = Fold::after(plan.rules, &self.connection, first, &sources)?;
        let mut replay = Replay::over(fold, plan, Arc::clone(&sources));
        let lives = self.lives()?;
        let mut life = None;
        let mut select = self.connection.prepare(
            "SELECT source, mono_ms, value, time_ms, detail, seq FROM readings ORDER BY seq",
        )?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let seq: u64 = row.get(5)?;
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
            let Some(visit) = Stored::read(VISIT, row.get_ref(0)?.as_str()?) else { continue };
            let (key, what) = (Key::Visit(visit.key()), RawDecided::Visit(visit));
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
