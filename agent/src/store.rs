//! The store: all records of this device in an SQLite database, written by a single thread.
//!
//! New records are gathered for the commit interval, or until an alert, and committed together
//! (P1). Stored records never change. Delivery is kept as a watermark for each lane, written with a
//! later commit. Opening, appending and taking cost the same with ten million records as with ten
//! (P9).
//!
//! While the disk refuses writes, new records are kept in memory up to a bound, published from
//! there, and moved into the file as soon as the file takes writes again. Beyond the bound they are
//! given up and counted (P3). A damaged database is set aside under a dated name, its readable rows
//! are carried over into a new database, and the store continues (P7).

mod check;
mod filters;
pub(crate) mod fold;
mod formats;
mod standing;
pub(crate) mod take;
pub(crate) mod visits;
pub(crate) mod writer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pulsegate_core::act::standing::Standing;
#[cfg(test)]
use pulsegate_core::cloud::delivery::LanePart;
use pulsegate_core::cloud::delivery::{Mark, TakeRequest, TopicMark};
use pulsegate_core::record::lane::{Lane, RecordAccount};
use pulsegate_core::record::reading::{Boot, Reading, Seq};
use pulsegate_core::rules::{RuleCounts, RuleSpec};
use pulsegate_core::time::timeline::ClockTrust;
use pulsegate_core::time::{Mono, Wall};
use pulsegate_sensors::Sources;
use pulsegate_sensors::inbox::{ChunkRefused, Receipt};
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::{Backlog, Buffer};
use crate::db::database::Database;
use crate::db::{DiskFault, EventRow, Reached, Room, SalvageProgress, ThingChange, WriterIdentity};
use crate::platform::pulse::Pulse;
pub(crate) use check::Checked;
pub(crate) use fold::Flapping;
pub(crate) use formats::Formats;
pub(crate) use take::TakeOutcome;

/// Requests in the queue to the writer, each with up to 64 KiB of readings. Bounds the memory of a
/// burst before back-pressure.
const QUEUE: usize = 4;

/// The settings of the store.
#[derive(Debug, Clone)]
pub(crate) struct StoreOptions {
    pub(crate) path: PathBuf,
    pub(crate) identity: WriterIdentity,
    pub(crate) keep: Buffer,
    /// Set if the store was another thing's until now.
    pub(crate) thing_change: Option<ThingChange>,
    /// The fate of another thing's pending records, also in a store opened only after the start.
    pub(crate) backlog: Backlog,
    pub(crate) rules: Arc<Vec<RuleSpec>>,
    pub(crate) formats: Arc<Formats>,
    pub(crate) pulse: Pulse,
    /// Receives the progress of a salvage.
    pub(crate) salvaging: watch::Sender<Option<SalvageProgress>>,
    /// Time for a start to wait for the salvage of a damaged store, before it continues in memory.
    pub(crate) salvage_patience: Duration,
    /// The monotonic clock for windows and deadlines: `clock::mono`, or the clock of a test.
    pub(crate) clock: fn() -> Mono,
}

/// A pass of delivery over the lanes. Another pass begins when the records in the file cannot be
/// read, to deliver memory alone, and again when the file is back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Number of earlier passes. Marks of an earlier pass are ignored.
    pub(crate) number: u64,
    /// By lane: the place behind which the pass begins. For the first pass the place is in
    /// [`Store`].
    pub(crate) watermarks: [Seq; 3],
}

/// The state of the writer, sent after every commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The last committed record of each lane.
    pub(crate) last: [Seq; 3],
    /// Number of commits.
    pub(crate) commits: u64,
    /// The fault for which the disk refuses writes.
    pub(crate) fault: Option<DiskFault>,
    /// The account of each lane.
    pub(crate) accounts: [RecordAccount; 3],
    /// True while the disk refuses writes, and records are kept in memory.
    pub(crate) is_in_memory: bool,
    /// Bytes allowed for records: the cap of the configuration, or less on a small partition.
    pub(crate) cap_bytes: u64,
    /// The room on the partition; `None` if the file system does not answer.
    pub(crate) room: Option<Room>,
    /// Bytes used by records.
    pub(crate) used_bytes: u64,
    /// Bytes of the database file.
    pub(crate) file_bytes: u64,
    /// Readings in memory only and not delivered.
    pub(crate) waiting: u64,
    /// By lane: records given up because memory is full. Their gap is written when the disk takes
    /// writes again.
    pub(crate) given_up: [u64; 3],
    /// File name of the damaged database set aside in favour of this store.
    pub(crate) set_aside: Option<String>,
    /// Counts of readings not used by the rules and of alerts held back.
    pub(crate) rules: RuleCounts,
    /// Rules with changes too frequent for an alert each.
    pub(crate) flapping: Vec<Flapping>,
    /// Number of invalid rows left in the damaged database.
    pub(crate) left_rows: u64,
    /// State of the search for damage.
    pub(crate) checked: Checked,
    /// The rules switched off, each with reason and cure.
    pub(crate) rules_off: Vec<String>,
    /// The withheld topics.
    pub(crate) withheld: Vec<(Lane, Arc<str>)>,
    /// Number of times `withheld` was set: at the start, and after each change of the
    /// configuration, which may give a source another topic.
    pub(crate) withheld_told: u64,
    /// The present pass of delivery.
    pub(crate) pass: Pass,
}

/// A request to the writer.
enum Request {
    Append(Vec<Reading>, Option<oneshot::Sender<Result<Receipt, ChunkRefused>>>),
    Event(EventRow),
    Clock(Mono, Wall, ClockTrust),
    Take {
        wanted: TakeRequest,
        hurry: bool,
        answer: oneshot::Sender<TakeOutcome>,
    },
    Mark {
        marks: Vec<Mark>,
        topics: Vec<TopicMark>,
        urgent: bool,
        pass: u64,
        answer: oneshot::Sender<()>,
    },
    Withhold {
        topics: Vec<TopicMark>,
        told: u64,
        pass: u64,
        answer: oneshot::Sender<()>,
    },
    Configure {
        keep: Buffer,
        rules: Arc<Vec<RuleSpec>>,
        formats: Arc<Formats>,
    },
    /// The search for damage ended.
    Checked(Checked),
    /// Commit now.
    Hurry,
    Flush(oneshot::Sender<()>),
}

/// The agent's end of the channel to the writer.
#[derive(Clone)]
pub(crate) struct Store {
    requests: mpsc::Sender<Request>,
    progress: watch::Receiver<Progress>,
    standing: watch::Receiver<Standing>,
    salvaging: watch::Receiver<Option<SalvageProgress>>,
    /// By lane: the place behind which publishing begins.
    pub(crate) watermarks: [Seq; 3],
    /// This start of the agent.
    pub(crate) boot: Boot,
    /// The last trusted time known from earlier starts.
    pub(crate) last_trusted: Option<Wall>,
    path: PathBuf,
    /// The pulse of the part with this handle: it beats while the part waits for the writer.
    waiting: Pulse,
}

/// The writer has ended: the agent is stopping, or has to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store has stopped")]
pub(crate) struct Stopped;

/// Returns the last start and place of the store at `path`; `None` if the store cannot be read.
pub(crate) fn store_reached(path: &std::path::Path) -> Option<Reached> {
    Database::read_reached(path).ok().flatten()
}

impl Store {
    /// Opens the database on a thread of its own. After the last [`Store`] is dropped, the thread
    /// commits and ends.
    ///
    /// # Errors
    /// Only when neither a file nor memory can hold a database.
    pub(crate) fn open_on_thread(
        options: StoreOptions,
        sources: &Arc<Sources>,
    ) -> anyhow::Result<(Self, std::thread::JoinHandle<()>)> {
        writer::start_writer(options, sources)
    }

    /// Returns the state directory.
    pub(crate) fn state_folder(&self) -> &std::path::Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// Returns a handle for a part with the pulse `pulse`. The pulse beats while the part waits for
    /// the writer, since the writer has a pulse of its own during long work such as a salvage.
    pub(crate) fn for_part(&self, pulse: &Pulse) -> Self {
        Self { waiting: pulse.clone(), ..self.clone() }
    }

    /// Appends readings. `answer` receives their places after the commit, or the refusal.
    pub(crate) async fn append_readings(
        &self,
        readings: Vec<Reading>,
        answer: Option<oneshot::Sender<Result<Receipt, ChunkRefused>>>,
    ) -> Result<(), Stopped> {
        self.send_request(Request::Append(readings, answer)).await
    }

    /// Appends an event.
    pub(crate) async fn append_event(&self, event: EventRow) -> Result<(), Stopped> {
        self.send_request(Request::Event(event)).await
    }

    /// Reports the clocks: monotonic and wall time, and the trust in the wall time.
    pub(crate) async fn observe_clock(
        &self,
        mono: Mono,
        wall: Wall,
        trust: ClockTrust,
    ) -> Result<(), Stopped> {
        self.send_request(Request::Clock(mono, wall, trust)).await
    }

    /// Takes records behind `after` in a lane.
    #[cfg(test)]
    pub(crate) async fn take(
        &self,
        lane: Lane,
        after: Seq,
        room: usize,
        hurry: bool,
    ) -> Result<TakeOutcome, Stopped> {
        let part = LanePart::Lane { after, withheld: Arc::default() };
        let (records, bytes) = (usize::MAX, usize::MAX);
        self.take_wanted(
            TakeRequest { lane, part, room, records, group_records: records, bytes },
            hurry,
        )
        .await
    }

    /// Takes a batch of the wanted records. With `hurry`, a batch that could wait for more records
    /// is taken too.
    pub(crate) async fn take_wanted(
        &self,
        wanted: TakeRequest,
        hurry: bool,
    ) -> Result<TakeOutcome, Stopped> {
        let (answer, taken) = oneshot::channel();
        self.send_request(Request::Take { wanted, hurry, answer }).await?;
        self.waiting.beat_during(taken).await.map_err(|_| Stopped)
    }

    /// Moves the watermarks of lanes. The receiver resolves when the move is durable, or noted in
    /// memory while the disk refuses writes.
    #[cfg(test)]
    pub(crate) async fn mark(
        &self,
        marks: Vec<Mark>,
        urgent: bool,
    ) -> Result<oneshot::Receiver<()>, Stopped> {
        let pass = self.progress.borrow().pass.number;
        self.mark_all(marks, Vec::new(), urgent, pass).await
    }

    /// Moves watermarks in the `pass` with this number, with the next commit or at once. The
    /// receiver resolves when the move is durable. Marks of an earlier pass are ignored.
    pub(crate) async fn mark_all(
        &self,
        marks: Vec<Mark>,
        topics: Vec<TopicMark>,
        urgent: bool,
        pass: u64,
    ) -> Result<oneshot::Receiver<()>, Stopped> {
        let (answer, durable) = oneshot::channel();
        self.send_request(Request::Mark { marks, topics, urgent, pass, answer }).await?;
        Ok(durable)
    }

    /// Withholds topics from the next take on; they are written no later than the marks that
    /// follow. `told` is the [`Progress::withheld_told`] at which the topics were named. If the
    /// configuration has renamed some of them since, the progress shows the new names when this
    /// function returns. Topics of an earlier `pass` are ignored.
    pub(crate) async fn withhold_topics(
        &self,
        topics: Vec<TopicMark>,
        told: u64,
        pass: u64,
    ) -> Result<(), Stopped> {
        let (answer, noted) = oneshot::channel();
        self.send_request(Request::Withhold { topics, told, pass, answer }).await?;
        self.waiting.beat_during(noted).await.map_err(|_| Stopped)
    }

    /// Applies another configuration.
    pub(crate) async fn apply_configuration(
        &self,
        keep: Buffer,
        rules: Arc<Vec<RuleSpec>>,
        formats: Arc<Formats>,
    ) -> Result<(), Stopped> {
        self.send_request(Request::Configure { keep, rules, formats }).await
    }

    /// Requests a commit without waiting.
    pub(crate) async fn request_commit(&self) -> Result<(), Stopped> {
        self.send_request(Request::Hurry).await
    }

    /// Commits now. Returns when all is durable, or in memory while the disk refuses writes.
    pub(crate) async fn commit_now(&self) -> Result<(), Stopped> {
        let (answer, done) = oneshot::channel();
        self.send_request(Request::Flush(answer)).await?;
        done.await.map_err(|_| Stopped)
    }

    /// Watches the state of the writer.
    pub(crate) fn watch_progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Returns the progress of a salvage while a damaged store is carried over.
    pub(crate) fn salvage_progress(&self) -> Option<SalvageProgress> {
        *self.salvaging.borrow()
    }

    /// Watches the standing state: alerts raised, visits under way, and brightness.
    pub(crate) fn watch_standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    async fn send_request(&self, request: Request) -> Result<(), Stopped> {
        self.waiting.beat_during(self.requests.send(request)).await.map_err(|_| Stopped)
    }
}

#[cfg(test)]
impl Store {
    /// Returns the accounts of the lanes after the last commit.
    pub(crate) fn lane_accounts(&self) -> [RecordAccount; 3] {
        self.progress.borrow().accounts
    }

    /// Returns a store without a writer in the state `progress`.
    pub(crate) fn standing_still(progress: Progress, salvaging: Option<SalvageProgress>) -> Self {
        Self {
            requests: mpsc::channel(1).0,
            progress: watch::channel(progress).1,
            standing: watch::channel(Standing::default()).1,
            salvaging: watch::channel(salvaging).1,
            watermarks: [Seq(0); 3],
            boot: Boot::without_suffix(12),
            last_trusted: None,
            path: "/nonexistent/pulsegate.db".into(),
            waiting: Pulse::default(),
        }
    }
}
