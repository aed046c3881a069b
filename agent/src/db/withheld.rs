//! Sources with withheld records, whose topic the broker refuses.
//!
//! Such a source has a watermark of its own: its records between this watermark and the lane's are
//! pending, and other sources of the lane continue. Each such source has a row, whatever the number
//! of its records and whatever topics the configuration gives them. The events of this device count
//! as a source.

use std::collections::BTreeMap;
use std::sync::Arc;

use pulsegate_core::cloud::delivery::TopicMark;
use pulsegate_core::record::lane::{Gap, Lane};
use pulsegate_core::time::Mono;
use rusqlite::{Connection, params};

use super::bounds;
use super::write::LaneWriter;

/// The number of the source of all events, which have no column for a source.
pub(crate) const EVENTS: u32 = 0;

/// The withheld sources by lane and number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Withheld([BTreeMap<u32, WithheldSource>; 3]);

#[derive(Debug, Clone, Copy)]
struct WithheldSource {
    /// The watermark of the source.
    after: u64,
    /// The last place in the publisher's hands.
    taken: u64,
}

/// The claim on a record of a withheld source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// No claim: the source has settled the record.
    Settled,
    /// The publisher has the record in hand.
    InHand,
    /// No claim: the record is pending.
    Free,
}

/// A [`TopicMark`] with sources in place of topics.
#[derive(Debug, Clone)]
pub(crate) enum SourceMark {
    Withhold { lane: Lane, sources: Vec<u32>, after: u64 },
    Settle(SettledSources),
    Release { lane: Lane, sources: Vec<u32> },
}

#[derive(Debug, Clone)]
pub(crate) struct SettledSources {
    pub(crate) lane: Lane,
    pub(crate) sources: Vec<u32>,
    pub(crate) through: u64,
    pub(crate) delivered: u64,
    pub(crate) filtered: u64,
    pub(crate) gaps: Vec<Gap>,
}

impl SourceMark {
    /// Returns the gaps of quarantined messages.
    pub(crate) fn quarantine_gaps(&self) -> &[Gap] {
        match self {
            Self::Settle(settled) => &settled.gaps,
            Self::Withhold { .. } | Self::Release { .. } => &[],
        }
    }

    /// Returns true if events of this device were delivered.
    pub(crate) fn delivers_events(&self) -> bool {
        matches!(self, Self::Settle(one) if one.lane == Lane::Events && one.delivered > 0)
    }

    fn mark_lane(&self) -> Lane {
        match self {
            Self::Withhold { lane, .. } | Self::Release { lane, .. } => *lane,
            Self::Settle(settled) => settled.lane,
        }
    }

    fn mark_sources(&self) -> &[u32] {
        match self {
            Self::Withhold { sources, .. } | Self::Release { sources, .. } => sources,
            Self::Settle(settled) => &settled.sources,
        }
    }

    /// Returns the least watermark of the sources of the mark.
    pub(crate) fn first_after(&self, withheld: &Withheld) -> Option<(Lane, u64)> {
        let lane = self.mark_lane();
        withheld.first_after(lane, self.mark_sources()).map(|first| (lane, first))
    }

    /// Replaces the topic of a mark by its sources, found with `sources_of`.
    pub(crate) fn from_topic_mark(
        mark: TopicMark,
        sources_of: impl FnOnce(Lane, &Arc<str>) -> Vec<u32>,
    ) -> Self {
        match mark {
            TopicMark::Withhold { lane, topic, after } => {
                Self::Withhold { lane, sources: sources_of(lane, &topic), after: after.0 }
            }
            TopicMark::Settle { lane, sources, through, delivered, filtered, gaps } => {
                let through = through.0;
                Self::Settle(SettledSources { lane, sources, through, delivered, filtered, gaps })
            }
            TopicMark::Release { lane, topic } => {
                Self::Release { lane, sources: sources_of(lane, &topic) }
            }
        }
    }
}

impl Withheld {
    pub(crate) fn load_withheld(connection: &Connection) -> rusqlite::Result<Self> {
        let mut withheld = Self::default();
        let mut select = connection.prepare("SELECT lane, source, after FROM withheld")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let lane = row.get::<_, usize>(0)?;
            let (source, after) = (bounds::read_source(row, 1)?.0, bounds::read_place(row, 2)?);
            if let Some(sources) = withheld.0.get_mut(lane) {
                sources.insert(source, WithheldSource { after, taken: after });
            }
        }
        Ok(withheld)
    }

    /// Replaces the stored rows.
    pub(crate) fn write_withheld(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute("DELETE FROM withheld", [])?;
        let mut insert = connection.prepare("INSERT INTO withheld VALUES (?1, ?2, ?3)")?;
        for (lane, source, after) in self.iter_rows() {
            insert.execute(params![lane.index(), source, after])?;
        }
        Ok(())
    }

    /// Returns lane, source and watermark of each row.
    pub(crate) fn iter_rows(&self) -> impl Iterator<Item = (Lane, u32, u64)> {
        Lane::ALL.into_iter().zip(&self.0).flat_map(|(lane, sources)| {
            sources.iter().map(move |(source, marks)| (lane, *source, marks.after))
        })
    }

    /// Returns the rows cut off at the places `last`, the ends of another database's lanes: places
    /// behind them go to other records at the next start.
    pub(crate) fn up_to(&self, last: [u64; 3]) -> Self {
        let mut withheld = self.clone();
        for (sources, last) in withheld.0.iter_mut().zip(last) {
            for source in sources.values_mut() {
                source.after = source.after.min(last);
                source.taken = source.after;
            }
        }
        withheld
    }

    /// Returns true if the same sources of a lane are withheld, with the same watermarks.
    pub(crate) fn is_same(&self, lane: Lane, other: &Self) -> bool {
        let of = |withheld: &Self| {
            let rows = withheld.0[lane.index()].iter();
            rows.map(|(source, marks)| (*source, marks.after)).collect::<Vec<_>>()
        };
        of(self) == of(other)
    }

    pub(crate) fn is_empty(&self, lane: Lane) -> bool {
        self.0[lane.index()].is_empty()
    }

    pub(crate) fn withheld_sources(&self, lane: Lane) -> impl Iterator<Item = u32> {
        self.0[lane.index()].keys().copied()
    }

    pub(crate) fn contains(&self, lane: Lane, source: u32) -> bool {
        self.0[lane.index()].contains_key(&source)
    }

    /// Returns true if a record is behind the watermark of its source.
    pub(crate) fn is_pending(&self, lane: Lane, source: u32, seq: u64) -> bool {
        self.0[lane.index()].get(&source).is_some_and(|source| source.after < seq)
    }

    /// Returns the claim on a record; `None` if the source is not withheld.
    pub(crate) fn find_claim(&self, lane: Lane, source: u32, seq: u64) -> Option<Claim> {
        self.0[lane.index()].get(&source).map(|source| match seq {
            settled if settled <= source.after => Claim::Settled,
            taken if taken <= source.taken => Claim::InHand,
            _ => Claim::Free,
        })
    }

    /// Returns true if no record of a source is in the publisher's hands.
    pub(crate) fn is_idle(&self, lane: Lane, source: u32) -> bool {
        self.0[lane.index()].get(&source).is_none_or(|source| source.taken <= source.after)
    }

    /// Returns the least watermark of these sources.
    pub(crate) fn first_after(&self, lane: Lane, sources: &[u32]) -> Option<u64> {
        let of = |source| self.0[lane.index()].get(source).map(|source| source.after);
        sources.iter().filter_map(of).min()
    }

    /// Returns the greatest watermark of these sources.
    pub(crate) fn last_after(&self, lane: Lane, sources: &[u32]) -> Option<u64> {
        let of = |source| self.0[lane.index()].get(source).map(|source| source.after);
        sources.iter().filter_map(of).max()
    }

    /// Notes the records of these sources up to `through` as in hand.
    pub(crate) fn note_in_hand(&mut self, lane: Lane, sources: &[u32], through: u64) {
        for source in sources {
            if let Some(source) = self.0[lane.index()].get_mut(source) {
                source.taken = through.max(source.taken);
            }
        }
    }

    /// Notes that no record of these sources is in hand any more.
    pub(crate) fn forget_in_hand(&mut self, lane: Lane, sources: &[u32]) {
        for source in sources {
            if let Some(source) = self.0[lane.index()].get_mut(source) {
                source.taken = source.after;
            }
        }
    }

    /// Moves the withheld sources of a lane back to `watermark`, that of a file: the records behind
    /// are pending again, except the records beyond that a source had settled in `before`.
    pub(crate) fn go_back(&mut self, lane: Lane, watermark: u64, before: &Self) {
        for (number, source) in &mut self.0[lane.index()] {
            let settled = before.0[lane.index()].get(number).map(|source| source.after);
            source.after = source.after.min(settled.unwrap_or(watermark));
            source.taken = source.after;
        }
    }

    pub(crate) fn apply_mark(&mut self, mark: &SourceMark) {
        match mark {
            SourceMark::Withhold { lane, sources, after } => {
                for source in sources {
                    let new = WithheldSource { after: *after, taken: *after };
                    self.0[lane.index()].entry(*source).or_insert(new);
                }
            }
            SourceMark::Settle(SettledSources { lane, sources, through, .. }) => {
                for source in sources {
                    if let Some(source) = self.0[lane.index()].get_mut(source) {
                        source.after = source.after.max(*through);
                        source.taken = source.taken.max(source.after);
                    }
                }
            }
            SourceMark::Release { lane, sources } => {
                let of_lane = &mut self.0[lane.index()];
                of_lane.retain(|source, _| !sources.contains(source));
            }
        }
    }
}

/// Writes the change made by [`Withheld::apply_mark`], and counts delivered records.
pub(crate) fn write_source_mark(
    writer: &mut LaneWriter<'_>,
    mark: &SourceMark,
    now: Mono,
) -> rusqlite::Result<()> {
    let tx = writer.tx;
    match mark {
        SourceMark::Withhold { lane, sources, after } => {
            let insert = "INSERT OR IGNORE INTO withheld VALUES (?1, ?2, ?3)";
            let mut insert = tx.prepare_cached(insert)?;
            for source in sources {
                insert.execute(params![lane.index(), source, after])?;
            }
        }
        SourceMark::Settle(settled) => {
            let update =
                "UPDATE withheld SET after = max(after, ?3) WHERE lane = ?1 AND source = ?2";
            let mut update = tx.prepare_cached(update)?;
            for source in &settled.sources {
                update.execute(params![settled.lane.index(), source, settled.through])?;
            }
            let row = &mut writer.lanes[settled.lane.index()];
            row.move_to_delivered(settled.delivered);
            row.move_to_filtered(settled.filtered);
            settled.gaps.iter().try_for_each(|gap| writer.write_gap_row(gap, now).map(drop))?;
        }
        SourceMark::Release { lane, sources } => {
            let delete = "DELETE FROM withheld WHERE lane = ?1 AND source = ?2";
            let mut delete = tx.prepare_cached(delete)?;
            for source in sources {
                delete.execute(params![lane.index(), source])?;
            }
        }
    }
    Ok(())
}

/// Returns the SQL condition that a record of `lane`, called `of`, is behind the watermark of its
/// withheld source. `of` is a name of ours, so nothing is quoted.
pub(crate) fn is_pending_sql(lane: Lane, of: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM withheld WHERE withheld.lane = {} AND withheld.source = {}
         AND withheld.after < {of}.seq)",
        lane.index(),
        source_sql(lane, of)
    )
}

/// Returns the SQL condition that a record of `lane`, called `of`, was settled by its withheld
/// source. The record may lie behind the watermark of the lane, when another topic holds the lane
/// back.
pub(crate) fn is_settled_sql(lane: Lane, of: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM withheld WHERE withheld.lane = {} AND withheld.source = {}
         AND withheld.after >= {of}.seq)",
        lane.index(),
        source_sql(lane, of)
    )
}

/// Returns the SQL expression for the source of a record of `lane`, called `of`.
fn source_sql(lane: Lane, of: &str) -> String {
    match lane {
        Lane::Alerts | Lane::Readings => format!("{of}.source"),
        Lane::Events => EVENTS.to_string(),
    }
}

/// Counts the pending records of a lane: records behind the watermark and not settled by their
/// source, and withheld records before the watermark.
pub(crate) fn count_pending(
    connection: &Connection,
    lane: Lane,
    watermark: u64,
) -> rusqlite::Result<u64> {
    let (table, number) = (lane.as_str(), lane.index());
    let behind = format!("SELECT count(*) FROM {table} WHERE seq > ?1");
    let behind: u64 = connection.query_row(&behind, [watermark], |row| row.get(0))?;
    let ends = "SELECT min(after), max(after) FROM withheld WHERE lane = ?1";
    let ends: (Option<u64>, Option<u64>) =
        connection.query_row(ends, [number], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(first), Some(last)) = ends else { return Ok(behind) };
    let count = |condition: String, after, through| -> rusqlite::Result<u64> {
        let count =
            format!("SELECT count(*) FROM {table} WHERE seq > ?1 AND seq <= ?2 AND {condition}");
        connection.query_row(&count, [after, through], |row| row.get(0))
    };
    let settled = count(is_settled_sql(lane, table), watermark, last)?;
    let before = count(is_pending_sql(lane, table), first, watermark)?;
    Ok(behind - settled + before)
}
