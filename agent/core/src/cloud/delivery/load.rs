//! The limits of sending: messages on their way, bytes on their way, and records that a crash
//! repeats.
//!
//! A quarter of the window is kept for alerts, and readings and events never use that part. The
//! bytes of readings and events on their way are limited by the measured rate of the link, so an
//! alert waits for at most [`HORIZON`](crate::cloud::rate::HORIZON) or one message.

use std::time::Duration;

use super::risk::{LaneRisks, Risk};
use super::{Delivery, Message};
use crate::cloud::batch::MAX_GROUP_MESSAGES;
use crate::record::lane::Lane;

/// The part of the window kept free for alerts: one fourth, rounded up.
const RESERVED_SHARE: usize = 4;
/// The default of [`DeliveryLimits::repeat`].
pub const REPEAT: u64 = 2_000;

/// The round trip to the broker assumed for [`DeliveryLimits::sustained_rate`]: a mobile network.
const FAR: Duration = Duration::from_millis(200);

/// The configured limits of delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryLimits {
    /// The most unacknowledged messages, with a minimum of 1.
    pub window: usize,
    /// The most readings and events that a crash sends again, with a minimum of 2: the readings
    /// and the events of one message each.
    pub repeat: u64,
}

impl DeliveryLimits {
    /// Returns the number of messages of the window usable by readings and events.
    #[must_use]
    pub fn others_window(self) -> usize {
        self.window.saturating_sub(self.reserved_window()).max(1)
    }

    /// Returns the most records of a group of readings or of events. A group of each fits into
    /// [`DeliveryLimits::repeat`], so neither waits for the other; and one group is sent while the
    /// mark of the last becomes durable.
    #[must_use]
    pub fn group_records(self) -> u64 {
        (self.repeat / 2).max(1)
    }

    /// Returns the readings a second that are delivered far from the broker, if their sources take
    /// turns and publish on `topics` topics, with at most `messages_per_second` messages.
    #[must_use]
    pub fn sustained_rate(self, topics: usize, messages_per_second: u64) -> u64 {
        let far_ms = u64::try_from(FAR.as_millis()).unwrap_or(u64::MAX);
        let at_once = u64::try_from(self.others_window()).unwrap_or(u64::MAX);
        let messages = (at_once.saturating_mul(1_000) / far_ms).min(messages_per_second).max(1);
        if topics > MAX_GROUP_MESSAGES {
            // A group ends at the first topic that is one too many: a reading in each message.
            return messages;
        }
        let group_ms = u64::try_from(topics).unwrap_or(u64::MAX).saturating_mul(1_000) / messages;
        self.group_records().saturating_mul(1_000) / (group_ms + far_ms)
    }

    /// Returns the number of messages of the window usable by readings and events beside `alerts`.
    fn others_window_beside(self, alerts: usize) -> usize {
        self.others_window().min(self.window.saturating_sub(alerts))
    }

    fn reserved_window(self) -> usize {
        self.window.div_ceil(RESERVED_SHARE)
    }
}

/// The messages in hand that were sent, and those on their way.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    /// The messages that a crash repeats, without those that wait for a mark.
    pub(super) at_risk: LaneRisks,
    pub(super) in_flight: usize,
    pub(super) others_in_flight: usize,
    pub(super) flight_bytes: u64,
    pub(super) others_flight_bytes: u64,
}

impl Delivery {
    pub(super) fn measure_load(&self) -> Load {
        let mut load = Load::default();
        for message in self.messages.values() {
            let lane = message.batch.lane;
            if message.was_sent {
                *load.at_risk.of_lane(lane) += message.as_risk();
            }
            if message.is_on_its_way() {
                let is_other = lane != Lane::Alerts;
                load.in_flight += 1;
                load.flight_bytes += message.size_bytes();
                if is_other {
                    load.others_in_flight += 1;
                    load.others_flight_bytes += message.size_bytes();
                }
            }
        }
        load.at_risk.alerts += self.settled.alerts + self.marking.alerts;
        load.at_risk.others += self.settled.others + self.marking.others;
        load
    }

    /// Returns `true` if the limits let `message` be sent now. A message sent on an earlier
    /// connection adds nothing that a crash would repeat.
    pub(super) fn has_room_for(&self, message: &Message, load: Load) -> bool {
        if load.in_flight >= self.limits.window {
            return false;
        }
        if message.batch.lane == Lane::Alerts {
            let at_risk = load.at_risk.alerts.messages;
            return message.was_sent || at_risk < self.alert_limit(load);
        }
        let bytes = load.flight_bytes + message.size_bytes();
        let fits_link = load.others_flight_bytes == 0 || bytes <= self.rate.flight_limit();
        let fits_window = load.others_in_flight < self.limits.others_window();
        fits_link && fits_window && (message.was_sent || self.may_risk(message, load))
    }

    /// Returns `true` if a crash may repeat `message` as well.
    fn may_risk(&self, message: &Message, load: Load) -> bool {
        let limit = self.others_limit(load);
        let risk = load.at_risk.others + message.as_risk();
        risk.messages <= limit.messages && risk.records <= limit.records.max(message.batch.count)
    }

    /// Returns `true` if `message` must wait until a durable mark makes room.
    pub(super) fn waits_for_mark(&self, message: &Message, load: Load) -> bool {
        message.batch.lane != Lane::Alerts && !message.was_sent && !self.may_risk(message, load)
    }

    /// Returns the most messages and records of readings and events that a crash may repeat. A
    /// watermark moves only over whole groups, so the last groups of events and readings have room
    /// even if larger than the limits: a group may have more topics than the window has messages, or
    /// the limits may be new.
    pub(super) fn others_limit(&self, load: Load) -> Risk {
        let groups = self.lanes[Lane::Events.index()].queue.last_group()
            + self.lanes[Lane::Readings.index()].queue.last_group();
        let messages = match groups.messages > self.limits.others_window() {
            true => groups.messages,
            false => self.limits.others_window_beside(load.at_risk.alerts.messages),
        };
        Risk { messages, records: self.limits.repeat.max(groups.records) }
    }

    /// Returns the most messages of alerts that a crash may repeat: the reserved part of the
    /// window, and what readings and events leave of the rest.
    pub(super) fn alert_limit(&self, load: Load) -> usize {
        let left = self.limits.window.saturating_sub(load.at_risk.others.messages);
        let group = self.lanes[Lane::Alerts.index()].queue.last_group();
        left.max(self.limits.reserved_window()).max(group.messages)
    }
}
