//! What the broker keeps for one client id: its subscriptions, and what waits to be delivered.
//!
//! Pure. Undelivered QoS 1 messages survive the connection when the client asked for that; a message
//! that was sent but not acknowledged goes out again under a new packet id, without the DUP flag.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::Publish;
use tokio::time::Instant;

use crate::topic;

/// Bounds what waits for a client that does not take it; more is dropped.
pub(super) const QUEUED: usize = 10_000;

/// A message on its way to a client.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) topic: Arc<str>,
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// Whether it is a wanted second delivery.
    pub(super) again: bool,
}

#[derive(Debug, Default)]
pub(super) struct Session {
    subscriptions: Vec<(String, QoS)>,
    queue: VecDeque<Message>,
    unacknowledged: BTreeMap<u16, Message>,
    last_id: u16,
    /// The connection that holds it.
    pub(super) connection: Option<u64>,
    /// Since when nobody does.
    pub(super) left_at: Option<Instant>,
    /// Whether it ends with its connection.
    pub(super) clean: bool,
}

impl Session {
    /// Gives the session to a connection: what is unacknowledged will be sent again, first.
    pub(super) fn attach(&mut self, connection: u64, clean: bool) {
        self.connection = Some(connection);
        self.left_at = None;
        self.clean = clean;
        for (_id, message) in std::mem::take(&mut self.unacknowledged).into_iter().rev() {
            self.queue.push_front(message);
        }
    }

    /// Adds or replaces subscriptions, and says how many there are now.
    pub(super) fn subscribe(&mut self, filter: &str, qos: QoS) -> usize {
        self.unsubscribe(filter);
        self.subscriptions.push((filter.to_owned(), qos));
        self.subscriptions.len()
    }

    pub(super) fn unsubscribe(&mut self, filter: &str) {
        self.subscriptions.retain(|(held, _)| held != filter);
    }

    /// The best quality of service among the subscriptions that take this topic.
    pub(super) fn wants(&self, topic: &str) -> Option<QoS> {
        let taking = self.subscriptions.iter().filter(|(filter, _)| topic::matches(topic, filter));
        taking.map(|&(_, qos)| qos).max_by_key(|&qos| qos as u8)
    }

    /// Queues a message, and says whether there was room. Nothing of QoS 0 waits for the absent.
    pub(super) fn offer(&mut self, message: Message) -> bool {
        if self.connection.is_none() && message.qos == QoS::AtMostOnce {
            return true;
        }
        let room = self.queue.len() < QUEUED;
        if room {
            self.queue.push_back(message);
        }
        room
    }

    /// Takes the next message to send, if the window has room for it.
    pub(super) fn take(&mut self, window: usize) -> Option<(Publish, Message)> {
        if self.unacknowledged.len() >= window {
            return None;
        }
        let message = self.queue.pop_front()?;
        let mut publish =
            Publish::from_bytes(&*message.topic, message.qos, message.payload.clone());
        publish.retain = message.retain;
        if message.qos != QoS::AtMostOnce {
            publish.pkid = self.free_id();
            self.unacknowledged.insert(publish.pkid, message.clone());
        }
        Some((publish, message))
    }

    pub(super) fn acknowledge(&mut self, id: u16) {
        self.unacknowledged.remove(&id);
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.unacknowledged.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &'static str, qos: QoS) -> Message {
        let payload = Bytes::from_static(text.as_bytes());
        Message { topic: "t".into(), payload, qos, retain: false, again: false }
    }

    fn taken(session: &mut Session) -> Vec<(u16, Bytes)> {
        std::iter::from_fn(|| session.take(2)).map(|(sent, _)| (sent.pkid, sent.payload)).collect()
    }

    #[test]
    fn sends_the_unacknowledged_again_first_and_in_order() {
        let mut session = Session::default();
        session.attach(1, false);
        for text in ["a", "b", "c"] {
            session.offer(message(text, QoS::AtLeastOnce));
        }
        assert_eq!(taken(&mut session), [(1, "a".into()), (2, "b".into())]);
        session.acknowledge(1);

        session.attach(2, false);

        assert_eq!(taken(&mut session), [(3, "b".into()), (4, "c".into())]);
    }

    #[test]
    fn keeps_only_qos_1_for_the_absent() {
        let mut session = Session::default();
        session.offer(message("lost", QoS::AtMostOnce));
        session.offer(message("kept", QoS::AtLeastOnce));

        session.attach(1, false);

        assert_eq!(taken(&mut session), [(1, "kept".into())]);
    }

    #[test]
    fn never_gives_out_a_packet_id_in_use_nor_zero() {
        let mut session = Session { last_id: u16::MAX - 1, ..Session::default() };
        session.attach(1, false);
        session.offer(message("a", QoS::AtLeastOnce));
        session.offer(message("b", QoS::AtLeastOnce));

        assert_eq!(taken(&mut session), [(u16::MAX, "a".into()), (1, "b".into())]);
    }
}
