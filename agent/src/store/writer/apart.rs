//! The writer while the records in the file cannot be read: they wait, and what arrives meanwhile is delivered
//! from memory by itself, in a pass of its own. When the file is back, another pass begins where delivery of
//! its records had got to; what was delivered from memory is not sent again.

use pulsegate_core::lane::Lane;
use pulsegate_core::reading::Seq;

use super::Writer;
use super::memory::Memory;
use crate::store::Pass;
use crate::store::load::LaneRow;
use crate::store::overflow;

/// The records in the file while they cannot be read.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Apart {
    /// By lane: how far delivery of them got.
    pub(in crate::store) watermarks: [u64; 3],
    /// By lane: how many of them are pending.
    pub(in crate::store) pending: [u64; 3],
}

impl Apart {
    /// Finds what is pending in the file without reading it: what the accounts tell, less what is in memory.
    fn of(lanes: &[LaneRow; 3], in_memory: [u64; 3]) -> Self {
        let pending = Lane::ALL.map(|lane| {
            let row = lanes[lane.index()];
            let settled = row.delivered + row.dropped + row.filtered;
            row.recorded.saturating_sub(settled + in_memory[lane.index()])
        });
        Self { watermarks: lanes.map(|row| row.watermark), pending }
    }

    /// The lanes of which something is pending in a file with these `lanes`, and where delivery goes on there.
    pub(in crate::store) fn behind(&self, lanes: &[LaneRow; 3]) -> Vec<(Lane, u64)> {
        let watermarks = Lane::ALL.into_iter().zip(self.watermarks);
        watermarks.filter(|(lane, watermark)| *watermark < lanes[lane.index()].last).collect()
    }
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
        *apart = Some(Apart::of(&self.database.lanes, in_memory));
        for (row, there) in self.database.lanes.iter_mut().zip(file.lanes) {
            row.watermark = row.watermark.max(there.last);
        }
        tracing::error!(
            "the records in the store cannot be read and wait; new ones go out from memory"
        );
        self.begin_pass();
        self.report();
    }

    /// Lets the publisher begin anew behind the watermarks. Nothing is in its hands then.
    pub(super) fn begin_pass(&mut self) {
        let watermarks = self.database.lanes.map(|row| Seq(row.watermark));
        self.in_hand = watermarks;
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
