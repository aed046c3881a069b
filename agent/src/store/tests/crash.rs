//! Power cuts (P1). A copy of the files while the writer works stands in for a power cut: it holds
//! the data given to the kernel, in any state between two commits. With the log cut off at any
//! byte, the copy also stands in for a card that has written part of the log. Only a real device
//! can show a card that writes pages in another order, or half a page.

use std::collections::BTreeSet;

use super::*;

/// Opens what a power cut left, and checks that everything that was durable is there.
async fn assert_survived(device: Device, durable: &BTreeSet<(u32, u64)>, what: &str) {
    let agent = device.start();
    assert_eq!(agent.store.watch_progress().borrow().set_aside, None, "{what}: taken for damaged");
    let records = agent.take_all(Lane::Readings, 0).await;
    let there: Vec<_> = ids(&records).iter().map(|id| place(id)).collect();
    assert!(there.is_sorted() && there.windows(2).all(|pair| pair[0] != pair[1]), "{what}");
    let there = BTreeSet::from_iter(there);
    let lost: Vec<_> = durable.difference(&there).collect();
    assert!(lost.is_empty(), "{what}: lost {lost:?}");
    agent.assert_balanced().await;
    let next = agent.append([1.0]).await;
    assert!(there.iter().all(|at| *at < (counter(&next), next.first_seq)), "{what}: a name again");
    agent.stop().await;
}

#[tokio::test]
async fn whatever_was_answered_as_durable_is_there_after_a_power_cut_at_any_moment() {
    let mut random = random();
    let mut device = Device::new();
    device.keep.commit_interval = Duration::from_millis(2);
    let agent = device.start();
    let mut durable = BTreeSet::new();
    let (mut cuts, mut delivered) = (Vec::new(), 0);

    for round in 0..40 {
        let (answer, answered) = oneshot::channel();
        let count = random.u64(1..300);
        let values = (0..count).map(|_| f64::from(random.u32(40..200)));
        agent.store.append_readings(agent.belt(values), Some(answer)).await.unwrap();
        if round % 4 == 0 {
            // While the commit is on its way: what is durable is what was before.
            cuts.push((device.killed(), durable.clone(), format!("round {round}, during")));
        }
        let receipt = answered.await.unwrap().unwrap();
        durable.extend((0..count).map(|i| (counter(&receipt), receipt.first_seq + i)));
        if round % 3 == 0 {
            // The accounts change with what is acknowledged, and not with what only arrives.
            (delivered, _) = agent.deliver(Lane::Readings, delivered).await;
        }
        if round % 4 == 2 {
            cuts.push((device.killed(), durable.clone(), format!("round {round}, after")));
        }
    }
    agent.stop().await;

    for (device, durable, what) in cuts {
        assert_survived(device, &durable, &what).await;
    }
}

#[tokio::test]
async fn a_log_that_is_cut_off_anywhere_costs_only_what_came_after() {
    let mut random = random();
    let device = Device::new();
    let agent = device.start();
    let log = device.folder.path().join("pulsegate.db-wal");
    let mut commits = vec![(0, BTreeSet::new())];
    let mut durable = BTreeSet::new();
    for _ in 0..12 {
        let count = random.u64(1..100);
        let receipt = agent.append((0..count).map(|_| 72.0)).await;
        durable.extend((0..count).map(|i| (counter(&receipt), receipt.first_seq + i)));
        commits.push((std::fs::metadata(&log).unwrap().len(), durable.clone()));
    }
    let whole = device.killed();
    agent.stop().await;

    let first = commits[1].0;
    for _ in 0..25 {
        let cut = random.u64(first..=commits.last().unwrap().0);
        let device = whole.killed();
        let log = device.folder.path().join("pulsegate.db-wal");
        std::fs::OpenOptions::new().write(true).open(log).unwrap().set_len(cut).unwrap();
        // The boot counter was durable before the first record.
        let (_, durable) = commits.iter().rev().find(|(length, _)| *length <= cut).unwrap();
        assert_survived(device, durable, &format!("cut at {cut}")).await;
    }
}

#[tokio::test]
async fn a_power_cut_after_a_checkpoint_or_in_a_new_start_loses_nothing() {
    let device = Device::new();
    let agent = device.start();
    let mut durable = BTreeSet::new();
    // More than the log holds before it is moved into the database.
    for _ in 0..6 {
        let receipt = agent.append((0..40_000).map(|beat| f64::from(beat) + 0.5)).await;
        durable.extend((0..40_000).map(|i| (counter(&receipt), receipt.first_seq + i)));
    }
    let cut = device.killed();
    agent.stop().await;
    assert!(std::fs::metadata(cut.path()).unwrap().len() > 2 << 20, "there was a checkpoint");

    let agent = cut.start();
    let receipt = agent.append([1.0]).await;
    durable.insert((counter(&receipt), receipt.first_seq));
    let again = cut.killed();
    agent.stop().await;

    assert_survived(again, &durable, "two cuts").await;
}

/// The zeros behind the frames are no frames, and frames are written over them without changing the length.
#[tokio::test]
async fn a_log_that_is_filled_in_advance_loses_nothing_in_a_power_cut() {
    let device = Device::new();
    let agent = device.start();
    let log = device.folder.path().join("pulsegate.db-wal");
    let length = || std::fs::metadata(&log).unwrap().len();
    // Each new configuration lets the writer look at its room at once; filling needs a log that grew in between.
    let look = async || {
        agent.store.apply_configuration(device.keep, Arc::default(), formats()).await.unwrap();
        // The second commit is of a later round: the look of the first round has ended.
        agent.store.commit_now().await.unwrap();
        agent.store.commit_now().await.unwrap();
    };
    let mut durable = BTreeSet::new();
    let mut append = async |count: u64| {
        let receipt = agent.append((0..count).map(|_| 72.0)).await;
        durable.extend((0..count).map(|i| (counter(&receipt), receipt.first_seq + i)));
    };
    append(10).await;
    let grown = length();
    // The first look, which the start may have taken already, only notes the length.
    look().await;
    append(10).await;
    look().await;
    let filled = length();
    assert!(filled > grown + (64 << 10), "{filled} bytes after {grown}");

    for _ in 0..20 {
        append(10).await;
    }

    assert_eq!(length(), filled, "commits write over the zeros");
    let cut = device.killed();
    agent.stop().await;
    assert_survived(cut, &durable, "filled").await;
}

/// A mark that is called durable too early lets a crash repeat more than the window (P4).
#[tokio::test]
async fn a_moved_watermark_is_called_durable_only_after_its_commit() {
    let mut device = Device::new();
    device.keep.commit_interval = Duration::from_secs(3_600);
    let agent = device.start();
    agent.store.append_readings(agent.belt([72.0, 73.0]), None).await.unwrap();
    agent.store.commit_now().await.unwrap();
    let watermark = || {
        let connection = crate::db::schema::open_reader(&device.path()).unwrap();
        let select = "SELECT watermark FROM lanes WHERE lane = 2";
        connection.query_row(select, [], |row| row.get::<_, u64>(0)).unwrap()
    };
    let (through, records) = agent.take(Lane::Readings, 0).await;
    assert_eq!(records.len(), 2);

    let lane = Lane::Readings;
    let mark = Mark { lane, through: Seq(through), delivered: 2, filtered: 0, gaps: Vec::new() };
    let mut durable = agent.store.mark(vec![mark], false).await.unwrap();
    // The writer answers a later request after it has seen the mark.
    agent.take(Lane::Readings, through).await;
    assert_eq!((durable.try_recv().ok(), watermark()), (None, 0), "nothing is committed yet");
    agent.store.commit_now().await.unwrap();

    durable.await.unwrap();
    assert_eq!(watermark(), through);
    agent.stop().await;
}

/// SQLite ends its log at the first frame that is not whole, as it must after a power cut. So what
/// a card spoils in the middle of the log costs what came after it, and nothing tells that it was
/// there: this is the one loss without a word, of at most what is behind the last checkpoint.
#[tokio::test]
async fn a_log_that_is_spoilt_costs_only_what_came_after_and_never_the_start() {
    let mut random = random();
    let device = Device::new();
    let agent = device.start();
    for _ in 0..12 {
        agent.append((0..50).map(|_| 72.0)).await;
    }
    let whole = device.killed();
    agent.stop().await;

    for round in 0..20 {
        let device = whole.killed();
        let log = device.folder.path().join("pulsegate.db-wal");
        let mut content = std::fs::read(&log).unwrap();
        let at = random.usize(..content.len());
        content[at] ^= 1 << random.u32(..8);
        std::fs::write(&log, content).unwrap();
        assert_survived(device, &BTreeSet::new(), &format!("round {round}, byte {at}")).await;
    }
}
