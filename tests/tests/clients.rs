//! Clients of the inbox that take more than is theirs: memory, places, sources, times. Others are
//! served meanwhile, and `status` tells of it.

use std::time::Duration;

use pulsegate_tests::PATIENCE;
use pulsegate_tests::inbox::reading;
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
