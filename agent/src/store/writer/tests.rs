//! The writer waits for its next deadline, whatever is wrong with the disk (no thread of its own here).

use std::path::PathBuf;

use pulsegate_core::reading::{Boot, Value};
use pulsegate_core::record::{Framing, ReadingFormat};
use pulsegate_core::topic::{Open, Template};
use pulsegate_sensors::Source;

use super::super::{Filters, Keep, LaneFormat};
use super::*;
use crate::agent::Pulse;
use crate::store::{Identity, disk};

fn options(path: PathBuf) -> Options {
    let template =
        |topic| Template::parse(topic, "pi-1", Open { source: true, kind: true }).unwrap();
    let lane = || LaneFormat {
        topic: template("lane"),
        framing: Framing::Array,
        add: "".into(),
        limit_bytes: 5_000,
        delay: Duration::from_secs(1),
    };
    let readings = ReadingFormat {
        topic: template("readings"),
        fields: None,
        framing: Framing::Array,
        add: "".into(),
    };
    Options {
        path,
        identity: Identity {
            boot: Boot::without_suffix(1),
            thing: "pi-1".into(),
            kernel_boot_id: "first".into(),
            reference_ms: 0,
        },
        keep: Keep {
            commit_interval: Duration::from_secs(1),
            max_bytes: 1 << 30,
            history: Duration::from_secs(86_400),
            ttl: None,
        },
        rules: Arc::new(Vec::new()),
        formats: Arc::new(Formats {
            kinds: Vec::new(),
            readings,
            filters: Filters::default(),
            units: Vec::new(),
            light: None,
            visits: Vec::new(),
            rr: Vec::new(),
            lanes: [lane(), lane(), lane()],
        }),
        pulse: Pulse::default(),
        salvaging: watch::Sender::default(),
        clock: crate::clock::mono,
        thing_change: None,
    }
}

/// A writer without a thread, in `folder`, after its start.
fn writer(folder: &std::path::Path) -> Writer {
    let options = options(folder.join("pulsegate.db"));
    let sources = Arc::new(Sources::default());
    let (database, _, fault) = faults::open(&options, &sources).unwrap();
    let (progress, _) = watch::channel(Progress::default());
    let (told, _) = watch::channel(Standing::default());
    let mut writer = Writer::new(options, database, sources, progress, told);
    if let Some(fault) = fault {
        writer.memory = Some(Memory::new(None));
        writer.faults.begin(fault);
    }
    writer
}

/// Lets the writer go round until it would wait.
fn settle(writer: &mut Writer) {
    for _ in 0..20 {
        writer.after(writer.now(), true);
        if writer.wake_at() > Instant::now() {
            return;
        }
    }
    panic!("it spins: {:?}", writer.faults);
}

fn readings(writer: &Writer, count: u32) -> Vec<Reading> {
    let source = writer.sources.intern(Source::new("7", "heart_rate").unwrap()).unwrap();
    let reading = |beat| Reading {
        source,
        mono: writer.now(),
        time: None,
        value: Value::Number(f64::from(beat)),
        detail: None,
    };
    (0..count).map(reading).collect()
}

#[tokio::test]
async fn the_writer_waits_while_there_is_no_store() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(&folder.path().join("not").join("mounted"));
    for _ in 0..3 {
        let readings = readings(&writer, 10);
        writer.append(readings, None);
        writer.retention_at = Instant::now();
        writer.faults.try_now();
        settle(&mut writer);
        assert!(writer.memory.is_some());
        let retry = writer.faults.retry_at().expect("it is tried again");
        assert!(retry > Instant::now());
    }
}

#[tokio::test]
async fn the_writer_waits_while_the_file_takes_no_writes_and_goes_back_to_it_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    let gathered = readings(&writer, 10);
    writer.append(gathered, None);
    settle(&mut writer);
    let path = writer.options.path.clone();
    let stand_in = |folder| disk::DiskFault::Full { folder, free_bytes: 0 };
    writer.go_on_in_memory(stand_in(path.parent().unwrap().to_owned()));
    let gathered = readings(&writer, 10);
    let (answer, mut answered) = oneshot::channel();
    writer.append(gathered, Some(answer));
    writer.urgent = true;
    writer.retention_at = Instant::now();
    settle(&mut writer);
    assert_eq!(writer.database.place, Place::Memory);
    assert!(answered.try_recv().is_err(), "answered as durable from memory");
    let before = writer.database.lanes[Lane::Readings.index()].recorded;

    writer.faults.try_now();
    settle(&mut writer);

    assert_eq!(writer.database.place, Place::File);
    assert_eq!(writer.faults.retry_at(), None);
    assert_eq!(answered.try_recv().unwrap().unwrap().first_seq, 11);
    assert_eq!(writer.database.lanes[Lane::Readings.index()].recorded, before);
    assert_eq!(overflow::count(&writer.database.connection, Lane::Readings, 0), Ok(20));
}

/// The accounts are counted beside the writer, which may move the records into the file meanwhile.
#[tokio::test]
async fn records_that_are_moved_from_memory_while_they_are_counted_count_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    let gathered = readings(&writer, 10);
    writer.append(gathered, None);
    settle(&mut writer);
    let path = writer.options.path.clone();
    let folder_of_file = path.parent().unwrap().to_owned();
    writer.go_on_in_memory(disk::DiskFault::Full { folder: folder_of_file, free_bytes: 0 });
    let gathered = readings(&writer, 20);
    writer.append(gathered, None);
    writer.urgent = true;
    settle(&mut writer);
    let before = writer.progress.borrow().in_memory.clone().expect("it is in memory");

    writer.faults.try_now();
    settle(&mut writer);
    assert_eq!(writer.database.place, Place::File);

    let [_, _, readings] = before.accounts(&path).unwrap();
    assert!(readings.balances(), "{readings:?}");
    assert_eq!((readings.recorded, readings.pending), (30, 30));
}
