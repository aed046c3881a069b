//! Records for the publisher: taken from the file, then from memory, and noted as in the
//! publisher's hands.

use pulsegate_core::cloud::delivery::{LanePart, TakeRequest, TopicMark};
use pulsegate_core::record::lane::Lane;
use pulsegate_core::record::reading::Seq;
use pulsegate_core::time::Mono;

use super::{Writer, faults};
use crate::db::database::Database;
use crate::db::disk::DiskFault;
use crate::db::error::{is_damage, is_passing};
use crate::db::withheld::SourceMark;
use crate::store::take::TakeOutcome;

impl Writer {
    /// Takes a batch of the `wanted` records, from the file first and then from memory. With
    /// `hurry`, a batch that could wait for more records is taken too.
    pub(super) fn take_records(&mut self, wanted: &TakeRequest, hurry: bool) -> TakeOutcome {
        let lane = wanted.lane;
        let later =
            TakeOutcome::Later { due: self.mono_now() + faults::RETRY, full_at: Seq(u64::MAX) };
        let now = if hurry { Mono(u64::MAX) } else { self.mono_now() };
        if let LanePart::Topic { topic, anew: true, .. } = &wanted.part {
            let sources = self.encoder.sources_of(&self.database.withheld, lane, topic);
            self.database.forget_in_hand(lane, &sources);
            if let Some(file) = self.memory.as_mut().and_then(|memory| memory.file.as_mut()) {
                file.forget_in_hand(lane, &sources);
            }
        }
        if self.is_file_detached() && matches!(wanted.part, LanePart::Topic { .. }) {
            // The oldest records of the topic wait in the file, which cannot be read now.
            return later;
        }
        let file = self.memory.as_ref().and_then(|memory| memory.file.as_ref());
        let is_in_file = |file: &&Database| match &wanted.part {
            _ if self.is_file_detached() => false,
            LanePart::Lane { after, .. } => after.0 < file.lanes[lane.index()].last,
            LanePart::Topic { .. } => true,
        };
        if let Some(file) = file.filter(is_in_file) {
            // Without waiting for more records: the next ones are in memory.
            match self.encoder.encode_wanted(file, wanted, Mono(u64::MAX)) {
                Ok(TakeOutcome::Nothing) => {}
                taken => return self.note_taken(lane, taken).unwrap_or(later),
            }
        }
        let taken = self.encoder.encode_wanted(&self.database, wanted, now);
        self.note_taken(lane, taken).unwrap_or(later)
    }

    /// Withholds topics under the names sent to the publisher with `told`. Sends the names again if
    /// the configuration has renamed a topic since.
    pub(super) fn withhold_named(&mut self, topics: Vec<TopicMark>, told: u64) {
        let is_renamed = |mark: &TopicMark| match mark {
            TopicMark::Withhold { lane, topic, .. } => {
                self.encoder.is_renamed(&self.database.withheld, *lane, topic)
            }
            TopicMark::Settle { .. } | TopicMark::Release { .. } => false,
        };
        let is_stale = self.progress.borrow().withheld_told != told;
        let tells = is_stale || topics.iter().any(is_renamed);
        self.apply_marks(Vec::new(), topics);
        if tells {
            self.publish_withheld(|_| ());
        }
    }

    /// Notes the records in the publisher's hands. Returns `None` if the lane could not be read.
    fn note_taken(
        &mut self,
        lane: Lane,
        taken: crate::db::Result<TakeOutcome>,
    ) -> Option<TakeOutcome> {
        match taken {
            Ok(taken) => {
                self.remember_in_hand(lane, &taken);
                Some(taken)
            }
            Err(error) => {
                tracing::error!(%error, lane = lane.as_str(), "a lane cannot be read");
                if is_damage(&error) {
                    self.handle_damage(&error);
                } else if !is_passing(&error) {
                    let fault = DiskFault::find_sqlite(&self.options.path, &error);
                    self.go_on_without_file(fault);
                }
                None
            }
        }
    }

    /// Notes the records in the publisher's hands.
    fn remember_in_hand(&mut self, lane: Lane, taken: &TakeOutcome) {
        match taken {
            TakeOutcome::Group(group) => {
                let in_hand = &mut self.in_hand[lane.index()];
                *in_hand = group.through.max(*in_hand);
            }
            TakeOutcome::OfTopic(group, sources) => {
                self.database.withheld.note_in_hand(lane, sources, group.through.0);
                if let Some(file) = self.memory.as_mut().and_then(|memory| memory.file.as_mut()) {
                    file.withheld.note_in_hand(lane, sources, group.through.0);
                }
            }
            TakeOutcome::Later { .. } | TakeOutcome::Nothing => {}
        }
        let met = self.encoder.take_met();
        for (source, after) in met {
            let mark = SourceMark::Withhold { lane, sources: vec![source], after };
            self.apply_source_mark(&mark);
            self.gather_work(|work| work.source_marks.push(mark));
        }
    }
}
