//! The limits for clients: memory, places, sources, times.

use super::*;
use crate::inbox::line_reader::BUFFER_BYTES;

/// Sends `text` repeatedly without reading an answer, until the socket has accepted no byte for a
/// while.
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
            let mut rig = Rig::new(SourceAdmission::Any);
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
fn clients_that_only_began_a_line_keep_nobody_out() {
    run(async {
        tokio::time::pause();
        let mut rig = Rig::new(SourceAdmission::Any);
        let mut half = Vec::new();
        for _ in 0..MAX_CLIENTS {
            let stream = rig.connect().await;
            // A connection without a place is closed.
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
            let rig = Rig::new(SourceAdmission::Any);
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
        let mut rig = Rig::new(SourceAdmission::Any);
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
fn clients_that_go_while_their_answers_wait_give_back_what_they_held() {
    run(async {
        tokio::time::pause();
        let mut rig = Rig::new(SourceAdmission::Any);
        let mut unanswered = Vec::new();
        for _ in 0..MAX_CLIENTS_OF_A_USER {
            let mut client = rig.connect().await;
            client.write_all(GOOD.as_bytes()).await.expect("room");
            unanswered.push(rig.chunks.recv().await.expect("a chunk"));
        }
        until(|| rig.counters.clients.load(Relaxed) == 0).await;
        assert_eq!(rig.memory.used_bytes(), 0);

        // Their lines are not taken either.
        for _ in 0..2 * rig.chunks.max_capacity() {
            rig.connect().await.write_all(GOOD.as_bytes()).await.expect("room");
        }
        until(|| rig.chunks.len() == rig.chunks.max_capacity()).await;
        until(|| rig.counters.clients.load(Relaxed) == 0).await;

        assert_eq!((rig.counters.turned_away.load(Relaxed), rig.memory.used_bytes()), (0, 0));
        while rig.chunks.try_recv().is_ok() {}
        assert_eq!(rig.exchange(GOOD.as_bytes()).await, ids(1..2));
    });
}

#[test]
fn a_client_that_only_ended_its_lines_gets_its_answer_however_late() {
    run(async {
        tokio::time::pause();
        let mut rig = Rig::new(SourceAdmission::Any);
        let mut client = rig.connect().await;
        client.write_all(GOOD.as_bytes()).await.expect("room");
        client.shutdown().await.expect("a half-close");
        let chunk = rig.chunks.recv().await.expect("a chunk");

        tokio::time::sleep(DEADLINE / 2).await;
        let receipt = Receipt { start: "3".into(), first_seq: 1, is_durable: false };
        chunk.answer.send(Ok(receipt)).expect("a client");
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.expect("an answer, then a close");

        assert_eq!(answers, "{\"id\":\"3-1\",\"durable\":false}\n");
    });
}

#[test]
fn all_inboxes_have_one_number_of_places_and_none_locks_another_out() {
    run(async {
        tokio::time::pause();
        let mut one = Rig::new(SourceAdmission::Any);
        let mut other = one.beside(SourceAdmission::Any);
        let connected =
            |one: &Rig, other: &Rig| [one, other].map(|rig| rig.counters.clients.load(Relaxed));
        let mut held = Vec::new();
        for _ in 0..MAX_CLIENTS_OF_A_USER {
            let mut client = one.connect().await;
            client.write_all(GOOD.as_bytes()).await.expect("room");
            // Each client waits for its answer.
            held.push((client, Some(one.chunks.recv().await.expect("a chunk"))));
        }
        for _ in 0..MAX_CLIENTS / 2 {
            held.push((other.connect().await, None));
        }

        until(|| connected(&one, &other) == [128, 128]).await;

        assert_eq!(one.counters.displaced.load(Relaxed), 64);
        // The clients of the other inbox are idle, and one of them makes room.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(other.exchange(GOOD.as_bytes()).await, ids(1..2));
        drop(held);
        until(|| connected(&one, &other) == [0, 0]).await;
        assert_eq!(one.memory.used_bytes(), 0);
    });
}

#[test]
fn one_client_too_many_is_told_so() {
    run(async {
        tokio::time::pause();
        let rig = Rig::new(SourceAdmission::Any);
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
fn never_speaks_for_a_sensor_of_the_device() {
    run(async {
        let mut rig = Rig::new(SourceAdmission::Only(HashSet::from(["7".into()])));
        assert_eq!(rig.exchange(GOOD.as_bytes()).await, ids(1..2));

        // A reload adds a sensor of that name; the inbox knows the source already.
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
        let mut rig = Rig::new(SourceAdmission::Any);
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
        let mut rig = Rig::new(SourceAdmission::Only(HashSet::from(["7".into()])));
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
        assert!(rig.sources.intern_source(sensor).is_ok(), "a sensor has its place");
    });
}

/// Returns `count` lines of one source, each with another kind, from number `first` on.
fn kinds_of(source: &str, first: usize, count: usize) -> String {
    (first..first + count)
        .map(|n| format!("{{\"source\":\"{source}\",\"kind\":\"k{n}\",\"value\":1}}\n"))
        .collect()
}

fn refused(answers: &str) -> usize {
    answers.lines().filter(|line| line.contains("error")).count()
}

#[test]
fn inboxes_that_are_not_limited_share_one_account_of_new_names() {
    run(async {
        let mut one = Rig::new(SourceAdmission::Any);
        let inboxes = vec![None, None];
        one.owners.send_replace(Arc::new(Owners { sensors: HashSet::new(), inboxes }));
        let mut other = one.beside(SourceAdmission::Any);
        let share = crate::MAX_CLIENT_SOURCES;
        // Each inbox counts the table once at its first line.
        assert_eq!(refused(&other.exchange(GOOD.as_bytes()).await), 0);

        assert_eq!(refused(&one.exchange(kinds_of("a", 0, share).as_bytes()).await), 1);
        assert_eq!(refused(&other.exchange(kinds_of("b", 0, 4000).as_bytes()).await), 4000);

        assert_eq!(one.sources.len(), share);
        assert_eq!(other.counters.sources.load(Relaxed), 8000);
        let sensor = |n| Source::new(&format!("sensor{n}"), "number").expect("names");
        assert!(
            (0..4000).all(|n| one.sources.intern_source(sensor(n)).is_ok()),
            "sensors have places"
        );
    });
}

#[test]
fn sensors_have_places_however_often_the_limits_of_an_inbox_change() {
    run(async {
        let one = Rig::new(SourceAdmission::Any);
        let sensors: HashSet<Box<str>> = HashSet::from(["thermometer".into()]);
        for id in ["7", "8", "9", "10"] {
            let only = HashSet::from([id.into()]);
            let inboxes = vec![None, Some(only.clone())];
            one.owners.send_replace(Arc::new(Owners { sensors: sensors.clone(), inboxes }));
            let mut limited = one.beside(SourceAdmission::Only(only));
            limited.exchange(kinds_of(id, 0, 4000).as_bytes()).await;
        }

        let sensor = |n| Source::new("thermometer", &format!("k{n}")).expect("names");
        assert!(
            (0..1000).all(|n| one.sources.intern_source(sensor(n)).is_ok()),
            "sensors have places"
        );
    });
}

#[test]
fn an_inbox_speaks_for_what_it_is_limited_to_also_beside_a_table_of_other_names() {
    run(async {
        let one = Rig::new(SourceAdmission::Any);
        for n in 0..10_000 {
            let source = Source::new(&format!("s{n}"), "x").expect("names");
            one.sources.intern_source(source).expect("room");
        }
        let only = HashSet::from(["7".into()]);
        let inboxes = vec![None, Some(only.clone())];
        one.owners.send_replace(Arc::new(Owners { sensors: HashSet::new(), inboxes }));
        let mut limited = one.beside(SourceAdmission::Only(only));

        assert_eq!(limited.exchange(GOOD.as_bytes()).await, ids(1..2));
    });
}

#[test]
fn a_table_that_an_older_version_filled_has_places_for_sensors_and_none_for_new_names() {
    run(async {
        let mut rig = Rig::new(SourceAdmission::Any);
        for n in 0..10_000 {
            let source = Source::new(&format!("s{n}"), "x").expect("names");
            rig.sources.intern_source(source).expect("room");
        }

        let known = "{\"source\":\"s9999\",\"kind\":\"x\",\"value\":1}\n";
        let answers = rig.exchange([known, GOOD].concat().as_bytes()).await;

        let refused =
            "{\"error\":\"a new source, of which this inbox has too many\",\"field\":\"source\"}\n";
        assert_eq!(answers, ids(1..2) + refused);
        let sensor = |n| Source::new(&format!("sensor{n}"), "number").expect("names");
        assert!((0..2000).all(|n| rig.sources.intern_source(sensor(n)).is_ok()));
    });
}

#[test]
fn refuses_one_source_more_than_clients_may_name() {
    run(async {
        let mut rig = Rig::new(SourceAdmission::Any);
        let lines = |range: std::ops::Range<usize>| -> String {
            range.map(|n| format!("{{\"source\":\"s{n}\",\"kind\":\"x\",\"value\":1}}\n")).collect()
        };

        let answers = rig.exchange(lines(0..crate::MAX_CLIENT_SOURCES + 1).as_bytes()).await;

        let errors: Vec<_> = answers.lines().filter(|line| line.contains("error")).collect();
        assert_eq!(errors.len(), 1);
        assert_eq!(answers.lines().last(), errors.first().copied());
    });
}

/// A task may do 128 operations before it has to yield (tokio's cooperative budget). Answers use
/// the whole budget here, although the socket stays readable.
#[test]
fn answers_that_use_up_the_turn_of_a_client_stop_neither_it_nor_the_others() {
    within_the_deadline(|| {
        run(async {
            const TURNS: u32 = 256;
            let mut rig = Rig::new(SourceAdmission::Any);
            let mut client = rig.connect().await;
            let mut chunks = Vec::new();
            for _ in 0..TURNS {
                client.write_all(GOOD.as_bytes()).await.expect("room");
                chunks.push(rig.chunks.recv().await.expect("a chunk"));
            }

            client.write_all(GOOD.as_bytes()).await.expect("room");
            for (first_seq, chunk) in (1..).zip(chunks) {
                let receipt = Receipt { start: "3".into(), first_seq, is_durable: true };
                chunk.answer.send(Ok(receipt)).expect("a client");
            }

            let last = rig.chunks.recv().await.expect("the line behind them");
            let receipt =
                Receipt { start: "3".into(), first_seq: u64::from(TURNS) + 1, is_durable: true };
            last.answer.send(Ok(receipt)).expect("a client");
            client.shutdown().await.expect("a half-close");
            let mut answers = String::new();
            client.read_to_string(&mut answers).await.expect("answers");
            assert_eq!(answers, ids(1..TURNS + 2));
        });
    });
}

#[test]
fn a_client_whose_lines_wait_until_the_store_takes_them_is_not_idle() {
    run(async {
        tokio::time::pause();
        let mut rig = Rig::new(SourceAdmission::Any);
        let mut clients = Vec::new();
        let mut chunks = Vec::new();
        for _ in 0..MAX_CLIENTS_OF_A_USER {
            let mut client = rig.connect().await;
            client.write_all(GOOD.as_bytes()).await.expect("room");
            chunks.push(rig.chunks.recv().await.expect("a chunk"));
            clients.push(client);
        }
        // One client fills the channel to the store, so the next lines of the first client have to
        // wait.
        let room = rig.chunks.max_capacity();
        for lines in 1..=room {
            clients[1].write_all(GOOD.as_bytes()).await.expect("room");
            until(|| rig.chunks.len() == lines).await;
        }
        let read = rig.counters.lines.load(Relaxed);
        clients[0].write_all(GOOD.as_bytes()).await.expect("room");
        until(|| rig.counters.lines.load(Relaxed) > read).await;

        let answer = chunks.swap_remove(0).answer;
        answer
            .send(Ok(Receipt { start: "3".into(), first_seq: 1, is_durable: true }))
            .expect("a client");
        until(|| rig.counters.stored.load(Relaxed) == 1).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let _late = rig.connect().await;
        let (displaced, turned_away) = (&rig.counters.displaced, &rig.counters.turned_away);
        until(|| displaced.load(Relaxed) + turned_away.load(Relaxed) > 0).await;

        assert_eq!(displaced.load(Relaxed), 0, "everybody waits for an answer");
    });
}

/// Runs a test on a thread that may be left behind: a runtime that stands still keeps no deadline.
fn within_the_deadline(test: impl FnOnce() + Send + 'static) {
    let (ended, end) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        ended.send(()).expect("somebody waits");
    });
    if end.recv_timeout(DEADLINE * 2).is_err() {
        assert!(thread.is_finished(), "the runtime stands still");
    }
    thread.join().expect("the test holds");
}
