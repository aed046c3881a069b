//! Sources of readings: the drivers, and the sampler that stamps their measurements.

pub(crate) mod drivers;
pub(crate) mod inbox_watch;
pub(crate) mod sampler;

use std::collections::HashSet;
use std::sync::Arc;

use pulsegate_sensors::inbox;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::config::Config;
use crate::context::{Context, QUIESCE, Tasks, send_if_changed};
use crate::platform::clock;
use drivers::{Drivers, Outlets, Overview};
use sampler::{Intake, SourceStates};

/// Capacity of the channel to the sampler: one second of a hundred belts with bursts.
const OBSERVATIONS: usize = 512;
/// Capacity of the channel for other programs' readings, in chunks of at most 64 KiB of lines.
const CHUNKS: usize = 4;

/// Handle of the drivers and the sampler.
pub(crate) struct SourcesHandle {
    pub(crate) state: watch::Receiver<SourceStates>,
    pub(crate) overview: watch::Receiver<Overview>,
    drivers: Drivers,
    variability: watch::Sender<HashSet<Box<str>>>,
}

/// Starts the sampler and the watch of the inboxes. The drivers start with the first
/// [`SourcesHandle::follow`].
pub(crate) fn start(context: &mut Context, config: &Config) -> SourcesHandle {
    let (pulse, store) = context.watch_part("sensors");
    let (observations, observations_taken) = mpsc::channel(OBSERVATIONS);
    let (chunks, chunks_taken) = mpsc::channel(CHUNKS);
    let (variability, derived) = watch::channel(config.variability());
    let (states, state) = watch::channel(SourceStates::default());
    let intake = Intake {
        observations: observations_taken,
        chunks: chunks_taken,
        closing: context.closing.subscribe(),
        pulse,
        variability: derived,
    };
    context.tasks.spawn(sampler::run(intake, store, Arc::clone(&context.sources), states));
    let clock_set = context.clock_set.clone();
    let drivers = Drivers::new(Outlets {
        observations,
        chunks,
        sources: Arc::clone(&context.sources),
        memory: Arc::default(),
        clock: inbox::WallClock::new(move || (*clock_set.borrow()).then(|| clock::wall().0)),
        faults: watch::Sender::default(),
    });
    let overview = drivers.overview.subscribe();
    context.tasks.spawn(inbox_watch::run(overview.clone(), context.store.clone()));
    SourcesHandle { state, overview, drivers, variability }
}

impl SourcesHandle {
    /// Applies a new configuration; drivers whose configuration is the same keep running.
    pub(crate) fn follow(&mut self, context: &mut Context, config: &Config) {
        send_if_changed(&self.variability, config.variability());
        self.drivers.apply_config(config, &mut context.tasks);
    }

    /// Waits at most [`QUIESCE`] until the sampler has taken in everything that was measured before
    /// the stop signal.
    pub(crate) async fn stop_sampler(&mut self) {
        if timeout(QUIESCE, self.state.wait_for(|_| false)).await.is_err() {
            tracing::warn!("the sensors did not end in time");
        }
    }

    /// Waits at most [`QUIESCE`] until the clients of the inboxes have their answers, then stops
    /// all drivers.
    pub(crate) async fn stop_drivers(&mut self, tasks: &mut Tasks) {
        let answered =
            async { while self.drivers.are_answering() && tasks.join_next().await.is_some() {} };
        if timeout(QUIESCE, answered).await.is_err() {
            tracing::warn!("the inboxes did not end in time");
        }
        self.drivers.stop_all();
    }
}
