//! The publisher: takes batches from the store, hands them to the link, and moves the watermarks
//! after the acknowledgement. All decisions are made by `core::delivery` and `core::pace`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use pulsegate_core::cloud::delivery::{
    Delivery, DeliveryLimits, LanePart, LinkEnd, MessageId, RefusedTopic, TakeRequest,
};
use pulsegate_core::cloud::pace::{Cost, Pace, PaceLimits};
use pulsegate_core::record::lane::{Gap, Lane};
use pulsegate_core::record::reading::Seq;
use pulsegate_core::time::Mono;
use pulsegate_core::time::clock::ClockGrace;
use tokio::sync::{oneshot, watch};

use crate::cloud::link::{ConnectionReports, LinkHandle};
use crate::cloud::mqtt::{End, LinkState, Session};
use crate::config::{self, Config};
use crate::context::{Context, send_if_changed};
use crate::platform::clock;
use crate::platform::pulse::{AT_REST, Pulse};
use crate::store::{Progress, Stopped, Store, TakeOutcome};

/// Time limit for a stop to deliver the remaining records. The sum with each
/// [`crate::context::QUIESCE`] and the goodbye stays below TimeoutStopSec of the unit.
const DRAIN: Duration = Duration::from_secs(10);
/// Takes from the store in a round. After each round the pulse beats, and the watermarks move over
/// filtered records, so a restart does not filter them again.
const MAX_TAKES: u32 = 16;
/// Longest time between two rounds when nothing is due.
const IDLE: Duration = AT_REST;

/// The settings, which may change while the publisher runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settings {
    delivery: DeliveryLimits,
    pace: PaceLimits,
    /// Time that a message may stay unacknowledged before the connection is given up, beside the
    /// time that the link takes for its bytes.
    ack_deadline: Duration,
}

/// The state of the publisher, for `status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PublisherState {
    pub(crate) in_flight: usize,
    pub(crate) in_hand: usize,
    /// Messages acknowledged since the start.
    pub(crate) acknowledged: u64,
    pub(crate) quarantined: u64,
    /// Time until readings and events wait for the clock to be set; `None` when nothing waits.
    pub(crate) clock_holds_until: Option<Mono>,
    /// Bytes of the largest message that the broker takes; `None` unless the broker hangs up on
    /// larger messages.
    pub(crate) max_message_bytes: Option<usize>,
}

/// Handle of the publisher.
pub(crate) struct PublisherHandle {
    pub(crate) state: watch::Receiver<PublisherState>,
    /// The refused topics.
    pub(crate) refused: watch::Receiver<Vec<RefusedTopic>>,
    settings: watch::Sender<Settings>,
    draining: watch::Sender<bool>,
}

/// The inputs and outputs of the publisher's task.
struct Publisher {
    store: Store,
    links: watch::Receiver<LinkState>,
    settings: watch::Receiver<Settings>,
    /// True once the clock is set.
    clock_set: watch::Receiver<bool>,
    /// True while the agent stops: partly filled messages go at once.
    draining: watch::Receiver<bool>,
    states: watch::Sender<PublisherState>,
    /// The refused topics.
    refused: watch::Sender<Vec<RefusedTopic>>,
    reports: ConnectionReports,
    pulse: Pulse,
}

/// A message in hand, and the time until the pace or the link has room for the message.
#[derive(Debug, Clone, Copy)]
struct HeldMessage {
    lane: Lane,
    delay: Duration,
}

/// Stands for a message that only alerts may overtake.
const ONLY_ALERTS: HeldMessage = HeldMessage { lane: Lane::Events, delay: Duration::ZERO };

struct Round {
    delivery: Delivery,
    pace: Pace,
    session: Option<Session>,
    grace: ClockGrace,
    acks: FuturesUnordered<BoxFuture<'static, (MessageId, bool)>>,
    /// The answer to the request that moves watermarks, while a request is on its way. Never more
    /// than one.
    marking: Option<oneshot::Receiver<()>>,
    marking_is_urgent: bool,
    /// By lane: time from which a message that is not full may go, and the place that would fill
    /// the message.
    not_before: [(Mono, Seq); 3],
    state: PublisherState,
    /// The number of the delivery pass, see [`crate::store::Pass`].
    pass: u64,
    /// See [`crate::store::Progress::withheld_told`].
    withheld_told: u64,
}

/// Starts the publisher, which sends over `link`.
pub(crate) fn start_publisher(
    context: &mut Context,
    config: &Config,
    link: &LinkHandle,
) -> PublisherHandle {
    let (pulse, store) = context.watch_part("publisher");
    let (settings, settings_seen) = watch::channel(Settings::new(&config.link));
    let (draining, draining_seen) = watch::channel(false);
    let (states, state) = watch::channel(PublisherState::default());
    let (refused, refused_seen) = watch::channel(Vec::new());
    context.tasks.spawn(run(Publisher {
        store,
        links: link.state.clone(),
        settings: settings_seen,
        clock_set: context.clock_set.clone(),
        draining: draining_seen,
        states,
        refused,
        reports: link.reports.clone(),
        pulse,
    }));
    PublisherHandle { state, refused: refused_seen, settings, draining }
}

impl PublisherHandle {
    /// Applies a new configuration.
    pub(crate) fn apply_settings(&self, config: &Config) {
        self.settings.send_replace(Settings::new(&config.link));
    }

    /// Lets the publisher send what is left; if the link is up, waits for that at most [`DRAIN`].
    pub(crate) async fn stop_publisher(&mut self, link_is_up: bool) {
        self.draining.send_replace(true);
        if !link_is_up {
            return;
        }
        let ended = self.state.wait_for(|_| false);
        if tokio::time::timeout(DRAIN, ended).await.is_err() {
            tracing::warn!("not everything was delivered in time; the rest is kept");
        }
    }
}

impl Settings {
    fn new(link: &config::Link) -> Self {
        let pace = match link.limits {
            config::Limits::Aws => PaceLimits {
                messages: Some(link.messages_per_second),
                bytes: Some(u32::try_from(link.bytes_per_second).unwrap_or(u32::MAX)),
                records: link.records_per_second,
            },
            config::Limits::None => {
                PaceLimits { records: link.records_per_second, ..PaceLimits::default() }
            }
        };
        let ack_deadline = link.ack_timeout.min(link.keep_alive);
        let delivery =
            DeliveryLimits { window: usize::from(link.window), repeat: u64::from(link.repeat) };
        Self { delivery, pace, ack_deadline }
    }
}

/// Publishes until the store stops, or, while draining, until nothing is left.
///
/// # Errors
/// When the store is gone.
async fn run(mut publisher: Publisher) -> anyhow::Result<()> {
    let settings = *publisher.settings.borrow_and_update();
    let mut round = Round::new(settings, publisher.store.watermarks);
    let mut progress = publisher.store.watch_progress();
    loop {
        // Read before the progress, which is complete when the drain begins.
        let draining = *publisher.draining.borrow();
        round.apply_progress(&progress.borrow_and_update());
        let wait = round.publish_available(&publisher).await?;
        round.report_state(&publisher);
        if draining && round.is_done() {
            return Ok(());
        }
        tokio::select! {
            Some((id, acknowledged)) = round.acks.next() => {
                round.record_acknowledgement(id, acknowledged);
            }
            () = await_marks(&mut round.marking) => {
                round.marking = None;
                round.delivery.note_marks_durable();
            }
            changed = progress.changed() => changed.map_err(|_| Stopped)?,
            Ok(()) = publisher.links.changed() => round.link_changed(&mut publisher.links),
            Ok(()) = publisher.settings.changed() => {
                let settings = *publisher.settings.borrow_and_update();
                round.delivery.set_limits(settings.delivery);
                round.pace = Pace::new(settings.pace);
                round.not_before = [(Mono(0), Seq(0)); 3];
            }
            Ok(()) = publisher.draining.changed() => round.not_before = [(Mono(0), Seq(0)); 3],
            Ok(()) = publisher.clock_set.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn await_marks(marking: &mut Option<oneshot::Receiver<()>>) {
    match marking {
        // A dropped answer comes from a stopping store, whose progress ends as well.
        Some(durable) => drop(durable.await),
        None => std::future::pending().await,
    }
}

impl Round {
    fn new(settings: Settings, watermarks: [Seq; 3]) -> Self {
        Self {
            delivery: Delivery::new(settings.delivery, watermarks),
            pace: Pace::new(settings.pace),
            session: None,
            grace: ClockGrace::default(),
            acks: FuturesUnordered::new(),
            marking: None,
            marking_is_urgent: false,
            not_before: [(Mono(0), Seq(0)); 3],
            state: PublisherState::default(),
            pass: 0,
            withheld_told: 0,
        }
    }

    /// Publishes all that the link, the pace and the window allow now. Returns the time until the
    /// next round if no event comes first.
    async fn publish_available(&mut self, publisher: &Publisher) -> Result<Duration, Stopped> {
        self.judge_answers();
        self.mark_settled(publisher).await?;
        let mut wait = IDLE;
        let Some(session) = self.session.clone() else { return Ok(wait) };
        let patience = publisher.settings.borrow().ack_deadline;
        if let Some(due) = self.delivery.answer_due(patience) {
            let left = due.since(clock::mono());
            if left.is_zero() {
                publisher.reports.doubts.send_replace(session.number);
            }
            wait = wait.min(left.max(Duration::from_secs(1)));
        }
        for _ in 0..MAX_TAKES {
            // Before any message goes: an alert committed since overtakes the readings in hand.
            while self.take_batches(publisher, Some(ONLY_ALERTS), &mut wait).await? {}
            let held = self.send_in_hand(publisher, &session);
            wait = wait.min(held.map_or(IDLE, |held| held.delay));
            if !self.take_batches(publisher, held, &mut wait).await? {
                return Ok(self.until_due(wait));
            }
        }
        Ok(Duration::ZERO)
    }

    /// Shortens `wait` to the next due time of delivery. Returns at least a millisecond.
    fn until_due(&self, wait: Duration) -> Duration {
        let now = clock::mono();
        let due = self.delivery.next_due().filter(|due| *due > now);
        due.map_or(wait, |due| wait.min(due.since(now).max(Duration::from_millis(1))))
    }

    /// Applies the progress of the store: a new pass, the last committed places, and the withheld
    /// topics.
    fn apply_progress(&mut self, progress: &Progress) {
        if progress.pass.number != self.pass {
            self.pass = progress.pass.number;
            self.delivery.begin_pass(progress.pass.watermarks);
            self.not_before = [(Mono(0), Seq(0)); 3];
        }
        self.delivery.note_committed(progress.last);
        if progress.withheld_told != self.withheld_told {
            self.withheld_told = progress.withheld_told;
            self.delivery.withheld_in_store(&progress.withheld, clock::mono());
        }
    }

    /// Sends the messages in hand, until the pace or the link holds a message up.
    fn send_in_hand(&mut self, publisher: &Publisher, session: &Session) -> Option<HeldMessage> {
        loop {
            let now = clock::mono();
            let (id, batch) = self.delivery.next(now)?;
            let lane = batch.lane;
            let bytes = (batch.payload.len() + batch.topic.len()) as u64;
            let cost = Cost { bytes, records: batch.count };
            let delay = self.pace.required_delay(now, lane, cost);
            if !delay.is_zero() {
                return Some(HeldMessage { lane, delay });
            }
            let payload = Bytes::from_owner(Arc::clone(&batch.payload));
            let Ok(ack) = session.publish_message(&batch.topic, payload) else {
                // An acknowledgement makes room, and wakes the loop.
                return Some(HeldMessage { lane, delay: IDLE });
            };
            self.acks.push(Box::pin(async move { (id, ack.await) }));
            self.pace.spend_cost(now, cost);
            if self.delivery.mark_sent(id, now) {
                publisher.reports.trials.send_replace(session.number);
            }
        }
    }

    /// Takes one more batch group from the store. Returns true if there was any. While a message is
    /// held up, only more urgent lanes are asked: an alert never waits behind the pace of readings
    /// (P6).
    async fn take_batches(
        &mut self,
        publisher: &Publisher,
        held: Option<HeldMessage>,
        wait: &mut Duration,
    ) -> Result<bool, Stopped> {
        let now = clock::mono();
        let draining = *publisher.draining.borrow();
        let holds_until = self.holds_until(publisher, now).filter(|_| !draining);
        // An alert may have been committed since the last take.
        let committed = publisher.store.watch_progress().borrow().last;
        self.delivery.note_committed(committed);
        let is_urgent = |wanted: &TakeRequest| held.is_none_or(|held| wanted.lane < held.lane);
        let wanted = self.delivery.list_requests(now).into_iter().filter(is_urgent);
        for wanted in wanted {
            let lane = wanted.lane;
            if let Some(holds_until) = holds_until.filter(|_| lane != Lane::Alerts) {
                *wait = (*wait).min(holds_until.since(now));
                continue;
            }
            let (not_before, full_at) = self.not_before[lane.index()];
            let is_lane = matches!(wanted.part, LanePart::Lane { .. });
            if is_lane && not_before > now && committed[lane.index()] < full_at && !draining {
                *wait = (*wait).min(not_before.since(now));
                continue;
            }
            match publisher.store.take_wanted(wanted.clone(), draining).await? {
                TakeOutcome::Group(group) => {
                    self.delivery.add_group(lane, group);
                    return Ok(true);
                }
                TakeOutcome::OfTopic(group, sources) => {
                    if let LanePart::Topic { topic, .. } = &wanted.part {
                        self.delivery.add_topic_group(lane, topic, group, sources);
                    }
                    return Ok(true);
                }
                TakeOutcome::Later { due, .. } if !is_lane => {
                    *wait = (*wait).min(due.since(now).max(Duration::from_millis(1)));
                }
                TakeOutcome::Later { due, full_at } => {
                    self.not_before[lane.index()] = (due, full_at);
                    *wait = (*wait).min(due.since(now).max(Duration::from_millis(1)));
                }
                TakeOutcome::Nothing => self.delivery.mark_exhausted(&wanted),
            }
        }
        Ok(false)
    }

    /// Reports withheld topics to the store at once, because the next take relies on them. Then
    /// moves the watermarks, unless an earlier request is not durable yet.
    async fn mark_settled(&mut self, publisher: &Publisher) -> Result<(), Stopped> {
        loop {
            let withheld = self.delivery.take_withheld();
            if withheld.is_empty() {
                break;
            }
            publisher.store.withhold_topics(withheld, self.withheld_told, self.pass).await?;
            // Before marks are taken: a renamed topic is withheld under its new name as well.
            let progress = publisher.store.watch_progress();
            self.apply_progress(&progress.borrow());
        }
        let urgent = self.delivery.marks_are_urgent() || *publisher.draining.borrow();
        if self.marking.is_some() {
            if urgent && !self.marking_is_urgent {
                publisher.store.request_commit().await?;
                self.marking_is_urgent = true;
            }
            return Ok(());
        }
        let (marks, topics) = self.delivery.take_marks();
        if !marks.is_empty() || !topics.is_empty() {
            self.marking = Some(publisher.store.mark_all(marks, topics, urgent, self.pass).await?);
            self.marking_is_urgent = urgent;
        }
        Ok(())
    }

    fn drain_acks(&mut self) {
        use futures_util::FutureExt as _;
        // All acknowledgements at once: an acknowledgement read after the end of its connection was
        // judged would count for the next connection.
        while let Some(Some((id, acknowledged))) =
            tokio::task::unconstrained(self.acks.next()).now_or_never()
        {
            self.record_acknowledgement(id, acknowledged);
        }
    }

    /// Counts an acknowledged message. The connection does not matter: the broker has the message.
    fn record_acknowledgement(&mut self, id: MessageId, acknowledged: bool) {
        if acknowledged {
            self.delivery.acknowledge_message(id, clock::mono());
            self.state.acknowledged += 1;
        }
    }

    fn link_changed(&mut self, links: &mut watch::Receiver<LinkState>) {
        let link = links.borrow_and_update().clone();
        let session = match link {
            LinkState::Up(session) => {
                Some(session).filter(|session| session.connection_end().is_none())
            }
            LinkState::Down(_) => None,
        };
        self.judge_end();
        let same = session.as_ref().map(|s| s.number) == self.session.as_ref().map(|s| s.number);
        if same {
            return;
        }
        if self.session.is_some() {
            self.lose_link(End { death: LinkEnd::Otherwise, at: clock::mono() });
        }
        if let Some(session) = &session {
            self.grace.begin_grace(session.since);
            self.delivery.link_up(clock::mono(), session.round_trip);
        }
        self.session = session;
    }

    /// Passes time to delivery, which believes an acknowledgement only after the connection
    /// outlived it.
    fn judge_answers(&mut self) {
        self.drain_acks();
        // The time is read before the connection is judged: at this time the connection lived, or
        // its end is recorded.
        let now = clock::mono();
        self.judge_end();
        self.delivery.handle_timeout(now);
    }

    /// Judges the connection if it ended, by the end recorded in its session: the state of the link
    /// may belong to a later attempt.
    fn judge_end(&mut self) {
        if let Some(end) = self.session.as_ref().and_then(Session::connection_end) {
            self.lose_link(end);
        }
    }

    fn lose_link(&mut self, end: End) {
        // Acknowledgements that were read before the connection ended still count.
        self.drain_acks();
        let gaps = self.delivery.link_lost(end.death, end.at);
        self.count_quarantined(&gaps);
        self.session = None;
    }

    fn count_quarantined(&mut self, gaps: &[Gap]) {
        self.state.quarantined += gaps.len() as u64;
        for gap in gaps {
            let (count, lane) = (gap.count, gap.lane.as_str());
            tracing::error!(count, lane, "a message that the broker hangs up on is quarantined");
        }
    }

    fn holds_until(&self, publisher: &Publisher, now: Mono) -> Option<Mono> {
        self.grace.holds_until(*publisher.clock_set.borrow(), now)
    }

    fn is_done(&self) -> bool {
        let is_rejoining = Lane::ALL.into_iter().any(|lane| self.delivery.is_rejoining(lane));
        self.delivery.is_settled()
            && !is_rejoining
            && self.delivery.list_requests(clock::mono()).is_empty()
    }

    fn report_state(&mut self, publisher: &Publisher) {
        publisher.pulse.beat();
        self.state.in_flight = self.delivery.in_flight();
        self.state.in_hand = self.delivery.in_hand();
        self.state.clock_holds_until = self.holds_until(publisher, clock::mono());
        self.state.max_message_bytes = self.delivery.max_message_bytes();
        let refused = self.delivery.list_refused();
        let is_taken = |topic: &str| self.delivery.is_taken(topic);
        publisher.refused.send_if_modified(|seen| update_refused(seen, refused, is_taken));
        let state = self.state;
        send_if_changed(&publisher.states, state);
    }
}

/// Replaces the list of refused topics, and logs the differences. Returns true if the list changed.
fn update_refused(
    seen: &mut Vec<RefusedTopic>,
    refused: Vec<RefusedTopic>,
    is_taken: impl Fn(&str) -> bool,
) -> bool {
    let has =
        |all: &[RefusedTopic], one: &RefusedTopic| all.iter().any(|other| other.topic == one.topic);
    for one in refused.iter().filter(|one| !has(seen, one)) {
        tracing::warn!(topic = &*one.topic, "the broker hangs up on a topic: its records wait");
    }
    for one in seen.iter().filter(|one| !has(&refused, one)) {
        let topic = &*one.topic;
        if is_taken(topic) {
            tracing::info!(topic, "the broker takes a topic again");
        } else {
            tracing::info!(topic, "a topic is not withheld any more: none of its records wait");
        }
    }
    let changed = *seen != refused;
    *seen = refused;
    changed
}

#[cfg(test)]
mod tests;
