//! Plan of the outputs, with the rules and visits that control them.

use std::sync::Arc;

use pulsegate_core::act::output::NightSpec;
use pulsegate_core::rules::RuleSpec;
use pulsegate_core::visits::VisitSpec;

use crate::config::{Config, Output};

/// Configured outputs, with the rules and visits that control them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Plan {
    pub(super) outputs: Vec<Output>,
    pub(super) night: Option<NightSpec>,
    pub(super) rules: Arc<Vec<RuleSpec>>,
    pub(super) visits: Vec<VisitSpec>,
}

/// Builds the plan that `config` asks for.
pub(super) fn build_plan(config: &Config) -> Arc<Plan> {
    Arc::new(Plan {
        outputs: config.outputs.clone(),
        night: config.night.as_ref().map(|night| night.spec.clone()),
        rules: Arc::clone(&config.rules),
        visits: config.visit_specs(),
    })
}
