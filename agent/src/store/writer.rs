//! The writer: one thread that gathers what arrives and commits it as a group.
//!
//! A commit comes after the commit interval, at once for an alert, when enough has gathered, or
//! when a burst pauses: a trickle costs the card one commit an interval, a flood waits for nothing.
//! Rules are folded as readings arrive, so that an alert is in the commit of its reading.

use std::sync::Arc;
use std::time::Duration;

use pulsegate_core::delivery::Mark;
use pulsegate_core::lane::Lane;
use pulsegate_core::reading::{Reading, Seq};
use pulsegate_core::time::Mono;
use pulsegate_sensors::Sources;
use pulsegate_sensors::inbox::{Receipt, Refused};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::database::{Database, EventRow, Work};
use super::fold::Fold;
use super::take::{Encoder, Taken};
use super::visits::VisitFold;
use super::{Options, Progress, QUEUE, Request, Store, retention, salvage};
use crate::agent::AT_REST;
use crate::clock;

/// Commits of this size cost little more a row than larger ones, and bound memory.
const COMMIT_ROWS: usize = 8_192;
/// From here on a pause ends the gathering: the commit fills several blocks anyway.
const BURST_ROWS: usize = 1_024;
/// What counts as a pause in a burst.
const BURST_PAUSE: Duration = Duration::from_millis(3);
/// Readings kept in memory while the disk refuses writes: hours of ten belts.
const WAITING_ROWS: usize = 50_000;
const _: () = assert!(BURST_ROWS < COMMIT_ROWS && COMMIT_ROWS < WAITING_ROWS);
/// How often to try again while the disk refuses writes.
const RETRY: Duration = Duration::from_secs(1);
/// How often retention is looked at while it has nothing to do.
const RETENTION_EVERY: Duration = Duration::from_secs(10);
/// Pause between two steps of retention: commits come first.
const RETENTION_PAUSE: Duration = Duration::from_millis(20);

struct Writer {
    options: Options,
    database: Database,
    encoder: Encoder,
    fold: Fold,
    visits: VisitFold,
    sources: Arc<Sources>,
    work: Work,
    answers: Vec<Answer>,
    /// Who waits for the next commit without asking for a place.
    waiting: Vec<oneshot::Sender<()>>,
    /// When the gathering must end.
    commit_at: Option<Instant>,
    urgent: bool,
    /// Set while the disk refuses writes.
    retry_at: Option<Instant>,
    retention_at: Instant,
    in_hand: Seq,
    progress: watch::Sender<Progress>,
}

/// An appended chunk that waits for its answer; its readings begin at `offset` in the work.
struct Answer {
    to: oneshot::Sender<Result<Receipt, Refused>>,
    offset: u64,
}

/// See [`Store::open`].
pub(super) fn start(
    options: Options,
    sources: &Arc<Sources>,
) -> anyhow::Result<(Store, std::thread::JoinHandle<()>)> {
    let (requests, incoming) = mpsc::channel(QUEUE);
    let (database, set_aside) = salvage::open(&options.path, &options.identity, sources)?;
    let first = Progress { set_aside, last: last(&database), ..Progress::default() };
    let (progress, watched) = watch::channel(first);
    let store = Store {
        path: Arc::new(options.path.clone()),
        requests,
        progress: watched,
        watermarks: database.lanes.map(|lane| Seq(lane.watermark)),
        boot: options.identity.boot,
    };
    let sources = Arc::clone(sources);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let thread = std::thread::Builder::new()
        .name("store".into())
        .spawn(move || runtime.block_on(run(options, database, sources, incoming, progress)))?;
    Ok((store, thread))
}

async fn run(
    options: Options,
    database: Database,
    sources: Arc<Sources>,
    mut incoming: mpsc::Receiver<Request>,
    progress: watch::Sender<Progress>,
) {
    let mut writer = Writer {
        encoder: Encoder::new(Arc::clone(&options.formats), Arc::clone(&sources)),
        fold: Fold::rebuild(&options.rules, &database, &sources),
        visits: VisitFold::rebuild(&options.formats.visits, &database, &sources),
        options,
        database,
        sources,
        work: Work::default(),
        answers: Vec::new(),
        waiting: Vec::new(),
        commit_at: None,
        urgent: false,
        retry_at: None,
        retention_at: Instant::now(),
        in_hand: Seq(0),
        progress,
    };
    loop {
        let request = timeout_at(writer.wake_at(), incoming.recv()).await;
        writer.options.pulse.beat();
        // Before the queue is emptied: whatever arrives later was also stamped later.
        let now = clock::mono();
        match request {
            Ok(None) => break,
            Ok(Some(request)) => {
                writer.take_up(request);
                while writer.work.readings.len() < COMMIT_ROWS
                    && let Ok(request) = incoming.try_recv()
                {
                    writer.take_up(request);
                }
                writer.after(now, false);
            }
            Err(_) => writer.after(now, true),
        }
    }
    writer.commit();
}

impl Writer {
    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let mut at = self.retention_at.min(now + AT_REST);
        let deadlines = [self.fold.next_deadline(), self.visits.next_deadline()];
        if let Some(deadline) = deadlines.into_iter().flatten().min() {
            at = at.min(now + deadline.since(clock::mono()));
        }
        if self.retry_at.is_some() {
            return self.retry_at.map_or(at, |retry| at.min(retry));
        }
        if self.work.readings.len() >= BURST_ROWS {
            at = at.min(now + BURST_PAUSE);
        }
        self.commit_at.map_or(at, |commit| at.min(commit))
    }

    fn take_up(&mut self, request: Request) {
        match request {
            Request::Append(readings, answer) => self.append(readings, answer),
            Request::Event(event) => self.gather(|work| work.events.push(event)),
            Request::Clock(mono, wall, trust) => {
                let news = self.database.timeline.observe(self.database.epoch, mono, wall, trust);
                if let Some(segment) = news {
                    self.gather(|work| work.clock.push(segment));
                }
            }
            Request::Take { lane, after, hurry, answer } => {
                // A receiver that is gone was the publisher of an agent that is stopping.
                drop(answer.send(self.take(lane, after, hurry)));
            }
            Request::Mark { marks, urgent, answer } => {
                self.mark(marks);
                self.urgent |= urgent;
                self.waiting.push(answer);
            }
            Request::InHand(through) => self.in_hand = self.in_hand.max(through),
            Request::Configure { keep, rules, formats } => {
                self.commit();
                self.encoder = Encoder::new(Arc::clone(&formats), Arc::clone(&self.sources));
                self.fold = Fold::rebuild(&rules, &self.database, &self.sources);
                self.visits = VisitFold::rebuild(&formats.visits, &self.database, &self.sources);
                (self.options.keep, self.options.rules) = (keep, rules);
                self.options.formats = formats;
            }
            Request::Hurry => self.urgent = true,
            Request::Flush(answer) => {
                self.urgent = true;
                self.gather(|_| ());
                self.waiting.push(answer);
            }
        }
    }

    fn append(
        &mut self,
        readings: Vec<Reading>,
        answer: Option<oneshot::Sender<Result<Receipt, Refused>>>,
    ) {
        let gathered = self.work.readings.len();
        if self.retry_at.is_some() && gathered + readings.len() > WAITING_ROWS {
            match answer {
                Some(to) => drop(to.send(Err(Refused("the disk refuses writes".into())))),
                None => self.work.unwritten += readings.len() as u64,
            }
            return;
        }
        let decided = self.work.decided();
        self.fold.readings(&readings, &self.database, &self.sources, &mut self.work.alerts);
        self.visits.readings(&readings, &self.database, &self.sources, &mut self.work.events);
        self.urgent |= self.work.decided() > decided;
        self.answers.extend(answer.map(|to| Answer { to, offset: gathered as u64 }));
        self.gather(|work| work.readings.extend(readings));
    }

    /// Each quarantined message becomes an event beside its row in the ledger.
    fn mark(&mut self, marks: Vec<Mark>) {
        for gap in marks.iter().flat_map(|mark| &mark.gaps) {
            match retention::gap_members(&self.database, gap) {
                Ok(members) => {
                    let event = EventRow { event: "gap", mono: clock::mono(), members };
                    self.work.events.push(event);
                }
                Err(error) => tracing::warn!(%error, "a gap cannot be described"),
            }
        }
        self.gather(|work| work.marks.extend(marks));
    }

    fn gather(&mut self, add: impl FnOnce(&mut Work)) {
        add(&mut self.work);
        let interval = self.options.keep.commit_interval;
        self.commit_at.get_or_insert_with(|| Instant::now() + interval);
    }

    fn after(&mut self, now: Mono, paused: bool) {
        let decided = self.work.decided();
        self.fold.tick(&self.database, now, &mut self.work.alerts);
        self.visits.tick(&self.database, now, &self.sources, &mut self.work.events);
        self.urgent |= self.work.decided() > decided;
        let instant = Instant::now();
        let due = match self.retry_at {
            Some(retry) => instant >= retry,
            None => {
                let rows = self.work.readings.len();
                self.urgent
                    || rows >= COMMIT_ROWS
                    || (paused && rows >= BURST_ROWS)
                    || self.commit_at.is_some_and(|at| instant >= at)
            }
        };
        if due {
            self.commit();
        }
        if instant >= self.retention_at && self.retry_at.is_none() {
            self.retain(now);
        }
    }

    fn commit(&mut self) {
        if self.work.is_empty() && self.waiting.is_empty() {
            self.commit_at = None;
            return;
        }
        match self.database.commit(&self.work) {
            Ok(first) => self.committed(first),
            Err(error) if salvage::is_damage(&error) => {
                tracing::error!(%error, "the store is damaged");
                self.replace();
            }
            Err(error) => self.refused(&error),
        }
    }

    fn committed(&mut self, first: Seq) {
        let boot = self.options.identity.boot.0;
        for answer in self.answers.drain(..) {
            let receipt = Receipt { boot, first_seq: first.0 + answer.offset };
            // A client that left does not wait for its answer.
            drop(answer.to.send(Ok(receipt)));
        }
        for waiting in self.waiting.drain(..) {
            waiting.send(()).ok();
        }
        if self.retry_at.take().is_some() {
            tracing::info!("the disk takes writes again");
        }
        self.work = Work { readings: self.spent_readings(), ..Work::default() };
        (self.commit_at, self.urgent) = (None, false);
        self.report(None);
    }

    /// The memory of the readings just written, to gather the next ones in.
    fn spent_readings(&mut self) -> Vec<Reading> {
        let mut readings = std::mem::take(&mut self.work.readings);
        readings.clear();
        readings.shrink_to(COMMIT_ROWS);
        readings
    }

    fn refused(&mut self, error: &rusqlite::Error) {
        if self.retry_at.is_none() {
            tracing::error!(%error, "the disk refuses writes; readings wait in memory");
        }
        self.retry_at = Some(Instant::now() + RETRY);
        // Room for what waits may be made by forgetting what was delivered.
        self.retain(clock::mono());
        self.report(Some(error.to_string()));
    }

    /// Sets the damaged database aside and goes on in a new one; what was gathered is kept.
    fn replace(&mut self) {
        match salvage::replace(&self.options.path, &self.options.identity, &self.sources) {
            Ok((database, set_aside)) => {
                self.database = database;
                self.progress.send_modify(|progress| progress.set_aside = Some(set_aside));
                self.retry_at = Some(Instant::now());
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "no new store can be begun");
                self.retry_at = Some(Instant::now() + RETRY);
            }
        }
    }

    fn take(&mut self, lane: Lane, after: Seq, hurry: bool) -> Taken {
        let now = if hurry { Mono(u64::MAX) } else { clock::mono() };
        match self.encoder.take(&self.database, lane, after, now) {
            Ok(taken) => taken,
            Err(error) => {
                tracing::error!(%error, lane = lane.as_str(), "a lane cannot be read");
                if salvage::is_damage(&error) {
                    self.replace();
                }
                Taken::Later { due: clock::mono() + RETRY, full_at: Seq(u64::MAX) }
            }
        }
    }

    fn retain(&mut self, now: Mono) {
        let more = retention::step(&mut self.database, &self.options.keep, self.in_hand, now);
        let pause = match more {
            Ok(true) => RETENTION_PAUSE,
            Ok(false) => RETENTION_EVERY,
            Err(error) => {
                tracing::warn!(%error, "nothing could be forgotten");
                RETENTION_EVERY
            }
        };
        self.retention_at = Instant::now() + pause;
    }

    fn report(&self, fault: Option<String>) {
        let (used_bytes, file_bytes) = self.database.size().unwrap_or_default();
        self.progress.send_modify(|progress| {
            progress.last = last(&self.database);
            progress.commits += 1;
            progress.fault = fault;
            (progress.used_bytes, progress.file_bytes) = (used_bytes, file_bytes);
            progress.waiting = self.work.readings.len() as u64;
        });
    }
}

fn last(database: &Database) -> [Seq; 3] {
    database.lanes.map(|lane| Seq(lane.last))
}
