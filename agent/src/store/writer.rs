//! The writer: a thread that gathers new records and commits them in groups.
//!
//! A commit comes after the commit interval, at once for an alert, when enough records are
//! gathered, or in the pause of a burst: a trickle costs the card one commit an interval, and a
//! flood never waits. Rules are folded as readings arrive, so an alert is committed together with
//! its reading.

mod apart;
mod faults;
mod keeping;
mod memory;
mod salvaging;
mod taking;

use std::sync::Arc;
use std::time::Duration;

use pulsegate_core::act::standing::{Alerts, Standing};
use pulsegate_core::cloud::delivery::{Mark, TopicMark};
use pulsegate_core::record::lane::Lane;
use pulsegate_core::record::reading::{Reading, Seq};
use pulsegate_core::rules::{KernelBoot, RuleSpec};
use pulsegate_core::time::Mono;
use pulsegate_sensors::Sources;
use pulsegate_sensors::inbox::{ChunkRefused, Receipt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::check::{Check, Checked};
use super::fold::Fold;
use super::formats::Formats;
use super::standing::StandingPublisher;
use super::take::Encoder;
use super::visits::VisitFold;
use super::{Progress, QUEUE, Request, Store, StoreOptions};
use crate::config::Backlog;
use crate::db::ThingChange;
use crate::db::database::{CommitWork, Database, StoreLocation};
use crate::db::disk::Room;
use crate::db::owner::DroppedBacklog;
use crate::db::withheld::SourceMark;
use crate::db::{begun, overflow};
use crate::platform::pulse::{AT_REST, Pulse};
use faults::WriteFaults;
use memory::MemoryMode;
use salvaging::Salvage;

/// Readings at which a commit follows at once. Larger commits would cost little less for each row,
/// and need more memory.
const COMMIT_ROWS: usize = 4_096;
/// Readings from which a pause ends the gathering: such a commit fills several blocks anyway.
const BURST_ROWS: usize = 1_024;
/// Length of a pause in a burst.
const BURST_PAUSE: Duration = Duration::from_millis(3);
const _: () = assert!(BURST_ROWS < COMMIT_ROWS);
/// Pause between two steps of retention when nothing is left to do.
const RETENTION_EVERY: Duration = Duration::from_secs(10);

struct Writer {
    options: StoreOptions,
    database: Database,
    encoder: Encoder,
    fold: Fold,
    visits: VisitFold,
    teller: StandingPublisher,
    sources: Arc<Sources>,
    work: CommitWork,
    answers: Vec<PendingAnswer>,
    /// Answers to send after the next commit, without a place.
    waiting: Vec<oneshot::Sender<()>>,
    /// Time at which the gathering must end.
    commit_at: Option<Instant>,
    urgent: bool,
    faults: WriteFaults,
    /// Set while the file takes no writes. `database` is in memory then.
    memory: Option<MemoryMode>,
    /// Set while a damaged store is carried over. `memory` is set then.
    salvage: Option<Salvage>,
    /// By lane: records given up without a gap in the file yet.
    given_up: [u64; 3],
    /// Bytes used by records at the last commit.
    used_bytes: u64,
    room: Option<Room>,
    /// Length of the log when last looked at, in bytes.
    log_seen: Option<u64>,
    /// Bytes of other files when the store last had room to spare.
    others_before: Option<u64>,
    retention_at: Instant,
    /// By lane: records up to here are, or were, in the publisher's hands.
    in_hand: [Seq; 3],
    /// Set when the agent has to start anew.
    ended: bool,
    /// Number of commits.
    commits: u64,
    progress: watch::Sender<Progress>,
}

/// A chunk of readings waiting for its answer, at `offset` in the work.
struct PendingAnswer {
    to: oneshot::Sender<Result<Receipt, ChunkRefused>>,
    offset: u64,
}

/// Opens the database and starts the writer, see [`Store::open_on_thread`].
pub(super) fn start_writer(
    options: StoreOptions,
    sources: &Arc<Sources>,
) -> anyhow::Result<(Store, std::thread::JoinHandle<()>)> {
    let (requests, incoming) = mpsc::channel(QUEUE);
    let needs_check = Check::is_needed(&options.path);
    let faults::OpenedStore { database, replaced, fault, salvage } =
        faults::open_at_start(&options, sources)?;
    let fault_at_start = fault.clone();
    let drops = |change: &ThingChange| change.backlog == Backlog::Drop;
    let dropped = match options.thing_change.as_ref().filter(|change| drops(change)) {
        Some(_) => DroppedBacklog::backlog_of(&database)?,
        None => DroppedBacklog::default(),
    };
    let left_rows = replaced.as_ref().map_or(0, |replaced| replaced.left_rows);
    let set_aside = replaced.map(|replaced| replaced.set_aside);
    let last = last_places(&database);
    let accounts = database.lanes.map(|row| row.account());
    let first = Progress { set_aside, left_rows, fault, last, accounts, ..Progress::default() };
    let (progress, watched) = watch::channel(first);
    let (told, standing) = watch::channel(Standing::default());
    let store = Store {
        requests,
        progress: watched,
        standing,
        salvaging: options.salvaging.subscribe(),
        watermarks: dropped.first_watermarks(&database),
        boot: database.identity.boot,
        last_trusted: database.last_trusted(),
        path: options.path.clone(),
        waiting: Pulse::default(),
    };
    let is_whole = database.place == StoreLocation::File && progress.borrow().set_aside.is_none();
    let check = (needs_check && is_whole)
        .then(|| Check::start_check(options.path.clone(), store.requests.downgrade()))
        .transpose()?;
    if check.is_some() {
        progress.send_modify(|progress| progress.checked = Checked::Running);
    }
    let sources = Arc::clone(sources);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let thread = std::thread::Builder::new().name("store".into()).spawn(move || {
        let mut writer = Writer::new(options, database, sources, progress, told);
        writer.measure_room_at_start();
        if let Some(fault) = fault_at_start {
            writer.memory = Some(MemoryMode::new(None));
            writer.salvage = salvage;
            writer.report_fault(&fault);
            writer.faults.begin_refusal(fault);
        }
        writer.give_up_backlog(dropped);
        writer.report_loss();
        if writer.memory.is_none() {
            // Another thing's pending records are settled.
            writer.options.thing_change = None;
        }
        runtime.block_on(writer.run(incoming));
        drop(check);
    })?;
    Ok((store, thread))
}

impl Writer {
    fn new(
        options: StoreOptions,
        database: Database,
        sources: Arc<Sources>,
        progress: watch::Sender<Progress>,
        told: watch::Sender<Standing>,
    ) -> Self {
        let mut work = CommitWork::default();
        let now = (options.clock)();
        let mut fold = Fold::rebuild_fold(&options.rules, &database, now, &mut work.alerts);
        fold.resume_alerts(Alerts::default());
        progress.send_modify(|progress| progress.rules_off = fold.explain_off_rules());
        let visits = VisitFold::rebuild_visits(&options.formats.visits, &database, &sources);
        Self {
            encoder: Encoder::new(Arc::clone(&options.formats), Arc::clone(&sources)),
            teller: StandingPublisher::new(
                told,
                options.formats.light.as_deref(),
                &mut fold,
                &visits,
            ),
            fold,
            visits,
            urgent: !work.alerts.is_empty() || database.has_untold,
            options,
            database,
            sources,
            work,
            answers: Vec::new(),
            waiting: Vec::new(),
            commit_at: None,
            faults: WriteFaults::default(),
            memory: None,
            salvage: None,
            given_up: [0; 3],
            used_bytes: 0,
            room: None,
            log_seen: None,
            others_before: None,
            retention_at: Instant::now(),
            in_hand: [Seq(0); 3],
            commits: 0,
            ended: false,
            progress,
        }
    }

    /// Returns the monotonic time by the clock of the options.
    fn mono_now(&self) -> Mono {
        (self.options.clock)()
    }

    async fn run(mut self, mut incoming: mpsc::Receiver<Request>) {
        self.publish_withheld(|_| ());
        while !self.ended {
            let request = timeout_at(self.wake_at(), incoming.recv()).await;
            self.options.pulse.beat();
            // Read before the queue is emptied: readings that arrive later carry later times.
            let now = self.mono_now();
            match request {
                Ok(None) => break,
                Ok(Some(request)) => {
                    self.handle_request(request);
                    while self.work.readings.len() < COMMIT_ROWS
                        && let Ok(request) = incoming.try_recv()
                    {
                        self.handle_request(request);
                    }
                    self.finish_round(now, false);
                }
                Err(_) => self.finish_round(now, true),
            }
        }
        self.commit_gathered();
        self.finish_salvage();
        if self.memory.is_some() {
            self.retry_file();
        }
        self.commit_gathered();
        let lost = self.progress.borrow().waiting;
        let given_up: u64 = self.given_up.iter().sum();
        if self.memory.is_some() && lost + given_up > 0 {
            tracing::error!(readings = lost, given_up, "lost: the disk refused them to the end");
        }
    }

    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let mut at = self.retention_at.min(now + AT_REST);
        let deadlines = [self.fold.next_rule_deadline(), self.visits.next_visit_deadline()];
        if let Some(deadline) = deadlines.into_iter().flatten().min() {
            at = at.min(now + deadline.since(self.mono_now()));
        }
        if self.salvage.is_some() {
            at = at.min(now + salvaging::LOOK_EVERY);
        } else if let Some(retry) = self.faults.retry_at() {
            at = at.min(retry);
        }
        if self.urgent {
            return now;
        }
        if self.work.readings.len() >= BURST_ROWS {
            at = at.min(now + BURST_PAUSE);
        }
        self.commit_at.map_or(at, |commit| at.min(commit))
    }

    fn handle_request(&mut self, request: Request) {
        match request {
            Request::Append(readings, answer) => self.append_chunk(readings, answer),
            Request::Event(event) => {
                self.gather_work(|work| work.events.push(event));
                self.give_up_beyond_bounds();
            }
            Request::Clock(mono, wall, trust) => {
                let epoch = self.database.epoch;
                if self.database.timeline.observe_clock(epoch, mono, wall, trust).is_some() {
                    self.gather_work(|work| work.clock = true);
                }
                if let Some(file) = self.memory.as_mut().and_then(|memory| memory.file.as_mut()) {
                    file.timeline.observe_clock(epoch, mono, wall, trust);
                }
            }
            Request::Take { wanted, hurry, answer } => {
                // The receiver is gone when the agent is stopping.
                drop(answer.send(self.take_records(&wanted, hurry)));
            }
            Request::Mark { marks, topics, urgent, pass, answer } => {
                if pass == self.progress.borrow().pass.number {
                    self.apply_marks(marks, topics);
                }
                self.urgent |= urgent;
                self.waiting.push(answer);
            }
            Request::Withhold { topics, told, pass, answer } => {
                if pass == self.progress.borrow().pass.number {
                    self.withhold_named(topics, told);
                }
                // The receiver may be gone when the agent is stopping.
                answer.send(()).ok();
            }
            Request::Configure { keep, rules, formats } => {
                self.commit_gathered();
                self.encoder.apply_formats(Arc::clone(&formats));
                self.publish_withheld(|_| ());
                self.rebuild_decisions(&rules, &formats);
                self.teller.follow_light(formats.light.as_deref());
                self.teller.publish_standing(&mut self.fold, &self.visits);
                (self.options.keep, self.options.rules) = (keep, rules);
                self.options.formats = formats;
                self.retention_at = Instant::now();
            }
            Request::Checked(checked) => {
                self.progress.send_modify(|progress| progress.checked = checked);
                // A store replaced since then was damaged in the same way.
                if checked == Checked::Damaged && self.progress.borrow().set_aside.is_none() {
                    self.replace_damaged();
                }
            }
            Request::Hurry => self.urgent = true,
            Request::Flush(answer) => {
                self.faults.try_now();
                self.urgent = true;
                self.gather_work(|_| ());
                self.waiting.push(answer);
            }
        }
    }

    fn append_chunk(
        &mut self,
        readings: Vec<Reading>,
        answer: Option<oneshot::Sender<Result<Receipt, ChunkRefused>>>,
    ) {
        let has_room = self.has_room(readings.len());
        self.decide_on_readings(&readings);
        if !has_room {
            match answer {
                Some(to) => drop(to.send(Err(ChunkRefused("the disk refuses writes".into())))),
                None => self.count_given_up(Lane::Readings, readings.len() as u64),
            }
            return self.give_up_beyond_bounds();
        }
        let gathered = self.work.readings.len();
        self.answers.extend(answer.map(|to| PendingAnswer { to, offset: gathered as u64 }));
        self.gather_work(|work| work.readings.extend(readings));
        self.give_up_beyond_bounds();
    }

    fn gather_flaps(&mut self) {
        let now = self.mono_now();
        self.fold.report_flaps(now, &self.sources, &mut self.work.events);
    }

    fn apply_marks(&mut self, marks: Vec<Mark>, topics: Vec<TopicMark>) {
        let (encoder, withheld) = (&self.encoder, &self.database.withheld);
        let sources_of = |lane, topic: &Arc<str>| encoder.sources_of(withheld, lane, topic);
        let sources: Vec<SourceMark> =
            topics.into_iter().map(|mark| SourceMark::from_topic_mark(mark, sources_of)).collect();
        for mark in &sources {
            self.apply_source_mark(mark);
        }
        self.gather_work(|work| {
            work.marks.extend(marks);
            work.source_marks.extend(sources);
        });
    }

    /// Gives up another thing's pending records with the first commit.
    fn give_up_backlog(&mut self, dropped: DroppedBacklog) {
        self.urgent |= !dropped.marks.is_empty();
        for mark in &dropped.source_marks {
            self.database.apply_source_mark(mark);
        }
        self.work.marks.extend(dropped.marks);
        self.work.source_marks.extend(dropped.source_marks);
    }

    /// Sends the withheld topics to the publisher, together with a `change` of the progress.
    fn publish_withheld(&mut self, change: impl FnOnce(&mut Progress)) {
        let topics = self.encoder.withheld_topics(&self.database.withheld);
        self.progress.send_modify(|progress| {
            progress.withheld = topics;
            progress.withheld_told += 1;
            change(progress);
        });
    }

    /// Changes the withheld sources in memory, and in the facts about the file.
    fn apply_source_mark(&mut self, mark: &SourceMark) {
        self.database.apply_source_mark(mark);
        if let Some(file) = self.memory.as_mut().and_then(|memory| memory.file.as_mut()) {
            file.apply_source_mark(mark);
        }
    }

    /// Runs rules and visits over new readings, whether or not they can be stored.
    fn decide_on_readings(&mut self, readings: &[Reading]) {
        let decided = self.work.count_decided();
        self.fold.fold_readings(readings, &self.database, &self.sources, &mut self.work.alerts);
        self.visits.fold_visit_readings(
            readings,
            &self.database,
            &self.sources,
            &mut self.work.events,
        );
        self.gather_flaps();
        self.teller.note_light(readings, &self.sources);
        self.teller.publish_standing(&mut self.fold, &self.visits);
        self.urgent |= self.work.count_decided() > decided;
    }

    /// Begins the rules and visits of another configuration, in the state after the stored
    /// readings.
    fn rebuild_decisions(&mut self, rules: &[RuleSpec], formats: &Formats) {
        let (now, before) = (self.mono_now(), self.fold.rule_alerts().clone());
        let (stored, in_memory) = memory::stored_readings(self.memory.as_ref(), &self.database);
        self.fold = Fold::rebuild_fold(rules, stored, now, &mut self.work.alerts);
        self.visits = VisitFold::rebuild_visits(&formats.visits, stored, &self.sources);
        // Decisions about these readings were stored before.
        let (alerts, events) = (&mut Vec::new(), &mut Vec::new());
        self.fold.fold_readings(&in_memory, &self.database, &self.sources, alerts);
        self.visits.fold_visit_readings(&in_memory, &self.database, &self.sources, events);
        self.fold.resume_alerts(before);
        let off = self.fold.explain_off_rules();
        self.progress.send_modify(|progress| progress.rules_off = off);
        self.urgent |= !self.work.alerts.is_empty();
    }

    fn gather_work(&mut self, add: impl FnOnce(&mut CommitWork)) {
        add(&mut self.work);
        let interval = self.options.keep.commit_interval;
        self.commit_at.get_or_insert_with(|| Instant::now() + interval);
    }

    fn finish_round(&mut self, now: Mono, paused: bool) {
        let decided = self.work.count_decided();
        let boot = KernelBoot(self.database.epoch.0);
        self.fold.tick_rules(boot, now, &mut self.work.alerts);
        self.gather_flaps();
        self.visits.tick_visits(boot, now, &self.sources, &mut self.work.events);
        self.give_up_beyond_bounds();
        self.teller.publish_standing(&mut self.fold, &self.visits);
        self.urgent |= self.work.count_decided() > decided || self.database.untold.is_due(now);
        let instant = Instant::now();
        let rows = self.work.readings.len();
        let due = self.urgent
            || rows >= COMMIT_ROWS
            || (paused && rows >= BURST_ROWS)
            || self.commit_at.is_some_and(|at| instant >= at);
        if due {
            self.commit_gathered();
        }
        self.finish_salvage();
        if self.salvage.is_none() && self.faults.retry_at().is_some_and(|at| instant >= at) {
            self.retry_file();
        }
        if instant >= self.retention_at {
            self.run_retention(now);
        }
    }

    fn commit_gathered(&mut self) {
        let has_untold = self.database.has_untold || self.database.untold.is_due(self.mono_now());
        let has_work = !self.work.is_empty() || has_untold;
        if !has_work && self.waiting.is_empty() {
            (self.commit_at, self.urgent) = (None, false);
            return;
        }
        self.work.now = self.mono_now();
        if self.memory.is_some() {
            return self.commit_in_memory();
        }
        self.stay_below_cap();
        match self.database.commit_work(&self.work) {
            Ok(first) => self.finish_commit(first),
            Err(error) => self.handle_failed_commit(&error),
        }
    }

    /// Commits to memory. Records given up are kept for the file, and reported there as a single
    /// gap.
    fn commit_in_memory(&mut self) {
        let given_up = std::mem::take(&mut self.work.unwritten);
        match self.database.commit_work(&self.work) {
            Ok(first) => self.finish_commit(first),
            Err(error) => {
                tracing::error!(%error, "memory refuses records");
                (self.commit_at, self.urgent) = (None, false);
            }
        }
        self.work.unwritten = given_up;
    }

    /// Ends a commit. The progress is published before the answers are sent, so a client with an
    /// answer can rely on it.
    fn finish_commit(&mut self, first: Seq) {
        let rows = self.work.readings.len();
        if self.memory.is_none() {
            self.given_up = [0; 3];
            if self.commits == 0 {
                begun::write_mark(&self.options.path);
            }
        }
        self.work = CommitWork { readings: self.spent_readings(), ..CommitWork::default() };
        (self.commit_at, self.urgent) = (None, false);
        self.commits += 1;
        self.report_progress();
        self.answer_clients(first, rows);
        self.check_accounts();
        for waiting in self.waiting.drain(..) {
            waiting.send(()).ok();
        }
    }

    /// Replaces the database if its accounts make no sense.
    pub(super) fn check_accounts(&mut self) {
        if self.memory.is_none()
            && let Err(error) = self.database.check_accounts()
        {
            tracing::error!(lanes = ?self.database.lanes, "the accounts of the store make no sense");
            self.handle_damage(&error);
        }
    }

    /// Returns the vector of the readings just written, emptied for the next readings.
    fn spent_readings(&mut self) -> Vec<Reading> {
        let mut readings = std::mem::take(&mut self.work.readings);
        readings.clear();
        readings.shrink_to(2 * COMMIT_ROWS);
        readings
    }

    fn report_progress(&mut self) {
        let memory = self.memory.as_ref();
        let file = memory.and_then(|memory| memory.file.as_ref());
        let (used_bytes, file_bytes) =
            file.unwrap_or(&self.database).measure_size().unwrap_or_default();
        self.used_bytes = used_bytes;
        let is_in_memory = memory.is_some();
        let kept = match is_in_memory.then(|| overflow::count_pending(&self.database)) {
            Some(Ok(pending)) => pending[Lane::Readings.index()],
            Some(Err(error)) => {
                tracing::error!(%error, "memory cannot be counted");
                0
            }
            None => 0,
        };
        self.measure_room();
        let waiting = self.work.readings.len() as u64;
        let (fault, cap_bytes) = (self.faults.current_fault().cloned(), self.cap_bytes());
        self.progress.send_modify(|progress| {
            progress.last = last_places(&self.database);
            progress.accounts = self.database.lanes.map(|row| row.account());
            progress.commits = self.commits;
            progress.fault = fault;
            progress.rules = self.fold.rule_counts();
            progress.flapping = self.fold.list_flapping(&self.sources);
            progress.is_in_memory = is_in_memory;
            progress.given_up = self.given_up;
            (progress.used_bytes, progress.file_bytes) = (used_bytes, file_bytes);
            progress.cap_bytes = cap_bytes;
            progress.room = self.room;
            progress.waiting = waiting + kept;
        });
    }
}

fn last_places(database: &Database) -> [Seq; 3] {
    database.lanes.map(|lane| Seq(lane.last))
}

#[cfg(test)]
mod tests;
