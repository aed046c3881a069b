//! The values given to a rule over time: the least and the greatest value of each interval, so a
//! year takes as much memory as a day.

use std::collections::BTreeMap;

use pulsegate_core::record::reading::Value;
use pulsegate_core::rules::{Condition, Evaluation, RuleSpec};
use pulsegate_core::time::Wall;
use pulsegate_core::time::timeline::{Epoch, Timeline};
use pulsegate_sensors::{SourceId, Sources};

/// Intervals of a source. Bounds memory; a terminal shows a tenth of the number.
const MAX_BITS: usize = 4_096;

/// The values of a source as given to a rule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Curve {
    /// Name of the source; `None` for a rule over several sources.
    pub(crate) source: Option<String>,
    /// In order: start of the interval, least and greatest value.
    pub(crate) values: Vec<(Wall, f64, f64)>,
}

/// The curves of a rule while readings are folded.
#[derive(Debug)]
pub(super) struct Curves {
    shown: Shown,
    /// By source, and by the run of the kernel on whose axis the times lie; `None` for readings
    /// with times of their own.
    bits: BTreeMap<(Option<SourceId>, Option<u32>), Bits>,
}

/// The part of an evaluation to draw.
#[derive(Debug, Clone, Copy)]
enum Shown {
    /// The number; for a state, 1 while the condition holds and 0 else.
    Value,
    Score,
    /// 1 while the combined condition holds, and 0 else.
    Holds,
}

#[derive(Debug)]
struct Bits {
    length_ms: i64,
    /// By index on the grid of `length_ms`.
    values: BTreeMap<i64, (f64, f64)>,
}

impl Curves {
    pub(super) fn for_rule(rule: Option<&RuleSpec>) -> Self {
        let shown = match rule.map(|rule| &rule.condition) {
            Some(Condition::All { .. } | Condition::Any { .. }) => Shown::Holds,
            Some(Condition::Anomaly { .. }) => Shown::Score,
            Some(Condition::Reading(_) | Condition::Silent { .. }) | None => Shown::Value,
        };
        Self { shown, bits: BTreeMap::new() }
    }

    pub(super) fn add_evaluation(&mut self, asked: &Evaluation, epoch: Option<Epoch>) {
        let holds = f64::from(u8::from(asked.holds));
        let (source, value) = match (self.shown, &asked.value) {
            (Shown::Holds, _) => (None, Some(holds)),
            (Shown::Score, _) => (Some(asked.source), asked.score),
            (Shown::Value, Value::Number(number)) => (Some(asked.source), Some(*number)),
            (Shown::Value, Value::State(_)) => (Some(asked.source), Some(holds)),
        };
        let Some(value) = value else { return };
        let new = || Bits { length_ms: 1, values: BTreeMap::new() };
        let bits = self.bits.entry((source, epoch.map(|epoch| epoch.0))).or_insert_with(new);
        bits.add_value(asked.time, (value, value));
    }

    pub(super) fn into_curves(self, sources: &Sources, timeline: &Timeline) -> Vec<Curve> {
        let mut curves: BTreeMap<Option<SourceId>, Vec<(Wall, f64, f64)>> = BTreeMap::new();
        for ((source, epoch), bits) in self.bits {
            let correct = |time| match epoch {
                Some(epoch) => timeline.correct_reference(Epoch(epoch), time).0,
                None => time,
            };
            let values = bits.values.into_iter().map(|(number, (least, greatest))| {
                (correct(Wall(number.saturating_mul(bits.length_ms))), least, greatest)
            });
            curves.entry(source).or_default().extend(values);
        }
        let named = curves.into_iter().map(|(id, mut values)| {
            values.sort_by_key(|(time, ..)| *time);
            let source = id.and_then(|id| sources.get(id)).map(|source| source.name.to_string());
            Curve { source, values }
        });
        named.collect()
    }
}

impl Bits {
    fn add_value(&mut self, time: Wall, value: (f64, f64)) {
        let bit = self.values.entry(time.0.div_euclid(self.length_ms)).or_insert(value);
        *bit = (bit.0.min(value.0), bit.1.max(value.1));
        while self.values.len() > MAX_BITS {
            let fine = std::mem::take(&mut self.values);
            let length_ms = self.length_ms;
            self.length_ms = length_ms.saturating_mul(2);
            for (number, value) in fine {
                self.add_value(Wall(number.saturating_mul(length_ms)), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_keeps_its_extremes_in_bounded_memory() {
        let mut curves = Curves::for_rule(None);
        for second in 0..100_000_i64 {
            let value = if second == 77_777 { 1e6 } else { 1.0 };
            let asked = Evaluation {
                source: SourceId(0),
                value: Value::Number(value),
                score: None,
                time: Wall(second * 300_000),
                holds: false,
            };
            curves.add_evaluation(&asked, None);
        }

        let curves = curves.into_curves(&Sources::default(), &Timeline::default());

        let values = &curves[0].values;
        assert!((MAX_BITS / 2..=MAX_BITS).contains(&values.len()), "{}", values.len());
        assert!(values.iter().all(|(_, least, _)| *least == 1.0));
        let peak = values.iter().filter(|(_, _, greatest)| *greatest == 1e6);
        let [(time, ..)] = peak.collect::<Vec<_>>()[..] else { panic!("one peak") };
        assert!(Wall(77_777 * 300_000).since(*time).as_secs() < 100_000 * 300 / 2_000);
    }
}
