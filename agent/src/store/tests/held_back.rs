//! A backlog that a filter holds back as a whole (A18): the publisher skips the backlog in steps,
//! so that commits come in between, and skips nothing twice.

use pulsegate_core::cloud::filter::{FilterSpec, FilterTest};

use super::*;

const LANE: Lane = Lane::Readings;
/// Rows that one walk passes over at most.
const STEP: u64 = 10_000;
/// Two and a half walks.
const BACKLOG: u64 = 25_000;

fn start(device: &Device) -> Running {
    let mut options = device.options();
    let mut formats = Formats::clone(&options.formats);
    let high = FilterTest { above: Some(200.0), ..FilterTest::default() };
    formats.filters.readings = FilterSpec { keep: vec![high], ..FilterSpec::default() };
    options.formats = Arc::new(formats);
    let sources = Arc::new(Sources::default());
    let (store, thread) = Store::open_on_thread(options, &sources).unwrap();
    Running { store, thread, sources }
}

/// Walks one step on from the place `after` and marks it as the publisher would. Returns the place that
/// was reached, and the bodies of the messages.
async fn walk(agent: &Running, after: u64) -> (u64, Vec<Json>) {
    let taken = agent.store.take(LANE, Seq(after), usize::MAX, true).await.unwrap();
    let TakeOutcome::Group(group) = taken else { panic!("nothing behind {after}: {taken:?}") };
    let records: Vec<Json> = group
        .batches
        .iter()
        .flat_map(|batch| serde_json::from_slice::<Vec<Json>>(&batch.payload).unwrap())
        .collect();
    let filtered = group.filtered.iter().map(|(_, count)| count).sum();
    let delivered = records.len() as u64;
    let mark = Mark { lane: LANE, through: group.through, delivered, filtered, gaps: Vec::new() };
    agent.store.mark(vec![mark], true).await.unwrap().await.unwrap();
    (group.through.0, records)
}

#[tokio::test]
async fn a_backlog_that_a_filter_holds_back_is_walked_in_steps_and_a_restart_goes_on_from_there() {
    let device = Device::new();
    let agent = start(&device);
    let first = agent.append((0..BACKLOG).map(|_| 60.0)).await.first_seq;
    agent.append([250.0]).await;

    let (mut at, records) = walk(&agent, 0).await;
    assert_eq!((at, records.len()), (first + STEP - 1, 0), "one step, and no further");
    let account = agent.account(LANE);
    assert_eq!((account.filtered, account.pending), (STEP, BACKLOG + 1 - STEP));
    let killed = device.killed();
    agent.stop().await;

    let agent = start(&killed);
    assert_eq!(agent.store.watermarks[LANE.index()], Seq(at), "what was reached is kept");
    (at, _) = walk(&agent, at).await;
    assert_eq!(at, first + 2 * STEP - 1);
    let account = agent.account(LANE);
    assert_eq!((account.filtered, account.pending), (2 * STEP, BACKLOG + 1 - 2 * STEP));
    // The writer took this in between two steps.
    agent.append([251.0]).await;
    let (_, records) = walk(&agent, at).await;
    assert_eq!(records.iter().map(|record| &record["bpm"]).collect::<Vec<_>>(), [250, 251]);
    let account = agent.account(LANE);
    assert_eq!((account.filtered, account.delivered, account.pending), (BACKLOG, 2, 0));
    agent.assert_balanced().await;
    agent.stop().await;
}
