//! Handle of the link: starts the link, starts another one for a changed configuration, and ends it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::cloud::mqtt::{self, Dialer, LinkOptions, LinkRequest, LinkState, Outage};
use crate::config::Config;
use crate::context::{Context, QUIESCE};
use crate::platform::clock;

/// Handle of the link.
pub(crate) struct LinkHandle {
    pub(crate) state: watch::Receiver<LinkState>,
    pub(crate) reports: ConnectionReports,
    running: Option<(watch::Sender<LinkRequest>, AbortHandle)>,
    states: watch::Sender<LinkState>,
    /// Number of connections since the start, of all links together.
    connections: Arc<AtomicU64>,
    dialer: Dialer,
}

/// Findings of the publisher about a connection, for the link.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConnectionReports {
    /// The number of a connection during the trial of a message: its end is expected.
    pub(crate) trials: watch::Sender<u64>,
    /// The number of a connection without acknowledgements, to be given up.
    pub(crate) doubts: watch::Sender<u64>,
}

/// Starts the link.
pub(crate) fn start_link(context: &mut Context, config: &Config) -> LinkHandle {
    let (states, state) =
        watch::channel(LinkState::Down(Outage::before_first_attempt(clock::mono())));
    let mut handle = LinkHandle {
        state,
        reports: ConnectionReports::default(),
        running: None,
        states,
        connections: Arc::default(),
        dialer: Dialer::new(),
    };
    handle.start_task(context, config);
    handle
}

impl LinkHandle {
    /// Ends the link, and starts another one with the options of `config`.
    pub(crate) async fn restart_link(&mut self, context: &mut Context, config: &Config) {
        self.stop_link().await;
        self.start_task(context, config);
    }

    /// Returns whether there is a connection.
    pub(crate) fn is_up(&self) -> bool {
        matches!(*self.states.borrow(), LinkState::Up(_))
    }

    /// Disconnects from the broker, so the last will is not published, and ends the link. Waits at
    /// most [`QUIESCE`].
    pub(crate) async fn stop_link(&mut self) {
        if let Some((wish, task)) = self.running.take() {
            wish.send_replace(LinkRequest::Leave);
            tokio::time::timeout(QUIESCE, wish.closed()).await.ok();
            task.abort();
        }
        self.states.send_replace(LinkState::Down(Outage::before_first_attempt(clock::mono())));
    }

    fn start_task(&mut self, context: &mut Context, config: &Config) {
        let options = LinkOptions {
            thing: config.thing.clone(),
            host: config.host.clone(),
            link: config.link.clone(),
            status_topic: config.status_topic(),
            identity: config.identity.clone(),
            connections: Arc::clone(&self.connections),
            dialer: self.dialer.clone(),
        };
        let (wish, wishes) = watch::channel(LinkRequest::Stay);
        let clock_set = context.clock_set.clone();
        let is_clock_set = move || *clock_set.borrow();
        let states = self.states.clone();
        let (doubts, trials) = (self.reports.doubts.subscribe(), self.reports.trials.subscribe());
        let task = context.tasks.spawn(async move {
            mqtt::run(options, states, wishes, doubts, trials, is_clock_set).await?;
            // The old link was asked to leave and is aborted afterwards; a task that ends by itself
            // would end the agent.
            std::future::pending().await
        });
        self.running = Some((wish, task));
    }
}
