//! Marks: what is settled, on its way into the store.

use std::sync::Arc;

use super::Delivery;
use super::exchange::{Mark, TopicMark};
use crate::record::lane::Lane;

impl Delivery {
    /// Takes the topics that are withheld from now on. The store has to note them before the next
    /// take: until then nothing of their lanes is wanted. They can wait for any commit that comes
    /// before the marks which are taken later.
    #[must_use]
    pub fn take_withheld(&mut self) -> Vec<TopicMark> {
        std::mem::take(&mut self.to_withhold)
    }

    /// Whether the store was not told of all withheld topics of a lane: a walk through the lane would
    /// find their records in the wrong part of it.
    pub(super) fn has_to_withhold(&self, lane: Lane) -> bool {
        let is_of_lane =
            |mark: &TopicMark| matches!(mark, TopicMark::Withhold { lane: of, .. } if *of == lane);
        self.to_withhold.iter().any(is_of_lane)
    }

    /// What is settled and should be made durable together. Give [`Delivery::marked`] back when it
    /// is.
    #[must_use]
    pub fn take_marks(&mut self) -> (Vec<Mark>, Vec<TopicMark>) {
        let mut marks = Vec::new();
        for lane in Lane::ALL {
            if let Some(settled) = self.lanes[lane.index()].queue.take_settled() {
                self.settled -= settled.messages;
                self.marking += settled.messages;
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
            self.settled -= settled.messages;
            self.marking += settled.messages;
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
        // Also one whose last record passed, or was quarantined, before its trial came to an end.
        let has_caught_up = on.queue.is_empty() && on.caught_up == Some(taken);
        if has_caught_up && lane_is_settled {
            (topic.trial, topic.withheld) = (None, 0);
            self.on_trial.remove(&(lane, Arc::clone(&name)));
            marks.push(TopicMark::Release { lane, topic: name });
            self.trials_changed();
        }
    }

    /// All marks that were taken are durable.
    pub fn marked(&mut self) {
        self.marking = 0;
    }

    /// Whether the marks should be made durable now rather than with the next commit: more than
    /// half of the window waits for it.
    #[must_use]
    pub fn marks_are_urgent(&self) -> bool {
        (self.settled + self.marking) * 2 >= self.window
    }

    /// Whether marks wait to be taken or to be durable.
    #[must_use]
    pub fn has_unmarked(&self) -> bool {
        self.settled + self.marking > 0
    }
}
