//! A replay of rules and visits over stored readings, or over the readings of another program.
//!
//! The fold is the writer's, over the same readings in the same order, so its decisions are the
//! same: a difference from the stored decisions comes from other rules. Decisions that follow only
//! from the passing of time after the last reading are kept if they were stored, because the end of
//! the run is not known. Nothing is written.

mod curve;
mod stored;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use pulsegate_core::record::event::{Event, VisitMembers};
use pulsegate_core::rules::{Condition, KernelBoot, LATENESS, RuleSpec, Rules, TimedReading};
use pulsegate_core::time::timeline::{ClockTrust, Epoch, Timeline};
use pulsegate_core::time::{Mono, Wall};
use pulsegate_core::visits::VisitFormat;
use pulsegate_sensors::{SourceId, Sources};

pub(crate) use curve::Curve;
use curve::Curves;

use crate::db::VisitFound;
use crate::db::database::{AlertRow, EventRow};
use crate::db::reader::AlertFound;
use crate::store::fold::Fold;
use crate::store::visits::{VisitFold, VisitKey, key_of};

/// Readings between two reports of the progress.
const TOLD_EVERY: u64 = 4_096;

/// An alert or a visit decided in the replay, or found in the store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decided {
    Alert(AlertFound),
    Visit(VisitFound),
}

/// The difference between the replay and the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutcomeChange {
    /// Decided in the replay, and missing in the store.
    Added,
    /// Found in the store, and not decided in the replay.
    Removed,
    /// Decided in the replay and found in the store.
    Same,
}

/// An alert or visit with its difference.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReplayOutcome {
    pub(crate) change: OutcomeChange,
    pub(crate) decided: Decided,
}

/// The rules and visits to run, and the rule to chart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplayPlan<'a> {
    pub(crate) rules: &'a [RuleSpec],
    pub(crate) visits: &'a [VisitFormat],
    pub(crate) charted: Option<&'a RuleSpec>,
}

/// The result of a replay.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// Number of folded readings.
    pub(crate) readings: u64,
    /// In the order of their times.
    pub(crate) outcomes: Vec<ReplayOutcome>,
    /// The values given to the charted rule, by source.
    pub(crate) curves: Vec<Curve>,
}

/// A replay under way. Keeps all decisions until the end.
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
    /// Time after a reading within which a decision can follow.
    patience: Duration,
    curves: Curves,
}

/// The rules about silence, with their durations. The times of their alerts depend on the exact
/// starts and stops of the agent, which are known only from stored records: such alerts match
/// within the duration.
#[derive(Default)]
struct Silences(Vec<(Box<str>, Duration)>);

/// A decision of the replay or of the store, with its times on the axis of the rules.
struct Raw {
    key: DecisionKey,
    what: RawDecided,
    /// True if the agent is known to have run at the time of the decision.
    certain: bool,
}

enum RawDecided {
    Alert(AlertFound, Option<Epoch>),
    Visit(VisitMembers),
}

/// Two decisions with equal keys are the same.
#[derive(Debug, PartialEq, Eq, Hash)]
enum DecisionKey {
    /// Rule, source, raised, and time; no time for a rule about silence.
    Alert(Box<str>, u32, bool, Option<i64>),
    Visit(VisitKey),
}

impl Replay {
    /// Begins a replay whose readings are given to [`Replay::fold_reading`].
    ///
    /// # Errors
    /// When a rule is invalid, which a checked configuration rules out.
    pub(crate) fn new(plan: ReplayPlan<'_>, sources: Arc<Sources>) -> anyhow::Result<Self> {
        let fold = Fold::with_rules(Rules::new(plan.rules.to_vec())?);
        Ok(Self::with_fold(fold, plan, sources))
    }

    fn with_fold(mut fold: Fold, plan: ReplayPlan<'_>, sources: Arc<Sources>) -> Self {
        let ReplayPlan { rules, visits, charted } = plan;
        if let Some(rule) = charted {
            fold.trace_rule(&rule.name);
        }
        let silent = |rule: &RuleSpec| match rule.condition {
            Condition::Silent { after, .. } => Some((rule.name.clone(), after)),
            Condition::Reading(_)
            | Condition::Anomaly { .. }
            | Condition::All { .. }
            | Condition::Any { .. } => None,
        };
        let gap = visits.iter().map(|format| format.spec.gap).max().unwrap_or_default();
        let patience = fold.decision_horizon().max(gap + LATENESS) + LATENESS;
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
            curves: Curves::for_rule(charted),
        }
    }

    /// Begins a start of the agent at `now`.
    pub(crate) fn begin_agent_start(&mut self, boot: KernelBoot, now: Mono, event: Wall) {
        self.fold.begin_agent_start(boot, now, event, &self.sources);
    }

    /// Folds another reading in.
    pub(crate) fn fold_reading(&mut self, input: &TimedReading<'_>) {
        self.fold.fold_into_alerts(input, &self.sources, &mut self.alerts);
        self.visits.fold_into_events(input, &self.sources, &mut self.events);
        self.readings += 1;
        self.last = (input.boot, input.reading.mono.max(self.now_in(input.boot)));
        self.keep_decided(true);
    }

    fn now_in(&self, boot: KernelBoot) -> Mono {
        if boot == self.last.0 { self.last.1 } else { Mono(0) }
    }

    /// Passes time without a reading. `certain`: the agent is known to have run until `now`.
    fn pass_time(&mut self, now: Mono, certain: bool) {
        let (boot, last) = self.last;
        if now <= last {
            return;
        }
        self.fold.tick_rules(boot, now, &mut self.alerts);
        self.visits.tick_visits(boot, now, &self.sources, &mut self.events);
        self.last = (boot, now);
        self.keep_decided(certain);
    }

    /// Ends a replay without a comparison. Windows and visits begun by the last readings end, but
    /// the end of the input raises no alert about silence.
    pub(crate) fn finish_replay(mut self) -> Replayed {
        self.pass_time(self.last.1 + self.patience, false);
        for raw in &mut self.outcomes {
            raw.certain |= self.silences.silence_length(&raw.key).is_none();
        }
        self.compare_with_stored(Vec::new(), &Timeline::default())
    }

    fn keep_decided(&mut self, certain: bool) {
        let epoch = Epoch(self.last.0.0);
        for (asked, is_dated) in self.fold.take_evaluations() {
            self.curves.add_evaluation(&asked, (!is_dated).then_some(epoch));
        }
        for row in self.alerts.drain(..) {
            let time = self.silences.key_time(&row.rule, row.time.0);
            let key = DecisionKey::Alert(row.rule.clone(), row.source, row.raised, time);
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
                trust: ClockTrust::Trusted,
            };
            let what = RawDecided::Alert(found, row.derived.then_some(epoch));
            self.outcomes.push(Raw { key, what, certain });
        }
        for row in self.events.drain(..) {
            let Event::Visit(visit) = row.event else { continue };
            let (key, what) = (DecisionKey::Visit(key_of(&visit)), RawDecided::Visit(visit));
            self.outcomes.push(Raw { key, what, certain });
        }
    }

    /// Compares the decisions of the replay with the `stored` decisions.
    fn compare_with_stored(self, stored: Vec<Raw>, timeline: &Timeline) -> Replayed {
        let mut by_key: HashMap<DecisionKey, VecDeque<RawDecided>> = HashMap::new();
        for raw in stored {
            by_key.entry(raw.key).or_default().push_back(raw.what);
        }
        let mut outcomes = Vec::new();
        for raw in self.outcomes {
            let found = by_key.get_mut(&raw.key);
            let was = match (found, self.silences.silence_length(&raw.key)) {
                (Some(found), Some(length)) => raw.what.take_near(found, length),
                (Some(found), None) => found.pop_front(),
                (None, _) => None,
            };
            let change = match (was, raw.certain) {
                (Some(_), _) => OutcomeChange::Same,
                (None, true) => OutcomeChange::Added,
                (None, false) => continue,
            };
            outcomes.push(ReplayOutcome { change, decided: raw.what.into_decided(timeline) });
        }
        let removed = by_key.into_values().flatten();
        outcomes.extend(removed.map(|what| ReplayOutcome {
            change: OutcomeChange::Removed,
            decided: what.into_decided(timeline),
        }));
        outcomes.sort_by_key(|outcome| outcome.decided.occurred_at());
        let curves = self.curves.into_curves(&self.sources, timeline);
        Replayed { readings: self.readings, outcomes, curves }
    }
}

impl Silences {
    /// Returns the duration of the silence if `key` is of a rule about silence.
    fn silence_length(&self, key: &DecisionKey) -> Option<Duration> {
        let DecisionKey::Alert(rule, ..) = key else { return None };
        self.0.iter().find(|(silent, _)| silent == rule).map(|(_, length)| *length)
    }

    /// Returns the time as part of the key of an alert; `None` for a rule about silence.
    fn key_time(&self, rule: &str, time: i64) -> Option<i64> {
        (!self.0.iter().any(|(silent, _)| **silent == *rule)).then_some(time)
    }
}

impl RawDecided {
    /// Removes and returns the nearest decision no farther away than `length`.
    fn take_near(&self, stored: &mut VecDeque<Self>, length: Duration) -> Option<Self> {
        let apart = |other: &Self| {
            self.axis_time().since(other.axis_time()).max(other.axis_time().since(self.axis_time()))
        };
        let (at, near) = stored.iter().map(apart).enumerate().min_by_key(|(_, apart)| *apart)?;
        (near <= length).then(|| stored.remove(at))?
    }

    /// Returns the time on the axis of the rules.
    fn axis_time(&self) -> Wall {
        match self {
            Self::Alert(found, _) => found.time,
            Self::Visit(visit) => Wall(visit.end_ms),
        }
    }

    fn into_decided(self, timeline: &Timeline) -> Decided {
        match self {
            Self::Alert(found, epoch) => Decided::Alert(found.correct_times(timeline, epoch)),
            Self::Visit(stored) => Decided::Visit(VisitFound::from_stored(stored, timeline)),
        }
    }
}

impl Decided {
    /// Returns the name of the source.
    pub(crate) fn source_name(&self) -> &str {
        match self {
            Self::Alert(alert) => &alert.source,
            Self::Visit(visit) => &visit.source,
        }
    }

    /// Returns the time of the alert, or of the last opening of the visit.
    pub(crate) fn occurred_at(&self) -> Wall {
        match self {
            Self::Alert(alert) => alert.time,
            Self::Visit(visit) => visit.end,
        }
    }
}
