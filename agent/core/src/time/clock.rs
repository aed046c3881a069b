//! Judges the wall clock, and limits the time for which records wait for a clock not yet set.

use std::time::Duration;

use crate::time::timeline::{ClockTrust, STEP_MS};
use crate::time::{Mono, Wall};

/// The greatest difference between a clock chip and the wall clock set by the chip, in
/// milliseconds: a chip has whole seconds, and is read some time before or after. A chip further
/// away is in another time zone, or set anew.
const CHIP_AGREES_MS: u64 = 10_000;
/// The time for which readings and events wait for the clock to be set. Once the link is up for the
/// first time, the network soon sets a clock that can be set. Alerts never wait.
pub const GRACE: Duration = Duration::from_secs(60);

/// The evidence for the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockEvidence {
    /// The time of the wall clock.
    pub wall: Wall,
    /// `true` if the kernel or systemd reports the clock as set by a time server.
    pub synchronised: bool,
    /// The time of the clock chip at the same moment, if there is a chip.
    pub chip: Option<Wall>,
    /// The build time of this program: an earlier wall clock is wrong on any device that runs the
    /// program.
    pub made: Wall,
    /// The last trusted time, as far as the store knows.
    pub last_trusted: Option<Wall>,
}

/// Judges the wall clock by `evidence`. A clock set by a time server is trusted if not earlier than
/// the build of this program. A clock kept by a chip is trusted if the chip agrees, and if both are
/// earlier neither than the build nor than the last trusted time: a chip with an empty battery
/// begins again in the past.
#[must_use]
pub fn judge_clock(evidence: &ClockEvidence) -> ClockTrust {
    let ClockEvidence { wall, synchronised, chip, made, last_trusted } = *evidence;
    let earliest = last_trusted.map_or(made, |last| last.max(made));
    let agrees = |chip: Wall| wall.0.abs_diff(chip.0) <= CHIP_AGREES_MS;
    let kept_by_chip =
        chip.is_some_and(|chip| agrees(chip) && chip >= earliest && wall >= earliest);
    if wall >= made && (synchronised || kept_by_chip) {
        ClockTrust::Trusted
    } else {
        ClockTrust::Unset
    }
}

/// The time for which readings and events wait for the clock to be set: [`GRACE`] from the first
/// connection since the start of the agent, however often the link is made again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockGrace {
    ends: Option<Mono>,
}

impl ClockGrace {
    /// Starts the grace at `now`, if this connection is the first.
    pub fn begin_grace(&mut self, now: Mono) {
        self.ends.get_or_insert(now + GRACE);
    }

    /// Returns the time up to which readings and events are held back, if they are.
    #[must_use]
    pub fn holds_until(&self, is_set: bool, now: Mono) -> Option<Mono> {
        self.ends.filter(|ends| !is_set && now < *ends)
    }
}

/// Drift of the wall clock that is worth a report, in milliseconds: small beside the step that begins a new
/// segment of the timeline.
const DRIFT_MS: u64 = STEP_MS / 10;
/// Longest time between two reports.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// Selects the observations of the clock that the timeline needs. A report wakes the thread of the store, and a
/// clock that keeps time tells the timeline nothing new.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClockReports {
    /// Time, offset from the monotonic clock in milliseconds, and trust of the last report.
    last: Option<(Mono, i64, ClockTrust)>,
}

impl ClockReports {
    /// Returns true if an observation is to be reported, and remembers it as reported: the first, a
    /// step or a change of trust, a drift of 50 ms, and one every minute.
    pub fn admit_report(&mut self, now: Mono, wall: Wall, trust: ClockTrust) -> bool {
        let offset_ms = wall.0.saturating_sub(i64::try_from(now.0).unwrap_or(i64::MAX));
        let is_known = self.last.is_some_and(|(at, last_ms, last_trust)| {
            last_trust == trust
                && last_ms.abs_diff(offset_ms) < DRIFT_MS
                && now.since(at) < REPORT_EVERY
        });
        if !is_known {
            self.last = Some((now, offset_ms, trust));
        }
        !is_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_keeps_time_is_reported_once_a_minute_and_a_change_of_it_at_once() {
        let mut reports = ClockReports::default();
        let mut report = |second: u64, drift_ms: i64, trust| {
            let now = Mono(second * 1_000);
            reports.admit_report(
                now,
                Wall(MADE.0 + i64::try_from(now.0).unwrap() + drift_ms),
                trust,
            )
        };
        let (set, unset) = (ClockTrust::Trusted, ClockTrust::Unset);

        assert!(report(0, 0, unset), "the first");
        assert!(!report(2, 0, unset) && !report(58, 49, unset));
        assert!(report(60, 0, unset), "a minute later");
        assert!(report(62, 0, set), "set");
        assert!(report(64, -500, set), "a step");
        assert!(report(66, -450, set) && !report(68, -450, set), "a drift");
    }

    #[test]
    fn a_drift_is_reported_long_before_it_is_a_step_of_the_timeline() {
        let mut reports = ClockReports::default();
        let mut seen_ms = 0;
        for drift_ms in 0..2_000_i64 {
            let now = Mono(u64::try_from(drift_ms).unwrap() * 10);
            let wall = Wall(i64::try_from(now.0).unwrap() + drift_ms);
            if reports.admit_report(now, wall, ClockTrust::Trusted) {
                seen_ms = drift_ms;
            }
            assert!(drift_ms.abs_diff(seen_ms) < STEP_MS / 4, "{drift_ms} ms, reported {seen_ms}");
        }
    }

    const MADE: Wall = Wall(1_000_000_000_000);
    const YEAR: i64 = 365 * 86_400_000;

    fn evidence(years: i64) -> ClockEvidence {
        let wall = Wall(MADE.0 + years * YEAR);
        ClockEvidence { wall, synchronised: false, chip: None, made: MADE, last_trusted: None }
    }

    #[test]
    fn a_clock_that_a_time_server_has_set_is_believed_unless_the_program_was_made_later() {
        for (years, trust) in [(1, ClockTrust::Trusted), (-1, ClockTrust::Unset)] {
            let set = ClockEvidence { synchronised: true, ..evidence(years) };
            assert_eq!(judge_clock(&set), trust);
        }
        let earlier_than_trusted = ClockEvidence {
            synchronised: true,
            last_trusted: Some(Wall(MADE.0 + 2 * YEAR)),
            ..evidence(1)
        };
        assert_eq!(
            judge_clock(&earlier_than_trusted),
            ClockTrust::Trusted,
            "a time server corrects the past"
        );
    }

    #[test]
    fn a_clock_for_which_nobody_speaks_is_not_believed() {
        assert_eq!(judge_clock(&evidence(1)), ClockTrust::Unset);
    }

    #[test]
    fn a_chip_is_believed_if_it_kept_the_time() {
        let wall = evidence(1).wall;
        let kept =
            |chip, last_trusted| ClockEvidence { chip: Some(chip), last_trusted, ..evidence(1) };

        assert_eq!(judge_clock(&kept(wall, None)), ClockTrust::Trusted);
        assert_eq!(judge_clock(&kept(wall - Duration::from_secs(3), None)), ClockTrust::Trusted);
        assert_eq!(judge_clock(&kept(wall, Some(Wall(wall.0 - 1)))), ClockTrust::Trusted);
        assert_eq!(
            judge_clock(&kept(wall, Some(Wall(wall.0 + 60_000)))),
            ClockTrust::Unset,
            "it went back"
        );
    }

    #[test]
    fn a_chip_that_lies_is_not_believed() {
        let past = Wall(MADE.0 - 9 * YEAR);
        let moved_on = ClockEvidence { chip: Some(past), ..evidence(1) };
        assert_eq!(
            judge_clock(&moved_on),
            ClockTrust::Unset,
            "the wall clock has another time from elsewhere"
        );
        let followed = ClockEvidence { wall: past, chip: Some(past), ..evidence(0) };
        assert_eq!(judge_clock(&followed), ClockTrust::Unset, "before the program was made");
        let zone = evidence(1).wall + Duration::from_secs(3_600);
        assert_eq!(
            judge_clock(&ClockEvidence { chip: Some(zone), ..evidence(1) }),
            ClockTrust::Unset
        );
    }

    #[test]
    fn the_grace_is_spent_once_however_often_the_link_is_made_again() {
        let mut grace = ClockGrace::default();
        assert_eq!(grace.holds_until(false, Mono(0)), None, "without a link nothing is held back");
        let mut held = Vec::new();
        for minute in 0..8 {
            let up = Mono(minute * 60_000);
            grace.begin_grace(up);
            held.extend(
                (0..50)
                    .filter(|s| grace.holds_until(false, up + Duration::from_secs(*s)).is_some()),
            );
        }

        assert_eq!(
            held.len(),
            50,
            "a link of fifty seconds a minute: the first of them is waited for"
        );
    }

    #[test]
    fn nothing_waits_for_a_clock_that_is_set() {
        let mut grace = ClockGrace::default();
        grace.begin_grace(Mono(5));

        assert_eq!(grace.holds_until(false, Mono(10)), Some(Mono(60_005)));
        assert_eq!(grace.holds_until(true, Mono(10)), None);
    }
}
