//! Drives delivery, batches and pace with a simulated broker and store, and compares them with a
//! ledger of the fate of each record.
//!
//! The ledger shares no code with the core: after each mark, the ledger counts delivered, filtered
//! and dropped records from the records themselves, and compares the counts. In the end, the broker
//! takes everything, and no record may be left.

mod broker;
mod ledger;

use crate::imports::*;
use crate::inputs::Bytes;
use broker::Broker;
use ledger::{LANES, Ledger, TOPICS, topic};

use std::collections::BTreeMap;
use std::time::Duration;

const WINDOW: usize = 16;
/// The most messages of events and readings on their way.
const OTHERS_WINDOW: usize = 12;
/// The most events and readings that a crash repeats.
const REPEAT: u64 = 100;
const DELIVERY_LIMITS: DeliveryLimits = DeliveryLimits { window: WINDOW, repeat: REPEAT };
/// The time between the arrival of a message and its acknowledgement, at most.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most bytes of a message with its topic: exactly 36 readings.
const MESSAGE_BYTES: usize = 36 * (ledger::RECORD_BYTES + 1) + 1 + "readings/0".len();
const TURN: Duration = Duration::from_millis(100);
/// The time for the delivery of all records of allowed topics.
const OTHERS_WITHIN: Duration = Duration::from_secs(300);
/// The time for the delivery of all records once the broker allows all topics: each topic has its
/// own pause of at most 5 minutes.
const ALL_WITHIN: Duration = Duration::from_secs(7_200);
const LIMITS: PaceLimits = PaceLimits { messages: Some(50), bytes: Some(40_000), records: None };
/// The allowance usable at once after a pause, alerts included, in microseconds; see the
/// documentation of the pace.
const BURST_US: u64 = 330_000;

/// An input for the publisher, the store or the broker.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    /// Records are committed.
    Record { lane: Lane, topic: usize, count: u16, is_filtered: bool },
    /// The publisher, the store and the broker take `turns` turns.
    Work { turns: u8 },
    /// The publisher sends messages, without any acknowledgement yet.
    Send,
    /// The broker answers the first `messages` messages in flight.
    Answer { messages: u8 },
    /// The store takes the marks, not yet durable.
    Mark,
    /// The marks in the store become durable.
    Commit,
    /// The link is lost, through no action of the peer.
    Lose,
    /// The link is lost, and the next one moves `kb` kilobytes a second.
    Slow { kb: u64 },
    /// The broker forbids `topics` instead, from the next connection on; with `lies`, the broker
    /// acknowledges forbidden messages.
    Forbid { topics: u8, lies: bool },
    /// The broker hangs up on one record from now on.
    Poison { nth: u8 },
    /// The agent crashes and starts again.
    Crash,
    /// The store delivers from another place, the last durable watermarks.
    Pass,
}

impl Step {
    fn of([what, a, b, c]: Bytes) -> Self {
        match what % 32 {
            0..=8 => Self::Record {
                lane: Lane::ALL[usize::from(a % 3)],
                topic: usize::from(a / 3) % TOPICS,
                count: if b < 128 { u16::from(b % 40) + 1 } else { u16::from(b - 127) * 4 },
                is_filtered: c % 5 == 1,
            },
            9..=16 => Self::Work { turns: a },
            17 | 18 => Self::Send,
            19..=21 => Self::Answer { messages: a % 8 },
            22 => Self::Mark,
            23 => Self::Commit,
            24 if c % 4 == 3 => Self::Slow { kb: 2 + u64::from(a % 16) },
            24 => Self::Lose,
            25..=27 => Self::Forbid { topics: a & b, lies: c % 2 == 1 },
            28 => Self::Poison { nth: a },
            29 | 30 => Self::Crash,
            _ => Self::Pass,
        }
    }
}

/// Drives a publisher with all inputs, and then until everything is delivered.
pub(crate) fn check(inputs: &[Bytes]) -> Result<(), String> {
    let mut cloud = Cloud::new();
    for (nth, bytes) in inputs.iter().enumerate() {
        let step = Step::of(*bytes);
        cloud.take(step).map_err(|fault| format!("after input {nth}, {step:?}:\n{fault}"))?;
    }
    cloud.finish()
}

/// Returns the inputs as readable text.
pub(crate) fn words(inputs: &[Bytes]) -> String {
    let steps: Vec<Step> = inputs.iter().map(|bytes| Step::of(*bytes)).collect();
    format!("{steps:?}")
}

struct Cloud {
    delivery: Delivery,
    pace: Pace,
    ledger: Ledger,
    broker: Broker,
    now: Mono,
    up_at: Mono,
    is_up: bool,
    /// `true` if the store has marks not yet durable.
    is_marking: bool,
    /// The place of the last record taken of each withheld topic.
    taken: BTreeMap<(Lane, usize), u64>,
    /// The unsent messages of alerts in hand: the topic and the first record of each.
    waiting_alerts: Vec<(usize, Seq)>,
    /// The time and the cost of each sent message.
    sent: Vec<(Mono, Cost)>,
}

impl Cloud {
    fn new() -> Self {
        Self {
            delivery: Delivery::new(DELIVERY_LIMITS, [Seq(0); 3]),
            pace: Pace::new(LIMITS),
            ledger: Ledger::default(),
            broker: Broker::default(),
            now: Mono(1_000),
            up_at: Mono(0),
            is_up: false,
            is_marking: false,
            taken: BTreeMap::new(),
            waiting_alerts: Vec::new(),
            sent: Vec::new(),
        }
    }

    fn take(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Record { lane, topic, count, is_filtered } => {
                (0..count).for_each(|_| self.ledger.record(lane, topic, is_filtered));
                self.delivery.note_committed(self.ledger.last());
            }
            Step::Work { turns } => {
                for _ in 0..turns {
                    self.turn()?;
                }
            }
            Step::Send => {
                self.connect();
                while self.gather()? || self.send()? {}
            }
            Step::Answer { messages } => {
                for _ in 0..messages {
                    self.now = self.now.max(self.broker.next_arrival().unwrap_or(self.now));
                    self.answer();
                }
            }
            Step::Mark => self.mark()?,
            Step::Commit => self.commit(),
            Step::Lose => self.lose(LinkEnd::Otherwise),
            Step::Slow { kb } => {
                self.lose(LinkEnd::Otherwise);
                self.broker.bytes_per_second = kb * 1_000;
            }
            Step::Forbid { topics, lies } => self.broker.forbid(topics, lies),
            Step::Poison { nth } => self.broker.poison(&self.ledger, nth),
            Step::Crash => {
                self.ledger.crash();
                self.start();
            }
            Step::Pass => {
                self.ledger.crash();
                self.delivery.begin_pass(self.ledger.watermarks());
                self.resume();
            }
        }
        self.look()
    }

    /// Runs one turn of the publisher, the store and the broker.
    fn turn(&mut self) -> Result<(), String> {
        self.now = self.now + TURN;
        self.delivery.handle_timeout(self.now);
        self.connect();
        if self.is_up {
            loop {
                let is_sending = self.send()?;
                while self.answer() {}
                if !self.is_up || (!self.gather()? && !is_sending) {
                    break;
                }
            }
            let due = self.delivery.answer_due(PATIENCE);
            if due.is_some_and(|due| due < self.now) {
                return Err(format!("a slow link is given up: {:?}", self.delivery));
            }
        }
        self.mark()?;
        self.commit();
        self.look()
    }

    fn connect(&mut self) {
        if !self.is_up && self.up_at <= self.now {
            self.is_up = true;
            self.broker.connect();
            self.delivery.link_up(self.now, None);
        }
    }

    fn lose(&mut self, death: LinkEnd) {
        if !self.is_up {
            return;
        }
        if death == LinkEnd::ByPeer {
            self.broker.accuse_used();
        }
        let gaps = self.delivery.link_lost(death, self.now);
        self.ledger.quarantine(&gaps);
        self.is_up = false;
        self.broker.wire.clear();
        self.up_at = self.now + Duration::from_secs(1);
    }

    fn start(&mut self) {
        self.delivery = Delivery::new(DELIVERY_LIMITS, self.ledger.watermarks());
        self.pace = Pace::new(LIMITS);
        self.sent.clear();
        self.broker.wire.clear();
        (self.is_up, self.up_at) = (false, self.now + Duration::from_secs(1));
        self.resume();
    }

    fn resume(&mut self) {
        self.is_marking = false;
        self.ledger.sent.clear();
        self.taken.clear();
        self.waiting_alerts.clear();
        self.delivery.withheld_in_store(&self.ledger.withheld(), self.now);
        self.delivery.note_committed(self.ledger.last());
    }

    /// Sends messages until the pace or a limit delays one, or none is left. Returns `false` if
    /// none was sent.
    fn send(&mut self) -> Result<bool, String> {
        let mut is_sending = false;
        while self.is_up
            && let Some((id, batch)) = self.delivery.next(self.now)
        {
            let batch = batch.clone();
            let bytes = u64::try_from(batch.payload.len() + batch.topic.len()).expect("small");
            let cost = Cost { bytes, records: batch.count };
            if !self.pace.required_delay(self.now, batch.lane, cost).is_zero() {
                break;
            }
            self.keeps_pace()?;
            self.puts_alerts_first(&batch)?;
            self.broker.fits_link(&batch)?;
            self.pace.spend_cost(self.now, cost);
            self.sent.push((self.now, cost));
            self.delivery.mark_sent(id, self.now);
            self.ledger.note_sent(&batch);
            self.broker.send(id, batch, self.now);
            is_sending = true;
        }
        Ok(is_sending)
    }

    /// Checks that no span of time up to now exceeds its limits plus one burst.
    fn keeps_pace(&self) -> Result<(), String> {
        let (mut messages, mut bytes) = (0, 0);
        for (at, cost) in self.sent.iter().rev().take(60) {
            (messages, bytes) = (messages + 1, bytes + cost.bytes);
            let allowed_us = (self.now.0 - at.0) * 1_000 + BURST_US;
            if messages * 1_000_000 / 50 > allowed_us || bytes * 1_000_000 / 40_000 > allowed_us {
                return Err(format!("{messages} messages, {bytes} bytes since {at:?}"));
            }
        }
        Ok(())
    }

    /// Checks that no reading or event is sent before a waiting alert, unless the topic of the
    /// alert is accused.
    fn puts_alerts_first(&mut self, batch: &Batch) -> Result<(), String> {
        if batch.lane == Lane::Alerts {
            self.waiting_alerts.retain(|(_, first)| *first != batch.first);
            return Ok(());
        }
        let mut waiting = self.waiting_alerts.iter();
        let overtaken = waiting.find(|(topic, _)| !self.broker.is_accused(Lane::Alerts, *topic));
        overtaken.map_or(Ok(()), |alert| {
            Err(format!("{} {:?} goes before alert {alert:?}", batch.topic, batch.first))
        })
    }

    /// Answers the first message in flight, if it has arrived. Returns `false` if there is none.
    fn answer(&mut self) -> bool {
        if self.broker.next_arrival().is_none_or(|at| at > self.now) {
            return false;
        }
        let Some((id, batch)) = self.broker.take_arrived() else { return false };
        let answer = self.broker.answer(&batch, &mut self.ledger);
        if answer.acknowledges {
            self.delivery.acknowledge_message(id, self.now);
        }
        if answer.hangs_up {
            self.lose(LinkEnd::ByPeer);
        }
        true
    }

    /// Takes one more group of batches in hand. Returns `false` if no group was requested or found.
    fn gather(&mut self) -> Result<bool, String> {
        let all = self.delivery.list_requests(self.now);
        let lanes: Vec<Lane> = all
            .iter()
            .filter(|one| matches!(one.part, LanePart::Lane { .. }))
            .map(|one| one.lane)
            .collect();
        if !lanes.is_sorted() {
            return Err(format!("lanes are wanted in the order {lanes:?}"));
        }
        for wanted in all {
            let (lane, limit) = (wanted.lane, wanted.bytes.min(MESSAGE_BYTES));
            let (after, through, of_topic) = match &wanted.part {
                LanePart::Lane { after, .. } => (after.0, self.ledger.last()[lane.index()].0, None),
                LanePart::Topic { topic, anew, through } => {
                    let number = ledger::number(topic);
                    let Some(settled) = self.ledger.row(lane, number) else {
                        self.delivery.mark_exhausted(&wanted);
                        continue;
                    };
                    let taken = self.taken.get(&(lane, number)).copied().filter(|_| !anew);
                    (taken.unwrap_or(settled).max(settled), through.0, Some(number))
                }
            };
            let Some(group) = self.ledger.gather(&wanted, limit, after, through, of_topic)? else {
                self.delivery.mark_exhausted(&wanted);
                continue;
            };
            if lane == Lane::Alerts {
                let batches = group.batches.iter();
                self.waiting_alerts
                    .extend(batches.map(|one| (ledger::number(&one.topic), one.first)));
            }
            match of_topic {
                None => self.delivery.add_group(lane, group),
                Some(number) => {
                    self.taken.insert((lane, number), group.through.0);
                    let source = u32::try_from(number).expect("a small number");
                    self.delivery.add_topic_group(lane, &topic(lane, number), group, vec![source]);
                }
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Takes marks like the publisher: marks wait until earlier marks are durable, newly withheld
    /// topics do not wait.
    fn mark(&mut self) -> Result<(), String> {
        let withheld = self.delivery.take_withheld();
        self.note(withheld)?;
        if self.is_marking {
            return Ok(());
        }
        let (marks, topics) = self.delivery.take_marks();
        self.is_marking = !marks.is_empty() || !topics.is_empty();
        for mark in &marks {
            self.ledger.mark(mark)?;
        }
        self.note(topics)?;
        if self.is_marking { self.ledger.balances() } else { Ok(()) }
    }

    fn note(&mut self, marks: Vec<TopicMark>) -> Result<(), String> {
        for mark in marks {
            if let TopicMark::Release { lane, topic } = &mark {
                self.taken.remove(&(*lane, ledger::number(topic)));
            }
            self.ledger.note(&mark)?;
        }
        Ok(())
    }

    fn commit(&mut self) {
        self.ledger.commit();
        if std::mem::take(&mut self.is_marking) {
            self.delivery.note_marks_durable();
        }
    }

    /// Checks the invariants of every moment.
    fn look(&self) -> Result<(), String> {
        let repeated = self.ledger.count_repeated();
        if self.delivery.in_hand() > WINDOW || repeated > REPEAT {
            let in_hand = self.delivery.in_hand();
            return Err(format!("a crash repeats {in_hand} messages, {repeated} records"));
        }
        self.broker.fits_window(WINDOW, OTHERS_WINDOW)
    }

    /// Delivers the records of all allowed topics, then lets the broker allow all topics and
    /// delivers the rest.
    fn finish(&mut self) -> Result<(), String> {
        self.broker.poisoned.clear();
        self.broker.bytes_per_second = broker::FAST;
        self.lose(LinkEnd::Otherwise);
        let until = self.now + OTHERS_WITHIN;
        while self.now < until && LANES.iter().any(|lane| self.others_wait(*lane)) {
            (0..10).try_for_each(|_| self.turn())?;
        }
        if let Some(lane) = LANES.into_iter().find(|lane| self.others_wait(*lane)) {
            return Err(format!("{lane:?} wait for topics that are refused"));
        }
        self.broker.forbid(0, false);
        self.lose(LinkEnd::Otherwise);
        let until = self.now + ALL_WITHIN;
        while self.now < until && (self.ledger.pending() > 0 || !self.ledger.withheld().is_empty())
        {
            self.turn()?;
            self.skip_idle();
        }
        match self.ledger.pending() {
            0 if self.ledger.withheld().is_empty() => Ok(()),
            0 => Err(format!("still withheld: {:?}", self.ledger.withheld())),
            pending => Err(format!("{pending} records are left: {:?}", self.delivery)),
        }
    }

    fn others_wait(&self, lane: Lane) -> bool {
        let mut allowed = (0..TOPICS).filter(|topic| !self.broker.will_forbid(lane, *topic));
        allowed.any(|topic| self.ledger.is_pending(lane, topic))
    }

    /// Moves the time on to shortly before the next deadline, if the publisher is idle.
    fn skip_idle(&mut self) {
        if self.broker.wire.is_empty()
            && self.is_up
            && let Some(due) = self.delivery.next_due()
            && self.delivery.in_flight() == 0
            && due > self.now + TURN
        {
            self.now = Mono(due.0 - 100);
        }
    }
}
