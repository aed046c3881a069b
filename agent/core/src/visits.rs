//! Visits: openings of a lid, or movements, that belong together.
//!
//! A visit begins with an opening and ends when none follows for the gap; it is told as soon as
//! that is certain, not with the next opening. Like the rules it is a fold over the stored readings
//! ([`crate::rules`]), so a restart in the middle neither ends a visit nor tells it twice.
//!
//! A line is timed by the monotonic clock, so that a clock step makes no difference (P8). Another
//! program's readings are timed by the time that they bring, in order, shuffled or late by up to
//! [`LATENESS`], and are told that much later. A start of the kernel ends the visit of a line:
//! nobody knows for how long the power was gone.

mod report;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use pulsegate_sensors::{Source, SourceId, Sources};

use crate::rules::{Drive, Input, KernelBoot, LATENESS};
use crate::time::{Mono, Wall};
use watch::Watch;

pub use report::{Facts, Report, ReportFault};

/// How long an edge may be on its way from the kernel to the fold.
pub const SETTLING: Duration = Duration::from_millis(250);

/// What counts as a visit to one source.
#[derive(Debug, Clone, PartialEq)]
pub struct VisitSpec {
    /// The source's id.
    pub source: Box<str>,
    /// The state that is an opening, when another state or nothing came before it.
    pub opening: Box<str>,
    /// What the first state means that is ever heard of the source.
    pub first: First,
    /// A visit ends when there was no opening for that long.
    pub gap: Duration,
    /// Units that an opening takes on average.
    pub units_per_opening: f64,
    /// Whether the beginning and the end of a visit are events as well.
    pub live: bool,
    /// What else a visit does.
    pub then: Vec<VisitAction>,
}

/// A moment of a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// It began: with its first opening.
    Begin,
    /// An opening, also the first.
    Opening,
    /// It ended.
    End,
}

/// What a visit does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum VisitAction {
    /// Drives this output.
    Output(Box<str>, Drive),
    /// Takes a picture with this camera, each time at that moment.
    Capture(Box<str>, Moment),
}

/// What the first state means that is ever heard of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// How a line stands: no opening.
    Level,
    /// That it came to be so.
    Change,
}

/// A visit.
#[derive(Debug, Clone, PartialEq)]
pub struct Visit {
    /// What made it one.
    pub spec: Arc<VisitSpec>,
    /// Where it was.
    pub source: SourceId,
    /// The event time of its first opening.
    pub start: Wall,
    /// The event time of its last opening.
    pub end: Wall,
    /// How many openings.
    pub openings: u32,
    /// The kernel start on whose axis the times lie; `None` if the readings brought their own.
    pub boot: Option<KernelBoot>,
}

/// The id of a visit: of its source, the kernel start on whose axis it lies, and its start. It is the
/// same before and after a restart, and of no other visit of this thing.
#[must_use]
pub fn id(source: &str, boot: Option<KernelBoot>, start: Wall) -> Box<str> {
    match boot {
        Some(boot) => format!("{source}-{}-{:x}", boot.0, start.0),
        None => format!("{source}-{:x}", start.0),
    }
    .into()
}

impl Visit {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> Box<str> {
        id(&self.spec.source, self.boot, self.start)
    }

    /// What was taken.
    #[must_use]
    pub fn units(&self) -> f64 {
        f64::from(self.openings) * self.spec.units_per_opening
    }
}

/// What happened to a source with visits.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// A visit began; told only if the source is live. The visit has one opening so far.
    Began(Visit),
    /// It ended.
    Ended(Visit),
}

/// What the store knows of a source: the starts of the last visit that was told to have begun,
/// and of the last that was told to have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Told {
    /// See above.
    pub began: Option<Wall>,
    /// See above.
    pub ended: Option<Wall>,
}

/// Every source that has visits.
#[derive(Debug, Clone)]
pub struct Visits {
    specs: Vec<Arc<VisitSpec>>,
    watches: Vec<Watch>,
    /// By the number of the source: its watch. As long as the sources seen so far.
    by_source: Vec<Option<usize>>,
    boot: KernelBoot,
    due: Option<Mono>,
}

impl Visits {
    /// Takes the specifications, at most one for a source, without any history.
    #[must_use]
    pub fn new(specs: Vec<VisitSpec>) -> Self {
        Self {
            specs: specs.into_iter().map(Arc::new).collect(),
            watches: Vec::new(),
            by_source: Vec::new(),
            boot: KernelBoot::default(),
            due: None,
        }
    }

    /// Whether there is nothing to watch.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.specs.is_empty()
    }

    /// The gap of the source, if it has visits.
    #[must_use]
    pub fn gap(&self, source: &Source) -> Option<Duration> {
        self.specs.iter().find(|spec| spec.source == source.name).map(|spec| spec.gap)
    }

    /// Takes one more reading, in the order of the store, and adds what it decides. `sources` is
    /// asked only about sources not seen before.
    pub fn fold(&mut self, input: &Input<'_>, sources: &Sources, out: &mut Vec<Happening>) {
        self.tick(input.boot, input.reading.mono, out);
        let Some(watch) = self.resolve(input.reading.source, sources) else { return };
        self.watches[watch].take(input, out);
        self.schedule();
    }

    /// Decides what only time can decide. `now` must not be later than the arrival of a reading
    /// that is still to be folded.
    pub fn tick(&mut self, boot: KernelBoot, now: Mono, out: &mut Vec<Happening>) {
        if boot != self.boot {
            self.boot = boot;
            self.schedule();
        }
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        for watch in &mut self.watches {
            watch.pass(boot, now, out);
        }
        self.schedule();
    }

    /// When [`Visits::tick`] is next of use, in the monotonic time of the latest kernel start.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.due
    }

    /// The visits that are under way.
    pub fn under_way(&self) -> impl Iterator<Item = Visit> {
        self.watches.iter().filter_map(Watch::under_way)
    }

    /// Ends a rebuild: the last stored readings were folded, and what that decided was dropped.
    /// What was told before is not told again.
    pub fn resume(&mut self, told: impl Fn(SourceId) -> Told) {
        for watch in &mut self.watches {
            watch.resume(told(watch.source()));
        }
        self.schedule();
    }

    fn schedule(&mut self) {
        self.due = self.watches.iter().filter_map(|watch| watch.deadline(self.boot)).min();
    }

    fn resolve(&mut self, id: SourceId, sources: &Sources) -> Option<usize> {
        let index = usize::try_from(id.0).ok()?;
        if index >= self.by_source.len() {
            for source in sources.since(self.by_source.len()) {
                let watch = self.watch(&source);
                self.by_source.push(watch);
            }
        }
        *self.by_source.get(index)?
    }

    fn watch(&mut self, source: &Source) -> Option<usize> {
        let spec = self.specs.iter().find(|spec| spec.source == source.name)?;
        let id = SourceId(u32::try_from(self.by_source.len()).ok()?);
        self.watches.push(Watch::new(Arc::clone(spec), id));
        Some(self.watches.len() - 1)
    }
}
