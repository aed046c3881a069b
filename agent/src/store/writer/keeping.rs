//! Room for the store: retention between commits, and a cap following the room on the partition.

use std::time::Duration;

use pulsegate_core::time::Mono;
use tokio::time::Instant;

use super::{RETENTION_EVERY, Writer};
use crate::db::disk::{Room, log_path};
use crate::db::error::is_damage;
use crate::db::retention::{self, RetentionView};
use crate::platform::durable;

/// Steps of retention before a commit on a full partition: together they free more room than the
/// commit takes.
const STEPS_BEFORE_COMMIT: u32 = 8;
/// Pause between two steps of retention, for commits.
const RETENTION_PAUSE: Duration = Duration::from_millis(20);

impl Writer {
    /// Gives up the oldest records if the gathered records have no room below the cap of the
    /// partition, so the file never grows until no write is possible any more.
    pub(super) fn stay_below_cap(&mut self) {
        let (Some(room), bytes) = (self.room, self.work.estimate_bytes()) else { return };
        let cap_bytes = room.cap_beside(self.others_before);
        let mut steps = 0;
        while self.used_bytes.saturating_add(bytes) > cap_bytes && steps < STEPS_BEFORE_COMMIT {
            let look = RetentionView {
                keep: &self.options.keep,
                cap_bytes: cap_bytes.saturating_sub(bytes),
                in_hand: self.in_hand,
                now: self.work.now,
            };
            match retention::run_step(&mut self.database, &look) {
                Ok(true) => {}
                // An error shows again in the commit.
                Ok(false) | Err(_) => return,
            }
            self.used_bytes = self.database.measure_size().unwrap_or_default().0;
            steps += 1;
        }
    }

    /// Takes a step of retention, and plans the next. Nothing is forgotten while records go to
    /// memory.
    pub(super) fn run_retention(&mut self, now: Mono) {
        if self.memory.is_some() {
            self.retention_at = Instant::now() + RETENTION_EVERY;
            return;
        }
        self.look_at_room();
        let before = self.database.lanes;
        let look = RetentionView {
            keep: &self.options.keep,
            cap_bytes: self.cap_now(),
            in_hand: self.in_hand,
            now,
        };
        let more = retention::run_step(&mut self.database, &look);
        let pause = match more {
            Ok(true) => RETENTION_PAUSE,
            Ok(false) => RETENTION_EVERY,
            Err(error) if is_damage(&error) => {
                tracing::error!(%error, "the store is damaged");
                self.replace_damaged();
                RETENTION_EVERY
            }
            Err(error) => {
                tracing::warn!(%error, "nothing could be forgotten");
                RETENTION_EVERY
            }
        };
        self.retention_at = Instant::now() + pause;
        if self.database.lanes != before {
            // The event about a gap is to be published, and the accounts have changed.
            self.report_progress();
        }
    }

    /// Measures the partition and publishes a change, also while nothing is recorded.
    fn look_at_room(&mut self) {
        let before = self.room;
        self.measure_room();
        self.fill_log();
        if self.room != before {
            self.progress.send_modify(|progress| progress.room = self.room);
        }
    }

    /// Fills the log ahead of the commits if commits lengthened the log since the last call. A start
    /// does not wait for the zeros. A commit may, as long as the card takes to write 256 KiB, and no more than
    /// about twenty times until the log has its full length.
    fn fill_log(&mut self) {
        let Some(room) = self.room else { return };
        let before = self.log_seen.unwrap_or(room.log);
        if let Some(length) = room.log_length_ahead(before, self.used_bytes) {
            if let Err(error) = durable::lengthen_file(&log_path(&self.options.path), length) {
                tracing::warn!(%error, "cannot fill the log of the store in advance");
            }
            self.measure_room();
        }
        self.log_seen = self.room.map(|room| room.log);
    }

    /// Measures the partition, and remembers the size of other files while the store has room to
    /// spare.
    pub(super) fn measure_room(&mut self) {
        self.room = Room::measure_at(&self.options.path);
        let Some(room) = self.room else { return };
        let others = room.others_bytes();
        self.others_before = if self.memory.is_none() && room.is_spare(self.used_bytes) {
            Some(others)
        } else {
            self.others_before.map(|before| before.min(others))
        };
    }

    /// Measures the partition before the first commit. A store with room now has all the room left
    /// by other files.
    pub(super) fn measure_room_at_start(&mut self) {
        self.used_bytes = self.database.measure_size().unwrap_or_default().0;
        self.measure_room();
        let is_free = |room: &Room| !room.is_taken_by_others(self.used_bytes);
        let others = self.room.filter(is_free).map(|room| room.others_bytes());
        self.others_before = self.others_before.or(others);
    }

    /// Returns the bytes above which records are given up now.
    pub(super) fn cap_now(&self) -> u64 {
        let max_bytes = self.options.keep.max_bytes;
        self.room.map_or(max_bytes, |room| room.cap_beside(self.others_before).min(max_bytes))
    }

    /// Returns the bytes allowed for records.
    pub(super) fn cap_bytes(&self) -> u64 {
        let max_bytes = self.options.keep.max_bytes;
        self.room.map_or(max_bytes, |room| room.cap_bytes.min(max_bytes))
    }
}
