//! Correct times through the store (P8): a reading from before the clock was set has its right time
//! afterwards, and is flagged until then.

use pulsegate_core::time::timeline::ClockTrust;

use super::*;
use crate::db::database;

/// Milliseconds since 1970 of a record's member.
fn time_of(record: &Json, key: &str) -> i64 {
    let timestamp: jiff::Timestamp = record[key].as_str().unwrap().parse().unwrap();
    timestamp.as_millisecond()
}

fn is_flagged(record: &Json) -> bool {
    record["clock"] == "unset"
}

async fn say(agent: &Running, mono: u64, wall: i64, trust: ClockTrust) {
    agent.store.observe_clock(Mono(mono), Wall(wall), trust).await.unwrap();
}

#[tokio::test]
async fn readings_alerts_and_events_from_before_the_clock_was_set_have_the_right_time_afterwards() {
    let mut device = Device::new();
    // A device without a clock chip begins in 1970.
    (device.reference_ms, device.rules) = (0, vec![rules::above(200.0)]);
    let agent = device.start();
    let belt = agent.source("7", "heart_rate");
    say(&agent, 1_000, 1_000, ClockTrust::Unset).await;
    let beats = [(5_000, 250.0), (6_000, 70.0)].map(|(at, bpm)| number(belt, Mono(at), bpm));
    agent.offer(beats.to_vec()).await.unwrap();
    let event = EventRow { event: Event::StoreLost, mono: Mono(7_000) };
    agent.store.append_event(event).await.unwrap();
    agent.store.commit_now().await.unwrap();
    for (lane, at) in [(Lane::Readings, 5_000), (Lane::Alerts, 5_000), (Lane::Events, 7_000)] {
        let records = agent.take_all(lane, 0).await;
        assert!(records.iter().all(is_flagged), "{lane:?}: {records:?}");
        assert_eq!(time_of(&records[0], "time"), at);
    }

    say(&agent, 60_000, NOON, ClockTrust::Trusted).await;
    // And what was in between when the process was killed.
    let killed = device.killed();
    agent.store.commit_now().await.unwrap();
    let flushed = device.killed();
    agent.stop().await;
    drop(killed);

    let agent = flushed.start();
    for (lane, at) in [(Lane::Readings, 5_000), (Lane::Alerts, 5_000), (Lane::Events, 7_000)] {
        let records = agent.take_all(lane, 0).await;
        assert!(!records.iter().any(is_flagged), "{lane:?}: {records:?}");
        assert_eq!(time_of(&records[0], "time"), NOON - 60_000 + at, "{lane:?}");
    }
    agent.stop().await;
}

#[tokio::test]
async fn each_run_of_the_kernel_has_its_own_clock_and_the_one_that_was_never_set_stays_flagged() {
    let mut device = Device::new();
    device.reference_ms = 0;
    let agent = device.start();
    let belt = agent.source("7", "heart_rate");
    say(&agent, 1_000, 1_000, ClockTrust::Unset).await;
    agent.offer(vec![number(belt, Mono(5_000), 71.0)]).await.unwrap();
    agent.stop().await;

    device.kernel_boot = "second";
    let agent = device.start();
    say(&agent, 2_000, NOON, ClockTrust::Trusted).await;
    agent.offer(vec![number(agent.source("7", "heart_rate"), Mono(3_000), 72.0)]).await.unwrap();

    let records = agent.take_all(Lane::Readings, 0).await;
    assert!(is_flagged(&records[0]) && !is_flagged(&records[1]), "{records:?}");
    assert_eq!(time_of(&records[1], "time"), NOON + 1_000);
    agent.stop().await;
}

#[tokio::test]
async fn the_time_that_another_program_gave_is_its_own_and_no_clock_of_ours_changes_it() {
    let mut device = Device::new();
    device.reference_ms = 0;
    let agent = device.start();
    let air = agent.source("air", "number");
    let given = Reading { time: Some(Wall(NOON)), ..number(air, Mono(5_000), 21.5) };
    agent.offer(vec![given]).await.unwrap();
    say(&agent, 60_000, NOON + 86_400_000, ClockTrust::Trusted).await;
    agent.store.commit_now().await.unwrap();

    let records = agent.take_all(Lane::Readings, 0).await;

    assert_eq!(time_of(&records[0], "time"), NOON);
    assert!(!is_flagged(&records[0]));
    agent.stop().await;
}

#[tokio::test]
async fn a_clock_that_falls_back_with_the_power_does_not_take_the_axis_of_the_rules_with_it() {
    let mut device = Device::new();
    let mut last = Wall(i64::MIN);
    // A clock that was right, one that began in 1970, one that remembered an older time.
    for (kernel_boot, reference_ms) in
        [("first", NOON), ("second", 0), ("third", NOON - 86_400_000)]
    {
        (device.kernel_boot, device.reference_ms) = (kernel_boot, reference_ms);
        for _ in 0..2 {
            let options = device.options();
            let mut database = database::Database::open_database(
                &options.path,
                &options.identity,
                Arc::default(),
                &options.pulse,
            )
            .unwrap();
            for at in [0, 1_000, 3_600_000] {
                let event = database.timeline.reference_time(database.epoch, Mono(at));
                assert!(
                    at > 0 || event >= last || kernel_boot == "first",
                    "{kernel_boot}: went back"
                );
                last = last.max(event);
                let readings = vec![number(SourceId(0), Mono(at), 72.0)];
                let work = database::CommitWork { readings, ..Default::default() };
                database.commit_work(&work).unwrap();
            }
            if kernel_boot != "first" {
                last = Wall(i64::MIN);
            }
        }
        let options = device.options();
        let database = database::Database::open_database(
            &options.path,
            &options.identity,
            Arc::default(),
            &options.pulse,
        )
        .unwrap();
        last = database.timeline.reference_time(database.epoch, Mono(3_600_000));
    }
}
