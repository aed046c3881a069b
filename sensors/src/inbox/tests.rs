//! The socket, with a sampler that stores nothing. Each test has a deadline instead of sleeps.

use std::future::Future;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::desk::BUFFER_BYTES;
use super::*;
use crate::Source;

const DEADLINE: Duration = Duration::from_secs(60);
/// More than a window, the sockets' buffers and the answers in them.
const LIMIT_OF_DEAF: usize = 32 << 20;
const GOOD: &str = "{\"source\":\"7\",\"kind\":\"heart_rate\",\"value\":72}\n";

/// A served inbox, and the sampler's end of it.
struct Rig {
    directory: TempDir,
    chunks: mpsc::Receiver<Chunk>,
    counters: Arc<Counters>,
    sources: Arc<Sources>,
    memory: Arc<Memory>,
    owners: watch::Sender<Arc<Owners>>,
    /// The wall clock, while it is trusted.
    now: Arc<Mutex<Option<i64>>>,
    serving: JoinSet<()>,
}

impl Rig {
    fn new(admission: Admission) -> Self {
        Self::with(admission, Forbidden::default())
    }

    fn with(admission: Admission, forbidden: Forbidden) -> Self {
        let directory = TempDir::new().expect("a directory");
        let listener = bind(&directory.path().join("inbox.sock")).expect("a socket");
        let (sender, chunks) = mpsc::channel(8);
        let (counters, sources) = (Arc::<Counters>::default(), Arc::<Sources>::default());
        let mut serving = JoinSet::new();
        let memory = Arc::<Memory>::default();
        let (owners, owned) = watch::channel(Arc::new(Owners::default()));
        let now = Arc::<Mutex<Option<i64>>>::default();
        let told = Arc::clone(&now);
        let service = Service {
            admission,
            forbidden,
            sources: Arc::clone(&sources),
            chunks: sender,
            counters: Arc::clone(&counters),
            memory: Arc::clone(&memory),
            owners: owned,
            clock: Clock::new(move || *told.lock().expect("no panic")),
        };
        serving.spawn(serve(listener, service));
        Self { directory, chunks, counters, sources, memory, owners, now, serving }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("inbox.sock")
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.path()).await.expect("a connection")
    }

    /// Answers each chunk at once, as boot 3, from sequence 1; for ever.
    async fn store_all(&mut self) {
        let mut first_seq = 1;
        while let Some(Chunk { entries, answer }) = self.chunks.recv().await {
            // A client that has gone meanwhile does not want its answer.
            drop(answer.send(Ok(Receipt { start: "3".into(), first_seq })));
            first_seq += u64::try_from(entries.len()).expect("a length");
        }
    }

    /// Sends `text`, ends it, and reads every answer, while everything is stored.
    async fn exchange(&mut self, text: &[u8]) -> String {
        let (mut reading, mut writing) = self.connect().await.into_split();
        let mut answers = String::new();
        let talk = async {
            let write = async {
                writing.write_all(text).await.expect("room");
                writing.shutdown().await.expect("a half-close");
            };
            let ((), read) = tokio::join!(write, reading.read_to_string(&mut answers));
            read.expect("answers");
        };
        tokio::select! { () = self.store_all() => {}, () = talk => {} }
        answers
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        tokio::time::timeout(DEADLINE, test).await.expect("within the deadline")
    });
}

/// Lets everything else run until `is_so`; the deadline of the test ends it otherwise.
async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn ids(range: std::ops::Range<u32>) -> String {
    range.map(|seq| format!("{{\"id\":\"3-{seq}\"}}\n")).collect()
}

#[test]
fn an_entry_carries_source_time_and_value() {
    run(async {
        let mut rig = Rig::new(Admission::Any);
        let mut client = rig.connect().await;

        let lines = "{\"source\":\"7\",\"kind\":\"heart_rate\",\"value\":72.5,\"time\":\"2026-11-20T10:00:00.5Z\"}\n\
                     {\"source\":\"feeder\",\"kind\":\"lid\",\"value\":\"open\"}\n";
        client.write_all(lines.as_bytes()).await.expect("room");
        let chunk = rig.chunks.recv().await.expect("a chunk");

        let find = |name, kind| {
            rig.sources.find(&Source::new(name, kind).expect("names")).expect("interned")
        };
        assert_eq!(
            chunk.entries,
            [
                Entry {
                    source: find("7", "heart_rate"),
                    time_ms: Some(1_795_168_800_500),
                    value: EntryValue::Number(72.5),
                },
                Entry {
                    source: find("feeder", "lid"),
                    time_ms: None,
                    value: EntryValue::State("open".into()),
                },
            ]
        );
    });
}

#[test]
fn answers_good_and_bad_lines_in_their_order() {
    run(async {
        let mut rig = Rig::new(Admission::Any);

        let bad = "nonsense\n";
        let text = [bad, GOOD, "\n", " \r\n", GOOD, bad, bad, GOOD].concat();
        let answers = rig.exchange(text.as_bytes()).await;

        let kinds: Vec<_> = answers.lines().map(|line| &line[..5]).collect();
        assert_eq!(kinds, ["{\"err", "{\"id\"", "{\"id\"", "{\"err", "{\"err", "{\"id\""]);
        assert!(answers.ends_with(&ids(3..4)));
        assert_eq!(rig.counters.lines.load(Relaxed), 6);
        assert_eq!(rig.counters.stored.load(Relaxed), 3);
        assert_eq!(rig.counters.refused.load(Relaxed), 3);
    });
}

#[test]
fn refuses_names_words_and_times_that_cannot_be_and_names_the_field() {
    run(async {
        let only = Admission::Only(HashSet::from(["7".into()]));
        let mut rig = Rig::new(only);
        let word = "w".repeat(65);
        let cases = [
            (r#""source":"a b","kind":"x","value":1"#, "source"),
            (r#""source":"","kind":"x","value":1"#, "source"),
            (r#""source":"8","kind":"x","value":1"#, "source"),
            (r#""source":"7","kind":"X","value":1"#, "kind"),
            (r#""source":"7","kind":"x\u0000","value":1"#, "kind"),
            (r#""source":"7","kind":"x","value":"""#, "value"),
            (r#""source":"7","kind":"x","value":"a\nb""#, "value"),
            (&format!(r#""source":"7","kind":"x","value":"{word}""#), "value"),
            (r#""source":"7","kind":"x","value":1,"time":"yesterday""#, "time"),
            (r#""source":"7","kind":"x","value":1,"time":-1"#, "time"),
            (r#""source":"7","kind":"x","value":1,"lat":52.1"#, "lat"),
        ];

        let text: String = cases.iter().map(|(fields, _)| format!("{{{fields}}}\n")).collect();
        let answers = rig.exchange(text.as_bytes()).await;

        for (answer, (fields, field)) in answers.lines().zip(cases) {
            let answer: serde_json::Value = serde_json::from_str(answer).expect("JSON");
            assert_eq!(answer["field"], field, "{fields}");
        }
        assert_eq!(answers.lines().count(), cases.len());
        assert!(rig.sources.is_empty());
    });
}

/// P13.
#[test]
fn refuses_forbidden_texts_without_repeating_them() {
    run(async {
        let mut forbidden = Forbidden::default();
        assert!(forbidden.add("Anna Smith") && forbidden.add("+49 170 1234567"));
        let mut rig = Rig::with(Admission::Any, forbidden);
        let cases = [
            (r#""source":"anna.smith-7","kind":"x","value":1"#, "source"),
            (r#""source":"a","kind":"of_anna_smith","value":1"#, "kind"),
            (r#""source":"a","kind":"x","value":"ANNA SMITH""#, "value"),
            (r#""source":"a","kind":"x","value":"Ann\u0061 Smith""#, "value"),
            (r#""source":"a","kind":"x","value":"call +49 170/1234567""#, "value"),
        ];

        let text: String = cases.iter().map(|(fields, _)| format!("{{{fields}}}\n")).collect();
        let answers = rig.exchange(text.as_bytes()).await;

        for (answer, (fields, field)) in answers.lines().zip(cases) {
            let expected =
                format!(r#"{{"error":"a text that `privacy.forbidden` lists","field":"{field}"}}"#);
            assert_eq!(answer, expected, "{fields}");
        }
        assert_eq!(answers.lines().count(), cases.len());
        assert!(rig.sources.is_empty());
        assert_eq!(rig.exchange(GOOD.as_bytes()).await, ids(1..2));
    });
}

#[test]
fn a_source_that_may_speak_is_heard() {
    run(async {
        let mut rig = Rig::new(Admission::Only(HashSet::from(["7".into()])));

        assert_eq!(rig.exchange(GOOD.as_bytes()).await, ids(1..2));
    });
}

#[test]
fn never_speaks_for_a_sensor_of_the_device() {
    run(async {
        let mut rig = Rig::new(Admission::Only(HashSet::from(["7".into()])));
        assert_eq!(rig.exchange(GOOD.as_bytes()).await, ids(1..2));

        // A reload adds a sensor of that name, to an inbox that knows the source already.
        let sensors = HashSet::from(["7".into()]);
        rig.owners.send_replace(Arc::new(Owners { sensors, inboxes: vec![None] }));
        let other = GOOD.replace("heart_rate", "number");
        let answers = rig.exchange([GOOD, &other].concat().as_bytes()).await;

        let refused = "{\"error\":\"a sensor of this device, which speaks for itself\",\"field\":\"source\"}\n";
        assert_eq!(answers, refused.repeat(2));
        rig.owners.send_replace(Arc::default());
        assert_eq!(rig.exchange(GOOD.as_bytes()).await, ids(1..2));
    });
}

#[test]
fn refuses_times_from_the_future_while_the_clock_is_trusted() {
    run(async {
        let mut rig = Rig::new(Admission::Any);
        let now = 1_000_000_000_000;
        let line = |time: i64| {
            format!("{{\"source\":\"7\",\"kind\":\"x\",\"value\":1,\"time\":{time}}}\n")
        };
        let (within, ahead) = (line(now + 300_000), line(now + 300_001));
        let refused = "{\"error\":\"more than 5 minutes ahead of the clock of this device\",\"field\":\"time\"}\n";

        *rig.now.lock().expect("no panic") = Some(now);
        assert_eq!(rig.exchange(within.as_bytes()).await, ids(1..2));
        assert_eq!(rig.exchange(ahead.as_bytes()).await, refused);
        *rig.now.lock().expect("no panic") = None;
        assert_eq!(rig.exchange(ahead.as_bytes()).await, ids(1..2));
    });
}

#[test]
fn each_inbox_fills_its_own_share_of_the_table_and_no_other() {
    run(async {
        let mut rig = Rig::new(Admission::Only(HashSet::from(["7".into()])));
        let only = |id: &str| Some(HashSet::from([id.into()]));
        let inboxes = vec![only("7"), only("8"), None, None];
        rig.owners.send_replace(Arc::new(Owners { sensors: HashSet::new(), inboxes }));
        let share = crate::MAX_CLIENT_SOURCES / 4;
        let lines: String = (0..share + 3)
            .map(|n| format!("{{\"source\":\"7\",\"kind\":\"k{n}\",\"value\":1}}\n"))
            .collect();

        let answers = rig.exchange(lines.as_bytes()).await;

        assert_eq!(answers.lines().filter(|line| line.contains("error")).count(), 3);
        assert_eq!(rig.sources.len(), share);
        assert_eq!(rig.counters.sources.load(Relaxed), 2000);
        assert_eq!(rig.counters.max_sources.load(Relaxed), 2000);
        let sensor = Source::new("thermometer", "number").expect("names");
        assert!(rig.sources.intern(sensor).is_ok(), "a sensor has its place");
    });
}

#[test]
fn a_table_that_an_older_version_filled_has_places_for_sensors_and_none_for_new_names() {
    run(async {
        let mut rig = Rig::new(Admission::Any);
        for n in 0..10_000 {
            let source = Source::new(&format!("s{n}"), "x").expect("names");
            rig.sources.intern(source).expect("room");
        }

        let known = "{\"source\":\"s9999\",\"kind\":\"x\",\"value\":1}\n";
        let answers = rig.exchange([known, GOOD].concat().as_bytes()).await;

        let refused =
            "{\"error\":\"a new source, of which this inbox has too many\",\"field\":\"source\"}\n";
        assert_eq!(answers, ids(1..2) + refused);
        let sensor = |n| Source::new(&format!("sensor{n}"), "number").expect("names");
        assert!((0..2000).all(|n| rig.sources.intern(sensor(n)).is_ok()));
    });
}

#[test]
fn the_group_of_the_inbox_is_the_one_that_the_service_brings() {
    let users = include_str!("../../../systemd/pulsegate.sysusers");
    let unit = include_str!("../../../systemd/pulsegate.service");
    let groups = unit.lines().find_map(|line| line.strip_prefix("SupplementaryGroups="));

    assert!(users.lines().any(|line| line.split_whitespace().eq(["g", GROUP, "-"])));
    assert!(groups.is_some_and(|groups| groups.split(' ').any(|group| group == GROUP)));
}

#[test]
fn refuses_one_source_more_than_clients_may_name() {
    run(async {
        let mut rig = Rig::new(Admission::Any);
        let lines = |range: std::ops::Range<usize>| -> String {
            range.map(|n| format!("{{\"source\":\"s{n}\",\"kind\":\"x\",\"value\":1}}\n")).collect()
        };

        let answers = rig.exchange(lines(0..crate::MAX_CLIENT_SOURCES + 1).as_bytes()).await;

        let errors: Vec<_> = answers.lines().filter(|line| line.contains("error")).collect();
        assert_eq!(errors.len(), 1);
        assert_eq!(answers.lines().last(), errors.first().copied());
    });
}

#[test]
fn a_line_may_come_in_pieces() {
    run(async {
        let mut rig = Rig::new(Admission::Any);
        let client = rig.connect().await;
        let (reading, mut writing) = client.into_split();
        let mut answers = BufReader::new(reading).lines();

        let talk = async {
            for (seq, cut) in (1..).zip([1, 5, 20, GOOD.len() - 1]) {
                let (head, tail) = GOOD.split_at(cut);
                writing.write_all(head.as_bytes()).await.expect("room");
                tokio::task::yield_now().await;
                writing.write_all(tail.as_bytes()).await.expect("room");
                let answer = answers.next_line().await.expect("a line").expect("an answer");
                assert_eq!(answer, format!("{{\"id\":\"3-{seq}\"}}"));
            }
        };
        tokio::select! { () = rig.store_all() => panic!("the inbox ended"), () = talk => {} }
    });
}

#[test]
fn a_hundred_thousand_lines_at_once_are_all_answered() {
    run(async {
        let mut rig = Rig::new(Admission::Any);

        let answers = rig.exchange(GOOD.repeat(100_000).as_bytes()).await;

        assert!(answers == ids(1..100_001), "each id once, in order");
    });
}

#[test]
fn a_hundred_clients_are_served_side_by_side() {
    run(async {
        let mut rig = Rig::new(Admission::Any);
        let mut clients = JoinSet::new();
        for client in 0..100 {
            let mut stream = rig.connect().await;
            let line = format!("{{\"source\":\"c{client}\",\"kind\":\"x\",\"value\":1}}\n");
            clients.spawn(async move {
                let mut answers = String::new();
                stream.write_all(line.repeat(50).as_bytes()).await.expect("room");
                stream.shutdown().await.expect("a half-close");
                stream.read_to_string(&mut answers).await.expect("answers");
                answers.lines().count()
            });
        }

        let all = clients.join_all();
        let counts = tokio::select! { () = rig.store_all() => Vec::new(), counts = all => counts };

        assert_eq!(counts, [50; 100]);
        assert_eq!(rig.sources.len(), 100);
        until(|| rig.counters.clients.load(Relaxed) == 0).await;
    });
}

#[test]
fn one_client_too_many_is_told_so() {
    run(async {
        tokio::time::pause();
        let rig = Rig::new(Admission::Any);
        let mut clients = Vec::new();
        for _ in 0..MAX_CLIENTS_OF_A_USER {
            clients.push(rig.connect().await);
        }
        until(|| rig.counters.clients.load(Relaxed) == 192).await;

        let mut told = String::new();
        rig.connect().await.read_to_string(&mut told).await.expect("an answer");

        assert_eq!(told, "{\"error\":\"too many clients\"}\n");
        assert_eq!(rig.counters.turned_away.load(Relaxed), 1);
    });
}

#[test]
fn clients_that_only_began_a_line_keep_nobody_out() {
    run(async {
        tokio::time::pause();
        let mut rig = Rig::new(Admission::Any);
        let mut half = Vec::new();
        for _ in 0..MAX_CLIENTS {
            let stream = rig.connect().await;
            // A connection that has no place is closed.
            stream.try_write(b"{").ok();
            half.push(stream);
            tokio::task::yield_now().await;
        }
        until(|| rig.counters.clients.load(Relaxed) >= 192).await;

        assert_eq!(rig.exchange(GOOD.as_bytes()).await, ids(1..2));

        assert!(rig.counters.displaced.load(Relaxed) > 0);
        tokio::time::sleep(LINE_PATIENCE).await;
        until(|| rig.counters.clients.load(Relaxed) == 0).await;
        assert!(rig.counters.unfinished.load(Relaxed) > 100);
    });
}

#[test]
fn a_line_that_has_no_end_is_answered_and_its_client_closed() {
    for begun in ["{".to_owned(), "x".repeat(2 * MAX_LINE_BYTES)] {
        run(async {
            tokio::time::pause();
            let rig = Rig::new(Admission::Any);
            let mut client = rig.connect().await;
            client.write_all(begun.as_bytes()).await.expect("room");

            let mut answers = String::new();
            client.read_to_string(&mut answers).await.expect("a close");

            assert!(
                answers.ends_with("{\"error\":\"a line without an end for 30 s\"}\n"),
                "{answers}"
            );
        });
    }
}

#[test]
fn an_idle_client_that_ends_its_lines_stays_as_long_as_there_are_places() {
    run(async {
        tokio::time::pause();
        let mut rig = Rig::new(Admission::Any);
        let client = rig.connect().await;
        let (reading, mut writing) = client.into_split();
        let mut answers = BufReader::new(reading).lines();
        let talk = async {
            for (seq, idle) in [(1, LINE_PATIENCE * 3 / 2), (2, Duration::ZERO)] {
                writing.write_all(GOOD.as_bytes()).await.expect("room");
                let answer = answers.next_line().await.expect("a line").expect("an answer");
                assert_eq!(answer, format!("{{\"id\":\"3-{seq}\"}}"));
                tokio::time::sleep(idle).await;
            }
        };
        tokio::select! { () = rig.store_all() => panic!("the inbox ended"), () = talk => {} }
    });
}

#[test]
fn the_end_of_the_stream_also_ends_a_line() {
    run(async {
        let mut rig = Rig::new(Admission::Any);

        assert_eq!(rig.exchange(GOOD.trim_end().as_bytes()).await, ids(1..2));
    });
}

#[test]
fn an_over_long_line_is_refused_once_and_the_next_one_taken() {
    run(async {
        let mut rig = Rig::new(Admission::Any);
        for length in [MAX_LINE_BYTES + 1, 3 * MAX_LINE_BYTES, 1 << 20] {
            let long = "x".repeat(length);

            let answers = rig.exchange(format!("{GOOD}{long}\n{GOOD}{long}").as_bytes()).await;

            let kinds: Vec<_> = answers.lines().map(|line| &line[..5]).collect();
            assert_eq!(kinds, ["{\"id\"", "{\"err", "{\"id\"", "{\"err"], "{length} bytes");
        }
    });
}

#[test]
fn a_line_of_exactly_the_limit_is_taken() {
    run(async {
        let mut rig = Rig::new(Admission::Any);
        let line = format!("{:>width$}", GOOD, width = MAX_LINE_BYTES + 1);

        assert_eq!(rig.exchange(line.as_bytes()).await, ids(1..2));
    });
}

#[test]
fn a_flood_of_bad_lines_is_answered_line_by_line() {
    run(async {
        let mut rig = Rig::new(Admission::Any);

        let answers = rig.exchange("x\n".repeat(100_000).as_bytes()).await;

        assert_eq!(answers.lines().count(), 100_000);
        assert!(rig.chunks.try_recv().is_err(), "nothing to store");
    });
}

#[test]
fn a_client_that_never_reads_stalls_itself_and_nobody_else() {
    run(async {
        // Under a paused clock time passes only when there is nothing left to do: a write that
        // times out is held back for good.
        tokio::time::pause();
        let mut rig = Rig::new(Admission::Any);
        let mut deaf = rig.connect().await;
        let mut sent = 0;
        let flood = GOOD.repeat(1000);
        let stall = async {
            let patience = Duration::from_secs(10);
            while sent < LIMIT_OF_DEAF
                && let Ok(written) =
                    tokio::time::timeout(patience, deaf.write(flood.as_bytes())).await
            {
                sent += written.expect("a connection");
            }
        };
        tokio::select! { () = rig.store_all() => {}, () = stall => {} }

        let answers = rig.exchange(GOOD.as_bytes()).await;

        assert_eq!(answers.lines().count(), 1);
        assert!(sent < LIMIT_OF_DEAF, "{sent} bytes were taken from a client that reads nothing");
    });
}

/// Sends `text` again and again without reading an answer, until no byte of it was taken for a while.
async fn flood(stream: &mut UnixStream, text: &[u8]) {
    let patience = Duration::from_secs(1);
    while tokio::time::timeout(patience, stream.write_all(text))
        .await
        .is_ok_and(|sent| sent.is_ok())
    {}
}

#[test]
fn clients_that_read_no_answers_hold_a_few_mebibytes_together() {
    for refused in ["x\n", "{\"x\":1}\n"] {
        run(async {
            tokio::time::pause();
            let mut rig = Rig::new(Admission::Any);
            let mut clients = JoinSet::new();
            for _ in 0..64 {
                let mut stream = rig.connect().await;
                let text = refused.repeat(BUFFER_BYTES / refused.len());
                clients.spawn(async move {
                    flood(&mut stream, text.as_bytes()).await;
                    stream
                });
            }
            let deaf = clients.join_all().await;

            assert!(rig.memory.pool_bytes() > memory::POOL_BYTES / 2, "the pool is in use");
            assert!(rig.memory.used_bytes() <= memory::POOL_BYTES + 64 * memory::SHARE_BYTES);
            let answers = rig.exchange(GOOD.repeat(1000).as_bytes()).await;

            assert_eq!(answers, ids(1..1001));
            tokio::time::sleep(memory::UNREAD_GRACE).await;
            assert_eq!(rig.exchange(GOOD.as_bytes()).await.lines().count(), 1);
            assert!(rig.counters.cut.load(Relaxed) > 0, "somebody made room");
            drop(deaf);
            until(|| rig.counters.clients.load(Relaxed) == 0).await;
            assert_eq!(rig.memory.used_bytes(), 0);
        });
    }
}

#[test]
fn a_sampler_that_is_busy_holds_the_clients_back() {
    run(async {
        let rig = Rig::new(Admission::Any);
        let client = rig.connect().await;
        let mut sent = 0;

        // Nobody takes a chunk: the channel fills, then the socket.
        until(|| {
            let written = client.try_write(GOOD.repeat(100).as_bytes());
            sent += written.as_ref().copied().unwrap_or(0);
            let lines = rig.counters.lines.load(Relaxed);
            written.is_err() && lines > 0 && rig.chunks.len() == rig.chunks.max_capacity()
        })
        .await;

        assert!(sent < LIMIT_OF_DEAF);
    });
}

#[test]
fn what_was_not_stored_is_an_error_on_each_of_its_lines() {
    run(async {
        let mut rig = Rig::new(Admission::Any);
        let mut client = rig.connect().await;
        client.write_all(GOOD.repeat(2).as_bytes()).await.expect("room");
        client.shutdown().await.expect("a half-close");

        let chunk = rig.chunks.recv().await.expect("a chunk");
        chunk.answer.send(Err(Refused("disk full".to_owned()))).expect("a client");
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.expect("answers");

        assert_eq!(answers, "{\"error\":\"disk full\"}\n".repeat(2));
        assert_eq!(rig.counters.refused.load(Relaxed), 2);
    });
}

#[test]
fn an_answer_that_will_never_come_closes_the_client() {
    run(async {
        let mut rig = Rig::new(Admission::Any);
        let mut client = rig.connect().await;
        client.write_all(GOOD.as_bytes()).await.expect("room");

        drop(rig.chunks.recv().await.expect("a chunk"));
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.expect("a close");

        assert_eq!(answers, "");
    });
}

#[test]
fn what_was_taken_before_the_agent_stops_is_still_answered() {
    run(async {
        let mut rig = Rig::new(Admission::Any);
        let mut client = rig.connect().await;
        let mut idle = rig.connect().await;
        client.write_all(GOOD.as_bytes()).await.expect("room");
        let chunk = rig.chunks.recv().await.expect("a chunk");

        rig.chunks.close();
        let mut answers = String::new();
        idle.read_to_string(&mut answers).await.expect("a close");
        chunk.answer.send(Ok(Receipt { start: "3".into(), first_seq: 1 })).expect("a client");
        client.read_to_string(&mut answers).await.expect("an answer, then a close");

        assert_eq!(answers, ids(1..2));
        rig.serving.join_next().await.expect("served").expect("no panic");
    });
}

#[test]
fn the_socket_is_for_owner_and_group() {
    run(async {
        let rig = Rig::new(Admission::Any);

        let mode = fs::metadata(rig.path()).expect("a socket").permissions().mode();

        assert_eq!(mode & 0o777, 0o660);
    });
}

#[test]
fn a_group_is_found_by_its_whole_name() {
    let groups = "root:x:0:\npulsegate:x:990:\npulsegate-inbox:x:991:cam,anna\nodd\nodder:x:-1:\n";

    assert_eq!(group_id(groups, "pulsegate-inbox"), Some(991));
    assert_eq!(group_id(groups, "pulsegate"), Some(990));
    assert_eq!(group_id(groups, "inbox"), None);
    assert_eq!(group_id(groups, "odd"), None);
    assert_eq!(group_id(groups, "odder"), None);
}

#[test]
fn an_inbox_is_for_its_group_where_there_is_one_and_for_the_agents_own_elsewhere() {
    run(async {
        let directory = TempDir::new().expect("a directory");
        let path = directory.path().join("inbox.sock");
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();

        let listener = bind_inbox(&path).expect("a socket");

        let socket = fs::metadata(&path).expect("a socket");
        assert_eq!(socket.permissions().mode() & 0o777, 0o660);
        let own = fs::metadata(directory.path()).expect("a directory").gid();
        let expected = group_id(&groups, GROUP).unwrap_or(own);
        assert!([own, expected].contains(&socket.gid()), "{}", socket.gid());
        drop(listener);
    });
}

#[test]
fn replaces_a_dead_socket_but_nothing_else() {
    run(async {
        let directory = TempDir::new().expect("a directory");
        let path = directory.path().join("inbox.sock");

        let first = bind(&path).expect("a socket");
        let in_use = bind(&path).expect_err("in use").kind();
        drop(first);
        let second = bind(&path);
        let file = directory.path().join("file");
        fs::File::create(&file).expect("a file");
        let not_a_socket = bind(&file).expect_err("a file").kind();

        assert_eq!(in_use, io::ErrorKind::AddrInUse);
        assert!(second.is_ok());
        assert_eq!(not_a_socket, io::ErrorKind::AlreadyExists);
        assert!(file.exists());
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_get_one_answer_for_each_line(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just(GOOD.as_bytes().to_vec()),
                Just(b"\n".to_vec()),
                proptest::collection::vec(any::<u8>(), 0..300),
                (0..3 * MAX_LINE_BYTES).prop_map(|length| vec![b'['; length]),
            ],
            0..20,
        )
    ) {
        let text = pieces.concat();
        let expected = text
            .split(|byte| *byte == b'\n')
            .filter(|line| line.len() > MAX_LINE_BYTES || !line.trim_ascii().is_empty())
            .count();

        run(async {
            let answers = Rig::new(Admission::Any).exchange(&text).await;

            assert_eq!(answers.lines().count(), expected);
            for answer in answers.lines() {
                serde_json::from_str::<serde_json::Value>(answer).expect("JSON");
            }
        });
    }
}
