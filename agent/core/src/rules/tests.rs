//! Tests of the rules, on a bench with sources by name, times in seconds, and transitions as text.

mod faults;
mod flapping;
mod history;
mod levels;
mod orders;
mod properties;
mod together;
mod windows;

use std::time::Duration;

use pulsegate_sensors::{Contact, Source, SourceId, Sources};

use super::*;
use crate::record::reading::HeartDetail;

const MINUTE: i64 = 60;
/// The first second of a minute, in 2026.
const START: i64 = 1_795_000_020 / 60 * 60;
const BOOT: KernelBoot = KernelBoot(1);

/// Rules, sources and all transitions so far.
struct Bench {
    sources: Sources,
    rules: Rules,
    out: Vec<Transition>,
}

impl Bench {
    fn new(rules: Vec<RuleSpec>) -> Self {
        let rules = Rules::new(rules).expect("rules without faults");
        Self { sources: Sources::default(), rules, out: Vec::new() }
    }

    fn source(&self, name: &str, kind: &str) -> SourceId {
        self.sources.intern_source(Source::new(name, kind).unwrap()).unwrap()
    }

    fn belt(&self, name: &str) -> SourceId {
        self.source(name, "heart_rate")
    }

    /// Folds a reading that arrives at once, `at` seconds after [`START`].
    fn put(&mut self, source: SourceId, at: f64, value: impl Into<Said>) {
        self.put_late(source, at, at, value);
    }

    /// Folds a reading of `at` that arrives at `arrival`, both in seconds after [`START`].
    fn put_late(&mut self, source: SourceId, at: f64, arrival: f64, value: impl Into<Said>) {
        let reading = reading(source, mono(arrival), value);
        let input = TimedReading { reading: &reading, boot: BOOT, event: wall(at) };
        self.rules.fold_reading(&input, &self.sources, &mut self.out);
    }

    /// As [`Bench::put_late`], for a reading with a time of its own.
    fn put_dated(&mut self, source: SourceId, at: f64, arrival: f64, value: impl Into<Said>) {
        let event = wall(at);
        let reading = Reading { time: Some(event), ..reading(source, mono(arrival), value) };
        self.rules.fold_reading(
            &TimedReading { reading: &reading, boot: BOOT, event },
            &self.sources,
            &mut self.out,
        );
    }

    /// One reading a second in the minutes `minutes`.
    fn beat(&mut self, source: SourceId, minutes: std::ops::Range<i64>, bpm: f64) {
        for second in minutes.start * MINUTE..minutes.end * MINUTE {
            self.put(source, seconds(second), bpm);
        }
    }

    fn tick(&mut self, at: f64) {
        self.rules.advance_time(BOOT, mono(at), &mut self.out);
    }

    /// Returns the transitions so far, as the text of [`short`].
    fn said(&self) -> Vec<String> {
        self.out.iter().map(|transition| short(transition, &self.sources)).collect()
    }
}

/// A value of a reading, in the notation of the tests.
enum Said {
    Number(f64),
    State(&'static str),
    NoContact(f64),
}

impl From<f64> for Said {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<&'static str> for Said {
    fn from(state: &'static str) -> Self {
        Self::State(state)
    }
}

fn reading(source: SourceId, mono: Mono, value: impl Into<Said>) -> Reading {
    let (value, detail) = match value.into() {
        Said::Number(number) => (Value::Number(number), None),
        Said::State(state) => (Value::State(state.into()), None),
        Said::NoContact(number) => {
            let detail = HeartDetail { contact: Contact::Lost, energy_kj: None, rr: Vec::new() };
            (Value::Number(number), Some(Box::new(detail)))
        }
    };
    Reading { source, mono, time: None, value, detail }
}

/// Returns a transition as text, such as `raised 7 130 @60 (0..60)`: state, source, value, time and
/// window in seconds after [`START`].
fn short(transition: &Transition, sources: &Sources) -> String {
    let state = match transition.state {
        AlertState::Raised => "raised",
        AlertState::Cleared => "cleared",
    };
    let name = &sources.get(transition.source).unwrap().name;
    let value = match &transition.value {
        Value::Number(number) => number.to_string(),
        Value::State(state) => state.to_string(),
    };
    let since = |time: Wall| seconds(time.0 - START * 1000) / 1000.0;
    let window = transition
        .window
        .map(|(start, end)| format!(" ({}..{})", since(start), since(end)))
        .unwrap_or_default();
    format!("{state} {name} {value} @{}{window}", since(transition.time))
}

#[expect(clippy::cast_precision_loss, reason = "test times are far below 2^53")]
fn seconds(whole: i64) -> f64 {
    whole as f64
}

#[expect(clippy::cast_possible_truncation, reason = "test times are small")]
fn wall(at: f64) -> Wall {
    Wall(START * 1000 + (at * 1000.0).round() as i64)
}

/// Returns the monotonic time `at` seconds after [`START`]; the up-time is one hour at [`START`].
fn mono(at: f64) -> Mono {
    Mono(u64::try_from(wall(at).0 - START * 1000 + 3_600_000).unwrap())
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

fn rule(condition: Condition) -> RuleSpec {
    RuleSpec {
        name: "out of range".into(),
        on: Some("heart_rate".into()),
        source: None,
        condition,
        window: None,
        limits: Vec::new(),
        hold_for: Duration::ZERO,
        clear: Clear::default(),
        at_most_every: None,
        severity: Severity::default(),
        then: vec![Action::Alert],
    }
}

fn out_of(below: f64, above: f64) -> Condition {
    Condition::Reading(Test::Outside(Range { above: Some(above), below: Some(below) }))
}

fn over(above: f64) -> Condition {
    Condition::Reading(Test::Outside(Range { above: Some(above), below: None }))
}

fn under(below: f64) -> Condition {
    Condition::Reading(Test::Outside(Range { above: None, below: Some(below) }))
}

fn is(state: &str) -> Condition {
    Condition::Reading(Test::Is(state.into()))
}

fn tumbling(length: Duration, take: Take) -> Option<WindowSpec> {
    Some(WindowSpec { length, step: length, take })
}

fn sliding(length: u64, step: u64, take: Take) -> Option<WindowSpec> {
    let (length, step) = (Duration::from_secs(length), Duration::from_secs(step));
    Some(WindowSpec { length, step, take })
}

fn each_minute(take: Take) -> Option<WindowSpec> {
    tumbling(minutes(1), take)
}

/// Returns the rule of the scenarios: the mean of a minute above 120 or below 40.
fn heart_rule() -> RuleSpec {
    RuleSpec { window: each_minute(Take::Mean), ..rule(out_of(40.0, 120.0)) }
}
