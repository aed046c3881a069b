//! Finds the rules that cannot run: the one check, for the configuration and for the engine.

use std::time::Duration;

use super::spec::{
    Clear, Condition, Limit, MAX_MEMBERS, MAX_STEPS, MAX_WINDOW, MIN_SILENCE, MIN_WINDOW, Member,
    Range, RuleSpec, Take, Test, WindowSpec,
};

/// A reason for which a rule cannot run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuleFault {
    /// The key inside the rule, such as `clear.below` or `all[1].is`; empty for the rule as a whole.
    pub path: String,
    /// The fault, without the name of the rule.
    pub message: String,
    /// A second key that takes part in the fault, and its part.
    pub also: Option<(String, String)>,
    /// The change that makes the rule run, if the message does not name the change.
    pub fix: Option<String>,
}

impl RuleFault {
    fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), also: None, fix: None }
    }

    fn also(self, path: impl Into<String>, label: impl Into<String>) -> Self {
        Self { also: Some((path.into(), label.into())), ..self }
    }

    fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }
}

/// A rule that cannot run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule `{rule}` cannot run: {fault}")]
pub struct InvalidRule {
    /// The name of the rule.
    pub rule: Box<str>,
    /// The reason.
    pub fault: Box<RuleFault>,
}

/// Checks each rule, and that the names of the rules differ.
pub(super) fn check_rules(specs: &[RuleSpec]) -> Result<(), InvalidRule> {
    let invalid = specs.iter().enumerate().find_map(|(at, spec)| spec.find_invalid(&specs[..at]));
    invalid.map_or(Ok(()), Err)
}

/// Separates the rules that can run from the others, with the first fault of each of the latter.
#[must_use]
pub fn split_runnable(specs: &[RuleSpec]) -> (Vec<RuleSpec>, Vec<InvalidRule>) {
    let (mut good, mut off) = (Vec::new(), Vec::new());
    for spec in specs {
        match spec.find_invalid(&good) {
            Some(invalid) => off.push(invalid),
            None => good.push(spec.clone()),
        }
    }
    (good, off)
}

/// A threshold, and its key inside the rule.
type Threshold = (String, f64);

/// A range of the rule, of a limit or of a member, with the keys of its thresholds.
struct Thresholds {
    above: Option<Threshold>,
    below: Option<Threshold>,
}

impl Thresholds {
    /// Returns the range at `path`, which is empty for the rule itself.
    fn new(path: &str, range: Range) -> Self {
        let at = |key: &str, threshold: Option<f64>| {
            let dot = if path.is_empty() { "" } else { "." };
            threshold.map(|threshold| (format!("{path}{dot}{key}"), threshold))
        };
        Self { above: at("above", range.above), below: at("below", range.below) }
    }

    /// Returns the range of the source of a limit; a side that the limit leaves out is that of `self`.
    fn limited(&self, at: usize, limit: &Limit) -> Self {
        let range = Range { above: limit.above, below: limit.below };
        let own = Self::new(&format!("limits[{at}]"), range);
        Self {
            above: own.above.or_else(|| self.above.clone()),
            below: own.below.or_else(|| self.below.clone()),
        }
    }

    fn always_holds(&self) -> Option<RuleFault> {
        let ((path, above), (below_path, below)) = self.above.as_ref().zip(self.below.as_ref())?;
        (above <= below).then(|| {
            let message = format!("nearly every number is above {above} or below {below}");
            let fault =
                RuleFault::new(path, message).fix("must be greater than the lower threshold");
            fault.also(below_path, "the lower threshold")
        })
    }

    /// Returns a fault for each threshold that is compared with a number of readings and makes no
    /// difference.
    fn count_faults(&self) -> impl Iterator<Item = RuleFault> {
        let always = self.above.iter().filter(|(_, above)| *above < 0.0);
        let never = self.below.iter().filter(|(_, below)| *below <= 0.0);
        let always = always.map(|(path, above)| {
            RuleFault::new(path, format!("a count is always above {above}")).fix("at least 0")
        });
        always.chain(never.map(|(path, below)| {
            RuleFault::new(path, format!("a count is never below {below}")).fix("more than 0")
        }))
    }
}

impl RuleSpec {
    /// Returns the first fault of this rule, if the rule cannot run after the rules `before`.
    fn find_invalid(&self, before: &[Self]) -> Option<InvalidRule> {
        let twice = before.iter().any(|other| other.name == self.name);
        let same_name = || RuleFault::new("name", "another rule has the same name");
        let fault = self.find_faults().into_iter().next().or_else(|| twice.then(same_name))?;
        Some(InvalidRule { rule: self.name.clone(), fault: Box::new(fault) })
    }

    /// Returns all faults of this rule on its own; a duplicate name is not among them.
    #[must_use]
    pub fn find_faults(&self) -> Vec<RuleFault> {
        let mut faults = self.coverage_faults();
        match &self.condition {
            Condition::Reading(Test::Outside(range)) => faults.extend(self.range_faults(*range)),
            Condition::Reading(Test::Is(_)) => faults.extend(self.number_faults()),
            Condition::Silent { after, expected: _ } => faults.extend(self.silence_faults(*after)),
            Condition::Anomaly { learn, score } => {
                faults.extend(self.number_faults());
                faults.extend(too_long("anomaly.learn", *learn));
                if score.is_nan() || *score <= 1.0 {
                    let message = format!("nearly every reading has a score above {score}");
                    faults.push(RuleFault::new("anomaly.score", message).fix("more than 1"));
                }
            }
            Condition::All { members, .. } | Condition::Any { members } => {
                faults.extend(self.number_faults());
                faults.extend(self.member_faults(members));
            }
        }
        faults.extend(too_long("for", self.hold_for));
        faults.extend(too_long("clear.for", self.clear.hold_for));
        faults.extend(self.window.and_then(window_fault));
        faults
    }

    /// Returns the key of the condition, and the reason for which it takes no key for numbers.
    fn condition_key(&self) -> (&'static str, &'static str) {
        match &self.condition {
            Condition::Reading(Test::Outside(_)) => ("above", "compares numbers"),
            Condition::Reading(Test::Is(_)) => ("is", "compares a state"),
            Condition::Silent { .. } => ("silent_for", "compares no values"),
            Condition::Anomaly { .. } => ("anomaly", "compares readings with each other"),
            Condition::All { .. } => ("all", "has the conditions of several sources"),
            Condition::Any { .. } => ("any", "has the conditions of several sources"),
        }
    }

    fn coverage_faults(&self) -> Vec<RuleFault> {
        let keys = [("on", &self.on), ("source", &self.source)];
        if self.members().is_some() {
            let (word, _) = self.condition_key();
            let redundant = |(key, _): &(&str, _)| {
                let message =
                    format!("`{key}` has no effect: the members of `{word}` name their sources");
                RuleFault::new(*key, message).also(word, format!("`{word}`")).fix("remove it")
            };
            return keys.iter().filter(|(_, given)| given.is_some()).map(redundant).collect();
        }
        if keys.iter().any(|(_, given)| given.is_some()) {
            return Vec::new();
        }
        let message = "it covers no source, as it has neither `on` nor `source`";
        vec![
            RuleFault::new("", message).fix("add a kind of reading, such as `on = \"heart_rate\"`"),
        ]
    }

    /// Returns a fault for each key that applies only to numbers.
    fn number_faults(&self) -> impl Iterator<Item = RuleFault> {
        let (word, does) = self.condition_key();
        let fault = move |path: &str, needs: &str| {
            let message = format!("{needs}, and `{word}` {does}");
            RuleFault::new(path, message).also(word, format!("`{word}`")).fix("remove it")
        };
        let Clear { above, below, hold_for: _ } = self.clear;
        let clear = if above.is_some() { "clear.above" } else { "clear.below" };
        let clear_needs = if above.is_some() { "`above` of `clear`" } else { "`below` of `clear`" };
        let window = self.window.is_some().then(|| fault("window", "a window takes numbers"));
        let limits = "limits replace `above` and `below`";
        let limits = (!self.limits.is_empty()).then(|| fault("limits[0]", limits));
        let clear = above.or(below).map(|_| fault(clear, &format!("{clear_needs} is for numbers")));
        window.into_iter().chain(limits).chain(clear)
    }

    fn silence_faults(&self, after: Duration) -> Vec<RuleFault> {
        let mut faults = Vec::new();
        if after < MIN_SILENCE {
            let message = format!("`silent_for` must be at least {}", shown(MIN_SILENCE));
            faults.push(RuleFault::new("silent_for", message));
        }
        if !self.hold_for.is_zero() {
            let message = "`for` has no effect: `silent_for` is the duration of the silence";
            let fault = RuleFault::new("for", message).fix("remove it");
            faults.push(fault.also("silent_for", "`silent_for`"));
        }
        if self.clear != Clear::default() {
            let message = "`clear` has no effect: the next reading ends a silence";
            let fault = RuleFault::new("clear", message).fix("remove it");
            faults.push(fault.also("silent_for", "`silent_for`"));
        }
        let without_clear = Self { clear: Clear::default(), ..self.clone() };
        faults.extend(without_clear.number_faults());
        faults
    }

    fn range_faults(&self, range: Range) -> Vec<RuleFault> {
        let own = Thresholds::new("", range);
        let limits: Vec<_> =
            self.limits.iter().enumerate().map(|(at, limit)| own.limited(at, limit)).collect();
        let ranges: Vec<_> = std::iter::once(own).chain(limits).collect();
        let mut faults = Vec::new();
        if ranges.iter().all(|range| range.above.is_none() && range.below.is_none()) {
            let fix =
                "add `above`, `below`, `outside`, `is`, `silent_for`, `anomaly`, `all` or `any`";
            faults.push(RuleFault::new("", "it has no condition").fix(fix));
        }
        faults.extend(self.limit_faults());
        let clear = [("clear.above", self.clear.above), ("clear.below", self.clear.below)];
        let clear = clear.into_iter().filter_map(|(path, own)| Some((path.to_owned(), own?)));
        let mut given: Vec<Threshold> = clear.collect();
        for threshold in ranges.iter().flat_map(|range| [&range.above, &range.below]).flatten() {
            if given.iter().all(|(path, _)| *path != threshold.0) {
                given.push(threshold.clone());
            }
        }
        let endless = given.into_iter().filter(|(_, threshold)| !threshold.is_finite());
        faults.extend(endless.map(|(path, threshold)| {
            RuleFault::new(path, format!("a threshold must be a finite number, not {threshold}"))
        }));
        faults.extend(ranges.iter().filter_map(Thresholds::always_holds));
        if self.window.is_some_and(|window| window.take == Take::Count) {
            let counts = ranges.iter().flat_map(Thresholds::count_faults);
            counts.for_each(|fault| {
                if !faults.contains(&fault) {
                    faults.push(fault)
                }
            });
        }
        faults.extend(self.clear_faults(&ranges));
        faults
    }

    fn limit_faults(&self) -> impl Iterator<Item = RuleFault> {
        let limits = self.limits.iter().enumerate();
        limits.flat_map(|(at, limit)| {
            let Limit { source, above, below } = limit;
            let path = format!("limits[{at}]");
            let empty = above.or(*below).is_none().then(|| {
                let message = format!("the limits of `{source}` have neither `above` nor `below`");
                RuleFault::new(&path, message).fix("add one of them, or remove the limits")
            });
            let first = self.limits[..at].iter().position(|other| other.source == *source);
            let twice = first.map(|first| {
                let message = format!("source `{source}` has its limits twice");
                let fault = RuleFault::new(format!("{path}.source"), message);
                fault.also(format!("limits[{first}].source"), "first here")
            });
            let other = self.source.as_ref().filter(|only| *only != source).map(|_| {
                let message = format!("this rule never sees source `{source}`");
                let fault = RuleFault::new(format!("{path}.source"), message);
                fault.also("source", "the only source that the rule covers")
            });
            empty.into_iter().chain(twice).chain(other)
        })
    }

    /// Returns a fault if the `clear` thresholds have no raising threshold on the same side, clear
    /// what is still raised, or leave no number that clears.
    fn clear_faults(&self, ranges: &[Thresholds]) -> Vec<RuleFault> {
        let Clear { above, below, hold_for: _ } = self.clear;
        if let Some((above, below)) = above.zip(below).filter(|(above, below)| above >= below) {
            let message =
                format!("no number is above {above} and below {below}: the alert is never over");
            return vec![RuleFault::new("clear.above", message).also("clear.below", "`below`")];
        }
        let sides = [("below", "above", below, 1.0), ("above", "below", above, -1.0)];
        sides
            .into_iter()
            .filter_map(|(side, raise, own, sign)| clear_fault(side, raise, own?, sign, ranges))
            .collect()
    }

    fn member_faults(&self, members: &[Member]) -> Vec<RuleFault> {
        let (word, _) = self.condition_key();
        let mut faults = Vec::new();
        if members.len() < 2 {
            let fault = RuleFault::new(word, format!("`{word}` needs two or more members"));
            faults.push(fault.fix("write a rule on one source with `source`"));
        }
        if members.len() > MAX_MEMBERS {
            let message = format!("`{word}` takes at most {MAX_MEMBERS} members");
            faults.push(RuleFault::new(word, message));
        }
        for (at, member) in members.iter().enumerate() {
            let path = format!("{word}[{at}]");
            if let Test::Outside(range) = member.test {
                faults.extend(Thresholds::new(&path, range).always_holds());
                if range.above.or(range.below).is_none() {
                    let message = format!("the member of `{}` has no condition", member.source);
                    let fault = RuleFault::new(&path, message);
                    faults.push(fault.fix("add `above`, `below`, `outside` or `is`"));
                }
            }
            let alike = members[..at]
                .iter()
                .enumerate()
                .filter(|(_, other)| other.source == member.source && other.on == member.on);
            let twice = alike.filter_map(|(first, other)| {
                let message = if other.test == member.test {
                    format!("`{word}` has the same condition on `{}` twice", member.source)
                } else if word == "all" && member.test.excludes(&other.test) {
                    "`all` never holds: two conditions on one source exclude each other".to_owned()
                } else {
                    return None;
                };
                let fault = RuleFault::new(&path, message);
                Some(fault.also(format!("{word}[{first}]"), "the other condition"))
            });
            faults.extend(twice.take(1));
        }
        faults
    }
}

/// Returns the fault of the threshold `own` of `clear` on the side `side`, for alerts raised on the
/// side `raise`. `sign` is 1 for alerts raised above, -1 for alerts raised below.
fn clear_fault(
    side: &str,
    raise: &str,
    own: f64,
    sign: f64,
    ranges: &[Thresholds],
) -> Option<RuleFault> {
    let path = format!("clear.{side}");
    let sides = |range: &Thresholds| match raise {
        "above" => (range.above.clone(), range.below.clone()),
        _ => (range.below.clone(), range.above.clone()),
    };
    let raising =
        || ranges.iter().map(sides).filter_map(|(raising, other)| Some((raising?, other)));
    if raising().next().is_none() {
        let message = format!("`{side}` of `clear` has no effect: no `{raise}` raises an alert");
        return Some(RuleFault::new(path, message).fix("remove it"));
    }
    raising().find_map(|((raise_path, limit), other)| {
        if sign * own > sign * limit {
            let message = format!("an alert raised {raise} {limit} cannot be over {side} {own}");
            let fault = RuleFault::new(&path, message).also(raise_path, "raises the alert");
            let bound = if sign > 0.0 { "at most" } else { "at least" };
            return Some(fault.fix(format!("{bound} {limit}")));
        }
        let (other_path, other) = other.filter(|(_, other)| sign * own <= sign * other)?;
        let message =
            format!("the alert is never over: numbers {side} {own} are {side} {other}, too");
        Some(RuleFault::new(&path, message).also(other_path, "raises the alert"))
    })
}

fn too_long(path: &str, length: Duration) -> Option<RuleFault> {
    (length > MAX_WINDOW).then(|| {
        let message =
            format!("a duration of a rule is at most {}, not {}", shown(MAX_WINDOW), shown(length));
        RuleFault::new(path, message)
    })
}

fn window_fault(window: WindowSpec) -> Option<RuleFault> {
    let WindowSpec { length, step, take: _ } = window;
    if length < MIN_WINDOW {
        let message =
            format!("a window is at least {} long, not {}", shown(MIN_WINDOW), shown(length));
        return Some(RuleFault::new("window", message));
    }
    let long = too_long("window", length);
    if long.is_some() {
        return long;
    }
    let message = if step < MIN_WINDOW {
        format!("a step of a window is at least {}, not {}", shown(MIN_WINDOW), shown(step))
    } else if !length.as_nanos().is_multiple_of(step.as_nanos()) {
        format!("a window of {} is not a whole number of steps of {}", shown(length), shown(step))
    } else if length > step * MAX_STEPS {
        format!("a window of {} has more than {MAX_STEPS} steps of {}", shown(length), shown(step))
    } else {
        return None;
    };
    let fault = RuleFault::new("window.every", message).also("window.sliding", "the window");
    Some(fault.fix(format!("such as \"{}\"", shown(WindowSpec::finest_step(length)))))
}

/// Returns a duration as the configuration writes durations.
fn shown(length: Duration) -> String {
    match length.subsec_millis() {
        0 => format!("{}s", length.as_secs()),
        _ => format!("{}ms", length.as_millis()),
    }
}
