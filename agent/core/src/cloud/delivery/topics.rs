//! The topics, and the evidence about each topic from the ends of connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::doubt::Doubt;
use super::queue::Queue;
use super::trial::Trial;
use crate::record::lane::Lane;
use crate::record::reading::Seq;

/// The time after a publish in which the end of the connection counts against the topic. A peer
/// hanging up later has another reason.
pub const SUSPECT_WITHIN: Duration = Duration::from_secs(10);
/// The time after which the first acknowledgement on a topic counts. A peer hanging up earlier may
/// do so because of the acknowledged message: mosquitto 2.0.11 acknowledges forbidden messages.
pub const ANSWER_STANDS: Duration = Duration::from_secs(1);

/// All topics used so far, by lane. The configuration and the sources bound their number.
#[derive(Debug, Default)]
pub(super) struct Topics([BTreeMap<Arc<str>, Topic>; 3]);

/// The state of one topic.
#[derive(Debug, Default)]
pub(super) struct Topic {
    /// `true` if an acknowledgement on this connection has counted: further acknowledgements count
    /// at once.
    pub(super) is_known: bool,
    /// The connections in a row that count against the topic.
    pub(super) doubt: Doubt,
    /// The number of acknowledgements on this connection.
    pub(super) answers: u32,
    pub(super) trial: Option<OnTrial>,
    /// The number of records waiting outside of the lane, as counted by walks through the lane.
    pub(super) withheld: u64,
}

/// The state of a topic on trial: the records have left the lane.
#[derive(Debug)]
pub(super) struct OnTrial {
    pub(super) trial: Trial,
    pub(super) queue: Queue,
    /// The number of messages in hand.
    pub(super) in_hand: usize,
    /// `true` if the next walk begins with the first unsettled record.
    pub(super) anew: bool,
    /// The place in the lane up to which all records of the topic are taken.
    pub(super) caught_up: Option<Seq>,
}

impl OnTrial {
    pub(super) fn new(trial: Trial) -> Self {
        Self { trial, queue: Queue::new(Seq(0)), in_hand: 0, anew: true, caught_up: None }
    }
}

/// The evidence about a topic from the end of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionEvidence {
    /// `true` if the peer ended the connection.
    pub(super) by_peer: bool,
    /// The number of acknowledgements on the topic.
    pub(super) answers: u32,
    /// The time from the last uncounted acknowledgement to the end.
    pub(super) since_answer: Option<Duration>,
    /// The time from the newest unacknowledged message to the end.
    pub(super) since_publish: Option<Duration>,
}

/// The conclusion about a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TopicVerdict {
    /// The peer may have hung up because of the topic.
    Against,
    /// No conclusion.
    Nothing,
    /// The peer takes messages of the topic.
    For,
}

impl ConnectionEvidence {
    pub(super) fn judge_topic(self) -> TopicVerdict {
        let hung_up_after_answer =
            self.by_peer && self.since_answer.is_some_and(|since| since < ANSWER_STANDS);
        match self.answers {
            0 if !self.by_peer => TopicVerdict::Nothing,
            0 if self.since_publish.is_some_and(|since| since <= SUSPECT_WITHIN) => {
                TopicVerdict::Against
            }
            0 => TopicVerdict::Nothing,
            1 if hung_up_after_answer => TopicVerdict::Against,
            _ => TopicVerdict::For,
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
    use super::TopicVerdict::{Against, For, Nothing};
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
            let evidence = ConnectionEvidence { by_peer, answers, since_answer, since_publish };
            assert_eq!(evidence.judge_topic(), finding, "{what}");
        }
    }
}
