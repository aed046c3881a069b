//! Withheld sources: which of their records are taken, kept and deleted (P3, P4).

use std::collections::BTreeSet;

use pulsegate_core::cloud::delivery::{LanePart, TakeRequest, TopicMark};
use pulsegate_core::cloud::filter::FilterSpec;

use super::*;
use crate::db::database::{CommitWork, Database};
use crate::db::load;
use crate::db::retention::{self, RetentionView};
use crate::db::withheld::{SettledSources, SourceMark};
use crate::store::take::Encoder;
use crate::store::tests::damage::{leaves, overwrite, rows_of_page};

const LANE: Lane = Lane::Readings;

/// Readings go to a topic of each source.
fn by_source(device: &Device) -> StoreOptions {
    let mut options = device.options();
    let mut formats = Formats::clone(&options.formats);
    let open = Open { source: true, kind: true };
    formats.readings.topic = Template::for_thing("readings/{source}", "pi-1", open).unwrap();
    options.formats = Arc::new(formats);
    options
}

fn start(device: &Device) -> Running {
    let sources = Arc::new(Sources::default());
    let (store, thread) = Store::open_on_thread(by_source(device), &sources).unwrap();
    Running { store, thread, sources }
}

fn topic(source: &str) -> Arc<str> {
    format!("readings/{source}").into()
}

fn wanted(part: LanePart, records: usize) -> TakeRequest {
    TakeRequest {
        lane: LANE,
        part,
        room: 16,
        records,
        group_records: usize::MAX,
        bytes: usize::MAX,
    }
}

fn without(after: u64, topics: &[&str]) -> TakeRequest {
    let withheld: BTreeSet<_> = topics.iter().map(|source| topic(source)).collect();
    wanted(LanePart::Lane { after: Seq(after), withheld: Arc::new(withheld) }, usize::MAX)
}

fn of(source: &str, anew: bool, through: u64, records: usize) -> TakeRequest {
    wanted(LanePart::Topic { topic: topic(source), anew, through: Seq(through) }, records)
}

/// The places of the records that are taken.
async fn take(agent: &Running, wanted: TakeRequest) -> Vec<u64> {
    let group = match agent.store.take_wanted(wanted, true).await.unwrap() {
        TakeOutcome::Group(group) | TakeOutcome::OfTopic(group, _) => group,
        TakeOutcome::Later { .. } | TakeOutcome::Nothing => return Vec::new(),
    };
    let records = group.batches.iter();
    let records =
        records.flat_map(|batch| serde_json::from_slice::<Vec<Json>>(&batch.payload).unwrap());
    let mut places: Vec<u64> =
        ids(&records.collect::<Vec<_>>()).iter().map(|id| place(id).1).collect();
    places.sort_unstable();
    places
}

#[tokio::test]
async fn a_withheld_topic_is_read_by_itself_and_from_where_it_stood_after_a_restart() {
    let device = Device::new();
    let agent = start(&device);
    let sources = ["a", "b"].map(|name| agent.source(name, "heart_rate"));
    let both = || sources.iter().map(|source| number(*source, clock::mono(), 70.0)).collect();
    for _ in 0..10 {
        agent.offer(both()).await.unwrap();
    }

    // Odd places are of `a`, even ones of `b`.
    assert_eq!(take(&agent, without(0, &["b"])).await, (1..20).step_by(2).collect::<Vec<_>>());
    let withhold = TopicMark::Withhold { lane: LANE, topic: topic("b"), after: Seq(0) };
    let mark = Mark { lane: LANE, through: Seq(20), delivered: 10, filtered: 0, gaps: Vec::new() };
    agent.store.mark_all(vec![mark], vec![withhold], true, 0).await.unwrap().await.unwrap();
    assert_eq!(agent.account(LANE).pending, 10);
    agent.assert_balanced().await;
    assert_eq!(take(&agent, of("b", true, 20, 1)).await, [2]);
    assert_eq!(take(&agent, of("b", false, 20, 1)).await, [4]);
    let settle = TopicMark::Settle {
        lane: LANE,
        sources: vec![1],
        through: Seq(4),
        delivered: 2,
        filtered: 0,
        gaps: Vec::new(),
    };
    agent.store.mark_all(Vec::new(), vec![settle], true, 0).await.unwrap().await.unwrap();
    agent.stop().await;

    let agent = start(&device);
    agent.until("it tells", |progress| progress.withheld == [(LANE, topic("b"))]).await;
    assert_eq!(agent.account(LANE).pending, 8);
    assert_eq!(take(&agent, of("b", true, 20, 100)).await, (6..=20).step_by(2).collect::<Vec<_>>());
    let settle = TopicMark::Settle {
        lane: LANE,
        sources: vec![1],
        through: Seq(20),
        delivered: 8,
        filtered: 0,
        gaps: Vec::new(),
    };
    let release = TopicMark::Release { lane: LANE, topic: topic("b") };
    agent.store.mark_all(Vec::new(), vec![settle, release], true, 0).await.unwrap().await.unwrap();
    assert_eq!(agent.account(LANE).delivered, 20);
    agent.assert_balanced().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_topic_that_is_withheld_under_an_earlier_name_is_told_under_its_own() {
    let device = Device::new();
    let agent = start(&device);
    let source = agent.source("a", "heart_rate");
    for _ in 0..3 {
        agent.offer(vec![number(source, clock::mono(), 70.0)]).await.unwrap();
    }
    let configure = async |topic: &str| {
        let mut formats = Formats::clone(&by_source(&device).formats);
        let open = Open { source: true, kind: true };
        formats.readings.topic = Template::for_thing(topic, "pi-1", open).unwrap();
        agent
            .store
            .apply_configuration(device.keep, Arc::default(), Arc::new(formats))
            .await
            .unwrap();
    };
    let withhold = TopicMark::Withhold { lane: LANE, topic: topic("a"), after: Seq(1) };
    configure("between/{source}").await;
    configure("now/{source}").await;
    agent.until("it told of the last change", |progress| progress.withheld_told == 3).await;

    agent.store.withhold_topics(vec![withhold], 3, 0).await.unwrap();

    let progress = agent.store.watch_progress().borrow().clone();
    assert_eq!(progress.withheld, [(LANE, "now/a".into())]);
    let part = LanePart::Topic { topic: "now/a".into(), anew: true, through: Seq(3) };
    assert_eq!(take(&agent, wanted(part, usize::MAX)).await, [2, 3]);
    agent.stop().await;
}

/// The publisher withholds a topic while a change of the configuration is told.
#[tokio::test]
async fn what_was_told_before_a_topic_was_withheld_is_told_again() {
    let device = Device::new();
    let agent = start(&device);
    let source = agent.source("a", "heart_rate");
    agent.offer(vec![number(source, clock::mono(), 70.0)]).await.unwrap();
    let formats = by_source(&device).formats;
    agent.store.apply_configuration(device.keep, Arc::default(), formats).await.unwrap();
    agent.until("it told of the change", |progress| progress.withheld_told == 2).await;

    let withhold = TopicMark::Withhold { lane: LANE, topic: topic("a"), after: Seq(0) };
    agent.store.withhold_topics(vec![withhold], 1, 0).await.unwrap();

    let progress = agent.store.watch_progress().borrow().clone();
    assert_eq!((progress.withheld_told, progress.withheld), (3, vec![(LANE, topic("a"))]));
    agent.stop().await;
}

#[tokio::test]
async fn a_source_that_appears_later_is_withheld_with_its_topic() {
    let device = Device::new();
    let agent = device.start();
    agent.append([70.0, 71.0]).await;
    let withheld: BTreeSet<Arc<str>> = ["readings".into()].into();
    let part = LanePart::Lane { after: Seq(0), withheld: Arc::new(withheld) };

    assert_eq!(take(&agent, wanted(part, usize::MAX)).await, [0; 0]);
    agent.store.commit_now().await.unwrap();
    agent.stop().await;

    let connection = rusqlite::Connection::open(device.path()).unwrap();
    let row: (u32, u64) = connection
        .query_row("SELECT source, after FROM withheld", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!(row, (0, 0));
}

#[test]
fn what_is_withheld_outlives_what_was_delivered_and_is_given_up_first_at_the_cap() {
    let device = Device::new();
    let options = device.options();
    let sources = Arc::new(Sources::default());
    for name in ["a", "b"] {
        sources.intern_source(Source::new(name, "heart_rate").unwrap()).unwrap();
    }
    let mut database =
        Database::open_database(&options.path, &options.identity, sources, &options.pulse).unwrap();
    let reading =
        |at: u64| number(SourceId(u32::try_from(at % 2).unwrap()), Mono(at * 1_000), 72.0);
    let readings = (0..20_000).map(reading).collect();
    database.commit_work(&CommitWork { readings, ..CommitWork::default() }).unwrap();
    // Even places are of `b`; the first thousand of both were delivered.
    let withhold = SourceMark::Withhold { lane: LANE, sources: vec![1], after: 1_000 };
    database.apply_source_mark(&withhold);
    let marks = vec![Mark {
        lane: LANE,
        through: Seq(16_000),
        delivered: 8_500,
        filtered: 0,
        gaps: Vec::new(),
    }];
    let source_marks = vec![withhold];
    database.commit_work(&CommitWork { marks, source_marks, ..CommitWork::default() }).unwrap();
    let account =
        |database: &mut Database| load::load_accounts(&mut database.connection).unwrap()[2];
    assert_eq!(account(&mut database).pending, 7_500 + 4_000);
    assert!(account(&mut database).is_balanced());

    let keep = Buffer { history: Duration::from_secs(60), ..device.keep };
    let retain = |database: &mut Database, keep: &Buffer| {
        let (cap_bytes, now) = (keep.max_bytes, Mono(90_000_000));
        let look = RetentionView { keep, cap_bytes, in_hand: [Seq(0); 3], now };
        let steps =
            (0..10_000).take_while(|_| retention::run_step(database, &look).unwrap()).count();
        assert!(steps < 10_000, "retention comes to an end");
    };
    retain(&mut database, &keep);
    let left = |database: &Database, what: &str| -> u64 {
        let select = format!("SELECT count(*) FROM readings WHERE {what}");
        database.connection.query_row(&select, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(left(&database, "seq <= 16000 AND source = 0"), 0, "delivered history is forgotten");
    assert_eq!(left(&database, "seq <= 16000"), 7_500, "what is withheld stays");
    assert!(account(&mut database).is_balanced());

    let (used, _) = database.measure_size().unwrap();
    retain(&mut database, &Buffer { max_bytes: used * 8 / 10, ..keep });
    let after = account(&mut database);
    assert!(after.dropped > 0 && after.is_balanced(), "{after:?}");
    assert_eq!(left(&database, "seq > 16000"), 4_000, "the oldest went first");
}

/// A store with readings of these sources in turn, one a second.
fn filled(device: &Device, names: &[&str], count: u64) -> Database {
    let options = by_source(device);
    let sources = Arc::new(Sources::default());
    for name in names {
        sources.intern_source(Source::new(name, "heart_rate").unwrap()).unwrap();
    }
    let mut database =
        Database::open_database(&options.path, &options.identity, sources, &options.pulse).unwrap();
    fill(&mut database, names.len() as u64, count);
    database
}

fn fill(database: &mut Database, sources: u64, count: u64) {
    let source = |at: u64| SourceId(u32::try_from(at % sources).unwrap());
    let reading = |at: u64| number(source(at), Mono(at * 1_000), 72.0);
    let readings = (0..count).map(reading).collect();
    database.commit_work(&CommitWork { readings, ..CommitWork::default() }).unwrap();
}

fn withhold(source: u32, after: u64) -> SourceMark {
    SourceMark::Withhold { lane: LANE, sources: vec![source], after }
}

fn settle(source: u32, through: u64, delivered: u64) -> SourceMark {
    let (filtered, gaps) = (0, Vec::new());
    SourceMark::Settle(SettledSources {
        lane: LANE,
        sources: vec![source],
        through,
        delivered,
        filtered,
        gaps,
    })
}

/// Commits a mark of the lane and one of a source.
fn commit(database: &mut Database, lane: Option<(u64, u64)>, source: Option<SourceMark>) {
    let mark = |(through, delivered)| {
        let (through, filtered, gaps) = (Seq(through), 0, Vec::new());
        Mark { lane: LANE, through, delivered, filtered, gaps }
    };
    let (marks, source_marks) = (lane.map(mark), Vec::from_iter(source));
    source_marks.iter().for_each(|mark| database.apply_source_mark(mark));
    let marks = Vec::from_iter(marks);
    database.commit_work(&CommitWork { marks, source_marks, ..CommitWork::default() }).unwrap();
}

fn account_of(database: &mut Database) -> RecordAccount {
    load::load_accounts(&mut database.connection).unwrap()[LANE.index()]
}

/// Takes everything of a topic from the file and then from memory, as the writer does.
fn drain(encoder: &mut Encoder, databases: &[&Database], topic: &str, through: u64) -> Vec<u64> {
    let (mut places, mut anew) = (Vec::new(), true);
    loop {
        let wanted = of(topic, anew, through, 2);
        let mut take = |database: &&Database| {
            let taken = encoder.encode_wanted(database, &wanted, Mono(u64::MAX)).unwrap();
            if let TakeOutcome::OfTopic(group, _) = taken {
                return Some(group);
            }
            assert!(matches!(taken, TakeOutcome::Nothing), "{taken:?}");
            None
        };
        let Some(group) = databases.iter().find_map(&mut take) else { return places };
        for batch in group.batches {
            let records = serde_json::from_slice::<Vec<Json>>(&batch.payload).unwrap();
            places.extend(ids(&records).iter().map(|id| place(id).1));
        }
        anew = false;
    }
}

#[test]
fn a_topic_that_is_allowed_again_is_read_from_the_file_and_then_from_memory() {
    let device = Device::new();
    let mut file = filled(&device, &["a", "b"], 20);
    commit(&mut file, Some((20, 10)), Some(withhold(1, 0)));
    let mut memory = file.go_on_in_memory().unwrap();
    fill(&mut memory, 2, 20);
    let mut encoder = Encoder::new(by_source(&device).formats, sources_of(&["a", "b"]));

    let taken = drain(&mut encoder, &[&file, &memory], "b", 40);

    assert_eq!(taken, (2..=40).step_by(2).collect::<Vec<_>>());
}

fn sources_of(names: &[&str]) -> Arc<Sources> {
    let sources = Arc::new(Sources::default());
    for name in names {
        sources.intern_source(Source::new(name, "heart_rate").unwrap()).unwrap();
    }
    sources
}

#[test]
fn a_filtered_record_of_a_withheld_topic_is_counted_once() {
    let device = Device::new();
    let mut database = filled(&device, &["a", "b"], 0);
    // Each value comes three times: two of three change too little.
    let value = |at: u32| f64::from(at / 3 * 10);
    let reading = |at: u32| number(SourceId(1), Mono(u64::from(at) * 1_000), value(at));
    let readings = (0..300).map(reading).collect();
    database.commit_work(&CommitWork { readings, ..CommitWork::default() }).unwrap();
    commit(&mut database, Some((300, 0)), Some(withhold(1, 0)));
    let mut formats = Formats::clone(&by_source(&device).formats);
    formats.filters.readings = FilterSpec { min_change: Some(5.0), ..FilterSpec::default() };
    let mut encoder = Encoder::new(Arc::new(formats), sources_of(&["a", "b"]));

    let (mut delivered, mut filtered, mut anew) = (0, 0, true);
    loop {
        let wanted = of("b", anew, 300, 7);
        let taken = encoder.encode_wanted(&database, &wanted, Mono(u64::MAX)).unwrap();
        let TakeOutcome::OfTopic(group, _) = taken else { break };
        delivered += group.batches.iter().map(|batch| batch.count).sum::<u64>();
        filtered += group.filtered.iter().map(|(_, count)| count).sum::<u64>();
        anew = false;
    }

    assert_eq!((delivered, filtered), (100, 200));
}

#[test]
fn what_is_settled_beyond_the_watermark_of_its_lane_is_not_pending_as_well() {
    let device = Device::new();
    let mut database = filled(&device, &["a", "b"], 20);
    commit(&mut database, Some((10, 5)), Some(withhold(1, 0)));

    commit(&mut database, None, Some(settle(1, 16, 8)));

    let account = account_of(&mut database);
    assert_eq!((account.delivered, account.pending), (13, 7), "{account:?}");
    let mut memory = database.go_on_in_memory().unwrap();
    fill(&mut memory, 2, 20);
    commit(&mut memory, None, Some(settle(1, 24, 4)));
    let account = memory.lanes[LANE.index()].account();
    assert_eq!((account.recorded, account.delivered), (40, 17), "{account:?}");
    assert!(account.is_balanced(), "{account:?}");
}

#[tokio::test]
async fn a_topic_settled_beyond_its_lane_does_not_rejoin_that_after_a_restart_before_it_is_taken_there()
 {
    let device = Device::new();
    let mut database = filled(&device, &["a", "b"], 20);
    commit(&mut database, Some((10, 5)), Some(withhold(1, 0)));
    commit(&mut database, None, Some(settle(1, 20, 10)));
    drop(database);
    let agent = start(&device);

    let early = agent.store.take_wanted(of("b", true, 10, 1), true).await.unwrap();
    let then = agent.store.take_wanted(of("b", true, 20, 1), true).await.unwrap();

    assert!(matches!(early, TakeOutcome::Later { .. }), "{early:?}");
    assert!(matches!(then, TakeOutcome::Nothing), "{then:?}");
    agent.assert_balanced().await;
    agent.stop().await;
}

#[tokio::test]
async fn the_records_of_a_source_that_the_table_lost_are_tried_with_its_topic() {
    let device = Device::new();
    let agent = start(&device);
    let belt = agent.source("a", "heart_rate");
    for _ in 0..4 {
        agent.offer(vec![number(belt, clock::mono(), 70.0)]).await.unwrap();
    }
    agent.stop().await;
    let connection = rusqlite::Connection::open(device.path()).unwrap();
    connection
        .execute_batch(
            "UPDATE readings SET source = 7 WHERE seq IN (2, 4);
             INSERT INTO withheld VALUES (2, 7, 0);
             UPDATE accounts SET watermark = 4, delivered = 2 WHERE lane = 2;",
        )
        .unwrap();
    drop(connection);

    let agent = start(&device);
    agent.until("it tells", |progress| progress.withheld == [(LANE, topic("source-7"))]).await;
    assert_eq!(take(&agent, of("source-7", true, 4, 100)).await, [2, 4]);
    let (delivered, filtered, gaps) = (2, 0, Vec::new());
    let (sources, through) = (vec![7], Seq(4));
    let settle = TopicMark::Settle { lane: LANE, sources, through, delivered, filtered, gaps };
    let release = TopicMark::Release { lane: LANE, topic: topic("source-7") };
    agent.store.mark_all(Vec::new(), vec![settle, release], true, 0).await.unwrap().await.unwrap();

    assert_eq!(agent.account(LANE).delivered, 4);
    agent.assert_balanced().await;
    agent.stop().await;
    let agent = start(&device);
    agent.until("nothing is withheld", |progress| progress.withheld_told > 0).await;
    assert_eq!(agent.store.watch_progress().borrow().withheld, []);
    agent.stop().await;
}

#[test]
fn the_database_that_replaces_a_damaged_one_knows_the_marks_that_were_not_committed_yet() {
    let device = Device::new();
    let mut database = filled(&device, &["a", "b", "c"], 30);
    commit(&mut database, Some((30, 10)), Some(withhold(1, 0)));
    commit(&mut database, None, Some(withhold(2, 0)));
    let release = SourceMark::Release { lane: LANE, sources: vec![1] };
    let source_marks = vec![settle(1, 30, 10), release, settle(2, 15, 5)];
    source_marks.iter().for_each(|mark| database.apply_source_mark(mark));
    database.withheld.note_in_hand(LANE, &[2], 18);

    database.abandon_file().unwrap();
    let sources = sources_of(&["a", "b", "c"]);
    let pulse = Pulse::default();
    crate::db::salvage::replace_database(
        &device.path(),
        Some(&database),
        &sources,
        &pulse,
        &mut |_| (),
    )
    .unwrap();
    let mut database = Database::reopen_database(&device.path(), &database).unwrap();

    assert_eq!(account_of(&mut database).pending, 20, "as it was committed");
    assert!(account_of(&mut database).is_balanced());
    assert_eq!(Vec::from_iter(database.withheld.iter_rows()), [(LANE, 2, 15)]);
    assert!(!database.withheld.is_idle(LANE, 2), "still in hand");
    database.commit_work(&CommitWork { source_marks, ..CommitWork::default() }).unwrap();
    let account = account_of(&mut database);
    assert_eq!((account.delivered, account.pending, account.dropped), (25, 5, 0));
}

#[tokio::test]
async fn records_withheld_while_their_lane_passes_them_stay_pending_behind_a_salvage() {
    let device = Device::new();
    let agent = start(&device);
    let sources = ["a", "b"].map(|name| agent.source(name, "heart_rate"));
    let readings = (0..80).map(|at| number(sources[at % 2], clock::mono(), 70.0)).collect();
    agent.offer(readings).await.unwrap();
    agent.stop().await;
    let agent = start(&device);
    // All are in hand when the store turns out to be damaged.
    assert_eq!(take(&agent, without(0, &[])).await.len(), 80);
    let path = device.path();
    let page = leaves(&path).into_iter().max_by_key(|page| rows_of_page(&path, *page)).unwrap();
    overwrite(&path, page * 1024, &[0; 1024]);
    agent.refresh(&device);
    take(&agent, without(0, &[])).await;
    agent.settle().await;
    assert_eq!(device.set_aside().len(), 1);
    let (before, pass) = (agent.account(LANE), agent.store.watch_progress().borrow().pass.number);

    let delivered = take(&agent, without(0, &["b"])).await.len() as u64;
    let withhold = TopicMark::Withhold { lane: LANE, topic: topic("b"), after: Seq(0) };
    let mark = Mark { lane: LANE, through: Seq(80), delivered, filtered: 0, gaps: Vec::new() };
    agent.store.mark_all(vec![mark], vec![withhold], true, pass).await.unwrap().await.unwrap();

    let account = agent.account(LANE);
    assert_eq!((account.delivered, account.pending), (delivered, before.pending - delivered));
    agent.assert_balanced().await;
    agent.stop().await;
}
