//! Requests for records: the groups to take from the store.

use std::sync::Arc;

use super::{Delivery, LanePart, Message, TakeRequest};
use crate::cloud::batch::MAX_GROUP_MESSAGES;
use crate::record::lane::Lane;
use crate::time::Mono;

impl Delivery {
    /// Returns the groups of batches to take from the store now, the most urgent first. While a
    /// message of a lane waits to be sent, no more records of the lane are taken: the next messages
    /// fill up meanwhile.
    #[must_use]
    pub fn list_requests(&self, now: Mono) -> Vec<TakeRequest> {
        let mut wanted = Vec::new();
        for lane in Lane::ALL {
            let progress = &self.lanes[lane.index()];
            let is_behind = progress.committed > progress.taken;
            if is_behind
                && !self.has_to_withhold(lane)
                && !self.has_unsent(lane, None)
                && !self.is_rejoining(lane)
            {
                let withheld = Arc::clone(&self.withheld[lane.index()]);
                let part = LanePart::Lane { after: progress.taken, withheld };
                wanted.push(self.request_group(lane, part, usize::MAX));
            }
        }
        for (lane, topic) in &self.on_trial {
            if self.has_to_withhold(*lane) {
                continue;
            }
            let through = self.lanes[lane.index()].taken;
            let Some(on) = self.topics.get(*lane, topic).and_then(|topic| topic.trial.as_ref())
            else {
                continue;
            };
            let is_full = match on.trial.is_recovered() {
                true => self.has_unsent(*lane, Some(topic)),
                false => on.in_hand >= on.trial.messages_needed(),
            };
            if is_full || !on.trial.is_due(now) || on.caught_up == Some(through) {
                continue;
            }
            let part = LanePart::Topic { topic: Arc::clone(topic), anew: on.anew, through };
            let request = self.request_group(*lane, part, on.trial.next_size());
            wanted.push(match on.trial.is_recovered() {
                true => request,
                false => TakeRequest { room: 1, ..request },
            });
        }
        wanted
    }

    fn request_group(&self, lane: Lane, part: LanePart, records: usize) -> TakeRequest {
        let group_records = match lane {
            Lane::Alerts => usize::MAX,
            Lane::Events | Lane::Readings => {
                usize::try_from(self.limits.group_records()).unwrap_or(usize::MAX)
            }
        };
        // A crash repeats a whole group, and alerts have no limit of records.
        let room = match lane {
            Lane::Alerts => self.limits.window,
            Lane::Events | Lane::Readings => MAX_GROUP_MESSAGES,
        };
        TakeRequest { lane, part, room, records, group_records, bytes: self.limit_bytes() }
    }

    /// Returns `true` if a message of `lane` waits to be sent: of the withheld topic `trial`, or of
    /// the lane without its withheld topics.
    fn has_unsent(&self, lane: Lane, trial: Option<&Arc<str>>) -> bool {
        let waits = |message: &Message| {
            message.sent.is_none() && message.batch.lane == lane && message.trial.as_ref() == trial
        };
        self.messages.values().any(waits)
    }
}
