//! Runs the heart-rate driver alone and prints what it says, a JSON object a line: so that tests can have
//! it in a process of its own, whose system bus is the one they fake.
//!
//! Its one argument is a JSON object: `monitors` (each with an `address` or a `name`; the place in the list
//! is the source), and optionally `adapter` and `silence_ms`. It watches again
//! after a fault, as the agent does; when its standard input ends it stops watching, and says no more until killed.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use pulsegate_sensors::heart_rate::MonitorIdentity;
use pulsegate_sensors::heart_rate::bluez::{self, BluezOptions, MonitorState, WatchedMonitor};
use pulsegate_sensors::{Measurement, NoReading, Observation, Outlet, SourceId};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

/// Stands for the agent's backoff.
const RETRY: Duration = Duration::from_millis(200);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let wanted: Value = serde_json::from_str(&std::env::args().nth(1).context("no argument")?)?;
    let (observed, mut observations) = mpsc::channel(64);
    let monitors = monitors(&wanted, &observed)?;
    drop(observed);
    let options = options(&wanted);
    let (states, mut changes) = watch::channel(Vec::new());

    let watch = async {
        loop {
            match bluez::watch_monitors(monitors.clone(), options.clone(), states.clone()).await {
                Ok(()) => return Ok(()),
                Err(fault) => print(&json!({ "fault": fault.to_string() }))?,
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    let tell = async {
        loop {
            tokio::select! {
                Some(observation) = observations.recv() => print(&shown(&observation))?,
                Ok(()) = changes.changed() => {
                    let states: Vec<_> = changes.borrow_and_update().iter().map(state).collect();
                    print(&json!({ "states": states }))?;
                }
                else => return Ok(()),
            }
        }
    };
    let told_to_stop =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    tokio::select! {
        ended = watch => return ended,
        ended = tell => return ended,
        _ = told_to_stop => {}
    }
    std::future::pending().await
}

fn monitors(wanted: &Value, observed: &mpsc::Sender<Observation>) -> Result<Vec<WatchedMonitor>> {
    let listed = wanted["monitors"].as_array().context("no monitors")?;
    let monitor = |(source, monitor): (u32, &Value)| {
        let identity = match (monitor["address"].as_str(), monitor["name"].as_str()) {
            (Some(address), None) => MonitorIdentity::Address(address.parse()?),
            (None, Some(name)) => MonitorIdentity::from_name(name),
            _ => bail!("neither an address nor a name, or both"),
        };
        Ok(WatchedMonitor { identity, outlet: Outlet::new(SourceId(source), observed.clone()) })
    };
    (0..).zip(listed).map(monitor).collect()
}

/// Everything ten to twenty times as fast as with real belts.
fn options(wanted: &Value) -> BluezOptions {
    let silence = Duration::from_millis(wanted["silence_ms"].as_u64().unwrap_or(1000));
    BluezOptions {
        adapter: wanted["adapter"].as_str().map(str::to_owned),
        silence,
        first_packet: silence * 3,
        late: silence / 4,
        connect: silence * 3,
        call: silence * 2,
        look_every: Duration::from_millis(50),
        rescan_every: Duration::from_millis(500),
        retry: Duration::from_millis(50),
        power_cycle_every: silence * 6,
    }
}

fn shown(observation: &Observation) -> Value {
    let source = observation.source.0;
    match &observation.outcome {
        Ok(Measurement::HeartRate(heart)) => {
            json!({ "source": source, "bpm": heart.bpm, "rr": heart.rr })
        }
        Ok(Measurement::Line(_) | Measurement::Number(_)) => {
            json!({ "source": source, "wrong": true })
        }
        Err(reason) => {
            let kind = match reason {
                NoReading::Absent(_) => "absent",
                NoReading::Silent { .. } => "silent",
                NoReading::Hung { .. } => "hung",
                NoReading::Garbage(_) => "garbage",
                NoReading::Failed(_) => "failed",
            };
            json!({ "source": source, "nothing": kind, "reason": reason.to_string() })
        }
    }
}

fn state(state: &MonitorState) -> Value {
    let rungs = state.rungs;
    json!({
        "source": state.source.0,
        "connected": state.connected,
        "lost": state.lost,
        "battery": state.battery_percent,
        "location": state.location.map(|location| location.as_str()),
        "packets": state.packets,
        "malformed": state.malformed,
        "rungs": {
            "subscribe": rungs.subscribe,
            "reconnect": rungs.reconnect,
            "forget": rungs.forget,
            "power_cycle": rungs.power_cycle,
            "report": rungs.report,
        },
        "last_error": state.last_error,
    })
}

fn print(line: &Value) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context("nobody reads")
}
