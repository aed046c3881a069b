//! The rules, folded as readings arrive, and folded again over the last readings at start.

use std::sync::Arc;

use pulsegate_core::reading::{HeartDetail, Reading, Value};
use pulsegate_core::record::ValueRef;
use pulsegate_core::rules::{
    Action, AlertState, Input, KernelBoot, PastAlert, Rebuild, RuleSpec, Rules, Severity,
    Transition,
};
use pulsegate_core::time::{Mono, Wall};
use pulsegate_sensors::{SourceId, Sources};
use rusqlite::Row;

use super::database::{AlertRow, Database};
use super::take::{read_detail, read_value};

/// Bounds what a start reads back, whatever the windows ask for (P9).
const REBUILD_ROWS: u32 = 200_000;

/// See the module.
pub(super) struct Fold {
    rules: Rules,
    transitions: Vec<Transition>,
    /// By number of the source: whether its readings bring their own time.
    own_time: Vec<bool>,
    idle: bool,
}

impl Fold {
    /// The rules as they stood after the last stored reading.
    pub(super) fn rebuild(specs: &[RuleSpec], database: &Database, sources: &Sources) -> Self {
        let rules = match rebuild(specs, database, sources) {
            Ok(rules) => rules,
            Err(error) => {
                tracing::warn!(%error, "rules begin without their history");
                Rules::new(specs.to_vec())
                    .unwrap_or_else(|_| Rules::new(Vec::new()).expect("no rules are valid rules"))
            }
        };
        let transitions = Vec::new();
        Self { rules, transitions, own_time: Vec::new(), idle: specs.is_empty() }
    }

    /// Folds readings in; what they decide is added to `alerts`.
    pub(super) fn readings(
        &mut self,
        readings: &[Reading],
        database: &Database,
        sources: &Sources,
        alerts: &mut Vec<AlertRow>,
    ) {
        if self.idle {
            return;
        }
        let boot = KernelBoot(database.epoch.0);
        for reading in readings {
            let event =
                reading.time.unwrap_or(database.timeline.reference(database.epoch, reading.mono));
            self.note_own_time(reading);
            let input = Input { reading, boot, event };
            self.rules.fold(&input, sources, &mut self.transitions);
        }
        self.hand_over(alerts);
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, database: &Database, now: Mono, alerts: &mut Vec<AlertRow>) {
        self.rules.tick(KernelBoot(database.epoch.0), now, &mut self.transitions);
        self.hand_over(alerts);
    }

    /// When [`Fold::tick`] is next of use.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.rules.next_deadline()
    }

    fn note_own_time(&mut self, reading: &Reading) {
        let at = reading.source.0 as usize;
        if self.own_time.len() <= at {
            self.own_time.resize(at + 1, false);
        }
        self.own_time[at] = reading.time.is_some();
    }

    fn hand_over(&mut self, alerts: &mut Vec<AlertRow>) {
        for transition in self.transitions.drain(..) {
            if !transition.rule.then.contains(&Action::Alert) {
                continue;
            }
            let own_time = self.own_time.get(transition.source.0 as usize);
            alerts.push(AlertRow {
                rule: transition.rule.name.clone(),
                source: transition.source.0,
                raised: transition.state == AlertState::Raised,
                severity: severity_word(transition.rule.severity),
                value: transition.value,
                window: transition.window,
                time: transition.time,
                derived: !own_time.copied().unwrap_or(false),
            });
        }
    }
}

/// The word for a severity in records.
fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

fn rebuild(specs: &[RuleSpec], database: &Database, sources: &Sources) -> anyhow::Result<Rules> {
    if specs.is_empty() {
        return Ok(Rules::new(Vec::new())?);
    }
    let connection = &database.connection;
    let mut select = connection.prepare(
        "SELECT rule, source, raised, time_ms, window_end_ms, max(seq) FROM alerts
         GROUP BY rule, source, raised ORDER BY max(seq)",
    )?;
    let mut rows = select.query([])?;
    let mut alerts = Vec::new();
    while let Some(row) = rows.next()? {
        alerts.push(StoredAlert::read(row)?);
    }
    let past = alerts.iter().map(StoredAlert::as_past);
    let mut rebuild = Rules::rebuild(specs.to_vec(), past, sources)?;
    let from = first_within(database, &rebuild)?;
    let mut select = connection.prepare(
        "SELECT source, mono_ms, value, time_ms, detail, seq FROM readings
         WHERE seq >= ?1 ORDER BY seq",
    )?;
    let mut rows = select.query([from])?;
    while let Some(row) = rows.next()? {
        let reading = read_reading(row)?;
        let epoch = database.boot_of(row.get(5)?).epoch;
        let event = reading.time.unwrap_or(database.timeline.reference(epoch, reading.mono));
        let input = Input { reading: &reading, boot: KernelBoot(epoch.0), event };
        rebuild.fold(&input, sources);
    }
    Ok(rebuild.done())
}

/// The first of the last readings that lie within the horizon of the rules.
fn first_within(database: &Database, rebuild: &Rebuild) -> rusqlite::Result<u64> {
    let mut select = database
        .connection
        .prepare("SELECT seq, mono_ms, time_ms FROM readings ORDER BY seq DESC LIMIT ?1")?;
    let mut rows = select.query([REBUILD_ROWS])?;
    let (mut first, mut newest) = (u64::MAX >> 1, None);
    while let Some(row) = rows.next()? {
        let seq = row.get(0)?;
        let own: Option<i64> = row.get(2)?;
        let event = match own {
            Some(own) => Wall(own),
            None => {
                let epoch = database.boot_of(seq).epoch;
                database.timeline.reference(epoch, Mono(row.get(1)?))
            }
        };
        let newest = *newest.get_or_insert(event);
        if event + rebuild.horizon() < newest {
            break;
        }
        first = seq;
    }
    Ok(first)
}

pub(super) fn read_reading(row: &Row<'_>) -> rusqlite::Result<Reading> {
    Ok(Reading {
        source: SourceId(row.get(0)?),
        mono: Mono(row.get(1)?),
        value: match read_value(row, 2)? {
            ValueRef::Number(number) => Value::Number(number),
            ValueRef::State(state) => Value::State(state.into()),
        },
        time: row.get::<_, Option<i64>>(3)?.map(Wall),
        detail: read_detail(row, 4)?.map(Box::<HeartDetail>::new),
    })
}

struct StoredAlert {
    rule: Arc<str>,
    source: u32,
    raised: bool,
    time: i64,
    window_end: Option<i64>,
}

impl StoredAlert {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            rule: row.get(0)?,
            source: row.get(1)?,
            raised: row.get(2)?,
            time: row.get(3)?,
            window_end: row.get(4)?,
        })
    }

    fn as_past(&self) -> PastAlert<'_> {
        PastAlert {
            rule: &self.rule,
            source: SourceId(self.source),
            state: if self.raised { AlertState::Raised } else { AlertState::Cleared },
            time: Wall(self.time),
            window_end: self.window_end.map(Wall),
        }
    }
}
