//! Deleted and given-up records: their order, and their report (P3, P10).

use pulsegate_core::time::timeline::ClockTrust;

use super::*;
use crate::db::database::{AlertRow, CommitWork, Database};
use crate::db::retention::{self, RetentionView};
use crate::db::{load, schema};

const HOUR: Duration = Duration::from_secs(3_600);

fn open(device: &Device) -> Database {
    let options = device.options();
    let sources = Arc::new(Sources::default());
    sources.intern_source(Source::new("7", "heart_rate").unwrap()).unwrap();
    Database::open_database(&options.path, &options.identity, sources, &options.pulse).unwrap()
}

/// Writes readings taken at these times on the monotonic clock.
fn record(database: &mut Database, times: impl IntoIterator<Item = u64>) {
    let readings = times.into_iter().map(|at| number(SourceId(0), Mono(at), 72.0)).collect();
    database.commit_work(&CommitWork { readings, ..CommitWork::default() }).unwrap();
}

fn deliver(database: &mut Database, lane: Lane, through: u64, delivered: u64) {
    let marks =
        vec![Mark { lane, through: Seq(through), delivered, filtered: 0, gaps: Vec::new() }];
    database.commit_work(&CommitWork { marks, ..CommitWork::default() }).unwrap();
}

fn set_clock(database: &mut Database, now: u64, wall: i64, trust: ClockTrust) {
    database.timeline.observe_clock(database.epoch, Mono(now), Wall(wall), trust);
    database.commit_work(&CommitWork { clock: true, ..CommitWork::default() }).unwrap();
}

/// Takes steps until there is nothing more to do.
fn retain(database: &mut Database, keep: &Buffer, in_hand: [Seq; 3], now: u64) {
    let look = RetentionView { keep, cap_bytes: keep.max_bytes, in_hand, now: Mono(now) };
    let steps = (0..10_000).take_while(|_| retention::run_step(database, &look).unwrap()).count();
    assert!(steps < 10_000, "retention comes to an end");
}

fn count(database: &Database, table: &str) -> u64 {
    let select = format!("SELECT count(*) FROM {table}");
    database.connection.query_row(&select, [], |row| row.get(0)).unwrap()
}

fn first(database: &Database, table: &str) -> Option<u64> {
    let select = format!("SELECT min(seq) FROM {table}");
    database.connection.query_row(&select, [], |row| row.get(0)).unwrap()
}

fn assert_balanced(database: &mut Database) {
    for account in load::load_accounts(&mut database.connection).unwrap() {
        assert!(account.is_balanced(), "{account:?}");
    }
    assert_counted(Path::new(database.connection.path().unwrap()));
}

/// Lane, first, last, count and reason of the ledger's rows.
fn ledger(database: &Database) -> Vec<(u64, u64, u64, u64, String)> {
    let select = "SELECT lane, first, last, count, reason FROM gaps ORDER BY id";
    let mut select = database.connection.prepare(select).unwrap();
    let row = |row: &rusqlite::Row<'_>| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
    };
    select.query_map([], row).unwrap().map(Result::unwrap).collect()
}

fn events(database: &Database) -> Vec<Json> {
    let mut select = database.connection.prepare("SELECT members FROM events").unwrap();
    let events = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
    events
        .map(|members| serde_json::from_str(&format!("{{{}}}", members.unwrap())).unwrap())
        .collect()
}

#[test]
fn delivered_history_is_forgotten_after_its_time_and_what_is_pending_never() {
    let device = Device::new();
    let mut database = open(&device);
    record(&mut database, (0..100).map(|minute| minute * 60_000));
    deliver(&mut database, Lane::Readings, 80, 80);
    let keep = Buffer { history: HOUR, ..device.keep };

    retain(&mut database, &keep, [Seq(0); 3], 100 * 60_000);
    assert_eq!(first(&database, "readings"), Some(41), "an hour of it stays");
    retain(&mut database, &keep, [Seq(0); 3], 10_000 * 60_000);

    assert_eq!(first(&database, "readings"), Some(81), "what is pending stays");
    assert_eq!(ledger(&database), []);
    assert_balanced(&mut database);
}

#[test]
fn between_two_runs_of_the_kernel_only_clocks_that_are_set_tell_an_age() {
    for (before, after) in [(true, true), (true, false), (false, true), (false, false)] {
        let trust = |set| if set { ClockTrust::Trusted } else { ClockTrust::Unset };
        let mut device = Device::new();
        let mut database = open(&device);
        set_clock(&mut database, 0, NOON, trust(before));
        record(&mut database, 0..10);
        deliver(&mut database, Lane::Readings, 10, 10);
        drop(database);
        device.kernel_boot = "second";

        let mut database = open(&device);
        // The monotonic clock of this run of the kernel says that no time has passed.
        set_clock(&mut database, 0, NOON + 7_200_000, trust(after));
        record(&mut database, [20]);
        retain(&mut database, &Buffer { history: HOUR, ..device.keep }, [Seq(0); 3], 30);

        let forgotten = first(&database, "readings") == Some(11);
        assert_eq!(forgotten, before && after, "set before: {before}, after: {after}");
    }
}

#[test]
fn at_the_cap_the_oldest_delivered_go_first_then_the_oldest_pending_that_are_not_in_hand() {
    let device = Device::new();
    let mut database = open(&device);
    for hour in 0..10 {
        record(&mut database, (0..3_000).map(|i| hour * 3_600_000 + i * 1_000));
    }
    deliver(&mut database, Lane::Readings, 6_000, 6_000);
    let (used, _) = database.measure_size().unwrap();

    let keep = Buffer { max_bytes: used * 95 / 100, ..device.keep };
    retain(&mut database, &keep, [Seq(0); 3], 36_000_000);
    let begin = first(&database, "readings").unwrap();
    assert!((2..=6_001).contains(&begin), "delivered history is enough: {begin}");
    assert_eq!(ledger(&database), []);

    let keep = Buffer { max_bytes: used / 2, ..device.keep };
    let in_hand = [Seq(0), Seq(0), Seq(6_100)];
    retain(&mut database, &keep, in_hand, 36_000_000);

    assert_eq!(first(&database, "readings"), Some(6_001), "what is in hand stays");
    let gap = &ledger(&database)[..];
    let [(2, 6_101, last, count, reason)] = gap else { panic!("one gap: {gap:?}") };
    assert_eq!((*count, reason.as_str()), (last - 6_100, "cap"));
    let told = events(&database);
    assert_eq!(told.len(), 1, "one event, however many steps it took");
    assert_eq!(told[0]["first"], "1-6101");
    assert_eq!(told[0]["last"], format!("1-{last}"));
    assert_eq!(told[0]["count"], *count);
    assert_eq!(told[0]["start"], text(Wall(NOON + 2 * 3_600_000 + 100_000)));
    assert!(database.measure_size().unwrap().0 <= used / 2);
    assert_balanced(&mut database);
}

#[test]
fn a_gap_whose_event_is_on_its_way_does_not_grow_any_more() {
    let device = Device::new();
    let mut database = open(&device);
    record(&mut database, (0..30_000).map(|i| i * 1_000));
    let (used, _) = database.measure_size().unwrap();
    let keep = |share| Buffer { max_bytes: used * share / 10, ..device.keep };
    retain(&mut database, &keep(8), [Seq(0); 3], 30_000_000);
    let event = database.last_seq;

    retain(&mut database, &keep(6), [Seq(0), Seq(event), Seq(0)], 30_000_000);

    let rows = ledger(&database);
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1].1, rows[0].2 + 1, "the second begins behind the first");
    assert_eq!(events(&database)[0]["count"], rows[0].3, "what was told stays as it was told");
    assert_balanced(&mut database);
}

#[test]
fn a_slow_source_is_given_up_reading_by_reading_when_its_time_to_live_ends() {
    let device = Device::new();
    let mut database = open(&device);
    record(&mut database, (0..48).map(|hour| hour * 3_600_000));
    let keep = Buffer { ttl: Some(24 * HOUR), ..device.keep };

    retain(&mut database, &keep, [Seq(0); 3], 48 * 3_600_000);

    assert_eq!(ledger(&database), [(2, 1, 24, 24, "ttl".into())]);
    assert_eq!(first(&database, "readings"), Some(25));
    assert_balanced(&mut database);
}

fn alert(raised: bool, time: i64) -> AlertRow {
    AlertRow {
        rule: "heart rate out of range".into(),
        source: 0,
        raised,
        severity: "warning",
        value: Value::Number(180.0),
        score: None,
        window: None,
        time: Wall(time),
        derived: true,
    }
}

#[test]
fn readings_never_drive_out_alerts_and_events_and_these_are_bounded_all_the_same() {
    let device = Device::new();
    let mut database = open(&device);
    let lost = Event::SourceLost { source: "a".into(), reason: "gone".into() };
    let event = |at: u64| EventRow { event: lost.clone(), mono: Mono(at) };
    let few = CommitWork {
        alerts: vec![alert(true, NOON), alert(false, NOON)],
        events: (0..50).map(event).collect(),
        ..CommitWork::default()
    };
    database.commit_work(&few).unwrap();
    record(&mut database, 0..20_000);
    let keep = |max_bytes| Buffer { max_bytes, ..device.keep };

    retain(&mut database, &keep(100_000), [Seq(0); 3], 30_000);
    assert_eq!((count(&database, "alerts"), count(&database, "events")), (2, 51));
    assert!(count(&database, "readings") > 0);

    // Months of events without a link and without a reading.
    for _ in 0..10 {
        let events = (0..2_000).map(event).collect();
        database.commit_work(&CommitWork { events, ..CommitWork::default() }).unwrap();
    }
    retain(&mut database, &keep(100_000), [Seq(0); 3], 30_000);

    assert!(database.measure_size().unwrap().0 <= 100_000);
    assert_eq!(count(&database, "readings"), 0);
    assert_eq!(count(&database, "alerts"), 2, "alerts are the last that go");
    assert!(ledger(&database).iter().any(|gap| gap.0 == 1));
    assert_balanced(&mut database);
}

#[test]
fn alerts_and_events_are_forgotten_after_their_time_even_where_there_is_no_reading() {
    let device = Device::new();
    let mut database = open(&device);
    let work = CommitWork {
        alerts: vec![alert(true, NOON)],
        events: vec![EventRow { event: Event::StoreLost, mono: Mono(0) }],
        ..CommitWork::default()
    };
    database.commit_work(&work).unwrap();
    deliver(&mut database, Lane::Alerts, 1, 1);
    deliver(&mut database, Lane::Events, 2, 1);
    let keep = Buffer { history: HOUR, ..device.keep };

    retain(&mut database, &keep, [Seq(0); 3], 3_500_000);
    assert_eq!((count(&database, "alerts"), count(&database, "events")), (1, 1));
    retain(&mut database, &keep, [Seq(0); 3], 3_700_000);

    assert_eq!((count(&database, "alerts"), count(&database, "events")), (0, 0));
    assert_eq!(count(&database, "standing"), 1, "it is still raised");
    assert_balanced(&mut database);
}

#[test]
fn history_is_counted_from_when_a_record_arrived_whatever_time_another_program_gave_with_it() {
    let device = Device::new();
    let mut database = open(&device);
    let month_ago = NOON - 30 * 86_400_000;
    set_clock(&mut database, 0, NOON, ClockTrust::Trusted);
    let imported =
        Reading { time: Some(Wall(month_ago)), ..number(SourceId(0), Mono(1_000), 180.0) };
    let raised = AlertRow { derived: false, ..alert(true, month_ago) };
    let work =
        CommitWork { readings: vec![imported], alerts: vec![raised], ..CommitWork::default() };
    database.commit_work(&work).unwrap();
    deliver(&mut database, Lane::Readings, 1, 1);
    deliver(&mut database, Lane::Alerts, 2, 1);
    let keep = Buffer { history: HOUR, ..device.keep };

    retain(&mut database, &keep, [Seq(0); 3], 3_500_000);
    assert_eq!((count(&database, "readings"), count(&database, "alerts")), (1, 1));
    retain(&mut database, &keep, [Seq(0); 3], 3_700_000);

    assert_eq!((count(&database, "readings"), count(&database, "alerts")), (0, 0));
    assert_eq!(count(&database, "alert_arrivals"), 0, "nothing of it is left behind");
    assert_balanced(&mut database);
}

#[test]
fn alerts_that_an_earlier_version_stored_are_kept_from_when_they_arrived_too() {
    let device = Device::new();
    let before = rusqlite::Connection::open(device.path()).unwrap();
    before.execute_batch(&schema::MIGRATIONS[..3].concat()).unwrap();
    before.pragma_update(None, "user_version", 3).unwrap();
    let rows = "INSERT INTO readings VALUES (1, 0, 5000, 180, 5, NULL);
        INSERT INTO alerts VALUES (2, 'r', 0, 1, 'warning', 180, NULL, NULL, 5, NULL);
        INSERT OR REPLACE INTO lanes VALUES (0, 0, 1, 0, 0);";
    before.execute_batch(rows).unwrap();
    drop(before);

    let database = open(&device);

    let arrival = "SELECT mono_ms FROM alert_arrivals WHERE seq = 2";
    let arrival: u64 = database.connection.query_row(arrival, [], |row| row.get(0)).unwrap();
    assert_eq!(arrival, 5_000);
}

#[test]
fn years_of_starts_and_clock_steps_leave_a_bounded_trace() {
    let mut device = Device::new();
    device.keep.history = Duration::ZERO;
    for start in 0..200_u64 {
        device.kernel_boot = Box::leak(format!("kernel-{start}").into_boxed_str());
        let mut database = open(&device);
        for step in 0..3 {
            let wall = NOON + i64::try_from(start * 1_000_000 + step * 5_000).unwrap();
            set_clock(&mut database, step, wall, ClockTrust::Trusted);
        }
        // Every second start records nothing.
        if start % 2 == 0 {
            record(&mut database, 0..10);
            let through = database.last_seq;
            deliver(&mut database, Lane::Readings, through, 10);
        }
        retain(&mut database, &device.keep, [Seq(0); 3], 1_000);
        assert_balanced(&mut database);
    }
    let mut database = open(&device);
    for step in 0..1_000 {
        let wall = NOON + i64::try_from(step * 1_000_000).unwrap();
        set_clock(&mut database, 100 + step, wall, ClockTrust::Unset);
    }

    assert!(count(&database, "boots") <= 3);
    assert!(count(&database, "kernel_boots") <= 3);
    assert!(count(&database, "clock") <= 100);
    assert_eq!(database.identity.boot.counter(), 201, "no start is counted twice");
}
