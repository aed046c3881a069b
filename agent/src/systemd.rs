//! What systemd is told: ready, reloading, stopping, and that work gets done. Without systemd it
//! says nothing to nobody.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::clock;

/// The agent runs.
pub(crate) fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
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
