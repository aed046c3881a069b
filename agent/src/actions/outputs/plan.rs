//! Plan of the outputs: their specifications and wirings, and the rules and visits that control them.

use std::sync::Arc;

use pulsegate_core::act::output::{NightSpec, OutputSpec};
use pulsegate_core::rules::RuleSpec;
use pulsegate_core::visits::VisitSpec;
use pulsegate_sensors::output::Wiring;

use crate::config::{self, Config};

/// Configured outputs, with the rules and visits that control them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Plan {
    pub(super) outputs: Vec<(OutputSpec, Wiring)>,
    pub(super) night: Option<NightSpec>,
    pub(super) rules: Arc<Vec<RuleSpec>>,
    pub(super) visits: Vec<VisitSpec>,
}

/// Builds the plan that `config` asks for.
pub(super) fn build_plan(config: &Config) -> Arc<Plan> {
    let output = |output: &config::Output| {
        let spec = OutputSpec {
            id: output.id.as_str().into(),
            most: output.wiring.most(),
            only: output.only,
            pulse: output.pulse,
        };
        (spec, wiring(&config.sensors.gpio, &output.wiring))
    };
    Arc::new(Plan {
        outputs: config.outputs.iter().map(output).collect(),
        night: config.night.as_ref().map(|night| night.spec.clone()),
        rules: Arc::clone(&config.rules),
        visits: config.visit_specs(),
    })
}

fn wiring(gpio: &config::Gpio, wiring: &config::Wiring) -> Wiring {
    match wiring {
        config::Wiring::File(path) => Wiring::File(path.clone()),
        config::Wiring::Lines { pins, active } => Wiring::Lines {
            pins: pins.iter().copied().map(u32::from).collect(),
            chip: gpio.chip.as_ref().map(|chip| chip.to_string_lossy().into_owned()),
            active: *active,
            backend: gpio.backend,
        },
    }
}
