//! The heart-rate driver for BlueZ, the Bluetooth daemon of Linux, reached over the system bus
//! through btleplug.
//!
//! The driver finds the configured monitors, keeps them connected, decodes their packets, and heals
//! silent monitors step by step ([`super::ladder`]). No scan runs during a connect or while no
//! monitor is missing; an adapter makes one connection at a time; every call has a time limit. The
//! driver does not pair, and keeps no list of seen devices: each scan asks for the missing monitors
//! again.
//!
//! btleplug detaches tasks, which hold its connection to the bus and may panic if the bus goes
//! away. The driver therefore has its own runtime on its own thread: the detached tasks end with
//! the thread.

mod call;
mod hub;
mod monitor_task;
mod radio;
mod search;

use std::time::Duration;
use std::{io, thread};

use tokio::sync::{oneshot, watch};

use super::MonitorIdentity;
use super::ladder::{Climbs, DEFAULT_SILENCE};
use super::packet::Location;
use crate::{NoReading, Outlet, SourceId};

/// The maximum number of threads for blocking calls to the system bus. A call that hangs would hang for
/// every monitor, since all share the bus.
const MAX_CALLS: usize = 4;

/// A monitor to watch, and the receiver of its readings.
#[derive(Debug, Clone)]
pub struct WatchedMonitor {
    /// The address or advertised name of the monitor.
    pub identity: MonitorIdentity,
    /// The monitor's end of the channel to the sampler.
    pub outlet: Outlet,
}

/// Settings of the driver.
#[derive(Debug, Clone)]
pub struct BluezOptions {
    /// The adapter, by name (`hci1`) or address; `None`: all adapters.
    pub adapter: Option<String>,
    /// The time without a packet after which a connected monitor is healed, and after which any
    /// monitor counts as lost.
    pub silence: Duration,
    /// The time to the first packet after which a monitor counts as lost: enough for a scan, a
    /// connect and the discovery of services, twice.
    pub first_packet: Duration,
    /// The time without a packet after which the driver asks BlueZ whether the link is still up.
    pub late: Duration,
    /// The limit of a connect with the discovery of services; BlueZ itself gives up after 30 s or
    /// more.
    pub connect: Duration,
    /// The limit of every other call to BlueZ.
    pub call: Duration,
    /// The interval between two looks at the devices of a scan; a look costs a call listing all
    /// devices seen by BlueZ.
    pub look_every: Duration,
    /// The interval after which a scan is restarted: a restarted bluetoothd has forgotten the scan
    /// without a notice.
    pub rescan_every: Duration,
    /// The pause after a failed connect; doubles up to sixteen times this value, with jitter.
    pub retry: Duration,
    /// The shortest time between two power cycles of an adapter: all its monitors ask for a power
    /// cycle at once.
    pub power_cycle_every: Duration,
}

impl Default for BluezOptions {
    fn default() -> Self {
        Self {
            adapter: None,
            silence: DEFAULT_SILENCE,
            first_packet: Duration::from_secs(30),
            late: Duration::from_secs(3),
            connect: Duration::from_secs(25),
            call: Duration::from_secs(5),
            look_every: Duration::from_secs(1),
            rescan_every: Duration::from_secs(15),
            retry: Duration::from_secs(1),
            power_cycle_every: Duration::from_secs(60),
        }
    }
}

/// The state of one monitor, for `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorState {
    /// The source of the monitor's readings.
    pub source: SourceId,
    /// `true` while the link is up and notifications are requested.
    pub connected: bool,
    /// `true` after the loss of the monitor was reported, until the next measurement.
    pub lost: bool,
    /// The battery level at the last connect, in percent, if the monitor reports a level.
    pub battery_percent: Option<u8>,
    /// The place on the body, if the monitor reports a place.
    pub location: Option<Location>,
    /// The number of measurements.
    pub packets: u64,
    /// The number of packets without a measurement or with surplus bytes.
    pub malformed: u64,
    /// The number of uses of each rung of the ladder.
    pub rungs: Climbs,
    /// The last error, without addresses.
    pub last_error: Option<String>,
}

impl MonitorState {
    fn new(source: SourceId) -> Self {
        Self {
            source,
            connected: false,
            lost: false,
            battery_percent: None,
            location: None,
            packets: 0,
            malformed: 0,
            rungs: Climbs::default(),
            last_error: None,
        }
    }
}

/// The reason the driver ended. The caller waits with a backoff and starts the driver again.
#[derive(Debug, thiserror::Error)]
pub enum BluezFault {
    /// The system bus is gone, or BlueZ is not on it.
    #[error("BlueZ does not answer on the system bus: {0}")]
    Bus(String),
    /// There is no adapter, or the configured adapter is missing.
    #[error("no Bluetooth adapter{}", .0.as_ref().map(|name| format!(" `{name}`")).unwrap_or_default())]
    NoAdapter(Option<String>),
    /// An adapter was added or removed.
    #[error("the set of Bluetooth adapters changed")]
    AdaptersChanged,
    /// No monitor sends a packet, although every rung of the ladder was tried.
    #[error("source {} stays silent after every cure", .0.0)]
    Unhealed(SourceId),
    /// The thread that talks to BlueZ could not be started, or died.
    #[error("the thread for BlueZ failed")]
    Thread(#[source] io::Error),
}

impl BluezFault {
    /// Returns `true` for a fault that names a missing part: BlueZ or an adapter.
    fn is_missing_part(&self) -> bool {
        match self {
            Self::Bus(_) | Self::NoAdapter(_) => true,
            Self::AdaptersChanged | Self::Unhealed(_) | Self::Thread(_) => false,
        }
    }
}

/// Runs the driver for `monitors` until every receiver of readings is gone (`Ok`) or BlueZ cannot
/// be used any more (`Err`). After an error, each monitor has been reported as lost once, and the
/// function can be called again with the same `states`, whose counts continue.
///
/// Dropping the future ends the thread of the driver. The driver disconnects the monitors before it
/// ends, also after an error. After [`BluezFault::AdaptersChanged`], the links stay for the next call.
///
/// # Errors
/// [`BluezFault`], without any address.
pub async fn watch_monitors(
    monitors: Vec<WatchedMonitor>,
    options: BluezOptions,
    states: watch::Sender<Vec<MonitorState>>,
) -> Result<(), BluezFault> {
    let (stop, stopped) = oneshot::channel();
    let (ended, end) = oneshot::channel();
    thread::Builder::new()
        .name("bluez".into())
        .spawn(move || {
            // The receiver is gone if the future was dropped.
            ended.send(run(&monitors, &options, &states, stopped)).ok();
        })
        .map_err(BluezFault::Thread)?;
    let outcome = end.await;
    drop(stop);
    outcome.unwrap_or_else(|_| Err(BluezFault::Thread(io::Error::other("it panicked"))))
}

fn run(
    monitors: &[WatchedMonitor],
    options: &BluezOptions,
    states: &watch::Sender<Vec<MonitorState>>,
    stopped: oneshot::Receiver<()>,
) -> Result<(), BluezFault> {
    reset_states(monitors, states);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(MAX_CALLS)
        .enable_all()
        .build()
        .map_err(BluezFault::Thread)?;
    let outcome = runtime.block_on(hub::run_watchers(monitors, options, states, stopped));
    // A hanging call to the bus must not keep the thread.
    runtime.shutdown_background();
    if let Err(fault) = &outcome {
        report_fault(monitors, states, fault);
    }
    outcome
}

/// Sets the state of each monitor, and keeps the counts of an earlier run.
fn reset_states(monitors: &[WatchedMonitor], states: &watch::Sender<Vec<MonitorState>>) {
    states.send_modify(|states| {
        let mut earlier = std::mem::take(states);
        states.extend(monitors.iter().map(|monitor| {
            let source = monitor.outlet.source();
            let known = earlier.iter().position(|state| state.source == source);
            let mut state =
                known.map_or_else(|| MonitorState::new(source), |at| earlier.swap_remove(at));
            state.connected = false;
            state
        }));
    });
}

/// Reports every monitor as lost: once, and again if the fault names another missing part than
/// before.
fn report_fault(
    monitors: &[WatchedMonitor],
    states: &watch::Sender<Vec<MonitorState>>,
    fault: &BluezFault,
) {
    let reason = fault.to_string();
    let mut news = Vec::new();
    states.send_modify(|states| {
        for state in states {
            state.connected = false;
            let same = state.last_error.replace(reason.clone()).is_some_and(|last| last == reason);
            let told = std::mem::replace(&mut state.lost, true);
            news.push(!told || (fault.is_missing_part() && !same));
        }
    });
    for (monitor, _) in monitors.iter().zip(news).filter(|(_, news)| *news) {
        // A closed channel is noticed in the next run.
        monitor.outlet.send_blocking(None, Err(NoReading::Absent(reason.clone())));
    }
}
