//! Outputs and cameras as their decisions and their drivers take them.

use std::sync::Arc;

use jiff::tz::TimeZone;
use pulsegate_core::act::output::{Hours, Light, NightSpec, Only, OutputSpec};
use pulsegate_sensors::line;
use pulsegate_sensors::output::Wiring;

use crate::actions::cameras::{self, Recipe};
use crate::actions::outputs::Plan;
use crate::config::{self, Config};

/// The outputs, and what is wanted of them.
pub(crate) fn outputs(config: &Config) -> Arc<Plan> {
    let output = |output: &config::Output| {
        let spec = OutputSpec {
            id: output.id.as_str().into(),
            most: output.wiring.most(),
            only: output.only.map(|only| match only {
                config::Only::Night => Only::Night,
                config::Only::Day => Only::Day,
            }),
            pulse: output.pulse,
        };
        (spec, wiring(&config.sensors.gpio, &output.wiring))
    };
    Arc::new(Plan {
        outputs: config.outputs.iter().map(output).collect(),
        night: config.night.as_ref().map(night),
        rules: Arc::clone(&config.rules),
        visits: config.visits.iter().map(|visit| super::visit(visit).spec).collect(),
    })
}

fn wiring(gpio: &config::Gpio, wiring: &config::Wiring) -> Wiring {
    match wiring {
        config::Wiring::File(path) => Wiring::File(path.clone()),
        config::Wiring::Lines { pins, active } => Wiring::Lines {
            pins: pins.iter().copied().map(u32::from).collect(),
            chip: gpio.chip.as_ref().map(|chip| chip.to_string_lossy().into_owned()),
            active: level(*active),
            backend: backend(gpio.backend),
        },
    }
}

/// A level as drivers take it.
pub(crate) fn level(level: config::Level) -> line::Level {
    match level {
        config::Level::Low => line::Level::Low,
        config::Level::High => line::Level::High,
    }
}

/// A backend as drivers take it.
pub(crate) fn backend(backend: config::Backend) -> line::Backend {
    match backend {
        config::Backend::Auto => line::Backend::Auto,
        config::Backend::RaspberryPi => line::Backend::RaspberryPi,
        config::Backend::CharacterDevice => line::Backend::CharacterDevice,
    }
}

fn night(night: &config::Night) -> NightSpec {
    let hours = night.hours.as_ref().map(|hours| {
        // The check warned of a system that knows no time zones.
        let zone = TimeZone::get(&hours.zone).unwrap_or(TimeZone::UTC);
        Hours { from: hours.from, to: hours.to, zone }
    });
    let light = night.light.as_ref().map(|light| Light { below: light.below, above: light.above });
    NightSpec { light, hours }
}

/// The cameras, and what is wanted of them.
pub(crate) fn cameras(config: &Config) -> Arc<cameras::Plan> {
    let camera = |camera: &config::Camera| cameras::CameraPlan {
        id: camera.id.as_str().into(),
        recipe: Recipe { command: camera.command.clone(), deadline: camera.deadline },
        rest: camera.rest,
    };
    Arc::new(cameras::Plan {
        folder: config.state_dir.join(cameras::FOLDER),
        cameras: config.sensors.cameras.iter().map(camera).collect(),
        max_bytes: config.pictures_max_bytes,
        rules: Arc::clone(&config.rules),
        visits: config.visits.iter().map(|visit| super::visit(visit).spec).collect(),
    })
}
