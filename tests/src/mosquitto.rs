//! Debian's mosquitto, as a broker that we did not write: mutual TLS on a loopback port, the common
//! name of a certificate as user name, and topics by user.
//!
//! It never refuses a forbidden publish, it only drops it: that is what MQTT 3.1.1 lets it do. What
//! arrives is what a [`Subscriber`] sees, which connects as the user [`WATCHER`].

use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::certs::{Certs, Issued, write};
use crate::process::Process;
use crate::subscriber::Subscriber;
use crate::{PATIENCE, eventually};

/// The user that may read everything.
pub const WATCHER: &str = "watcher";

/// Below the ports that the kernel gives to outgoing connections, so that the port is still free
/// when a stopped broker wants it back.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Another test may take the port between the look and the start.
const ATTEMPTS: u32 = 20;

/// How a broker is to be. The default knows no thing, has a good certificate and keeps nothing.
#[derive(Debug, Default)]
pub struct Options {
    things: Vec<(String, Vec<String>)>,
    server: Option<Issued>,
    revocation_list: Option<PathBuf>,
    persistent: bool,
    lines: String,
}

impl Options {
    /// Lets `thing` write `pulsegate/<thing>/#`.
    #[must_use]
    pub fn thing(self, thing: &str) -> Self {
        self.thing_with(thing, &[])
    }

    /// Lets `thing` write these topic filters too.
    #[must_use]
    pub fn thing_with(mut self, thing: &str, topics: &[&str]) -> Self {
        let own = format!("readwrite pulsegate/{thing}/#");
        let write = topics.iter().map(|topic| format!("write {topic}"));
        self.things.push((thing.to_owned(), std::iter::once(own).chain(write).collect()));
        self
    }

    /// Lets `thing` write these topic filters, and no others.
    #[must_use]
    pub fn thing_writing(mut self, thing: &str, topics: &[&str]) -> Self {
        let topics = topics.iter().map(|topic| format!("write {topic}")).collect();
        self.things.push((thing.to_owned(), topics));
        self
    }

    /// Shows this certificate instead of a good one.
    #[must_use]
    pub fn server(mut self, server: Issued) -> Self {
        self.server = Some(server);
        self
    }

    /// Refuses the certificates on this list.
    #[must_use]
    pub fn revocation_list(mut self, list: PathBuf) -> Self {
        self.revocation_list = Some(list);
        self
    }

    /// Keeps sessions and what is queued for them over a [`Mosquitto::stop`]; after a
    /// [`Mosquitto::kill`], up to a second of it is missing.
    #[must_use]
    pub fn persistent(mut self) -> Self {
        self.persistent = true;
        self
    }

    /// Adds a line to its configuration.
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push_str(line);
        self.lines.push('\n');
        self
    }
}

/// A running, or stopped, broker; killed when dropped.
#[derive(Debug)]
pub struct Mosquitto {
    process: Option<Process>,
    dir: TempDir,
    port: u16,
    ca: PathBuf,
    watcher: Issued,
}

impl Mosquitto {
    /// Starts a broker and waits until it listens.
    pub async fn start(certs: &Certs, options: Options) -> Self {
        let dir = TempDir::with_prefix("pulsegate-mosquitto-").expect("a temporary directory");
        write(&dir.path().join("acl"), &acl(&options));
        let watcher = certs.device(WATCHER);
        let server = options.server.clone().unwrap_or_else(|| certs.broker());
        let mut broker = Self { process: None, dir, port: 0, ca: certs.ca(), watcher };
        for _ in 0..ATTEMPTS {
            broker.port = free_port();
            let text = broker.configuration(&options, &server);
            write(&broker.dir.path().join("mosquitto.conf"), &text);
            if broker.try_start().await {
                return broker;
            }
        }
        panic!("mosquitto does not start:\n{}", broker.log());
    }

    /// Its port on 127.0.0.1; for TLS it is called [`crate::certs::HOST`].
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process, to be measured.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Everything that it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Connects a new [`Subscriber`] to `filter` and waits until it is subscribed.
    pub async fn subscribe(&self, filter: &str) -> Subscriber {
        Subscriber::connect(self.port, &self.ca, &self.watcher.files, filter).await
    }

    /// Stops it in order: clients are disconnected, and a persistent one saves what it holds.
    pub async fn stop(&mut self) {
        self.end(Signal::TERM).await;
    }

    /// Kills it.
    pub async fn kill(&mut self) {
        self.end(Signal::KILL).await;
    }

    /// Starts a stopped one again, on its port.
    pub async fn start_again(&mut self) {
        assert!(self.process.is_none(), "mosquitto is already running");
        for _ in 0..ATTEMPTS {
            if self.try_start().await {
                return;
            }
        }
        panic!("mosquitto does not start again:\n{}", self.log());
    }

    async fn end(&mut self, signal: Signal) {
        let mut process = self.process.take().expect("mosquitto is running");
        process.signal(signal);
        let status = process.wait(PATIENCE).await;
        assert!(
            status.success() || status.signal() == Some(signal.as_raw()),
            "mosquitto ended by itself, {status}:\n{}",
            self.log()
        );
    }

    /// Whether it came up; if not, somebody else has its port.
    async fn try_start(&mut self) -> bool {
        let before = self.log().len();
        let mut command = Command::new(program());
        command.arg("-c").arg(self.dir.path().join("mosquitto.conf"));
        let mut process = Process::start("mosquitto", &mut command, &self.log_path());
        let up = eventually("mosquitto starts or fails", PATIENCE, async || {
            if process.exited().is_some() {
                return Some(false);
            }
            // Its own word first: the port alone could be another test's broker.
            let running = self.log()[before..].contains(" running");
            let up = running && TcpStream::connect(("127.0.0.1", self.port)).await.is_ok();
            up.then_some(true)
        })
        .await;
        if up {
            self.process = Some(process);
        }
        up
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("mosquitto.log")
    }

    fn configuration(&self, options: &Options, server: &Issued) -> String {
        let dir = self.dir.path().display();
        // `user root` only says that it stays who it is when it is started as root.
        let mut text = format!(
            "user root\n\
             listener {} 127.0.0.1\n\
             cafile {}\ncertfile {}\nkeyfile {}\n\
             require_certificate true\nuse_identity_as_username true\nallow_anonymous false\n\
             acl_file {dir}/acl\n\
             log_dest stderr\nlog_type all\n\
             sys_interval 0\nset_tcp_nodelay true\n\
             max_inflight_messages 100\nmax_queued_messages 0\nmax_queued_bytes 0\n\
             persistence {}\npersistence_location {dir}/\nautosave_interval 1\n",
            self.port,
            self.ca.display(),
            server.files.certificate.display(),
            server.files.private_key.display(),
            options.persistent,
        );
        if let Some(list) = &options.revocation_list {
            writeln!(text, "crlfile {}", list.display()).expect("a string takes all");
        }
        text + &options.lines
    }
}

fn acl(options: &Options) -> String {
    let mut text = format!("user {WATCHER}\ntopic read #\n");
    for (thing, topics) in &options.things {
        writeln!(text, "\nuser {thing}").expect("a string takes all");
        for topic in topics {
            writeln!(text, "topic {topic}").expect("a string takes all");
        }
    }
    text
}

/// A port on which nobody listens.
///
/// # Panics
/// When twenty at random are taken.
#[must_use]
pub fn free_port() -> u16 {
    (0..ATTEMPTS)
        .map(|_| fastrand::u16(PORTS))
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .expect("one of 20 ports is free")
}

/// The program. Debian puts it where only root's path looks.
///
/// # Panics
/// When it is not installed.
#[must_use]
pub fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|dir| dir.join("mosquitto"))
        .find(|program| program.is_file())
        .expect("mosquitto is missing: run `tests/install-packages`")
}
