//! From what a configuration says to what the decisions take: rules, formats, limits.
//!
//! A [`Config`] holds, so nothing here can fail but by a bug.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use pulsegate_core::cloud::record_text::{Field, Framing, ReadingFormat};
use pulsegate_core::cloud::topic::{self, Open, Template};
use pulsegate_core::record::lane::Lane;
use pulsegate_core::rules::{Action, RuleSpec};
use pulsegate_core::visits::VisitSpec;

use crate::config::{self, Config, PublishConfig};
use crate::store::{Filters, Formats, LaneFormat};

/// How everything is published.
pub(crate) fn formats(config: &Config) -> Arc<Formats> {
    let publish = &config.publish;
    let kind = |(kind, format): (&String, &PublishConfig)| {
        (kind.as_str().into(), reading_format(config, format))
    };
    let filter =
        |(kind, format): (&String, &PublishConfig)| (kind.as_str().into(), format.filter.clone());
    let (units, rr) = (units(config), rr(config));
    let lanes = Lane::ALL.map(|lane| {
        let format = match lane {
            Lane::Alerts => &publish.alerts,
            Lane::Events => &publish.events,
            Lane::Readings => &publish.readings,
        };
        LaneFormat {
            topic: template(config, &format.topic),
            framing: framing(format.format),
            add: format.add.as_str().into(),
            limit_bytes: usize::try_from(format.batch.bytes).unwrap_or(usize::MAX),
            delay: format.batch.delay,
        }
    });
    Arc::new(Formats {
        kinds: publish.kinds.iter().map(kind).collect(),
        readings: reading_format(config, &publish.readings),
        filters: Filters {
            kinds: publish.kinds.iter().map(filter).collect(),
            readings: publish.readings.filter.clone(),
            recordings: config.rules.iter().filter_map(recording).collect(),
        },
        units,
        rr,
        visits: config.visits.clone(),
        light: light(config),
        lanes,
    })
}

fn recording(rule: &RuleSpec) -> Option<(Box<str>, Duration)> {
    let lengths = rule.then.iter().filter_map(|action| match action {
        Action::Record(length) => Some(*length),
        Action::Alert | Action::Capture(_) | Action::Output(..) => None,
    });
    Some((rule.name.clone(), lengths.max()?))
}

/// What counts as a visit, as the decisions take it.
pub(crate) fn visits(config: &Config) -> Vec<VisitSpec> {
    config.visits.iter().map(|visit| visit.spec.clone()).collect()
}

fn reading_format(config: &Config, format: &PublishConfig) -> ReadingFormat {
    let field = |field: &config::FieldConfig| {
        let filled_with = match field.field {
            config::Field::Seq => Field::Seq,
            config::Field::Source => Field::Source,
            config::Field::Kind => Field::Kind,
            config::Field::Time => Field::Time,
            config::Field::TimeMs => Field::TimeMs,
            config::Field::TimeS => Field::TimeS,
            config::Field::Value | config::Field::Bpm | config::Field::State => Field::Value,
            config::Field::Unit => Field::Unit,
            config::Field::Contact => Field::Contact,
            config::Field::EnergyKj => Field::EnergyKj,
            config::Field::RrMs => Field::RrMs,
            // Written by itself while a time is not trusted, whatever the other fields.
            config::Field::Clock => return None,
        };
        Some((field.key.as_str().into(), filled_with))
    };
    ReadingFormat {
        topic: template(config, &format.topic),
        fields: format.fields.as_ref().map(|fields| fields.iter().filter_map(field).collect()),
        framing: framing(format.format),
        add: format.add.as_str().into(),
    }
}

fn template(config: &Config, topic: &str) -> Template {
    let open = Open { source: true, kind: true };
    Template::parse(topic, &config.thing, open).expect("a checked configuration")
}

fn framing(format: config::Format) -> Framing {
    match format {
        config::Format::Array => Framing::Array,
        config::Format::Lines => Framing::Lines,
    }
}

fn units(config: &Config) -> Vec<(Box<str>, Box<str>)> {
    let unit =
        |number: &config::Number| Some((number.id.as_str().into(), number.unit.as_deref()?.into()));
    config.sensors.numbers.iter().filter_map(unit).collect()
}

fn rr(config: &Config) -> Vec<Box<str>> {
    let monitors = config.sensors.heart_rates.iter().filter(|m| m.rr).map(|m| &m.id);
    let simulated = config.sensors.simulated.iter().filter(|s| s.rr).map(|s| &s.id);
    monitors.chain(simulated).map(|id| id.as_str().into()).collect()
}

/// The source that tells night from day.
fn light(config: &Config) -> Option<Box<str>> {
    let light = config.night.as_ref()?.light.as_ref()?;
    Some(light.source.as_str().into())
}

/// The monitors whose variability is derived.
pub(crate) fn variability(config: &Config) -> HashSet<Box<str>> {
    let monitors = config.sensors.heart_rates.iter().filter(|m| m.variability).map(|m| &m.id);
    let simulated = config.sensors.simulated.iter().filter(|s| s.variability).map(|s| &s.id);
    monitors.chain(simulated).map(|id| id.as_str().into()).collect()
}

/// Where the thing says whether it is online.
pub(crate) fn status_topic(config: &Config) -> String {
    template(config, topic::STATUS).render("", "")
}
