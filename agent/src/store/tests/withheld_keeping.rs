//! Withheld records at the cap and beyond their `ttl`: given up with a gap even during a trial,
//! without any record of other sources (P3, P10).

use super::*;
use crate::db::database::{CommitWork, Database};
use crate::db::load;
use crate::db::retention::{self, RetentionView};
use crate::db::withheld::{SettledSources, SourceMark};

const LANE: Lane = Lane::Readings;
/// By number: the source whose topic is refused, and one that is allowed.
const REFUSED: u32 = 0;
const ALLOWED: u32 = 1;
const DAY_MS: u64 = 86_400_000;

fn open(device: &Device) -> Database {
    let options = device.options();
    let sources = Arc::new(Sources::default());
    for name in ["refused", "allowed"] {
        sources.intern_source(Source::new(name, "heart_rate").unwrap()).unwrap();
    }
    Database::open_database(&options.path, &options.identity, sources, &options.pulse).unwrap()
}

/// Appends a reading of each of these sources and times.
fn record(database: &mut Database, readings: impl IntoIterator<Item = (u32, u64)>) {
    let reading = |(source, at)| number(SourceId(source), Mono(at), 72.0);
    let readings = readings.into_iter().map(reading).collect();
    database.commit_work(&CommitWork { readings, ..CommitWork::default() }).unwrap();
}

/// Moves the watermark of the lane to its end: all but the refused source is delivered.
fn deliver_allowed(database: &mut Database) {
    let row = database.lanes[LANE.index()];
    let select = "SELECT count(*) FROM readings WHERE seq > ?1 AND source = ?2";
    let delivered = database
        .connection
        .query_row(select, rusqlite::params![row.watermark, ALLOWED], |row| row.get(0))
        .unwrap();
    let (through, filtered, gaps) = (Seq(row.last), 0, Vec::new());
    let marks = vec![Mark { lane: LANE, through, delivered, filtered, gaps }];
    database.commit_work(&CommitWork { marks, ..CommitWork::default() }).unwrap();
}

fn apply(database: &mut Database, mark: SourceMark) {
    database.apply_source_mark(&mark);
    database
        .commit_work(&CommitWork { source_marks: vec![mark], ..CommitWork::default() })
        .unwrap();
}

fn withhold(database: &mut Database) {
    apply(database, SourceMark::Withhold { lane: LANE, sources: vec![REFUSED], after: 0 });
}

fn settle(database: &mut Database, through: u64, delivered: u64) {
    let (lane, sources, filtered, gaps) = (LANE, vec![REFUSED], 0, Vec::new());
    let settled = SettledSources { lane, sources, through, delivered, filtered, gaps };
    apply(database, SourceMark::Settle(settled));
}

/// Takes steps until there is nothing more to do. Nothing of the lane is in hand but what is on trial.
fn retain(database: &mut Database, keep: &Buffer, now: u64) {
    let in_hand = [Seq(0), Seq(0), Seq(database.lanes[LANE.index()].last)];
    let look = RetentionView { keep, cap_bytes: keep.max_bytes, in_hand, now: Mono(now) };
    let steps = (0..10_000).take_while(|_| retention::run_step(database, &look).unwrap()).count();
    assert!(steps < 10_000, "retention comes to an end");
}

fn account(database: &mut Database) -> RecordAccount {
    let account = load::load_accounts(&mut database.connection).unwrap()[LANE.index()];
    assert!(account.is_balanced(), "{account:?}");
    account
}

fn count(database: &Database, select: &str) -> u64 {
    database.connection.query_row(select, [], |row| row.get(0)).unwrap()
}

#[test]
fn what_waits_behind_an_acknowledged_trial_is_given_up_with_a_gap_or_kept() {
    let device = Device::new();
    let mut database = open(&device);
    record(&mut database, (0..6_000).map(|at| (REFUSED, at)));
    withhold(&mut database);
    deliver_allowed(&mut database);
    let nothing = Buffer { max_bytes: 0, ..device.keep };
    let look = |in_hand| RetentionView {
        keep: &nothing,
        cap_bytes: 0,
        in_hand: [Seq(0), Seq(0), Seq(in_hand)],
        now: Mono(10_000),
    };

    database.withheld.note_in_hand(LANE, &[REFUSED], 1);
    for _ in 0..10 {
        retention::run_step(&mut database, &look(6_000)).unwrap();
    }
    settle(&mut database, 1, 1);
    record(&mut database, (0..10).map(|at| (REFUSED, 6_000 + at)));
    deliver_allowed(&mut database);
    let end = database.lanes[LANE.index()].last;
    for _ in 0..10 {
        retention::run_step(&mut database, &look(end)).unwrap();
    }

    let account = account(&mut database);
    assert_eq!(account.delivered, 1);
    assert_eq!(account.dropped, count(&database, "SELECT sum(count) FROM gaps WHERE lane = 2"));
}

#[test]
fn what_a_source_has_in_hand_beside_an_idle_one_is_not_passed_over_for_ever() {
    let device = Device::new();
    let mut database = open(&device);
    record(&mut database, [(REFUSED, 1), (ALLOWED, 2), (REFUSED, 3), (ALLOWED, 4)]);
    let sources = vec![REFUSED, ALLOWED];
    apply(&mut database, SourceMark::Withhold { lane: LANE, sources, after: 0 });
    deliver_allowed_of_none(&mut database);
    let nothing = Buffer { max_bytes: 0, ..device.keep };

    database.withheld.note_in_hand(LANE, &[REFUSED], 1);
    retain(&mut database, &nothing, 1_000);
    account(&mut database);
    settle(&mut database, 1, 1);
    record(&mut database, [(ALLOWED, 5), (REFUSED, 6)]);
    deliver_allowed_of_none(&mut database);
    retain(&mut database, &nothing, 1_000);

    let account = account(&mut database);
    assert_eq!((account.delivered, account.dropped, account.pending), (1, 5, 0));
}

/// Moves the watermark of the lane to its end, over what is withheld only.
fn deliver_allowed_of_none(database: &mut Database) {
    let through = Seq(database.lanes[LANE.index()].last);
    let marks = vec![Mark { lane: LANE, through, delivered: 0, filtered: 0, gaps: Vec::new() }];
    database.commit_work(&CommitWork { marks, ..CommitWork::default() }).unwrap();
}

#[test]
fn after_a_trial_the_cap_gives_up_the_refused_topic_and_not_an_allowed_one() {
    let device = Device::new();
    let mut database = open(&device);
    record(&mut database, (0..16_000).map(|at| (REFUSED, at)));
    withhold(&mut database);
    deliver_allowed(&mut database);
    record(&mut database, (0..4_000).map(|at| (ALLOWED, 16_000 + at)));
    let (used, _) = database.measure_size().unwrap();

    database.withheld.note_in_hand(LANE, &[REFUSED], 1);
    let keep = Buffer { max_bytes: used * 8 / 10, ..device.keep };
    let look =
        |now| RetentionView { keep: &keep, cap_bytes: keep.max_bytes, in_hand: [Seq(0); 3], now };
    let steps = (0..10_000)
        .take_while(|_| retention::run_step(&mut database, &look(Mono(20_000))).unwrap())
        .count();

    assert!(steps < 10_000, "retention comes to an end");
    assert!(database.measure_size().unwrap().0 <= keep.max_bytes, "the cap holds");
    let of = |source| format!("SELECT count(*) FROM readings WHERE source = {source}");
    assert_eq!(count(&database, &of(ALLOWED)), 4_000, "the allowed topic pays nothing");
    assert!(account(&mut database).dropped > 2_000);
    assert_eq!(count(&database, "SELECT count(*) FROM readings WHERE seq = 1"), 1, "in hand");
}

#[test]
fn a_ttl_gives_up_refused_records_alone_and_tells_of_them_in_one_growing_row() {
    let device = Device::new();
    let mut database = open(&device);
    let hour = DAY_MS / 24;
    withhold(&mut database);
    let keep = Buffer {
        ttl: Some(Duration::from_millis(DAY_MS)),
        history: Duration::from_millis(30 * DAY_MS),
        ..device.keep
    };
    database.withheld.note_in_hand(LANE, &[REFUSED], 0);

    for now in 0..72 {
        record(&mut database, [(REFUSED, now * hour), (ALLOWED, now * hour + 1)]);
        deliver_allowed(&mut database);
        retain(&mut database, &keep, now * hour + 2);
    }

    let account = account(&mut database);
    assert_eq!((account.delivered, account.dropped, account.pending), (72, 48, 24));
    let of = |source| format!("SELECT count(*) FROM readings WHERE source = {source}");
    assert_eq!(count(&database, &of(ALLOWED)), 72, "what was delivered stays for its own time");
    assert_eq!(count(&database, &of(REFUSED)), 24);
    assert_eq!(count(&database, "SELECT count(*) FROM gaps"), 1);
    assert_eq!(count(&database, "SELECT count(*) FROM events"), 1);
    assert_eq!(count(&database, "SELECT count FROM gaps"), 48);
}
