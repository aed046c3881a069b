//! The state shared by the tasks of all monitors and adapters: missing monitors, healthy monitors,
//! and the state for `status`.
//!
//! All tasks run on one thread, so cells serve in place of locks.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use btleplug::api::{Central as _, Peripheral as _};
use btleplug::platform::{Adapter, Manager, Peripheral};
use futures_util::future::{join_all, try_join_all};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::call::{CallFault, call_within};
use super::monitor_task::MonitorTask;
use super::radio::{self, Radio};
use super::{BluezFault, BluezOptions, MonitorState, WatchedMonitor, search};
use crate::heart_rate::MonitorIdentity;
use crate::heart_rate::ladder::Reach;
use crate::heart_rate::packet::{Decoded, Malformed};
use crate::{Measurement, NoReading};

/// The reason for stopping all tasks.
#[derive(Debug)]
pub(super) enum Stop {
    /// The receiver of the readings is gone.
    Closed,
    /// The driver must end with this fault.
    Fault(BluezFault),
}

/// A monitor seen by an adapter.
pub(super) struct Sighting<'a> {
    pub(super) radio: &'a Radio,
    pub(super) belt: Peripheral,
}

/// The health of one monitor.
#[derive(Default)]
struct MonitorHealth<'a> {
    /// `true` once the monitor has sent a measurement.
    heard: Cell<bool>,
    /// The time of the last measurement, or of the start before the first.
    since: Cell<Duration>,
    /// Notified at the first measurement: silence is tolerated for a shorter time afterwards.
    begun: Notify,
    /// The fault of the last packet, unless the packet was a measurement.
    malformed: Cell<Option<Malformed>>,
    /// The link to end when the driver ends, also while the link is being made.
    link: RefCell<Option<(&'a Radio, Peripheral)>>,
}

/// State shared by all tasks; see the module.
pub(super) struct Hub<'a> {
    pub(super) options: &'a BluezOptions,
    manager: &'a Manager,
    radios: &'a [Radio],
    monitors: &'a [WatchedMonitor],
    states: &'a watch::Sender<Vec<MonitorState>>,
    vitals: Vec<MonitorHealth<'a>>,
    /// A separate connection to the bus for each monitor.
    ears: Vec<Adapter>,
    seekers: RefCell<BTreeMap<usize, oneshot::Sender<Sighting<'a>>>>,
    seeking: Notify,
    started: Instant,
}

type WatcherFuture<'h> = Pin<Box<dyn Future<Output = Result<Infallible, Stop>> + 'h>>;

/// Runs the tasks of all monitors and adapters until `stopped` fires, the receiver of readings is
/// gone, or BlueZ has to be opened anew.
pub(super) async fn run_watchers(
    monitors: &[WatchedMonitor],
    options: &BluezOptions,
    states: &watch::Sender<Vec<MonitorState>>,
    stopped: oneshot::Receiver<()>,
) -> Result<(), BluezFault> {
    let manager = call_within(options.call, "reach the system bus", Manager::new()).await;
    let manager = manager.map_err(BluezFault::from)?;
    let radios = radio::open_adapters(&manager, options).await?;
    let mut ears = Vec::new();
    for _ in monitors {
        ears.push(radio::connect_to_bus(options).await?);
    }
    let hub = Hub {
        options,
        manager: &manager,
        radios: &radios,
        monitors,
        states,
        ears,
        vitals: monitors.iter().map(|_| MonitorHealth::default()).collect(),
        seekers: RefCell::default(),
        seeking: Notify::new(),
        started: Instant::now(),
    };
    let mut watchers: Vec<WatcherFuture<'_>> = Vec::new();
    for radio in &radios {
        watchers.push(Box::pin(search::search_monitors(&hub, radio)));
    }
    for index in 0..monitors.len() {
        watchers.push(Box::pin(MonitorTask::new(&hub, index).keep_connected()));
        watchers.push(Box::pin(hub.watch_for_silence(index)));
    }
    let stop = tokio::select! {
        ended = try_join_all(watchers) => ended.err(),
        _ = stopped => None,
    };
    // After a change of adapters, the next run takes the links up again within seconds.
    if !matches!(stop, Some(Stop::Fault(BluezFault::AdaptersChanged))) {
        hub.disconnect_all().await;
    }
    match stop {
        Some(Stop::Fault(fault)) => Err(fault),
        Some(Stop::Closed) | None => Ok(()),
    }
}

impl<'a> Hub<'a> {
    /// Returns the time since the start of the driver, the clock of the ladder.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn monitor(&self, index: usize) -> &'a WatchedMonitor {
        &self.monitors[index]
    }

    /// Changes the state of a monitor for `status`.
    pub(super) fn update_state(&self, index: usize, change: impl FnOnce(&mut MonitorState)) {
        self.states.send_modify(|states| change(&mut states[index]));
    }

    /// Records the last error of a monitor.
    pub(super) fn record_error(&self, index: usize, fault: &CallFault) {
        tracing::debug!(source = self.monitor(index).outlet.source().0, %fault, "call to BlueZ failed");
        self.update_state(index, |state| state.last_error = Some(fault.to_string()));
    }

    /// Records the link of a monitor, from the start of the connect; `None`: not connected.
    pub(super) fn record_link(&self, index: usize, link: Option<&Sighting<'a>>) {
        *self.vitals[index].link.borrow_mut() = link.map(|at| (at.radio, at.belt.clone()));
        self.update_state(index, |state| state.connected = false);
    }

    /// Waits until an adapter sees the monitor. Returns the device as seen through the monitor's
    /// own connection to the bus.
    pub(super) async fn wait_for_sighting(&self, index: usize) -> Result<Sighting<'a>, Stop> {
        let (limit, ear) = (self.options.call, &self.ears[index]);
        loop {
            let (found, sighting) = oneshot::channel();
            self.seekers.borrow_mut().insert(index, found);
            self.seeking.notify_waiters();
            let Ok(Sighting { radio, belt }) = sighting.await else { continue };
            match call_within(limit, "find the monitor", ear.peripheral(&belt.id())).await {
                Ok(belt) => return Ok(Sighting { radio, belt }),
                Err(fault) => self.record_error(index, &fault),
            }
            self.check_adapters().await?;
            let hears = call_within(limit, "ask an adapter", ear.adapter_info()).await;
            hears.map_err(|fault| Stop::Fault(fault.into()))?;
        }
    }

    /// Returns the indexes of the missing monitors.
    pub(super) fn sought_monitors(&self) -> Vec<usize> {
        self.seekers.borrow().keys().copied().collect()
    }

    pub(super) fn anyone_sought_by_name(&self) -> bool {
        let by_name =
            |index: &usize| matches!(self.monitors[*index].identity, MonitorIdentity::Name(_));
        self.seekers.borrow().keys().any(by_name)
    }

    /// Returns the index of the missing monitor with this identity.
    pub(super) fn seeker_of(&self, identity: &MonitorIdentity) -> Option<usize> {
        let is_it = |index: &usize| self.monitors[*index].identity == *identity;
        self.seekers.borrow().keys().copied().find(is_it)
    }

    /// Passes a sighting to the task waiting for the monitor.
    pub(super) fn deliver_sighting(&self, index: usize, sighting: Sighting<'a>) {
        if let Some(seeker) = self.seekers.borrow_mut().remove(&index) {
            // Another adapter may have been faster: the task waits no more.
            seeker.send(sighting).ok();
        }
    }

    pub(super) async fn wait_for_seekers(&self) {
        while self.seekers.borrow().is_empty() {
            self.seeking.notified().await;
        }
    }

    /// Checks that BlueZ answers and has the same adapters as at the start. Called after any failed
    /// call, to tell a fault of one monitor from a fault of BlueZ.
    pub(super) async fn check_adapters(&self) -> Result<(), Stop> {
        let radios = radio::open_adapters(self.manager, self.options).await.map_err(Stop::Fault)?;
        if radios.iter().map(|radio| &radio.name).eq(self.radios.iter().map(|radio| &radio.name)) {
            Ok(())
        } else {
            Err(Stop::Fault(BluezFault::AdaptersChanged))
        }
    }

    /// Returns the largest part of the system that a cure for a monitor on `radio` may disturb.
    pub(super) fn reach(&self, radio: &Radio) -> Reach {
        let states = self.states.borrow();
        let well = |vital: &&MonitorHealth<'_>| {
            vital.heard.get() && self.now() < vital.since.get() + self.options.silence
        };
        let is_on_radio = |vital: &MonitorHealth<'_>| {
            vital.link.borrow().as_ref().is_some_and(|(other, _)| other.name == radio.name)
        };
        let mut monitors = self.vitals.iter().zip(states.iter());
        match self.vitals.iter().find(well) {
            None => Reach::Everything,
            // A link is recorded from the start of the connect, so it alone says nothing.
            Some(_)
                if !monitors.any(|(vital, state)| {
                    state.connected && well(&vital) && is_on_radio(vital)
                }) =>
            {
                Reach::Adapter
            }
            Some(_) => Reach::Monitor,
        }
    }

    /// Passes on a measurement and records the monitor as healthy.
    pub(super) async fn handle_measurement(
        &self,
        index: usize,
        decoded: Decoded,
    ) -> Result<(), Stop> {
        let vital = &self.vitals[index];
        let source = self.monitor(index).outlet.source();
        let silent = self.now().saturating_sub(vital.since.replace(self.now()));
        let first = !vital.heard.replace(true);
        vital.malformed.set(None);
        if first {
            vital.begun.notify_one();
        }
        self.update_state(index, |state| {
            state.packets += 1;
            state.malformed += u64::from(decoded.dropped_bytes > 0);
            if std::mem::take(&mut state.lost) {
                tracing::info!(source = source.0, seconds = silent.as_secs(), "monitor is back");
            } else if first {
                tracing::info!(source = source.0, "monitor is heard");
            }
        });
        let measurement = Measurement::HeartRate(decoded.heart_rate);
        require_listener(self.monitor(index).outlet.send_measurement(measurement).await)
    }

    /// Counts a packet without a measurement. The fault is reported if no measurement follows in
    /// time.
    pub(super) fn count_malformed(&self, index: usize, malformed: Malformed) {
        self.vitals[index].malformed.set(Some(malformed));
        self.update_state(index, |state| state.malformed += 1);
    }

    /// Reports a monitor as lost, once.
    async fn report_lost(&self, index: usize, reason: NoReading) -> Result<(), Stop> {
        let outlet = &self.monitor(index).outlet;
        if self.states.borrow()[index].lost {
            return Ok(());
        }
        tracing::warn!(source = outlet.source().0, %reason, "monitor is lost");
        self.update_state(index, |state| state.lost = true);
        require_listener(outlet.send_no_reading(reason).await)
    }

    /// Reports the monitor as lost after too long a silence, independently of the cures in
    /// progress.
    async fn watch_for_silence(&self, index: usize) -> Result<Infallible, Stop> {
        let vital = &self.vitals[index];
        loop {
            if self.time_until_lost(index).is_zero() && !self.states.borrow()[index].lost {
                // After a standstill of this process, the missed packets arrive before the answer.
                let ear = self.ears[index].adapter_info();
                call_within(self.options.call, "ask an adapter", ear).await.ok();
                if self.time_until_lost(index).is_zero() {
                    self.report_lost(index, self.explain_silence(index)).await?;
                }
            }
            let left = self.time_until_lost(index);
            let wait = if left.is_zero() { self.options.silence } else { left };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = vital.begun.notified() => {}
            }
        }
    }

    /// Returns the remaining time of silence before the monitor counts as lost.
    fn time_until_lost(&self, index: usize) -> Duration {
        let vital = &self.vitals[index];
        let BluezOptions { silence, first_packet, .. } = *self.options;
        let patience = if vital.heard.get() { silence } else { first_packet };
        (vital.since.get() + patience).saturating_sub(self.now())
    }

    fn explain_silence(&self, index: usize) -> NoReading {
        let quiet = self.now().saturating_sub(self.vitals[index].since.get());
        let state = &self.states.borrow()[index];
        match (state.connected, self.vitals[index].malformed.get()) {
            (true, Some(malformed)) => NoReading::Garbage(malformed.to_string()),
            (true, None) => NoReading::Silent { seconds: quiet.as_secs() },
            (false, _) => {
                let why = state.last_error.as_deref().unwrap_or("no adapter sees the monitor");
                NoReading::Absent(why.to_owned())
            }
        }
    }

    /// Disconnects all monitors, and calls off connects in progress, so another program or the next
    /// run finds the monitors advertising.
    async fn disconnect_all(&self) {
        let links = self.vitals.iter().filter_map(|vital| vital.link.take());
        let limit = self.options.call;
        join_all(links.map(|(radio, belt)| async move { radio.disconnect(&belt, limit).await }))
            .await;
    }
}

fn require_listener(someone: bool) -> Result<(), Stop> {
    if someone { Ok(()) } else { Err(Stop::Closed) }
}
