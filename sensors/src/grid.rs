//! The grid of a driver's period: the points in time at which a sensor is read, hourly on the hour,
//! every 10 s on 0, 10, 20 and so on.
//!
//! The points of a grid are the multiples of the period since the epoch, so the grid never drifts,
//! and a period that does not divide a day has points as well. A driver asks the [`Grid`] for the
//! next action at the wall time, waits on the monotonic clock for the returned duration, and asks
//! again. A clock step repeats no point and delays none by more than the step. After a step of more
//! than a period, as when a device without a real-time clock learns the time, the grid continues
//! from the new time and skips the points in between.

use std::time::Duration;

/// The longest wait, which bounds how long a clock step can go unnoticed: an hourly grid must not
/// sleep through the moment at which the device learns the time.
const LONGEST_NAP_MS: i64 = 30_000;

/// The caller's next action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GridAction {
    /// A point was reached: its wall time in milliseconds since the epoch.
    Due(i64),
    /// Wait for the duration on the monotonic clock, then ask again.
    Wait(Duration),
}

/// Follows the points of a period.
#[derive(Debug, Clone)]
pub struct Grid {
    period_ms: i64,
    next_ms: Option<i64>,
}

impl Grid {
    /// The grid of `period`, in whole milliseconds, at least one.
    #[must_use]
    pub fn new(period: Duration) -> Self {
        let period_ms = i64::try_from(period.as_millis()).unwrap_or(i64::MAX).max(1);
        Self { period_ms, next_ms: None }
    }

    /// Returns the next action at the wall time `now_ms`, in milliseconds since the epoch.
    pub fn next_action(&mut self, now_ms: i64) -> GridAction {
        let next_ms = match self.next_ms {
            Some(next_ms) if self.is_near(next_ms, now_ms) => next_ms,
            Some(_) | None => self.first_from(now_ms),
        };
        if now_ms < next_ms {
            self.next_ms = Some(next_ms);
            let wait_ms = next_ms.saturating_sub(now_ms).min(LONGEST_NAP_MS);
            return GridAction::Wait(Duration::from_millis(wait_ms.unsigned_abs()));
        }
        self.next_ms = Some(self.first_from(now_ms.saturating_add(1)));
        GridAction::Due(next_ms)
    }

    /// Returns `true` if `next_ms` is still the next point: after a step back by up to a period, so
    /// that the point before `next_ms` is not repeated, and while `next_ms` is less than a period
    /// late.
    fn is_near(&self, next_ms: i64, now_ms: i64) -> bool {
        let ahead_ms = next_ms.saturating_sub(now_ms);
        ahead_ms > self.period_ms.saturating_neg() && ahead_ms <= self.period_ms.saturating_mul(2)
    }

    /// Returns the first point at or after `now_ms`.
    fn first_from(&self, now_ms: i64) -> i64 {
        match now_ms.rem_euclid(self.period_ms) {
            0 => now_ms,
            past_ms => now_ms.saturating_add(self.period_ms - past_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    /// 2026-11-20T10:00:00Z.
    const TEN: i64 = 1_795_168_800_000;

    /// Follows `grid` from `from_ms` for `for_ms` with a clock that does not step; each turn is
    /// taken `late_ms` late and the work takes `work_ms`.
    fn points(period: Duration, from_ms: i64, for_ms: i64, late_ms: i64, work_ms: i64) -> Vec<i64> {
        let mut grid = Grid::new(period);
        let mut now_ms = from_ms;
        let mut points = Vec::new();
        while now_ms < from_ms + for_ms {
            match grid.next_action(now_ms) {
                GridAction::Due(point_ms) => {
                    points.push(point_ms);
                    now_ms += work_ms;
                }
                GridAction::Wait(wait) => {
                    now_ms += i64::try_from(wait.as_millis()).unwrap() + late_ms
                }
            }
        }
        points
    }

    #[test]
    fn an_hourly_grid_is_on_the_hour_24_times_a_day_though_the_work_takes_3_s() {
        let points = points(Duration::from_secs(3600), TEN + 1, 24 * HOUR_MS + 1_000, 7, 3_000);

        let expected: Vec<i64> = (1..=24).map(|hour| TEN + hour * HOUR_MS).collect();
        assert_eq!(points, expected);
    }

    #[test]
    fn ten_seconds_are_0_10_20() {
        let points = points(Duration::from_secs(10), TEN + 3_210, 60_000, 0, 1);

        assert_eq!(points, [10, 20, 30, 40, 50, 60].map(|s| TEN + s * 1_000));
    }

    #[test]
    fn a_start_exactly_on_a_point_takes_it() {
        assert_eq!(Grid::new(Duration::from_secs(3600)).next_action(TEN), GridAction::Due(TEN));
    }

    #[test]
    fn a_period_that_does_not_divide_a_day_keeps_to_the_epoch() {
        let points = points(Duration::from_millis(7_001), 0, 1_000_000, 3, 1);

        assert_eq!(points.len(), 143);
        assert!(points.iter().zip(0..).all(|(point, n)| *point == n * 7_001));
    }

    #[test]
    fn a_wake_that_comes_early_waits_for_the_rest() {
        let mut grid = Grid::new(Duration::from_secs(10));
        grid.next_action(TEN + 1);

        assert_eq!(grid.next_action(TEN + 9_998), GridAction::Wait(Duration::from_millis(2)));
        assert_eq!(grid.next_action(TEN + 10_000), GridAction::Due(TEN + 10_000));
    }

    #[test]
    fn a_small_step_back_takes_no_point_twice() {
        let mut grid = Grid::new(Duration::from_secs(10));
        assert_eq!(grid.next_action(TEN), GridAction::Due(TEN));

        assert_eq!(grid.next_action(TEN - 5), GridAction::Wait(Duration::from_millis(10_005)));
        assert_eq!(grid.next_action(TEN - 9_000), GridAction::Wait(Duration::from_millis(19_000)));
        assert_eq!(grid.next_action(TEN + 10_000), GridAction::Due(TEN + 10_000));
    }

    #[test]
    fn a_step_back_by_more_than_a_period_does_not_silence_it() {
        let mut grid = Grid::new(Duration::from_secs(10));
        assert_eq!(grid.next_action(TEN), GridAction::Due(TEN));

        let day_before = TEN - 24 * HOUR_MS + 1_000;
        assert_eq!(grid.next_action(day_before), GridAction::Wait(Duration::from_secs(9)));
        assert_eq!(grid.next_action(day_before + 9_000), GridAction::Due(day_before + 9_000));
    }

    #[test]
    fn a_small_step_forward_skips_no_point() {
        let mut grid = Grid::new(Duration::from_secs(10));
        assert_eq!(grid.next_action(TEN + 1_000), GridAction::Wait(Duration::from_secs(9)));

        assert_eq!(grid.next_action(TEN + 13_000), GridAction::Due(TEN + 10_000));
        assert_eq!(grid.next_action(TEN + 13_001), GridAction::Wait(Duration::from_millis(6_999)));
    }

    #[test]
    fn learning_the_time_moves_to_the_new_grid_without_a_burst() {
        let mut grid = Grid::new(Duration::from_secs(3600));
        assert_eq!(grid.next_action(17_000), GridAction::Wait(Duration::from_secs(30)));

        assert_eq!(grid.next_action(TEN + 10_000), GridAction::Wait(Duration::from_secs(30)));
        assert_eq!(grid.next_action(TEN + HOUR_MS), GridAction::Due(TEN + HOUR_MS));
    }

    #[test]
    fn no_input_panics_or_repeats_a_point_at_once() {
        for period in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            for now_ms in [i64::MIN, -1, 0, 1, i64::MAX - 1] {
                let mut grid = Grid::new(period);
                let first = grid.next_action(now_ms);
                assert!(matches!(first, GridAction::Wait(_)) || grid.next_action(now_ms) != first);
            }
        }
    }
}
