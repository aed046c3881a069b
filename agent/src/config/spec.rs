//! From a rule of a configuration to the specification that core checks and runs.

use pulsegate_core::rules::{
    Action, Clear, Condition, Drive, Limit, Member, Range, RuleSpec, Severity, Take, Test,
    WindowSpec,
};
use pulsegate_sensors::Source;

use crate::config;

/// One rule as the fold takes it.
pub(crate) fn rule(rule: &config::RuleConfig) -> RuleSpec {
    let limit = |limit: &config::LimitConfig| Limit {
        source: limit.source.as_str().into(),
        above: limit.above,
        below: limit.below,
    };
    RuleSpec {
        name: rule.name.as_str().into(),
        on: rule.on.as_deref().map(Into::into),
        source: rule.source.as_deref().map(Into::into),
        condition: condition(&rule.condition),
        window: rule.window.map(|window| WindowSpec {
            length: window.length,
            step: window.step,
            take: match window.take {
                config::Take::Mean => Take::Mean,
                config::Take::Min => Take::Min,
                config::Take::Max => Take::Max,
                config::Take::Count => Take::Count,
                config::Take::Sum => Take::Sum,
                config::Take::Rate => Take::Rate,
            },
        }),
        limits: rule.limits.iter().map(limit).collect(),
        hold_for: rule.hold_for,
        clear: Clear {
            above: rule.clear.above,
            below: rule.clear.below,
            hold_for: rule.clear.hold_for,
        },
        at_most_every: rule.at_most_every,
        severity: match rule.severity {
            config::Severity::Info => Severity::Info,
            config::Severity::Warning => Severity::Warning,
            config::Severity::Critical => Severity::Critical,
        },
        then: rule.then.iter().map(action).collect(),
    }
}

fn condition(condition: &config::Condition) -> Condition {
    let members = |members: &[config::MemberConfig]| members.iter().map(member).collect();
    match condition {
        config::Condition::Reading(asked) => Condition::Reading(test(asked)),
        config::Condition::Silent { after, expected } => {
            // Not `Source::new`, which takes only kinds that programs may name, and none that is derived.
            let source = |(id, kind): &(String, String)| Source {
                name: id.as_str().into(),
                kind: kind.as_str().into(),
            };
            let expected = expected.iter().map(source).collect();
            Condition::Silent { after: *after, expected }
        }
        config::Condition::Anomaly { learn, score } => {
            Condition::Anomaly { learn: *learn, score: *score }
        }
        config::Condition::All { members: all, within } => {
            Condition::All { members: members(all), within: *within }
        }
        config::Condition::Any(any) => Condition::Any { members: members(any) },
    }
}

fn member(member: &config::MemberConfig) -> Member {
    Member {
        source: member.source.as_str().into(),
        on: member.on.as_deref().map(Into::into),
        test: test(&member.test),
    }
}

fn test(test: &config::Test) -> Test {
    match test {
        config::Test::Number { above, below } => {
            Test::Outside(Range { above: *above, below: *below })
        }
        config::Test::Is(state) => Test::Is(state.as_str().into()),
    }
}

fn action(action: &config::Action) -> Action {
    match action {
        config::Action::Alert => Action::Alert,
        config::Action::Capture(camera) => Action::Capture(camera.as_str().into()),
        config::Action::Output(output, drive) => {
            Action::Output(output.as_str().into(), self::drive(*drive))
        }
        config::Action::Record(length) => Action::Record(*length),
    }
}

pub(crate) fn drive(drive: config::Drive) -> Drive {
    match drive {
        config::Drive::On => Drive::On,
        config::Drive::Pulse => Drive::Pulse,
        config::Drive::Count => Drive::Count,
    }
}
