//! Rules: readings in, alerts raised and cleared out.
//!
//! State is a fold over readings and nothing else: it is not stored, but rebuilt at start from the
//! last readings ([`Rules::horizon`]) and the alerts of the store ([`Rules::rebuild`]). So a rule
//! can be replayed over history, and gives there what it gave live.
//!
//! Windows, and what has to last (`for`), go by event time: the same readings, in order, shuffled or
//! late by up to [`LATENESS`], give the same transitions. What answers at once goes by the newest
//! reading of each source. All give the same in one go or with restarts between, and see neither the wall
//! clock nor a step of it (P8). Nothing here knows of delivery, cameras or people.
//!
//! One file for each word of the vocabulary: what turns readings into findings is a `Shape`,
//! what turns findings into transitions is a `Judge`.

mod agenda;
mod anomaly;
mod clock;
mod faults;
mod flapping;
mod joint;
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
use crate::time::{Mono, Wall};

use agenda::Agenda;
pub(crate) use clock::{EventClock, Verdict};
use judge::{Sink, Trace};
use settling::Told;
use watch::{Shape, Watch};

pub use clock::{BELIEVED_AFTER, MAX_LEAP};
pub use faults::{Fault, InvalidRule, runnable};
pub use flapping::{Arrival, BACKLOG_ALERTS, Flap, MAX_ALERTS, Report, WITHIN};
pub use rebuild::{PastAlert, Rebuild};
pub use spec::{
    Action, Clear, Condition, Drive, Limit, MAX_MEMBERS, MAX_STEPS, MAX_WINDOW, MIN_SILENCE,
    MIN_WINDOW, Member, Range, RuleSpec, Severity, Take, Test, WindowSpec,
};

/// How late a reading may be and still count in its window; a window is judged that long after
/// its end. Covers a Bluetooth reconnect and another program's batching.
pub const LATENESS: Duration = Duration::from_secs(5);

/// The kind of readings of which 0 means "none to tell".
const HEART_RATE: &str = "heart_rate";

/// Counts the kernel starts of this device: monotonic times compare only within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct KernelBoot(pub u32);

/// A reading as the rules take it.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The reading.
    pub reading: &'a Reading,
    /// The kernel start that its `mono` belongs to.
    pub boot: KernelBoot,
    /// Its own time, or its arrival plus an offset that is fixed for this kernel start, so that a
    /// clock step does not move it.
    pub event: Wall,
}

/// Which way an alert went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AlertState {
    /// The condition came to hold.
    Raised,
    /// It no longer holds.
    Cleared,
}

/// An alert that is raised or cleared. It holds nothing about a person but the opaque source.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// The rule, with its name, severity and actions.
    pub rule: Arc<RuleSpec>,
    /// Whose readings they are.
    pub source: SourceId,
    /// Raised or cleared.
    pub state: AlertState,
    /// The value that decided: of the reading, taken over the window, or the seconds of a silence.
    pub value: Value,
    /// How unlike those before it is, if the rule asked that.
    pub score: Option<f64>,
    /// Start and end of the window, if the rule has one.
    pub window: Option<(Wall, Wall)>,
    /// The event time at which it happened: of the reading, the end of the window, or the end of
    /// what it had to wait for.
    pub time: Wall,
    /// Whether an alert tells of it.
    pub report: Report,
}

/// What a rule was asked about, whether or not it made a difference.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Whose readings they are; of several together, in whose name it speaks.
    pub source: SourceId,
    /// The value of the reading, or taken over the window, or the seconds of a silence.
    pub value: Value,
    /// How unlike those before it is, if the rule asks that and has learnt.
    pub score: Option<f64>,
    /// The event time of the reading, or the end of the window.
    pub time: Wall,
    /// Whether the condition holds.
    pub holds: bool,
}

/// What the rules did not use or not say, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Readings, each counted once a rule, whose window was already closed, or that were older
    /// than one already judged.
    pub late: u64,
    /// Readings whose time was more than [`MAX_LEAP`] off.
    pub doubtful: u64,
    /// Alerts that `at_most_every` held back.
    pub suppressed: u64,
    /// Alerts that were held back because too many came of one rule and source.
    pub flapping: u64,
}

/// Every rule, with its state for every source that it covers.
#[derive(Debug, Clone)]
pub struct Rules {
    rules: Vec<Arc<RuleSpec>>,
    /// One for each rule that looks at several sources, then by the number of the source; as long
    /// as the sources seen so far.
    tracks: Vec<Track>,
    joints: usize,
    boot: KernelBoot,
    agenda: Agenda,
    counts: Counts,
    flaps: Vec<Flap>,
    trace: Option<Trace>,
}

/// One source, as the rules that cover it see it; or several, as one rule sees them together.
#[derive(Debug, Clone)]
struct Track {
    heart_rate: bool,
    watches: Vec<Watch>,
    /// The tracks that look at it beside others, and as which member.
    feeds: Vec<(usize, usize)>,
    clock: Option<EventClock>,
}

impl Rules {
    /// Takes the rules, without any history.
    ///
    /// # Errors
    /// The first rule that makes no sense; [`RuleSpec::faults`] tells all of one rule.
    pub fn new(specs: Vec<RuleSpec>) -> Result<Self, InvalidRule> {
        faults::check(&specs)?;
        let rules: Vec<Arc<RuleSpec>> = specs.into_iter().map(Arc::new).collect();
        let joint = |rule: &&Arc<RuleSpec>| rule.members().is_some();
        let tracks: Vec<Track> = rules.iter().filter(joint).map(Track::joint).collect();
        let (joints, boot, counts) = (tracks.len(), KernelBoot::default(), Counts::default());
        let agenda = Agenda::default();
        let flaps = Vec::new();
        Ok(Self { rules, tracks, joints, boot, agenda, counts, flaps, trace: None })
    }

    /// Begins to expect the sources that should speak: the agent has just started, and `event` is
    /// the time of `now` for a source that says none. Those that are new get a number.
    pub fn begin(&mut self, boot: KernelBoot, now: Mono, event: Wall, sources: &Sources) {
        for rule in self.rules.clone() {
            let Condition::Silent { expected, .. } = &rule.condition else { continue };
            let mut begun = Vec::new();
            for source in expected {
                let id = sources.intern(source.clone()).ok();
                begun.extend(id.and_then(|id| self.resolve(id, sources)));
            }
            for (index, track) in self.tracks.iter_mut().enumerate() {
                track.begin(&rule, begun.contains(&index).then_some((boot, now, event)));
            }
        }
        self.boot = boot;
        self.schedule_all();
    }

    /// Takes one more reading, and adds to `out` what it decides. Readings come in the order of
    /// the store; `sources` is asked only about sources not seen before.
    pub fn fold(&mut self, input: &Input<'_>, sources: &Sources, out: &mut Vec<Transition>) {
        self.take(input, sources, Some(out));
    }

    /// Decides what only time can decide: the windows of a source that fell silent, the end of a
    /// cool-down. `now` must not be later than the arrival of a reading still to be folded: such a
    /// reading might come too late for its window.
    pub fn tick(&mut self, boot: KernelBoot, now: Mono, out: &mut Vec<Transition>) {
        self.pass(boot, now, &mut Some(out));
    }

    /// When [`Rules::tick`] is next of use, in the monotonic time of the latest kernel start.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.agenda.first()
    }

    /// How far back, counted from the newest reading in the store, [`Rules::rebuild`] needs the
    /// readings.
    #[must_use]
    pub fn horizon(&self) -> Duration {
        self.rules.iter().map(|rule| rule.horizon()).max().unwrap_or_default()
    }

    /// What is raised, and for which source.
    pub fn raised(&self) -> impl Iterator<Item = (&RuleSpec, SourceId)> {
        let watches = self.tracks.iter().flat_map(|track| &track.watches);
        let raised = watches.map(|watch| &watch.judge).filter(|judge| judge.is_raised());
        raised.map(|judge| (&**judge.rule(), judge.source()))
    }

    /// From now on everything is kept that the rule of this name is asked about, until it is taken
    /// out by [`Rules::asked`].
    pub fn trace(&mut self, rule: &str) {
        self.trace = Some(Trace { rule: rule.into(), asked: Vec::new() });
    }

    /// What the traced rule was asked about since the last time.
    pub fn asked(&mut self) -> impl Iterator<Item = Asked> {
        self.trace.iter_mut().flat_map(|trace| trace.asked.drain(..))
    }

    /// What began or ceased to flap since the last time.
    pub fn take_flaps(&mut self) -> impl Iterator<Item = Flap> {
        self.flaps.drain(..)
    }

    /// What was not used or not said.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Without `out` nothing is decided, only remembered. Each reading is a tick for all sources,
    /// so that what is due by its arrival is stored together with it.
    fn take(
        &mut self,
        input: &Input<'_>,
        sources: &Sources,
        mut out: Option<&mut Vec<Transition>>,
    ) {
        self.pass(input.boot, input.reading.mono, &mut out);
        let Some(index) = self.resolve(input.reading.source, sources) else { return };
        let track = &mut self.tracks[index];
        if track.watches.is_empty() && track.feeds.is_empty() {
            return;
        }
        let (counts, flaps) = (&mut self.counts, &mut self.flaps);
        let now = Arrival { boot: input.boot, mono: input.reading.mono };
        let mut sink = Sink { now, out, counts, flaps, trace: self.trace.as_mut() };
        let counts = track.take(input, None, &mut sink);
        let feeds = if counts { track.feeds.clone() } else { Vec::new() };
        for (joint, member) in &feeds {
            self.tracks[*joint].take(input, Some(*member), &mut sink);
        }
        feeds.iter().map(|(joint, _)| *joint).chain([index]).for_each(|one| self.schedule(one));
    }

    /// Lets time pass for every source for which it makes a difference.
    fn pass(&mut self, boot: KernelBoot, now: Mono, out: &mut Option<&mut Vec<Transition>>) {
        if boot != self.boot {
            self.boot = boot;
            self.schedule_all();
        }
        while let Some(index) = self.agenda.pop(now) {
            let (out, trace) = (out.as_deref_mut(), self.trace.as_mut());
            let (counts, flaps) = (&mut self.counts, &mut self.flaps);
            let mut sink = Sink { now: Arrival { boot, mono: now }, out, counts, flaps, trace };
            self.tracks[index].pass(boot, now, &mut sink);
            // Without `out` something may stay due: not before there is one.
            if let Some(deadline) = self.tracks[index].deadline(boot).filter(|due| *due > now) {
                self.agenda.put(index, deadline);
            }
        }
    }

    fn schedule(&mut self, index: usize) {
        if let Some(deadline) = self.tracks[index].deadline(self.boot) {
            self.agenda.put(index, deadline);
        }
    }

    fn schedule_all(&mut self) {
        self.agenda.clear();
        (0..self.tracks.len()).for_each(|index| self.schedule(index));
    }

    /// The index of a source, after making room for all that came up to it.
    fn resolve(&mut self, id: SourceId, sources: &Sources) -> Option<usize> {
        let index = self.index(id)?;
        if index >= self.tracks.len() {
            self.extend(sources);
        }
        (index < self.tracks.len()).then_some(index)
    }

    fn index(&self, id: SourceId) -> Option<usize> {
        usize::try_from(id.0).ok()?.checked_add(self.joints)
    }

    fn extend(&mut self, sources: &Sources) {
        for source in sources.since(self.tracks.len() - self.joints) {
            let Ok(id) = u32::try_from(self.tracks.len() - self.joints) else { return };
            self.tracks.push(Track::new(&self.rules, &source, SourceId(id)));
        }
    }
}

impl Track {
    fn new(rules: &[Arc<RuleSpec>], source: &Source, id: SourceId) -> Self {
        let covering = rules.iter().filter(|rule| rule.covers(source));
        let watches = covering.map(|rule| Watch::new(rule, &source.name, id)).collect();
        let joints = rules.iter().filter_map(|rule| rule.members()).enumerate();
        let fed = joints.flat_map(|(joint, members)| {
            let members = members.iter().enumerate();
            members.filter(|(_, one)| one.is(source)).map(move |(member, _)| (joint, member))
        });
        let feeds = fed.collect();
        Self { heart_rate: &*source.kind == HEART_RATE, watches, feeds, clock: None }
    }

    fn joint(rule: &Arc<RuleSpec>) -> Self {
        let watches = vec![Watch::new(rule, "", SourceId(u32::MAX))];
        Self { heart_rate: false, watches, feeds: Vec::new(), clock: None }
    }

    /// From now on a rule expects this source to speak, or knows nothing of it.
    fn begin(&mut self, rule: &Arc<RuleSpec>, now: Option<(KernelBoot, Mono, Wall)>) {
        for watch in &mut self.watches {
            if let Shape::Silence(silence) = &mut watch.shape
                && Arc::ptr_eq(watch.judge.rule(), rule)
            {
                let since = now.map(|(boot, now, event)| {
                    let assumed = || EventClock::assumed(boot, now, event);
                    self.clock.get_or_insert_with(assumed).at(boot, now)
                });
                silence.begin(since);
                // A silence that began before the agent did was not heard.
                watch.judge.lapse();
            }
        }
    }

    /// Before a reading counts, its source's time passes up to its arrival: so it makes no
    /// difference whether there were ticks in between. Returns whether it counts.
    fn take(&mut self, input: &Input<'_>, member: Option<usize>, sink: &mut Sink<'_>) -> bool {
        let (boot, mono, event) = (input.boot, input.reading.mono, input.event);
        self.pass(boot, mono, sink);
        let new = || EventClock::assumed(boot, mono, event);
        let clock = self.clock.get_or_insert_with(new);
        let before = clock.at(boot, mono);
        let verdict = clock.judge(boot, mono, event);
        let arrival = (before, clock.at(boot, mono));
        self.watches.iter_mut().for_each(|watch| watch.hear(arrival, sink));
        if verdict == Verdict::Back {
            self.watches.iter_mut().for_each(Watch::restart);
        }
        self.pass(boot, mono, sink);
        if verdict == Verdict::Doubtful {
            sink.counts.doubtful += 1;
            return false;
        }
        if !self.can_use(input.reading) {
            return false;
        }
        let Reading { source, time, value, .. } = input.reading;
        let told = Told { event, member, source: *source };
        for watch in &mut self.watches {
            watch.take(told, value, time.is_some(), sink);
        }
        true
    }

    /// Lets the source's time pass up to the monotonic time `now`.
    fn pass(&mut self, boot: KernelBoot, now: Mono, sink: &mut Sink<'_>) {
        let Some(clock) = &self.clock else { return };
        let settled = clock.at(boot, now) - LATENESS;
        let runs = |watch: &&mut Watch| watch.runs_by(clock);
        self.watches.iter_mut().filter(runs).for_each(|watch| watch.pass(settled, sink));
    }

    fn can_use(&self, reading: &Reading) -> bool {
        let told = match &reading.value {
            Value::Number(number) => number.is_finite() && !(self.heart_rate && *number == 0.0),
            Value::State(_) => true,
        };
        told && reading.is_plausible()
    }

    fn deadline(&self, boot: KernelBoot) -> Option<Mono> {
        let clock = self.clock.as_ref()?;
        let watches = self.watches.iter().filter(|watch| watch.runs_by(clock));
        let due = watches.flat_map(|watch| watch.due(boot));
        due.map(|(event, mono)| clock.when(boot, event + LATENESS).max(mono)).min()
    }
}
