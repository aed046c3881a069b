//! The formats of everything that is published, as the configuration gives them.

use std::sync::Arc;
use std::time::Duration;

use pulsegate_core::cloud::record_text::{Framing, ReadingFormat};
use pulsegate_core::cloud::topic::Template;
use pulsegate_core::record::lane::Lane;
use pulsegate_core::rules::{Action, RuleSpec};
use pulsegate_core::visits::VisitFormat;

use super::filters::Filters;
use crate::config::{Config, PublishConfig};

/// The formats of published records, set by the configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Formats {
    /// Readings by kind, and the rest.
    pub(crate) kinds: Vec<(Box<str>, ReadingFormat)>,
    pub(crate) readings: ReadingFormat,
    /// The readings held back.
    pub(crate) filters: Filters,
    /// By id of the source: the unit; in `rr`, the sources published with intervals between beats.
    pub(crate) units: Vec<(Box<str>, Box<str>)>,
    pub(crate) rr: Vec<Box<str>>,
    /// The definitions and texts of visits.
    pub(crate) visits: Vec<VisitFormat>,
    /// The source for night and day.
    pub(crate) light: Option<Box<str>>,
    /// By lane: the topic (not of readings), framing, size and patience.
    pub(crate) lanes: [LaneFormat; 3],
}

/// The size and timing of the messages of a lane.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LaneFormat {
    pub(crate) topic: Template,
    pub(crate) framing: Framing,
    /// Fixed members at the end of each record; not of readings.
    pub(crate) add: Box<str>,
    /// Bytes of payload and topic together.
    pub(crate) limit_bytes: usize,
    /// Time that a record may wait for a message to fill.
    pub(crate) delay: Duration,
}

impl Formats {
    /// Builds the formats of a configuration.
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        let publish = &config.publish;
        let kinds = publish.kinds.iter();
        let lanes = Lane::ALL.map(|lane| {
            LaneFormat::new(match lane {
                Lane::Alerts => &publish.alerts,
                Lane::Events => &publish.events,
                Lane::Readings => &publish.readings,
            })
        });
        let unit = |number: &crate::config::Number| {
            Some((number.id.as_str().into(), number.unit.as_deref()?.into()))
        };
        let monitors = config.sensors.heart_rates.iter().filter(|m| m.rr).map(|m| &m.id);
        let simulated = config.sensors.simulated.iter().filter(|s| s.rr).map(|s| &s.id);
        Arc::new(Self {
            kinds: kinds.clone().map(|(kind, own)| (kind.clone(), own.format.clone())).collect(),
            readings: publish.readings.format.clone(),
            filters: Filters {
                kinds: kinds.map(|(kind, own)| (kind.clone(), own.filter.clone())).collect(),
                readings: publish.readings.filter.clone(),
                recordings: config.rules.iter().filter_map(recording).collect(),
            },
            units: config.sensors.numbers.iter().filter_map(unit).collect(),
            rr: monitors.chain(simulated).map(|id| id.as_str().into()).collect(),
            visits: config.visits.clone(),
            light: config.night.as_ref().and_then(|night| night.source.clone()),
            lanes,
        })
    }
}

impl LaneFormat {
    fn new(publish: &PublishConfig) -> Self {
        let ReadingFormat { topic, fields: _, framing, add } = publish.format.clone();
        Self { topic, framing, add, limit_bytes: publish.limit_bytes, delay: publish.delay }
    }
}

/// Returns the name of a rule and the longest of its recordings, if it has any.
fn recording(rule: &RuleSpec) -> Option<(Box<str>, Duration)> {
    let lengths = rule.then.iter().filter_map(|action| match action {
        Action::Record(length) => Some(*length),
        Action::Alert | Action::Capture(_) | Action::Output(..) => None,
    });
    Some((rule.name.clone(), lengths.max()?))
}
