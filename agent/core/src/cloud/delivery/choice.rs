//! The choice of the next message.

use std::sync::Arc;

use super::{Delivery, Message, MessageId};
use crate::cloud::batch::Batch;
use crate::record::lane::Lane;
use crate::time::Mono;

impl Delivery {
    /// Returns the message to publish next, if any may be sent: alerts before events before
    /// readings, older before newer, within the limits of sending. A message on trial is sent alone,
    /// with no others in flight but alerts; all topics in doubt together send one message at a time.
    #[must_use]
    pub fn next(&self, now: Mono) -> Option<(MessageId, &Batch)> {
        let load = self.measure_load();
        let has_room = |(_, message): &(&MessageId, &Message)| self.has_room_for(message, load);
        // An alert that waits for room lets the others pass. Among the others, a small message does
        // not overtake a large one that waits.
        let is_held =
            |one: &(&MessageId, &Message)| one.1.batch.lane == Lane::Alerts && !has_room(one);
        let waiting = self.messages.iter().filter(|(_, message)| message.sent.is_none());
        // A message that waits for a mark lets those pass that an earlier connection lost: only they
        // bring the mark.
        let has_lost = self.messages.values().any(Message::is_lost);
        let is_behind = |message: &Message| has_lost && self.waits_for_mark(message, load);
        let waiting = waiting.filter(|one| !is_held(one) && !is_behind(one.1));
        if self.doubted == 0 && self.on_trial.is_empty() {
            let first = waiting.min_by_key(|(id, message)| (message.batch.lane, **id));
            return first.filter(has_room).map(|(id, message)| (*id, &message.batch));
        }
        let on_their_way = || self.messages.values().filter(|message| message.is_on_its_way());
        // The end of the connection would also be evidence against a topic whose first
        // acknowledgement does not count yet.
        let all_stand = self.messages.values().all(|message| message.answered.is_none());
        let lone = self.next_on_trial(now).filter(|(_, message)| all_stand && !is_behind(message));
        let only_alerts = lone.is_some() || on_their_way().any(|message| self.is_lone(message));
        let doubted_goes =
            all_stand && !on_their_way().any(|message| self.topic_failures(message) > 0);
        let ordinary = waiting
            .filter(|(_, message)| !self.is_lone(message))
            .filter(|(_, message)| !only_alerts || message.batch.lane == Lane::Alerts)
            .filter(|(_, message)| doubted_goes || self.topic_failures(message) == 0)
            .min_by_key(|(id, message)| {
                let lane = message.batch.lane;
                (lane != Lane::Alerts, self.topic_failures(message), lane, **id)
            });
        let lone = lone.filter(|_| self.in_flight() == 0);
        let (id, message) = ordinary.or(lone).filter(has_room)?;
        Some((*id, &message.batch))
    }

    /// Returns the message on trial to send next: the first message of a topic, or the second if
    /// the first is accused.
    fn next_on_trial(&self, now: Mono) -> Option<(&MessageId, &Message)> {
        if !self.spacing.is_due(now) {
            return None;
        }
        let due = |(lane, topic): &(Lane, Arc<str>)| {
            let on = self.topics.get(*lane, topic)?.trial.as_ref()?;
            if on.trial.is_recovered() || !on.trial.is_due(now) {
                return None;
            }
            let mut of_topic = self.messages.iter().filter(|(_, message)| {
                message.trial.as_ref() == Some(topic) && message.batch.lane == *lane
            });
            let first = of_topic.next();
            let goes = if on.trial.messages_needed() > 1 { of_topic.next() } else { first };
            let goes = goes.filter(|(_, message)| message.sent.is_none());
            goes.map(|(id, message)| ((on.trial.doubt().failure_count(), *id), (id, message)))
        };
        let due = self.on_trial.iter().filter_map(due);
        due.min_by_key(|(key, _)| *key).map(|(_, found)| found)
    }

    /// Returns `true` if a message is on trial and must be sent alone.
    pub(super) fn is_lone(&self, message: &Message) -> bool {
        let Some(topic) = &message.trial else { return false };
        let topic = self.topics.get(message.batch.lane, topic);
        let on = topic.and_then(|topic| topic.trial.as_ref());
        on.is_some_and(|on| !on.trial.is_recovered())
    }

    /// Returns the number of connections in a row that count against the topic of `message`.
    pub(super) fn topic_failures(&self, message: &Message) -> u32 {
        let topic = self.topics.get(message.batch.lane, &message.batch.topic);
        topic.map_or(0, |topic| topic.doubt.failure_count())
    }
}
