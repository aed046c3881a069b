//! The rules: folded over readings as they arrive, and over the last stored readings at a start.

use std::collections::BTreeMap;

use pulsegate_core::act::standing::Alerts;
use pulsegate_core::record::event::Event;
use pulsegate_core::record::reading::Reading;
use pulsegate_core::rules::{
    Action, AlertState, ArrivalTime, Evaluation, Flap, InvalidRule, KernelBoot, PastAlert,
    Publication, Rebuild, RuleCounts, RuleSpec, Rules, Severity, TimedReading, Transition,
    split_runnable,
};
use pulsegate_core::time::{Mono, Wall};
use pulsegate_sensors::{SourceId, Sources};

use crate::db::cursor::{LAST_PLACE, Record, Select};
use crate::db::database::{AlertRow, Database, EventRow};
use crate::db::rows::{StandingAlerts, StoredAlert, StoredAlerts, StoredReadings};
use crate::db::{self, Reader};

/// Rows read back at a start, whatever the windows need (P9).
const REBUILD_ROWS: u32 = 200_000;

/// Alerts read back at a start, to find flapping rules.
const RECENT_ALERTS: u32 = 2_000;

/// A rule with changes too frequent to report for a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flapping {
    pub(crate) rule: Box<str>,
    pub(crate) source: Box<str>,
    /// Alerts held back since the rule began to flap.
    pub(crate) held: u64,
}

/// The rules with the state of their alerts.
pub(crate) struct Fold {
    rules: Rules,
    transitions: Vec<Transition>,
    alerts: Alerts,
    /// True if `alerts` changed since the last [`Fold::take_moved`].
    moved: bool,
    /// By number of the source: true if its readings carry their own time.
    own_time: Vec<bool>,
    idle: bool,
    /// The rules switched off.
    off: Vec<InvalidRule>,
    /// Alerts held back by flapping rules, by rule and source.
    flapping: BTreeMap<(Box<str>, SourceId), u64>,
    /// Rules that began or ceased to flap, still to be reported.
    flaps: Vec<Flap>,
}

impl Fold {
    /// Restores the rules to their state after the last stored reading. A raised alert that no rule
    /// can clear any more is cleared in `alerts`. Invalid rules are left out.
    pub(crate) fn rebuild_fold(
        specs: &[RuleSpec],
        database: &Database,
        now: Mono,
        alerts: &mut Vec<AlertRow>,
    ) -> Self {
        let (specs, off) = split_runnable(specs);
        let mut own_time = Vec::new();
        let mut rules = match rebuild_rules(&specs, database, now, &mut own_time, alerts) {
            Ok(rules) => rules,
            Err(error) => {
                tracing::warn!(%error, "rules begin without their history");
                Rules::new(specs.clone()).expect("those that cannot run are left out")
            }
        };
        let event = database.timeline.reference_time(database.epoch, now);
        rules.await_sources(KernelBoot(database.epoch.0), now, event, database.known_sources());
        Self { own_time, idle: specs.is_empty(), off, ..Self::with_rules(rules) }
    }

    /// Returns a sentence for each rule switched off: the reason and the cure.
    pub(crate) fn explain_off_rules(&self) -> Vec<String> {
        let say = |off: &InvalidRule| {
            format!("{off}: this rule is off, the others run; correct it, and let the agent reload")
        };
        self.off.iter().map(say).collect()
    }

    /// Continues after another fold, whose alerts were `before`.
    pub(crate) fn resume_alerts(&mut self, before: Alerts) {
        self.alerts = before;
        self.alerts.restore_raised(self.rules.raised_rules());
        self.moved = true;
    }

    /// Returns the present alerts.
    pub(crate) fn rule_alerts(&self) -> &Alerts {
        &self.alerts
    }

    /// Returns the present alerts if they changed since the last call.
    pub(crate) fn take_moved(&mut self) -> Option<&Alerts> {
        std::mem::take(&mut self.moved).then_some(&self.alerts)
    }

    /// Restores the rules from the alerts before the place `first`, without any reading.
    pub(crate) fn after_alerts(
        specs: &[RuleSpec],
        reader: &Reader,
        first: u64,
        sources: &Sources,
    ) -> anyhow::Result<Self> {
        let before = first.saturating_sub(1);
        let past =
            read_alerts(Select::<StoredAlerts>::select_between(&reader.connection, 0, before)?)?;
        let boot_of = |seq| KernelBoot(reader.boot_of(seq).epoch.0);
        let past = past.iter().map(|alert| as_past(alert, boot_of));
        Ok(Self::with_rules(Rules::begin_rebuild(specs.to_vec(), past, sources)?.finish_rebuild()))
    }

    /// Begins rules without history.
    pub(crate) fn with_rules(rules: Rules) -> Self {
        Self {
            rules,
            transitions: Vec::new(),
            alerts: Alerts::default(),
            moved: false,
            own_time: Vec::new(),
            idle: false,
            off: Vec::new(),
            flapping: BTreeMap::new(),
            flaps: Vec::new(),
        }
    }

    /// Begins a start of the agent at `now`, which is `event` on the axis of the rules.
    pub(crate) fn begin_agent_start(
        &mut self,
        boot: KernelBoot,
        now: Mono,
        event: Wall,
        sources: &Sources,
    ) {
        self.rules.await_sources(boot, now, event, sources);
    }

    /// Folds readings in, and adds the decisions to `alerts`.
    pub(crate) fn fold_readings(
        &mut self,
        readings: &[Reading],
        database: &Database,
        sources: &Sources,
        alerts: &mut Vec<AlertRow>,
    ) {
        if self.idle {
            return;
        }
        for reading in readings {
            let input = TimedReading::new(reading, &database.timeline, database.epoch);
            self.fold_into_alerts(&input, sources, alerts);
        }
    }

    /// Folds a reading in.
    pub(crate) fn fold_into_alerts(
        &mut self,
        input: &TimedReading<'_>,
        sources: &Sources,
        alerts: &mut Vec<AlertRow>,
    ) {
        note_own_time(&mut self.own_time, input.reading);
        self.rules.fold_reading(input, sources, &mut self.transitions);
        self.hand_over(alerts);
    }

    /// Passes time without a reading.
    pub(crate) fn tick_rules(&mut self, boot: KernelBoot, now: Mono, alerts: &mut Vec<AlertRow>) {
        self.rules.advance_time(boot, now, &mut self.transitions);
        self.hand_over(alerts);
    }

    /// Returns the next time at which [`Fold::tick_rules`] can decide something.
    pub(crate) fn next_rule_deadline(&self) -> Option<Mono> {
        self.rules.next_deadline()
    }

    /// Returns the longest time after a reading in which the reading can still decide something.
    pub(crate) fn decision_horizon(&self) -> std::time::Duration {
        self.rules.rebuild_horizon()
    }

    /// Keeps the evaluations of the rule of this name from now on.
    pub(crate) fn trace_rule(&mut self, rule: &str) {
        self.rules.trace_rule(rule);
    }

    /// Returns the evaluations of the traced rule since the last call, and whether the source's
    /// readings carry their own time.
    pub(crate) fn take_evaluations(&mut self) -> impl Iterator<Item = (Evaluation, bool)> {
        let own_time = &self.own_time;
        let is_dated = |source: SourceId| own_time.get(source.0 as usize).copied();
        self.rules.drain_evaluations().map(move |asked| {
            let is_dated = is_dated(asked.source).unwrap_or(false);
            (asked, is_dated)
        })
    }

    /// Returns the flapping rules: rule, source, and number of alerts held back.
    pub(crate) fn list_flapping(&self, sources: &Sources) -> Vec<Flapping> {
        let flapping = |((rule, source), held): (&(Box<str>, SourceId), &u64)| Flapping {
            rule: rule.clone(),
            source: name_of_source(sources, *source),
            held: *held,
        };
        self.flapping.iter().map(flapping).collect()
    }

    /// Returns the counts of readings not used and of alerts held back.
    pub(crate) fn rule_counts(&self) -> RuleCounts {
        self.rules.counts()
    }

    /// Adds an event for each rule and source beginning or ceasing to flap.
    pub(crate) fn report_flaps(
        &mut self,
        now: Mono,
        sources: &Sources,
        events: &mut Vec<EventRow>,
    ) {
        events.extend(self.flaps.drain(..).map(|flap| {
            let rule = flap.rule.name.to_string();
            let source = name_of_source(sources, flap.source).to_string();
            let suppressed = flap.suppressed;
            let event = match flap.is_over {
                false => {
                    tracing::info!(rule, suppressed, "rule_flapping");
                    Event::RuleFlapping { rule, source }
                }
                true => {
                    tracing::info!(rule, suppressed, "rule_settled");
                    Event::RuleSettled { rule, source, suppressed }
                }
            };
            EventRow { event, mono: now }
        }));
    }

    fn hand_over(&mut self, alerts: &mut Vec<AlertRow>) {
        for flap in self.rules.drain_flaps() {
            let key = (flap.rule.name.clone(), flap.source);
            if flap.is_over {
                self.flapping.remove(&key);
            } else {
                self.flapping.insert(key, 0);
            }
            self.flaps.push(flap);
        }
        for transition in self.transitions.drain(..) {
            if transition.report != Publication::Later {
                self.moved |= self.alerts.apply_transition(&transition);
            }
            if transition.report == Publication::Held {
                let key = (transition.rule.name.clone(), transition.source);
                self.flapping.entry(key).and_modify(|held| *held += 1);
                continue;
            }
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
                score: transition.score,
                window: transition.window,
                time: transition.time,
                derived: !own_time.copied().unwrap_or(false),
            });
        }
    }
}

fn name_of_source(sources: &Sources, source: SourceId) -> Box<str> {
    sources.get(source).map(|source| source.name.clone()).unwrap_or_default()
}

/// Returns the word for a severity in records.
fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

fn parse_severity(word: &str) -> Severity {
    let all = [Severity::Info, Severity::Warning, Severity::Critical];
    all.into_iter().find(|severity| severity_word(*severity) == word).unwrap_or(Severity::Warning)
}

fn note_own_time(own_time: &mut Vec<bool>, reading: &Reading) {
    let at = reading.source.0 as usize;
    if own_time.len() <= at {
        own_time.resize(at + 1, false);
    }
    own_time[at] = reading.time.is_some();
}

fn rebuild_rules(
    specs: &[RuleSpec],
    database: &Database,
    now: Mono,
    own_time: &mut Vec<bool>,
    alerts: &mut Vec<AlertRow>,
) -> anyhow::Result<Rules> {
    let (connection, sources) = (&database.connection, database.known_sources());
    let standing = read_alerts(Select::<StandingAlerts>::from(connection, 0)?)?;
    let time = database.timeline.reference_time(database.epoch, now);
    alerts.extend(find_orphans(specs, &standing, sources).map(|alert| clear_alert(alert, time)));
    if specs.is_empty() {
        return Ok(Rules::new(Vec::new())?);
    }
    let recent = Select::<StoredAlerts>::select_backward(connection, 0, LAST_PLACE)?;
    let mut past = read_alerts(recent.at_most(RECENT_ALERTS))?;
    past.reverse();
    past.retain(|(seq, _)| standing.iter().all(|(standing, _)| standing != seq));
    past.extend(standing);
    let boot_of = |seq| KernelBoot(database.boot_of(seq).epoch.0);
    let past = past.iter().map(|alert| as_past(alert, boot_of));
    let mut rebuild = Rules::begin_rebuild(specs.to_vec(), past, sources)?;
    let from = first_within(database, &rebuild)?;
    let mut select = Select::<StoredReadings>::from(connection, from)?;
    let mut cursor = select.open_cursor()?;
    while let Some((seq, reading)) = cursor.read_next()? {
        note_own_time(own_time, reading);
        let epoch = database.boot_of(seq).epoch;
        rebuild.fold_stored(&TimedReading::new(reading, &database.timeline, epoch), sources);
    }
    Ok(rebuild.finish_rebuild())
}

/// Returns the raised alerts without a rule that watches them.
fn find_orphans<'a>(
    specs: &'a [RuleSpec],
    standing: &'a [(u64, StoredAlert)],
    sources: &'a Sources,
) -> impl Iterator<Item = &'a StoredAlert> {
    let is_last = |at: usize, alert: &StoredAlert| {
        let later = &standing[at + 1..];
        !later.iter().any(|(_, other)| other.rule == alert.rule && other.source == alert.source)
    };
    let is_watched = |alert: &StoredAlert| {
        let source = sources.get(alert.source);
        specs.iter().any(|spec| {
            *spec.name == *alert.rule
                && spec.then.contains(&Action::Alert)
                && source.as_deref().is_some_and(|source| spec.concerns_source(source))
        })
    };
    let standing = standing.iter().map(|(_, alert)| alert).enumerate();
    let raised = standing.filter(move |(at, alert)| alert.raised && is_last(*at, alert));
    raised.map(|(_, alert)| alert).filter(move |alert| !is_watched(alert))
}

/// Reads all selected alerts.
fn read_alerts<R>(mut select: Select<'_, R>) -> db::Result<Vec<(u64, StoredAlert)>>
where
    R: for<'a> Record<Lent<'a> = StoredAlert> + 'static,
{
    let (mut cursor, mut alerts) = (select.open_cursor()?, Vec::new());
    while let Some(alert) = cursor.read_next()? {
        alerts.push(alert);
    }
    Ok(alerts)
}

/// Returns the place of the first reading within the horizon of the rules before the newest, by arrival, or by its own
/// time among the readings that have one. One broken time then ends no history, and neither does the outage before
/// a kernel start, whose length is unknown to a device without a clock.
fn first_within(database: &Database, rebuild: &Rebuild) -> db::Result<u64> {
    let mut select =
        Select::<StoredReadings>::select_backward(&database.connection, 0, LAST_PLACE)?
            .at_most(REBUILD_ROWS);
    let mut cursor = select.open_cursor()?;
    let horizon = rebuild.history_length();
    let (mut first, mut newest_arrival, mut newest_own) = (LAST_PLACE, None, None);
    while let Some((seq, reading)) = cursor.read_next()? {
        let epoch = database.boot_of(seq).epoch;
        let arrival = database.timeline.reference_time(epoch, reading.mono);
        let arrived_within = arrival + horizon >= *newest_arrival.get_or_insert(arrival);
        let taken_within =
            reading.time.is_some_and(|own| own + horizon >= *newest_own.get_or_insert(own));
        if !arrived_within && !taken_within {
            break;
        }
        first = seq;
    }
    Ok(first)
}

fn as_past(
    (seq, alert): &(u64, StoredAlert),
    boot_of: impl Fn(u64) -> KernelBoot,
) -> PastAlert<'_> {
    PastAlert {
        rule: &alert.rule,
        source: alert.source,
        state: if alert.raised { AlertState::Raised } else { AlertState::Cleared },
        time: alert.time,
        arrival: alert.arrival.map(|mono| ArrivalTime { boot: boot_of(*seq), mono }),
        window_end: alert.window_end,
    }
}

/// Returns the alert that clears `alert` at `time`.
fn clear_alert(alert: &StoredAlert, time: Wall) -> AlertRow {
    AlertRow {
        rule: alert.rule.clone(),
        source: alert.source.0,
        raised: false,
        severity: severity_word(parse_severity(&alert.severity)),
        value: alert.value.clone(),
        score: None,
        window: None,
        time,
        derived: true,
    }
}
