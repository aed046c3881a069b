//! Rules across restarts and changes of the configuration.

use pulsegate_core::rules::{
    Action, BACKLOG_ALERTS, Clear, Condition, Member, Range, Severity, Take, Test, WindowSpec,
};
use pulsegate_core::time::timeline::ClockTrust;

use super::*;

/// A heart rate above `limit` is an alert.
pub(super) fn above(limit: f64) -> RuleSpec {
    RuleSpec {
        name: "heart rate out of range".into(),
        on: Some("heart_rate".into()),
        source: None,
        condition: Condition::Reading(Test::Outside(Range { above: Some(limit), below: None })),
        window: None,
        limits: Vec::new(),
        hold_for: Duration::ZERO,
        clear: Clear::default(),
        at_most_every: None,
        severity: Severity::Warning,
        then: vec![Action::Alert],
    }
}

fn states(alerts: &[Json]) -> Vec<&str> {
    alerts.iter().map(|alert| alert["state"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_alert_is_committed_at_once_with_its_reading_and_raised_once_however_often_it_starts() {
    let mut device = Device::new();
    device.rules = vec![above(200.0)];
    device.keep.commit_interval = Duration::from_secs(3_600);
    let agent = device.start();

    agent.store.append_readings(agent.belt([250.0]), None).await.unwrap();
    let progress = agent.until("the alert", |progress| progress.commits > 0).await;

    assert_eq!(progress.last.map(|last| last.0), [2, 0, 1]);
    agent.stop().await;
    device.keep = Device::new().keep;
    for _ in 0..3 {
        let agent = device.start();
        agent.append([251.0]).await;
        assert_eq!(states(&agent.take_all(Lane::Alerts, 0).await), ["raised"]);
        agent.stop().await;
    }
    let agent = device.start();
    agent.append([70.0]).await;
    assert_eq!(states(&agent.take_all(Lane::Alerts, 0).await), ["raised", "cleared"]);
    agent.stop().await;
}

#[tokio::test]
async fn a_rule_that_cannot_run_is_off_alone_and_told_until_it_is_corrected() {
    let mut device = Device::new();
    let clear = Clear { above: Some(1.0), ..Clear::default() };
    let wrong = RuleSpec { name: "wrong".into(), clear, ..above(100.0) };
    device.rules = vec![wrong.clone(), above(200.0)];
    let agent = device.start();

    agent.append([250.0]).await;

    assert_eq!(states(&agent.take_all(Lane::Alerts, 0).await), ["raised"]);
    let told = agent.store.watch_progress().borrow().rules_off.clone();
    assert!(
        told.len() == 1 && told[0].starts_with("rule `wrong` cannot run: `above` of `clear`"),
        "{told:?}"
    );
    let right = RuleSpec { clear: Clear::default(), ..wrong };
    let rules = Arc::new(vec![right, above(200.0)]);
    agent.store.apply_configuration(device.keep, rules, formats()).await.unwrap();
    agent.append([251.0]).await;
    assert!(agent.store.watch_progress().borrow().rules_off.is_empty());
    assert_eq!(states(&agent.take_all(Lane::Alerts, 0).await), ["raised", "raised"]);
    agent.stop().await;
}

#[tokio::test]
async fn an_alert_that_no_rule_watches_any_more_is_cleared_when_the_configuration_changes() {
    let mut device = Device::new();
    device.rules = vec![above(200.0)];
    let agent = device.start();
    agent.append([250.0]).await;
    let keep = device.keep;

    // The same rule with another limit still watches it.
    agent.store.apply_configuration(keep, Arc::new(vec![above(220.0)]), formats()).await.unwrap();
    agent.store.commit_now().await.unwrap();
    assert_eq!(states(&agent.take_all(Lane::Alerts, 0).await), ["raised"]);
    for _ in 0..2 {
        agent.store.apply_configuration(keep, Arc::new(Vec::new()), formats()).await.unwrap();
        agent.store.commit_now().await.unwrap();
        let alerts = agent.take_all(Lane::Alerts, 0).await;
        assert_eq!(states(&alerts), ["raised", "cleared"], "once");
        assert_eq!(alerts[1]["severity"], "warning");
        assert_eq!(alerts[1]["source"], "7");
    }
    agent.stop().await;
}

#[tokio::test]
async fn an_alert_is_cleared_at_the_start_if_its_rule_went_while_the_agent_was_stopped() {
    let mut device = Device::new();
    device.rules = vec![above(200.0)];
    let agent = device.start();
    agent.append([250.0]).await;
    agent.stop().await;
    let other = RuleSpec { source: Some("8".into()), ..above(200.0) };
    device.rules = vec![other];

    let agent = device.start();

    agent.until("the clearing", |progress| progress.last[0] > Seq(2)).await;
    assert_eq!(states(&agent.take_all(Lane::Alerts, 0).await), ["raised", "cleared"]);
    agent.assert_balanced().await;
    agent.stop().await;
}

#[tokio::test]
async fn an_alert_that_was_raised_before_the_history_begins_is_still_cleared() {
    let mut device = Device::new();
    device.rules = vec![above(200.0)];
    let agent = device.start();
    agent.append([250.0]).await;
    agent.deliver(Lane::Alerts, 0).await;
    agent.deliver(Lane::Readings, 0).await;
    agent.stop().await;
    let connection = rusqlite::Connection::open(device.path()).unwrap();
    connection.execute_batch("DELETE FROM readings; DELETE FROM alerts").unwrap();
    drop(connection);

    let agent = device.start();
    agent.append([70.0]).await;

    let alerts = agent.take_all(Lane::Alerts, agent.store.watermarks[0].0).await;
    assert_eq!(states(&alerts), ["cleared"]);
    agent.stop().await;
}

#[tokio::test]
async fn a_window_over_times_of_another_program_is_told_in_those_times_after_a_restart_too() {
    let mut device = Device::new();
    // Our own clock is 10 hours behind theirs.
    device.reference_ms = NOON - 36_000_000;
    let length = Duration::from_secs(10);
    let window = WindowSpec { length, step: length, take: Take::Mean };
    device.rules =
        vec![RuleSpec { on: Some("number".into()), window: Some(window), ..above(200.0) }];
    let rules = std::mem::take(&mut device.rules);
    let agent = device.start();
    let air = agent.source("air", "number");
    // Long enough ago for the window to be over when the rule comes to look at it.
    let at = clock::mono() - Duration::from_secs(60);
    let given =
        |second: i64| Reading { time: Some(Wall(NOON + second * 1_000)), ..number(air, at, 250.0) };
    agent.store.observe_clock(Mono(0), Wall(NOON - 1), ClockTrust::Trusted).await.unwrap();
    agent.offer(vec![given(0), given(1)]).await.unwrap();
    agent.stop().await;
    device.rules = rules;

    let agent = device.start();

    agent.until("the window", |progress| progress.last[0] > Seq(0)).await;
    let alerts = agent.take_all(Lane::Alerts, 0).await;
    assert_eq!(alerts[0]["window_start"], text(Wall(NOON)));
    assert_eq!(alerts[0]["window_end"], text(Wall(NOON + 10_000)));
    agent.stop().await;
}

#[tokio::test]
async fn a_source_that_never_spoke_since_the_start_is_told_of_by_its_name() {
    let mut device = Device::new();
    let expected = vec![Source::new("7", "heart_rate").unwrap()];
    let silent = Condition::Silent { after: Duration::from_secs(1), expected };
    device.rules = vec![RuleSpec { condition: silent, ..above(0.0) }];
    let agent = device.start();

    agent.until("an alert", |progress| progress.last[Lane::Alerts.index()] > Seq(0)).await;
    let alerts = agent.take_all(Lane::Alerts, 0).await;
    assert_eq!((&alerts[0]["source"], &alerts[0]["state"]), (&"7".into(), &"raised".into()));
    agent.stop().await;
    let agent = device.start();
    assert_eq!(agent.sources.get(SourceId(0)).map(|source| source.name.clone()), Some("7".into()));
    agent.append([70.0]).await;

    let alerts = agent.take_all(Lane::Alerts, 0).await;
    let states: Vec<_> = alerts.iter().map(|alert| alert["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["raised", "cleared"]);
    agent.stop().await;
}

#[tokio::test]
async fn what_several_sources_raised_together_stands_across_a_restart() {
    let mut device = Device::new();
    let member = |source: &str| Member {
        source: source.into(),
        on: None,
        test: Test::Outside(Range { above: Some(100.0), below: None }),
    };
    let all = Condition::All { members: vec![member("7"), member("8")], within: None };
    device.rules = vec![RuleSpec { condition: all, on: None, ..above(0.0) }];
    let agent = device.start();
    agent.append([120.0]).await;
    let other = agent.source("8", "heart_rate");
    agent.offer(vec![number(other, clock::mono(), 120.0)]).await.unwrap();
    agent.stop().await;

    let agent = device.start();
    agent.append([130.0]).await;
    assert_eq!(agent.take_all(Lane::Alerts, 0).await.len(), 1);
    agent.append([90.0]).await;

    let alerts = agent.take_all(Lane::Alerts, 0).await;
    assert_eq!((&alerts[1]["source"], &alerts[1]["state"]), (&"7".into(), &"cleared".into()));
    agent.stop().await;
}

#[tokio::test]
async fn the_score_of_an_anomaly_is_in_its_alert_and_goes_with_it() {
    let mut device = Device::new();
    let anomaly = Condition::Anomaly { learn: Duration::from_secs(60), score: 5.0 };
    device.rules = vec![RuleSpec { condition: anomaly, ..above(0.0) }];
    let agent = device.start();
    let belt = agent.source("7", "heart_rate");
    let at = clock::mono();
    let given = |second: i64| Reading {
        time: Some(Wall(NOON + second * 1_000)),
        ..number(
            belt,
            at,
            if second == 120 {
                140.0
            } else {
                f64::from(i32::try_from(second % 7).unwrap()) + 70.0
            },
        )
    };

    agent.offer((0..122).map(given).collect()).await.unwrap();

    let (through, alerts) = agent.deliver(Lane::Alerts, 0).await;
    let raised = &alerts[0];
    assert_eq!((&raised["state"], &raised["value"]), (&"raised".into(), &140.into()));
    assert!(raised["score"].as_f64().is_some_and(|score| score > 20.0), "{raised}");
    assert!(alerts[1]["score"].as_f64().is_some_and(|score| score < 5.0), "{alerts:?}");
    assert!(through > 0);
    agent.stop().await;
    let connection = rusqlite::Connection::open(device.path()).unwrap();
    let count = || connection.query_row("SELECT count(*) FROM scores", [], |row| row.get(0));
    assert_eq!(count(), Ok(2));
    connection.execute("DELETE FROM alerts", []).unwrap();
    assert_eq!(count(), Ok(0));
}

#[tokio::test]
async fn a_program_whose_own_times_lie_far_apart_gets_no_more_alerts_by_a_restart() {
    let now = Mono(3_600_000);
    let mut device = Device { clock: || Mono(3_600_000), ..Device::new() };
    device.rules = vec![above(100.0)];
    let flood = |agent: &Running, minutes: std::ops::Range<i64>| {
        let source = agent.source("7", "heart_rate");
        minutes
            .map(|minute| Reading {
                time: Some(Wall(NOON + minute * 61_000)),
                ..number(source, now, if minute % 2 == 0 { 200.0 } else { 60.0 })
            })
            .collect::<Vec<_>>()
    };

    for (start, minutes) in [(1, 0..600), (2, 600..1200)] {
        let agent = device.start();
        agent.offer(flood(&agent, minutes)).await.unwrap();

        let alerts = agent.take_all(Lane::Alerts, 0).await.len();
        assert_eq!(alerts, BACKLOG_ALERTS as usize, "after start {start}");
        agent.stop().await;
    }
}

#[tokio::test]
async fn a_reading_with_an_old_time_of_its_own_does_not_shorten_what_the_rules_remember_at_a_start()
{
    let mut device = Device { clock: || Mono(3_512_000), ..Device::new() };
    device.rules = vec![RuleSpec { hold_for: Duration::from_secs(30), ..above(200.0) }];
    let agent = device.start();
    let (belt, air) = (agent.source("7", "heart_rate"), agent.source("air", "number"));
    let old = Reading { time: Some(Wall(NOON)), ..number(air, Mono(3_505_000), 21.5) };
    let high = |millis| number(belt, Mono(millis), 250.0);
    agent.offer(vec![high(3_500_000), old, high(3_510_000)]).await.unwrap();
    assert_eq!(agent.take_all(Lane::Alerts, 0).await.len(), 0);
    agent.stop().await;
    device.clock = || Mono(3_536_000);

    let agent = device.start();

    agent.offer(vec![high(3_535_000)]).await.unwrap();
    assert_eq!(states(&agent.take_all(Lane::Alerts, 0).await), ["raised"]);
    agent.stop().await;
}
