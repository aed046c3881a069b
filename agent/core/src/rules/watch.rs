//! One rule over one source, or over several sources together.
//!
//! A shape turns readings into findings, and a judge turns findings into transitions. For a rule
//! with `for`, readings are first sorted by event time.

use std::sync::Arc;
use std::time::Duration;

use pulsegate_sensors::SourceId;

use super::anomaly::Anomaly;
use super::joint::Joint;
use super::judge::{Judge, Sink};
use super::level::Level;
use super::settling::{Settling, Told};
use super::silence::Silence;
use super::windows::Windows;
use super::{Condition, EventClock, KernelBoot, LATENESS, PastAlert, RuleSpec};
use crate::record::reading::Value;
use crate::time::{Mono, Wall};

/// The resolution of event time.
const MOMENT: Duration = Duration::from_millis(1);

/// One rule for one source.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    pub(super) judge: Judge,
    pub(super) shape: Shape,
    /// The queue of a rule that waits for readings to settle.
    settling: Option<Settling>,
}

/// The part of a rule that turns readings into findings, by the kind of condition.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    Level(Level),
    Windows(Windows),
    Silence(Silence),
    Anomaly(Anomaly),
    Joint(Joint),
}

impl Watch {
    pub(super) fn new(rule: &Arc<RuleSpec>, name: &str, id: SourceId) -> Self {
        let shape = match (&rule.condition, &rule.window) {
            (Condition::Reading(_), None) => Shape::Level(Level::default()),
            (Condition::Reading(_), Some(window)) => Shape::Windows(Windows::new(window)),
            (Condition::Silent { after, .. }, _) => Shape::Silence(Silence::new(*after)),
            (Condition::Anomaly { learn, score }, _) => {
                Shape::Anomaly(Anomaly::new(*learn, *score))
            }
            (Condition::All { .. } | Condition::Any { .. }, _) => Shape::Joint(Joint::new(rule)),
        };
        let settling =
            (shape.answers_at_once() && rule.hold_for > Duration::ZERO).then(Settling::default);
        Self { judge: Judge::new(rule, rule.range(name), id), shape, settling }
    }

    /// Takes an arrival, as two times on the clock of the source: before and after the reading set
    /// the clock.
    pub(super) fn hear(&mut self, arrival: (Wall, Wall), sink: &mut Sink<'_>) {
        if let Shape::Silence(silence) = &mut self.shape {
            silence.hear(arrival, &mut self.judge, sink);
        }
    }

    /// Takes a reading, with a time of its own (`own_time`) or stamped on arrival.
    pub(super) fn take(&mut self, told: Told, value: &Value, own_time: bool, sink: &mut Sink<'_>) {
        let Some(settling) = &mut self.settling else { return self.ask(told, value, sink) };
        if !settling.put(told, value, own_time) {
            // A reading from before the last settled time does not wait. Its finding for the time
            // before the last transition must not stay pending: after a restart, the rule would
            // decide a second time.
            self.ask(told, value, sink);
            return self.judge.lapse_before_turned();
        }
        // No reading can arrive before a reading stamped on arrival.
        let known = if settling.waits() { Wall(i64::MIN) } else { told.event + MOMENT };
        self.settle(known, sink);
    }

    /// Returns `true` if the rule uses `clock`. An assumed clock is good for the length of a
    /// silence, but not for the time of a reading.
    pub(super) fn runs_by(&self, clock: &EventClock) -> bool {
        !clock.is_assumed() || matches!(self.shape, Shape::Silence(_))
    }

    /// Advances event time: all readings up to `settled` have arrived, late ones included.
    pub(super) fn pass(&mut self, settled: Wall, sink: &mut Sink<'_>) {
        match &mut self.shape {
            Shape::Level(_) | Shape::Anomaly(_) | Shape::Joint(_) => {
                let known = settled + self.ahead();
                self.settle(known, sink);
                self.judge.release(known, sink);
            }
            Shape::Windows(windows) => windows.pass(settled, &mut self.judge, sink),
            Shape::Silence(silence) => silence.pass(settled, &mut self.judge, sink),
        }
        self.judge.catch_up(settled, sink);
    }

    /// Returns the deadlines of the watch. Each deadline is an event time to be settled and a
    /// monotonic time to be reached.
    pub(super) fn due(&self, boot: KernelBoot) -> impl Iterator<Item = (Wall, Mono)> {
        let decides = self.decides_at().map(|at| (at, Mono(0)));
        decides.into_iter().chain(self.judge.catches_up_at(boot))
    }

    fn decides_at(&self) -> Option<Wall> {
        match &self.shape {
            Shape::Level(_) | Shape::Anomaly(_) | Shape::Joint(_) => {
                let next = self.settling.as_ref().and_then(Settling::next);
                let past = next.map(|next| next + MOMENT);
                let due = past.into_iter().chain(self.judge.turns_at()).min()?;
                Some(due - self.ahead())
            }
            Shape::Windows(windows) => windows.due(&self.judge),
            Shape::Silence(silence) => silence.due(&self.judge),
        }
    }

    /// Forgets readings and windows, but not the raised state, because the time of the source went
    /// back.
    pub(super) fn restart(&mut self) {
        self.judge.forget_after(Wall(i64::MIN));
        if let Some(settling) = &mut self.settling {
            settling.restart();
        }
        match &mut self.shape {
            Shape::Level(level) => level.restart(),
            Shape::Windows(windows) => windows.restart(),
            // Arrivals do not depend on the time of the source.
            Shape::Silence(_) => {}
            Shape::Anomaly(anomaly) => anomaly.restart(),
            Shape::Joint(joint) => joint.restart(),
        }
    }

    /// Takes over a stored alert, at a rebuild.
    pub(super) fn resume(&mut self, alert: &PastAlert<'_>) {
        self.judge.resume(alert);
        match (&mut self.shape, alert.window_end) {
            (Shape::Windows(windows), Some(end)) => windows.resume(end),
            (Shape::Windows(_), None)
            | (Shape::Level(_) | Shape::Silence(_) | Shape::Anomaly(_) | Shape::Joint(_), _) => {}
        }
    }

    /// Forgets decisions after `time`, because the clock of the source was set back since.
    pub(super) fn forget_after(&mut self, time: Wall) {
        self.judge.forget_after(time);
        match &mut self.shape {
            Shape::Windows(windows) if windows.is_closed_after(time) => windows.restart(),
            Shape::Windows(_)
            | Shape::Level(_)
            | Shape::Silence(_)
            | Shape::Anomaly(_)
            | Shape::Joint(_) => {}
        }
    }

    /// Returns the span after the settled time in which all readings are known: zero, or
    /// [`LATENESS`] if all readings are stamped on arrival and so never late.
    fn ahead(&self) -> Duration {
        match &self.settling {
            Some(settling) if !settling.waits() => LATENESS,
            Some(_) | None => Duration::ZERO,
        }
    }

    /// Evaluates the readings before `known`, in the order of their event times.
    fn settle(&mut self, known: Wall, sink: &mut Sink<'_>) {
        while let Some(next) = self.settling.as_mut().and_then(|settling| settling.pop(known)) {
            let (told, value) = next;
            if self.judge.turned().is_some_and(|turned| told.event < turned) {
                // The reading led up to a stored transition.
                let (now, counts, flaps) = (sink.now, &mut *sink.counts, &mut *sink.flaps);
                self.ask(told, &value, &mut Sink { now, out: None, counts, flaps, trace: None });
                self.judge.lapse();
            } else {
                self.ask(told, &value, sink);
            }
        }
        if let Some(settling) = &mut self.settling {
            settling.pass(known);
        }
    }

    fn ask(&mut self, told: Told, value: &Value, sink: &mut Sink<'_>) {
        let Told { event, member, source } = told;
        let judge = &mut self.judge;
        match &mut self.shape {
            Shape::Level(level) => level.take(event, value, judge, sink),
            Shape::Windows(windows) => windows.take(event, value, sink),
            Shape::Silence(_) => {}
            Shape::Anomaly(anomaly) => anomaly.take(event, value, judge, sink),
            Shape::Joint(joint) => {
                if let Some(member) = member {
                    joint.take((member, source), event, value, judge, sink);
                }
            }
        }
    }
}

impl Shape {
    fn answers_at_once(&self) -> bool {
        match self {
            Self::Level(_) | Self::Anomaly(_) | Self::Joint(_) => true,
            Self::Windows(_) | Self::Silence(_) => false,
        }
    }
}
