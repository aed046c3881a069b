//! The topics, and what the ends of connections say of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::doubt::Doubt;
use super::queue::Queue;
use super::trial::Trial;
use crate::record::lane::Lane;
use crate::record::reading::Seq;

/// A peer that hangs up later than this after a publish hung up for another reason.
pub const SUSPECT_WITHIN: Duration = Duration::from_secs(10);
/// A peer that hangs up within this time of the first acknowledgement on a topic may have done so
/// because of the message (mosquitto 2.0.11 acknowledges a publish that it forbids).
pub const ANSWER_STANDS: Duration = Duration::from_secs(1);

/// By lane, every topic that was published to; as many as the configuration and the sources make.
#[derive(Debug, Default)]
pub(super) struct Topics([BTreeMap<Arc<str>, Topic>; 3]);

/// One topic.
#[derive(Debug, Default)]
pub(super) struct Topic {
    /// Whether an acknowledgement stood on this connection: the next ones on it are believed at once.
    pub(super) is_known: bool,
    /// Connections in a row that died over it.
    pub(super) doubt: Doubt,
    /// Acknowledgements on this connection.
    pub(super) answers: u32,
    pub(super) trial: Option<OnTrial>,
    /// Records that wait outside of the lane, as far as was counted since the pass began.
    pub(super) withheld: u64,
}

/// A topic whose records left the lane.
#[derive(Debug)]
pub(super) struct OnTrial {
    pub(super) trial: Trial,
    pub(super) queue: Queue,
    /// Messages in hand.
    pub(super) in_hand: usize,
    /// Whether the next take begins with the first record that is not settled.
    pub(super) anew: bool,
    /// The place in the lane up to which nothing is left to take.
    pub(super) caught_up: Option<Seq>,
}

impl OnTrial {
    pub(super) fn new(trial: Trial) -> Self {
        Self { trial, queue: Queue::new(Seq(0)), in_hand: 0, anew: true, caught_up: None }
    }
}

/// What one connection, when it ended, told of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Evidence {
    /// Whether the peer ended it.
    pub(super) by_peer: bool,
    /// Acknowledgements on it.
    pub(super) answers: u32,
    /// How long before the end the last of them came.
    pub(super) since_answer: Option<Duration>,
    /// How long before the end the newest message was sent that was not acknowledged.
    pub(super) since_publish: Option<Duration>,
}

/// What follows for the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// The peer may have hung up because of it.
    Against,
    /// Nothing.
    Nothing,
    /// The peer takes it.
    For,
}

impl Evidence {
    pub(super) fn finding(self) -> Finding {
        let hung_up_after_answer =
            self.by_peer && self.since_answer.is_some_and(|since| since < ANSWER_STANDS);
        match self.answers {
            0 if !self.by_peer => Finding::Nothing,
            0 if self.since_publish.is_some_and(|since| since <= SUSPECT_WITHIN) => {
                Finding::Against
            }
            0 => Finding::Nothing,
            1 if hung_up_after_answer => Finding::Against,
            _ => Finding::For,
        }
    }
}

impl Topics {
    pub(super) fn get(&self, lane: Lane, topic: &str) -> Option<&Topic> {
        self.0[lane.index()].get(topic)
    }

    pub(super) fn get_mut(&mut self, lane: Lane, topic: &Arc<str>) -> &mut Topic {
        let topics = &mut self.0[lane.index()];
        if !topics.contains_key(topic) {
            topics.insert(Arc::clone(topic), Topic::default());
        }
        topics.get_mut(topic).expect("it was put in")
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Lane, &Arc<str>, &Topic)> {
        Lane::ALL.into_iter().flat_map(|lane| {
            self.0[lane.index()].iter().map(move |(name, topic)| (lane, name, topic))
        })
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Lane, &Arc<str>, &mut Topic)> {
        Lane::ALL.into_iter().zip(&mut self.0).flat_map(|(lane, topics)| {
            topics.iter_mut().map(move |(name, topic)| (lane, name, topic))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Finding::{Against, For, Nothing};
    use super::*;

    #[test]
    fn the_end_of_a_connection_speaks_against_a_topic_only_if_the_peer_ended_it_soon() {
        let ms = Duration::from_millis;
        // By peer, acknowledgements, since the last, since the newest publish without one: finding.
        let rows = [
            ("a refused publish", true, 0, None, Some(ms(50)), Against),
            ("a peer that thinks for a while", true, 0, None, Some(ms(9_000)), Against),
            ("a peer that hung up for another reason", true, 0, None, Some(ms(11_000)), Nothing),
            ("nothing was on its way", true, 0, None, None, Nothing),
            ("a network that failed", false, 0, None, Some(ms(50)), Nothing),
            ("acknowledged, and hung up", true, 1, Some(ms(200)), None, Against),
            (
                "acknowledged, and hung up amid the next",
                true,
                1,
                Some(ms(200)),
                Some(ms(1)),
                Against,
            ),
            ("acknowledged, and the network failed", false, 1, Some(ms(200)), None, For),
            ("acknowledged once, and lived on", true, 1, Some(ms(1_500)), None, For),
            ("a path that resets amid a flow", true, 7, Some(ms(1)), Some(ms(1)), For),
        ];
        for (what, by_peer, answers, since_answer, since_publish, finding) in rows {
            let evidence = Evidence { by_peer, answers, since_answer, since_publish };
            assert_eq!(evidence.finding(), finding, "{what}");
        }
    }
}
