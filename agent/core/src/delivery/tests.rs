use super::*;

const NOW: Mono = Mono(0);

fn batch(lane: Lane, first: u64, last: u64) -> Batch {
    Batch {
        lane,
        topic: "t".into(),
        payload: format!("{first}-{last}").into_bytes().into(),
        first: Seq(first),
        last: Seq(last),
        count: last - first + 1,
    }
}

fn sheaf(lane: Lane, first: u64, last: u64) -> Sheaf {
    Sheaf { through: Seq(last), batches: vec![batch(lane, first, last)], filtered: 0 }
}

/// A delivery with `n` sheaves of ten readings in hand.
fn with_readings(window: usize, n: u64) -> Delivery {
    let mut delivery = Delivery::new(window, [Seq(0); 3]);
    delivery.committed([Seq(0), Seq(0), Seq(1_000)]);
    for i in 0..n {
        delivery.add(Lane::Readings, sheaf(Lane::Readings, i * 10 + 1, i * 10 + 10), NOW);
    }
    delivery
}

fn send_all(delivery: &mut Delivery) -> Vec<MessageId> {
    let mut sent = Vec::new();
    while let Some((id, _)) = delivery.next() {
        delivery.sent(id, NOW);
        sent.push(id);
    }
    sent
}

#[test]
fn acknowledgements_in_any_order_move_the_watermark_only_over_what_is_complete() {
    let mut delivery = with_readings(16, 3);
    let ids = send_all(&mut delivery);

    delivery.acknowledged(ids[2]);
    delivery.acknowledged(ids[1]);
    assert_eq!(delivery.take_marks(), []);

    delivery.acknowledged(ids[0]);
    let marks = delivery.take_marks();
    assert_eq!(marks.len(), 1);
    assert_eq!((marks[0].through, marks[0].delivered), (Seq(30), 30));
}

#[test]
fn an_acknowledgement_that_comes_twice_counts_once() {
    let mut delivery = with_readings(16, 1);
    let ids = send_all(&mut delivery);

    delivery.acknowledged(ids[0]);
    delivery.acknowledged(ids[0]);

    assert_eq!(delivery.take_marks()[0].delivered, 10);
}

#[test]
fn what_is_acknowledged_but_not_durable_still_fills_the_window() {
    let mut delivery = with_readings(4, 3);
    for id in send_all(&mut delivery) {
        delivery.acknowledged(id);
    }

    assert!(!delivery.has_room(Lane::Readings));
    assert!(delivery.marks_are_urgent());
    let _taken = delivery.take_marks();
    assert!(!delivery.has_room(Lane::Readings));

    delivery.marked();
    assert!(delivery.has_room(Lane::Readings));
}

#[test]
fn readings_leave_room_for_an_alert_which_then_goes_first() {
    let mut delivery = with_readings(8, 6);
    assert!(!delivery.has_room(Lane::Readings));
    assert!(delivery.has_room(Lane::Alerts));

    delivery.add(Lane::Alerts, sheaf(Lane::Alerts, 500, 500), NOW);

    assert_eq!(delivery.next().unwrap().1.lane, Lane::Alerts);
}

#[test]
fn republishes_the_unacknowledged_byte_for_byte_after_a_lost_link() {
    let mut delivery = with_readings(16, 3);
    let ids = send_all(&mut delivery);
    let before = delivery.messages[&ids[1]].batch.payload.clone();
    delivery.acknowledged(ids[0]);

    delivery.link_lost(Death::Otherwise, Mono(1));

    assert_eq!(delivery.next().unwrap().1.payload, before);
    assert_eq!(send_all(&mut delivery), ids[1..]);
}

#[test]
fn after_the_peer_hangs_up_messages_go_one_at_a_time_until_all_are_cleared() {
    let mut delivery = with_readings(16, 3);
    let ids = send_all(&mut delivery);
    delivery.link_lost(Death::ByPeer, Mono(1));

    assert_eq!(send_all(&mut delivery), [ids[0]]);
    delivery.acknowledged(ids[0]);
    assert_eq!(send_all(&mut delivery), [ids[1]]);
    delivery.acknowledged(ids[1]);
    assert_eq!(send_all(&mut delivery), [ids[2]]);
}

#[test]
fn a_message_after_which_the_link_dies_twice_is_quarantined_and_the_rest_goes_on() {
    let mut delivery = with_readings(16, 3);
    let poison = MessageId(1);
    let mut gap = None;
    for connection in 1..20 {
        loop {
            let sent = send_all(&mut delivery);
            if sent.is_empty() || sent.contains(&poison) {
                break;
            }
            sent.into_iter().for_each(|id| delivery.acknowledged(id));
        }
        gap = gap.or(delivery.link_lost(Death::ByPeer, Mono(connection)).pop());
    }

    let gap = gap.unwrap();
    assert_eq!((gap.first, gap.last, gap.count), (Seq(11), Seq(20), 10));
    let marks = delivery.take_marks();
    assert_eq!((marks[0].through, marks[0].delivered), (Seq(30), 20));
    assert_eq!(marks[0].gaps, [gap]);
    assert_eq!(delivery.in_flight(), 0);
}

#[test]
fn a_network_that_fails_condemns_no_message() {
    let mut delivery = with_readings(16, 1);
    for i in 0..10 {
        send_all(&mut delivery);
        assert_eq!(delivery.link_lost(Death::Otherwise, Mono(i)), []);
    }
    assert_eq!(send_all(&mut delivery).len(), 1);
}

#[test]
fn a_peer_that_hangs_up_long_after_a_publish_did_so_for_another_reason() {
    let mut delivery = with_readings(16, 1);
    for _ in 0..10 {
        send_all(&mut delivery);
        assert_eq!(delivery.link_lost(Death::ByPeer, NOW + SUSPECT_WITHIN + SUSPECT_WITHIN), []);
    }
}

#[test]
fn a_sheaf_of_several_topics_is_marked_when_all_of_them_arrived() {
    let mut delivery = Delivery::new(16, [Seq(0); 3]);
    let batches = vec![batch(Lane::Readings, 1, 4), batch(Lane::Readings, 5, 5)];
    delivery.add(Lane::Readings, Sheaf { through: Seq(5), batches, filtered: 0 }, NOW);
    let ids = send_all(&mut delivery);

    delivery.acknowledged(ids[1]);
    assert_eq!(delivery.take_marks(), []);
    delivery.acknowledged(ids[0]);
    assert_eq!(delivery.take_marks()[0].delivered, 5);
    assert!(delivery.has_unmarked());
    delivery.marked();
    assert_eq!(delivery.in_hand(), 0);
}

/// Sends and has acknowledged what is not poison, until the peer hangs up. Returns what that
/// condemned.
fn connection(
    delivery: &mut Delivery,
    now: Mono,
    mut hangs_up: impl FnMut(&Batch, usize) -> bool,
) -> Vec<Gap> {
    let mut publishes = 0;
    while let Some((id, batch)) = delivery.next() {
        publishes += 1;
        let dies = hangs_up(batch, publishes);
        delivery.sent(id, now);
        if dies {
            return delivery.link_lost(Death::ByPeer, now);
        }
        delivery.acknowledged(id);
    }
    Vec::new()
}

#[test]
fn a_peer_that_hangs_up_on_everything_condemns_nothing() {
    let mut delivery = with_readings(16, 5);

    for second in 0..100 {
        assert_eq!(connection(&mut delivery, Mono(second * 1_000), |_, _| true), []);
    }

    assert_eq!(connection(&mut delivery, Mono(200_000), |_, _| false), []);
    assert_eq!(delivery.take_marks()[0].delivered, 50);
}

#[test]
fn a_peer_that_hangs_up_after_every_few_messages_condemns_nothing() {
    for after in 2..6 {
        let mut delivery = with_readings(100, 40);
        for second in 0..200 {
            let cut = connection(&mut delivery, Mono(second * 1_000), |_, n| n == after);
            assert_eq!(cut, [], "after {after}");
        }
        assert_eq!(delivery.take_marks()[0].delivered, 400, "after {after}");
    }
}

#[test]
fn an_alert_goes_before_a_message_on_trial() {
    let mut delivery = with_readings(16, 2);
    let poison = |batch: &Batch, _| batch.first == Seq(11);
    connection(&mut delivery, NOW, poison);
    delivery.add(Lane::Alerts, sheaf(Lane::Alerts, 500, 500), NOW);

    assert_eq!(delivery.next().unwrap().1.lane, Lane::Alerts);
    let gaps = connection(&mut delivery, NOW, poison);

    assert_eq!(gaps[0].first, Seq(11));
}

#[test]
fn a_topic_on_which_all_is_condemned_rests_and_is_tried_again() {
    let mut delivery = Delivery::new(100, [Seq(0); 3]);
    let forbidden = |batch: &Batch, _| &*batch.topic == "forbidden";
    let mut sheaves = (0..).map(|n| {
        let mut bad = batch(Lane::Readings, 2 * n + 2, 2 * n + 2);
        bad.topic = "forbidden".into();
        Sheaf {
            through: Seq(2 * n + 2),
            batches: vec![batch(Lane::Readings, 2 * n + 1, 2 * n + 1), bad],
            filtered: 0,
        }
    });

    let mut deaths = 0;
    let mut now = NOW;
    for sheaf in sheaves.by_ref().take(100) {
        now = now + Duration::from_secs(1);
        delivery.add(Lane::Readings, sheaf, now);
        while delivery.next().is_some() {
            let before = delivery.messages.len();
            connection(&mut delivery, now, |batch, n| {
                deaths += usize::from(forbidden(batch, n));
                forbidden(batch, n)
            });
            assert!(delivery.messages.len() < before || deaths < 10);
        }
    }
    let marks = delivery.take_marks();
    assert_eq!(deaths, 6, "twice for each of three");
    assert_eq!((marks[0].delivered, marks[0].gaps.len()), (100, 1));
    assert_eq!(marks[0].gaps[0].count, 100);

    now = now + Duration::from_secs(601);
    delivery.add(Lane::Readings, sheaves.next().unwrap(), now);
    connection(&mut delivery, now, |_, _| false);
    assert_eq!(delivery.take_marks()[0].delivered, 2);
}

#[test]
fn a_sheaf_is_taken_only_when_there_is_room_for_one_as_large_as_the_last() {
    let mut delivery = Delivery::new(16, [Seq(0); 3]);
    delivery.committed([Seq(0), Seq(0), Seq(1_000)]);
    for n in 0..2 {
        let batches = (0..5).map(|i| batch(Lane::Readings, n * 5 + i + 1, n * 5 + i + 1));
        assert!(delivery.has_room(Lane::Readings));
        delivery.add(
            Lane::Readings,
            Sheaf { through: Seq(n * 5 + 5), batches: batches.collect(), filtered: 0 },
            NOW,
        );
    }

    assert_eq!(delivery.room(Lane::Readings), 2);
    assert!(!delivery.has_room(Lane::Readings));
    assert!(delivery.has_room(Lane::Alerts));
}

#[test]
fn what_is_filtered_is_settled_at_once_and_in_its_order() {
    let mut delivery = Delivery::new(4, [Seq(0); 3]);
    delivery.committed([Seq(0), Seq(0), Seq(30)]);
    delivery.add(Lane::Readings, sheaf(Lane::Readings, 1, 10), NOW);
    let alone = Sheaf { through: Seq(20), batches: Vec::new(), filtered: 10 };
    delivery.add(Lane::Readings, alone, NOW);

    assert_eq!(delivery.take_marks(), [], "what lies before is not yet acknowledged");
    let (first, _) = delivery.next().unwrap();
    delivery.sent(first, NOW);
    delivery.acknowledged(first);
    let marks = delivery.take_marks();

    assert_eq!((marks[0].through, marks[0].delivered, marks[0].filtered), (Seq(20), 10, 10));
}
