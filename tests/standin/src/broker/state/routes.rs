//! The way of a message: from who publishes it, past the observer, into the sessions that want it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::Publish;

use super::{Inner, Link, Outgoing, State};
use crate::broker::session::Message;
use crate::policy::Action;
use crate::record::{Arrival, Will};

impl State {
    /// Numbers a message, shows it to the observer and routes it to whoever subscribes.
    pub(in crate::broker) fn arrive(
        &self,
        number: u64,
        client: &Arc<str>,
        publish: &Publish,
        topic: &str,
    ) -> Arrival {
        let message = Message {
            topic: topic.into(),
            payload: publish.payload.clone(),
            qos: publish.qos,
            retain: publish.retain,
            again: false,
        };
        self.take_in(number, client, message, publish.pkid, publish.dup, false)
    }

    /// Publishes the will of a client that ended without saying so, if the policy lets it.
    pub(in crate::broker) fn bequeath(&self, number: u64, client: &Arc<str>, will: Will) {
        if let Err(forbidden) = self.permit(Action::Publish, client, &will.topic) {
            self.note(number, format!("will not sent: {forbidden}"));
            return;
        }
        let message = Message {
            topic: will.topic.into(),
            payload: will.payload,
            qos: QoS::AtLeastOnce,
            retain: will.retain,
            again: false,
        };
        self.take_in(number, client, message, 0, false, true);
    }

    fn take_in(
        &self,
        connection: u64,
        client: &Arc<str>,
        message: Message,
        packet_id: u16,
        dup: bool,
        will: bool,
    ) -> Arrival {
        let arrival = {
            let mut inner = self.lock();
            let number = inner.arrivals;
            inner.arrivals += 1;
            self.route(&mut inner, message.clone());
            Arrival {
                number,
                at: self.started.elapsed(),
                connection,
                client: Arc::clone(client),
                topic: message.topic,
                payload: message.payload,
                packet_id,
                dup,
                retain: message.retain,
                will,
            }
        };
        (self.options.on_publish)(&arrival);
        arrival
    }

    pub(in crate::broker) fn acknowledges(&self, arrival: &Arrival) {
        (self.options.on_acknowledge)(arrival);
    }

    pub(in crate::broker) fn publish(&self, topic: &str, payload: Bytes) {
        let message = Message {
            topic: topic.into(),
            payload,
            qos: QoS::AtLeastOnce,
            retain: false,
            again: false,
        };
        self.route(&mut self.lock(), message);
    }

    /// Basic Ingest goes to rules only; a retained message that is empty deletes the one before.
    fn route(&self, inner: &mut Inner, message: Message) {
        if message.retain {
            let topic = Arc::clone(&message.topic);
            if message.payload.is_empty() {
                inner.retained.remove(&topic);
            } else {
                inner.retained.insert(topic, message.clone());
            }
        }
        if message.topic.starts_with("$aws/rules/") {
            return;
        }
        let Inner { sessions, links, .. } = inner;
        for (client, session) in sessions.iter_mut() {
            let Some(wanted) = session.wants(&message.topic) else { continue };
            if self.permit(Action::Receive, client, &message.topic).is_err() {
                continue;
            }
            let qos = if wanted == QoS::AtMostOnce { wanted } else { message.qos };
            let number = session.connection;
            if !session.offer(Message { qos, retain: false, ..message.clone() }) {
                self.note(number.unwrap_or_default(), format!("queue of `{client}` is full"));
            }
            nudge(links, number);
        }
    }

    pub(in crate::broker) fn deliver(
        &self,
        client: &str,
        topic: &str,
        payload: Bytes,
        qos: QoS,
    ) -> bool {
        let message = Message { topic: topic.into(), payload, qos, retain: false, again: true };
        self.requeue(client, message)
    }

    /// Puts a message at the end of a connected client's queue.
    pub(in crate::broker) fn requeue(&self, client: &str, message: Message) -> bool {
        let mut inner = self.lock();
        let Inner { sessions, links, .. } = &mut *inner;
        let Some(session) = sessions.get_mut(client) else { return false };
        session.connection.is_some() && session.offer(message) && nudge(links, session.connection)
    }

    pub(in crate::broker) fn send_raw(&self, client: &str, bytes: Bytes) -> bool {
        let inner = self.lock();
        let link = inner.links.values().find(|link| &*link.client == client);
        link.is_some_and(|link| link.outgoing.send(Outgoing::Raw(bytes)).is_ok())
    }

    /// Adds subscriptions, and sends what is retained under those without wildcards.
    pub(in crate::broker) fn subscribe(&self, client: &str, filter: &str, qos: QoS) -> usize {
        let mut inner = self.lock();
        let Inner { sessions, links, retained, .. } = &mut *inner;
        let Some(session) = sessions.get_mut(client) else { return 0 };
        let held = session.subscribe(filter, qos);
        if let Some(message) = retained.get(filter) {
            let qos = if qos == QoS::AtMostOnce { qos } else { message.qos };
            session.offer(Message { qos, ..message.clone() });
            nudge(links, session.connection);
        }
        held
    }

    pub(in crate::broker) fn unsubscribe(&self, client: &str, filter: &str) {
        if let Some(session) = self.lock().sessions.get_mut(client) {
            session.unsubscribe(filter);
        }
    }

    /// The next message for a connection's client, if the connection still has the session.
    pub(in crate::broker) fn next(&self, number: u64, client: &str) -> Option<(Publish, Message)> {
        let window = self.limits().in_flight.unwrap_or(usize::from(u16::MAX) / 2);
        let mut inner = self.lock();
        let session = inner.sessions.get_mut(client)?;
        if session.connection == Some(number) { session.take(window) } else { None }
    }

    pub(in crate::broker) fn acknowledged(&self, client: &str, id: u16) {
        let mut inner = self.lock();
        let Inner { sessions, links, .. } = &mut *inner;
        if let Some(session) = sessions.get_mut(client) {
            session.acknowledge(id);
            nudge(links, session.connection);
        }
    }
}

fn nudge(links: &HashMap<u64, Link>, number: Option<u64>) -> bool {
    let link = number.and_then(|number| links.get(&number));
    link.is_some_and(|link| link.outgoing.send(Outgoing::Nudge).is_ok())
}
