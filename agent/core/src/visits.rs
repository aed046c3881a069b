//! Visits: groups of openings of a lid, or of movements, separated by a gap.
//!
//! A visit begins with an opening, and ends if no opening follows within the gap. A certain end is
//! reported at once, not with the next opening. Like the rules ([`crate::rules`]), visits are a
//! fold over the stored readings, so a restart during a visit neither ends a visit nor reports a
//! visit twice.
//!
//! Readings of a line have monotonic times, so a clock step makes no difference (P8). Readings of
//! another program have times of their own, arrive in order, shuffled or late by up to
//! [`LATENESS`], and their visits are reported that much later. A start of the kernel ends the
//! visit of a line, because the length of the power cut is unknown.

mod report;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use pulsegate_sensors::{Source, SourceId, Sources};

use crate::rules::{Drive, KernelBoot, LATENESS, TimedReading};
use crate::time::{Mono, Wall};
use watch::VisitWatch;

pub use report::{Facts, ReportFault, ReportTemplate};

/// The longest time from an edge in the kernel to the fold.
pub const SETTLING: Duration = Duration::from_millis(250);

/// The specification of visits to one source.
#[derive(Debug, Clone, PartialEq)]
pub struct VisitSpec {
    /// The id of the source.
    pub source: Box<str>,
    /// The state of an opening, if another state or none came before.
    pub opening: Box<str>,
    /// The meaning of the first state ever received from the source.
    pub first: First,
    /// The time without an opening after which a visit ends.
    pub gap: Duration,
    /// The units taken by an opening, on average.
    pub units_per_opening: f64,
    /// `true` if the beginning and the end of a visit are events as well, besides the visit.
    pub live: bool,
    /// The actions of a visit.
    pub then: Vec<VisitAction>,
}

/// The specification of visits to one source, and the way records state these visits.
#[derive(Debug, Clone, PartialEq)]
pub struct VisitFormat {
    /// The specification of the visits.
    pub spec: VisitSpec,
    /// The unit of what is taken.
    pub unit: Option<Box<str>>,
    /// The text that reports a visit, and the time zone of its times.
    pub report: Option<(ReportTemplate, TimeZone)>,
}

/// A moment of a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// The beginning, at the first opening.
    Begin,
    /// An opening, including the first.
    Opening,
    /// The end.
    End,
}

/// An action of a visit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum VisitAction {
    /// Drives this output.
    Output(Box<str>, Drive),
    /// Takes a picture with this camera at each such moment.
    Capture(Box<str>, Moment),
}

/// The meaning of the first state ever received from a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// The level of a line, so not an opening.
    Level,
    /// A change to the state, so possibly an opening.
    Change,
}

/// A visit, ended or under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Visit {
    /// The specification of the visit.
    pub spec: Arc<VisitSpec>,
    /// The source of the openings.
    pub source: SourceId,
    /// The event time of the first opening.
    pub start: Wall,
    /// The event time of the last opening so far.
    pub end: Wall,
    /// The number of openings so far.
    pub openings: u32,
    /// The kernel start whose reference axis the times lie on; `None` if the readings have times of
    /// their own.
    pub boot: Option<KernelBoot>,
}

/// Returns the id of a visit, made of its source, the kernel start of its axis, and its start in
/// milliseconds. The id is unique in this thing, and the same before and after a restart.
#[must_use]
pub fn id(source: &str, boot: Option<KernelBoot>, start: Wall) -> Box<str> {
    match boot {
        Some(boot) => format!("{source}-{}-{:x}", boot.0, start.0),
        None => format!("{source}-{:x}", start.0),
    }
    .into()
}

impl Visit {
    /// Returns the id of the visit; see [`id`].
    #[must_use]
    pub fn id(&self) -> Box<str> {
        id(&self.spec.source, self.boot, self.start)
    }

    /// Returns the units taken: openings times [`VisitSpec::units_per_opening`].
    #[must_use]
    pub fn units(&self) -> f64 {
        f64::from(self.openings) * self.spec.units_per_opening
    }
}

/// The beginning or the end of a visit.
#[derive(Debug, Clone, PartialEq)]
pub enum VisitEvent {
    /// A visit began, with one opening so far; reported only if [`VisitSpec::live`] is set.
    Began(Visit),
    /// A visit ended.
    Ended(Visit),
}

/// The stored reports of a source: the last visit reported as begun, and the last reported as
/// ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportedVisits {
    /// The start of the last visit reported as begun.
    pub began: Option<Wall>,
    /// The start of the last visit reported as ended.
    pub ended: Option<Wall>,
}

/// The visits of all sources with a specification.
#[derive(Debug, Clone)]
pub struct Visits {
    specs: Vec<Arc<VisitSpec>>,
    watches: Vec<VisitWatch>,
    /// The index of the watch of each source seen so far, by source number.
    by_source: Vec<Option<usize>>,
    boot: KernelBoot,
    due: Option<Mono>,
}

impl Visits {
    /// Creates the visits of `specs`, at most one specification per source, without any history.
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

    /// Returns `true` if no source has visits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.specs.is_empty()
    }

    /// Returns the gap of the source, if the source has visits.
    #[must_use]
    pub fn gap_of(&self, source: &Source) -> Option<Duration> {
        self.specs.iter().find(|spec| spec.source == source.name).map(|spec| spec.gap)
    }

    /// Takes one more reading, in the order of the store, and appends beginnings and ends to `out`.
    /// Looks up only sources not seen before in `sources`.
    pub fn fold_reading(
        &mut self,
        input: &TimedReading<'_>,
        sources: &Sources,
        out: &mut Vec<VisitEvent>,
    ) {
        self.advance_time(input.boot, input.reading.mono, out);
        let Some(watch) = self.resolve_watch(input.reading.source, sources) else { return };
        self.watches[watch].apply_reading(input, out);
        self.update_due();
    }

    /// Advances time to `now`, and appends ends to `out`. `now` must not be later than the arrival
    /// of any reading still to be folded.
    pub fn advance_time(&mut self, boot: KernelBoot, now: Mono, out: &mut Vec<VisitEvent>) {
        if boot != self.boot {
            self.boot = boot;
            self.update_due();
        }
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        for watch in &mut self.watches {
            watch.advance_to(boot, now, out);
        }
        self.update_due();
    }

    /// Returns the next useful time for [`Visits::advance_time`], in the monotonic time of the latest
    /// kernel start.
    #[must_use]
    pub fn next_due(&self) -> Option<Mono> {
        self.due
    }

    /// Returns the visits under way.
    pub fn under_way(&self) -> impl Iterator<Item = Visit> {
        self.watches.iter().filter_map(VisitWatch::under_way)
    }

    /// Ends a rebuild, after the last stored readings have been folded and the resulting reports
    /// dropped. `told` returns the stored reports of a source; the visits in these reports are not
    /// reported again.
    pub fn finish_rebuild(&mut self, told: impl Fn(SourceId) -> ReportedVisits) {
        for watch in &mut self.watches {
            watch.restore_reports(told(watch.source()));
        }
        self.update_due();
    }

    fn update_due(&mut self) {
        self.due = self.watches.iter().filter_map(|watch| watch.earliest_deadline(self.boot)).min();
    }

    fn resolve_watch(&mut self, id: SourceId, sources: &Sources) -> Option<usize> {
        let index = usize::try_from(id.0).ok()?;
        if index >= self.by_source.len() {
            for source in sources.list_since(self.by_source.len()) {
                let watch = self.add_watch(&source);
                self.by_source.push(watch);
            }
        }
        *self.by_source.get(index)?
    }

    fn add_watch(&mut self, source: &Source) -> Option<usize> {
        let spec = self.specs.iter().find(|spec| spec.source == source.name)?;
        let id = SourceId(u32::try_from(self.by_source.len()).ok()?);
        self.watches.push(VisitWatch::new(Arc::clone(spec), id));
        Some(self.watches.len() - 1)
    }
}
