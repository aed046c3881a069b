//! Clients of the inbox that take more than is theirs: memory, places, sources, times. Others are
//! served meanwhile, and `status` tells of it.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use pulsegate_tests::PATIENCE;
use pulsegate_tests::inbox::{Inbox, reading};
use pulsegate_tests::site::Site;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

/// More than what all clients may hold together, and than what an allocator keeps of it.
const BOUND_BYTES: u64 = 64 << 20;

fn inbox_gauge(status: &Value, key: &str) -> u64 {
    let drivers = status["drivers"].as_array().expect("drivers");
    let inbox = drivers.iter().find(|driver| driver["driver"] == "inbox").expect("an inbox");
    inbox[key].as_u64().unwrap_or_else(|| panic!("`{key}` in {inbox}"))
}

/// Sends `text` again and again, and reads no answer, until nothing was taken for a while.
async fn flood(mut stream: UnixStream, text: String) -> UnixStream {
    let patience = Duration::from_secs(2);
    let mut write =
        async || tokio::time::timeout(patience, stream.write_all(text.as_bytes())).await;
    while write().await.is_ok_and(|written| written.is_ok()) {}
    stream
}

#[tokio::test]
async fn clients_that_send_refused_lines_and_do_not_read_cost_a_few_mebibytes() {
    let site = Site::start().await;
    let device = site.device();
    let mut agent = device.started().await;
    let mut good = agent.inbox().await;
    let before = agent.status().await.expect("it answers")["memory_bytes"].as_u64().expect("bytes");
    let mut clients = JoinSet::new();
    for _ in 0..128 {
        let stream = UnixStream::connect(device.inbox_path()).await.expect("a connection");
        clients.spawn(flood(stream, "x\n".repeat(32 * 1024)));
    }
    let deaf = clients.join_all().await;

    let status = agent.status().await.expect("it answers");
    let after = status["memory_bytes"].as_u64().expect("bytes");
    assert!(after < before + BOUND_BYTES, "{before} bytes before, {after} after");
    let line = reading("good", "count", 1.0).to_string();
    let ids = good.store(&vec![line.clone(); 500]).await;

    assert_eq!(ids.len(), 500);
    let cut = async {
        loop {
            good.store(std::slice::from_ref(&line)).await;
            let status = agent.status().await.expect("it answers");
            if inbox_gauge(&status, "cut") > 0 {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, cut).await.expect("the slowest client is cut off");
    drop(deaf);
    agent.stop().await;
}

#[tokio::test]
async fn connections_that_only_began_a_line_keep_nobody_out_and_are_told_of() {
    let site = Site::start().await;
    let device = site.device();
    let mut agent = device.started().await;
    drop(agent.inbox().await);
    let mut idle = Vec::new();
    for _ in 0..256 {
        let mut stream = UnixStream::connect(device.inbox_path()).await.expect("a connection");
        // One that finds no place is closed before it has said anything.
        stream.write_all(b"{\"source\":").await.ok();
        idle.push(stream);
    }

    let ids = agent.inbox().await.store(&[reading("good", "count", 1.0).to_string()]).await;

    assert_eq!(ids.len(), 1);
    let status = agent.status().await.expect("it answers");
    assert!(inbox_gauge(&status, "displaced") > 0, "{status}");
    let events = site.subscriber.wait_records("/events", PATIENCE, |records| {
        records.iter().any(|record| record["event"] == "inbox_crowded")
    });
    let crowded = events.await;
    let told = crowded.iter().filter(|record| record["event"] == "inbox_crowded").count();
    assert_eq!(told, 1, "once");
    drop(idle);
    agent.stop().await;
}

#[tokio::test]
async fn an_inbox_that_named_too_many_sources_costs_no_sensor_its_place() {
    let site = Site::start().await;
    let device = site.device().inbox_only(&["7"]);
    let mut agent = device.started().await;
    let lines: Vec<_> =
        (0..10_001).map(|n| reading("7", &format!("k{n}"), 1.0).to_string()).collect();
    let answers = agent.inbox().await.exchange_all(&lines).await;
    let refused = answers.iter().filter(|answer| answer["error"].is_string()).count();
    assert_eq!(refused, 2001);
    let status = agent.status().await.expect("it answers");
    let degraded = status["degraded"].to_string();
    assert!(degraded.contains("8000 of 8000 sources"), "{degraded}");
    site.subscriber
        .wait_records("/events", PATIENCE, |records| {
            records.iter().any(|record| record["event"] == "inbox_sources_filling")
        })
        .await;
    agent.stop().await;

    let thermometer = device.dir().join("temp");
    rewrite(&thermometer, "21.5");
    let device =
        device.with("[[number]]\nid = \"air\"\nfile = \"{dir}/temp\"\nevery = \"100ms\"\n");
    let mut agent = device.started().await;

    site.subscriber
        .wait_records("/readings", PATIENCE, |records| {
            records.iter().any(|record| record["source"] == "air")
        })
        .await;
    agent.stop().await;
}

#[tokio::test]
async fn an_inbox_never_speaks_for_a_sensor_not_even_for_one_that_a_reload_adds() {
    let site = Site::start().await;
    let simulated = |id: &str| {
        format!("[[simulated]]\nid = {id:?}\nkind = \"number\"\nevery = \"1h\"\nseed = 1\n")
    };
    let device = site.device().with(&simulated("air"));
    let mut agent = device.started().await;
    let mut inbox = agent.inbox().await;
    let line = |source: &str| reading(source, "number", 1.0);
    let refused = async |inbox: &mut Inbox, source: &str| {
        inbox.exchange(&line(source)).await.expect("an answer")["field"] == "source"
    };

    assert!(refused(&mut inbox, "air").await);
    assert!(!refused(&mut inbox, "later").await);
    let config = device.config() + &simulated("later");
    rewrite(&device.config_path(), &config);
    agent.sighup();

    let obeyed = async { while !refused(&mut inbox, "later").await {} };
    tokio::time::timeout(PATIENCE, obeyed).await.expect("the reload is obeyed");
    agent.stop().await;
}

fn rewrite(path: &Path, text: &str) {
    std::fs::File::create(path).expect("a file").write_all(text.as_bytes()).expect("room");
}
