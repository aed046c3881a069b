//! Delivery while the records in the file cannot be read, and afterwards: filters and withheld
//! sources.

use pulsegate_core::cloud::delivery::TopicMark;
use pulsegate_core::cloud::filter::FilterSpec;
use pulsegate_core::record::lane::{DropReason, Gap};
use pulsegate_core::time::Wall;

use super::*;

const LANE: Lane = Lane::Readings;

/// A unit whose options were changed.
fn unit(change: impl FnOnce(&mut Formats)) -> Unit {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path().join("pulsegate.db"));
    let mut formats = Formats::clone(&options.formats);
    change(&mut formats);
    options.formats = Arc::new(formats);
    Unit { writer: writer_of(options), folder }
}

impl Unit {
    /// Appends readings of 10 s each, from a time in seconds on.
    fn append_from(&mut self, seconds: i64, count: i64) {
        let source =
            self.writer.sources.intern_source(Source::new("7", "heart_rate").unwrap()).unwrap();
        let reading = |number| Reading {
            source,
            mono: self.writer.mono_now(),
            time: Some(Wall((seconds + 10 * number) * 1_000)),
            value: Value::Number(70.0),
            detail: None,
        };
        let gathered = (0..count).map(reading).collect();
        self.writer.append_chunk(gathered, None);
        self.writer.urgent = true;
        settle(&mut self.writer);
    }
}

#[tokio::test]
async fn means_of_the_time_before_the_file_failed_are_published_when_it_is_back() {
    let every = Some(Duration::from_secs(60));
    let filter = FilterSpec { mean_every: every, ..FilterSpec::default() };
    let mut unit = unit(|formats| formats.filters.readings = filter);
    unit.append_from(0, 60);
    unit.fail();
    assert!(unit.take(LANE, Seq(0)).1.is_empty());
    unit.append_from(7_200, 30);
    assert_eq!(unit.take(LANE, Seq(60)).1.len(), 4, "of five periods, one is not over");

    unit.mend();

    let means = unit.take(LANE, unit.pass().watermarks[LANE.index()]).1;
    assert_eq!(means.len(), 10 + 4, "{means:?}");
}

/// Readings go to a topic of each source.
fn by_source() -> Unit {
    unit(|formats| {
        let open = Open { source: true, kind: true };
        formats.readings.topic = Template::for_thing("readings/{source}", "pi-1", open).unwrap();
    })
}

impl Unit {
    /// Appends readings of two sources in turn: the second one has the even places.
    fn append_of_two(&mut self, count: u32) {
        let intern = |name| {
            let source = Source::new(name, "heart_rate").unwrap();
            self.writer.sources.intern_source(source).unwrap()
        };
        let both = [intern("7"), intern("8")];
        let mut gathered = readings(&self.writer, count);
        for (reading, source) in gathered.iter_mut().zip(both.into_iter().cycle()) {
            reading.source = source;
        }
        self.writer.append_chunk(gathered, None);
        self.writer.urgent = true;
        settle(&mut self.writer);
    }

    fn mark_topic(&mut self, mark: TopicMark) {
        let (answer, _) = oneshot::channel();
        let (marks, topics, pass) = (Vec::new(), vec![mark], self.pass().number);
        self.writer.handle_request(Request::Mark { marks, topics, urgent: true, pass, answer });
        settle(&mut self.writer);
    }

    /// The topic of the second source is refused.
    fn withhold(&mut self, after: u64) {
        let after = Seq(after);
        self.mark_topic(TopicMark::Withhold { lane: LANE, topic: "readings/8".into(), after });
    }

    /// Records of the second source arrived, and some messages of it never will.
    fn settle_topic(&mut self, through: u64, delivered: u64, gaps: Vec<Gap>) {
        let (sources, through, filtered) = (vec![1], Seq(through), 0);
        self.mark_topic(TopicMark::Settle {
            lane: LANE,
            sources,
            through,
            delivered,
            filtered,
            gaps,
        });
    }
}

#[tokio::test]
async fn a_source_settled_beyond_its_lane_stays_settled_when_the_file_is_back() {
    let mut unit = by_source();
    unit.append_of_two(20);
    unit.withhold(0);
    unit.mark(LANE, Seq(4), 2, 0);
    unit.settle_topic(12, 6, Vec::new());
    unit.fail();
    assert!(unit.take(LANE, Seq(4)).1.is_empty());
    unit.append_of_two(4);

    unit.mend();

    assert_eq!((unit.writer.database.place, unit.set_aside()), (StoreLocation::File, 0));
    let account = unit.accounts()[LANE.index()];
    assert_eq!((account.recorded, account.delivered, account.pending), (24, 8, 16));
}

#[tokio::test]
async fn a_source_withheld_while_the_file_cannot_be_read_is_withheld_in_it_too() {
    let mut unit = by_source();
    unit.append_of_two(20);
    unit.mark(LANE, Seq(4), 4, 0);
    unit.fail();
    assert!(unit.take(LANE, Seq(4)).1.is_empty());
    unit.append_of_two(4);
    unit.withhold(22);

    unit.mend();

    let account = unit.accounts()[LANE.index()];
    assert_eq!((account.recorded, account.delivered, account.pending), (24, 4, 20));
    assert_eq!(unit.deliver(LANE).len(), 10, "those of the other source");
}

impl Unit {
    /// The disk is full.
    fn fill(&mut self) {
        let folder = self.folder.path().to_owned();
        self.writer.go_on_in_memory(disk::DiskFault::Full { folder, free_bytes: 0 });
    }

    /// Does to the file what a full disk still allows. Returns the account of its readings, as the next start
    /// would find it.
    fn account_of_file(&mut self) -> RecordAccount {
        let memory = self.writer.memory.as_mut().expect("it is in memory");
        let file = memory.file.as_mut().expect("there is a file");
        overflow::move_watermarks(file, &self.writer.database).unwrap();
        let account =
            Reader::open_readonly(&self.writer.options.path).unwrap().read_accounts().unwrap();
        assert!(account.iter().all(RecordAccount::is_balanced), "{account:?}");
        account[LANE.index()]
    }
}

fn gap_of_two(first: u64) -> Gap {
    let reason = DropReason::Quarantine { topic: "readings/8".into() };
    Gap { lane: LANE, first: Seq(first), last: Seq(first + 2), count: 2, reason }
}

#[tokio::test]
async fn what_a_source_settles_while_the_disk_is_full_is_counted_in_the_file_where_its_watermark_moves()
 {
    let mut unit = by_source();
    unit.append_of_two(10);
    unit.withhold(0);
    unit.mark(LANE, Seq(10), 5, 0);
    unit.fill();
    unit.settle_topic(10, 3, vec![gap_of_two(2)]);

    let account = unit.account_of_file();

    assert_eq!((account.recorded, account.delivered, account.pending), (10, 8, 0));
    assert_eq!(account.dropped, 2);
    unit.append_of_two(4);
    unit.settle_topic(unit.writer.database.last_seq, 2, Vec::new());
    assert_eq!(unit.account_of_file().delivered, 8, "the rest is in memory only");
    unit.writer.faults.try_now();
    settle(&mut unit.writer);
    assert_eq!(unit.writer.database.place, StoreLocation::File);
    let account = unit.accounts()[LANE.index()];
    assert_eq!((account.recorded, account.delivered, account.pending), (14, 10, 2));
    assert_eq!(account.dropped, 2);
}

#[tokio::test]
async fn what_a_source_settles_beyond_its_lane_while_the_disk_is_full_is_counted_in_the_file() {
    let mut unit = by_source();
    unit.append_of_two(10);
    unit.withhold(0);
    unit.mark(LANE, Seq(4), 2, 0);
    unit.fill();
    unit.settle_topic(8, 2, vec![gap_of_two(6)]);

    let account = unit.account_of_file();

    assert_eq!((account.recorded, account.delivered, account.pending), (10, 4, 4));
    assert_eq!(account.dropped, 2);
    unit.mark(LANE, Seq(10), 3, 0);
    let account = unit.account_of_file();
    assert_eq!((account.delivered, account.pending, account.dropped), (7, 1, 2));
}

#[tokio::test]
async fn a_start_after_a_full_disk_publishes_records_at_places_that_were_given_in_memory_before() {
    let mut unit = by_source();
    unit.append_of_two(10);
    unit.withhold(0);
    unit.mark(LANE, Seq(10), 5, 0);
    unit.fill();
    unit.append_of_two(4);
    unit.settle_topic(unit.writer.database.last_seq, 7, Vec::new());
    assert_eq!(unit.account_of_file().pending, 0);
    let Unit { writer, folder } = unit;
    let options = writer.options.clone();
    drop(writer);

    let mut unit = Unit { writer: writer_of(options), folder };
    unit.append_of_two(6);

    let account = unit.accounts()[LANE.index()];
    assert_eq!((account.recorded, account.delivered, account.pending), (16, 10, 6));
}
