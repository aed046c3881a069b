//! Records for the publisher: taken from the file, then from memory, and noted as in the
//! publisher's hands.

use pulsegate_core::cloud::delivery::{Part, TopicMark, Wanted};
use pulsegate_core::record::lane::Lane;
use pulsegate_core::record::reading::Seq;
use pulsegate_core::time::Mono;

use super::{Writer, faults};
use crate::db::database::Database;
use crate::db::disk::DiskFault;
use crate::db::error::{is_damage, is_passing};
use crate::db::withheld::SourceMark;
use crate::store::take::Taken;

impl Writer {
    /// Takes a batch of the `wanted` records, from the file first and then from memory. With
    /// `hurry`, a batch that could wait for more records is taken too.
    pub(super) fn take(&mut self, wanted: &Wanted, hurry: bool) -> Taken {
        let lane = wanted.lane;
        let later = Taken::Later { due: self.now() + faults::RETRY, full_at: Seq(u64::MAX) };
        let now = if hurry { Mono(u64::MAX) } else { self.now() };
        if let Part::Topic { topic, anew: true, .. } = &wanted.part {
            let sources = self.encoder.sources_of(&self.database.withheld, lane, topic);
            self.database.dropped(lane, &sources);
            if let Some(file) = self.memory.as_mut().and_then(|memory| memory.file.as_mut()) {
                file.dropped(lane, &sources);
            }
        }
        if self.is_apart() && matches!(wanted.part, Part::Topic { .. }) {
            // The oldest records of the topic wait in the file, which cannot be read now.
            return later;
        }
        let file = self.memory.as_ref().and_then(|memory| memory.file.as_ref());
        let is_in_file = |file: &&Database| match &wanted.part {
            _ if self.is_apart() => false,
            Part::Lane { after, .. } => after.0 < file.lanes[lane.index()].last,
            Part::Topic { .. } => true,
        };
        if let Some(file) = file.filter(is_in_file) {
            // Without waiting for more records: the next ones are in memory.
            match self.encoder.take(file, wanted, Mono(u64::MAX)) {
                Ok(Taken::Nothing) => {}
                taken => return self.taken(lane, taken).unwrap_or(later),
            }
        }
        let taken = self.encoder.take(&self.database, wanted, now);
        self.taken(lane, taken).unwrap_or(later)
    }

    /// Withholds topics under the names sent to the publisher with `told`. Sends the names again if
    /// the configuration has renamed a topic since.
    pub(super) fn withhold(&mut self, topics: Vec<TopicMark>, told: u64) {
        let is_renamed = |mark: &TopicMark| match mark {
            TopicMark::Withhold { lane, topic, .. } => {
                self.encoder.is_renamed(&self.database.withheld, *lane, topic)
            }
            TopicMark::Settle { .. } | TopicMark::Release { .. } => false,
        };
        let is_stale = self.progress.borrow().withheld_told != told;
        let tells = is_stale || topics.iter().any(is_renamed);
        self.mark(Vec::new(), topics);
        if tells {
            self.tell_withheld(|_| ());
        }
    }

    /// Notes the records in the publisher's hands. Returns `None` if the lane could not be read.
    fn taken(&mut self, lane: Lane, taken: crate::db::Result<Taken>) -> Option<Taken> {
        match taken {
            Ok(taken) => {
                self.took(lane, &taken);
                Some(taken)
            }
            Err(error) => {
                tracing::error!(%error, lane = lane.as_str(), "a lane cannot be read");
                if is_damage(&error) {
                    self.damaged(&error);
                } else if !is_passing(&error) {
                    let fault = DiskFault::find_sqlite(&self.options.path, &error);
                    self.go_on_without_file(fault);
                }
                None
            }
        }
    }

    /// Notes the records in the publisher's hands.
    fn took(&mut self, lane: Lane, taken: &Taken) {
        match taken {
            Taken::Sheaf(sheaf) => {
                let in_hand = &mut self.in_hand[lane.index()];
                *in_hand = sheaf.through.max(*in_hand);
            }
            Taken::OfTopic(sheaf, sources) => {
                self.database.withheld.took(lane, sources, sheaf.through.0);
                if let Some(file) = self.memory.as_mut().and_then(|memory| memory.file.as_mut()) {
                    file.withheld.took(lane, sources, sheaf.through.0);
                }
            }
            Taken::Later { .. } | Taken::Nothing => {}
        }
        let met = self.encoder.take_met();
        for (source, after) in met {
            let mark = SourceMark::Withhold { lane, sources: vec![source], after };
            self.apply(&mark);
            self.gather(|work| work.source_marks.push(mark));
        }
    }
}
