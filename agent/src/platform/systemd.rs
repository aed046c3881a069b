//! Notifies systemd of the agent's state: starting, ready, reloading, stopping, and alive. Without
//! systemd, nothing is sent.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::platform::clock;

/// Reports that the agent is ready, with `status` as its status line.
pub(crate) fn notify_ready(status: &str) {
    send_notification(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Reports that the start makes progress, and extends the start timeout by `granted`.
pub(crate) fn notify_starting(status: &str, granted: Duration) {
    let granted = u32::try_from(granted.as_micros()).unwrap_or(u32::MAX);
    send_notification(&[NotifyState::Status(status), NotifyState::ExtendTimeoutUsec(granted)]);
}

/// Reports that a new configuration is being read.
pub(crate) fn notify_reloading() {
    let now = i128::try_from(clock::since_boot().as_micros()).unwrap_or(i128::MAX);
    send_notification(&[NotifyState::Reloading, NotifyState::MonotonicUsec(now)]);
}

/// Reports that the agent is stopping.
pub(crate) fn notify_stopping() {
    send_notification(&[NotifyState::Stopping]);
}

/// Feeds the watchdog of systemd.
pub(crate) fn feed_watchdog() {
    send_notification(&[NotifyState::Watchdog]);
}

/// Returns the watchdog interval of the unit, within which the watchdog must be fed; `None` without
/// a watchdog.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn send_notification(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd does not listen");
    }
}
