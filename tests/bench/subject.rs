//! Who is measured: the agent, a mosquitto that bridges, and a script.

use std::ffi::OsStr;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use pulsegate_tests::PATIENCE;
use pulsegate_tests::agent_process::{Agent, Device};
use pulsegate_tests::certs::Issued;
use pulsegate_tests::mosquitto;
use pulsegate_tests::process::Process;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::cloud::Cloud;
use crate::feed::{self, Fed};
use crate::measure;

/// The names of the things, which are also in their topics.
pub(crate) const THINGS: [&str; 4] = [GATEWAY, "bridge", "python", "gateway-10s"];
pub(crate) const GATEWAY: &str = "gateway";
const SHORT: &str = "{ s = \"seq\", i = \"source\", t = \"time_ms\", v = \"value\" }";
/// As large as most brokers take without being asked.
pub(crate) const BATCH: &str = "{ bytes = \"40KiB\", delay = \"10ms\" }";

/// The form of the readings that the agent publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordForm {
    Standard,
    /// Short keys: what a record needs to be told apart, placed and read.
    Short,
    Columns,
}

/// What carries readings to the cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The agent, which publishes readings in this form.
    Agent { form: RecordForm },
    /// A mosquitto as it is on a device, with a bridge to the cloud.
    Bridge,
    /// A script, by this interpreter.
    Python(PathBuf),
}

impl Subject {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Agent { form: RecordForm::Short } => "pulsegate, short records",
            Self::Agent { form: RecordForm::Standard } => "pulsegate",
            Self::Agent { form: RecordForm::Columns } => "pulsegate, columns",
            Self::Bridge => "mosquitto bridge",
            Self::Python(_) => "Python + SQLite",
        }
    }

    /// Starts it, and waits until a first reading has come through.
    pub(crate) async fn start(&self, cloud: &Cloud, port: u16, counts: Option<&Path>) -> Running {
        let running = match self {
            Self::Agent { form } => {
                let device = device(cloud, GATEWAY, port, *form);
                let device = match counts {
                    Some(counts) => device.under(&measure::tracer(counts)),
                    None => device,
                };
                Running::Agent { agent: device.start(), device }
            }
            Self::Bridge => bridge(cloud, port, counts).await,
            Self::Python(interpreter) => python(interpreter, cloud, port, counts),
        };
        cloud.expect(1);
        running.feed(0..1).await;
        cloud.hears().await;
        running
    }
}

/// A device that publishes to `port`, at a pace that nobody limits.
pub(crate) fn device(cloud: &Cloud, thing: &str, port: u16, form: RecordForm) -> Device {
    let identity = cloud.certs.device(thing);
    let device = Device::new(thing)
        .identity(&identity.files)
        .broker(port, &cloud.certs.ca())
        .set("link", "window", "16")
        .set("publish.readings", "batch", BATCH);
    match form {
        RecordForm::Standard => device,
        RecordForm::Short => device.set("publish.readings", "fields", SHORT),
        RecordForm::Columns => device.set("publish.readings", "format", "\"columns\""),
    }
}

/// A subject that runs.
pub(crate) enum Running {
    Agent { device: Device, agent: Agent },
    Bridge { process: Process, port: u16, _dir: TempDir },
    Python { process: Process, socket: PathBuf, _dir: TempDir },
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        match self {
            Self::Agent { agent, .. } => agent.pid(),
            Self::Bridge { process, .. } | Self::Python { process, .. } => process.pid(),
        }
    }

    /// Feeds it readings in the way that it takes them.
    pub(crate) async fn feed(&self, readings: Range<u32>) -> Fed {
        match self {
            Self::Agent { device, .. } => {
                let clients = feed::CLIENTS.min(readings.end - readings.start);
                feed::socket(&device.inbox_path(), clients, readings).await
            }
            Self::Bridge { port, .. } => feed::mqtt(*port, "readings", readings).await,
            Self::Python { socket, .. } => feed::socket(socket, 1, readings).await,
        }
    }

    /// Ends it in order.
    pub(crate) async fn stop(self) {
        match self {
            Self::Agent { mut agent, .. } => {
                agent.stop().await;
            }
            Self::Bridge { mut process, .. } | Self::Python { mut process, .. } => {
                process.signal(Signal::TERM);
                process.wait(PATIENCE).await;
            }
        }
    }
}

/// Tuned to lose little: it saves what it holds each second, and drops nothing.
async fn bridge(cloud: &Cloud, cloud_port: u16, counts: Option<&Path>) -> Running {
    let dir = TempDir::with_prefix("pulsegate-bridge-").expect("a temporary directory");
    let port = mosquitto::free_port();
    let Issued { files, .. } = cloud.certs.device("bridge");
    let text = format!(
        "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n\
         log_type error\nsys_interval 0\n\
         persistence true\npersistence_location {}/\nautosave_interval 1\n\
         max_inflight_messages 100\nmax_queued_messages 0\n\
         connection cloud\naddress localhost:{cloud_port}\nremote_clientid bridge\n\
         cleansession false\nnotifications false\ntry_private false\n\
         bridge_cafile {}\nbridge_certfile {}\nbridge_keyfile {}\n\
         topic readings out 1 \"\" pulsegate/bridge/\n",
        dir.path().display(),
        cloud.certs.ca().display(),
        files.certificate.display(),
        files.private_key.display(),
    );
    let config = dir.path().join("mosquitto.conf");
    #[expect(clippy::disallowed_methods, reason = "a temporary file")]
    fs::write(&config, text).expect("writes a configuration");
    let mut command = measure::command(&mosquitto::program(), counts);
    command.arg("-c").arg(&config);
    let process = Process::start("mosquitto", &mut command, &dir.path().join("log"));
    pulsegate_tests::eventually("the bridge listens", PATIENCE, async || {
        TcpStream::connect(("127.0.0.1", port)).await.ok()
    })
    .await;
    Running::Bridge { process, port, _dir: dir }
}

fn python(interpreter: &Path, cloud: &Cloud, port: u16, counts: Option<&Path>) -> Running {
    let dir = TempDir::with_prefix("pulsegate-python-").expect("a temporary directory");
    let socket = dir.path().join("readings.sock");
    let Issued { files, .. } = cloud.certs.device("python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/python_sqlite.py");
    let mut command = measure::command(interpreter, counts);
    command.current_dir(dir.path()).arg(script).arg(&socket).arg(port.to_string());
    command.arg(cloud.certs.ca()).args([&files.certificate, &files.private_key]);
    command.arg("pulsegate/python/readings");
    let process = Process::start("python", &mut command, &dir.path().join("log"));
    Running::Python { process, socket, _dir: dir }
}

/// A Python that can publish: the system's if it has paho-mqtt, else one in `target/`, if that can
/// be made. Otherwise why not.
pub(crate) fn interpreter() -> Result<PathBuf, &'static str> {
    let system = Path::new("python3");
    if can_publish(system) {
        return Ok(system.into());
    }
    let target = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.to_owned()));
    let venv = target.ok_or("no place for a virtual environment")?.join("bench-python");
    let python = venv.join("bin/python3");
    if can_publish(&python) {
        return Ok(python);
    }
    let runs = |program: &Path, arguments: &[&OsStr]| {
        Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
    };
    let words = |words: &'static str| words.split(' ').map(OsStr::new);
    let make: Vec<_> = words("-m venv").chain([venv.as_os_str()]).collect();
    let install: Vec<_> = words("-m pip install --quiet paho-mqtt").collect();
    if runs(system, &make) && runs(&python, &install) && can_publish(&python) {
        return Ok(python);
    }
    Err("no Python with paho-mqtt, and pip cannot install it")
}

fn can_publish(python: &Path) -> bool {
    let import = ["-c", "import sqlite3, paho.mqtt.client"];
    Command::new(python).args(import).output().is_ok_and(|output| output.status.success())
}
