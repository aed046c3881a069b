//! The store with its real thread and real files, as the agent runs it.

#![expect(clippy::disallowed_methods, reason = "damages, copies and fills files on purpose")]

mod crash;
mod damage;
mod disk;
mod full_disk;
mod fuzz;
mod held_back;
mod keeping;
mod model;
mod owner;
mod partition;
mod published;
mod restarts;
mod rules;
mod salvage;
mod size;
mod sql;
mod time;
mod trip;
mod untold;
mod withheld;
mod withheld_keeping;
mod withheld_model;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pulsegate_core::cloud::delivery::Mark;
use pulsegate_core::cloud::record_text::{Framing, ReadingFormat};
use pulsegate_core::cloud::topic::{Open, Template};
use pulsegate_core::record::event::Event;
use pulsegate_core::record::id::RecordId;
use pulsegate_core::record::lane::{Lane, RecordAccount};
use pulsegate_core::record::reading::{Reading, Seq, Value};
use pulsegate_core::rules::RuleSpec;
use pulsegate_core::time::{Mono, Wall};
use pulsegate_sensors::inbox::{ChunkRefused, Receipt};
use pulsegate_sensors::{Source, SourceId, Sources};
use serde_json::Value as Json;
use tokio::sync::oneshot;

use super::filters::Filters;
use super::formats::LaneFormat;
use super::*;
use crate::db::FILE;
use crate::platform::{boot, clock};

/// Whatever is waited for comes within this, on the slowest of machines.
const PATIENCE: Duration = Duration::from_secs(60);
/// 2026-11-20T12:00:00Z.
const NOON: i64 = 1_795_176_000_000;

/// A device: a state directory that outlives the starts of the agent.
struct Device {
    folder: tempfile::TempDir,
    kernel_boot: &'static str,
    reference_ms: i64,
    keep: Buffer,
    rules: Vec<RuleSpec>,
    clock: fn() -> Mono,
}

/// The store while the agent runs.
struct Running {
    store: Store,
    thread: std::thread::JoinHandle<()>,
    sources: Arc<Sources>,
}

impl Device {
    fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    fn at(folder: tempfile::TempDir) -> Self {
        Self {
            folder,
            kernel_boot: "first",
            reference_ms: NOON,
            keep: Buffer {
                commit_interval: Duration::from_millis(20),
                max_bytes: 1 << 30,
                ..Buffer::default()
            },
            rules: Vec::new(),
            clock: clock::mono,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(FILE)
    }

    /// What a kill would leave behind, as another device.
    fn killed(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy_files(self.folder.path(), folder.path());
        Self { folder, rules: self.rules.clone(), ..*self }
    }

    fn options(&self) -> StoreOptions {
        let (boot, counted) = boot::count_start(
            self.folder.path(),
            store_reached(&self.path()).map(|reached| reached.boot),
        );
        counted.ok();
        StoreOptions {
            path: self.path(),
            identity: WriterIdentity {
                boot: Boot::without_suffix(boot.counter()),
                thing: "pi-1".into(),
                kernel_boot_id: self.kernel_boot.into(),
                reference_ms: self.reference_ms,
            },
            keep: self.keep,
            thing_change: None,
            backlog: crate::config::Backlog::Keep,
            rules: Arc::new(self.rules.clone()),
            formats: formats(),
            pulse: Pulse::default(),
            salvaging: watch::Sender::default(),
            salvage_patience: PATIENCE,
            clock: self.clock,
        }
    }

    fn start(&self) -> Running {
        let sources = Arc::new(Sources::default());
        let (store, thread) = Store::open_on_thread(self.options(), &sources).unwrap();
        Running { store, thread, sources }
    }

    /// The files whose names begin with `pulsegate.db.damaged-`, without their logs.
    fn set_aside(&self) -> Vec<PathBuf> {
        let mut found: Vec<_> = std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                name.contains(".damaged-") && !name.ends_with("-wal") && !name.ends_with("-shm")
            })
            .collect();
        found.sort();
        found
    }
}

impl Running {
    fn source(&self, name: &str, kind: &str) -> SourceId {
        self.sources.intern_source(Source::new(name, kind).unwrap()).unwrap()
    }

    /// Appends `values` of a belt, and waits until they are durable.
    async fn append(&self, values: impl IntoIterator<Item = f64>) -> Receipt {
        let receipt = self.offer(self.belt(values)).await.unwrap();
        if !receipt.is_durable {
            self.until("durable readings", |progress| !progress.is_in_memory).await;
        }
        receipt
    }

    fn belt(&self, values: impl IntoIterator<Item = f64>) -> Vec<Reading> {
        let source = self.source("7", "heart_rate");
        values.into_iter().map(|value| number(source, clock::mono(), value)).collect()
    }

    async fn offer(&self, readings: Vec<Reading>) -> Result<Receipt, ChunkRefused> {
        let (answer, answered) = oneshot::channel();
        self.store.append_readings(readings, Some(answer)).await.unwrap();
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(answered) => answered.unwrap(),
            Err(_) => panic!("no answer: {:?}", *self.store.watch_progress().borrow()),
        }
    }

    async fn event(&self, reason: &str) {
        let event = Event::SourceLost { source: "7".into(), reason: reason.into() };
        self.store.append_event(EventRow { event, mono: clock::mono() }).await.unwrap();
        self.store.commit_now().await.unwrap();
    }

    /// Takes the records of a lane behind `after`, up to a message full.
    async fn take(&self, lane: Lane, after: u64) -> (u64, Vec<Json>) {
        match self.store.take(lane, Seq(after), usize::MAX, true).await.unwrap() {
            TakeOutcome::Group(group) => {
                let records = group
                    .batches
                    .iter()
                    .flat_map(|batch| serde_json::from_slice::<Vec<Json>>(&batch.payload).unwrap());
                (group.through.0, records.collect())
            }
            TakeOutcome::OfTopic(..) | TakeOutcome::Later { .. } | TakeOutcome::Nothing => {
                (after, Vec::new())
            }
        }
    }

    /// Takes all the records of a lane behind `after`.
    async fn take_all(&self, lane: Lane, mut after: u64) -> Vec<Json> {
        let mut all = Vec::new();
        loop {
            let (through, records) = self.take(lane, after).await;
            if records.is_empty() {
                return all;
            }
            after = through;
            all.extend(records);
        }
    }

    /// Takes and acknowledges up to a message full. Returns what was delivered.
    async fn deliver(&self, lane: Lane, after: u64) -> (u64, Vec<Json>) {
        let pass = self.store.watch_progress().borrow().pass.number;
        let (through, records) = self.take(lane, after).await;
        if !records.is_empty() {
            let delivered = records.len() as u64;
            let mark =
                Mark { lane, through: Seq(through), delivered, filtered: 0, gaps: Vec::new() };
            let marked = self.store.mark_all(vec![mark], Vec::new(), true, pass).await;
            marked.unwrap().await.unwrap();
        }
        (through, records)
    }

    fn account(&self, lane: Lane) -> RecordAccount {
        self.store.lane_accounts()[lane.index()]
    }

    /// Commits, and waits until a damaged store that was met is carried over.
    async fn settle(&self) {
        self.store.commit_now().await.unwrap();
        let is_damaged = |fault: &DiskFault| matches!(fault, DiskFault::Damaged { .. });
        self.until("a whole store", |progress| !progress.fault.as_ref().is_some_and(is_damaged))
            .await;
    }

    async fn assert_balanced(&self) {
        for (lane, account) in Lane::ALL.iter().zip(self.store.lane_accounts()) {
            assert!(account.is_balanced(), "{lane:?}: {account:?}");
        }
        if !self.store.watch_progress().borrow().is_in_memory {
            assert_counted(&self.store.path);
        }
    }

    async fn until(&self, what: &str, met: impl FnMut(&Progress) -> bool) -> Progress {
        let mut progress = self.store.watch_progress();
        let met = tokio::time::timeout(PATIENCE, progress.wait_for(met)).await;
        match met {
            Ok(progress) => progress.unwrap().clone(),
            Err(_) => panic!("waited in vain: {what}: {:?}", *self.store.watch_progress().borrow()),
        }
    }

    /// Stops the store, and waits for a salvage that goes on: here no process ends, and with it the thread that
    /// would write beside the next start.
    async fn stop(self) {
        let mut salvaging = self.store.salvaging.clone();
        self.stop_without_salvage().await;
        let ended = async { while salvaging.changed().await.is_ok() {} };
        tokio::time::timeout(PATIENCE, ended).await.expect("the salvage never ends");
    }

    async fn stop_without_salvage(self) {
        let Self { store, thread, .. } = self;
        store.commit_now().await.ok();
        drop(store);
        tokio::task::spawn_blocking(|| thread.join().expect("the store never panics"))
            .await
            .unwrap();
    }
}

/// The accounts in the file tell how many of its records are pending, without a count.
pub(super) fn assert_counted(path: &Path) {
    let mut connection = crate::db::schema::open_reader(path).unwrap();
    let snapshot = connection.transaction().unwrap();
    let lanes = match crate::db::load::read_lanes(&snapshot) {
        Ok(lanes) => lanes,
        // Of a damaged table, no statement of the writer needs to have read anything yet.
        Err(error) => return assert!(crate::db::error::is_damage(&error), "{error}"),
    };
    for lane in Lane::ALL {
        let row = lanes[lane.index()];
        let pending = crate::db::withheld::count_pending(&snapshot, lane, row.watermark).unwrap();
        assert_eq!(row.pending, pending, "{lane:?}: {row:?}");
    }
}

/// Randomness that can be had again: `SEED=` what a failed test printed.
fn random() -> fastrand::Rng {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

fn number(source: SourceId, mono: Mono, value: f64) -> Reading {
    Reading { source, mono, time: None, value: Value::Number(value), detail: None }
}

fn formats() -> Arc<Formats> {
    let template =
        |topic| Template::for_thing(topic, "pi-1", Open { source: true, kind: true }).unwrap();
    let lane = |topic| LaneFormat {
        topic: template(topic),
        framing: Framing::Array,
        add: "".into(),
        limit_bytes: 5_000,
        delay: Duration::from_secs(1),
    };
    Arc::new(Formats {
        kinds: Vec::new(),
        readings: ReadingFormat {
            topic: template("readings"),
            fields: None,
            framing: Framing::Array,
            add: "".into(),
        },
        filters: Filters::default(),
        units: vec![("air".into(), "celsius".into())],
        light: None,
        visits: Vec::new(),
        rr: vec!["7".into()],
        lanes: [lane("alerts"), lane("events"), lane("readings")],
    })
}

/// Copies everything of one folder into another.
fn copy_files(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        // The index of the log is made anew after a power cut.
        if !entry.file_name().to_string_lossy().ends_with("-shm") {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn ids(records: &[Json]) -> Vec<String> {
    records.iter().map(|record| record["seq"].as_str().unwrap().to_owned()).collect()
}

fn place(id: &str) -> (u32, u64) {
    let id: RecordId = id.parse().unwrap();
    (id.boot.counter(), id.seq.0)
}

/// The counter of the start in which a chunk was stored.
fn counter(receipt: &Receipt) -> u32 {
    receipt.start.parse::<Boot>().unwrap().counter()
}

/// A wall time as records tell it.
fn text(time: Wall) -> String {
    pulsegate_core::cloud::record_text::ClockText::format_time(time)
}
