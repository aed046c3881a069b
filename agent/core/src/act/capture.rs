//! Captures: the times at which a camera takes a picture, and the reporting of failures.
//!
//! A camera takes one picture at a time and rests after each. A trigger during a picture or a rest
//! gets no picture and is counted. Pictures have their own limit in bytes: the oldest picture is
//! deleted first, and no reading is ever deleted for a picture.

use std::time::Duration;

use crate::act::standing::{ActionCause, ActionTrigger};
use crate::rules::{Action, RuleSpec};
use crate::time::Mono;
use crate::visits::{Moment, VisitAction, VisitSpec};

/// The least time between two reports of a failing camera: a broken camera is one event, not one
/// per visit.
pub const TELL_AGAIN: Duration = Duration::from_secs(10 * 60);
/// The part of the limit in bytes kept free for pictures being taken, over all cameras: one eighth.
const FREE_PART: u64 = 8;

/// The state of one camera, with the rules and visits that request pictures.
#[derive(Debug, Clone)]
pub struct CameraControl {
    wishes: Vec<(ActionCause, Option<Moment>)>,
    rest: Duration,
    is_taking: bool,
    rests_until: Option<Mono>,
    failing: Option<Failing>,
    /// The number of triggers during another picture or a rest.
    pub skipped: u64,
}

#[derive(Debug, Clone, Copy)]
struct Failing {
    told_at: Mono,
    untold: u32,
}

impl CameraControl {
    /// Creates the state of the camera `id` from the actions of `rules` and `visits`. The camera
    /// rests for `rest` after each picture.
    #[must_use]
    pub fn new(id: &str, rest: Duration, rules: &[RuleSpec], visits: &[VisitSpec]) -> Self {
        let of_rules = rules.iter().filter(|rule| {
            let captures =
                |action: &Action| matches!(action, Action::Capture(camera) if **camera == *id);
            rule.then.iter().any(captures)
        });
        let of_rules = of_rules.map(|rule| (ActionCause::Rule(rule.name.clone()), None));
        let of_visits = visits.iter().flat_map(|visit| {
            visit.then.iter().filter_map(|action| match action {
                VisitAction::Capture(camera, moment) if **camera == *id => {
                    Some((ActionCause::Visit(visit.source.clone()), Some(*moment)))
                }
                VisitAction::Capture(..) | VisitAction::Output(..) => None,
            })
        });
        Self {
            wishes: of_rules.chain(of_visits).collect(),
            rest,
            is_taking: false,
            rests_until: None,
            failing: None,
            skipped: 0,
        }
    }

    /// Keeps the requests and the rest of `self`, and takes the state from `before`, the same
    /// camera under the previous configuration.
    #[must_use]
    pub fn with_state_of(self, before: &Self) -> Self {
        Self { wishes: self.wishes, rest: self.rest, ..before.clone() }
    }

    /// Returns `true` if the camera must take a picture for `turn` now; the camera is then busy
    /// until [`CameraControl::handle_taken`] or [`CameraControl::handle_failed`].
    pub fn handle_trigger(&mut self, turn: &ActionTrigger, now: Mono) -> bool {
        let asks = |(cause, moment): &(ActionCause, Option<Moment>)| {
            turn.is_of(cause)
                && match turn {
                    ActionTrigger::Raised { .. } => true,
                    ActionTrigger::Visit { moment: now, .. } => *moment == Some(*now),
                }
        };
        if !self.wishes.iter().any(asks) {
            return false;
        }
        if self.is_taking || self.rests_until.is_some_and(|until| now < until) {
            self.skipped += 1;
            return false;
        }
        self.is_taking = true;
        true
    }

    /// Notes a successful picture, and starts the rest.
    pub fn handle_taken(&mut self, now: Mono) {
        self.start_rest(now);
        self.failing = None;
    }

    /// Notes a failed picture, and starts the rest. Returns the number of failures to report now: 1
    /// for the first of a series, then the failures since the last report, at most once per
    /// [`TELL_AGAIN`].
    pub fn handle_failed(&mut self, now: Mono) -> Option<u32> {
        self.start_rest(now);
        let failing = self.failing.get_or_insert(Failing { told_at: now, untold: 0 });
        failing.untold = failing.untold.saturating_add(1);
        let is_first = failing.told_at == now && failing.untold == 1;
        if !is_first && now.since(failing.told_at) < TELL_AGAIN {
            return None;
        }
        failing.told_at = now;
        Some(std::mem::take(&mut failing.untold))
    }

    fn start_rest(&mut self, now: Mono) {
        self.is_taking = false;
        self.rests_until = Some(now + self.rest);
    }
}

/// The division of the limit in bytes among stored pictures and pictures being taken, so that both
/// together never exceed the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// The most bytes of stored pictures.
    pub kept: u64,
    /// The most bytes of a single picture.
    pub largest: u64,
}

impl Quota {
    /// Divides `max_bytes` among stored pictures and the pictures that `cameras` cameras take at
    /// the same time.
    #[must_use]
    pub fn new(max_bytes: u64, cameras: usize) -> Self {
        let free = max_bytes / FREE_PART;
        Self { kept: max_bytes - free, largest: free / u64::try_from(cameras).unwrap_or(1).max(1) }
    }

    /// Returns the number of oldest pictures to delete to make room for a picture of `bytes`.
    /// `kept` gives the sizes of the stored pictures in bytes, the oldest first.
    #[must_use]
    pub fn count_surplus(self, kept: impl Iterator<Item = u64> + Clone, bytes: u64) -> usize {
        let mut total = kept.clone().fold(bytes, u64::saturating_add);
        kept.take_while(|size| {
            let is_too_much = total > self.kept;
            total = total.saturating_sub(*size);
            is_too_much
        })
        .count()
    }
}

#[cfg(test)]
mod tests {
    use pulsegate_sensors::SourceId;

    use super::*;
    use crate::visits::First;

    const REST: Duration = Duration::from_secs(5);

    fn camera(moments: &[Moment]) -> CameraControl {
        let visit = VisitSpec {
            source: "feeder".into(),
            opening: "open".into(),
            first: First::Level,
            gap: Duration::from_secs(90),
            units_per_opening: 1.0,
            live: false,
            then: moments.iter().map(|at| VisitAction::Capture("nest".into(), *at)).collect(),
        };
        CameraControl::new("nest", REST, &[], &[visit])
    }

    fn turn(moment: Moment) -> ActionTrigger {
        ActionTrigger::Visit { source: "feeder".into(), visit: "v".into(), moment }
    }

    #[test]
    fn it_takes_a_picture_at_the_moments_it_was_asked_for() {
        let mut camera = camera(&[Moment::Begin, Moment::End]);

        assert!(!camera.handle_trigger(&turn(Moment::Opening), Mono(0)));
        assert!(camera.handle_trigger(&turn(Moment::Begin), Mono(0)));
        camera.handle_taken(Mono(1_000));
        assert!(camera.handle_trigger(&turn(Moment::End), Mono(6_000)));
        let alert = ActionTrigger::Raised { rule: "feeder".into(), source: SourceId(0) };
        assert!(!camera.handle_trigger(&alert, Mono(90_000)));
        assert_eq!(camera.skipped, 0);
    }

    #[test]
    fn it_takes_one_at_a_time_and_rests_after_each() {
        let mut camera = camera(&[Moment::Opening]);
        let opening =
            |camera: &mut CameraControl, at| camera.handle_trigger(&turn(Moment::Opening), at);

        assert!(opening(&mut camera, Mono(0)));
        assert!(!opening(&mut camera, Mono(60_000)), "still at it");
        camera.handle_taken(Mono(61_000));
        assert!(!opening(&mut camera, Mono(65_999)), "it rests");
        assert!(opening(&mut camera, Mono(66_000)));
        assert_eq!(camera.skipped, 2);
    }

    #[test]
    fn a_camera_that_fails_is_told_once_and_then_seldom_with_how_often() {
        let mut camera = camera(&[Moment::Opening]);
        let minute = |minute: u64| Mono(minute * 60_000);

        assert_eq!(camera.handle_failed(minute(0)), Some(1));
        assert_eq!((1..10).find_map(|at| camera.handle_failed(minute(at))), None);
        assert_eq!(camera.handle_failed(minute(10)), Some(10));
        camera.handle_taken(minute(11));
        assert_eq!(camera.handle_failed(minute(12)), Some(1), "it had worked between");
    }

    /// NC-1: the limit is not passed.
    #[test]
    fn the_oldest_go_until_another_fits_and_none_before() {
        let quota = Quota::new(800, 2);

        assert_eq!(quota, Quota { kept: 700, largest: 50 });
        let surplus = |kept: &[u64], bytes| quota.count_surplus(kept.iter().copied(), bytes);
        assert_eq!(surplus(&[], 50), 0);
        assert_eq!(surplus(&[300, 300, 50], 50), 0, "just full");
        assert_eq!(surplus(&[300, 300, 51], 50), 1);
        assert_eq!(surplus(&[10, 10, 650, 50], 10), 3);
    }

    #[test]
    fn after_a_reload_a_picture_that_is_being_taken_still_is() {
        let mut before = camera(&[Moment::Opening]);
        assert!(before.handle_trigger(&turn(Moment::Opening), Mono(0)));

        let mut after = camera(&[Moment::Begin]).with_state_of(&before);

        assert!(!after.handle_trigger(&turn(Moment::Begin), Mono(1)));
        after.handle_taken(Mono(2));
        assert!(after.handle_trigger(&turn(Moment::Begin), Mono(60_000)));
    }
}
