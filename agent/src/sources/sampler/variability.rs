//! Derives heart-rate variability for the monitors with that setting.
//!
//! A restart of the agent discards the unfinished minute. Derived readings are stored like measured
//! readings, and are therefore part of a replay.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pulsegate_core::derive::heart_variability::{Derived, HeartVariability};
use pulsegate_core::record::reading::{Reading, Value};
use pulsegate_sensors::{Source, SourceId, Sources};
use tokio::sync::watch;

/// Derivation for all configured monitors; see the module.
pub(super) struct Variability {
    wanted: watch::Receiver<HashSet<Box<str>>>,
    sources: Arc<Sources>,
    /// State of each source of readings with heart detail; `None` if the source's variability is
    /// not wanted.
    monitors: HashMap<SourceId, Option<MonitorVariability>>,
    told: Vec<(Derived, f64)>,
}

struct MonitorVariability {
    name: Box<str>,
    heart: HeartVariability,
}

impl Variability {
    pub(super) fn new(wanted: watch::Receiver<HashSet<Box<str>>>, sources: Arc<Sources>) -> Self {
        Self { wanted, sources, monitors: HashMap::new(), told: Vec::new() }
    }

    /// Returns the derived readings that `reading` completes.
    pub(super) fn derive_readings(&mut self, reading: &Reading) -> Vec<Reading> {
        let Some(detail) = &reading.detail else { return Vec::new() };
        if self.wanted.has_changed().unwrap_or(false) {
            self.wanted.mark_unchanged();
            self.monitors.clear();
        }
        let (wanted, sources) = (&self.wanted, &self.sources);
        let monitor = self.monitors.entry(reading.source).or_insert_with(|| {
            let source = sources.get(reading.source)?;
            let heart = HeartVariability::default();
            let name = source.name.clone();
            wanted.borrow().contains(&name).then_some(MonitorVariability { name, heart })
        });
        let Some(MonitorVariability { name, heart }) = monitor else { return Vec::new() };
        heart.add_packet(reading.mono, detail, &mut self.told);
        let read = |(derived, value): (Derived, f64)| {
            let source = Source { name: name.clone(), kind: derived.reading_kind().into() };
            Some(Reading {
                // A full source table has no place for derived readings.
                source: sources.intern_source(source).ok()?,
                mono: reading.mono,
                time: None,
                value: Value::Number(value),
                detail: None,
            })
        };
        self.told.drain(..).filter_map(read).collect()
    }
}
