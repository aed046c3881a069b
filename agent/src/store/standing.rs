//! Publishes the standing state: alerts raised, visits under way, and brightness.
//!
//! Published as soon as decided, before the commit: a lamp or a shutter need not wait for a slow
//! card, or for a card that refuses writes (P7). A lost update loses at most a step of a count,
//! because the next update contains the whole state.

use std::sync::Arc;

use pulsegate_core::act::standing::Standing;
use pulsegate_core::record::reading::{Reading, Value};
use pulsegate_core::time::Mono;
use pulsegate_sensors::Sources;
use tokio::sync::watch;

use super::fold::Fold;
use super::visits::VisitFold;

/// Publishes the standing state on a watch channel.
pub(super) struct StandingPublisher {
    told: watch::Sender<Standing>,
    light: Option<LightSource>,
}

/// The source that tells night from day.
struct LightSource {
    name: Box<str>,
    /// By number of the source: true for this source. As long as the number of sources seen.
    is_it: Vec<bool>,
    newest: Option<(f64, Mono)>,
}

impl StandingPublisher {
    /// Publishes the state after the last stored reading.
    pub(super) fn new(
        told: watch::Sender<Standing>,
        light: Option<&str>,
        fold: &mut Fold,
        visits: &VisitFold,
    ) -> Self {
        told.send_modify(|shown| shown.restore_visits(visits.under_way()));
        let mut publisher = Self { told, light: None };
        publisher.follow_light(light);
        publisher.publish_standing(fold, visits);
        publisher
    }

    /// Follows another source of light from now on.
    pub(super) fn follow_light(&mut self, light: Option<&str>) {
        if self.light.as_ref().map(|light| &*light.name) != light {
            let light = light.map(|name| (name.into(), Vec::new(), None));
            self.light = light.map(|(name, is_it, newest)| LightSource { name, is_it, newest });
        }
    }

    /// Notes readings of the source of light.
    pub(super) fn note_light(&mut self, readings: &[Reading], sources: &Sources) {
        let Some(light) = &mut self.light else { return };
        for reading in readings {
            if let (true, Value::Number(number)) =
                (light.matches_source(reading, sources), &reading.value)
            {
                light.newest = Some((*number, reading.mono));
            }
        }
    }

    /// Publishes the changes since the last call, if there are any.
    pub(super) fn publish_standing(&mut self, fold: &mut Fold, visits: &VisitFold) {
        let light = self.light.as_ref().and_then(|light| light.newest);
        let moved = fold.take_moved();
        self.told.send_if_modified(|shown| {
            let mut changed = shown.update_visits(visits.under_way());
            if let Some(alerts) = moved {
                changed |= shown.alerts != *alerts;
                shown.alerts.clone_from(alerts);
            }
            changed |= shown.light != light;
            shown.light = light;
            changed
        });
    }
}

impl LightSource {
    fn matches_source(&mut self, reading: &Reading, sources: &Sources) -> bool {
        let at = reading.source.0 as usize;
        if at >= self.is_it.len() {
            let new: Vec<Arc<_>> = sources.list_since(self.is_it.len());
            self.is_it.extend(new.iter().map(|source| source.name == self.name));
        }
        self.is_it.get(at).copied().unwrap_or(false)
    }
}
