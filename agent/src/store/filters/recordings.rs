//! Recordings: after an alert, all readings of its source pass for a while, whatever the filters.
//! Recordings follow from the stored alerts, so they are the same after a restart and days later.

use std::collections::HashMap;
use std::time::Duration;

use pulsegate_core::record::reading::Seq;
use pulsegate_core::time::Wall;
use pulsegate_sensors::{SourceId, Sources};

use super::begin_of;
use crate::db::cursor::Select;
use crate::db::database::Database;
use crate::db::rows::StoredAlerts;

/// Recordings kept of a source, the newest. Bounds memory.
const MAX_SPANS: usize = 1_000;

/// The recordings of all sources.
pub(super) struct Recordings {
    /// By rule: duration of a recording.
    lengths: Vec<(Box<str>, Duration)>,
    /// By id of the source, of any kind: start and end on the axis of the rules.
    spans: HashMap<Box<str>, Vec<(Wall, Wall)>>,
    /// The last alert taken into account.
    through: Option<u64>,
}

impl Recordings {
    pub(super) fn new(lengths: Vec<(Box<str>, Duration)>) -> Self {
        Self { lengths, spans: HashMap::new(), through: None }
    }

    /// Takes in the alerts since the last walk; before the first walk, the alerts whose recordings
    /// may reach beyond `after`.
    pub(super) fn note_new_alerts(
        &mut self,
        database: &Database,
        after: Seq,
        sources: &Sources,
    ) -> crate::db::Result<()> {
        let Some(longest) = self.lengths.iter().map(|(_, length)| *length).max() else {
            return Ok(());
        };
        let through = match self.through {
            Some(through) => through,
            None => begin_of(database, after, longest)?.unwrap_or(0),
        };
        self.through = Some(through);
        let mut select =
            Select::<StoredAlerts>::from(&database.connection, through.saturating_add(1))?;
        let mut cursor = select.open_cursor()?;
        while let Some((seq, alert)) = cursor.read_next()? {
            self.through = Some(seq);
            let length = self.lengths.iter().find(|(name, _)| **name == *alert.rule);
            if let (true, Some((_, length)), Some(source)) =
                (alert.raised, length, sources.get(alert.source))
            {
                let spans = self.spans.entry(source.name.clone()).or_default();
                spans.push((alert.time, alert.time + *length));
                let surplus = spans.len().saturating_sub(MAX_SPANS);
                spans.drain(..surplus);
            }
        }
        Ok(())
    }

    /// Returns true if a reading of this time is recorded.
    pub(super) fn covers_reading(&self, source: SourceId, event: Wall, sources: &Sources) -> bool {
        if self.spans.is_empty() {
            return false;
        }
        let source = sources.get(source);
        let spans = source.and_then(|source| self.spans.get(&source.name));
        let covers = |(start, end): &(Wall, Wall)| *start <= event && event < *end;
        spans.is_some_and(|spans| spans.iter().rev().any(covers))
    }
}
