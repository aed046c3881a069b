//! Rules across restarts and changes of the configuration.

use pulsegate_core::rules::{Action, Condition, Severity};

use super::*;

/// A heart rate above `limit` is an alert.
pub(super) fn above(limit: f64) -> RuleSpec {
    RuleSpec {
        name: "heart rate out of range".into(),
        on: Some("heart_rate".into()),
        source: None,
        condition: Condition { above: Some(limit), below: None, is: None },
        window: None,
        limits: Vec::new(),
        at_most_every: None,
        severity: Severity::Warning,
        then: vec![Action::Alert],
    }
}
