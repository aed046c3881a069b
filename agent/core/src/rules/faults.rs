//! Finds the rules that make no sense, for the configuration check and the engine.

use std::time::Duration;

use super::spec::{
    Clear, Condition, MAX_MEMBERS, MAX_STEPS, MAX_WINDOW, MIN_SILENCE, MIN_WINDOW, Member, Range,
    RuleSpec, Test, WindowSpec,
};

/// A reason for which a rule makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    /// The rule names neither a kind nor a source.
    #[error("needs `on` (a kind of source) or `source` (one of them)")]
    CoversNothing,
    /// The number of members is below 2 or above [`MAX_MEMBERS`].
    #[error("looks at 2 to {MAX_MEMBERS} sources together")]
    Members,
    /// The rule or a member has no threshold.
    #[error("has no threshold")]
    NoCondition,
    /// The rule has a key for numbers, but no condition on numbers.
    #[error("is about no number, and `{0}` is")]
    NoNumber(&'static str),
    /// The condition holds for every number.
    #[error("always holds: every number is above {above} or below {below}")]
    AlwaysHolds {
        /// The upper threshold.
        above: f64,
        /// The lower threshold.
        below: f64,
    },
    /// The silence is shorter than [`MIN_SILENCE`], or the anomaly score is not above 1, so the
    /// condition holds for next to everything.
    #[error("takes longer than {} s to be silent, or 1 to be unlike others", MIN_SILENCE.as_secs())]
    AnythingGoes,
    /// A `silent` rule has a `for`, for the raise or the clear.
    #[error("says itself how long a silence is, and any reading ends it")]
    SilenceLasts,
    /// The `clear` thresholds have no raising threshold on the same side, lie outside a range, or
    /// leave no number that clears.
    #[error("clears by no number that does not raise it, or by none at all")]
    NeverClears,
    /// A threshold is not a finite number.
    #[error("{0} is not a threshold")]
    NotFinite(f64),
    /// The window is shorter than [`MIN_WINDOW`].
    #[error("a window is at least {} s long", MIN_WINDOW.as_secs())]
    ShortWindow,
    /// The window, a `for` or the learning time is longer than [`MAX_WINDOW`].
    #[error("a window or `for` is at most {} h long", MAX_WINDOW.as_secs() / 3600)]
    TooLong,
    /// The window is not 1 to [`MAX_STEPS`] whole steps of at least [`MIN_WINDOW`].
    #[error("a window passes by in 1 to {MAX_STEPS} whole steps of at least {} s",
        MIN_WINDOW.as_secs())]
    UnevenSteps,
    /// Two limits are for the same source.
    #[error("has more than one limit for `{0}`")]
    LimitTwice(Box<str>),
    /// Two rules have the same name.
    #[error("another rule has the same name")]
    NameTwice,
}

/// A rule that cannot run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("rule `{rule}` {fault}")]
pub struct InvalidRule {
    /// The name of the rule.
    pub rule: Box<str>,
    /// The reason.
    pub fault: Fault,
}

/// Checks each rule, and that the names of the rules differ.
pub(super) fn check(specs: &[RuleSpec]) -> Result<(), InvalidRule> {
    let invalid = specs.iter().enumerate().find_map(|(at, spec)| spec.invalid(&specs[..at]));
    invalid.map_or(Ok(()), Err)
}

/// Separates the rules that can run from the others, with the first fault of each of the latter.
#[must_use]
pub fn runnable(specs: &[RuleSpec]) -> (Vec<RuleSpec>, Vec<InvalidRule>) {
    let (mut good, mut off) = (Vec::new(), Vec::new());
    for spec in specs {
        match spec.invalid(&good) {
            Some(invalid) => off.push(invalid),
            None => good.push(spec.clone()),
        }
    }
    (good, off)
}

impl RuleSpec {
    /// Returns the first fault of this rule, if the rule cannot run after the rules `before`.
    fn invalid(&self, before: &[Self]) -> Option<InvalidRule> {
        let twice = before.iter().any(|other| other.name == self.name);
        let fault = self.faults().into_iter().next().or(twice.then_some(Fault::NameTwice))?;
        Some(InvalidRule { rule: self.name.clone(), fault })
    }

    /// Returns all faults of this rule on its own; a duplicate name is not among them.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.members().is_none() && self.on.is_none() && self.source.is_none() {
            faults.push(Fault::CoversNothing);
        }
        match &self.condition {
            Condition::Reading(Test::Outside(range)) => faults.extend(self.range_faults(*range)),
            Condition::Reading(Test::Is(_))
            | Condition::Silent { .. }
            | Condition::Anomaly { .. }
            | Condition::All { .. }
            | Condition::Any { .. } => faults.extend(self.number_faults()),
        }
        faults.extend(self.members().into_iter().flat_map(member_faults));
        faults.extend(self.span_faults());
        faults.extend(self.window.into_iter().flat_map(window_faults));
        faults
    }

    /// Returns the faults of `for`, `silent` and `anomaly`.
    fn span_faults(&self) -> impl Iterator<Item = Fault> {
        let lasts = self.hold_for.max(self.clear.hold_for);
        let (learn, loose, silent) = match &self.condition {
            Condition::Silent { after, .. } => (Duration::ZERO, *after < MIN_SILENCE, true),
            Condition::Anomaly { learn, score } => (*learn, score.is_nan() || *score <= 1.0, false),
            Condition::Reading(_) | Condition::All { .. } | Condition::Any { .. } => {
                (Duration::ZERO, false, false)
            }
        };
        let faults = [
            (loose, Fault::AnythingGoes),
            (silent && !lasts.is_zero(), Fault::SilenceLasts),
            (lasts.max(learn) > MAX_WINDOW, Fault::TooLong),
        ];
        faults.into_iter().filter(|(wrong, _)| *wrong).map(|(_, fault)| fault)
    }

    /// Returns a fault for each key that applies only to numbers.
    fn number_faults(&self) -> impl Iterator<Item = Fault> {
        let Clear { above, below, hold_for: _ } = self.clear;
        let of_numbers = [
            ("window", self.window.is_some()),
            ("limits", !self.limits.is_empty()),
            ("clear", above.or(below).is_some()),
        ];
        of_numbers.into_iter().filter(|(_, is)| *is).map(|(word, _)| Fault::NoNumber(word))
    }

    fn range_faults(&self, range: Range) -> Vec<Fault> {
        let limited = self.limits.iter().map(|limit| range.limited(limit));
        let ranges: Vec<Range> = std::iter::once(range).chain(limited).collect();
        let mut faults = Vec::new();
        if ranges.iter().all(|range| range.above.or(range.below).is_none()) {
            faults.push(Fault::NoCondition);
        }
        for (index, limit) in self.limits.iter().enumerate() {
            if self.limits[..index].iter().any(|other| other.source == limit.source) {
                faults.push(Fault::LimitTwice(limit.source.clone()));
            }
        }
        let given = self.limits.iter().flat_map(|limit| [limit.above, limit.below]);
        let given = given.chain([range.above, range.below, self.clear.above, self.clear.below]);
        let endless = given.flatten().filter(|threshold| !threshold.is_finite());
        faults.extend(endless.map(Fault::NotFinite));
        for range in &ranges {
            if let Range { above: Some(above), below: Some(below) } = *range
                && above < below
            {
                faults.push(Fault::AlwaysHolds { above, below });
            }
        }
        if !self.clear.fits(&ranges) {
            faults.push(Fault::NeverClears);
        }
        faults
    }
}

impl Clear {
    /// Returns `true` if each `clear` threshold has a raising threshold on the same side of some
    /// range, lies within every range, and leaves numbers that clear.
    fn fits(self, ranges: &[Range]) -> bool {
        let raises = |own: Option<f64>, side: fn(&Range) -> Option<f64>| {
            own.is_none() || ranges.iter().any(|range| side(range).is_some())
        };
        let is_within = |range: &Range| {
            let below = self.below.filter(|_| range.above.is_some());
            let above = self.above.filter(|_| range.below.is_some());
            below.is_none_or(|own| {
                range.above.is_none_or(|top| own <= top) && range.below.is_none_or(|low| own > low)
            }) && above.is_none_or(|own| {
                range.below.is_none_or(|low| own >= low) && range.above.is_none_or(|top| own < top)
            })
        };
        raises(self.below, |range| range.above)
            && raises(self.above, |range| range.below)
            && ranges.iter().all(is_within)
            && self.above.zip(self.below).is_none_or(|(above, below)| above < below)
    }
}

fn member_faults(members: &[Member]) -> impl Iterator<Item = Fault> {
    let few = !(2..=MAX_MEMBERS).contains(&members.len());
    let ranges = members.iter().filter_map(|member| match &member.test {
        Test::Outside(range) => Some(*range),
        Test::Is(_) => None,
    });
    let empty = ranges.filter(|range| range.above.or(range.below).is_none());
    few.then_some(Fault::Members).into_iter().chain(empty.map(|_| Fault::NoCondition))
}

fn window_faults(window: WindowSpec) -> impl Iterator<Item = Fault> {
    let WindowSpec { length, step, take: _ } = window;
    let steps = length.as_millis().checked_div(step.as_millis()).unwrap_or(0);
    let even = step >= MIN_WINDOW
        && step * u32::try_from(steps).unwrap_or(0) == length
        && (1..=u128::from(MAX_STEPS)).contains(&steps);
    let faults = [
        (length < MIN_WINDOW, Fault::ShortWindow),
        (length > MAX_WINDOW, Fault::TooLong),
        (length >= MIN_WINDOW && !even, Fault::UnevenSteps),
    ];
    faults.into_iter().filter(|(wrong, _)| *wrong).map(|(_, fault)| fault)
}
