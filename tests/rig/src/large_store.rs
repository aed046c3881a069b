//! A large store, filled on this machine by the agent itself: the guest would take minutes for it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pulsegate_tests::process::Process;
use pulsegate_tests::site::THING;
use pulsegate_tests::{PATIENCE, eventually};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::package;
use crate::rig::Rig;

/// The source of all its readings, and their kind.
const SOURCE: &str = "meter";
const KIND: &str = "word";
/// Each reading is a word of so many bytes, the longest there is; with it a reading takes 85 bytes in the store.
const WORD_BYTES: usize = 64;
/// Lines in one write to the inbox.
const PORTION: usize = 5_000;
/// Bounds the wait for an answer on a loaded machine.
const ANSWER: Duration = Duration::from_secs(60);
/// The unit in which SQLite reads and writes the store.
const PAGE_BYTES: u64 = 1024;
/// The percent of the pages between which damage lies: the tables that tell the meaning of the records lie before,
/// the last records behind.
const DAMAGED_PERCENT: std::ops::Range<u64> = 20..90;
const MOUNT: &str = "blockdev --flushbufs /dev/vdb && mkdir -p /var/lib/pulsegate && \
    mount /dev/vdb /var/lib/pulsegate && rmdir /var/lib/pulsegate/lost+found && \
    chown -R pulsegate:pulsegate /var/lib/pulsegate";

/// A directory with the configuration, the sockets and the store of an agent on this machine.
#[derive(Debug)]
pub(crate) struct LargeStore {
    dir: TempDir,
}

impl LargeStore {
    /// Fills a new store with so many readings, none of them delivered, and ends the agent by `end`.
    ///
    /// # Errors
    /// There is no agent for this machine, or it refuses a reading.
    pub(crate) async fn fill(rig: &Rig, readings: usize, end: Signal) -> Result<Self> {
        let store = Self { dir: TempDir::with_prefix("pulsegate-rig-")? };
        std::fs::create_dir(store.path("state"))?;
        File::create(store.path("pulsegate.toml"))?.write_all(store.config(rig).as_bytes())?;
        let mut command = Command::new(package::program(&rig.package, store.dir.path())?);
        command.args(["run", "--config"]).arg(store.path("pulsegate.toml"));
        let mut agent = Process::start("pulsegate", &mut command, &store.path("agent.log"));
        let socket = store.path("inbox.sock");
        let connect = async || UnixStream::connect(&socket).ok();
        let inbox = eventually("the inbox takes connections", PATIENCE, connect).await;
        let handed_over = tokio::task::spawn_blocking(move || hand_over(&inbox, readings)).await?;
        handed_over.with_context(|| {
            std::fs::read_to_string(store.path("agent.log")).unwrap_or_default()
        })?;
        agent.signal(end);
        agent.wait(PATIENCE).await;
        Ok(store)
    }

    /// The size of the database.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn bytes(&self) -> Result<u64> {
        Ok(std::fs::metadata(self.database())?.len())
    }

    /// Overwrites so many pages in the middle of the database with noise.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn damage(&self, pages: usize, random: &mut fastrand::Rng) -> Result<()> {
        let file = File::options().write(true).open(self.database())?;
        let place = |percent: u64| self.bytes().map(|bytes| bytes / PAGE_BYTES * percent / 100);
        let middle = place(DAMAGED_PERCENT.start)?..place(DAMAGED_PERCENT.end)?;
        for _ in 0..pages {
            let page = random.u64(middle.clone());
            let noise: Vec<u8> = (0..PAGE_BYTES).map(|_| random.u8(..)).collect();
            file.write_all_at(&noise, page * PAGE_BYTES)?;
        }
        Ok(())
    }

    /// Makes a file system of so many MiB on the scratch disk that holds the store, and mounts it as the state
    /// directory of the device.
    ///
    /// # Errors
    /// The store does not fit, or the device does not mount it.
    pub(crate) async fn mount(&self, rig: &mut Rig, mib: u64, block_bytes: u32) -> Result<()> {
        let scratch = rig.device.machine().scratch();
        let mut command = Command::new("mke2fs");
        // Debian keeps it where only root's path looks.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        command.args(["-q", "-F", "-t", "ext4", "-m", "0", "-b", &block_bytes.to_string()]);
        command.args(["-E", "root_owner=0:0,lazy_itable_init=0,nodiscard", "-d"]);
        command.arg(self.path("state")).arg(scratch).arg(format!("{mib}M"));
        let status = command.status().context("cannot start mke2fs")?;
        ensure!(status.success(), "mke2fs failed, {status}");
        rig.device.sh(MOUNT).await.map(drop)
    }

    /// Leads to a port on which nothing listens.
    fn config(&self, rig: &Rig) -> String {
        let files = &rig.site.identity.files;
        let quoted = |path: &Path| format!("{:?}", path.display().to_string());
        format!(
            "thing = \"{THING}\"\nendpoint = \"localhost\"\nstate_dir = {}\n\
             [identity]\ncertificate = {}\nprivate_key = {}\nroots = {}\n\
             [link]\nports = [1]\nlimits = \"none\"\n[clock]\ntrust = \"system\"\n\
             [status]\nsocket = {}\n[[inbox]]\npath = {}\n",
            quoted(&self.path("state")),
            quoted(&files.certificate),
            quoted(&files.private_key),
            quoted(&rig.site.ca()),
            quoted(&self.path("status.sock")),
            quoted(&self.path("inbox.sock")),
        )
    }

    fn database(&self) -> PathBuf {
        self.path("state/pulsegate.db")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Writes so many readings to the inbox, and waits until all are answered.
fn hand_over(inbox: &UnixStream, readings: usize) -> Result<()> {
    inbox.set_read_timeout(Some(ANSWER))?;
    let line = json!({ "source": SOURCE, "kind": KIND, "value": "x".repeat(WORD_BYTES) });
    let line = format!("{line}\n");
    let portion = line.repeat(PORTION);
    std::thread::scope(|scope| -> Result<()> {
        // The agent answers while it reads: writing and reading must not wait for each other.
        let write = scope.spawn(|| {
            let (mut inbox, mut left) = (inbox, readings);
            while left > 0 {
                let count = left.min(PORTION);
                inbox.write_all(&portion.as_bytes()[..count * line.len()])?;
                left -= count;
            }
            Ok::<_, std::io::Error>(())
        });
        let answered = await_answers(inbox, readings);
        if answered.is_err() {
            // The writer must not wait for ever.
            inbox.shutdown(std::net::Shutdown::Both)?;
        }
        write.join().expect("writing does not panic")?;
        answered
    })
}

fn await_answers(mut inbox: &UnixStream, count: usize) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut answers = 0;
    while answers < count {
        let read = inbox.read(&mut buffer).context("the inbox does not answer")?;
        ensure!(read > 0, "the agent has ended");
        let text = String::from_utf8_lossy(&buffer[..read]);
        ensure!(!text.contains("error"), "a reading was refused: {text}");
        answers += text.matches('\n').count();
    }
    Ok(())
}
