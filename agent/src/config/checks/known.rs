//! The sources, kinds, cameras and outputs that a rule, an action or a section may refer to.

use std::time::Duration;

use pulsegate_core::derive::heart_variability::Derived;

use crate::config::tables::Tables;

/// The states of a lid.
const LID: &[&str] = &["open", "closed"];
/// Time between two notifications of a heart-rate monitor.
const BELT: Duration = Duration::from_secs(1);
/// The states of a trigger.
const TRIGGER: &[&str] = &["active", "idle"];

/// All names that a rule, an action or a section may refer to.
pub(super) struct Known {
    sources: Vec<KnownSource>,
    cameras: Vec<String>,
    outputs: Vec<KnownOutput>,
    open: bool,
}

/// A source that may be referred to.
pub(super) struct KnownSource {
    pub(super) id: String,
    /// The type of its readings; `None` for a source of another program, whose readings are of any
    /// type.
    pub(super) readings: Option<Readings>,
}

/// An output that may be referred to.
pub(super) struct KnownOutput {
    id: String,
    /// `true` if the output can show more than on and off.
    pub(super) shows_numbers: bool,
    /// `true` if the output shows only numbers.
    pub(super) is_display: bool,
}

/// The type of the readings of a source.
pub(super) struct Readings {
    pub(super) kind: String,
    /// The possible states; empty for numbers.
    pub(super) states: &'static [&'static str],
    /// Time between two readings, if they are regular.
    pub(super) every: Option<Duration>,
}

impl Known {
    pub(super) fn of(tables: &Tables) -> Self {
        let mut sources = Vec::new();
        let mut add = |id: &str, kind: &str, states, every| {
            let readings = Some(Readings { kind: kind.to_owned(), states, every });
            sources.push(KnownSource { id: id.to_owned(), readings });
        };
        tables.heart_rate.iter().for_each(|table| add(&table.id, "heart_rate", &[], Some(BELT)));
        tables.lid.iter().for_each(|table| add(&table.id, "lid", LID, None));
        tables.trigger.iter().for_each(|table| add(&table.id, table.kind.as_str(), TRIGGER, None));
        tables.number.iter().for_each(|table| add(&table.id, &table.kind, &[], Some(table.every)));
        for table in &tables.simulated {
            let kind = table.kind.as_str();
            add(&table.id, kind, if kind == "lid" { LID } else { &[] }, Some(table.every));
        }
        let belts = tables.heart_rate.iter().map(|table| (&table.id, table.variability));
        let simulated = tables.simulated.iter().map(|table| (&table.id, table.variability));
        for (id, _) in belts.chain(simulated).filter(|(_, variability)| *variability) {
            for derived in Derived::ALL {
                let kind = derived.reading_kind().to_owned();
                let readings = Some(Readings { kind, states: &[], every: None });
                sources.push(KnownSource { id: id.to_string(), readings });
            }
        }
        for id in tables.inbox.iter().flat_map(|inbox| &inbox.sources).flatten() {
            sources.push(KnownSource { id: id.to_string(), readings: None });
        }
        let outputs = tables.output.iter().map(|table| KnownOutput {
            id: table.id.to_string(),
            shows_numbers: table.pin.is_none(),
            is_display: table.pins.is_some(),
        });
        Self {
            sources,
            cameras: tables.camera.iter().map(|camera| camera.id.to_string()).collect(),
            outputs: outputs.collect(),
            open: tables.inbox.iter().any(|inbox| inbox.sources.is_none()),
        }
    }

    /// Returns `true` if other programs may use ids that are not in the file.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Returns `true` if other programs may use kinds that are not in the file.
    pub(super) fn has_foreign_kinds(&self) -> bool {
        self.open || self.sources.iter().any(|source| source.readings.is_none())
    }

    /// Returns the source with this id: the measured source, not one derived from its readings.
    pub(super) fn source(&self, id: &str) -> Option<&KnownSource> {
        self.sources.iter().find(|source| source.id == id)
    }

    pub(super) fn has_kind(&self, kind: &str) -> bool {
        self.kinds().contains(&kind)
    }

    pub(super) fn has_camera(&self, id: &str) -> bool {
        self.cameras.iter().any(|camera| camera == id)
    }

    pub(super) fn output(&self, id: &str) -> Option<&KnownOutput> {
        self.outputs.iter().find(|output| output.id == id)
    }

    pub(super) fn outputs(&self) -> Vec<&str> {
        self.outputs.iter().map(|output| &*output.id).collect()
    }

    pub(super) fn ids(&self) -> Vec<&str> {
        self.sources.iter().map(|source| &*source.id).collect()
    }

    pub(super) fn kinds(&self) -> Vec<&str> {
        self.sources.iter().filter_map(|source| Some(&*source.readings.as_ref()?.kind)).collect()
    }

    pub(super) fn cameras(&self) -> Vec<&str> {
        self.cameras.iter().map(|camera| &**camera).collect()
    }

    /// Returns the sources whose readings may have this kind and this id.
    pub(super) fn covered(&self, kind: Option<&str>, id: Option<&str>) -> Vec<&KnownSource> {
        let fits = |source: &&KnownSource| {
            id.is_none_or(|id| source.id == id)
                && kind.is_none_or(|kind| source.readings.as_ref().is_none_or(|r| r.kind == kind))
        };
        self.sources.iter().filter(fits).collect()
    }
}
