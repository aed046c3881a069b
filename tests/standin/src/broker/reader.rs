//! The reading half of a connection: takes each packet of the client, judges it and obeys it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Packet, Publish, SubAck, Subscribe, SubscribeReasonCode, UnsubAck};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::connection::{Peer, READ_BYTES, Stop, next_packet, out_of_place};
use super::state::Outgoing;
use crate::faults::{Dice, Strike};
use crate::limits::Violation;
use crate::policy::Action;
use crate::record::End;
use crate::topic;

pub(super) struct Reader<'a> {
    peer: Peer<'a>,
    answers: mpsc::UnboundedSender<Outgoing>,
    dice: Dice,
    buffer: BytesMut,
    keep_alive: u16,
    /// The second that publishes are counted in, and how many there were.
    second: (Instant, u32),
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        peer: Peer<'a>,
        answers: mpsc::UnboundedSender<Outgoing>,
        dice: Dice,
        buffer: BytesMut,
        keep_alive: u16,
    ) -> Self {
        Self { peer, answers, dice, buffer, keep_alive, second: (Instant::now(), 0) }
    }

    pub(super) async fn run(mut self, mut stream: impl AsyncRead + Unpin) -> Stop {
        let mut last = false;
        loop {
            loop {
                match next_packet(self.peer.state, &mut self.buffer) {
                    Ok(Some(packet)) => {
                        if let Err(stop) = self.obey(packet) {
                            return stop;
                        }
                    }
                    Ok(None) => break,
                    Err(violation) => return violation.into(),
                }
            }
            if last {
                return Stop::End(End::Fault("cut after bytes"));
            }
            match self.read(&mut stream).await {
                Ok(cut) => last = cut,
                Err(end) => return Stop::End(end),
            }
        }
    }

    /// Reads more, and says whether the connection is to be cut after what was read.
    async fn read(&mut self, mut stream: impl AsyncRead + Unpin) -> Result<bool, End> {
        self.buffer.reserve(READ_BYTES);
        let silence = match self.keep_alive {
            0 => Duration::MAX,
            seconds => Duration::from_secs(u64::from(seconds)).mul_f64(1.5),
        };
        let before = self.buffer.len();
        let read = match timeout(silence, stream.read_buf(&mut self.buffer)).await {
            Ok(Ok(read @ 1..)) => read,
            Ok(Ok(_) | Err(_)) => return Err(End::PeerClosed),
            Err(_elapsed) => return Err(End::KeepAlive),
        };
        let counted = self.dice.on_read(&self.peer.state.faults(), read);
        if let Some(counted) = counted {
            self.buffer.truncate(before + counted);
        }
        Ok(counted.is_some())
    }

    fn obey(&mut self, packet: Packet) -> Result<(), Stop> {
        let Peer { state, client, .. } = self.peer;
        match packet {
            Packet::Publish(publish) => self.take(&publish),
            Packet::PubAck(ack) => {
                state.acknowledged(client, ack.pkid);
                Ok(())
            }
            Packet::Subscribe(subscribe) => self.subscribe(&subscribe),
            Packet::Unsubscribe(unsubscribe) => {
                for filter in &unsubscribe.topics {
                    state.unsubscribe(client, filter);
                }
                self.answer(Packet::UnsubAck(UnsubAck::new(unsubscribe.pkid)))
            }
            Packet::PingReq => self.answer(Packet::PingResp),
            Packet::Disconnect => Err(Stop::End(End::Disconnect)),
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::PubRec(_)
            | Packet::PubRel(_)
            | Packet::PubComp(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => Err(out_of_place(&packet).into()),
        }
    }

    fn take(&mut self, publish: &Publish) -> Result<(), Stop> {
        let Peer { state, number, client, in_flight } = self.peer;
        let topic = std::str::from_utf8(&publish.topic)
            .map_err(|error| Violation::Protocol(error.to_string()))?;
        state.limits().check_publish(publish, topic)?;
        self.may_publish(topic, publish.retain)?;
        if self.is_throttled() {
            state.note(number, "publish dropped: over the rate".to_owned());
            return Ok(());
        }
        let faults = state.faults();
        let strike = self.dice.on_publish(&faults, publish);
        if let Some(Strike::CutBefore(why)) = strike {
            return Err(Stop::End(End::Fault(why)));
        }
        let acknowledged = publish.qos == QoS::AtLeastOnce;
        if acknowledged {
            state.limits().check_in_flight(in_flight.fetch_add(1, Ordering::Relaxed) + 1)?;
        }
        let arrival = state.arrive(number, client, publish, topic);
        match strike {
            Some(Strike::CutBefore(why) | Strike::CutAfter(why)) => {
                return Err(Stop::End(End::Fault(why)));
            }
            Some(Strike::Silence) => return Err(Stop::Silence),
            None => {}
        }
        if acknowledged && self.dice.withholds_ack(&faults) {
            state.note(number, format!("PUBACK {} withheld", publish.pkid));
        } else if acknowledged {
            return self.send(Outgoing::Ack(arrival));
        }
        Ok(())
    }

    fn may_publish(&self, topic: &str, retain: bool) -> Result<(), Violation> {
        let Peer { state, client, .. } = self.peer;
        if topic::is_closed(topic) {
            return Err(Violation::Forbidden { action: "publish to", subject: topic.to_owned() });
        }
        state.permit(Action::Publish, client, topic)?;
        if retain { state.permit(Action::RetainPublish, client, topic) } else { Ok(()) }
    }

    /// Counts a publish, and says whether it is one too many in its second.
    fn is_throttled(&mut self) -> bool {
        let Some(limit) = self.peer.state.limits().publishes_a_second else { return false };
        let now = Instant::now();
        if now - self.second.0 >= Duration::from_secs(1) {
            self.second = (now, 0);
        }
        self.second.1 += 1;
        self.second.1 > limit
    }

    fn subscribe(&mut self, subscribe: &Subscribe) -> Result<(), Stop> {
        let Peer { state, client, .. } = self.peer;
        state.limits().check_subscribe(subscribe)?;
        for filter in &subscribe.filters {
            state.permit(Action::Subscribe, client, &filter.path)?;
        }
        let mut codes = Vec::new();
        for filter in &subscribe.filters {
            if filter.qos == QoS::ExactlyOnce {
                codes.push(SubscribeReasonCode::Failure);
                continue;
            }
            let held = state.subscribe(client, &filter.path, filter.qos);
            state.limits().check_subscriptions(held)?;
            codes.push(SubscribeReasonCode::Success(filter.qos));
        }
        self.answer(Packet::SubAck(SubAck::new(subscribe.pkid, codes)))
    }

    fn answer(&self, packet: Packet) -> Result<(), Stop> {
        self.send(Outgoing::Packet(packet))
    }

    fn send(&self, outgoing: Outgoing) -> Result<(), Stop> {
        self.answers.send(outgoing).map_err(|_closed| Stop::End(End::PeerClosed))
    }
}
