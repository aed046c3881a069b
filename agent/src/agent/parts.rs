//! The list of the parts: their start, their reload, and the order of their stop. Data travels through
//! the store, so no reading is lost with the content of a channel.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::clock_watch;
use super::opening::Opened;
use super::reload::Changes;
use crate::actions::cameras::{self, CameraHandle};
use crate::actions::outputs::{self, OutputHandle};
use crate::cloud::link::{self, LinkHandle};
use crate::cloud::publisher::{self, PublisherHandle};
use crate::config::Config;
use crate::context::{Context, QUIESCE};
use crate::platform::clock;
use crate::platform::pulse::Watchdog;
use crate::sources::{self, SourcesHandle};
use crate::status::{self, PartStates};
use crate::store::{Formats, Stopped};

/// Running parts of the agent.
pub(super) struct Parts {
    /// Configuration in force.
    pub(super) config: Config,
    pub(super) context: Context,
    pub(super) troubles: Troubles,
    store_thread: std::thread::JoinHandle<()>,
    sources: SourcesHandle,
    outputs: OutputHandle,
    cameras: CameraHandle,
    link: LinkHandle,
    publisher: PublisherHandle,
}

impl Parts {
    /// Starts all other parts around an open store.
    pub(super) fn start(config: Config, opened: Opened) -> Self {
        let Opened { store, thread: store_thread, sources, pulse, troubles } = opened;
        let (mut tasks, mut watchdog) = (JoinSet::new(), Watchdog::default());
        watchdog.watch_pulse("store", &pulse, clock::mono());
        let clock_set = clock_watch::start(&mut tasks, config.clock.trust, &store);
        let closing = watch::Sender::new(false);
        let mut context = Context { tasks, store, sources, clock_set, closing, watchdog };
        let troubles = Troubles::new(troubles);

        let mut sources = sources::start(&mut context, &config);
        let outputs = outputs::start(&mut context, &config);
        let cameras = cameras::start(&mut context, &config);
        let link = link::start_link(&mut context, &config);
        let publisher = publisher::start_publisher(&mut context, &config, &link);
        let states = PartStates {
            sources: sources.state.clone(),
            drivers: sources.overview.clone(),
            outputs: outputs.state.clone(),
            cameras: cameras.state.clone(),
            link: link.state.clone(),
            publisher: publisher.state.clone(),
            refused: publisher.refused.clone(),
            troubles: troubles.all.subscribe(),
        };
        status::start_status(&mut context, &config, states);
        // The drivers start last: a client answered by an inbox finds the status socket open.
        sources.follow(&mut context, &config);
        Self { config, context, troubles, store_thread, sources, outputs, cameras, link, publisher }
    }

    /// Applies a new configuration, which differs from the one in force by `changes`.
    pub(super) async fn follow(&mut self, config: Config, changes: &Changes) {
        self.config = config;
        let config = &self.config;
        self.publisher.apply_settings(config);
        self.outputs.follow(config);
        self.cameras.follow(config);
        let (rules, formats) = (Arc::clone(&config.rules), Formats::new(config));
        if self.context.store.apply_configuration(config.buffer, rules, formats).await.is_err() {
            return;
        }
        if changes.sources {
            self.sources.follow(&mut self.context, config);
        }
        if changes.link {
            self.link.restart_link(&mut self.context, config).await;
        }
    }

    /// Ends all parts in order. Each step waits for a limited time, and needs the results of the steps
    /// before it.
    pub(super) async fn stop(mut self) {
        self.context.closing.send_replace(true);
        // Sampler and outputs end first: the next commit contains their last readings and events.
        self.sources.stop_sampler().await;
        self.outputs.stop().await;
        self.flush_store().await;
        // The inboxes end after this commit, which answers every accepted line.
        self.sources.stop_drivers(&mut self.context.tasks).await;
        // The publisher drains after the last record is committed, and before the link ends.
        self.publisher.stop_publisher(self.link.is_up()).await;
        self.link.stop_link().await;
        // The acknowledgements of the drain moved watermarks, which are not durable yet.
        self.flush_store().await;
        // The thread of the store ends after every task has dropped its end of the store's channel.
        self.context.tasks.shutdown().await;
        drop(self.context);
        if self.store_thread.join().is_err() {
            tracing::error!("the store panicked");
        }
    }

    /// Flushes the store within [`QUIESCE`]. A disk that refuses writes is not waited for; the
    /// store tries once more at the end.
    async fn flush_store(&self) {
        match tokio::time::timeout(QUIESCE, self.context.store.commit_now()).await {
            Ok(Ok(())) => {}
            Ok(Err(Stopped)) => tracing::error!("the store ended before the last commit"),
            Err(_) => tracing::error!("the last readings could not be committed in time"),
        }
    }
}

/// Faults that belong to no single part, for `status`.
pub(super) struct Troubles {
    /// Faults found at the start; a reload keeps them.
    at_start: Vec<String>,
    all: watch::Sender<Vec<String>>,
}

impl Troubles {
    fn new(at_start: Vec<String>) -> Self {
        Self { all: watch::Sender::new(at_start.clone()), at_start }
    }

    /// Replaces the faults of the previous reload.
    pub(super) fn of_reload(&self, found: impl IntoIterator<Item = String>) {
        self.all.send_replace(self.at_start.iter().cloned().chain(found).collect());
    }
}
