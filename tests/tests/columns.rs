//! Readings in columns on their way to a real broker, decoded by `agent/decode_columns.py`: P4 with
//! `format = "columns"`. Needs `python3`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use pulsegate_tests::PATIENCE;
use pulsegate_tests::agent_process::{Agent, Device, lane_count};
use pulsegate_tests::site::Site;
use pulsegate_tests::subscriber::Message;
use pulsegate_tests::{date, records};
use serde_json::{Value, json};

const TOPIC: &str = "pulsegate/box/readings";
const CONFIG: &str = r#"
[[simulated]]
id = "belt"
kind = "heart_rate"
every = "50ms"
rr = true

[privacy]
forbidden = ["Anna Smith"]
"#;

/// Lines of three sources, with decimals, states, and numbers that no decimal of few digits is.
fn lines(count: i32, begin_ms: i64) -> Vec<String> {
    let line = |n: i32| {
        let (source, kind, value) = match n % 3 {
            0 => ("air", "temperature", json!(f64::from(2_150 + n % 7) / 100.0)),
            1 => ("door", "lid", json!(if n % 2 == 0 { "open" } else { "closed \"\u{e9}\"" })),
            _ => ("odd", "level", json!(f64::from(n) / 7.0)),
        };
        json!({ "source": source, "kind": kind, "value": value, "time": begin_ms + i64::from(n) * 997 })
            .to_string()
    };
    (0..count).map(line).collect()
}

/// Runs the decoder as a person would, a message a line. Returns the records.
fn decode(messages: &[Message]) -> Vec<Value> {
    let decoder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/decode_columns.py");
    let mut command = Command::new("python3");
    command.arg("-B").arg(decoder).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.spawn().expect("python3 is installed");
    let mut input = process.stdin.take().expect("a pipe");
    let text =
        messages.iter().flat_map(|message| [&message.payload[..], b"\n"]).collect::<Vec<_>>();
    let text = text.concat();
    let writing = std::thread::spawn(move || input.write_all(&text).expect("the decoder reads"));
    let output = process.wait_with_output().expect("the decoder ends");
    writing.join().expect("writing does not panic");
    assert!(output.status.success());
    let arrays = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Vec<Value>>();
    let decoded = arrays.flat_map(|records| records.expect("an array of records")).collect();
    assert_eq!(decoded, records::of(messages, TOPIC), "the decoder of the tests");
    decoded
}

/// The standard records of all stored readings, by their ids.
fn exported(device: &Device) -> BTreeMap<String, Value> {
    let config = device.config_path();
    let config = config.to_str().expect("UTF-8");
    let output = device.run(&["export", "readings", "--format", "jsonl", "--config", config]);
    let records = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
    let by_id = |record: Value| (record["seq"].as_str().expect("an id").to_owned(), record);
    records.map(|record| by_id(record.expect("a record"))).collect()
}

async fn nothing_pending(agent: &mut Agent, ids: &BTreeSet<String>, site: &Site) -> Vec<Message> {
    let what = "the readings of the inbox are delivered";
    let newest = ids.iter().filter_map(|id| id.rsplit_once('-')?.1.parse().ok()).max();
    let newest: u64 = newest.expect("some readings");
    let delivered = |status: &Value| lane_count(status, "readings", "pending") < 50;
    agent.wait_status(what, PATIENCE, delivered).await;
    let arrived = |messages: &[Message]| {
        let columns = messages.iter().filter(|message| message.topic == TOPIC);
        let readings = decode(&columns.cloned().collect::<Vec<_>>());
        let number = |record: &Value| record["seq"].as_str()?.rsplit_once('-')?.1.parse().ok();
        readings.iter().filter_map(number).max() >= Some(newest)
    };
    let messages = site.subscriber.wait_until(what, PATIENCE, arrived).await;
    messages.into_iter().filter(|message| message.topic == TOPIC).collect()
}

#[tokio::test]
async fn readings_in_columns_decode_to_the_standard_records_of_the_same_readings() {
    let mut site = Site::start().await;
    let device = site.device().set("publish.readings", "format", "\"columns\"").with(CONFIG);
    let mut agent = device.started().await;
    let mut inbox = agent.inbox().await;
    let mut ids: BTreeSet<String> =
        inbox.store(&lines(300, date::ten())).await.into_iter().collect();
    let forbidden = json!({ "source": "door", "kind": "lid", "value": "Anna Smith" }).to_string();
    let refused = inbox.exchange_all(&[forbidden]).await;
    assert!(refused[0]["error"].is_string(), "{refused:?}");
    nothing_pending(&mut agent, &ids, &site).await;

    // A backlog of two starts, in whose messages each reading keeps the start that stored the reading.
    site.broker.stop().await;
    ids.extend(agent.inbox().await.store(&lines(200, date::ten() + 1_000_000)).await);
    agent.stop().await;
    let mut agent = device.started().await;
    ids.extend(agent.inbox().await.store(&lines(200, date::ten() + 2_000_000)).await);
    site.broker.start_again().await;
    let messages = nothing_pending(&mut agent, &ids, &site).await;
    agent.stop().await;

    let standard = exported(&device);
    let decoded = decode(&messages);
    for record in &decoded {
        let id = record["seq"].as_str().expect("an id");
        assert_eq!(Some(record), standard.get(id), "{id}");
    }
    let arrived: BTreeSet<String> =
        decoded.iter().map(|record| record["seq"].as_str().expect("an id").to_owned()).collect();
    assert!(ids.is_subset(&arrived), "{:?} did not arrive", ids.difference(&arrived));
    assert_eq!(ids.len(), 700);
    assert!(decoded.iter().any(|record| record["rr_ms"].is_string()), "the belt has intervals");
    let starts = |message: &Message| {
        let batch: Value = serde_json::from_slice(&message.payload).expect("JSON");
        batch["seq"].as_array().expect("a column").len()
    };
    assert!(messages.iter().any(|message| starts(message) > 1), "no message has two starts");
    let text: Vec<u8> = messages.iter().flat_map(|message| message.payload.clone()).collect();
    assert!(!String::from_utf8_lossy(&text).contains("Anna"));
}
