//! Measures the cost of a line on the inbox's thread: reading, parsing, finding the source, and
//! answering, with a sampler that stores nothing. The clients run on separate threads.
//!
//! `cargo run --release -p pulsegate-sensors --features drivers --example inbox_cost`

#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pulsegate_sensors::forbidden::Forbidden;
use pulsegate_sensors::inbox::{self, Chunk, Receipt, Service, SourceAdmission, WallClock};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, watch};

const LINES: u32 = 1_000_000;

fn main() -> io::Result<()> {
    println!("clients  sources each  ns CPU a line  ns wall a line  lines a chunk");
    for (clients, sources) in [(1, 1), (1, 20), (8, 1), (100, 2)] {
        measure(clients, sources)?;
    }
    Ok(())
}

fn measure(clients: u32, sources: u32) -> io::Result<()> {
    let path = std::env::temp_dir().join(format!("inbox-cost-{}.sock", std::process::id()));
    let each = LINES / clients;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (cpu, wall, chunks) = runtime.block_on(async {
        let listener = inbox::bind_socket(&path)?;
        let writers: Vec<_> = (0..clients)
            .map(|client| {
                let (path, text) = (path.clone(), lines(client, sources, each));
                thread::spawn(move || talk(&path, text, each))
            })
            .collect();
        let (sender, receiver) = mpsc::channel(64);
        let service = Service {
            admission: SourceAdmission::Any,
            forbidden: Forbidden::default(),
            sources: Arc::default(),
            chunks: sender,
            counters: Arc::default(),
            memory: Arc::default(),
            owners: watch::channel(Arc::default()).1,
            clock: WallClock::new(|| Some(i64::MAX)),
        };
        let serve = inbox::serve_clients(listener, service);
        let (cpu, wall) = (now(ClockId::ThreadCPUTime), now(ClockId::Monotonic));
        let (chunks, ()) = tokio::join!(store(receiver, each * clients), serve);
        let spent = (now(ClockId::ThreadCPUTime) - cpu, now(ClockId::Monotonic) - wall);
        for writer in writers {
            writer.join().expect("a client does not panic")?;
        }
        io::Result::Ok((spent.0, spent.1, chunks))
    })?;
    std::fs::remove_file(&path)?;
    let lines = u128::from(each * clients);
    println!(
        "{clients:7}  {sources:12}  {:13}  {:14}  {:13}",
        cpu.as_nanos() / lines,
        wall.as_nanos() / lines,
        lines / chunks
    );
    Ok(())
}

fn lines(client: u32, sources: u32, count: u32) -> String {
    (0..count)
        .map(|line| {
            let (second, ms) = (line / 1000 % 60, line % 1000);
            let (source, bpm) = (client * sources + line % sources, 60 + line % 60);
            format!(
                "{{\"source\":\"{source}\",\"kind\":\"heart_rate\",\"value\":{bpm},\
                 \"time\":\"2026-11-20T10:00:{second:02}.{ms:03}Z\"}}\n"
            )
        })
        .collect()
}

/// Writes all lines and reads an answer to each.
fn talk(path: &Path, text: String, count: u32) -> io::Result<()> {
    let stream = UnixStream::connect(path)?;
    let mut writing = stream.try_clone()?;
    let writer = thread::spawn(move || {
        writing.write_all(text.as_bytes())?;
        writing.shutdown(Shutdown::Write)
    });
    let (mut answers, mut buffer, mut reading) = (0, vec![0; 64 * 1024], &stream);
    loop {
        match reading.read(&mut buffer)? {
            0 => break,
            read => answers += buffer[..read].iter().filter(|byte| **byte == b'\n').count(),
        }
    }
    assert_eq!(u32::try_from(answers).ok(), Some(count), "every line is answered");
    writer.join().expect("the writer does not panic")
}

/// Answers `lines` lines; returns the number of chunks.
async fn store(mut chunks: mpsc::Receiver<Chunk>, lines: u32) -> u128 {
    let (mut seq, mut count) = (0, 0);
    while seq < u64::from(lines) {
        let Some(Chunk { entries, answer }) = chunks.recv().await else { break };
        let receipt =
            Receipt { start: "12k3f9x2ab".into(), first_seq: 4_000_000 + seq, is_durable: true };
        seq += u64::try_from(entries.len()).expect("a length");
        count += 1;
        answer.send(Ok(receipt)).expect("the client waits for it");
    }
    count
}

fn now(clock: ClockId) -> Duration {
    clock_gettime(clock).try_into().expect("clocks start at zero")
}
