//! The files of one bus, each with the grid of its period. Of the due files, the one with the
//! oldest read is next.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::grid::{Grid, GridAction};

/// The longest pause while no file is due, since the clock may step.
const LONGEST_NAP: Duration = Duration::from_secs(30);

/// A file on a bus.
#[derive(Debug)]
pub(super) struct BusFile<T> {
    pub(super) id: u64,
    pub(super) path: Arc<Path>,
    /// The time after which a read counts as hung.
    pub(super) patience: Duration,
    /// The receiver of the results.
    pub(super) results: T,
    grid: Grid,
    is_due: bool,
    missed: u64,
}

/// The files of one bus; see the module.
#[derive(Debug)]
pub(super) struct ReadSchedule<T> {
    /// The files: first those never read, then the others in the order of their last reads.
    places: Vec<BusFile<T>>,
}

/// The next action of the thread of a bus.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<P> {
    /// Read the claimed file.
    Read(P),
    /// Wait for this time, or until the roster changes.
    Wait(Duration),
}

impl<T> BusFile<T> {
    /// Creates a file that is due at the first point of its grid at or after the wall time
    /// `now_ms`.
    pub(super) fn new(id: u64, path: &Path, every: Duration, now_ms: i64, results: T) -> Self {
        let (path, patience) = (path.into(), super::hung_after(every));
        let mut grid = Grid::new(every);
        let is_due = matches!(grid.next_action(now_ms), GridAction::Due(_));
        Self { id, path, patience, results, grid, is_due, missed: 0 }
    }

    /// Returns the number of grid points since the last call that passed while the file was still
    /// waiting.
    pub(super) fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }
}

impl<T> ReadSchedule<T> {
    pub(super) fn new() -> Self {
        Self { places: Vec::new() }
    }

    pub(super) fn add_file(&mut self, place: BusFile<T>) {
        self.places.insert(0, place);
    }

    pub(super) fn remove_id(&mut self, id: u64) {
        self.places.retain(|place| place.id != id);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Returns the next action at the wall time `now_ms`. `claim` returns the data for a read, or
    /// `None` to skip a file whose last result was not fetched yet.
    pub(super) fn next<P>(
        &mut self,
        now_ms: i64,
        claim: impl Fn(&mut BusFile<T>) -> Option<P>,
    ) -> Next<P> {
        let mut nap = LONGEST_NAP;
        for place in &mut self.places {
            match place.grid.next_action(now_ms) {
                GridAction::Wait(wait) => nap = nap.min(wait),
                GridAction::Due(_) if place.is_due => place.missed += 1,
                GridAction::Due(_) => place.is_due = true,
            }
        }
        for at in 0..self.places.len() {
            let place = &mut self.places[at];
            if place.is_due
                && let Some(claimed) = claim(place)
            {
                place.is_due = false;
                self.places[at..].rotate_left(1);
                return Next::Read(claimed);
            }
        }
        Next::Wait(nap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(10);
    /// What a conversion of a DS18B20 takes at its finest resolution.
    const CONVERSION_MS: i64 = 750;
    /// 2026-11-20T10:00:00Z.
    const TEN: i64 = 1_795_168_800_000;

    fn roster(count: u64) -> ReadSchedule<()> {
        let mut roster = ReadSchedule::new();
        for id in (0..count).rev() {
            roster.add_file(BusFile::new(id, Path::new("temperature"), EVERY, TEN, ()));
        }
        roster
    }

    fn claim(place: &mut BusFile<()>) -> Option<(u64, u64)> {
        Some((place.id, place.take_missed()))
    }

    /// Reads for so long, and returns which places were read, and how many points were missed.
    fn read_for(roster: &mut ReadSchedule<()>, lasts_ms: i64) -> (Vec<u64>, u64) {
        let (mut read, mut missed, mut now_ms) = (Vec::new(), 0, TEN);
        while now_ms < TEN + lasts_ms {
            match roster.next(now_ms, claim) {
                Next::Read((id, unread)) => {
                    read.push(id);
                    missed += unread;
                    now_ms += CONVERSION_MS;
                }
                Next::Wait(wait) => now_ms += i64::try_from(wait.as_millis()).unwrap().max(1),
            }
        }
        (read, missed)
    }

    #[test]
    fn files_that_the_bus_can_keep_up_with_are_read_once_a_period() {
        let (read, missed) = read_for(&mut roster(13), 100_000);

        assert_eq!(missed, 0);
        assert_eq!(read.len(), 130);
        assert!(read.chunks(13).all(|round| round == (0..13).collect::<Vec<_>>()));
    }

    #[test]
    fn files_of_a_bus_that_is_too_slow_are_read_in_turn_and_what_is_missed_is_counted() {
        let (read, missed) = read_for(&mut roster(20), 300_000);

        assert_eq!(read.len(), 400, "the bus is never idle");
        for id in 0..20 {
            assert_eq!(read.iter().filter(|read| **read == id).count(), 20, "all get their turn");
        }
        assert!(missed > 150, "{missed} of 600 points");
    }

    #[test]
    fn a_file_whose_last_reading_was_not_fetched_does_not_hold_up_the_others() {
        let mut roster = roster(2);

        let skip_first = |place: &mut BusFile<()>| (place.id != 0).then_some(place.id);

        assert_eq!(roster.next(TEN, skip_first), Next::Read(1));
        assert_eq!(roster.next(TEN + 1, skip_first), Next::Wait(Duration::from_millis(9_999)));
        assert_eq!(roster.next(TEN + 2, |place| Some(place.id)), Next::Read(0));
    }

    #[test]
    fn a_file_that_left_is_not_read_any_more() {
        let mut roster = roster(2);
        roster.remove_id(0);

        assert_eq!(roster.next(TEN, |place| Some(place.id)), Next::Read(1));
        roster.remove_id(1);
        assert!(roster.is_empty());
        assert_eq!(roster.next::<u64>(TEN + 10_000, |_| None), Next::Wait(LONGEST_NAP));
    }
}
