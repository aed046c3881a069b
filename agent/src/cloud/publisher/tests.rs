//! The publisher, when it sees the end of a connection late because it waited for the store.

use pulsegate_core::cloud::batch::{Batch, BatchGroup};

use super::*;
use crate::cloud::mqtt::Outage;
use crate::config::Link;

/// A publisher on connection 1, of which one message was acknowledged `ago`.
fn round_with_answer(ago: Duration) -> (Round, Session, Mono) {
    let settings = Settings { pace: PaceLimits::default(), ..Settings::new(&Link::default()) };
    let mut round = Round::new(settings, [Seq(0); 3]);
    let session = Session::unused(1);
    round.session = Some(session.clone());
    let batch = Batch {
        lane: Lane::Readings,
        topic: "b".into(),
        payload: (*b"[1]").into(),
        first: Seq(1),
        last: Seq(1),
        count: 1,
    };
    let group = BatchGroup {
        through: Seq(1),
        batches: vec![batch],
        filtered: Vec::new(),
        withheld: Vec::new(),
    };
    round.delivery.add_group(Lane::Readings, group);
    let answered = clock::mono() - ago;
    let (id, _) = round.delivery.next(answered).unwrap();
    round.delivery.mark_sent(id, answered);
    round.delivery.acknowledge_message(id, answered);
    (round, session, answered)
}

fn down() -> LinkState {
    LinkState::Down(Outage::before_first_attempt(clock::mono()))
}

#[test]
fn a_hang_up_counts_whatever_the_link_came_to_before_the_publisher_looked() {
    let later_hung_up = Session::unused(3).ended(LinkEnd::ByPeer, clock::mono());
    // The second is what a failed attempt leaves.
    let seen = [LinkState::Up(Session::unused(2)), down(), LinkState::Up(later_hung_up)];
    for state in seen {
        let (mut round, session, answered) = round_with_answer(Duration::from_secs(2));
        let _ = session.ended(LinkEnd::ByPeer, answered + Duration::from_millis(5));
        let (_links, mut seen) = watch::channel(state.clone());

        round.link_changed(&mut seen);
        round.delivery.handle_timeout(clock::mono());

        assert!(!round.delivery.has_unmarked(), "{state:?}");
        assert_eq!(round.delivery.in_hand(), 1, "{state:?}");
        let number = round.session.map(|session| session.number);
        let expected = matches!(&state, LinkState::Up(next) if next.number == 2).then_some(2);
        assert_eq!(number, expected, "{state:?}");
    }
}

#[test]
fn a_hang_up_that_was_not_told_yet_counts_before_an_answer_is_believed() {
    let (mut round, session, answered) = round_with_answer(Duration::from_secs(2));
    let _ = session.ended(LinkEnd::ByPeer, answered + Duration::from_millis(5));

    round.judge_answers();

    assert!(!round.delivery.has_unmarked());
    assert!(round.session.is_none());
}

#[test]
fn an_answer_that_stood_until_the_connection_ended_counts() {
    let ends = [(LinkEnd::ByPeer, 1_000), (LinkEnd::ByPeer, 1_500), (LinkEnd::Otherwise, 5)];
    for (death, after_ms) in ends {
        let (mut round, session, answered) = round_with_answer(Duration::from_secs(2));
        let _ = session.ended(death, answered + Duration::from_millis(after_ms));

        round.judge_end();

        assert!(round.delivery.has_unmarked(), "{death:?} after {after_ms} ms");
    }
}

#[test]
fn a_link_that_is_stopped_leaves_its_answers_standing() {
    let (mut round, _session, _) = round_with_answer(Duration::ZERO);
    let (_links, mut seen) = watch::channel(down());

    round.link_changed(&mut seen);

    assert!(round.delivery.has_unmarked() && round.session.is_none());
}

#[test]
fn a_message_may_stay_unacknowledged_for_the_shorter_of_timeout_and_keep_alive() {
    let deadline = |ack_timeout, keep_alive| {
        let (ack_timeout, keep_alive) =
            (Duration::from_secs(ack_timeout), Duration::from_secs(keep_alive));
        let link = Link { ack_timeout, keep_alive, ..Link::default() };
        Settings::new(&link).ack_deadline.as_secs()
    };

    assert_eq!(deadline(45, 60), 45);
    assert_eq!(deadline(45, 30), 30);
}
