//! A store that belonged to another thing: no record is published under a wrong name, and none is
//! lost.

use super::*;
use crate::config::Backlog;
use crate::db::owner::StoreChoice;
use crate::db::{choose_store, kept_aside};

/// Starts on a device as `thing`.
fn start(device: &Device, thing: &str, backlog: Backlog) -> (Running, Option<ThingChange>) {
    start_at(device, device.path(), thing, backlog)
}

/// The same with a store at `path`.
fn start_at(
    device: &Device,
    path: PathBuf,
    thing: &str,
    backlog: Backlog,
) -> (Running, Option<ThingChange>) {
    let StoreChoice { path, change: thing_change, .. } = choose_store(&path, thing, backlog);
    let mut options =
        StoreOptions { path, thing_change: thing_change.clone(), backlog, ..device.options() };
    options.identity.thing = thing.into();
    let sources = Arc::new(Sources::default());
    let (store, thread) = Store::open_on_thread(options, &sources).unwrap();
    (Running { store, thread, sources }, thing_change)
}

/// A device that recorded three readings as `old` and delivered one of them.
async fn recorded_as_old() -> Device {
    let device = Device::new();
    let (agent, change) = start(&device, "old", Backlog::Keep);
    assert_eq!(change, None);
    agent.append([60.0]).await;
    agent.deliver(Lane::Readings, 0).await;
    agent.append([61.0, 62.0]).await;
    agent.stop().await;
    device
}

async fn values(agent: &Running) -> Vec<f64> {
    let from = agent.store.watermarks[Lane::Readings.index()].0;
    let records = agent.take_all(Lane::Readings, from).await;
    records.iter().map(|record| record["bpm"].as_f64().unwrap()).collect()
}

async fn changes(agent: &Running) -> Vec<Json> {
    agent.store.commit_now().await.unwrap();
    let mut events = agent.take_all(Lane::Events, 0).await;
    events.retain(|event| event["event"] == "thing_changed" || event["event"] == "gap");
    events
}

#[tokio::test]
async fn what_another_thing_recorded_is_kept_aside_and_delivered_under_its_own_name() {
    let device = recorded_as_old().await;

    let (agent, change) = start(&device, "new", Backlog::Keep);
    agent.append([90.0]).await;
    assert_eq!(values(&agent).await, [90.0], "nothing of the other thing");
    assert_eq!(change.map(|change| (change.from, change.pending)), Some(("old".into(), [0, 0, 2])));
    let told = changes(&agent).await;
    assert_eq!((&told[0]["from"], &told[0]["backlog"]), (&"old".into(), &"kept".into()));
    assert_eq!(told.len(), 1, "no store was lost");
    let kept = kept_aside(&device.path());
    assert_eq!((&*kept[0].1, kept[0].2, kept.len()), ("old", [0, 0, 2], 1));
    agent.stop().await;

    // The same thing once more: nothing is asked.
    let (agent, change) = start(&device, "new", Backlog::Keep);
    assert_eq!((change, values(&agent).await), (None, vec![90.0]));
    agent.stop().await;

    let (agent, _) = start(&device, "old", Backlog::Keep);
    assert_eq!(values(&agent).await, [61.0, 62.0]);
    assert_eq!(kept_aside(&device.path())[0].1, "new", "and now this one waits");
    agent.assert_balanced().await;
    agent.stop().await;
}

#[tokio::test]
async fn what_another_thing_recorded_is_published_as_this_ones_if_that_is_asked_for() {
    let device = recorded_as_old().await;

    let (agent, change) = start(&device, "new", Backlog::Publish);

    agent.append([90.0]).await;
    assert!(change.is_some());
    assert_eq!(values(&agent).await, [61.0, 62.0, 90.0]);
    assert_eq!(changes(&agent).await[0]["backlog"], "published");
    assert_eq!(kept_aside(&device.path()), []);
    agent.assert_balanced().await;
    agent.stop().await;
}

#[tokio::test]
async fn what_another_thing_recorded_is_given_up_with_a_gap_if_that_is_asked_for() {
    let device = recorded_as_old().await;

    let (agent, _) = start(&device, "new", Backlog::Drop);

    agent.append([90.0]).await;
    assert_eq!(values(&agent).await, [90.0]);
    let told = changes(&agent).await;
    let gap = told.iter().find(|event| event["event"] == "gap").unwrap();
    assert_eq!((&gap["reason"], &gap["count"]), (&"other_thing".into(), &2.into()));
    assert_eq!(agent.account(Lane::Readings).dropped, 2);
    agent.assert_balanced().await;
    agent.stop().await;
}

#[tokio::test]
async fn what_is_withheld_of_another_thing_is_given_up_with_the_rest() {
    let device = recorded_as_old().await;
    let connection = rusqlite::Connection::open(device.path()).unwrap();
    // The second of three is withheld, the third behind it was delivered.
    let withheld = "INSERT INTO withheld VALUES (2, 0, 1); INSERT INTO withheld VALUES (2, 5, 1);
        UPDATE readings SET source = 5 WHERE seq = 3; UPDATE withheld SET after = 3 WHERE source = 5;
        UPDATE accounts SET watermark = 3, delivered = 2, pending = NULL WHERE lane = 2;";
    connection.execute_batch(withheld).unwrap();
    drop(connection);

    let (agent, change) = start(&device, "new", Backlog::Drop);

    agent.append([90.0]).await;
    assert_eq!(change.unwrap().pending, [0, 0, 1]);
    let account = agent.account(Lane::Readings);
    assert_eq!((account.dropped, account.pending), (1, 1));
    agent.assert_balanced().await;
    agent.stop().await;
}

/// The row of the only pending record is gone, and the account still counts it.
#[tokio::test]
async fn records_of_another_thing_are_given_up_by_their_count_when_their_rows_are_gone() {
    let device = recorded_as_old().await;
    let connection = rusqlite::Connection::open(device.path()).unwrap();
    // The second of three is withheld, the third behind it was delivered.
    let vanished = "INSERT INTO withheld VALUES (2, 0, 1); DELETE FROM readings WHERE seq = 2;
        UPDATE readings SET source = 5 WHERE seq = 3;
        INSERT OR REPLACE INTO lanes VALUES (2, 3, 3, 2, 0);
        UPDATE accounts SET pending = 1 WHERE lane = 2;";
    connection.execute_batch(vanished).unwrap();
    drop(connection);

    let (agent, change) = start(&device, "new", Backlog::Drop);

    agent.append([90.0]).await;
    assert_eq!(change.unwrap().pending, [0, 0, 1]);
    let told = changes(&agent).await;
    let gap = told.iter().find(|event| event["event"] == "gap").unwrap();
    assert_eq!((&gap["reason"], &gap["count"]), (&"other_thing".into(), &1.into()));
    let account = agent.account(Lane::Readings);
    assert_eq!((account.recorded, account.dropped, account.pending), (4, 1, 1));
    agent.assert_balanced().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_store_that_is_delivered_or_of_an_earlier_version_goes_on_under_any_name() {
    let device = Device::new();
    let (agent, _) = start(&device, "old", Backlog::Keep);
    agent.append([60.0]).await;
    agent.deliver(Lane::Readings, 0).await;
    agent.stop().await;
    let (agent, change) = start(&device, "new", Backlog::Keep);
    agent.append([61.0]).await;
    assert_eq!((change, values(&agent).await), (None, vec![61.0]));
    agent.stop().await;
    let connection = rusqlite::Connection::open(device.path()).unwrap();
    connection.execute("DELETE FROM starts", []).unwrap();
    drop(connection);

    let (agent, change) = start(&device, "newer", Backlog::Keep);

    assert_eq!((change, values(&agent).await), (None, vec![61.0]));
    agent.stop().await;
}

/// Moves the store into a folder of its own, which can be away like a card that is not mounted.
fn move_to_own_folder(device: &Device) -> PathBuf {
    let place = device.folder.path().join("place");
    std::fs::create_dir(&place).unwrap();
    std::fs::rename(device.path(), place.join(FILE)).unwrap();
    place.join(FILE)
}

/// Starts as `new` while the folder of the store is away, records 90, and brings the folder back. The agent
/// has taken up the store and has ended then.
async fn record_while_away(
    device: &Device,
    path: &Path,
    backlog: Backlog,
    known: Option<ThingChange>,
) {
    let place = path.parent().unwrap();
    let away = device.folder.path().join("away");
    std::fs::rename(place, &away).unwrap();
    let mut options =
        StoreOptions { path: path.to_owned(), thing_change: known, backlog, ..device.options() };
    options.identity.thing = "new".into();
    let sources = Arc::new(Sources::default());
    let (store, thread) = Store::open_on_thread(options, &sources).unwrap();
    let agent = Running { store, thread, sources };
    agent.store.append_readings(agent.belt([90.0]), None).await.unwrap();
    agent.store.commit_now().await.unwrap();
    assert!(agent.store.watch_progress().borrow().is_in_memory, "there is a store");
    std::fs::rename(&away, place).unwrap();
    // The agent ends instead of an answer.
    agent.store.commit_now().await.ok();
    tokio::task::spawn_blocking(|| agent.thread.join().unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_start_in_memory_gives_up_what_another_thing_recorded_when_the_store_is_back() {
    for is_known in [true, false] {
        let device = recorded_as_old().await;
        let path = move_to_own_folder(&device);
        let known = is_known.then(|| choose_store(&path, "new", Backlog::Drop).change.unwrap());

        record_while_away(&device, &path, Backlog::Drop, known).await;

        let (agent, _) = start_at(&device, path, "new", Backlog::Drop);
        assert_eq!(values(&agent).await, [90.0], "published under another name");
        let told = changes(&agent).await;
        let gap = told.iter().find(|event| event["event"] == "gap").unwrap();
        assert_eq!((&gap["reason"], &gap["count"]), (&"other_thing".into(), &2.into()));
        let changed = |event: &&Json| event["event"] == "thing_changed";
        assert_eq!(told.iter().filter(changed).count(), 1, "{told:?}");
        agent.stop().await;
    }
}

#[tokio::test]
async fn a_start_in_memory_keeps_aside_what_another_thing_recorded_when_the_store_is_back() {
    let device = recorded_as_old().await;
    let path = move_to_own_folder(&device);

    record_while_away(&device, &path, Backlog::Keep, None).await;

    let (agent, _) = start_at(&device, path.clone(), "new", Backlog::Keep);
    assert_eq!(values(&agent).await, [90.0], "published under another name");
    assert_eq!(changes(&agent).await.len(), 1);
    let kept = kept_aside(&path);
    assert_eq!((&*kept[0].1, kept[0].2, kept.len()), ("old", [0, 0, 2], 1));
    agent.stop().await;
}
