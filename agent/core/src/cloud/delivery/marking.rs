//! Marks: settled records, to be made durable by the store.

use std::sync::Arc;

use super::Delivery;
use super::exchange::{Mark, TopicMark};
use super::risk::LaneRisks;
use crate::record::lane::Lane;

impl Delivery {
    /// Returns the newly withheld topics, and removes them from the list. The store must record the
    /// topics before the next walk, and commit them no later than the marks of the next take. Until
    /// then, delivery requests no records of their lanes.
    #[must_use]
    pub fn take_withheld(&mut self) -> Vec<TopicMark> {
        std::mem::take(&mut self.to_withhold)
    }

    /// Returns `true` if the store does not yet know every withheld topic of `lane`: a walk would
    /// find the records of the unknown topics in the wrong part of the lane.
    pub(super) fn has_to_withhold(&self, lane: Lane) -> bool {
        let is_of_lane =
            |mark: &TopicMark| matches!(mark, TopicMark::Withhold { lane: of, .. } if *of == lane);
        self.to_withhold.iter().any(is_of_lane)
    }

    /// Returns the marks of settled records, to be made durable together, and removes them from
    /// delivery. The caller calls [`Delivery::note_marks_durable`] once the marks are durable.
    #[must_use]
    pub fn take_marks(&mut self) -> (Vec<Mark>, Vec<TopicMark>) {
        let mut marks = Vec::new();
        for lane in Lane::ALL {
            if let Some(settled) = self.lanes[lane.index()].queue.take_settled() {
                self.settled.of_lane(lane).move_to(self.marking.of_lane(lane), settled.settled);
                marks.push(Mark {
                    lane,
                    through: settled.through,
                    delivered: settled.delivered,
                    filtered: settled.filtered,
                    gaps: settled.gaps,
                });
            }
        }
        let mut topics = self.take_withheld();
        for (lane, topic) in self.on_trial.clone() {
            self.take_marks_of(lane, topic, &mut topics);
        }
        (marks, topics)
    }

    fn take_marks_of(&mut self, lane: Lane, name: Arc<str>, marks: &mut Vec<TopicMark>) {
        let progress = &self.lanes[lane.index()];
        let (taken, lane_is_settled) = (progress.taken, progress.queue.is_empty());
        let topic = self.topics.get_mut(lane, &name);
        let Some(on) = &mut topic.trial else { return };
        if let Some(settled) = on.queue.take_settled() {
            self.settled.of_lane(lane).move_to(self.marking.of_lane(lane), settled.settled);
            let gone: u64 = settled.gaps.iter().map(|gap| gap.count).sum();
            topic.withheld = topic.withheld.saturating_sub(settled.delivered + gone);
            marks.push(TopicMark::Settle {
                lane,
                sources: settled.sources,
                through: settled.through,
                delivered: settled.delivered,
                filtered: settled.filtered,
                gaps: settled.gaps,
            });
        }
        // Includes a topic whose last record passed, or was quarantined, before the end of the trial.
        let has_caught_up = on.queue.is_empty() && on.caught_up == Some(taken);
        if has_caught_up && lane_is_settled {
            (topic.trial, topic.withheld) = (None, 0);
            self.on_trial.remove(&(lane, Arc::clone(&name)));
            marks.push(TopicMark::Release { lane, topic: name });
            self.trials_changed();
        }
    }

    /// Notes that all taken marks are durable.
    pub fn note_marks_durable(&mut self) {
        self.marking = LaneRisks::default();
    }

    /// Returns `true` if the marks should be made durable now rather than with the next commit:
    /// half of the messages or records that a crash may repeat wait for the marks. Alerts have a
    /// limit of their own.
    #[must_use]
    pub fn marks_are_urgent(&self) -> bool {
        let (alerts, others) =
            (self.settled.alerts + self.marking.alerts, self.settled.others + self.marking.others);
        let load = self.measure_load();
        let limit = self.others_limit(load);
        alerts.messages * 2 >= self.alert_limit(load)
            || others.messages * 2 >= limit.messages
            || others.records.saturating_mul(2) >= limit.records
    }

    /// Returns `true` if any marks are not yet taken or not yet durable.
    #[must_use]
    pub fn has_unmarked(&self) -> bool {
        let none = LaneRisks::default();
        self.settled != none || self.marking != none
    }
}
