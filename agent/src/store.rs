//! The store: every record of this device, in one SQLite database with one writer thread.
//!
//! What is appended is gathered for the commit interval, or until an alert, and committed at once
//! (P1). A record is appended to and never changed; what was delivered is a watermark per lane,
//! which rides along in a later commit. Opening, appending and taking cost the same with ten
//! records stored as with ten million (P9).
//!
//! While the disk refuses writes, what arrives is kept in memory up to a bound, published from there,
//! and moved into the file when that takes writes again; beyond the bound it is given up and counted
//! (P3). A damaged database is set aside under a dated name,
//! what can be read of it is carried over, and a new one begun (P7).

mod check;
mod filters;
pub(crate) mod fold;
mod standing;
pub(crate) mod take;
pub(crate) mod visits;
pub(crate) mod writer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use pulsegate_core::act::standing::Standing;
#[cfg(test)]
use pulsegate_core::cloud::delivery::Part;
use pulsegate_core::cloud::delivery::{Mark, TopicMark, Wanted};
use pulsegate_core::record::lane::{Account, Lane};
use pulsegate_core::record::reading::{Boot, Reading, Seq};
use pulsegate_core::rules::{Counts, RuleSpec};
use pulsegate_core::time::timeline::Trust;
use pulsegate_core::time::{Mono, Wall};
use pulsegate_sensors::Sources;
use pulsegate_sensors::inbox::{Receipt, Refused};
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::Backlog;
use crate::db::database::Database;
use crate::db::{
    DiskFault, EventRow, Identity, InMemory, Keep, Reached, Reader, Room, SalvageProgress,
    ThingChange, salvage,
};
use crate::platform::aside::Aside;
use crate::platform::pulse::Pulse;
pub(crate) use check::Checked;
pub(crate) use filters::Filters;
pub(crate) use fold::Flapping;
pub(crate) use take::{Formats, LaneFormat, Taken};
pub(crate) use visits::VisitFormat;

/// Requests on their way to the writer, each with up to 64 KiB of readings: bounds what a burst
/// holds in memory before back-pressure.
const QUEUE: usize = 4;

/// What the store is told when it is opened.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) path: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) keep: Keep,
    /// The store was another thing's until now.
    pub(crate) thing_change: Option<ThingChange>,
    /// The fate of what another thing recorded, also in a store that can be opened only later.
    pub(crate) backlog: Backlog,
    pub(crate) rules: Arc<Vec<RuleSpec>>,
    pub(crate) formats: Arc<Formats>,
    pub(crate) pulse: Pulse,
    /// Takes how far a salvage is, while there is one.
    pub(crate) salvaging: watch::Sender<Option<SalvageProgress>>,
    /// How long a start waits for the salvage of a damaged store before it goes on in memory.
    pub(crate) salvage_patience: Duration,
    /// The monotonic clock by which windows settle and deadlines pass: `clock::mono`, or that of a test.
    pub(crate) clock: fn() -> Mono,
}

/// One pass of delivery over the lanes. Another begins when the records in the file cannot be read, and
/// memory is delivered by itself, and again when the file is back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pass {
    /// How many passes were before; a mark of an earlier pass is ignored.
    pub(crate) number: u64,
    /// By lane: the place behind which it begins. That of the first pass is in [`Store`].
    pub(crate) watermarks: [Seq; 3],
}

/// How the writer is doing; changes with every commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The last committed record of each lane.
    pub(crate) last: [Seq; 3],
    /// Commits so far.
    pub(crate) commits: u64,
    /// Why the disk refuses writes, if it does.
    pub(crate) fault: Option<DiskFault>,
    /// What is in memory only while it does.
    pub(crate) in_memory: Option<InMemory>,
    /// Bytes that records may use: what the configuration allows, or less where the partition is small.
    pub(crate) cap_bytes: u64,
    /// The room that the partition has, if that can be asked.
    pub(crate) room: Option<Room>,
    /// Bytes in use by records, and of the database file.
    pub(crate) used_bytes: u64,
    /// See `used_bytes`.
    pub(crate) file_bytes: u64,
    /// Readings that are in memory only and were not delivered.
    pub(crate) waiting: u64,
    /// By lane: records that were given up since memory was full. Their gap is written when the disk takes
    /// writes again.
    pub(crate) given_up: [u64; 3],
    /// What was set aside, if this store was damaged.
    pub(crate) set_aside: Option<String>,
    /// What the rules did not use or not say.
    pub(crate) rules: Counts,
    /// The rules that change too often to tell each time.
    pub(crate) flapping: Vec<Flapping>,
    /// How many rows of it were readable and made no sense, and were left there.
    pub(crate) left_rows: u64,
    /// Whether the database was looked through for damage.
    pub(crate) checked: Checked,
    /// Of each rule that cannot run, the reason and the cure.
    pub(crate) rules_off: Vec<String>,
    /// The topics whose records are withheld, and how often they were told: at the start, and after
    /// each change of the configuration, which may give a source another topic.
    pub(crate) withheld: Vec<(Lane, Arc<str>)>,
    /// See `withheld`.
    pub(crate) withheld_told: u64,
    /// What the publisher has to take, and from where on.
    pub(crate) pass: Pass,
}

/// A request to the writer.
enum Request {
    Append(Vec<Reading>, Option<oneshot::Sender<Result<Receipt, Refused>>>),
    Event(EventRow),
    Clock(Mono, Wall, Trust),
    Take {
        wanted: Wanted,
        hurry: bool,
        answer: oneshot::Sender<Taken>,
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
        keep: Keep,
        rules: Arc<Vec<RuleSpec>>,
        formats: Arc<Formats>,
    },
    /// The database was looked through, as it was when the agent started.
    Checked(Checked),
    /// The accounts make no sense, of the database that took the place of `set_aside`, if of any.
    Unbalanced {
        set_aside: Option<String>,
    },
    /// Commit now.
    Hurry,
    Flush(oneshot::Sender<()>),
}

/// What counting the records may take: less than somebody waits who asks for the status.
const COUNTING: Duration = Duration::from_secs(3);

/// The agent's end of the channel to the writer.
#[derive(Clone)]
pub(crate) struct Store {
    requests: mpsc::Sender<Request>,
    progress: watch::Receiver<Progress>,
    standing: watch::Receiver<Standing>,
    salvaging: watch::Receiver<Option<SalvageProgress>>,
    /// Where publishing begins.
    pub(crate) watermarks: [Seq; 3],
    /// This start of the agent.
    pub(crate) boot: Boot,
    /// The last time that was trusted, as far as is known from the starts before.
    pub(crate) last_trusted: Option<Wall>,
    path: PathBuf,
    counting: Aside,
    /// Of the part that this end belongs to: it beats while the part waits for the writer.
    waiting: Pulse,
}

/// The writer is gone: the agent is stopping, or has to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store has stopped")]
pub(crate) struct Stopped;

/// How far the store at `path` has come, if it can be read.
pub(crate) fn reached(path: &std::path::Path) -> Option<Reached> {
    Database::reached(path).ok().flatten()
}

impl Store {
    /// Opens the database on a thread of its own. The thread ends, after a last commit, when every
    /// [`Store`] is dropped.
    ///
    /// # Errors
    /// Only when there is no way to have a database at this path at all.
    pub(crate) fn open(
        options: Options,
        sources: &Arc<Sources>,
    ) -> anyhow::Result<(Self, std::thread::JoinHandle<()>)> {
        writer::start(options, sources)
    }

    /// The state directory.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// The same store for a part with this pulse. Long work of the writer, such as a salvage, feeds the
    /// pulse of the writer; the part that waits for it is not stuck meanwhile.
    pub(crate) fn for_part(&self, pulse: &Pulse) -> Self {
        Self { waiting: pulse.clone(), ..self.clone() }
    }

    /// Appends readings. With an answer, it is given once they are durable, or were refused.
    pub(crate) async fn append(
        &self,
        readings: Vec<Reading>,
        answer: Option<oneshot::Sender<Result<Receipt, Refused>>>,
    ) -> Result<(), Stopped> {
        self.send(Request::Append(readings, answer)).await
    }

    /// Appends an event.
    pub(crate) async fn event(&self, event: EventRow) -> Result<(), Stopped> {
        self.send(Request::Event(event)).await
    }

    /// Says what the clocks say.
    pub(crate) async fn clock(&self, mono: Mono, wall: Wall, trust: Trust) -> Result<(), Stopped> {
        self.send(Request::Clock(mono, wall, trust)).await
    }

    /// Takes what lies behind `after` in a lane.
    #[cfg(test)]
    pub(crate) async fn take(
        &self,
        lane: Lane,
        after: Seq,
        room: usize,
        hurry: bool,
    ) -> Result<Taken, Stopped> {
        let part = Part::Lane { after, withheld: Arc::default() };
        let (records, bytes) = (usize::MAX, usize::MAX);
        self.take_wanted(Wanted { lane, part, room, records, bytes }, hurry).await
    }

    /// Takes what is wanted; in a hurry, also what could wait for company.
    pub(crate) async fn take_wanted(&self, wanted: Wanted, hurry: bool) -> Result<Taken, Stopped> {
        let (answer, taken) = oneshot::channel();
        self.send(Request::Take { wanted, hurry, answer }).await?;
        self.waiting.beat_during(taken).await.map_err(|_| Stopped)
    }

    /// Moves the watermarks of lanes; the receiver hears when that is durable, or noted in memory while
    /// the disk refuses writes.
    #[cfg(test)]
    pub(crate) async fn mark(
        &self,
        marks: Vec<Mark>,
        urgent: bool,
    ) -> Result<oneshot::Receiver<()>, Stopped> {
        let pass = self.progress.borrow().pass.number;
        self.mark_all(marks, Vec::new(), urgent, pass).await
    }

    /// Moves watermarks in the `pass` with this number, with the next commit or at once; the receiver
    /// hears when that is durable. Marks of an earlier pass are ignored.
    pub(crate) async fn mark_all(
        &self,
        marks: Vec<Mark>,
        topics: Vec<TopicMark>,
        urgent: bool,
        pass: u64,
    ) -> Result<oneshot::Receiver<()>, Stopped> {
        let (answer, durable) = oneshot::channel();
        self.send(Request::Mark { marks, topics, urgent, pass, answer }).await?;
        Ok(durable)
    }

    /// Withholds topics, from the next take on; they are written no later than the marks that follow. `told`
    /// is the [`Progress::withheld_told`] that the topics were named by. If their sources go to other topics
    /// by now, the progress tells so by the time that this returns. Topics of an earlier `pass` are ignored.
    pub(crate) async fn withhold(
        &self,
        topics: Vec<TopicMark>,
        told: u64,
        pass: u64,
    ) -> Result<(), Stopped> {
        let (answer, noted) = oneshot::channel();
        self.send(Request::Withhold { topics, told, pass, answer }).await?;
        self.waiting.beat_during(noted).await.map_err(|_| Stopped)
    }

    /// The accounts of the lanes as they are on disk, and in memory while that takes no writes. They
    /// are counted on a connection of their own, on a thread of its own, beside the writer: with a large
    /// backlog it takes a while.
    ///
    /// # Errors
    /// Also when they were not counted within [`COUNTING`].
    pub(crate) async fn accounts(&self) -> anyhow::Result<[Account; 3]> {
        let before = self.progress.borrow().clone();
        let (in_memory, path) = (before.in_memory.clone(), self.path.clone());
        let count = move || match in_memory {
            None => Reader::open(&path)?.accounts(),
            Some(in_memory) => in_memory.accounts(&path),
        };
        let accounts = self.counting.run(COUNTING, count).await;
        let accounts = accounts.context("the records could not be counted")?;
        let is_damage = match &accounts {
            // Records in memory are counted as they were before; the file goes on.
            Ok(accounts) => before.in_memory.is_none() && !accounts.iter().all(Account::balances),
            Err(error) => salvage::is_damage(error),
        };
        if is_damage {
            tracing::error!(?accounts, "the accounts of the store make no sense");
            // A writer that is busy is told by whoever asks next.
            let set_aside = before.set_aside;
            self.requests.try_send(Request::Unbalanced { set_aside }).ok();
        }
        Ok(accounts?)
    }

    /// Goes on under another configuration.
    pub(crate) async fn configure(
        &self,
        keep: Keep,
        rules: Arc<Vec<RuleSpec>>,
        formats: Arc<Formats>,
    ) -> Result<(), Stopped> {
        self.send(Request::Configure { keep, rules, formats }).await
    }

    /// Asks for a commit without waiting for it.
    pub(crate) async fn hurry(&self) -> Result<(), Stopped> {
        self.send(Request::Hurry).await
    }

    /// Commits now; returns when it is durable, or in memory while the disk refuses writes.
    pub(crate) async fn flush(&self) -> Result<(), Stopped> {
        let (answer, done) = oneshot::channel();
        self.send(Request::Flush(answer)).await?;
        done.await.map_err(|_| Stopped)
    }

    /// How the writer is doing.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// How far a salvage is, while a damaged store is carried over.
    pub(crate) fn salvaging(&self) -> Option<SalvageProgress> {
        *self.salvaging.borrow()
    }

    /// What stands: alerts raised, visits under way.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    async fn send(&self, request: Request) -> Result<(), Stopped> {
        self.waiting.beat_during(self.requests.send(request)).await.map_err(|_| Stopped)
    }
}

#[cfg(test)]
impl Store {
    /// A store without a writer whose state is `progress`, and whose accounts are `accounts` or cannot be counted.
    pub(crate) fn standing_still(
        mut progress: Progress,
        salvaging: Option<SalvageProgress>,
        accounts: Option<[Account; 3]>,
    ) -> Self {
        let in_memory =
            |accounts| InMemory { accounts, readings: 0, in_file: None, withheld: Vec::new() };
        progress.in_memory = accounts.map(in_memory);
        Self {
            requests: mpsc::channel(1).0,
            progress: watch::channel(progress).1,
            standing: watch::channel(Standing::default()).1,
            salvaging: watch::channel(salvaging).1,
            watermarks: [Seq(0); 3],
            boot: Boot::without_suffix(12),
            last_trusted: None,
            path: "/nonexistent/pulsegate.db".into(),
            counting: Aside::new("counting"),
            waiting: Pulse::default(),
        }
    }
}
