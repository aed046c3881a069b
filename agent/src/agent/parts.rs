//! Builds the parts of the agent and the channels between them. Data travels through the store, so
//! no reading is lost with the content of a channel.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use pulsegate_sensors::{Sources, inbox};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::acting::Acting;
use super::opening::Opened;
use super::{Tasks, clock_watch};
use crate::cloud::mqtt::{self, Dialer, LinkOptions, LinkState, Outage, Wish};
use crate::cloud::publisher::{self, Publisher, PublisherState, Reports, Settings};
use crate::compile;
use crate::config::Config;
use crate::platform::clock;
use crate::platform::pulse::{Pulse, Watchdog};
use crate::sources::drivers::{Drivers, Outlets, Overview};
use crate::sources::inbox_watch;
use crate::sources::sampler::{self, Intake, SourceStates};
use crate::status::{self, Observed};
use crate::store::{Stopped, Store};

/// Capacity of the channel to the sampler: one second of a hundred belts with bursts.
const OBSERVATIONS: usize = 512;
/// Capacity of the channel for other programs' readings, in chunks of at most 64 KiB of lines.
const CHUNKS: usize = 4;
/// Time limit for drivers to end and for inbox clients to read their last answers.
const QUIESCE: Duration = Duration::from_secs(3);
/// Time limit for the publisher to deliver the remaining records. The sum with [`QUIESCE`] and the
/// goodbye stays below TimeoutStopSec of the unit.
const DRAIN: Duration = Duration::from_secs(10);

/// Names of the parts whose pulses are watched.
const PULSES: [&str; 3] = ["store", "publisher", "sensors"];

/// Running parts of the agent.
pub(super) struct Parts {
    config: Config,
    store: Store,
    store_thread: std::thread::JoinHandle<()>,
    drivers: Drivers,
    overview: watch::Sender<Overview>,
    links: watch::Sender<LinkState>,
    link: Option<(watch::Sender<Wish>, AbortHandle)>,
    reports: Reports,
    connections: Arc<AtomicU64>,
    dialer: Dialer,
    settings: watch::Sender<Settings>,
    variability: watch::Sender<HashSet<Box<str>>>,
    acting: Acting,
    clock_set: watch::Receiver<bool>,
    closing: watch::Sender<bool>,
    draining: watch::Sender<bool>,
    source_states: watch::Receiver<SourceStates>,
    publisher_state: watch::Receiver<PublisherState>,
    pub(super) troubles: Troubles,
    pub(super) watchdog: Watchdog,
}

impl Parts {
    /// Starts all other parts around an open store.
    pub(super) fn start(config: Config, opened: Opened, tasks: &mut Tasks) -> Self {
        let now = clock::mono();
        let Opened { store, thread: store_thread, sources, pulse, troubles } = opened;
        let pulses = [pulse, Pulse::default(), Pulse::default()];
        let [_, publisher_pulse, sampler_pulse] = &pulses;
        let (troubles, troubles_seen) = Troubles::new(troubles);

        let (clock_is_set, clock_set) = watch::channel(false);
        tasks.spawn(clock_watch::run(config.clock.trust, store.clone(), clock_is_set));

        let (closing, closed) = watch::channel(false);
        let (variability, derived) = watch::channel(compile::variability(&config));
        let (states, source_states) = watch::channel(SourceStates::default());
        let (outlets, intake) = intake(&sources, closed, sampler_pulse, derived, &clock_set);
        tasks.spawn(sampler::run(
            intake,
            store.for_part(sampler_pulse),
            Arc::clone(&sources),
            states,
        ));
        let acting = Acting::start(&config, &store, &sources, &clock_set, &closing, tasks);

        let (links, link_state) = watch::channel(LinkState::Down(Outage::unknown(now)));
        let shared = (store.for_part(publisher_pulse), link_state.clone(), clock_set.clone());
        let publishing = Publishing::start(&config, shared, publisher_pulse, tasks);
        let (overview, overview_seen) = watch::channel(Overview::default());
        let observed = Observed {
            thing: config.thing.clone(),
            started: now,
            store: store.clone(),
            links: link_state,
            clock_set: clock_set.clone(),
            sources: source_states.clone(),
            publisher: publishing.state.clone(),
            refused: publishing.reports.refused.subscribe(),
            drivers: overview_seen,
            outputs: acting.output_states.clone(),
            cameras: acting.camera_states.clone(),
            troubles: troubles_seen,
            max_bytes: config.buffer.max_bytes,
        };
        observe(observed, &config, tasks);

        let mut watchdog = Watchdog::default();
        for (part, pulse) in PULSES.iter().zip(&pulses) {
            watchdog.watch_pulse(part, pulse, now);
        }
        let mut parts = Self {
            config,
            store,
            store_thread,
            drivers: Drivers::new(outlets),
            overview,
            links,
            link: None,
            reports: publishing.reports,
            connections: Arc::default(),
            dialer: Dialer::new(),
            settings: publishing.settings,
            variability,
            acting,
            clock_set,
            closing,
            draining: publishing.draining,
            source_states,
            publisher_state: publishing.state,
            troubles,
            watchdog,
        };
        parts.follow_sensors(tasks);
        parts.start_link(tasks);
        parts
    }

    /// Returns the configuration in force.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Applies a new configuration; parts whose configuration is the same keep running.
    pub(super) async fn follow(&mut self, config: Config, tasks: &mut Tasks) {
        let old = std::mem::replace(&mut self.config, config);
        let new = &self.config;
        self.settings.send_replace(compile::settings(new));
        self.variability.send_if_modified(|wanted| {
            let changed = compile::variability(new);
            std::mem::replace(wanted, changed.clone()) != changed
        });
        self.acting.follow(new);
        let (keep, rules, formats) =
            (compile::keep(new), Arc::clone(&new.rules), compile::formats(new));
        if self.store.configure(keep, rules, formats).await.is_err() {
            return;
        }
        if old.sensors != new.sensors {
            self.follow_sensors(tasks);
        }
        let same_link = old.identity == self.config.identity
            && old.link == self.config.link
            && old.host == self.config.host;
        if !same_link {
            self.stop_link().await;
            self.start_link(tasks);
        }
    }

    /// Ends all parts in order: sensors, store, publisher, link.
    pub(super) async fn stop(mut self, mut tasks: Tasks) {
        self.closing.send_replace(true);
        let sampler_ended = self.source_states.wait_for(|_| false);
        if tokio::time::timeout(QUIESCE, sampler_ended).await.is_err() {
            tracing::warn!("the sensors did not end in time");
        }
        let outputs_off = self.acting.output_states.wait_for(|_| false);
        if tokio::time::timeout(QUIESCE, outputs_off).await.is_err() {
            tracing::warn!("the outputs were not switched off in time");
        }
        self.flush().await;
        // Every accepted line has its answer stored or under way by now.
        let answered =
            async { while self.drivers.are_answering() && tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(QUIESCE, answered).await.is_err() {
            tracing::warn!("the inboxes did not end in time");
        }
        self.drivers.stop();
        // The publisher drains last: all records for delivery are committed now.
        self.draining.send_replace(true);
        let is_up = matches!(*self.links.borrow(), LinkState::Up(_));
        if is_up {
            let publisher_ended = self.publisher_state.wait_for(|_| false);
            if tokio::time::timeout(DRAIN, publisher_ended).await.is_err() {
                tracing::warn!("not everything was delivered in time; the rest is kept");
            }
        }
        self.stop_link().await;
        self.flush().await;
        tasks.shutdown().await;
        drop(self.store);
        if self.store_thread.join().is_err() {
            tracing::error!("the store panicked");
        }
    }

    /// Flushes the store within [`QUIESCE`]. A disk that refuses writes is not waited for; the
    /// store tries once more at the end.
    async fn flush(&self) {
        match tokio::time::timeout(QUIESCE, self.store.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(Stopped)) => tracing::error!("the store ended before the last commit"),
            Err(_) => tracing::error!("the last readings could not be committed in time"),
        }
    }

    fn follow_sensors(&mut self, tasks: &mut Tasks) {
        self.drivers.follow(&self.config, tasks);
        self.overview.send_replace(self.drivers.overview());
    }

    fn start_link(&mut self, tasks: &mut Tasks) {
        let config = &self.config;
        let options = LinkOptions {
            thing: config.thing.clone(),
            host: config.host.clone(),
            ports: config.link.ports.clone(),
            keep_alive: config.link.keep_alive,
            connect_timeout: config.link.connect_timeout,
            retry_max: config.link.retry_max,
            window: config.link.window,
            is_aws: config.link.limits == crate::config::Limits::Aws,
            status_topic: compile::status_topic(config),
            identity: config.identity.clone(),
            connections: Arc::clone(&self.connections),
            dialer: self.dialer.clone(),
        };
        let (wish, wishes) = watch::channel(Wish::Stay);
        let clock_set = self.clock_set.clone();
        let is_clock_set = move || *clock_set.borrow();
        let (links, doubts) = (self.links.clone(), self.reports.doubts.subscribe());
        let trials = self.reports.trials.subscribe();
        let link = tasks.spawn(async move {
            mqtt::run(options, links, wishes, doubts, trials, is_clock_set).await?;
            // The old link was asked to leave and is aborted afterwards; a task that ends by itself
            // would end the agent.
            std::future::pending().await
        });
        self.link = Some((wish, link));
    }

    /// Disconnects from the broker, so the last will is not published, and ends the link.
    async fn stop_link(&mut self) {
        if let Some((wish, link)) = self.link.take() {
            wish.send_replace(Wish::Leave);
            tokio::time::timeout(QUIESCE, wish.closed()).await.ok();
            link.abort();
        }
        self.links.send_replace(LinkState::Down(Outage::unknown(clock::mono())));
    }
}

/// Faults that belong to no single part, for `status`.
pub(super) struct Troubles {
    /// Faults found at the start; a reload keeps them.
    at_start: Vec<String>,
    all: watch::Sender<Vec<String>>,
}

impl Troubles {
    fn new(at_start: Vec<String>) -> (Self, watch::Receiver<Vec<String>>) {
        let (all, seen) = watch::channel(at_start.clone());
        (Self { at_start, all }, seen)
    }

    /// Replaces the faults of the previous reload.
    pub(super) fn of_reload(&self, found: impl IntoIterator<Item = String>) {
        self.all.send_replace(self.at_start.iter().cloned().chain(found).collect());
    }
}

/// Agent's ends of the channels to the publisher.
struct Publishing {
    settings: watch::Sender<Settings>,
    draining: watch::Sender<bool>,
    reports: Reports,
    state: watch::Receiver<PublisherState>,
}

impl Publishing {
    /// Starts the publisher.
    fn start(
        config: &Config,
        (store, links, clock_set): (Store, watch::Receiver<LinkState>, watch::Receiver<bool>),
        pulse: &Pulse,
        tasks: &mut Tasks,
    ) -> Self {
        let (settings, settings_seen) = watch::channel(compile::settings(config));
        let (draining, drain) = watch::channel(false);
        let (states, state) = watch::channel(PublisherState::default());
        let (reports, pulse) = (Reports::default(), pulse.clone());
        tasks.spawn(publisher::run(Publisher {
            store,
            links,
            settings: settings_seen,
            clock_set,
            draining: drain,
            states,
            reports: reports.clone(),
            pulse,
        }));
        Self { settings, draining, reports, state }
    }
}

/// Starts the parts that observe and report the others: the inbox watch and `status`.
fn observe(observed: Observed, config: &Config, tasks: &mut Tasks) {
    tasks.spawn(inbox_watch::run(observed.drivers.clone(), observed.store.clone()));
    tasks.spawn(status::serve(config.status.socket.clone(), observed));
}

/// Creates the channels between drivers and sampler.
fn intake(
    sources: &Arc<Sources>,
    closing: watch::Receiver<bool>,
    pulse: &Pulse,
    variability: watch::Receiver<HashSet<Box<str>>>,
    clock_set: &watch::Receiver<bool>,
) -> (Outlets, Intake) {
    let (observation_sender, observations) = mpsc::channel(OBSERVATIONS);
    let (chunk_sender, chunks) = mpsc::channel(CHUNKS);
    let (sources, pulse, clock_set) = (Arc::clone(sources), pulse.clone(), clock_set.clone());
    let outlets = Outlets {
        observations: observation_sender,
        chunks: chunk_sender,
        sources,
        memory: Arc::default(),
        clock: inbox::Clock::new(move || (*clock_set.borrow()).then(|| clock::wall().0)),
        faults: watch::Sender::default(),
    };
    (outlets, Intake { observations, chunks, closing, pulse, variability })
}
