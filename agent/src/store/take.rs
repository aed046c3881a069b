//! Reading a lane back as messages: rows are written straight into the bytes of a batch.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use pulsegate_core::cloud::batch::{BatchGroup, Gatherer, Offer};
use pulsegate_core::cloud::delivery::{LanePart, TakeRequest};
use pulsegate_core::cloud::record_text::{ClockText, ObjectText, ReadingLayout, RecordStamp};
use pulsegate_core::record::event::VisitMembers;
use pulsegate_core::record::id::RecordId;
use pulsegate_core::record::lane::Lane;
use pulsegate_core::record::reading::{Seq, Value};
use pulsegate_core::time::Mono;
use pulsegate_core::time::timeline::{ClockTrust, Epoch};
use pulsegate_sensors::{Source, SourceId, Sources};

use super::filters::FilterWalk;
use super::formats::Formats;
use super::visits::write_visit;
use crate::db::cursor::Select;
use crate::db::database::Database;
use crate::db::rows::{StoredAlerts, StoredEvents, StoredReadings};
use crate::db::withheld::{EVENTS, Withheld};
use crate::db::{self, load};

/// Earlier configurations of which a message may still be on its way: the window keeps its messages
/// while the link is down.
const MAX_BEFORE: usize = 16;
/// Records that a walk may pass over at once. Bounds the time for which a walk through filtered
/// records keeps the writer from commits.
const MAX_PASSED_OVER: u64 = 10_000;

/// The outcome of a walk through a lane.
#[derive(Debug)]
pub(crate) enum TakeOutcome {
    /// Batches to publish.
    Group(BatchGroup),
    /// Batches of a withheld topic, and the sources of their records.
    OfTopic(BatchGroup, Vec<u32>),
    /// A message that is not full and may wait.
    Later {
        /// Time at which the message goes anyway.
        due: Mono,
        /// Place at which the message will be about full.
        full_at: Seq,
    },
    /// No record.
    Nothing,
}

/// Turns rows into records, and remembers the layout of each source.
pub(super) struct Encoder {
    formats: Arc<Formats>,
    sources: Arc<Sources>,
    layouts: Vec<Option<ReadingLayout>>,
    sieve: FilterWalk,
    clock: ClockText,
    /// By withheld topic: the last place looked at.
    looked_to: BTreeMap<(Lane, Arc<str>), u64>,
    /// Sources of a withheld topic met for the first time in the last walk, and the place before
    /// their first record.
    met: Vec<(u32, u64)>,
    /// Formats of earlier configurations, the newest last: a message on its way may have an earlier
    /// topic.
    before: VecDeque<Arc<Formats>>,
}

impl Encoder {
    pub(super) fn new(formats: Arc<Formats>, sources: Arc<Sources>) -> Self {
        let sieve = FilterWalk::new(formats.filters.clone(), Arc::clone(&sources));
        Self {
            formats,
            sources,
            layouts: Vec::new(),
            sieve,
            clock: ClockText::default(),
            looked_to: BTreeMap::new(),
            met: Vec::new(),
            before: VecDeque::new(),
        }
    }

    /// Continues with other formats.
    pub(super) fn apply_formats(&mut self, formats: Arc<Formats>) {
        let mut before = std::mem::take(&mut self.before);
        before.retain(|one| **one != *self.formats);
        before.push_back(Arc::clone(&self.formats));
        if before.len() > MAX_BEFORE {
            before.pop_front();
        }
        *self = Self::new(formats, Arc::clone(&self.sources));
        self.before = before;
    }

    /// Begins a pass, whose walks begin before places already seen by the filters.
    pub(super) fn begin_pass(&mut self) {
        self.sieve = FilterWalk::new(self.formats.filters.clone(), Arc::clone(&self.sources));
    }

    /// Returns the numbers of the sources whose records go to `topic`, or went there under an
    /// earlier configuration.
    pub(super) fn sources_of(&self, withheld: &Withheld, lane: Lane, topic: &str) -> Vec<u32> {
        if lane == Lane::Events {
            return vec![EVENTS];
        }
        let formats = || std::iter::once(&self.formats).chain(&self.before);
        let sources = self.sources.list_since(0);
        let goes = |source: &Source| formats().any(|one| *one.render_topic(lane, source) == *topic);
        let numbers = (0..).zip(&sources).filter(|(_, source)| goes(source));
        // Sources missing in the table are known by number only.
        let is_lost = |number: &u32| self.sources.get(SourceId(*number)).is_none();
        let lost = withheld.withheld_sources(lane).filter(is_lost);
        let lost = lost.filter(|number| goes(&lost_source(*number)));
        numbers.map(|(number, _)| number).chain(lost).collect()
    }

    /// Returns true if records for `topic` go to another topic since a change of the configuration.
    pub(super) fn is_renamed(&self, withheld: &Withheld, lane: Lane, topic: &str) -> bool {
        let sources = self.sources_of(withheld, lane, topic);
        sources.into_iter().any(|source| *self.topic_of_source(lane, source) != *topic)
    }

    /// Returns the topics of the withheld sources.
    pub(super) fn withheld_topics(&self, withheld: &Withheld) -> Vec<(Lane, Arc<str>)> {
        let topics = withheld
            .iter_rows()
            .map(|(lane, source, _)| (lane, self.topic_of_source(lane, source)));
        topics.collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn topic_of_source(&self, lane: Lane, source: u32) -> Arc<str> {
        let found = self.sources.get(SourceId(source));
        let found = found.map_or_else(|| lost_source(source), |source| (*source).clone());
        self.formats.render_topic(lane, &found)
    }

    /// Returns the sources newly met in the last walk, see [`Encoder::met`].
    pub(super) fn take_met(&mut self) -> Vec<(u32, u64)> {
        std::mem::take(&mut self.met)
    }

    /// Walks through the wanted records. A partly filled message goes only if its oldest record has
    /// waited long enough by `now`; a message of a withheld topic never waits.
    pub(super) fn encode_wanted(
        &mut self,
        database: &Database,
        wanted: &TakeRequest,
        now: Mono,
    ) -> db::Result<TakeOutcome> {
        let (lane, room) = (wanted.lane, wanted.room);
        let limit_bytes = self.formats.lanes[lane.index()].limit_bytes.min(wanted.bytes);
        let gatherer = Gatherer::new(lane, limit_bytes, room)
            .max_records(wanted.records)
            .max_group_records(wanted.group_records);
        let mut walk = EncoderWalk {
            gatherer,
            oldest: None,
            part: WalkPart::Lane,
            looked: 0,
            skipped: 0,
            met: Vec::new(),
        };
        let after = match &wanted.part {
            LanePart::Lane { after, withheld } => {
                if !withheld.is_empty() || !database.withheld.is_empty(lane) {
                    walk.part = WalkPart::Without(Arc::clone(withheld));
                }
                *after
            }
            LanePart::Topic { topic, anew, through } => {
                return self.take_topic(database, wanted, (topic, *anew, *through), walk);
            }
        };
        let full = self.walk_lane(database, lane, after, &mut walk)?;
        let Some(oldest) = walk.oldest else { return Ok(TakeOutcome::Nothing) };
        let due = match oldest {
            (epoch, mono) if epoch == database.epoch => {
                // A time in the future delays nothing.
                let delay = self.formats.lanes[lane.index()].delay;
                (mono + delay).min(now + delay)
            }
            _ => now,
        };
        if full == Offer::Taken && due > now {
            let (bytes, limit) = walk.gatherer.fill_level();
            let span = database.lanes[lane.index()].last.saturating_sub(after.0);
            let full_at = after.0 + span * limit as u64 / bytes.max(1) as u64;
            self.sieve.abandon_walk();
            return Ok(TakeOutcome::Later { due, full_at: Seq(full_at) });
        }
        self.met = walk.met;
        Ok(walk.gatherer.finish_walk().map_or(TakeOutcome::Nothing, TakeOutcome::Group))
    }

    fn take_topic(
        &mut self,
        database: &Database,
        wanted: &TakeRequest,
        (topic, anew, through): (&Arc<str>, bool, Seq),
        mut walk: EncoderWalk,
    ) -> db::Result<TakeOutcome> {
        let lane = wanted.lane;
        let mut sources = self.sources_of(&database.withheld, lane, topic);
        sources.retain(|source| database.withheld.contains(lane, *source));
        let Some(first) = database.withheld.first_after(lane, &sources) else {
            return Ok(TakeOutcome::Nothing);
        };
        let key = (lane, Arc::clone(topic));
        let looked_to = self.looked_to.get(&key).copied().filter(|_| !anew);
        let after = Seq(looked_to.map_or(first, |to| to.max(first)));
        if anew {
            self.sieve.begin_anew(&sources);
        }
        walk.part = WalkPart::Only(Arc::clone(topic), through.0);
        walk.looked = after.0;
        let full = self.walk_lane(database, lane, after, &mut walk)?;
        let looked_to = match full {
            // Records behind the last place of this database are in memory.
            Offer::Taken => through.0.min(database.lanes[lane.index()].last),
            Offer::Full => walk.looked,
        };
        self.looked_to.insert(key, looked_to.max(after.0));
        Ok(match (walk.gatherer.finish_walk(), full) {
            (Some(group), _) => TakeOutcome::OfTopic(group, sources),
            // A topic cannot rejoin before its lane was taken up to the settled place: a restart
            // would begin earlier.
            (None, Offer::Taken)
                if database.withheld.last_after(lane, &sources) > Some(through.0) =>
            {
                TakeOutcome::Later { due: Mono(u64::MAX), full_at: Seq(u64::MAX) }
            }
            (None, Offer::Taken) => TakeOutcome::Nothing,
            (None, Offer::Full) => TakeOutcome::Later { due: Mono(0), full_at: Seq(0) },
        })
    }

    fn walk_lane(
        &mut self,
        database: &Database,
        lane: Lane,
        after: Seq,
        walk: &mut EncoderWalk,
    ) -> db::Result<Offer> {
        match lane {
            Lane::Readings => self.encode_readings(database, after, walk),
            Lane::Alerts => self.encode_alerts(database, after, walk),
            Lane::Events => self.encode_events(database, after, walk),
        }
    }

    fn encode_readings(
        &mut self,
        database: &Database,
        after: Seq,
        walk: &mut EncoderWalk,
    ) -> db::Result<Offer> {
        self.sieve.begin_walk(database, after)?;
        let mut select = Select::<StoredReadings>::select_behind(&database.connection, after.0)?;
        let mut cursor = select.open_cursor()?;
        while let Some((seq, reading)) = cursor.read_next()? {
            let at = database.boot_of(seq);
            let source = reading.source;
            let (time, trust) = reading.wall_time(&database.timeline, at.epoch);
            let id = RecordId { boot: at.boot, seq: Seq(seq) };
            let mut stamp = RecordStamp { id, time, trust };
            walk.oldest.get_or_insert((at.epoch, reading.mono));
            if !matches!(walk.part, WalkPart::Lane) {
                let layout = source_layout(&mut self.layouts, &self.formats, &self.sources, source);
                match walk.admit_record(database, Lane::Readings, source.0, seq, &layout.topic) {
                    RecordAdmission::Taken => {}
                    RecordAdmission::PassedOver => continue,
                    RecordAdmission::Ends(offer) => return Ok(offer),
                }
            }
            let event = reading.event_time(&database.timeline, at.epoch);
            if !self.sieve.admit_reading(event, reading, &mut stamp) {
                let layout = source_layout(&mut self.layouts, &self.formats, &self.sources, source);
                walk.gatherer.skip_filtered(Seq(seq), &layout.topic);
                walk.looked = seq;
                if walk.gatherer.passed_over() >= MAX_PASSED_OVER {
                    return Ok(Offer::Full);
                }
                continue;
            }
            let layout = source_layout(&mut self.layouts, &self.formats, &self.sources, source);
            let offer = walk.gatherer.offer_reading(layout, reading, &stamp, &mut self.clock);
            if offer == Offer::Full {
                self.sieve.take_back(source);
                return Ok(Offer::Full);
            }
            walk.looked = seq;
        }
        Ok(Offer::Taken)
    }

    fn encode_alerts(
        &mut self,
        database: &Database,
        after: Seq,
        walk: &mut EncoderWalk,
    ) -> db::Result<Offer> {
        let mut select = Select::<StoredAlerts>::select_behind(&database.connection, after.0)?;
        let mut cursor = select.open_cursor()?;
        while let Some((seq, alert)) = cursor.read_next()? {
            let at = database.boot_of(seq);
            let correct = |time| match alert.epoch {
                Some(epoch) => database.timeline.correct_reference(epoch, time),
                None => (time, ClockTrust::Trusted),
            };
            let (time, trust) = correct(alert.time);
            let source = self.sources.get(alert.source);
            let source = source.unwrap_or_else(|| Arc::new(lost_source(alert.source.0)));
            walk.oldest.get_or_insert((at.epoch, Mono(0)));
            let format = &self.formats.lanes[Lane::Alerts.index()];
            let name = &source.name;
            let topic = format.topic.fill_in(name, "").into();
            match walk.admit_record(database, Lane::Alerts, alert.source.0, seq, &topic) {
                RecordAdmission::Taken => {}
                RecordAdmission::PassedOver => continue,
                RecordAdmission::Ends(offer) => return Ok(offer),
            }
            let clock = &mut self.clock;
            let offer = walk.gatherer.offer_record(Seq(seq), &topic, format.framing, |out| {
                let mut object = ObjectText::begin_record(at.boot, Seq(seq), out);
                object.add_text("rule", &alert.rule);
                object.add_text("source", name);
                object.add_text("state", if alert.raised { "raised" } else { "cleared" });
                object.add_text("severity", &alert.severity);
                match &alert.value {
                    Value::Number(value) => object.add_number("value", *value),
                    Value::State(value) => object.add_text("value", value),
                };
                if let Some(score) = alert.score {
                    object.add_number("score", score);
                }
                if let Some((start, end)) = alert.decided_window() {
                    object.add_time("window_start", correct(start).0, clock);
                    object.add_time("window_end", correct(end).0, clock);
                }
                object.add_time("time", time, clock).add_members(&format.add);
                object.end_object(trust);
            });
            if offer == Offer::Full {
                return Ok(Offer::Full);
            }
            walk.looked = seq;
        }
        Ok(Offer::Taken)
    }

    fn encode_events(
        &mut self,
        database: &Database,
        after: Seq,
        walk: &mut EncoderWalk,
    ) -> db::Result<Offer> {
        let mut select = Select::<StoredEvents>::select_behind(&database.connection, after.0)?;
        let mut cursor = select.open_cursor()?;
        while let Some((seq, stored)) = cursor.read_next()? {
            let at = database.boot_of(seq);
            let (time, mut trust) = database.timeline.wall_time(stored.epoch, stored.mono);
            walk.oldest.get_or_insert((at.epoch, stored.mono));
            let format = &self.formats.lanes[Lane::Events.index()];
            let topic = format.topic.fill_in("", "").into();
            match walk.admit_record(database, Lane::Events, EVENTS, seq, &topic) {
                RecordAdmission::Taken => {}
                RecordAdmission::PassedOver => continue,
                RecordAdmission::Ends(offer) => return Ok(offer),
            }
            let (clock, visits) = (&mut self.clock, &self.formats.visits);
            let offer = walk.gatherer.offer_record(Seq(seq), &topic, format.framing, |out| {
                let mut object = ObjectText::begin_record(at.boot, Seq(seq), out);
                object.add_text("event", stored.event);
                match VisitMembers::from_text(stored.event, stored.members) {
                    Some(visit) => {
                        trust = write_visit(visit, &database.timeline, visits, clock, &mut object);
                    }
                    None => {
                        object.add_members(stored.members);
                    }
                }
                object.add_time("time", time, clock).add_members(&format.add);
                object.end_object(trust);
            });
            if offer == Offer::Full {
                return Ok(Offer::Full);
            }
            walk.looked = seq;
        }
        Ok(Offer::Taken)
    }
}

struct EncoderWalk {
    gatherer: Gatherer,
    /// Run of the kernel and time of the first record of the walk.
    oldest: Option<(Epoch, Mono)>,
    part: WalkPart,
    /// The last place that need not be looked at again.
    looked: u64,
    /// Records of other topics.
    skipped: u64,
    /// See [`Encoder::met`].
    met: Vec<(u32, u64)>,
}

/// The part of a lane taken by a walk.
enum WalkPart {
    /// All records.
    Lane,
    /// All records except those of these topics.
    Without(Arc<BTreeSet<Arc<str>>>),
    /// Records of this topic, up to this place.
    Only(Arc<str>, u64),
}

/// The decision about a record of a walk.
enum RecordAdmission {
    Taken,
    PassedOver,
    Ends(Offer),
}

impl EncoderWalk {
    /// Decides about a record by its topic.
    fn admit_record(
        &mut self,
        database: &Database,
        lane: Lane,
        source: u32,
        seq: u64,
        topic: &Arc<str>,
    ) -> RecordAdmission {
        match &self.part {
            WalkPart::Lane => RecordAdmission::Taken,
            WalkPart::Without(topics) => {
                let is_known = database.withheld.contains(lane, source);
                if !is_known && !topics.contains(topic) {
                    return RecordAdmission::Taken;
                }
                if !is_known && self.met.iter().all(|(met, _)| *met != source) {
                    self.met.push((source, seq - 1));
                }
                self.gatherer.skip_withheld(Seq(seq), topic);
                match self.gatherer.passed_over() >= MAX_PASSED_OVER {
                    true => RecordAdmission::Ends(Offer::Full),
                    false => RecordAdmission::PassedOver,
                }
            }
            WalkPart::Only(_, through) if seq > *through => RecordAdmission::Ends(Offer::Taken),
            WalkPart::Only(only, _) => {
                let is_pending = database.withheld.is_pending(lane, source, seq);
                if is_pending && *only == *topic {
                    return RecordAdmission::Taken;
                }
                self.skipped += 1;
                self.looked = seq;
                match self.skipped >= MAX_PASSED_OVER {
                    true => RecordAdmission::Ends(Offer::Full),
                    false => RecordAdmission::PassedOver,
                }
            }
        }
    }
}

/// Returns the layout of a source. A source missing in the table is published under its number.
fn source_layout<'a>(
    layouts: &'a mut Vec<Option<ReadingLayout>>,
    formats: &Formats,
    sources: &Sources,
    id: SourceId,
) -> &'a ReadingLayout {
    let at = id.0 as usize;
    if layouts.len() <= at {
        layouts.resize(at + 1, None);
    }
    layouts[at].get_or_insert_with(|| match sources.get(id) {
        Some(source) => formats.reading_layout(&source),
        None => formats.reading_layout(&lost_source(id.0)),
    })
}

fn lost_source(id: u32) -> Source {
    load::lost_source(usize::try_from(id).unwrap_or(usize::MAX))
}

impl Formats {
    fn render_topic(&self, lane: Lane, source: &Source) -> Arc<str> {
        match lane {
            Lane::Readings => self.reading_layout(source).topic,
            Lane::Alerts => self.lanes[lane.index()].topic.fill_in(&source.name, "").into(),
            Lane::Events => self.lanes[lane.index()].topic.fill_in("", "").into(),
        }
    }

    fn reading_layout(&self, source: &Source) -> ReadingLayout {
        let format = self.kinds.iter().find(|(kind, _)| *kind == source.kind);
        let unit = self.units.iter().find(|(name, _)| *name == source.name);
        ReadingLayout::new(
            format.map_or(&self.readings, |(_, format)| format),
            source,
            unit.map(|(_, unit)| &**unit),
            self.rr.contains(&source.name),
        )
    }
}
