//! The writer waits for its next deadline, regardless of faults of the disk. The tests run without
//! the writer's thread.

use std::path::PathBuf;

use pulsegate_core::cloud::delivery::{LanePart, TakeRequest};
use pulsegate_core::cloud::record_text::{Framing, ReadingFormat};
use pulsegate_core::cloud::topic::{Open, Template};
use pulsegate_core::record::lane::RecordAccount;
use pulsegate_core::record::reading::{Boot, Value};
use pulsegate_sensors::Source;
use rusqlite::Connection;

use super::super::filters::Filters;
use super::super::formats::LaneFormat;
use super::super::{Pass, TakeOutcome};
use super::*;
use crate::config::Buffer;
use crate::db::Reader;
use crate::db::database::AlertRow;
use crate::db::{WriterIdentity, disk};
use crate::platform::durable;
use crate::platform::pulse::Pulse;

mod passes;

fn options(path: PathBuf) -> StoreOptions {
    let template =
        |topic| Template::for_thing(topic, "pi-1", Open { source: true, kind: true }).unwrap();
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
    StoreOptions {
        path,
        identity: WriterIdentity {
            boot: Boot::without_suffix(1),
            thing: "pi-1".into(),
            kernel_boot_id: "first".into(),
            reference_ms: 0,
        },
        keep: Buffer {
            commit_interval: Duration::from_secs(1),
            max_bytes: 1 << 30,
            history: Duration::from_secs(86_400),
            ..Buffer::default()
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
        salvage_patience: Duration::from_secs(60),
        clock: crate::platform::clock::mono,
        thing_change: None,
        backlog: crate::config::Backlog::Keep,
    }
}

/// A writer without a thread, in `folder`, after its start.
fn writer(folder: &std::path::Path) -> Writer {
    writer_of(options(folder.join("pulsegate.db")))
}

/// A writer without a thread, with these `options`, after its start.
fn writer_of(options: StoreOptions) -> Writer {
    let sources = Arc::new(Sources::default());
    let faults::OpenedStore { database, fault, .. } =
        faults::open_at_start(&options, &sources).unwrap();
    let (progress, _) = watch::channel(Progress::default());
    let (told, _) = watch::channel(Standing::default());
    let mut writer = Writer::new(options, database, sources, progress, told);
    if let Some(fault) = fault {
        writer.memory = Some(MemoryMode::new(None));
        writer.faults.begin_refusal(fault);
    }
    writer
}

/// A writer without a thread, with the store and the file system below it.
struct Unit {
    writer: Writer,
    folder: tempfile::TempDir,
}

/// Reading its beginning is an I/O error.
const UNREADABLE: &str = "/proc/self/mem";

impl Unit {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { writer: writer(folder.path()), folder }
    }

    fn append(&mut self, count: u32) {
        let gathered = readings(&self.writer, count);
        self.writer.append_chunk(gathered, None);
        self.writer.urgent = true;
        settle(&mut self.writer);
    }

    /// As if the rules had found something.
    fn alert(&mut self) {
        let alert = alert_row(&self.writer);
        self.writer.work.alerts.push(alert);
        self.writer.urgent = true;
        settle(&mut self.writer);
    }

    /// Puts a file in the place of the store that is there and cannot be read, as on a disk that fails.
    fn fail(&mut self) {
        let path = &self.writer.options.path;
        self.writer.database.connection = Connection::open_in_memory().unwrap();
        durable::rename_file(path, &self.folder.path().join("whole")).unwrap();
        std::os::unix::fs::symlink(UNREADABLE, path).unwrap();
        // SQLite says of a page that the disk does not give what it says of one that is damaged.
        let damaged = self.folder.path().join("nonsense");
        durable::replace_file(&damaged, &[0xa5; 4_096]).unwrap();
        self.writer.database.connection = Connection::open(damaged).unwrap();
    }

    /// Mends the disk, and lets the writer try it.
    fn mend(&mut self) {
        let path = &self.writer.options.path;
        std::fs::remove_file(path).unwrap();
        durable::rename_file(&self.folder.path().join("whole"), path).unwrap();
        self.writer.faults.try_now();
        settle(&mut self.writer);
    }

    fn pass(&self) -> Pass {
        self.writer.progress.borrow().pass
    }

    /// Takes all records of a lane behind `after`. Returns the last place that was taken, and their ids.
    fn take(&mut self, lane: Lane, mut after: Seq) -> (Seq, Vec<String>) {
        let mut ids = Vec::new();
        loop {
            let part = LanePart::Lane { after, withheld: Arc::default() };
            let (records, bytes) = (usize::MAX, usize::MAX);
            let wanted = TakeRequest {
                lane,
                part,
                room: usize::MAX,
                records,
                group_records: usize::MAX,
                bytes,
            };
            let TakeOutcome::Group(group) = self.writer.take_records(&wanted, true) else {
                return (after, ids);
            };
            for batch in &group.batches {
                let records: Vec<serde_json::Value> =
                    serde_json::from_slice(&batch.payload).unwrap();
                ids.extend(records.iter().map(|one| one["seq"].as_str().unwrap().to_owned()));
            }
            after = group.through;
        }
    }

    fn mark(&mut self, lane: Lane, through: Seq, delivered: usize, pass: u64) {
        let delivered = delivered as u64;
        let marks = vec![Mark { lane, through, delivered, filtered: 0, gaps: Vec::new() }];
        let (answer, _) = oneshot::channel();
        let mark = Request::Mark { marks, topics: Vec::new(), urgent: true, pass, answer };
        self.writer.handle_request(mark);
        settle(&mut self.writer);
    }

    /// Takes and marks all records of a lane behind where the pass begins. Returns their ids.
    fn deliver(&mut self, lane: Lane) -> Vec<String> {
        let Pass { number, watermarks } = self.pass();
        let (through, ids) = self.take(lane, watermarks[lane.index()]);
        self.mark(lane, through, ids.len(), number);
        ids
    }

    fn accounts(&self) -> [RecordAccount; 3] {
        let accounts = self.writer.database.lanes.map(|row| row.account());
        if self.writer.memory.is_none() {
            crate::store::tests::assert_counted(&self.writer.options.path);
        }
        assert!(accounts.iter().all(RecordAccount::is_balanced), "{accounts:?}");
        accounts
    }

    fn set_aside(&self) -> usize {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().contains(".damaged-")).count()
    }
}

/// Lets the writer go round until it would wait.
fn settle(writer: &mut Writer) {
    for _ in 0..20 {
        writer.finish_round(writer.mono_now(), true);
        if writer.wake_at() > Instant::now() {
            return;
        }
    }
    panic!("it spins: {:?}", writer.faults);
}

fn alert_row(writer: &Writer) -> AlertRow {
    let source = writer.sources.intern_source(Source::new("7", "heart_rate").unwrap()).unwrap();
    AlertRow {
        rule: "high".into(),
        source: source.0,
        raised: true,
        severity: "warning",
        value: Value::Number(250.0),
        score: None,
        window: None,
        time: pulsegate_core::time::Wall(0),
        derived: false,
    }
}

fn readings(writer: &Writer, count: u32) -> Vec<Reading> {
    let source = writer.sources.intern_source(Source::new("7", "heart_rate").unwrap()).unwrap();
    let reading = |beat| Reading {
        source,
        mono: writer.mono_now(),
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
        writer.append_chunk(readings, None);
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
    writer.append_chunk(gathered, None);
    settle(&mut writer);
    let path = writer.options.path.clone();
    let stand_in = |folder| disk::DiskFault::Full { folder, free_bytes: 0 };
    writer.go_on_in_memory(stand_in(path.parent().unwrap().to_owned()));
    let gathered = readings(&writer, 10);
    let (answer, mut answered) = oneshot::channel();
    writer.append_chunk(gathered, Some(answer));
    writer.urgent = true;
    writer.retention_at = Instant::now();
    settle(&mut writer);
    assert_eq!(writer.database.place, StoreLocation::Memory);
    let receipt = answered.try_recv().expect("an answer at once").unwrap();
    assert_eq!((receipt.first_seq, receipt.is_durable), (11, false));
    let before = writer.database.lanes[Lane::Readings.index()].recorded;

    writer.faults.try_now();
    settle(&mut writer);

    assert_eq!(writer.database.place, StoreLocation::File);
    assert_eq!(writer.faults.retry_at(), None);
    assert_eq!(writer.database.lanes[Lane::Readings.index()].recorded, before);
    assert_eq!(overflow::count_behind(&writer.database, Lane::Readings, 0), Ok(20));
}

#[tokio::test]
async fn while_the_file_cannot_be_read_new_records_go_out_from_memory_and_the_old_ones_follow() {
    let mut unit = Unit::new();
    unit.append(100);
    let first = Seq(40);
    unit.mark(Lane::Readings, first, 40, 0);
    unit.fail();

    let (_, of_file) = unit.take(Lane::Readings, first);
    assert!(of_file.is_empty());
    assert_eq!(unit.writer.faults.current_fault().map(disk::DiskFault::as_str), Some("io_error"));
    unit.append(30);
    unit.alert();
    let alerts = unit.deliver(Lane::Alerts);
    let live = unit.deliver(Lane::Readings);

    assert_eq!((alerts.len(), live.len()), (1, 30), "they wait for the disk");
    assert_eq!(unit.accounts()[Lane::Readings.index()].pending, 60);
    assert_eq!(unit.accounts()[Lane::Readings.index()].recorded, 130);
    unit.append(7);
    // The disk still fails when it is tried.
    unit.writer.faults.try_now();
    settle(&mut unit.writer);
    assert_eq!(unit.set_aside(), 0, "the disk is at fault, not the store");
    assert_eq!(unit.pass().number, 1);

    unit.mend();

    assert_eq!((unit.writer.database.place, unit.set_aside()), (StoreLocation::File, 0));
    assert_eq!(unit.accounts()[Lane::Readings.index()].pending, 67);
    let rest = unit.deliver(Lane::Readings);
    assert_eq!(rest.len(), 67, "{rest:?}");
    assert!(rest.iter().all(|id| !live.contains(id)), "sent again: {rest:?}");
    assert!(unit.deliver(Lane::Alerts).is_empty());
    let account = unit.accounts()[Lane::Readings.index()];
    assert_eq!((account.recorded, account.delivered, account.pending), (137, 137, 0));
}

#[tokio::test]
async fn what_was_delivered_while_the_file_could_not_be_read_leaves_no_trace_of_damage() {
    let mut unit = Unit::new();
    unit.append(10);
    unit.fail();
    unit.take(Lane::Readings, Seq(0));
    unit.append(10);
    unit.deliver(Lane::Readings);
    unit.mend();
    let last_seq = unit.writer.database.last_seq;
    let folder = unit.folder;
    drop(unit.writer);

    let again = writer(folder.path());

    assert_eq!(again.database.last_seq, last_seq, "a place is given twice");
    let mut unit = Unit { writer: again, folder };
    assert_eq!(unit.accounts()[Lane::Readings.index()].pending, 10);
    unit.append(1);
    assert_eq!(unit.take(Lane::Readings, Seq(0)).1.len(), 11);
    assert_eq!(unit.set_aside(), 0);
}

#[tokio::test]
async fn a_mark_of_an_earlier_pass_counts_nothing() {
    let mut unit = Unit::new();
    unit.append(10);
    unit.fail();
    unit.take(Lane::Readings, Seq(0));
    unit.append(5);

    unit.mark(Lane::Readings, Seq(10), 10, 0);

    let account = unit.accounts()[Lane::Readings.index()];
    assert_eq!((account.delivered, account.pending), (0, 15));
    unit.mend();
    assert_eq!(unit.deliver(Lane::Readings).len(), 15);
}

#[tokio::test]
async fn each_fault_of_the_disk_is_told_and_what_arrives_goes_out_from_memory() {
    let folder = || PathBuf::from("/somewhere");
    let path = || folder().join("pulsegate.db");
    let error = || "some error".to_owned();
    let faults = [
        ("full", disk::DiskFault::Full { folder: folder(), free_bytes: 0 }),
        ("no_inodes", disk::DiskFault::NoInodes { folder: folder() }),
        ("read_only", disk::DiskFault::ReadOnly { folder: folder() }),
        ("permission", disk::DiskFault::Permission { path: path(), mode: 0o400 }),
        ("missing", disk::DiskFault::Missing { folder: folder() }),
        ("io_error", disk::DiskFault::Io { folder: folder(), error: error() }),
        ("in_use", disk::DiskFault::InUse { path: path(), pid: 7 }),
        ("other", disk::DiskFault::Other(error())),
    ];
    for (word, fault) in faults {
        let mut unit = Unit::new();
        unit.append(5);

        unit.writer.go_on_in_memory(fault);
        unit.append(5);

        let told = unit.writer.progress.borrow().fault.clone().unwrap();
        assert_eq!(told.as_str(), word);
        assert!(told.to_string().len() > word.len(), "{told}");
        assert!(unit.writer.progress.borrow().is_in_memory, "{word}: called durable");
        assert_eq!(unit.deliver(Lane::Readings).len(), 10, "{word}");
        let event = unit.deliver(Lane::Events);
        assert_eq!(event.len(), 1, "{word}: no event");
        unit.writer.faults.try_now();
        settle(&mut unit.writer);
        assert_eq!(unit.writer.database.place, StoreLocation::File, "{word}");
        assert_eq!(unit.accounts()[Lane::Readings.index()].pending, 0, "{word}");
    }
}

/// Records that memory has no room for are told before their gap can be written.
#[tokio::test]
async fn what_is_given_up_while_the_file_takes_no_writes_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    let path = folder.path().to_owned();
    writer.go_on_in_memory(disk::DiskFault::Full { folder: path, free_bytes: 0 });
    let full = u32::try_from(faults::WAITING_ROWS).unwrap();
    for count in [full, 7] {
        let gathered = readings(&writer, count);
        writer.append_chunk(gathered, None);
        writer.urgent = true;
        settle(&mut writer);
    }
    let told = |writer: &Writer| writer.progress.borrow().given_up[Lane::Readings.index()];
    assert_eq!(told(&writer), 7);

    writer.faults.try_now();
    settle(&mut writer);
    assert_eq!(writer.database.place, StoreLocation::File);
    assert_eq!(told(&writer), 0, "its gap is written");
    assert_eq!(writer.database.lanes[Lane::Readings.index()].dropped, 7);
}

#[tokio::test]
async fn a_reload_while_there_is_no_file_folds_each_reading_in_memory_once() {
    let mut unit = Unit::new();
    unit.append(5);
    let folder = unit.folder.path().to_owned();
    unit.writer.go_on_in_memory(disk::DiskFault::Full { folder, free_bytes: 0 });
    unit.append(10);
    let count = |writer: &Writer| {
        let (stored, since) = memory::stored_readings(writer.memory.as_ref(), &writer.database);
        (overflow::count_behind(stored, Lane::Readings, 0).unwrap(), since.len())
    };
    assert_eq!(count(&unit.writer), (5, 10));

    unit.writer.memory.as_mut().unwrap().file = None;

    assert_eq!(count(&unit.writer), (10, 0));
}

#[tokio::test]
async fn a_connection_that_failed_with_an_error_of_the_card_is_replaced_by_the_first_try() {
    let mut unit = Unit::new();
    unit.append(5);
    let folder = unit.folder.path().to_owned();
    let fault = disk::DiskFault::Io { folder, error: "disk I/O error".to_owned() };
    unit.writer.go_on_in_memory(fault);
    unit.append(5);
    // Every write on it fails from now on, and reading does not.
    let file = unit.writer.memory.as_mut().unwrap().file.as_mut().unwrap();
    file.connection.execute_batch("PRAGMA query_only = ON").unwrap();

    unit.writer.faults.try_now();
    settle(&mut unit.writer);

    assert_eq!(unit.writer.database.place, StoreLocation::File);
    assert_eq!(unit.deliver(Lane::Readings).len(), 10);
}

#[tokio::test]
async fn alerts_that_come_with_time_stay_within_the_bound_of_memory() {
    let mut unit = Unit::new();
    let path = unit.folder.path().to_owned();
    unit.writer.go_on_in_memory(disk::DiskFault::Full { folder: path, free_bytes: 0 });
    unit.alert();
    for _ in 0..faults::WAITING_FEW + 6 {
        let alert = alert_row(&unit.writer);
        unit.writer.work.alerts.push(alert);
    }
    unit.writer.urgent = true;

    settle(&mut unit.writer);

    let kept = overflow::count_behind(&unit.writer.database, Lane::Alerts, 0);
    assert_eq!(kept, Ok(faults::WAITING_FEW as u64));
    let given_up = unit.writer.progress.borrow().given_up;
    assert_eq!(given_up[Lane::Alerts.index()], 7);
}

#[tokio::test]
async fn what_is_given_up_is_told_though_nothing_else_is_gathered() {
    let mut unit = Unit::new();
    let path = unit.folder.path().to_owned();
    unit.writer.go_on_in_memory(disk::DiskFault::Full { folder: path, free_bytes: 0 });
    unit.append(u32::try_from(faults::WAITING_ROWS).unwrap());
    unit.writer.options.keep.commit_interval = Duration::ZERO;
    let gathered = readings(&unit.writer, 7);

    unit.writer.append_chunk(gathered, None);
    settle(&mut unit.writer);

    let given_up = unit.writer.progress.borrow().given_up;
    assert_eq!(given_up[Lane::Readings.index()], 7);
    assert_eq!(unit.writer.commit_at, None, "it commits without end");
}
