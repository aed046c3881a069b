//! Starts the configured drivers and connects them to the sampler. A reload stops drivers with a
//! changed or removed configuration, and starts the new ones.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pulsegate_core::cloud::backoff::{Backoff, ConnectFailure};
use pulsegate_sensors::heart_rate::bluez::{self, MonitorState};
use pulsegate_sensors::inbox::{self, Chunk, Owners, SourceAdmission};
use pulsegate_sensors::line::{self, Bias, Level, Line, LineCounters, Role};
use pulsegate_sensors::number::{self, Buses, Clocks, NumberState};
use pulsegate_sensors::simulated::{self, Recording};
use pulsegate_sensors::{NoReading, Observation, Outlet, Source, SourceId, Sources};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::config::{self, Config, SimulatedKind};
use crate::context::Tasks;
use crate::platform::aside::BlockingWorker;
use crate::platform::{clock, regular};

/// Time for which a simulated lid stays open.
const SIMULATED_OPEN: Duration = Duration::from_millis(400);
/// Longest pause before another attempt to make a socket or to reach BlueZ.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Largest recording that is read: a week of beats.
const MAX_RECORDING_BYTES: u64 = 4 << 20;
/// Time limit for reading a recording.
const READING_A_RECORDING: Duration = Duration::from_secs(30);

/// Configuration of one driver.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DriverSpec {
    Bluetooth(config::Bluetooth, Vec<config::HeartRate>),
    Lid(config::Gpio, config::Lid),
    Trigger(config::Gpio, config::Trigger),
    Number(config::Number),
    Inbox(config::Inbox),
    Simulated(config::Simulated),
}

/// Status of a driver besides its readings, for `status`.
#[derive(Debug, Clone)]
pub(crate) enum Gauge {
    Monitors(watch::Receiver<Vec<MonitorState>>),
    Line(Arc<str>, watch::Receiver<LineCounters>),
    Number(Box<str>, watch::Receiver<NumberState>),
    Inbox(PathBuf, Arc<inbox::Counters>),
}

/// Running drivers, for `status`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overview {
    pub(crate) gauges: Vec<Gauge>,
    /// Ids of the sources measured by the drivers, without the sources of other programs.
    pub(crate) sources: BTreeSet<String>,
    /// Reason each disabled source is off, by id.
    pub(crate) faults: Option<watch::Receiver<BTreeMap<String, String>>>,
}

/// Receivers and tables for the results of drivers.
#[derive(Clone)]
pub(crate) struct Outlets {
    pub(crate) observations: mpsc::Sender<Observation>,
    pub(crate) chunks: mpsc::Sender<Chunk>,
    pub(crate) sources: Arc<Sources>,
    /// Memory limit shared by the clients of all inboxes.
    pub(crate) memory: Arc<inbox::ClientMemory>,
    /// Clock by which inboxes refuse times in the future.
    pub(crate) clock: inbox::WallClock,
    /// Reason each disabled source is off, by id.
    pub(crate) faults: watch::Sender<BTreeMap<String, String>>,
}

/// Running drivers.
pub(crate) struct Drivers {
    outlets: Outlets,
    /// Threads that read number files. Threads outlive a reload: a hanging thread is reused, not
    /// duplicated.
    buses: Buses,
    running: Vec<RunningDriver>,
    /// Owner of each source, for the inboxes.
    owners: watch::Sender<Arc<Owners>>,
    pub(crate) overview: watch::Sender<Overview>,
}

struct RunningDriver {
    spec: DriverSpec,
    task: AbortHandle,
    gauge: Option<Gauge>,
}

impl Drivers {
    pub(crate) fn new(outlets: Outlets) -> Self {
        let clocks = Clocks { wall_ms: || clock::wall().0, since_boot: clock::since_boot };
        let (owners, overview) = (watch::Sender::default(), watch::Sender::default());
        Self { outlets, buses: Buses::new(clocks), running: Vec::new(), owners, overview }
    }

    /// Starts and stops drivers to match `config`.
    pub(crate) fn apply_config(&mut self, config: &Config, tasks: &mut Tasks) {
        let wanted = list_specs(config);
        // Owners change before any driver starts: an inbox must not take a line for a newly
        // configured sensor.
        self.owners.send_replace(Arc::new(source_owners(&wanted)));
        self.running.retain(|running| {
            let stays = wanted.contains(&running.spec);
            if !stays {
                running.task.abort();
            }
            stays
        });
        for spec in wanted {
            if self.running.iter().all(|running| running.spec != spec) {
                let running = self.start_driver(spec, tasks);
                self.running.push(running);
            }
        }
        let specs = self.running.iter().map(|running| &running.spec);
        self.overview.send_replace(Overview {
            gauges: self.running.iter().filter_map(|running| running.gauge.clone()).collect(),
            sources: specs.flat_map(DriverSpec::source_ids).map(str::to_owned).collect(),
            faults: Some(self.outlets.faults.subscribe()),
        });
    }

    /// Stops all drivers.
    pub(crate) fn stop_all(&mut self) {
        self.running.drain(..).for_each(|running| running.task.abort());
    }

    /// Returns whether an inbox still has clients to answer after the intake has closed.
    pub(crate) fn are_answering(&self) -> bool {
        let answering = |running: &RunningDriver| {
            matches!(running.spec, DriverSpec::Inbox(_)) && !running.task.is_finished()
        };
        self.running.iter().any(answering)
    }

    fn start_driver(&self, spec: DriverSpec, tasks: &mut Tasks) -> RunningDriver {
        let outlets = self.outlets.clone();
        let (gauge, task) = match spec.clone() {
            DriverSpec::Bluetooth(options, monitors) => {
                let (states, watched) = watch::channel(Vec::new());
                let task = watch_bluetooth(options, monitors, outlets, states);
                (Some(Gauge::Monitors(watched)), tasks.spawn(task))
            }
            DriverSpec::Lid(gpio, lid) => {
                let (role, bias) = (Role::Lid { closed: lid.closed }, lid.bias);
                let bias = bias.unwrap_or(away_from(lid.closed));
                let (line, id) = (wire_line(&gpio, lid.pin, lid.debounce, role, bias), lid.id);
                watch_line(line, &gpio, &id, "lid", outlets, tasks)
            }
            DriverSpec::Trigger(gpio, trigger) => {
                let role = Role::Trigger { active: trigger.active };
                let bias = trigger.bias.unwrap_or(away_from(trigger.active));
                let line = wire_line(&gpio, trigger.pin, trigger.debounce, role, bias);
                watch_line(line, &gpio, &trigger.id, trigger.kind.as_str(), outlets, tasks)
            }
            DriverSpec::Number(number) => {
                let (states, watched) = watch::channel(NumberState::default());
                let gauge = Gauge::Number(number.id.as_str().into(), watched);
                let task = watch_number(number, outlets, self.buses.clone(), states);
                (Some(gauge), tasks.spawn(task))
            }
            DriverSpec::Inbox(inbox) => {
                let counters = Arc::new(inbox::Counters::default());
                let gauge = Gauge::Inbox(inbox.path.clone(), Arc::clone(&counters));
                let owners = self.owners.subscribe();
                (Some(gauge), tasks.spawn(serve_inbox(inbox, outlets, counters, owners)))
            }
            DriverSpec::Simulated(simulated) => {
                (None, tasks.spawn(run_simulated(simulated, outlets)))
            }
        };
        RunningDriver { spec, task, gauge }
    }
}

impl DriverSpec {
    fn source_ids(&self) -> Vec<&str> {
        match self {
            Self::Bluetooth(_, monitors) => monitors.iter().map(|one| one.id.as_str()).collect(),
            Self::Lid(_, lid) => vec![&lid.id],
            Self::Trigger(_, trigger) => vec![&trigger.id],
            Self::Number(number) => vec![&number.id],
            Self::Inbox(_) => Vec::new(),
            Self::Simulated(simulated) => vec![&simulated.id],
        }
    }
}

/// Returns the drivers configured in `config`. All heart-rate monitors have one driver, since they
/// share adapters.
fn list_specs(config: &Config) -> Vec<DriverSpec> {
    let sensors = &config.sensors;
    let gpio = || sensors.gpio.clone();
    let bluetooth = (!sensors.heart_rates.is_empty())
        .then(|| DriverSpec::Bluetooth(sensors.bluetooth.clone(), sensors.heart_rates.clone()));
    bluetooth
        .into_iter()
        .chain(sensors.lids.iter().map(|lid| DriverSpec::Lid(gpio(), lid.clone())))
        .chain(sensors.triggers.iter().map(|trigger| DriverSpec::Trigger(gpio(), trigger.clone())))
        .chain(sensors.numbers.iter().cloned().map(DriverSpec::Number))
        .chain(sensors.inboxes.iter().cloned().map(DriverSpec::Inbox))
        .chain(sensors.simulated.iter().cloned().map(DriverSpec::Simulated))
        .collect()
}

/// Returns the configured owner of each source.
fn source_owners(specs: &[DriverSpec]) -> Owners {
    let inboxes = specs.iter().filter_map(|spec| {
        let DriverSpec::Inbox(inbox) = spec else { return None };
        Some(limited_to(inbox))
    });
    Owners {
        sensors: specs.iter().flat_map(DriverSpec::source_ids).map(Box::from).collect(),
        inboxes: inboxes.collect(),
    }
}

/// Returns the ids that an inbox is limited to; `None` for an unlimited inbox.
fn limited_to(inbox: &config::Inbox) -> Option<HashSet<Box<str>>> {
    let sources = inbox.sources.as_ref()?;
    Some(sources.iter().map(|id| id.as_str().into()).collect())
}

impl Outlets {
    /// Returns the outlet for the readings of a source. If the source gets no number, returns
    /// `None`: only this source is off, and `status` gives the reason.
    fn open_outlet(&self, name: &str, kind: &str) -> Option<Outlet> {
        let source = Source::new(name, kind).map_err(anyhow::Error::from);
        let id: anyhow::Result<SourceId> =
            source.and_then(|source| Ok(self.sources.intern_source(source)?));
        match id {
            Ok(id) => Some(Outlet::new(id, self.observations.clone())),
            Err(error) => {
                let fault = format!(
                    "source `{name}` is off: {error}; remove sources and begin a new store"
                );
                tracing::error!(source = name, %error, "a source is off");
                self.faults.send_modify(|faults| drop(faults.insert(name.to_owned(), fault)));
                None
            }
        }
    }
}

async fn watch_bluetooth(
    options: config::Bluetooth,
    monitors: Vec<config::HeartRate>,
    outlets: Outlets,
    states: watch::Sender<Vec<MonitorState>>,
) -> anyhow::Result<()> {
    let mut watched = Vec::new();
    for monitor in monitors {
        let identity = monitor.identity().expect("a checked configuration");
        if let Some(outlet) = outlets.open_outlet(&monitor.id, "heart_rate") {
            watched.push(bluez::WatchedMonitor { identity, outlet });
        }
    }
    let options = bluez::BluezOptions {
        adapter: options.adapter,
        silence: options.silence,
        ..bluez::BluezOptions::default()
    };
    let mut backoff = Backoff::new(Duration::from_secs(1), RETRY_MAX);
    let mut told = String::new();
    loop {
        let began = clock::mono();
        let watch = bluez::watch_monitors(watched.clone(), options.clone(), states.clone());
        let Err(fault) = watch.await else { return Ok(()) };
        let text = fault.to_string();
        if text != told {
            tracing::warn!(fault = text, "Bluetooth is begun anew, as often as it takes");
            told = text;
        }
        tokio::time::sleep(backoff.wait_after_loss(clock::mono().since(began), fastrand::f64()))
            .await;
    }
}

/// Returns the resistor for a switch that connects its line to `level` when it closes.
fn away_from(level: Level) -> Bias {
    match level {
        Level::Low => Bias::PullUp,
        Level::High => Bias::PullDown,
    }
}

fn wire_line(gpio: &config::Gpio, pin: u16, debounce: Duration, role: Role, bias: Bias) -> Line {
    let chip = gpio.chip.as_ref().map(|chip| chip.to_string_lossy().into_owned());
    Line { pin: u32::from(pin), chip, debounce, role, bias }
}

fn watch_line(
    line: Line,
    gpio: &config::Gpio,
    id: &str,
    kind: &str,
    outlets: Outlets,
    tasks: &mut Tasks,
) -> (Option<Gauge>, AbortHandle) {
    let backend = gpio.backend;
    let (counters, watched) = watch::channel(LineCounters::default());
    let (id, kind) = (Arc::<str>::from(id), kind.to_owned());
    let gauge = Gauge::Line(Arc::clone(&id), watched);
    let task = tasks.spawn(async move {
        let Some(outlet) = outlets.open_outlet(&id, &kind) else { return pending().await };
        let mut watch = line::spawn_line(line, backend, outlet, clock::since_boot)?;
        loop {
            tokio::select! {
                () = watch.wait_until_ended() => anyhow::bail!("the thread of line `{id}` ended"),
                () = tokio::time::sleep(Duration::from_secs(1)) => {
                    counters.send_replace(watch.counters());
                }
            }
        }
    });
    (Some(gauge), task)
}

async fn watch_number(
    number: config::Number,
    outlets: Outlets,
    buses: Buses,
    states: watch::Sender<NumberState>,
) -> anyhow::Result<()> {
    let Some(outlet) = outlets.open_outlet(&number.id, &number.kind) else {
        return pending().await;
    };
    let file = number::NumberFile {
        path: number.file,
        scale: number.scale,
        offset: number.offset,
        every: number.every,
    };
    number::watch_file(file, outlet, buses, states).await;
    Ok(())
}

async fn serve_inbox(
    inbox: config::Inbox,
    outlets: Outlets,
    counters: Arc<inbox::Counters>,
    owners: watch::Receiver<Arc<Owners>>,
) -> anyhow::Result<()> {
    let admission = limited_to(&inbox).map_or(SourceAdmission::Any, SourceAdmission::Only);
    let mut backoff = Backoff::new(Duration::from_secs(1), RETRY_MAX);
    let listener = loop {
        match inbox::bind_inbox(&inbox.path) {
            Ok(listener) => break listener,
            Err(error) => {
                tracing::error!(path = %inbox.path.display(), %error, "no inbox");
                tokio::time::sleep(
                    backoff.wait_after_failure(ConnectFailure::Network, fastrand::f64()),
                )
                .await;
            }
        }
    };
    let service = inbox::Service {
        admission,
        forbidden: inbox.forbidden,
        sources: outlets.sources,
        chunks: outlets.chunks,
        counters,
        memory: outlets.memory,
        owners,
        clock: outlets.clock,
    };
    inbox::serve_clients(listener, service).await;
    Ok(())
}

/// Reads a recording on a separate thread.
async fn read_recording(path: &Path) -> anyhow::Result<Recording> {
    let path = path.to_owned();
    let read = move || {
        let text = String::from_utf8(regular::read_file(&path, MAX_RECORDING_BYTES)?)?;
        anyhow::Ok(Recording::parse_csv(&text)?)
    };
    BlockingWorker::new("recording").run(READING_A_RECORDING, read).await?
}

async fn run_simulated(simulated: config::Simulated, outlets: Outlets) -> anyhow::Result<()> {
    let Some(outlet) = outlets.open_outlet(&simulated.id, simulated.kind.as_str()) else {
        return pending().await;
    };
    let (mean, spread) = (simulated.first_mean(), simulated.spread);
    let kind = match (&simulated.replay, simulated.kind) {
        (Some(path), _) => match read_recording(path).await {
            Ok(recording) => simulated::SimulatedKind::Replay(Arc::new(recording)),
            Err(error) => {
                let reason = format!("`{}`: {error:#}", path.display());
                outlet.send_no_reading(NoReading::Absent(reason)).await;
                return pending().await;
            }
        },
        (None, SimulatedKind::HeartRate) => {
            simulated::SimulatedKind::HeartRate { mean_bpm: mean, spread, rr: simulated.rr }
        }
        (None, SimulatedKind::Number) => simulated::SimulatedKind::Number { mean, spread },
        (None, SimulatedKind::Lid) => simulated::SimulatedKind::Line { open: SIMULATED_OPEN },
    };
    let driver = simulated::Simulated {
        kind,
        every: (!simulated.every.is_zero()).then_some(simulated.every),
        seed: simulated.seed,
        steps: simulated.steps.iter().map(|step| (step.at, step.mean)).collect(),
        faults: simulated::Faults {
            contact_lost: simulated.faults.contact_lost,
            spikes: simulated.faults.spikes,
            garbage: simulated.faults.garbage,
            silences: simulated
                .faults
                .silences
                .iter()
                .map(|silence| silence.at..silence.at + silence.lasts)
                .collect(),
            bounces: simulated.faults.bounces,
        },
    };
    simulated::run_simulation(driver, outlet).await;
    Ok(())
}
