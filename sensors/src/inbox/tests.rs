//! The socket, with a sampler that stores nothing. Each test has a deadline instead of sleeps.

mod limits;

use std::future::Future;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::*;
use crate::Source;

const DEADLINE: Duration = Duration::from_secs(60);
/// More bytes than a window, the buffers of the sockets, and the answers in them.
const LIMIT_OF_DEAF: usize = 32 << 20;
const GOOD: &str = "{\"source\":\"7\",\"kind\":\"heart_rate\",\"value\":72}\n";

/// A served inbox, and the receiver of its lines.
struct Rig {
    directory: TempDir,
    chunks: mpsc::Receiver<Chunk>,
    counters: Arc<Counters>,
    sources: Arc<Sources>,
    memory: Arc<ClientMemory>,
    owners: watch::Sender<Arc<Owners>>,
    /// The wall clock, while it is trusted.
    now: Arc<Mutex<Option<i64>>>,
    serving: JoinSet<()>,
}

impl Rig {
    fn new(admission: SourceAdmission) -> Self {
        Self::with(admission, Forbidden::default())
    }

    fn with(admission: SourceAdmission, forbidden: Forbidden) -> Self {
        Self::of_agent(
            admission,
            forbidden,
            Arc::default(),
            Arc::default(),
            watch::Sender::default(),
        )
    }

    /// Another inbox of the same agent.
    fn beside(&self, admission: SourceAdmission) -> Self {
        let (sources, memory) = (Arc::clone(&self.sources), Arc::clone(&self.memory));
        Self::of_agent(admission, Forbidden::default(), sources, memory, self.owners.clone())
    }

    fn of_agent(
        admission: SourceAdmission,
        forbidden: Forbidden,
        sources: Arc<Sources>,
        memory: Arc<ClientMemory>,
        owners: watch::Sender<Arc<Owners>>,
    ) -> Self {
        let directory = TempDir::new().expect("a directory");
        let listener = bind_socket(&directory.path().join("inbox.sock")).expect("a socket");
        let (sender, chunks) = mpsc::channel(8);
        let counters = Arc::<Counters>::default();
        let mut serving = JoinSet::new();
        let now = Arc::<Mutex<Option<i64>>>::default();
        let told = Arc::clone(&now);
        let service = Service {
            admission,
            forbidden,
            sources: Arc::clone(&sources),
            chunks: sender,
            counters: Arc::clone(&counters),
            memory: Arc::clone(&memory),
            owners: owners.subscribe(),
            clock: WallClock::new(move || *told.lock().expect("no panic")),
        };
        serving.spawn(serve_clients(listener, service));
        Self { directory, chunks, counters, sources, memory, owners, now, serving }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("inbox.sock")
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.path()).await.expect("a connection")
    }

    /// Answers each chunk at once, as start 3 of the agent, from sequence number 1.
    async fn store_all(&mut self) {
        let mut first_seq = 1;
        while let Some(Chunk { entries, answer }) = self.chunks.recv().await {
            // The client may have gone meanwhile.
            drop(answer.send(Ok(Receipt { start: "3".into(), first_seq, is_durable: true })));
            first_seq += u64::try_from(entries.len()).expect("a length");
        }
    }

    /// Sends `text`, closes the sending side, and reads every answer, while all readings are
    /// stored.
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

/// Lets other tasks run until `is_so` returns `true`, or until the deadline of the test.
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
        let mut rig = Rig::new(SourceAdmission::Any);
        let mut client = rig.connect().await;

        let lines = "{\"source\":\"7\",\"kind\":\"heart_rate\",\"value\":72.5,\"time\":\"2026-11-20T10:00:00.5Z\"}\n\
                     {\"source\":\"feeder\",\"kind\":\"lid\",\"value\":\"open\"}\n";
        client.write_all(lines.as_bytes()).await.expect("room");
        let chunk = rig.chunks.recv().await.expect("a chunk");

        let find = |name, kind| {
            rig.sources.find_id(&Source::new(name, kind).expect("names")).expect("interned")
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
        let mut rig = Rig::new(SourceAdmission::Any);

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
        let only = SourceAdmission::Only(HashSet::from(["7".into()]));
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
        assert!(forbidden.add_text("Anna Smith") && forbidden.add_text("+49 170 1234567"));
        let mut rig = Rig::with(SourceAdmission::Any, forbidden);
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
        let mut rig = Rig::new(SourceAdmission::Only(HashSet::from(["7".into()])));

        assert_eq!(rig.exchange(GOOD.as_bytes()).await, ids(1..2));
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
fn a_line_may_come_in_pieces() {
    run(async {
        let mut rig = Rig::new(SourceAdmission::Any);
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
        let mut rig = Rig::new(SourceAdmission::Any);

        let answers = rig.exchange(GOOD.repeat(100_000).as_bytes()).await;

        assert!(answers == ids(1..100_001), "each id once, in order");
    });
}

#[test]
fn a_hundred_clients_are_served_side_by_side() {
    run(async {
        let mut rig = Rig::new(SourceAdmission::Any);
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
fn the_end_of_the_stream_also_ends_a_line() {
    run(async {
        let mut rig = Rig::new(SourceAdmission::Any);

        assert_eq!(rig.exchange(GOOD.trim_end().as_bytes()).await, ids(1..2));
    });
}

#[test]
fn an_over_long_line_is_refused_once_and_the_next_one_taken() {
    run(async {
        let mut rig = Rig::new(SourceAdmission::Any);
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
        let mut rig = Rig::new(SourceAdmission::Any);
        let line = format!("{:>width$}", GOOD, width = MAX_LINE_BYTES + 1);

        assert_eq!(rig.exchange(line.as_bytes()).await, ids(1..2));
    });
}

#[test]
fn a_flood_of_bad_lines_is_answered_line_by_line() {
    run(async {
        let mut rig = Rig::new(SourceAdmission::Any);

        let answers = rig.exchange("x\n".repeat(100_000).as_bytes()).await;

        assert_eq!(answers.lines().count(), 100_000);
        assert!(rig.chunks.try_recv().is_err(), "nothing to store");
    });
}

#[test]
fn a_client_that_never_reads_stalls_itself_and_nobody_else() {
    run(async {
        // Under a paused clock, time passes only while no task can run: a write that times out is
        // blocked for good.
        tokio::time::pause();
        let mut rig = Rig::new(SourceAdmission::Any);
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

#[test]
fn a_sampler_that_is_busy_holds_the_clients_back() {
    run(async {
        let rig = Rig::new(SourceAdmission::Any);
        let client = rig.connect().await;
        let mut sent = 0;

        // No chunk is taken: the channel fills, then the socket.
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
        let mut rig = Rig::new(SourceAdmission::Any);
        let mut client = rig.connect().await;
        client.write_all(GOOD.repeat(2).as_bytes()).await.expect("room");
        client.shutdown().await.expect("a half-close");

        let chunk = rig.chunks.recv().await.expect("a chunk");
        chunk.answer.send(Err(ChunkRefused("disk full".to_owned()))).expect("a client");
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.expect("answers");

        assert_eq!(answers, "{\"error\":\"disk full\"}\n".repeat(2));
        assert_eq!(rig.counters.refused.load(Relaxed), 2);
    });
}

#[test]
fn an_answer_that_will_never_come_closes_the_client() {
    run(async {
        let mut rig = Rig::new(SourceAdmission::Any);
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
        let mut rig = Rig::new(SourceAdmission::Any);
        let mut client = rig.connect().await;
        let mut idle = rig.connect().await;
        client.write_all(GOOD.as_bytes()).await.expect("room");
        let chunk = rig.chunks.recv().await.expect("a chunk");

        rig.chunks.close();
        let mut answers = String::new();
        idle.read_to_string(&mut answers).await.expect("a close");
        chunk
            .answer
            .send(Ok(Receipt { start: "3".into(), first_seq: 1, is_durable: true }))
            .expect("a client");
        client.read_to_string(&mut answers).await.expect("an answer, then a close");

        assert_eq!(answers, ids(1..2));
        rig.serving.join_next().await.expect("served").expect("no panic");
    });
}

#[test]
fn the_socket_is_for_owner_and_group() {
    run(async {
        let rig = Rig::new(SourceAdmission::Any);

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

        let first = bind_socket(&path).expect("a socket");
        let in_use = bind_socket(&path).expect_err("in use").kind();
        drop(first);
        let second = bind_socket(&path);
        let file = directory.path().join("file");
        fs::File::create(&file).expect("a file");
        let not_a_socket = bind_socket(&file).expect_err("a file").kind();

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
            let answers = Rig::new(SourceAdmission::Any).exchange(&text).await;

            assert_eq!(answers.lines().count(), expected);
            for answer in answers.lines() {
                serde_json::from_str::<serde_json::Value>(answer).expect("JSON");
            }
        });
    }
}
