//! The parts that act on what rules and visits decide: outputs and cameras.

use std::sync::Arc;

use tokio::sync::watch;

use super::Tasks;
use crate::compile;
use crate::config::Config;
use crate::outputs::{self, OutputStates, Switchboard};
use crate::store::Store;

/// Their ends of the channels.
pub(super) struct Acting {
    outputs: watch::Sender<Arc<outputs::Plan>>,
    pub(super) output_states: watch::Receiver<OutputStates>,
}

impl Acting {
    /// Starts them; `closing` is set when the agent stops.
    pub(super) fn start(
        config: &Config,
        store: &Store,
        clock_set: watch::Receiver<bool>,
        closing: watch::Receiver<bool>,
        tasks: &mut Tasks,
    ) -> Self {
        let (outputs, plans) = watch::channel(compile::outputs(config));
        let (states, output_states) = watch::channel(OutputStates::default());
        let store = store.clone();
        tasks.spawn(outputs::run(Switchboard { store, plans, clock_set, closing, states }));
        Self { outputs, output_states }
    }

    /// Goes on under another configuration.
    pub(super) fn follow(&self, config: &Config) {
        let changed = compile::outputs(config);
        self.outputs.send_if_modified(|plan| {
            let differs = *plan != changed;
            *plan = changed;
            differs
        });
    }
}
