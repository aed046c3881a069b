//! The rules engine: folds readings into alert transitions (raised and cleared) for the agent.
//!
//! The state is a fold over readings only. No state is stored: a start rebuilds the state from the
//! last readings ([`Rules::rebuild_horizon`]) and the stored alerts ([`Rules::begin_rebuild`]). A replay of a
//! rule over history therefore gives the transitions of the live run.
//!
//! Windows and conditions with a duration (`for`) use event time: the same readings, in order,
//! shuffled or late by up to [`LATENESS`], give the same transitions. Conditions without a duration
//! use the newest reading of each source. Restarts between readings do not change the transitions,
//! except for alerts held back as flapping and for sources silent for longer than the horizon;
//! neither the wall clock nor a step of the wall clock does (P8). The engine knows nothing of
//! delivery, cameras or people.
//!
//! Each kind of condition has its own file. A `Shape` turns readings into findings, and a `Judge`
//! turns findings into transitions.

mod agenda;
mod anomaly;
mod clock;
mod combination;
mod faults;
mod flapping;
mod judge;
mod level;
mod rebuild;
mod settling;
mod silence;
mod spec;
mod sum;
mod tally;
mod watch;
mod windows;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use pulsegate_sensors::{Source, SourceId, Sources};

use crate::record::reading::{Reading, Value};
use crate::time::timeline::{Epoch, Timeline};
use crate::time::{Mono, Wall};

use agenda::Agenda;
pub(crate) use clock::{EventClock, TimeVerdict};
use judge::{Trace, TransitionSink};
use settling::ReadingOrigin;
use watch::{RuleWatch, Shape};

pub use clock::{BELIEVED_AFTER, MAX_LEAP};
pub use faults::{InvalidRule, RuleFault, split_runnable};
pub use flapping::{ArrivalTime, BACKLOG_ALERTS, Flap, MAX_ALERTS, Publication, WITHIN};
pub use rebuild::{PastAlert, Rebuild};
pub use spec::{
    Action, Clear, Condition, Drive, Limit, MAX_MEMBERS, MAX_STEPS, MAX_WINDOW, MIN_SILENCE,
    MIN_WINDOW, Member, Range, RuleSpec, Severity, Take, Test, WindowSpec,
};

/// The lateness by which a reading may arrive and still count in its window; a window is judged
/// [`LATENESS`] after its end. Covers a Bluetooth reconnect and the batching of another program.
pub const LATENESS: Duration = Duration::from_secs(5);

/// The kind of readings in which 0 means "no measurement".
const HEART_RATE: &str = "heart_rate";

/// The number of a kernel start of this device. Monotonic times compare only within one kernel
/// start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct KernelBoot(pub u32);

/// A reading with its boot and event time, as the rules engine takes readings.
#[derive(Debug, Clone, Copy)]
pub struct TimedReading<'a> {
    /// The reading.
    pub reading: &'a Reading,
    /// The kernel start of `reading.mono`.
    pub boot: KernelBoot,
    /// The time of the reading itself, or else the arrival plus an offset fixed for this kernel
    /// start, so a clock step does not move the event time.
    pub event: Wall,
}

impl<'a> TimedReading<'a> {
    /// Creates the input of a reading that arrived in the kernel start `epoch`.
    #[must_use]
    pub fn new(reading: &'a Reading, timeline: &Timeline, epoch: Epoch) -> Self {
        let event = reading.event_time(timeline, epoch);
        Self { reading, boot: KernelBoot(epoch.0), event }
    }
}

/// The direction of a transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AlertState {
    /// The condition began to hold.
    Raised,
    /// The condition ceased to hold.
    Cleared,
}

/// A raised or cleared alert. The source is opaque; a transition has no other reference to a
/// person.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// The rule, with its name, severity and actions.
    pub rule: Arc<RuleSpec>,
    /// The source of the readings.
    pub source: SourceId,
    /// Raised or cleared.
    pub state: AlertState,
    /// The deciding value: of the reading, of the window, or the length of a silence in seconds.
    pub value: Value,
    /// The anomaly score of the reading, if the rule has the condition `anomaly`.
    pub score: Option<f64>,
    /// Start and end of the window, if the rule has one.
    pub window: Option<(Wall, Wall)>,
    /// The event time of the transition: of the reading, of the end of the window, or of the end of
    /// the wait (`for` or a cool-down).
    pub time: Wall,
    /// Tells if an alert is published for this transition now, later or never.
    pub report: Publication,
}

/// One evaluation of a rule, with or without a transition.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The source of the readings; for a rule over several sources, the source named by the alert.
    pub source: SourceId,
    /// The value of the reading, of the window, or the length of a silence in seconds.
    pub value: Value,
    /// The anomaly score, if the rule has the condition `anomaly` and has learnt enough.
    pub score: Option<f64>,
    /// The event time of the reading, or the end of the window.
    pub time: Wall,
    /// `true` if the condition holds.
    pub holds: bool,
}

/// Counts of unused readings and unpublished alerts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RuleCounts {
    /// Readings whose window was already closed, or older than an already judged reading. A reading
    /// counts once for each rule.
    pub late: u64,
    /// Readings with a time more than [`MAX_LEAP`] off the clock of their source.
    pub doubtful: u64,
    /// Alerts held back by `at_most_every`.
    pub suppressed: u64,
    /// Alerts held back because of too many transitions of one rule and source.
    pub flapping: u64,
}

/// All rules, with their state for each covered source.
#[derive(Debug, Clone)]
pub struct Rules {
    rules: Vec<Arc<RuleSpec>>,
    /// The tracks: first a track for each rule over several sources, then a track for each source
    /// seen so far, by source number.
    tracks: Vec<Track>,
    combinations: usize,
    boot: KernelBoot,
    agenda: Agenda,
    counts: RuleCounts,
    flaps: Vec<Flap>,
    trace: Option<Trace>,
}

/// The state of one source for all its rules, or of one rule over several sources.
#[derive(Debug, Clone)]
struct Track {
    heart_rate: bool,
    watches: Vec<RuleWatch>,
    /// The tracks of rules over several sources with this source as a member, each with the index
    /// of the member.
    feeds: Vec<(usize, usize)>,
    clock: Option<EventClock>,
}

impl Rules {
    /// Creates an engine for `specs` without any history.
    ///
    /// # Errors
    /// Returns the first invalid rule; [`RuleSpec::find_faults`] lists all faults of one rule.
    pub fn new(specs: Vec<RuleSpec>) -> Result<Self, InvalidRule> {
        faults::check_rules(&specs)?;
        let rules: Vec<Arc<RuleSpec>> = specs.into_iter().map(Arc::new).collect();
        let combination = |rule: &&Arc<RuleSpec>| rule.members().is_some();
        let tracks: Vec<Track> =
            rules.iter().filter(combination).map(Track::for_combination).collect();
        let (combinations, boot, counts) =
            (tracks.len(), KernelBoot::default(), RuleCounts::default());
        let agenda = Agenda::default();
        let flaps = Vec::new();
        Ok(Self { rules, tracks, combinations, boot, agenda, counts, flaps, trace: None })
    }

    /// Starts to wait for the sources expected by `silent` rules, at the start of the agent.
    /// `event` is the event time of `now` for a source without a time of its own. New sources get a
    /// number.
    pub fn await_sources(&mut self, boot: KernelBoot, now: Mono, event: Wall, sources: &Sources) {
        for rule in self.rules.clone() {
            let Condition::Silent { expected, .. } = &rule.condition else { continue };
            let mut begun = Vec::new();
            for source in expected {
                let id = sources.intern_source(source.clone()).ok();
                begun.extend(id.and_then(|id| self.resolve_track(id, sources)));
            }
            for (index, track) in self.tracks.iter_mut().enumerate() {
                track.await_source(&rule, begun.contains(&index).then_some((boot, now, event)));
            }
        }
        self.boot = boot;
        self.schedule_all();
    }

    /// Takes one more reading, in the order of the store, and appends the resulting transitions to
    /// `out`. Looks up only sources not seen before in `sources`.
    pub fn fold_reading(
        &mut self,
        input: &TimedReading<'_>,
        sources: &Sources,
        out: &mut Vec<Transition>,
    ) {
        self.apply_reading(input, sources, Some(out));
    }

    /// Advances time to `now` and appends the resulting transitions to `out`, as from windows of a
    /// silent source or the end of a cool-down. `now` must not be later than the arrival of any
    /// reading still to be folded: the reading might be too late for its window.
    pub fn advance_time(&mut self, boot: KernelBoot, now: Mono, out: &mut Vec<Transition>) {
        self.advance_tracks(boot, now, &mut Some(out));
    }

    /// Returns the next useful time for [`Rules::advance_time`], in the monotonic time of the latest kernel
    /// start.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.agenda.first_deadline()
    }

    /// Returns the length of the history, counted back from the newest stored reading, needed by
    /// [`Rules::begin_rebuild`].
    #[must_use]
    pub fn rebuild_horizon(&self) -> Duration {
        self.rules.iter().map(|rule| rule.rebuild_horizon()).max().unwrap_or_default()
    }

    /// Returns each raised rule with its source.
    pub fn raised_rules(&self) -> impl Iterator<Item = (&RuleSpec, SourceId)> {
        let watches = self.tracks.iter().flat_map(|track| &track.watches);
        let raised = watches.map(|watch| &watch.judge).filter(|judge| judge.is_raised());
        raised.map(|judge| (&**judge.rule(), judge.alert_source()))
    }

    /// Starts to record every evaluation of the rule named `rule`, for [`Rules::drain_evaluations`] to drain.
    pub fn trace_rule(&mut self, rule: &str) {
        self.trace = Some(Trace { rule: rule.into(), asked: Vec::new() });
    }

    /// Drains the evaluations of the traced rule recorded since the last call.
    pub fn drain_evaluations(&mut self) -> impl Iterator<Item = Evaluation> {
        self.trace.iter_mut().flat_map(|trace| trace.asked.drain(..))
    }

    /// Drains the beginnings and ends of flapping since the last call.
    pub fn drain_flaps(&mut self) -> impl Iterator<Item = Flap> {
        self.flaps.drain(..)
    }

    /// Returns the counts of unused readings and unpublished alerts since the start.
    #[must_use]
    pub fn counts(&self) -> RuleCounts {
        self.counts
    }

    /// Takes one reading; if `out` is `None`, updates the state without any decision. Each reading
    /// is also a tick for all sources, so transitions due by the arrival are stored together with
    /// the reading.
    fn apply_reading(
        &mut self,
        input: &TimedReading<'_>,
        sources: &Sources,
        mut out: Option<&mut Vec<Transition>>,
    ) {
        self.advance_tracks(input.boot, input.reading.mono, &mut out);
        let Some(index) = self.resolve_track(input.reading.source, sources) else { return };
        let track = &mut self.tracks[index];
        if track.watches.is_empty() && track.feeds.is_empty() {
            return;
        }
        let (counts, flaps) = (&mut self.counts, &mut self.flaps);
        let now = ArrivalTime { boot: input.boot, mono: input.reading.mono };
        let mut sink = TransitionSink { now, out, counts, flaps, trace: self.trace.as_mut() };
        let counts = track.apply_reading(input, None, &mut sink);
        let feeds = if counts { track.feeds.clone() } else { Vec::new() };
        for (combination, member) in &feeds {
            self.tracks[*combination].apply_reading(input, Some(*member), &mut sink);
        }
        feeds
            .iter()
            .map(|(combination, _)| *combination)
            .chain([index])
            .for_each(|one| self.schedule_track(one));
    }

    /// Advances time for every source with a deadline up to `now`.
    fn advance_tracks(
        &mut self,
        boot: KernelBoot,
        now: Mono,
        out: &mut Option<&mut Vec<Transition>>,
    ) {
        if boot != self.boot {
            self.boot = boot;
            self.schedule_all();
        }
        while let Some(index) = self.agenda.pop_due(now) {
            let (out, trace) = (out.as_deref_mut(), self.trace.as_mut());
            let (counts, flaps) = (&mut self.counts, &mut self.flaps);
            let mut sink =
                TransitionSink { now: ArrivalTime { boot, mono: now }, out, counts, flaps, trace };
            self.tracks[index].advance_watches(boot, now, &mut sink);
            // A rebuild (`out` is `None`) leaves a due decision pending; putting a past deadline
            // back would loop forever.
            if let Some(deadline) =
                self.tracks[index].earliest_deadline(boot).filter(|due| *due > now)
            {
                self.agenda.insert_deadline(index, deadline);
            }
        }
    }

    fn schedule_track(&mut self, index: usize) {
        if let Some(deadline) = self.tracks[index].earliest_deadline(self.boot) {
            self.agenda.insert_deadline(index, deadline);
        }
    }

    fn schedule_all(&mut self) {
        self.agenda.clear();
        (0..self.tracks.len()).for_each(|index| self.schedule_track(index));
    }

    /// Returns the track index of a source, after adding tracks for all sources up to `id`.
    fn resolve_track(&mut self, id: SourceId, sources: &Sources) -> Option<usize> {
        let index = self.track_index(id)?;
        if index >= self.tracks.len() {
            self.add_tracks(sources);
        }
        (index < self.tracks.len()).then_some(index)
    }

    fn track_index(&self, id: SourceId) -> Option<usize> {
        usize::try_from(id.0).ok()?.checked_add(self.combinations)
    }

    fn add_tracks(&mut self, sources: &Sources) {
        for source in sources.list_since(self.tracks.len() - self.combinations) {
            let Ok(id) = u32::try_from(self.tracks.len() - self.combinations) else { return };
            self.tracks.push(Track::new(&self.rules, &source, SourceId(id)));
        }
    }
}

impl Track {
    fn new(rules: &[Arc<RuleSpec>], source: &Source, id: SourceId) -> Self {
        let covering = rules.iter().filter(|rule| rule.covers_source(source));
        let watches = covering.map(|rule| RuleWatch::new(rule, &source.name, id)).collect();
        let combinations = rules.iter().filter_map(|rule| rule.members()).enumerate();
        let fed = combinations.flat_map(|(combination, members)| {
            let members = members.iter().enumerate();
            members
                .filter(|(_, one)| one.is_about(source))
                .map(move |(member, _)| (combination, member))
        });
        let feeds = fed.collect();
        Self { heart_rate: &*source.kind == HEART_RATE, watches, feeds, clock: None }
    }

    fn for_combination(rule: &Arc<RuleSpec>) -> Self {
        let watches = vec![RuleWatch::new(rule, "", SourceId(u32::MAX))];
        Self { heart_rate: false, watches, feeds: Vec::new(), clock: None }
    }

    /// Makes the `silent` watch of `rule` wait for this source from `now` on, or resets the watch
    /// if `now` is `None`.
    fn await_source(&mut self, rule: &Arc<RuleSpec>, now: Option<(KernelBoot, Mono, Wall)>) {
        for watch in &mut self.watches {
            if let Shape::Silence(silence) = &mut watch.shape
                && Arc::ptr_eq(watch.judge.rule(), rule)
            {
                let since = now.map(|(boot, now, event)| {
                    let assumed = || EventClock::new_assumed(boot, now, event);
                    self.clock.get_or_insert_with(assumed).time_at(boot, now)
                });
                silence.wait_from(since);
                // The agent did not hear the time before its own start, so an older silence does
                // not count.
                watch.judge.drop_pending();
            }
        }
    }

    /// Takes a reading, after the clock of the source has passed up to the arrival; ticks in
    /// between therefore make no difference. Returns `true` if the reading counts.
    fn apply_reading(
        &mut self,
        input: &TimedReading<'_>,
        member: Option<usize>,
        sink: &mut TransitionSink<'_>,
    ) -> bool {
        let (boot, mono, event) = (input.boot, input.reading.mono, input.event);
        self.advance_watches(boot, mono, sink);
        let new = || EventClock::new_assumed(boot, mono, event);
        let clock = self.clock.get_or_insert_with(new);
        let before = clock.time_at(boot, mono);
        let verdict = clock.judge_event(boot, mono, event);
        let arrival = (before, clock.time_at(boot, mono));
        self.watches.iter_mut().for_each(|watch| watch.handle_arrival(arrival, sink));
        if verdict == TimeVerdict::Back {
            self.watches.iter_mut().for_each(RuleWatch::forget_readings);
        }
        self.advance_watches(boot, mono, sink);
        if verdict == TimeVerdict::Doubtful {
            sink.counts.doubtful += 1;
            return false;
        }
        if !self.can_use(input.reading) {
            return false;
        }
        let Reading { source, time, value, .. } = input.reading;
        let told = ReadingOrigin { event, member, source: *source };
        for watch in &mut self.watches {
            watch.handle_reading(told, value, time.is_some(), sink);
        }
        true
    }

    /// Advances the event time of the source to the monotonic time `now`.
    fn advance_watches(&mut self, boot: KernelBoot, now: Mono, sink: &mut TransitionSink<'_>) {
        let Some(clock) = &self.clock else { return };
        let settled = clock.time_at(boot, now) - LATENESS;
        let runs = |watch: &&mut RuleWatch| watch.runs_by(clock);
        self.watches.iter_mut().filter(runs).for_each(|watch| watch.advance_time(settled, sink));
    }

    fn can_use(&self, reading: &Reading) -> bool {
        let told = match &reading.value {
            Value::Number(number) => number.is_finite() && !(self.heart_rate && *number == 0.0),
            Value::State(_) => true,
        };
        told && reading.is_plausible()
    }

    fn earliest_deadline(&self, boot: KernelBoot) -> Option<Mono> {
        let clock = self.clock.as_ref()?;
        let watches = self.watches.iter().filter(|watch| watch.runs_by(clock));
        let due = watches.flat_map(|watch| watch.list_deadlines(boot));
        due.map(|(event, mono)| clock.reached_at(boot, event + LATENESS).max(mono)).min()
    }
}
