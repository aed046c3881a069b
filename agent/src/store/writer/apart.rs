//! The writer while the records in the file cannot be read: they wait, and what arrives meanwhile is delivered
//! from memory by itself, in a pass of its own. When the file is back, another pass begins where delivery of
//! its records had got to; what was delivered from memory is not sent again.

use pulsegate_core::record::lane::Lane;
use pulsegate_core::record::reading::Seq;

use super::Writer;
use super::memory::Memory;
use crate::db::database::Database;
use crate::db::load::LaneRow;
use crate::db::overflow::{self, Apart};
use crate::store::Pass;

/// Finds what is pending in the file without reading it: what the accounts tell, less what is in memory.
fn pending_in_file(lanes: &[LaneRow; 3], in_memory: [u64; 3]) -> [u64; 3] {
    Lane::ALL.map(|lane| {
        let row = lanes[lane.index()];
        let settled = row.delivered + row.dropped + row.filtered;
        row.recorded.saturating_sub(settled + in_memory[lane.index()])
    })
}

impl Writer {
    /// Delivers what is in memory without the records in the file, which cannot be read.
    pub(super) fn go_apart(&mut self) {
        // What was delivered of the file is noted before.
        self.commit();
        let Some(Memory { file: Some(file), apart: apart @ None, .. }) = &mut self.memory else {
            return;
        };
        let Ok(in_memory) = overflow::count_pending(&self.database) else { return };
        let lanes = &self.database.lanes;
        *apart = Some(Apart {
            watermarks: lanes.map(|row| row.watermark),
            pending: pending_in_file(lanes, in_memory),
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
        self.report();
    }

    /// Goes on from the new `file` that took the place of the one that memory went on from: the accounts in
    /// memory become those of the new file and what came since.
    pub(super) fn go_on_from(&mut self, file: Database) {
        let Some(Memory { file: Some(known), apart: Some(apart), .. }) = &mut self.memory else {
            return;
        };
        let was = std::mem::replace(known, file);
        for ((row, now), was) in self.database.lanes.iter_mut().zip(known.lanes).zip(was.lanes) {
            let since = |row: u64, was: u64| row.saturating_sub(was);
            row.recorded = now.recorded + since(row.recorded, was.recorded);
            row.delivered = now.delivered + since(row.delivered, was.delivered);
            row.dropped = now.dropped + since(row.dropped, was.dropped);
            row.filtered = now.filtered + since(row.filtered, was.filtered);
        }
        // A salvage that finds more records than were counted gives them places that nothing has.
        self.database.last_seq += known.last_seq.saturating_sub(was.last_seq);
        apart.carry_over(&known.lanes, &was.lanes);
        if let Ok(in_memory) = overflow::count_pending(&self.database) {
            apart.pending = pending_in_file(&self.database.lanes, in_memory);
        }
    }

    /// Lets the publisher begin anew behind the watermarks. Nothing is in its hands then, and the filters know
    /// nothing of what comes later.
    pub(super) fn begin_pass(&mut self) {
        let watermarks = self.database.lanes.map(|row| Seq(row.watermark));
        self.in_hand = watermarks;
        self.encoder.begin_pass();
        self.tell_withheld(|progress| {
            let number = progress.pass.number + 1;
            progress.pass = Pass { number, watermarks };
        });
    }

    /// Whether what is in memory is delivered without the records in the file.
    pub(super) fn is_apart(&self) -> bool {
        self.memory.as_ref().is_some_and(|memory| memory.apart.is_some())
    }
}
