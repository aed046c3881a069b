//! One rule over one source, or over several sources together.
//!
//! A shape turns readings into findings, and a judge turns findings into transitions. For a rule
//! with `for`, readings are first sorted by event time.

use std::sync::Arc;
use std::time::Duration;

use pulsegate_sensors::SourceId;

use super::anomaly::Anomaly;
use super::combination::Combination;
use super::judge::{Judge, TransitionSink};
use super::level::LevelCondition;
use super::settling::{ReadingOrigin, Settling};
use super::silence::Silence;
use super::windows::Windows;
use super::{Condition, EventClock, KernelBoot, LATENESS, PastAlert, RuleSpec};
use crate::record::reading::Value;
use crate::time::{Mono, Wall};

/// The resolution of event time.
const MOMENT: Duration = Duration::from_millis(1);

/// The most bytes of one rule for one source, without its queues: a rule over any source has a watch
/// for each of hundreds.
const MAX_WATCH_BYTES: usize = 360;
const _: () = assert!(size_of::<RuleWatch>() <= MAX_WATCH_BYTES);

/// One rule for one source.
#[derive(Debug, Clone)]
pub(super) struct RuleWatch {
    pub(super) judge: Judge,
    pub(super) shape: Shape,
    /// The queue of a rule that waits for readings to settle.
    settling: Option<Settling>,
}

/// The part of a rule that turns readings into findings, by the kind of condition.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    Level(LevelCondition),
    Windows(Windows),
    Silence(Silence),
    Anomaly(Anomaly),
    Combination(Combination),
}

impl RuleWatch {
    pub(super) fn new(rule: &Arc<RuleSpec>, name: &str, id: SourceId) -> Self {
        let shape = match (&rule.condition, &rule.window) {
            (Condition::Reading(_), None) => Shape::Level(LevelCondition::default()),
            (Condition::Reading(_), Some(window)) => Shape::Windows(Windows::new(window)),
            (Condition::Silent { after, .. }, _) => Shape::Silence(Silence::new(*after)),
            (Condition::Anomaly { learn, score }, _) => {
                Shape::Anomaly(Anomaly::new(*learn, *score))
            }
            (Condition::All { .. } | Condition::Any { .. }, _) => {
                Shape::Combination(Combination::new(rule))
            }
        };
        let settling =
            (shape.answers_at_once() && rule.hold_for > Duration::ZERO).then(Settling::default);
        Self { judge: Judge::new(rule, rule.range_for(name), id), shape, settling }
    }

    /// Takes an arrival, as two times on the clock of the source: before and after the reading set
    /// the clock.
    pub(super) fn handle_arrival(&mut self, arrival: (Wall, Wall), sink: &mut TransitionSink<'_>) {
        if let Shape::Silence(silence) = &mut self.shape {
            silence.handle_arrival(arrival, &mut self.judge, sink);
        }
    }

    /// Takes a reading, with a time of its own (`own_time`) or stamped on arrival.
    pub(super) fn handle_reading(
        &mut self,
        told: ReadingOrigin,
        value: &Value,
        own_time: bool,
        sink: &mut TransitionSink<'_>,
    ) {
        let Some(settling) = &mut self.settling else {
            return self.evaluate_reading(told, value, sink);
        };
        if !settling.insert_reading(told, value, own_time) {
            // A reading from before the last settled time does not wait. Its finding for the time
            // before the last transition must not stay pending: after a restart, the rule would
            // decide a second time.
            self.evaluate_reading(told, value, sink);
            return self.judge.drop_outdated_pending();
        }
        // No reading can arrive before a reading stamped on arrival.
        let known = if settling.awaits_late() { Wall(i64::MIN) } else { told.event + MOMENT };
        self.evaluate_before(known, sink);
    }

    /// Returns `true` if the rule uses `clock`. An assumed clock is good for the length of a
    /// silence, but not for the time of a reading.
    pub(super) fn runs_by(&self, clock: &EventClock) -> bool {
        !clock.is_assumed() || matches!(self.shape, Shape::Silence(_))
    }

    /// Advances event time: all readings up to `settled` have arrived, late ones included.
    pub(super) fn advance_time(&mut self, settled: Wall, sink: &mut TransitionSink<'_>) {
        match &mut self.shape {
            Shape::Level(_) | Shape::Anomaly(_) | Shape::Combination(_) => {
                let known = settled + self.known_ahead();
                self.evaluate_before(known, sink);
                self.judge.release_pending(known, sink);
            }
            Shape::Windows(windows) => windows.judge_settled(settled, &mut self.judge, sink),
            Shape::Silence(silence) => silence.check_silence(settled, &mut self.judge, sink),
        }
        self.judge.catch_up(settled, sink);
    }

    /// Returns the deadlines of the watch. Each deadline is an event time to be settled and a
    /// monotonic time to be reached.
    pub(super) fn list_deadlines(&self, boot: KernelBoot) -> impl Iterator<Item = (Wall, Mono)> {
        let decides = self.decides_at().map(|at| (at, Mono(0)));
        decides.into_iter().chain(self.judge.catches_up_at(boot))
    }

    fn decides_at(&self) -> Option<Wall> {
        match &self.shape {
            Shape::Level(_) | Shape::Anomaly(_) | Shape::Combination(_) => {
                let next = self.settling.as_ref().and_then(Settling::next);
                let past = next.map(|next| next + MOMENT);
                let due = past.into_iter().chain(self.judge.pending_until()).min()?;
                Some(due - self.known_ahead())
            }
            Shape::Windows(windows) => windows.next_change(&self.judge),
            Shape::Silence(silence) => silence.next_check(&self.judge),
        }
    }

    /// Forgets readings and windows, but not the raised state, because the time of the source went
    /// back.
    pub(super) fn forget_readings(&mut self) {
        self.judge.forget_after(Wall(i64::MIN));
        if let Some(settling) = &mut self.settling {
            settling.clear_readings();
        }
        match &mut self.shape {
            Shape::Level(level) => level.forget_newest(),
            Shape::Windows(windows) => windows.clear_windows(),
            // Arrivals do not depend on the time of the source.
            Shape::Silence(_) => {}
            Shape::Anomaly(anomaly) => anomaly.forget_readings(),
            Shape::Combination(combination) => combination.forget_members(),
        }
    }

    /// Takes over a stored alert, at a rebuild.
    pub(super) fn restore_alert(&mut self, alert: &PastAlert<'_>) {
        self.judge.restore_alert(alert);
        match (&mut self.shape, alert.window_end) {
            (Shape::Windows(windows), Some(end)) => windows.mark_judged(end),
            (Shape::Windows(_), None)
            | (
                Shape::Level(_) | Shape::Silence(_) | Shape::Anomaly(_) | Shape::Combination(_),
                _,
            ) => {}
        }
    }

    /// Forgets decisions after `time`, because the clock of the source was set back since.
    pub(super) fn forget_after(&mut self, time: Wall) {
        self.judge.forget_after(time);
        match &mut self.shape {
            Shape::Windows(windows) if windows.is_closed_after(time) => windows.clear_windows(),
            Shape::Windows(_)
            | Shape::Level(_)
            | Shape::Silence(_)
            | Shape::Anomaly(_)
            | Shape::Combination(_) => {}
        }
    }

    /// Returns the span after the settled time in which all readings are known: zero, or
    /// [`LATENESS`] if all readings are stamped on arrival and so never late.
    fn known_ahead(&self) -> Duration {
        match &self.settling {
            Some(settling) if !settling.awaits_late() => LATENESS,
            Some(_) | None => Duration::ZERO,
        }
    }

    /// Evaluates the readings before `known`, in the order of their event times.
    fn evaluate_before(&mut self, known: Wall, sink: &mut TransitionSink<'_>) {
        while let Some(next) =
            self.settling.as_mut().and_then(|settling| settling.pop_before(known))
        {
            let (told, value) = next;
            if self.judge.last_transition_time().is_some_and(|turned| told.event < turned) {
                // The reading led up to a stored transition.
                let (now, counts, flaps) = (sink.now, &mut *sink.counts, &mut *sink.flaps);
                self.evaluate_reading(
                    told,
                    &value,
                    &mut TransitionSink { now, out: None, counts, flaps, trace: None },
                );
                self.judge.drop_pending();
            } else {
                self.evaluate_reading(told, &value, sink);
            }
        }
        if let Some(settling) = &mut self.settling {
            settling.mark_passed(known);
        }
    }

    fn evaluate_reading(
        &mut self,
        told: ReadingOrigin,
        value: &Value,
        sink: &mut TransitionSink<'_>,
    ) {
        let ReadingOrigin { event, member, source } = told;
        let judge = &mut self.judge;
        match &mut self.shape {
            Shape::Level(level) => level.judge_reading(event, value, judge, sink),
            Shape::Windows(windows) => windows.add_reading(event, value, sink),
            Shape::Silence(_) => {}
            Shape::Anomaly(anomaly) => anomaly.judge_reading(event, value, judge, sink),
            Shape::Combination(combination) => {
                if let Some(member) = member {
                    combination.judge_member((member, source), event, value, judge, sink);
                }
            }
        }
    }
}

impl Shape {
    fn answers_at_once(&self) -> bool {
        match self {
            Self::Level(_) | Self::Anomaly(_) | Self::Combination(_) => true,
            Self::Windows(_) | Self::Silence(_) => false,
        }
    }
}
