//! Recordings: from an alert on, for a while, the readings of its source pass whatever the filters
//! say. They follow from the stored alerts, so they are the same after a restart, and days later.

use std::collections::HashMap;
use std::time::Duration;

use pulsegate_core::record::reading::Seq;
use pulsegate_core::time::Wall;
use pulsegate_sensors::{SourceId, Sources};

use super::begin_of;
use crate::db::bounds::{self, Rising};
use crate::db::database::Database;

/// Bounds what is remembered of one source: the newest.
const MAX_SPANS: usize = 1_000;

/// See the module.
pub(super) struct Recordings {
    /// By rule: how long.
    lengths: Vec<(Box<str>, Duration)>,
    /// By id of the source, of whatever kind: from when to when, on the axis of the rules.
    spans: HashMap<Box<str>, Vec<(Wall, Wall)>>,
    /// The last alert that was looked at.
    through: Option<u64>,
}

impl Recordings {
    pub(super) fn new(lengths: Vec<(Box<str>, Duration)>) -> Self {
        Self { lengths, spans: HashMap::new(), through: None }
    }

    /// Looks at the alerts that came since the last walk; before the first, at those whose
    /// recording may reach beyond `after`.
    pub(super) fn begin(
        &mut self,
        database: &Database,
        after: Seq,
        sources: &Sources,
    ) -> rusqlite::Result<()> {
        let Some(longest) = self.lengths.iter().map(|(_, length)| *length).max() else {
            return Ok(());
        };
        let through = match self.through {
            Some(through) => through,
            None => begin_of(database, after, longest)?.unwrap_or(0),
        };
        self.through = Some(through);
        let mut select = database.connection.prepare_cached(
            "SELECT seq, rule, source, time_ms FROM alerts WHERE seq > ?1 AND raised ORDER BY seq",
        )?;
        let mut rows = select.query([through])?;
        let mut places = Rising::default();
        while let Some(row) = rows.next()? {
            self.through = Some(places.read(row, 0)?);
            let rule = row.get_ref(1)?.as_str()?;
            let length = self.lengths.iter().find(|(name, _)| **name == *rule);
            let source = sources.get(bounds::read_source(row, 2)?);
            if let (Some((_, length)), Some(source)) = (length, source) {
                let start = Wall(bounds::read_time(row, 3)?);
                let spans = self.spans.entry(source.name.clone()).or_default();
                spans.push((start, start + *length));
                let surplus = spans.len().saturating_sub(MAX_SPANS);
                spans.drain(..surplus);
            }
        }
        Ok(())
    }

    /// Whether a reading of that time is recorded.
    pub(super) fn cover(&self, source: SourceId, event: Wall, sources: &Sources) -> bool {
        if self.spans.is_empty() {
            return false;
        }
        let source = sources.get(source);
        let spans = source.and_then(|source| self.spans.get(&source.name));
        let covers = |(start, end): &(Wall, Wall)| *start <= event && event < *end;
        spans.is_some_and(|spans| spans.iter().rev().any(covers))
    }
}
