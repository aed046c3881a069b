//! What systemd is told: starting, ready, reloading, stopping, and that work gets done. Without systemd it
//! says nothing to nobody.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::platform::clock;

/// The agent runs.
pub(crate) fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The agent still starts, and gets something done: it may take `granted` more.
pub(crate) fn starting(status: &str, granted: Duration) {
    let granted = u32::try_from(granted.as_micros()).unwrap_or(u32::MAX);
    notify(&[NotifyState::Status(status), NotifyState::ExtendTimeoutUsec(granted)]);
}

/// A new configuration is being read.
pub(crate) fn reloading() {
    let now = i128::try_from(clock::since_boot().as_micros()).unwrap_or(i128::MAX);
    notify(&[NotifyState::Reloading, NotifyState::MonotonicUsec(now)]);
}

/// The agent is on its way out.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Something still gets done.
pub(crate) fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// How often [`alive`] must be said, if at all.
pub(crate) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd does not listen");
    }
}
