//! [`Context`]: the tasks, store, clock state, stop signal and watchdog that all parts share.
//!
//! A part is a handle: `start` takes a [`Context`] and a configuration, spawns the tasks of the part,
//! and returns a handle that owns the agent's ends of the part's channels. The handle has `follow` for
//! a new configuration, `state` for `status`, and `stop` if the part has a place in the order of a stop.

use std::sync::Arc;
use std::time::Duration;

use pulsegate_sensors::Sources;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::platform::clock;
use crate::platform::pulse::{Pulse, Watchdog};
use crate::store::Store;

/// Time limit for one step of a stop, such as the end of the sensors or the last answers to inbox
/// clients.
pub(crate) const QUIESCE: Duration = Duration::from_secs(3);

/// Tasks of the agent with their results. A task that ends unasked ends the agent.
pub(crate) type Tasks = JoinSet<anyhow::Result<()>>;

/// State shared by all parts of the agent.
pub(crate) struct Context {
    pub(crate) tasks: Tasks,
    pub(crate) store: Store,
    pub(crate) sources: Arc<Sources>,
    /// Whether the clock is set.
    pub(crate) clock_set: watch::Receiver<bool>,
    /// Set when the agent stops.
    pub(crate) closing: watch::Sender<bool>,
    pub(crate) watchdog: Watchdog,
}

impl Context {
    /// Lets the watchdog observe a new pulse of `part`. Returns the pulse, and the store, which beats
    /// the pulse while the part waits for the writer.
    pub(crate) fn watch_part(&mut self, part: &'static str) -> (Pulse, Store) {
        let pulse = Pulse::default();
        self.watchdog.watch_pulse(part, &pulse, clock::mono());
        let store = self.store.for_part(&pulse);
        (pulse, store)
    }
}

/// Waits until the agent stops, or has dropped its end of the channel.
pub(crate) async fn wait_for_stop(closing: &mut watch::Receiver<bool>) {
    drop(closing.wait_for(|closing| *closing).await);
}

/// Replaces the value of a channel, and wakes the receivers only if the value changed.
pub(crate) fn send_if_changed<T: PartialEq>(channel: &watch::Sender<T>, value: T) {
    channel.send_if_modified(|current| {
        let is_changed = *current != value;
        *current = value;
        is_changed
    });
}
