//! A day without network, HR-7 of the acceptance scenarios: ten monitors, a reading a second each,
//! 864,000 in all, taken while the broker is away and drained when it is back. P1 to P4, P6, P9.

#![expect(clippy::disallowed_methods, reason = "it measures how fast records arrive")]

use std::time::{Duration, Instant};

use pulsegate_tests::agent_process::{Agent, Device, lane_count};
use pulsegate_tests::date;
use pulsegate_tests::inbox::{Answers, Sender, heart_rate};
use pulsegate_tests::site::Site;
use pulsegate_tests::subscriber::Message;
use pulsegate_tests::{PATIENCE, records};
use serde_json::Value;

const MONITORS: usize = 10;
const DAY: usize = 24 * 60 * 60;
const READINGS: usize = MONITORS * DAY;
/// Lines that are sent at once.
const CHUNK: usize = 1_000;
const SECOND: Duration = Duration::from_secs(1);
/// For what takes seconds on a good machine.
const LONG: Duration = Duration::from_secs(240);

/// Monitor 3 has a fast minute at the beginning of the day, 7 in its middle.
const RULE: &str = r#"
[[rule]]
name = "heart rate out of range"
on = "heart_rate"
window = { tumbling = "60s", take = "mean" }
above = 120
"#;

/// HR-7.
#[tokio::test]
async fn a_day_without_network_arrives_whole_in_order_and_with_its_own_times() {
    let mut site = Site::start().await;
    let device = device(&site).with(RULE);
    site.broker.stop().await;
    let mut agent = device.started().await;
    let began = Instant::now();
    fill(&agent, READINGS).await;
    let filled = began.elapsed();
    let ended = agent.stop().await;
    assert!(ended.success(), "{ended}");

    site.broker.start_again().await;
    let began = Instant::now();
    let mut agent = device.started().await;
    let mut day = Day { dates: [0, 1].map(date::day), ..Day::default() };
    let first = |messages: &[Message]| messages.iter().any(is_readings);
    site.subscriber.wait_until("the first stored readings arrive", LONG, first).await;
    let first = began.elapsed();
    let mut seen = 0;
    site.subscriber
        .wait_until("all arrive", LONG, |messages| {
            messages[seen..].iter().filter(|one| is_readings(one)).for_each(|one| day.take(one));
            seen = messages.len();
            day.next >= READINGS
        })
        .await;
    let drained = began.elapsed();

    let all = |status: &Value| lane_count(status, "readings", "delivered") == READINGS as u64;
    let status = agent.wait_status("all is delivered", PATIENCE, all).await;
    assert_eq!(lane_count(&status, "readings", "dropped"), 0);
    assert_eq!(status["lanes"]["readings"]["balanced"], true);
    report(&format!(
        "{READINGS} readings: stored in {filled:?}, the first {first:?} after the start, \
         all {drained:?} after it"
    ));

    // Judged when they were taken; neither the restart nor what comes too late judges them again.
    let late = [
        heart_rate("3", 240.0, date::ten() + 30_000),
        heart_rate("7", 240.0, date::ten() + 43_230_000),
    ];
    agent.inbox().await.store(&late).await;
    let all = |status: &Value| {
        lane_count(status, "readings", "delivered") == READINGS as u64 + 2
            && lane_count(status, "alerts", "pending") == 0
    };
    agent.wait_status("the late ones too", PATIENCE, all).await;
    let alerts = site.subscriber.records("/alerts");
    let told: Vec<(&str, &str, &str)> = alerts.iter().map(told).collect();
    let times = ["10:00:00.000", "10:01:00.000", "22:00:00.000", "22:01:00.000"].map(date::at);
    let steps = [("3", "raised"), ("3", "cleared"), ("7", "raised"), ("7", "cleared")];
    let expected =
        steps.iter().zip(&times).map(|((source, state), time)| (*source, *state, &**time));
    assert_eq!(told, expected.collect::<Vec<_>>());
}

/// HR-7: what stands behind the broker takes no more than a thousand records a second.
#[tokio::test]
async fn a_backlog_drains_no_faster_than_it_may() {
    const BACKLOG: usize = 6_000;
    const A_SECOND: u32 = 1_000;
    let mut site = Site::start().await;
    let device = device(&site).set("link", "records_per_second", &A_SECOND.to_string()).set(
        "publish.readings",
        "batch",
        "{ bytes = \"10KiB\", delay = \"1s\" }",
    );
    site.broker.stop().await;
    let mut agent = device.started().await;
    fill(&agent, BACKLOG).await;

    site.broker.start_again().await;
    let mut arrivals: Vec<(Instant, usize)> = Vec::new();
    let mut seen = 0;
    site.subscriber
        .wait_until("all arrive", LONG, |messages| {
            let new = messages[seen..].iter().filter(|one| is_readings(one));
            let count: usize = new.map(|one| records::parse(&one.payload).len()).sum();
            arrivals.push((Instant::now(), count));
            seen = messages.len();
            arrivals.iter().map(|(_, count)| count).sum::<usize>() >= BACKLOG
        })
        .await;

    // Arrivals are looked at now and then, and a message may be in each half of a look.
    let slack = 2 * 10 * 1024 / 80;
    for (index, (from, _)) in arrivals.iter().enumerate() {
        let second = arrivals[index..].iter().take_while(|(at, _)| *at - *from < SECOND);
        let count: usize = second.map(|(_, count)| count).sum();
        assert!(count <= usize::try_from(A_SECOND).expect("few") * 5 / 4 + slack, "{count} in 1 s");
    }
    let all = |status: &Value| lane_count(status, "readings", "delivered") == BACKLOG as u64;
    agent.wait_status("all is delivered", PATIENCE, all).await;
}

/// P6: an alert does not wait behind a backlog.
#[tokio::test]
async fn an_alert_overtakes_a_backlog() {
    let mut site = Site::start().await;
    let device = device(&site)
        .set("link", "records_per_second", "200")
        .with("[[rule]]\nname = \"lid\"\nsource = \"lid\"\nis = \"open\"\n");
    site.broker.stop().await;
    let mut agent = device.started().await;
    fill(&agent, 20_000).await;
    site.broker.start_again().await;
    site.subscriber
        .wait_until("the backlog drains", PATIENCE, |messages| messages.iter().any(is_readings))
        .await;

    let open = r#"{"source":"lid","kind":"lid","value":"open"}"#.to_owned();
    agent.inbox().await.store(&[open]).await;
    site.subscriber.wait_records("/alerts", PATIENCE, |alerts| alerts.len() == 1).await;

    let status = agent.status().await.expect("it answers");
    let pending = lane_count(&status, "readings", "pending");
    assert!(pending > 10_000, "only {pending} readings were left to overtake");
    agent.sigkill().await;
}

/// A device for large numbers, over a broker without limits.
fn device(site: &Site) -> Device {
    site.device().set("buffer", "commit_interval", "\"1s\"").set(
        "publish.readings",
        "batch",
        "{ bytes = \"120KiB\", delay = \"1s\" }",
    )
}

/// What arrives of a day: reading after reading, each the next one.
#[derive(Default)]
struct Day {
    next: usize,
    last: Option<(u64, u64)>,
    /// The dates of its first and its last hours.
    dates: [String; 2],
}

impl Day {
    /// Takes the records of one message.
    fn take(&mut self, message: &Message) {
        for record in records::parse(&message.payload) {
            let sequence = sequence(&record);
            if self.last.is_some_and(|last| sequence <= last) {
                panic!("{sequence:?} after {:?}: double, or out of order", self.last);
            }
            self.last = Some(sequence);
            if self.next < READINGS {
                self.compare(&record);
            }
            self.next += 1;
        }
    }

    fn compare(&self, record: &Value) {
        let (monitor, second) = (self.next % MONITORS, self.next / MONITORS);
        assert_eq!(record["source"], (monitor + 1).to_string(), "one is lost");
        assert_eq!(record["bpm"], beats(monitor, second), "{record}");
        let hour = (10 + second / 3_600) % 24;
        let day = &self.dates[(10 + second / 3_600) / 24];
        let expected = format!("{day}T{hour:02}:{:02}:{:02}.000Z", second / 60 % 60, second % 60);
        assert_eq!(record["time"], expected, "its own time");
    }
}

/// Sends the first `count` readings of a day, and waits until all are durable.
async fn fill(agent: &Agent, count: usize) {
    let inbox = agent.inbox().await;
    tokio::join!(send(inbox.sender, count), receive(inbox.answers, count));
}

async fn send(mut sender: Sender, count: usize) {
    let mut chunk = Vec::new();
    for index in 0..count {
        let (monitor, second) = (index % MONITORS, index / MONITORS);
        let (id, bpm) = (monitor + 1, beats(monitor, second));
        let time = date::ten() + i64::try_from(second).expect("a day") * 1_000;
        let line = format!(
            "{{\"source\":\"{id}\",\"kind\":\"heart_rate\",\"value\":{bpm},\"time\":{time}}}\n"
        );
        chunk.extend_from_slice(line.as_bytes());
        if index % CHUNK == CHUNK - 1 || index == count - 1 {
            assert!(sender.send_bytes(&chunk).await, "the agent went away");
            chunk.clear();
        }
    }
}

async fn receive(mut answers: Answers, count: usize) {
    for _ in 0..count {
        let answer = answers.next().await.expect("the agent went away");
        assert!(answer["id"].is_string(), "{answer}");
    }
}

/// The rate of a monitor, 0 to 9, in a second of the day.
fn beats(monitor: usize, second: usize) -> usize {
    let is_fast =
        (monitor == 2 && second < 60) || (monitor == 6 && (43_200..43_260).contains(&second));
    if is_fast { 130 } else { 60 + (monitor * 7 + second * 13) % 41 }
}

fn sequence(record: &Value) -> (u64, u64) {
    let text = record["seq"].as_str().expect("a seq");
    records::place(text).expect("a record id")
}

fn told(alert: &Value) -> (&str, &str, &str) {
    let text = |key: &str| alert[key].as_str().expect("a string");
    (text("source"), text("state"), text("window_start"))
}

fn is_readings(message: &Message) -> bool {
    message.topic.ends_with("/readings")
}

#[expect(clippy::print_stderr, reason = "a figure to look at, not to judge by")]
fn report(text: &str) {
    eprintln!("{text}");
}
