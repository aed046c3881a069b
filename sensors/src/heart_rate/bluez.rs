//! BlueZ, the Bluetooth daemon of Linux, reached over the system bus through btleplug.
//!
//! [`watch()`] finds the monitors, keeps them connected, decodes what they send and heals those that fall
//! silent ([`super::ladder`]). It holds what the radio needs held: no scan while connecting, one
//! connect at a time per adapter, no scan while no monitor is missing, and a limit of its own on every call.
//! It does not pair, and it keeps no list of what it saw: a monitor is asked for anew in each scan.
//!
//! btleplug detaches tasks that hold its connection to the bus and may panic when the bus goes away. So
//! each `watch` has a runtime of its own, on a thread of its own: what was detached ends with it.

mod attend;
mod call;
mod hub;
mod radio;
mod scout;

use std::time::Duration;
use std::{io, thread};

use tokio::sync::{oneshot, watch};

use super::Identity;
use super::ladder::{Climbs, DEFAULT_SILENCE};
use super::packet::Location;
use crate::{NoReading, Outlet, SourceId};

/// Calls to the system bus that block, each with a limit: one that hangs is a call to the bus that all monitors
/// share anyway.
const MAX_CALLS: usize = 4;

/// A monitor to watch, and where its readings go.
#[derive(Debug, Clone)]
pub struct Monitor {
    /// What it is known by.
    pub identity: Identity,
    /// Its end of the channel to the sampler.
    pub outlet: Outlet,
}

/// How to watch.
#[derive(Debug, Clone)]
pub struct Options {
    /// The adapter to use, by name (`hci1`) or address; `None`: all there are.
    pub adapter: Option<String>,
    /// How long a connected monitor may send nothing before it is healed, and any monitor before it
    /// counts as lost.
    pub silence: Duration,
    /// How long a monitor may take to its first packet before it counts as lost: a scan, a connect, the
    /// discovery of services, and again if the first attempt fails.
    pub first_packet: Duration,
    /// How long packets may be missing before BlueZ is asked whether the link still stands.
    pub late: Duration,
    /// Bounds a connect with the discovery of services; BlueZ itself gives up after 30 s or more.
    pub connect: Duration,
    /// Bounds every other call to BlueZ.
    pub call: Duration,
    /// How often a scan is looked through: each look costs one call that lists all that BlueZ sees.
    pub look_every: Duration,
    /// How often a scan is begun anew: bluetoothd may have restarted, and forgets it without a word.
    pub rescan_every: Duration,
    /// The pause after a failed connect; doubles up to sixteen times that, with jitter.
    pub retry: Duration,
    /// An adapter is not switched off twice within this time: all its monitors ask for it at once.
    pub power_cycle_every: Duration,
}

impl Default for Options {
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

/// How one monitor is doing, for `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorState {
    /// Which monitor.
    pub source: SourceId,
    /// Whether its link stands and notifications were asked for.
    pub connected: bool,
    /// Whether the outlet was told that there is nothing, and has had no measurement since.
    pub lost: bool,
    /// The charge of its battery when it was connected, in percent, if it tells.
    pub battery_percent: Option<u8>,
    /// Where it says it is worn.
    pub location: Option<Location>,
    /// Measurements so far.
    pub packets: u64,
    /// Packets so far that were no measurement, or held bytes that belong to none.
    pub malformed: u64,
    /// How often each rung of the ladder was climbed.
    pub rungs: Climbs,
    /// What last went wrong; holds no address.
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

/// Why watching ended. The caller waits with a backoff and watches again.
#[derive(Debug, thiserror::Error)]
pub enum BluezFault {
    /// The system bus is gone, or BlueZ is not on it.
    #[error("BlueZ does not answer on the system bus: {0}")]
    Bus(String),
    /// There is no adapter, or not the one that was asked for.
    #[error("no Bluetooth adapter{}", .0.as_ref().map(|name| format!(" `{name}`")).unwrap_or_default())]
    NoAdapter(Option<String>),
    /// An adapter came or went.
    #[error("the set of Bluetooth adapters changed")]
    AdaptersChanged,
    /// The top of the ladder: no monitor sends anything, whatever was tried.
    #[error("source {} stays silent after every cure", .0.0)]
    Unhealed(SourceId),
    /// The thread that talks to BlueZ could not be started, or died.
    #[error("the thread for BlueZ failed")]
    Thread(#[source] io::Error),
}

impl BluezFault {
    /// Whether it says what would have to be there.
    fn is_a_lack(&self) -> bool {
        match self {
            Self::Bus(_) | Self::NoAdapter(_) => true,
            Self::AdaptersChanged | Self::Unhealed(_) | Self::Thread(_) => false,
        }
    }
}

/// Watches `monitors` until every listener is gone (`Ok`), or BlueZ is no longer of use (`Err`): then each
/// monitor was told so once, and it can be called again, with the same `states`, whose counts go on.
///
/// Dropping the future ends the thread that does the work, which first lets go of the links.
///
/// # Errors
/// [`BluezFault`]; none of them holds an address.
pub async fn watch(
    monitors: Vec<Monitor>,
    options: Options,
    states: watch::Sender<Vec<MonitorState>>,
) -> Result<(), BluezFault> {
    let (stop, stopped) = oneshot::channel();
    let (ended, end) = oneshot::channel();
    thread::Builder::new()
        .name("bluez".into())
        .spawn(move || {
            // Nobody listens any more if this future was dropped.
            ended.send(run(&monitors, &options, &states, stopped)).ok();
        })
        .map_err(BluezFault::Thread)?;
    let outcome = end.await;
    drop(stop);
    outcome.unwrap_or_else(|_| Err(BluezFault::Thread(io::Error::other("it panicked"))))
}

fn run(
    monitors: &[Monitor],
    options: &Options,
    states: &watch::Sender<Vec<MonitorState>>,
    stopped: oneshot::Receiver<()>,
) -> Result<(), BluezFault> {
    begin(monitors, states);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(MAX_CALLS)
        .enable_all()
        .build()
        .map_err(BluezFault::Thread)?;
    let outcome = runtime.block_on(hub::watch(monitors, options, states, stopped));
    // A call to the bus that hangs must not keep the thread.
    runtime.shutdown_background();
    if let Err(fault) = &outcome {
        end(monitors, states, fault);
    }
    outcome
}

/// Lays out the states, with the counts of an earlier watch.
fn begin(monitors: &[Monitor], states: &watch::Sender<Vec<MonitorState>>) {
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

/// Tells each monitor's outlet that there is nothing to expect: once, and again when BlueZ lacks something
/// else than it did.
fn end(monitors: &[Monitor], states: &watch::Sender<Vec<MonitorState>>, fault: &BluezFault) {
    let reason = fault.to_string();
    let mut news = Vec::new();
    states.send_modify(|states| {
        for state in states {
            state.connected = false;
            let same = state.last_error.replace(reason.clone()).is_some_and(|last| last == reason);
            let told = std::mem::replace(&mut state.lost, true);
            news.push(!told || (fault.is_a_lack() && !same));
        }
    });
    for (monitor, _) in monitors.iter().zip(news).filter(|(_, news)| *news) {
        // Whether anybody still listens shows in the next watch.
        monitor.outlet.send_blocking(None, Err(NoReading::Absent(reason.clone())));
    }
}
