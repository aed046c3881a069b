//! Random sequences of withheld sources, trials, marks, commits, kills and retention, compared with
//! a model that knows the fate of each reading (P3). The account on disk is right after each
//! operation, also while marks wait for a commit, since a power cut may come then.

use std::collections::BTreeMap;

use super::*;
use crate::db::database::{CommitWork, Database};
use crate::db::load;
use crate::db::retention::{self, RetentionView};
use crate::db::withheld::{SettledSources, SourceMark};

const LANE: Lane = Lane::Readings;
const SOURCES: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pending,
    Delivered,
    Dropped,
}

/// What delivery knows.
#[derive(Debug, Clone, Default)]
struct Known {
    /// By place: its source, and what became of it.
    readings: BTreeMap<u64, (u32, Fate)>,
    /// Of the lane: how far it was taken, and acknowledged.
    taken: u64,
    watermark: u64,
    /// By withheld source: the places that are in hand.
    withheld: BTreeMap<u32, Vec<u64>>,
}

impl Known {
    fn count(&self, fate: Fate) -> u64 {
        self.readings.values().filter(|(_, of)| *of == fate).count() as u64
    }
}

struct Model {
    device: Device,
    database: Database,
    known: Known,
    /// As the file has it.
    committed: Known,
    work: CommitWork,
    now: u64,
}

impl Model {
    fn new() -> Self {
        let device = Device::new();
        let database = open(&device);
        let (known, committed) = Default::default();
        Self { device, database, known, committed, work: CommitWork::default(), now: 1_000 }
    }

    fn commit(&mut self) {
        let work = std::mem::take(&mut self.work);
        self.database.commit_work(&work).unwrap();
        self.committed = self.known.clone();
    }

    fn append(&mut self, random: &mut fastrand::Rng) {
        let count = if random.u8(..4) == 0 { random.u64(..3_000) } else { random.u64(1..20) };
        let sources: Vec<u32> = (0..count).map(|_| random.u32(..SOURCES)).collect();
        let reading = |source: &u32| number(SourceId(*source), Mono(self.now), 72.0);
        self.work.readings = sources.iter().map(reading).collect();
        let work = std::mem::take(&mut self.work);
        let first = self.database.commit_work(&work).unwrap().0;
        for (place, source) in (first..).zip(sources) {
            self.known.readings.insert(place, (source, Fate::Pending));
        }
        self.committed = self.known.clone();
    }

    fn mark(&mut self, mark: SourceMark) {
        self.database.apply_source_mark(&mark);
        self.work.source_marks.push(mark);
    }

    fn withhold(&mut self, source: u32) {
        if !self.known.withheld.contains_key(&source) {
            let after = self.known.watermark;
            self.known.withheld.insert(source, Vec::new());
            self.mark(SourceMark::Withhold { lane: LANE, sources: vec![source], after });
        }
    }

    fn acknowledge_lane(&mut self) {
        let (watermark, taken) = (self.known.watermark, self.known.taken);
        let withheld = &self.known.withheld;
        let mut delivered = 0;
        for (_, (source, fate)) in self.known.readings.range_mut(watermark + 1..taken + 1) {
            if !withheld.contains_key(source) && *fate == Fate::Pending {
                *fate = Fate::Delivered;
                delivered += 1;
            }
        }
        self.known.watermark = taken;
        let (through, filtered, gaps) = (Seq(taken), 0, Vec::new());
        self.work.marks.push(Mark { lane: LANE, through, delivered, filtered, gaps });
    }

    /// Takes some records of a withheld source in hand, behind those that are.
    fn try_source(&mut self, source: u32, count: usize) {
        let taken = self.known.taken;
        let Some(in_hand) = self.known.withheld.get_mut(&source) else { return };
        let after = in_hand.last().copied().unwrap_or(0);
        let pending = self.known.readings.range(after + 1..taken.max(after) + 1);
        let pending = pending.filter(|(_, one)| **one == (source, Fate::Pending));
        in_hand.extend(pending.map(|(place, _)| *place).take(count));
        if let Some(through) = in_hand.last() {
            self.database.withheld.note_in_hand(LANE, &[source], *through);
        }
    }

    fn drop_source(&mut self, source: u32) {
        if let Some(in_hand) = self.known.withheld.get_mut(&source) {
            in_hand.clear();
            self.database.forget_in_hand(LANE, &[source]);
        }
    }

    fn settle(&mut self, source: u32, count: usize) {
        let Some(in_hand) = self.known.withheld.get_mut(&source) else { return };
        let count = count.min(in_hand.len());
        let settled: Vec<u64> = in_hand.drain(..count).collect();
        let Some(through) = settled.last().copied() else { return };
        for place in &settled {
            self.known.readings.get_mut(place).unwrap().1 = Fate::Delivered;
        }
        let (delivered, filtered, gaps) = (settled.len() as u64, 0, Vec::new());
        let (lane, sources) = (LANE, vec![source]);
        let settled = SettledSources { lane, sources, through, delivered, filtered, gaps };
        self.mark(SourceMark::Settle(settled));
    }

    fn release(&mut self, source: u32) {
        let known = &self.known;
        let is_pending = known
            .readings
            .range(..=known.taken)
            .any(|(_, (of, fate))| *of == source && *fate == Fate::Pending);
        let after = self.database.withheld.first_after(LANE, &[source]);
        let is_settled = known.taken == known.watermark && after <= Some(known.watermark);
        if known.withheld.contains_key(&source) && is_settled && !is_pending {
            self.known.withheld.remove(&source);
            self.mark(SourceMark::Release { lane: LANE, sources: vec![source] });
        }
    }

    fn step(&mut self, keep: &Buffer) {
        let in_hand = [Seq(0), Seq(0), Seq(self.known.taken)];
        let now = Mono(self.now);
        let look = RetentionView { keep, cap_bytes: keep.max_bytes, in_hand, now };
        let dropped = self.database.lanes[LANE.index()].dropped;
        retention::run_step(&mut self.database, &look).unwrap();
        if self.database.lanes[LANE.index()].dropped == dropped {
            return;
        }
        let left = self.left();
        for (place, (source, fate)) in &mut self.known.readings {
            if *fate == Fate::Pending && !left.contains(place) {
                let in_hand = self.known.withheld.get(source);
                assert!(in_hand.is_none_or(|places| !places.contains(place)), "{place} in hand");
                *fate = Fate::Dropped;
                self.committed.readings.get_mut(place).unwrap().1 = Fate::Dropped;
            }
        }
    }

    fn left(&self) -> std::collections::BTreeSet<u64> {
        let mut select = self.database.connection.prepare("SELECT seq FROM readings").unwrap();
        let places = select.query_map([], |row| row.get(0)).unwrap();
        places.map(Result::unwrap).collect()
    }

    /// A power cut: marks that wait for a commit are lost.
    fn kill(&mut self) {
        self.work = CommitWork::default();
        self.known = self.committed.clone();
        self.known.taken = self.known.watermark;
        self.known.withheld.values_mut().for_each(Vec::clear);
        self.committed = self.known.clone();
        self.database = open(&self.device);
    }

    fn check(&mut self) {
        let account = load::load_accounts(&mut self.database.connection).unwrap()[LANE.index()];
        let of = |fate| self.committed.count(fate);
        let expected = RecordAccount {
            recorded: self.committed.readings.len() as u64,
            delivered: of(Fate::Delivered),
            pending: of(Fate::Pending),
            dropped: of(Fate::Dropped),
            filtered: 0,
        };
        assert_eq!(account, expected);
        assert_counted(&self.device.path());
        let left = self.left();
        let pending = self.committed.readings.iter().filter(|(_, one)| one.1 == Fate::Pending);
        for (place, _) in pending {
            assert!(left.contains(place), "{place} is pending, and gone");
        }
        let gaps = "SELECT coalesce(sum(count), 0) FROM gaps WHERE lane = 2";
        let told: u64 = self.database.connection.query_row(gaps, [], |row| row.get(0)).unwrap();
        assert_eq!(told, expected.dropped);
    }
}

fn open(device: &Device) -> Database {
    let options = device.options();
    let sources = Arc::new(Sources::default());
    for name in ["a", "b", "c"] {
        sources.intern_source(Source::new(name, "heart_rate").unwrap()).unwrap();
    }
    Database::open_database(&options.path, &options.identity, sources, &options.pulse).unwrap()
}

#[test]
fn nothing_of_a_withheld_source_vanishes_or_counts_twice_after_any_sequence() {
    let mut random = random();
    for _ in 0..12 {
        let mut model = Model::new();
        let mut keep = model.device.keep;
        for _ in 0..80 {
            let (operation, source) = (random.u32(..24), random.u32(..SOURCES));
            let count = if random.bool() { 1 } else { random.usize(1..50) };
            println!("{operation} {source} {count}");
            model.now += 1_000;
            match operation {
                0..4 => model.append(&mut random),
                4 | 5 => model.withhold(source),
                6..8 => model.known.taken = model.database.last_seq,
                8..10 => model.acknowledge_lane(),
                10..13 => model.try_source(source, count),
                13 => model.drop_source(source),
                14 | 15 => model.settle(source, count),
                16 => model.release(source),
                17 => model.commit(),
                18 => model.kill(),
                19 => keep.max_bytes = if random.bool() { 0 } else { 1 << 30 },
                20 => keep.ttl = random.bool().then(|| Duration::from_secs(random.u64(..60))),
                21 => keep.history = Duration::from_secs(random.u64(..60)),
                _ => (0..random.u32(1..6)).for_each(|_| model.step(&keep)),
            }
            model.check();
        }
    }
}
