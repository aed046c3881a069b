//! Tests of the limits of sending: the window, the bytes on their way, and the records that a crash
//! repeats.

use super::super::*;

const LIMITS: DeliveryLimits = DeliveryLimits { window: 16, repeat: 2_000 };
const TOPIC: &str = "t";

/// A delivery with `readings` messages of `bytes` and `count` readings each, in groups of one.
struct Sender {
    delivery: Delivery,
    now: Mono,
    taken: [u64; 3],
}

impl Sender {
    fn new(limits: DeliveryLimits) -> Self {
        let mut delivery = Delivery::new(limits, [Seq(0); 3]);
        delivery.note_committed([Seq(1_000_000); 3]);
        let mut sender = Self { delivery, now: Mono(1_000), taken: [0; 3] };
        sender.delivery.link_up(sender.now, None);
        sender
    }

    /// Takes a group of messages of `count` records and `bytes`, each on a topic of its own.
    fn take(&mut self, lane: Lane, messages: usize, count: u64, bytes: usize) {
        let taken = &mut self.taken[lane.index()];
        let batch = |nth: usize| Batch {
            lane,
            topic: format!("{TOPIC}{nth}").into(),
            payload: vec![b'0'; bytes - TOPIC.len() - nth.to_string().len()].into(),
            first: Seq(*taken + 1),
            last: Seq(*taken + messages as u64 * count),
            count,
        };
        let batches: Vec<Batch> = (0..messages).map(batch).collect();
        *taken += messages as u64 * count;
        let through = Seq(*taken);
        let (filtered, withheld) = (Vec::new(), Vec::new());
        self.delivery.add_group(lane, BatchGroup { through, batches, filtered, withheld });
    }

    /// Sends one message, and returns its id and lane.
    fn send(&mut self) -> Option<(MessageId, Lane)> {
        let (id, batch) = self.delivery.next(self.now)?;
        let lane = batch.lane;
        self.delivery.mark_sent(id, self.now);
        Some((id, lane))
    }

    /// Takes and sends groups of one message of readings until a limit holds one back.
    fn fill(&mut self, count: u64, bytes: usize) -> Vec<MessageId> {
        let mut sent = Vec::new();
        loop {
            if self.wants(Lane::Readings) {
                self.take(Lane::Readings, 1, count, bytes);
            }
            match self.send() {
                Some((id, _)) => sent.push(id),
                None => return sent,
            }
        }
    }

    fn answer(&mut self, id: MessageId, after_ms: u64) {
        self.now = Mono(self.now.0 + after_ms);
        self.delivery.acknowledge_message(id, self.now);
    }

    /// Measures a link of `bytes` in `ms` with one message of readings.
    fn measure(&mut self, bytes: usize, ms: u64) {
        self.take(Lane::Readings, 1, 1, bytes);
        let (id, _) = self.send().expect("the first message");
        self.answer(id, ms);
        self.mark();
    }

    fn mark(&mut self) {
        self.now = self.now + ANSWER_STANDS;
        self.delivery.handle_timeout(self.now);
        drop(self.delivery.take_marks());
        self.delivery.note_marks_durable();
    }

    fn wants(&self, lane: Lane) -> bool {
        self.delivery.list_requests(self.now).iter().any(|wanted| wanted.lane == lane)
    }
}

#[test]
fn readings_leave_a_quarter_of_the_window_to_alerts() {
    for (window, readings) in [(1, 1), (2, 1), (4, 3), (16, 12), (100, 75)] {
        let mut sender = Sender::new(DeliveryLimits { window, ..LIMITS });
        sender.measure(1_000, 1);

        assert_eq!(sender.fill(1, 1_000).len(), readings, "of {window}");
        sender.take(Lane::Alerts, window, 1, 300);
        let alerts = std::iter::from_fn(|| sender.send()).map(|(_, lane)| lane);
        assert!(alerts.eq(vec![Lane::Alerts; window - readings]), "of {window}");
    }
}

/// Faults of the audit: after alerts on many topics, the lane of alerts waited for an empty window.
#[test]
fn the_room_of_an_alert_depends_on_alerts_only() {
    let mut sender = Sender::new(LIMITS);
    sender.measure(1_000, 1);
    sender.take(Lane::Alerts, 16, 1, 300);
    let alerts: Vec<_> = std::iter::from_fn(|| sender.send()).collect();
    assert_eq!(alerts.len(), 16);
    alerts.into_iter().for_each(|(id, _)| sender.answer(id, 1));
    sender.mark();

    assert_eq!(sender.fill(1, 1_000).len(), 12);

    assert!(sender.wants(Lane::Alerts));
    sender.take(Lane::Alerts, 2, 1, 300);
    assert_eq!(sender.send().map(|(_, lane)| lane), Some(Lane::Alerts));
    assert!(!sender.wants(Lane::Alerts), "one of the two waits");
}

#[test]
fn bytes_on_their_way_are_those_that_the_link_moves_in_a_second_or_one_message() {
    // Bytes of a message, its time on the link, and the messages then on their way at once.
    let rows = [
        (5_000, 1, 12),
        (5_000, 100, 10),
        (5_000, 900, 1),
        (36_000, 6_000, 1),
        (128_000, 20_000, 1),
        (1_000, 200, 5),
    ];
    for (bytes, ms, expected) in rows {
        let mut sender = Sender::new(LIMITS);
        assert_eq!(sender.fill(1, bytes).len(), 1, "nothing is measured yet");
        let mut sender = Sender::new(LIMITS);
        sender.measure(bytes, ms);

        assert_eq!(sender.fill(1, bytes).len(), expected, "{bytes} bytes in {ms} ms");

        sender.take(Lane::Alerts, 1, 1, 300);
        assert_eq!(sender.send().map(|(_, lane)| lane), Some(Lane::Alerts));
    }
}

#[test]
fn an_acknowledgement_is_awaited_for_as_long_as_the_bytes_before_it_take() {
    let patience = Duration::from_secs(30);
    let mut sender = Sender::new(LIMITS);
    assert_eq!(sender.delivery.answer_due(patience), None);
    sender.measure(6_000, 1_000);

    sender.take(Lane::Readings, 1, 1, 120_000);
    sender.send().expect("never less than one message");
    let large = sender.now;
    assert_eq!(sender.delivery.answer_due(patience), Some(large + Duration::from_secs(50)));

    sender.now = sender.now + Duration::from_secs(1);
    sender.take(Lane::Alerts, 1, 1, 600);
    let (alert, _) = sender.send().expect("an alert");
    assert_eq!(sender.delivery.answer_due(patience), Some(large + Duration::from_secs(50)));
    sender.answer(alert, 0);
    assert_eq!(sender.delivery.answer_due(patience), Some(large + Duration::from_secs(50)));
}

#[test]
fn a_crash_repeats_no_more_records_than_configured() {
    for (repeat, count, messages) in [(200, 100, 2), (200, 90, 2), (2_000, 300, 6), (2, 1, 2)] {
        let mut sender = Sender::new(DeliveryLimits { repeat, ..LIMITS });
        sender.measure(5_000, 1);

        let sent = sender.fill(count, 5_000);

        assert_eq!(sent.len(), messages, "{count} of {repeat}");
        let wanted = sender.delivery.list_requests(sender.now);
        let readings = wanted.iter().find(|wanted| wanted.lane == Lane::Readings);
        assert!(readings.is_none(), "a message waits");
        // Acknowledged and not durable: the records still count.
        for id in &sent {
            sender.answer(*id, 1);
        }
        sender.now = sender.now + ANSWER_STANDS;
        sender.delivery.handle_timeout(sender.now);
        assert_eq!(sender.send(), None);
        assert!(sender.delivery.marks_are_urgent());
        sender.mark();
        assert!(!sender.delivery.has_unmarked());
        assert!(sender.send().is_some());
    }
}

#[test]
fn a_request_asks_for_half_of_the_repeatable_records_and_any_number_of_alerts() {
    let sender = Sender::new(DeliveryLimits { repeat: 200, ..LIMITS });

    let asked = sender.delivery.list_requests(sender.now);
    let asked: Vec<_> = asked.iter().map(|wanted| (wanted.lane, wanted.group_records)).collect();

    assert_eq!(asked, [(Lane::Alerts, usize::MAX), (Lane::Events, 100), (Lane::Readings, 100)]);
}

#[test]
fn a_group_of_more_topics_than_the_window_is_sent_to_its_end() {
    let mut sender = Sender::new(LIMITS);
    sender.measure(1_000, 1);
    sender.take(Lane::Readings, 60, 10, 1_000);
    let mut sent = 0;
    loop {
        let now: Vec<_> = std::iter::from_fn(|| sender.send()).collect();
        if now.is_empty() {
            break;
        }
        assert!(now.len() <= 12 && !sender.delivery.is_settled());
        sent += now.len();
        now.into_iter().for_each(|(id, _)| sender.answer(id, 1));
    }

    assert_eq!(sent, 60);
    sender.mark();
    assert!(sender.delivery.is_settled());
}

#[test]
fn limits_that_became_smaller_leave_no_message_behind() {
    let mut sender = Sender::new(LIMITS);
    sender.measure(1_000, 1);
    sender.take(Lane::Readings, 60, 15, 1_000);
    sender.take(Lane::Events, 20, 15, 1_000);

    sender.delivery.set_limits(DeliveryLimits { window: 1, repeat: 2 });
    let mut sent = 0;
    while let Some((id, _)) = sender.send() {
        sent += 1;
        sender.answer(id, 1);
        sender.mark();
    }

    assert_eq!(sent, 80);
    assert!(sender.delivery.is_settled());
}

#[test]
fn many_topics_and_few_repeatable_records_make_delivery_slow() {
    // Topics, `repeat`, messages a second, and the readings a second.
    let rows = [
        (1, 2_000, 50, 4_545),
        (60, 2_000, 50, 714),
        (60, 200, 50, 71),
        (60, 2_000, 10, 161),
        (512, 2_000, 50, 95),
        (513, 2_000, 50, 50),
        (513, 2_000, 1_000, 60),
    ];
    for (topics, repeat, messages, expected) in rows {
        let limits = DeliveryLimits { repeat, ..LIMITS };
        let found = limits.sustained_rate(topics, messages);
        assert_eq!(found, expected, "{topics} topics, {repeat}, {messages}");
    }
}

/// Only messages sent again bring the mark for which an event waits.
#[test]
fn what_a_lost_link_took_goes_before_an_event_that_waits_for_a_mark() {
    for window in [16, 4_000] {
        let mut sender = Sender::new(DeliveryLimits { window, ..LIMITS });
        sender.measure(1_000, 1);
        let sent = sender.fill(1_000, 1_000);
        assert_eq!(sent.len(), 2, "all that a crash may repeat");
        sender.take(Lane::Events, 1, 1, 300);
        assert_eq!(sender.send(), None);

        sender.delivery.link_lost(LinkEnd::Otherwise, sender.now);
        sender.delivery.link_up(sender.now, None);

        let again = sender.send();
        assert_eq!(again.map(|(id, _)| id), Some(sent[0]), "window {window}");
        sender.answer(sent[0], 1);
        assert_eq!(sender.send().map(|(id, _)| id), Some(sent[1]));
        sender.answer(sent[1], 1);
        sender.mark();
        assert_eq!(sender.send().map(|(_, lane)| lane), Some(Lane::Events));
    }
}

/// A crash repeats whole groups.
#[test]
fn a_group_of_alerts_has_no_more_messages_than_the_window() {
    let sender = Sender::new(LIMITS);
    let requests = sender.delivery.list_requests(sender.now);
    let alerts = requests.iter().find(|wanted| wanted.lane == Lane::Alerts);
    assert_eq!(alerts.map(|wanted| wanted.room), Some(LIMITS.window));
}
