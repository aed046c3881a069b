//! The end of a connection: evidence about the topics of the messages in flight, and the
//! consequences.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::doubt::Doubt;
use super::exchange::{LinkEnd, TopicMark};
use super::queue::Queue;
use super::topics::{ConnectionEvidence, OnTrial, SUSPECT_WITHIN, TopicVerdict};
use super::trial::{Trial, TrialVerdict, Tried};
use super::{Delivery, MAX_DEATHS, Message, MessageId, measure_batch};
use crate::record::lane::{Gap, Lane};
use crate::record::reading::Seq;
use crate::time::Mono;

impl Delivery {
    /// Takes the loss of the link at `at`, possibly some time ago. Acknowledgements count only if
    /// old enough at `at`, so the caller must report the loss before [`Delivery::handle_timeout`] with a
    /// later time. Returns the gaps of quarantined messages.
    pub fn link_lost(&mut self, death: LinkEnd, at: Mono) -> Vec<Gap> {
        let by_peer = death == LinkEnd::ByPeer;
        let was_alone = self.in_flight() <= 1;
        if !by_peer {
            self.confirm_where(at, |_| true);
        }
        self.handle_timeout(at);
        let evidence = self.collect_evidence(by_peer, at);
        let is_lone = |message: &Message| self.is_lone(message).then_some(message.batch.first);
        let lone: BTreeSet<Seq> = self.messages.values().filter_map(is_lone).collect();
        let lone_sent = self.messages.values().filter(|message| self.is_lone(message));
        if let Some(sent) = lone_sent.filter_map(|message| message.sent).min() {
            self.spacing.link_lost(sent);
        }
        let mut tried_in_vain = Vec::new();
        for message in self.messages.values_mut() {
            let Some(sent) = message.sent.take() else { continue };
            message.stamp = None;
            let was_answered = message.answered.take().is_some();
            if !by_peer || at.since(sent) > SUSPECT_WITHIN {
                continue;
            }
            match &message.trial {
                Some(topic) if lone.contains(&message.batch.first) => {
                    if was_alone || was_answered {
                        let of = (message.batch.lane, Arc::clone(topic));
                        tried_in_vain.push((of, measure_batch(&message.batch)));
                    }
                }
                Some(_) | None => message.deaths += 1,
            }
        }
        let mut accused = Vec::new();
        for ((lane, name), evidence) in evidence {
            let topic = self.topics.get_mut(lane, &name);
            let is_lone = topic.trial.as_ref().is_some_and(|on| !on.trial.is_recovered());
            if !is_lone && evidence.judge_topic() == TopicVerdict::Against {
                topic.doubt.add_failure(at);
                if topic.doubt.is_refused() {
                    accused.push((lane, name));
                }
            }
        }
        let deadly = self.messages.values().filter(|message| message.deaths >= MAX_DEATHS);
        accused.extend(deadly.map(|one| {
            (one.batch.lane, Arc::clone(one.trial.as_ref().unwrap_or(&one.batch.topic)))
        }));
        accused.into_iter().for_each(|(lane, topic)| self.withhold_topic(lane, topic, at));
        for (_, _, topic) in self.topics.iter_mut() {
            (topic.answers, topic.is_known) = (0, false);
        }
        self.count_doubted();
        let failed = tried_in_vain.into_iter();
        failed
            .filter_map(|((lane, topic), tried)| self.handle_failed_trial(lane, &topic, tried, at))
            .collect()
    }

    /// Returns the evidence about each topic used on the connection.
    fn collect_evidence(
        &self,
        by_peer: bool,
        now: Mono,
    ) -> BTreeMap<(Lane, Arc<str>), ConnectionEvidence> {
        let mut evidence = BTreeMap::new();
        for message in self.messages.values() {
            let Some(sent) = message.sent else { continue };
            let (lane, topic) = (message.batch.lane, &message.batch.topic);
            let answers = self.topics.get(lane, topic).map_or(0, |topic| topic.answers);
            let nothing =
                ConnectionEvidence { by_peer, answers, since_answer: None, since_publish: None };
            let of = evidence.entry((lane, Arc::clone(topic))).or_insert(nothing);
            match message.answered {
                Some(at) => of.since_answer = Some(now.since(at)),
                None => of.since_publish = Some(now.since(sent)),
            }
        }
        evidence
    }

    /// Puts a topic on trial: the messages of the topic leave the window, and the records leave the
    /// lane. Acknowledged records of the topic without a durable mark are sent again, because a
    /// source has a single watermark.
    fn withhold_topic(&mut self, lane: Lane, name: Arc<str>, now: Mono) {
        if self.on_trial.contains(&(lane, Arc::clone(&name))) {
            // The topic had recovered, but has not rejoined the lane yet.
            let topic = self.topics.get_mut(lane, &name);
            topic.doubt = Doubt::default();
            if let Some(on) = &mut topic.trial {
                on.trial = Trial::new(now);
            }
            self.take_anew(lane, &name);
            return;
        }
        self.put_on_trial(lane, name, Trial::new(now));
        self.trials_changed();
    }

    /// Moves the messages of a topic out of the queue of the lane, and starts `trial`. The store
    /// must withhold the topic only if the lane has groups in hand.
    pub(super) fn put_on_trial(&mut self, lane: Lane, name: Arc<str>, trial: Trial) {
        self.on_trial.insert((lane, Arc::clone(&name)));
        let mut records = 0;
        let of_topic = |message: &Message| {
            message.trial.is_none() && message.batch.lane == lane && message.batch.topic == name
        };
        let messages = self.messages.iter().filter(|(_, message)| of_topic(message));
        let ids: Vec<MessageId> = messages.map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(message) = self.messages.remove(&id) {
                records += message.batch.count;
                self.settle_message(&message);
            }
        }
        let queue = &mut self.lanes[lane.index()].queue;
        let (is_in_hand, after) = (!queue.is_empty(), queue.settled_through);
        queue.forget_topic(&name);
        let topic = self.topics.get_mut(lane, &name);
        topic.doubt = Doubt::default();
        topic.withheld += records;
        topic.trial = Some(OnTrial::new(trial));
        if is_in_hand {
            self.to_withhold.push(TopicMark::Withhold { lane, topic: name, after });
        }
    }

    /// Takes the end of the connection by a message on trial. Returns the gap if the message is
    /// quarantined.
    fn handle_failed_trial(
        &mut self,
        lane: Lane,
        topic: &Arc<str>,
        tried: Tried,
        now: Mono,
    ) -> Option<Gap> {
        let on = self.topics.get_mut(lane, topic).trial.as_mut()?;
        match on.trial.handle_failure(tried, now) {
            TrialVerdict::TakeAnew => {
                self.take_anew(lane, topic);
                None
            }
            TrialVerdict::Poison(first) => {
                let poison = self.messages.iter().find(|(_, message)| {
                    message.trial.as_ref() == Some(topic) && message.batch.first == first
                });
                let id = *poison?.0;
                self.quarantine_message(id)
            }
            TrialVerdict::GoOn | TrialVerdict::TooLarge(_) | TrialVerdict::Recovered => None,
        }
    }

    /// Drops the messages of a withheld topic from the hand.
    pub(super) fn take_anew(&mut self, lane: Lane, topic: &Arc<str>) {
        self.messages.retain(|_, message| {
            message.trial.as_ref() != Some(topic) || message.batch.lane != lane
        });
        if let Some(on) = &mut self.topics.get_mut(lane, topic).trial {
            self.settled.of_lane(lane).remove(on.queue.sum_settled());
            on.queue = Queue::new(Seq(0));
            (on.in_hand, on.anew, on.caught_up) = (0, true, None);
        }
    }
}
