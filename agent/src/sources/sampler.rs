//! Stamps the observations of the drivers and appends the readings to the store.
//!
//! The sampler also tracks the state of each source: the loss of a source causes an event, and its
//! return another event with the duration. Derived readings are appended beside their originals, as
//! readings of separate kinds.

mod variability;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use pulsegate_core::record::event::Event;
use pulsegate_core::record::reading::{Reading, Value};
use pulsegate_core::time::{Mono, Wall};
use pulsegate_sensors::inbox::{Chunk, EntryValue};
use pulsegate_sensors::{NoReading, Observation, SourceId, Sources};
use tokio::sync::{mpsc, watch};

use crate::context::wait_for_stop;
use crate::db::EventRow;
use crate::platform::clock;
use crate::platform::pulse::{AT_REST, Pulse};
use crate::store::{Stopped, Store};
use variability::Variability;

/// Number of observations taken from the channel at once.
const GATHER: usize = 256;

/// State of each source, by the number of the source.
pub(crate) type SourceStates = BTreeMap<u32, SourceState>;

/// State of one source, for `status`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SourceState {
    pub(crate) source: Arc<str>,
    pub(crate) kind: Arc<str>,
    pub(crate) readings: u64,
    /// Last value, as measured.
    pub(crate) value: Option<String>,
    /// Monotonic time of the last value.
    pub(crate) at: Option<Mono>,
    /// Reason for the absence of readings, while there are none.
    pub(crate) no_reading: Option<String>,
    lost_since: Option<Mono>,
}

/// Receiving ends of the drivers' channels.
pub(crate) struct Intake {
    pub(crate) observations: mpsc::Receiver<Observation>,
    pub(crate) chunks: mpsc::Receiver<Chunk>,
    /// Set when the agent stops: nothing new is taken in afterwards.
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) pulse: Pulse,
    /// Ids of the monitors whose variability is derived.
    pub(crate) variability: watch::Receiver<HashSet<Box<str>>>,
}

/// Takes in observations until every driver is gone or the agent stops.
///
/// # Errors
/// Returns an error if the store is gone.
pub(crate) async fn run(
    mut intake: Intake,
    store: Store,
    sources: Arc<Sources>,
    states: watch::Sender<SourceStates>,
) -> anyhow::Result<()> {
    let mut observed = Vec::with_capacity(GATHER);
    let mut variability = Variability::new(intake.variability, Arc::clone(&sources));
    let (mut drivers, mut inboxes, mut closing) = (true, true, false);
    while drivers || inboxes {
        intake.pulse.beat();
        tokio::select! {
            count = intake.observations.recv_many(&mut observed, GATHER), if drivers => {
                drivers = count > 0;
                store_observations(&mut observed, &store, &sources, &states, &mut variability).await?;
            }
            chunk = intake.chunks.recv(), if inboxes => match chunk {
                Some(chunk) => store.append_readings(stamp_entries(chunk.entries), Some(chunk.answer)).await?,
                None => inboxes = false,
            },
            () = wait_for_stop(&mut intake.closing), if !closing => {
                closing = true;
                intake.observations.close();
                intake.chunks.close();
            }
            () = tokio::time::sleep(AT_REST) => {}
        }
    }
    Ok(())
}

async fn store_observations(
    observed: &mut Vec<Observation>,
    store: &Store,
    sources: &Sources,
    states: &watch::Sender<SourceStates>,
    variability: &mut Variability,
) -> Result<(), Stopped> {
    let mut readings = Vec::new();
    let mut events = Vec::new();
    states.send_modify(|states| {
        for observation in observed.drain(..) {
            let mono = observation.captured.map_or_else(clock::mono, clock::mono_from);
            let state = source_state(states, observation.source, sources);
            match observation.outcome {
                Ok(measurement) => {
                    events.extend(state.record_return(mono));
                    let reading = Reading::new(observation.source, mono, measurement);
                    state.record_reading(&reading);
                    let derived = variability.derive_readings(&reading);
                    readings.push(reading);
                    readings.extend(derived);
                }
                Err(reason) => events.extend(state.record_loss(mono, &reason)),
            }
        }
    });
    if !readings.is_empty() {
        store.append_readings(readings, None).await?;
    }
    for event in events {
        store.append_event(event).await?;
    }
    Ok(())
}

/// Stamps the readings of other programs with the time of arrival, in addition to any time in the
/// line.
fn stamp_entries(entries: Vec<pulsegate_sensors::inbox::Entry>) -> Vec<Reading> {
    let mono = clock::mono();
    let stamp = |entry: pulsegate_sensors::inbox::Entry| Reading {
        source: entry.source,
        mono,
        time: entry.time_ms.map(Wall),
        value: match entry.value {
            EntryValue::Number(number) => Value::Number(number),
            EntryValue::State(state) => Value::State(state),
        },
        detail: None,
    };
    entries.into_iter().map(stamp).collect()
}

fn source_state<'a>(
    states: &'a mut SourceStates,
    id: SourceId,
    sources: &Sources,
) -> &'a mut SourceState {
    states.entry(id.0).or_insert_with(|| {
        let source = sources.get(id);
        let source = source.as_deref();
        SourceState::new(
            source.map_or("", |source| &source.name),
            source.map_or("", |source| &source.kind),
        )
    })
}

impl SourceState {
    /// Creates the state of a source without readings.
    pub(crate) fn new(source: &str, kind: &str) -> Self {
        Self {
            source: source.into(),
            kind: kind.into(),
            readings: 0,
            value: None,
            at: None,
            no_reading: None,
            lost_since: None,
        }
    }

    fn record_reading(&mut self, reading: &Reading) {
        self.readings += 1;
        self.at = Some(reading.mono);
        self.value = Some(match &reading.value {
            Value::Number(number) => number.to_string(),
            Value::State(state) => state.to_string(),
        });
    }

    fn record_loss(&mut self, mono: Mono, reason: &NoReading) -> Option<EventRow> {
        self.no_reading = Some(reason.to_string());
        if self.lost_since.is_some() {
            return None;
        }
        self.lost_since = Some(mono);
        tracing::warn!(source = &*self.source, %reason, "no reading");
        let (source, reason) = (self.source.to_string(), reason.to_string());
        Some(EventRow { event: Event::SourceLost { source, reason }, mono })
    }

    fn record_return(&mut self, mono: Mono) -> Option<EventRow> {
        self.no_reading = None;
        let seconds = mono.since(self.lost_since.take()?).as_secs_f64();
        tracing::info!(source = &*self.source, away_s = seconds, "readings again");
        let source = self.source.to_string();
        Some(EventRow { event: Event::SourceReturned { source, seconds }, mono })
    }
}
