//! Starts and reconfigures the parts that act on rules and visits: outputs and cameras.

use std::sync::Arc;

use pulsegate_sensors::Sources;
use tokio::sync::watch;

use super::Tasks;
use crate::actions::cameras::{self, CameraStates, Darkroom};
use crate::actions::outputs::{self, OutputStates, Switchboard};
use crate::compile;
use crate::config::Config;
use crate::store::Store;

/// Agent's ends of the channels to outputs and cameras.
pub(super) struct Acting {
    outputs: watch::Sender<Arc<outputs::Plan>>,
    cameras: watch::Sender<Arc<cameras::Plan>>,
    pub(super) output_states: watch::Receiver<OutputStates>,
    pub(super) camera_states: watch::Receiver<CameraStates>,
}

impl Acting {
    /// Starts outputs and cameras; `closing` is set when the agent stops.
    pub(super) fn start(
        config: &Config,
        store: &Store,
        sources: &Arc<Sources>,
        clock_set: &watch::Receiver<bool>,
        closing: &watch::Sender<bool>,
        tasks: &mut Tasks,
    ) -> Self {
        let (outputs, plans) = watch::channel(compile::outputs(config));
        let (states, output_states) = watch::channel(OutputStates::default());
        tasks.spawn(outputs::run(Switchboard {
            store: store.clone(),
            plans,
            clock_set: clock_set.clone(),
            closing: closing.subscribe(),
            states,
        }));
        let (cameras, plans) = watch::channel(compile::cameras(config));
        let (states, camera_states) = watch::channel(CameraStates::default());
        tasks.spawn(cameras::run(Darkroom {
            store: store.clone(),
            sources: Arc::clone(sources),
            plans,
            closing: closing.subscribe(),
            states,
        }));
        Self { outputs, cameras, output_states, camera_states }
    }

    /// Sends a new configuration to outputs and cameras.
    pub(super) fn follow(&self, config: &Config) {
        change(&self.outputs, compile::outputs(config));
        change(&self.cameras, compile::cameras(config));
    }
}

fn change<T: PartialEq>(plan: &watch::Sender<T>, changed: T) {
    plan.send_if_modified(|plan| {
        let differs = *plan != changed;
        *plan = changed;
        differs
    });
}
