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
use pulsegate_sensors::inbox::{Receipt, Refused};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::check::{Check, Checked};
use super::fold::Fold;
use super::formats::Formats;
use super::standing::Teller;
use super::take::Encoder;
use super::visits::VisitFold;
use super::{Options, Progress, QUEUE, Request, Store};
use crate::config::Backlog;
use crate::db::ThingChange;
use crate::db::database::{Database, Place, Work};
use crate::db::disk::Room;
use crate::db::owner::Dropped;
use crate::db::withheld::SourceMark;
use crate::db::{begun, overflow};
use crate::platform::aside::Aside;
use crate::platform::pulse::{AT_REST, Pulse};
use faults::Faults;
use memory::Memory;
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
    options: Options,
    database: Database,
    encoder: Encoder,
    fold: Fold,
    visits: VisitFold,
    teller: Teller,
    sources: Arc<Sources>,
    work: Work,
    answers: Vec<Answer>,
    /// Answers to send after the next commit, without a place.
    waiting: Vec<oneshot::Sender<()>>,
    /// Time at which the gathering must end.
    commit_at: Option<Instant>,
    urgent: bool,
    faults: Faults,
    /// Set while the file takes no writes. `database` is in memory then.
    memory: Option<Memory>,
    /// Set while a damaged store is carried over. `memory` is set then.
    salvage: Option<Salvage>,
    /// By lane: records given up without a gap in the file yet.
    given_up: [u64; 3],
    /// Bytes used by records at the last commit.
    used_bytes: u64,
    room: Option<Room>,
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
struct Answer {
    to: oneshot::Sender<Result<Receipt, Refused>>,
    offset: u64,
}

/// Opens the database and starts the writer, see [`Store::open`].
pub(super) fn start(
    options: Options,
    sources: &Arc<Sources>,
) -> anyhow::Result<(Store, std::thread::JoinHandle<()>)> {
    let (requests, incoming) = mpsc::channel(QUEUE);
    let needs_check = Check::is_needed(&options.path);
    let faults::Opened { database, replaced, fault, salvage } = faults::open(&options, sources)?;
    let fault_at_start = fault.clone();
    let drops = |change: &ThingChange| change.backlog == Backlog::Drop;
    let dropped = match options.thing_change.as_ref().filter(|change| drops(change)) {
        Some(_) => Dropped::backlog_of(&database)?,
        None => Dropped::default(),
    };
    let left_rows = replaced.as_ref().map_or(0, |replaced| replaced.left_rows);
    let set_aside = replaced.map(|replaced| replaced.set_aside);
    let last = last(&database);
    let first = Progress { set_aside, left_rows, fault, last, ..Progress::default() };
    let (progress, watched) = watch::channel(first);
    let (told, standing) = watch::channel(Standing::default());
    let store = Store {
        requests,
        progress: watched,
        standing,
        salvaging: options.salvaging.subscribe(),
        watermarks: dropped.watermarks(&database),
        boot: database.identity.boot,
        last_trusted: database.last_trusted(),
        path: options.path.clone(),
        counting: Aside::new("accounts"),
        waiting: Pulse::default(),
    };
    let is_whole = database.place == Place::File && progress.borrow().set_aside.is_none();
    let check = (needs_check && is_whole)
        .then(|| Check::start(options.path.clone(), store.requests.downgrade()))
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
            writer.memory = Some(Memory::new(None));
            writer.salvage = salvage;
            writer.tell_fault(&fault);
            writer.faults.begin(fault);
        }
        writer.give_up_backlog(dropped);
        writer.say_what_was_lost();
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
        options: Options,
        database: Database,
        sources: Arc<Sources>,
        progress: watch::Sender<Progress>,
        told: watch::Sender<Standing>,
    ) -> Self {
        let mut work = Work::default();
        let now = (options.clock)();
        let mut fold = Fold::rebuild(&options.rules, &database, now, &mut work.alerts);
        fold.resume(Alerts::default());
        progress.send_modify(|progress| progress.rules_off = fold.say_off());
        let visits = VisitFold::rebuild(&options.formats.visits, &database, &sources);
        Self {
            encoder: Encoder::new(Arc::clone(&options.formats), Arc::clone(&sources)),
            teller: Teller::new(told, options.formats.light.as_deref(), &mut fold, &visits),
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
            faults: Faults::default(),
            memory: None,
            salvage: None,
            given_up: [0; 3],
            used_bytes: 0,
            room: None,
            others_before: None,
            retention_at: Instant::now(),
            in_hand: [Seq(0); 3],
            commits: 0,
            ended: false,
            progress,
        }
    }

    /// Returns the monotonic time by the clock of the options.
    fn now(&self) -> Mono {
        (self.options.clock)()
    }

    async fn run(mut self, mut incoming: mpsc::Receiver<Request>) {
        self.tell_withheld(|_| ());
        while !self.ended {
            let request = timeout_at(self.wake_at(), incoming.recv()).await;
            self.options.pulse.beat();
            // Read before the queue is emptied: readings that arrive later carry later times.
            let now = self.now();
            match request {
                Ok(None) => break,
                Ok(Some(request)) => {
                    self.take_up(request);
                    while self.work.readings.len() < COMMIT_ROWS
                        && let Ok(request) = incoming.try_recv()
                    {
                        self.take_up(request);
                    }
                    self.after(now, false);
                }
                Err(_) => self.after(now, true),
            }
        }
        self.commit();
        self.look_at_salvage();
        if self.memory.is_some() {
            self.take_up_file();
        }
        self.commit();
        let lost = self.progress.borrow().waiting;
        let given_up: u64 = self.given_up.iter().sum();
        if self.memory.is_some() && lost + given_up > 0 {
            tracing::error!(readings = lost, given_up, "lost: the disk refused them to the end");
        }
    }

    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        let mut at = self.retention_at.min(now + AT_REST);
        let deadlines = [self.fold.next_deadline(), self.visits.next_deadline()];
        if let Some(deadline) = deadlines.into_iter().flatten().min() {
            at = at.min(now + deadline.since(self.now()));
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

    fn take_up(&mut self, request: Request) {
        match request {
            Request::Append(readings, answer) => self.append(readings, answer),
            Request::Event(event) => {
                self.gather(|work| work.events.push(event));
                self.give_up_beyond_bounds();
            }
            Request::Clock(mono, wall, trust) => {
                let epoch = self.database.epoch;
                if self.database.timeline.observe(epoch, mono, wall, trust).is_some() {
                    self.gather(|work| work.clock = true);
                }
                if let Some(file) = self.memory.as_mut().and_then(|memory| memory.file.as_mut()) {
                    file.timeline.observe(epoch, mono, wall, trust);
                }
            }
            Request::Take { wanted, hurry, answer } => {
                // The receiver is gone when the agent is stopping.
                drop(answer.send(self.take(&wanted, hurry)));
            }
            Request::Mark { marks, topics, urgent, pass, answer } => {
                if pass == self.progress.borrow().pass.number {
                    self.mark(marks, topics);
                }
                self.urgent |= urgent;
                self.waiting.push(answer);
            }
            Request::Withhold { topics, told, pass, answer } => {
                if pass == self.progress.borrow().pass.number {
                    self.withhold(topics, told);
                }
                // The receiver may be gone when the agent is stopping.
                answer.send(()).ok();
            }
            Request::Configure { keep, rules, formats } => {
                self.commit();
                self.encoder.follow(Arc::clone(&formats));
                self.tell_withheld(|_| ());
                self.fold_anew(&rules, &formats);
                self.teller.follow(formats.light.as_deref());
                self.teller.tell(&mut self.fold, &self.visits);
                (self.options.keep, self.options.rules) = (keep, rules);
                self.options.formats = formats;
                self.retention_at = Instant::now();
            }
            Request::Checked(checked) => {
                self.progress.send_modify(|progress| progress.checked = checked);
                if checked == Checked::Damaged {
                    self.replace_what_was_seen(None);
                }
            }
            Request::Unbalanced { set_aside } => {
                self.progress.send_modify(|progress| progress.checked = Checked::Damaged);
                self.replace_what_was_seen(set_aside.as_deref());
            }
            Request::Hurry => self.urgent = true,
            Request::Flush(answer) => {
                self.faults.try_now();
                self.urgent = true;
                self.gather(|_| ());
                self.waiting.push(answer);
            }
        }
    }

    /// Replaces the database in which damage was seen, unless replaced since then: two observers
    /// may see the same damage. `set_aside` was the last database set aside when the damage was
    /// seen.
    fn replace_what_was_seen(&mut self, set_aside: Option<&str>) {
        let is_same = self.progress.borrow().set_aside.as_deref() == set_aside;
        if is_same {
            self.replace();
        }
    }

    fn append(
        &mut self,
        readings: Vec<Reading>,
        answer: Option<oneshot::Sender<Result<Receipt, Refused>>>,
    ) {
        let has_room = self.has_room(readings.len());
        self.decide(&readings);
        if !has_room {
            match answer {
                Some(to) => drop(to.send(Err(Refused("the disk refuses writes".into())))),
                None => self.give_up(Lane::Readings, readings.len() as u64),
            }
            return self.give_up_beyond_bounds();
        }
        let gathered = self.work.readings.len();
        self.answers.extend(answer.map(|to| Answer { to, offset: gathered as u64 }));
        self.gather(|work| work.readings.extend(readings));
        self.give_up_beyond_bounds();
    }

    fn tell_flaps(&mut self) {
        let now = self.now();
        self.fold.tell_flaps(now, &self.sources, &mut self.work.events);
    }

    fn mark(&mut self, marks: Vec<Mark>, topics: Vec<TopicMark>) {
        let (encoder, withheld) = (&self.encoder, &self.database.withheld);
        let sources_of = |lane, topic: &Arc<str>| encoder.sources_of(withheld, lane, topic);
        let sources: Vec<SourceMark> =
            topics.into_iter().map(|mark| SourceMark::of(mark, sources_of)).collect();
        for mark in &sources {
            self.apply(mark);
        }
        self.gather(|work| {
            work.marks.extend(marks);
            work.source_marks.extend(sources);
        });
    }

    /// Gives up another thing's pending records with the first commit.
    fn give_up_backlog(&mut self, dropped: Dropped) {
        self.urgent |= !dropped.marks.is_empty();
        for mark in &dropped.source_marks {
            self.database.apply(mark);
        }
        self.work.marks.extend(dropped.marks);
        self.work.source_marks.extend(dropped.source_marks);
    }

    /// Sends the withheld topics to the publisher, together with a `change` of the progress.
    fn tell_withheld(&mut self, change: impl FnOnce(&mut Progress)) {
        let topics = self.encoder.withheld_topics(&self.database.withheld);
        self.progress.send_modify(|progress| {
            progress.withheld = topics;
            progress.withheld_told += 1;
            change(progress);
        });
    }

    /// Changes the withheld sources in memory, and in the facts about the file.
    fn apply(&mut self, mark: &SourceMark) {
        self.database.apply(mark);
        if let Some(file) = self.memory.as_mut().and_then(|memory| memory.file.as_mut()) {
            file.apply(mark);
        }
    }

    /// Runs rules and visits over new readings, whether or not they can be stored.
    fn decide(&mut self, readings: &[Reading]) {
        let decided = self.work.decided();
        self.fold.readings(readings, &self.database, &self.sources, &mut self.work.alerts);
        self.visits.readings(readings, &self.database, &self.sources, &mut self.work.events);
        self.tell_flaps();
        self.teller.readings(readings, &self.sources);
        self.teller.tell(&mut self.fold, &self.visits);
        self.urgent |= self.work.decided() > decided;
    }

    /// Begins the rules and visits of another configuration, in the state after the stored
    /// readings.
    fn fold_anew(&mut self, rules: &[RuleSpec], formats: &Formats) {
        let (now, before) = (self.now(), self.fold.alerts().clone());
        let (stored, in_memory) = memory::stored_readings(self.memory.as_ref(), &self.database);
        self.fold = Fold::rebuild(rules, stored, now, &mut self.work.alerts);
        self.visits = VisitFold::rebuild(&formats.visits, stored, &self.sources);
        // Decisions about these readings were stored before.
        let (alerts, events) = (&mut Vec::new(), &mut Vec::new());
        self.fold.readings(&in_memory, &self.database, &self.sources, alerts);
        self.visits.readings(&in_memory, &self.database, &self.sources, events);
        self.fold.resume(before);
        let off = self.fold.say_off();
        self.progress.send_modify(|progress| progress.rules_off = off);
        self.urgent |= !self.work.alerts.is_empty();
    }

    fn gather(&mut self, add: impl FnOnce(&mut Work)) {
        add(&mut self.work);
        let interval = self.options.keep.commit_interval;
        self.commit_at.get_or_insert_with(|| Instant::now() + interval);
    }

    fn after(&mut self, now: Mono, paused: bool) {
        let decided = self.work.decided();
        let boot = KernelBoot(self.database.epoch.0);
        self.fold.tick(boot, now, &mut self.work.alerts);
        self.tell_flaps();
        self.visits.tick(boot, now, &self.sources, &mut self.work.events);
        self.give_up_beyond_bounds();
        self.teller.tell(&mut self.fold, &self.visits);
        self.urgent |= self.work.decided() > decided || self.database.untold.is_due(now);
        let instant = Instant::now();
        let rows = self.work.readings.len();
        let due = self.urgent
            || rows >= COMMIT_ROWS
            || (paused && rows >= BURST_ROWS)
            || self.commit_at.is_some_and(|at| instant >= at);
        if due {
            self.commit();
        }
        self.look_at_salvage();
        if self.salvage.is_none() && self.faults.retry_at().is_some_and(|at| instant >= at) {
            self.take_up_file();
        }
        if instant >= self.retention_at {
            self.retain(now);
        }
    }

    fn commit(&mut self) {
        let has_untold = self.database.has_untold || self.database.untold.is_due(self.now());
        let has_work = !self.work.is_empty() || has_untold;
        if !has_work && self.waiting.is_empty() {
            (self.commit_at, self.urgent) = (None, false);
            return;
        }
        self.work.now = self.now();
        if self.memory.is_some() {
            return self.commit_in_memory();
        }
        self.stay_below_cap();
        match self.database.commit(&self.work) {
            Ok(first) => self.committed(first),
            Err(error) => self.failed(&error),
        }
    }

    /// Commits to memory. Records given up are kept for the file, and reported there as a single
    /// gap.
    fn commit_in_memory(&mut self) {
        let given_up = std::mem::take(&mut self.work.unwritten);
        match self.database.commit(&self.work) {
            Ok(first) => self.committed(first),
            Err(error) => {
                tracing::error!(%error, "memory refuses records");
                (self.commit_at, self.urgent) = (None, false);
            }
        }
        self.work.unwritten = given_up;
    }

    /// Ends a commit. The progress is published before the answers are sent, so a client with an
    /// answer can rely on it.
    fn committed(&mut self, first: Seq) {
        let rows = self.work.readings.len();
        if self.memory.is_none() {
            self.given_up = [0; 3];
            if self.commits == 0 {
                begun::mark(&self.options.path);
            }
        }
        self.work = Work { readings: self.spent_readings(), ..Work::default() };
        (self.commit_at, self.urgent) = (None, false);
        self.commits += 1;
        self.report();
        self.answer(first, rows);
        for waiting in self.waiting.drain(..) {
            waiting.send(()).ok();
        }
    }

    /// Returns the vector of the readings just written, emptied for the next readings.
    fn spent_readings(&mut self) -> Vec<Reading> {
        let mut readings = std::mem::take(&mut self.work.readings);
        readings.clear();
        readings.shrink_to(2 * COMMIT_ROWS);
        readings
    }

    fn report(&mut self) {
        let memory = self.memory.as_ref();
        let file = memory.and_then(|memory| memory.file.as_ref());
        let (used_bytes, file_bytes) = file.unwrap_or(&self.database).size().unwrap_or_default();
        self.used_bytes = used_bytes;
        let in_memory =
            memory.map(|memory| overflow::look(&self.database, file, memory.apart.as_ref()));
        let in_memory = in_memory.and_then(|found| {
            found.inspect_err(|error| tracing::error!(%error, "memory cannot be counted")).ok()
        });
        self.measure_room();
        let waiting = self.work.readings.len() as u64;
        let kept = in_memory.as_ref().map_or(0, |in_memory| in_memory.readings);
        let (fault, cap_bytes) = (self.faults.fault().cloned(), self.cap_bytes());
        self.progress.send_modify(|progress| {
            progress.last = last(&self.database);
            progress.commits = self.commits;
            progress.fault = fault;
            progress.rules = self.fold.counts();
            progress.flapping = self.fold.flapping(&self.sources);
            progress.in_memory = in_memory;
            progress.given_up = self.given_up;
            (progress.used_bytes, progress.file_bytes) = (used_bytes, file_bytes);
            progress.cap_bytes = cap_bytes;
            progress.room = self.room;
            progress.waiting = waiting + kept;
        });
    }
}

fn last(database: &Database) -> [Seq; 3] {
    database.lanes.map(|lane| Seq(lane.last))
}

#[cfg(test)]
mod tests;
