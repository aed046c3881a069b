//! The writer while the records in the file cannot be read. They wait, and new records are
//! delivered from memory in a pass of their own. Once the file is back, another pass begins behind
//! the records delivered from the file. Records delivered from memory are not sent again.

use pulsegate_core::record::reading::Seq;

use super::Writer;
use super::memory::MemoryMode;
use crate::db::database::Database;
use crate::db::overflow::DetachedFile;
use crate::store::Pass;

impl Writer {
    /// Delivers memory alone, while the records in the file cannot be read.
    pub(super) fn detach_file(&mut self) {
        // Notes the records delivered from the file.
        self.commit_gathered();
        let Some(MemoryMode { file: Some(file), apart: apart @ None, .. }) = &mut self.memory
        else {
            return;
        };
        *apart = Some(DetachedFile {
            watermarks: self.database.lanes.map(|row| row.watermark),
            withheld: self.database.withheld.clone(),
            last_seq: file.last_seq,
            is_carried_over: false,
        });
        for (row, there) in self.database.lanes.iter_mut().zip(file.lanes) {
            row.watermark = row.watermark.max(there.last);
        }
        tracing::error!(
            "the records in the store cannot be read and wait; new ones go out from memory"
        );
        self.begin_pass();
        self.report_progress();
    }

    /// Continues from a new `file` in place of the file continued by memory. The accounts in memory
    /// become the sum of the new file's and of the changes since memory took over.
    pub(super) fn go_on_from(&mut self, file: Database) {
        let Some(MemoryMode { file: Some(known), apart: Some(apart), .. }) = &mut self.memory
        else {
            return;
        };
        let was = std::mem::replace(known, file);
        for ((row, now), was) in self.database.lanes.iter_mut().zip(known.lanes).zip(was.lanes) {
            let since = |row: u64, was: u64| row.saturating_sub(was);
            row.recorded = now.recorded + since(row.recorded, was.recorded);
            row.delivered = now.delivered + since(row.delivered, was.delivered);
            row.pending = (now.pending + row.pending).saturating_sub(was.pending);
            row.dropped = now.dropped + since(row.dropped, was.dropped);
            row.filtered = now.filtered + since(row.filtered, was.filtered);
        }
        // The salvage may find more records than were counted; memory must not assign their places.
        self.database.last_seq += known.last_seq.saturating_sub(was.last_seq);
        apart.carry_over(&known.lanes, &was.lanes);
    }

    /// Begins another pass behind the watermarks. Nothing is in the publisher's hands then, and the
    /// filters begin anew.
    pub(super) fn begin_pass(&mut self) {
        let watermarks = self.database.lanes.map(|row| Seq(row.watermark));
        self.in_hand = watermarks;
        self.encoder.begin_pass();
        self.publish_withheld(|progress| {
            let number = progress.pass.number + 1;
            progress.pass = Pass { number, watermarks };
        });
    }

    /// Returns true while memory is delivered alone.
    pub(super) fn is_file_detached(&self) -> bool {
        self.memory.as_ref().is_some_and(|memory| memory.apart.is_some())
    }
}
