//! A stored record comes back unchanged, under an id that is never given twice (P1, P4).

use pulsegate_core::record::reading::HeartDetail;
use pulsegate_sensors::Contact;
use serde_json::json;

use super::*;
use crate::db::{Choice, Reader, schema};
use crate::replay::ReplayPlan;

#[tokio::test]
async fn every_kind_of_value_and_detail_comes_back_as_it_was_appended() {
    let device = Device::new();
    let agent = device.start();
    let (belt, air) = (agent.source("7", "heart_rate"), agent.source("air", "number"));
    let lid = agent.source("feeder", "lid");
    let at = clock::mono();
    let detail = |contact, energy_kj, rr: &[u16]| {
        Some(Box::new(HeartDetail { contact, energy_kj, rr: rr.to_vec() }))
    };
    let numbers = [0.0, -0.0, 21.5, -40.0, 1e300, 5e-324, 9_007_199_254_740_991.0, -1e17];
    let mut readings: Vec<_> = numbers.iter().map(|n| number(air, at, *n)).collect();
    readings.push(Reading { value: Value::State("open".into()), ..number(lid, at, 0.0) });
    readings.push(Reading { value: Value::State("\"\\\u{1}é".into()), ..number(lid, at, 0.0) });
    readings.push(Reading { time: Some(Wall(NOON)), ..number(air, at, 1.0) });
    readings.push(Reading { time: Some(Wall(-1)), ..number(air, at, 1.0) });
    let details = [
        detail(Contact::Lost, None, &[]),
        detail(Contact::Detected, Some(65_535), &[1_024, 512, 65_535]),
        detail(Contact::Unsupported, Some(0), &[1_107]),
    ];
    readings.extend(details.map(|detail| Reading { detail, ..number(belt, at, 72.0) }));

    agent.offer(readings).await.unwrap();

    let records = agent.take_all(Lane::Readings, 0).await;
    for (record, number) in records.iter().zip(numbers) {
        assert_eq!(record["value"].as_f64(), Some(number));
        assert_eq!((&record["kind"], &record["unit"]), (&json!("number"), &json!("celsius")));
    }
    let told: Vec<_> = records[numbers.len()..].to_vec();
    assert_eq!((&told[0]["state"], &told[1]["state"]), (&json!("open"), &json!("\"\\\u{1}é")));
    assert_eq!(told[2]["time"], text(Wall(NOON)));
    assert_eq!(told[3]["time"], "1969-12-31T23:59:59.999Z");
    assert_eq!((&told[4]["contact"], &told[4]["energy_kj"]), (&json!("lost"), &Json::Null));
    assert_eq!(
        (&told[5]["energy_kj"], &told[5]["rr_ms"]),
        (&json!(65_535), &json!("1000.00 500.00 63999.02"))
    );
    assert_eq!((&told[6]["contact"], &told[6]["energy_kj"]), (&Json::Null, &json!(0)));
    agent.stop().await;
}

#[tokio::test]
async fn a_trickle_is_one_commit_an_interval_and_a_burst_waits_for_none() {
    let mut device = Device::new();
    device.keep.commit_interval = Duration::from_secs(3_600);
    let agent = device.start();

    for beat in 0..50 {
        agent.store.append_readings(agent.belt([f64::from(beat)]), None).await.unwrap();
    }
    // The writer has them: what it is asked next it answers after them.
    agent.take(Lane::Readings, 0).await;
    assert_eq!(agent.store.watch_progress().borrow().commits, 0, "a trickle waits for company");
    agent.store.append_readings(agent.belt((0..2_000).map(f64::from)), None).await.unwrap();
    let progress = agent.until("a burst that pauses", |progress| progress.commits > 0).await;

    assert_eq!(progress.commits, 1);
    assert_eq!(agent.account(Lane::Readings).recorded, 2_050);
    agent.stop().await;
}

#[tokio::test]
async fn watermarks_and_sources_survive_a_restart() {
    let device = Device::new();
    let agent = device.start();
    let (lid, air) = (agent.source("feeder", "lid"), agent.source("air", "number"));
    agent.append((0..10).map(f64::from)).await;
    agent.offer(vec![number(air, clock::mono(), 1.0)]).await.unwrap();
    let (through, _) = agent.deliver(Lane::Readings, 0).await;
    agent.append([99.0]).await;
    agent.stop().await;

    let agent = device.start();

    assert_eq!(agent.store.watermarks[Lane::Readings.index()], Seq(through));
    // Asked for in another order, as after a change of the configuration.
    assert_eq!(agent.source("air", "number"), air);
    assert_eq!(agent.source("feeder", "lid"), lid);
    let rest = agent.take_all(Lane::Readings, through).await;
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0]["bpm"], 99);
    agent.assert_balanced().await;
    agent.stop().await;
}

#[tokio::test]
async fn no_record_gets_the_name_of_another_even_when_everything_was_forgotten_or_lost() {
    let mut device = Device::new();
    device.keep.history = Duration::ZERO;
    let mut names = std::collections::HashSet::new();

    for start in 0..6 {
        match start {
            3 => std::fs::remove_file(device.folder.path().join("boot")).unwrap(),
            4 => std::fs::remove_file(device.path()).unwrap(),
            _ => {}
        }
        let agent = device.start();
        agent.append([1.0, 2.0]).await;
        agent.event("started").await;
        for lane in Lane::ALL {
            let mut at = 0;
            loop {
                let (through, records) = agent.deliver(lane, at).await;
                let fresh: Vec<_> =
                    ids(&records).into_iter().filter(|id| names.insert(id.clone())).collect();
                assert_eq!(fresh, ids(&records), "start {start}");
                if records.is_empty() {
                    break;
                }
                at = through;
            }
        }
        agent.assert_balanced().await;
        agent.stop().await;
        empty_lanes(&device.path());
    }
    // And the event that says that the fifth start found nothing.
    assert_eq!(names.len(), 6 * 3 + 1);
}

/// As retention does it after the history, at once.
fn empty_lanes(path: &Path) {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection
        .execute_batch("DELETE FROM readings; DELETE FROM alerts; DELETE FROM events")
        .unwrap();
}

#[test]
fn a_store_that_no_newer_agent_has_opened_can_be_looked_at() {
    for version in 1..=schema::MIGRATIONS.len() {
        let device = Device::new();
        let old = rusqlite::Connection::open(device.path()).unwrap();
        schema::MIGRATIONS[..version].iter().for_each(|step| old.execute_batch(step).unwrap());
        old.pragma_update(None, "user_version", version).unwrap();
        old.execute_batch(FIRST_ROWS).unwrap();
        drop(old);

        let mut reader = Reader::open_readonly(&device.path()).unwrap();

        let (id, alert) = reader.last_alerts(Choice::Last(None, 10)).unwrap().remove(0);
        assert_eq!((id.to_string(), alert.raised, alert.score), ("4-2".into(), true, None));
        assert_eq!(reader.last_alerts(Choice::Behind(Seq(0), 10)).unwrap().len(), 1);
        assert_eq!(reader.last_readings(Choice::Last(None, 10)).unwrap().len(), 1);
        assert_eq!(reader.last_visits(Choice::Last(None, 10)).unwrap(), []);
        assert_eq!(reader.read_accounts().unwrap()[0].recorded, 1);
        let replayed = reader
            .replay_stored(ReplayPlan { rules: &[], visits: &[], charted: None }, |_, _| {})
            .unwrap();
        assert_eq!((replayed.readings, replayed.outcomes.len()), (1, 1));
    }
}

#[tokio::test]
async fn records_keep_the_suffix_of_their_start_for_ever_also_through_a_salvage() {
    let device = Device::new();
    let start = |counter, random| {
        let mut options = device.options();
        options.identity.boot = Boot::new(counter, random);
        let sources = Arc::new(Sources::default());
        let (store, thread) = Store::open_on_thread(options, &sources).unwrap();
        Running { store, thread, sources }
    };
    let first = start(1, 7);
    let receipt = first.append([60.0]).await;
    first.stop().await;
    let second = start(2, 8);
    second.append([61.0]).await;

    let expected = [format!("{}-1", Boot::new(1, 7)), format!("{}-2", Boot::new(2, 8))];
    assert_eq!(&*receipt.start, Boot::new(1, 7).as_str(), "inbox clients are told the same");
    assert_eq!(ids(&second.take_all(Lane::Readings, 0).await), expected);
    second.stop().await;
    let listed = Reader::open_readonly(&device.path())
        .unwrap()
        .last_readings(Choice::Last(None, 10))
        .unwrap();
    assert_eq!(listed.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>(), expected);
    let root: u64 = rusqlite::Connection::open(device.path())
        .unwrap()
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'gaps'", [], |row| row.get(0))
        .unwrap();
    let mut file = std::fs::read(device.path()).unwrap();
    let page = usize::try_from(root - 1).unwrap() * 1024;
    file[page..page + 1024].fill(0);
    std::fs::write(device.path(), file).unwrap();
    let third = start(3, 9);
    assert!(third.store.watch_progress().borrow().set_aside.is_some(), "it was salvaged");
    assert_eq!(ids(&third.take_all(Lane::Readings, 0).await), expected);
    third.stop().await;
}

/// A reading and an alert, as the first version wrote them.
const FIRST_ROWS: &str = "
    INSERT INTO kernel_boots VALUES (1, 'first', 0);
    INSERT INTO boots VALUES (4, 1, 1); INSERT INTO sources VALUES (0, '7', 'heart_rate');
    INSERT INTO readings VALUES (1, 0, 5, 72, NULL, NULL);
    INSERT INTO alerts VALUES (2, 'r', 0, 1, 'warning', 150, NULL, NULL, 5, 1);
    INSERT OR REPLACE INTO lanes VALUES (0, 0, 1, 0, 0);";

#[tokio::test]
async fn a_store_of_the_first_version_is_read_on_and_the_first_version_can_read_this_one() {
    let device = Device::new();
    let first = rusqlite::Connection::open(device.path()).unwrap();
    first.pragma_update(None, "journal_mode", "WAL").unwrap();
    first.execute_batch(schema::MIGRATIONS[0]).unwrap();
    first.pragma_update(None, "user_version", 1).unwrap();
    first.execute_batch(FIRST_ROWS).unwrap();
    drop(first);

    let agent = device.start();
    agent.append([80.0]).await;

    assert_eq!(agent.store.boot.counter(), 5);
    assert_eq!(ids(&agent.take_all(Lane::Readings, 0).await), ["4-1", "5-3"]);
    let alerts = agent.take_all(Lane::Alerts, 0).await;
    assert_eq!((&alerts[0]["seq"], &alerts[0]["state"]), (&json!("4-2"), &json!("raised")));
    agent.stop().await;
    // What version 1 asks for, it still finds; and what it writes, this version finds.
    let first = rusqlite::Connection::open(device.path()).unwrap();
    let seqs: u64 = first
        .query_row("SELECT sum(seq) FROM (SELECT seq, source, mono_ms, value, time_ms, detail FROM readings)", [], |row| row.get(0))
        .unwrap();
    assert_eq!(seqs, 1 + 3);
    first
        .execute_batch("INSERT INTO alerts VALUES (6, 'new', 0, 1, 'info', 1, NULL, NULL, 5, 1)")
        .unwrap();
    let standing: u64 = first
        .query_row("SELECT count(*) FROM standing WHERE rule = 'new'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(standing, 1);
}

#[tokio::test]
async fn the_accounts_of_the_version_before_are_taken_over_and_that_version_can_go_on_with_them() {
    let device = Device::new();
    let before = rusqlite::Connection::open(device.path()).unwrap();
    before.pragma_update(None, "journal_mode", "WAL").unwrap();
    before.execute_batch(&schema::MIGRATIONS[..7].concat()).unwrap();
    before.pragma_update(None, "user_version", 7).unwrap();
    // Of the readings one is delivered, one filtered, and three are pending.
    let written = "
        INSERT INTO readings SELECT 2 + value, 0, 5, 72, NULL, NULL FROM json_each('[1,2,3,4]');
        INSERT OR REPLACE INTO lanes VALUES (2, 3, 2, 1, 0);
        INSERT INTO meta VALUES ('filtered', 1);";
    before.execute_batch(&[FIRST_ROWS, written].concat()).unwrap();
    drop(before);
    let expected = |delivered, pending| RecordAccount {
        recorded: 5,
        delivered,
        pending,
        dropped: 0,
        filtered: 1,
    };

    let agent = device.start();
    agent.store.commit_now().await.unwrap();
    assert_eq!(agent.account(Lane::Readings), expected(1, 3));
    // The alert, and that it is cleared, since no rule watches it any more.
    assert_eq!(agent.account(Lane::Alerts).pending, 2);
    agent.assert_balanced().await;
    agent.stop().await;
    let before = rusqlite::Connection::open(device.path()).unwrap();
    let watermark = "SELECT watermark FROM lanes WHERE lane = 2";
    let watermark: u64 = before.query_row(watermark, [], |row| row.get(0)).unwrap();
    assert_eq!(watermark, 3);
    before.execute_batch("INSERT OR REPLACE INTO lanes VALUES (2, 5, 5, 3, 0)").unwrap();
    drop(before);

    let agent = device.start();
    assert_eq!(agent.store.watch_progress().borrow().set_aside, None);
    assert_eq!(agent.account(Lane::Readings), expected(3, 1));
    agent.assert_balanced().await;
    agent.stop().await;
}

/// The version before writes no row of a lane when only filtered records were settled.
#[tokio::test]
async fn readings_filtered_by_the_version_before_are_not_pending() {
    let device = Device::new();
    let agent = device.start();
    agent.append([60.0, 61.0, 62.0]).await;
    let mark =
        Mark { lane: Lane::Readings, through: Seq(3), delivered: 1, filtered: 2, gaps: Vec::new() };
    agent.store.mark(vec![mark], true).await.unwrap().await.unwrap();
    agent.append([63.0]).await;
    agent.stop().await;
    let before = rusqlite::Connection::open(device.path()).unwrap();
    let pending = "SELECT pending FROM accounts WHERE lane = 2";
    let pending: Option<u64> = before.query_row(pending, [], |row| row.get(0)).unwrap();
    assert_eq!(pending, Some(0), "this version wrote the number");
    // The source of the fourth reading is withheld, behind the watermark of the lane.
    let withheld = "
        INSERT INTO withheld VALUES (2, 0, 3);
        INSERT OR REPLACE INTO lanes VALUES (2, 4, 3, 1, 0);
        UPDATE accounts SET recorded = 4, pending = 1 WHERE lane = 2;";
    before.execute_batch(withheld).unwrap();
    let settled = "
        UPDATE withheld SET after = 4;
        INSERT OR REPLACE INTO meta VALUES ('filtered', 3);";
    before.execute_batch(settled).unwrap();
    drop(before);

    let agent = device.start();

    assert_eq!(agent.store.watch_progress().borrow().set_aside, None);
    let account = agent.account(Lane::Readings);
    assert_eq!((account.recorded, account.delivered), (4, 1));
    assert_eq!((account.pending, account.filtered), (0, 3));
    agent.assert_balanced().await;
    agent.stop().await;
}
