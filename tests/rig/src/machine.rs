//! One life of the virtual machine: a QEMU process, its monitor, its guest agent.
//!
//! It is emulated (TCG), since nobody has KVM everywhere. Its clock begins in 1970 and no clock chip
//! is found, as on a Raspberry Pi. A machine can be saved while it runs, memory and disk, and be
//! started from that as often as needed; killed, it leaves its disk as a power cut would.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use pulsegate_tests::eventually;
use pulsegate_tests::process::Process;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::device_tree;
use crate::guest::Guest;
use crate::image::{Arch, Image};
use crate::wire::Wire;

/// Half a gigabyte is written or read.
const MEMORY_MOVES: Duration = Duration::from_secs(120);
/// A killed process is gone at once, one that was asked to stop soon.
const END: Duration = Duration::from_secs(30);
/// The scratch disk, sparse: for file systems that fill up or fail.
pub const SCRATCH_BYTES: u64 = 512 * 1024 * 1024;
/// Where the guest's inbox can be reached, on loopback.
pub const INBOX_PORT: u16 = 7000;

/// A machine at rest: what is on its disk, and in its memory.
#[derive(Debug, Clone)]
pub struct Saved {
    dir: PathBuf,
}

/// How a machine starts.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// Cold, from the disk that is in its directory, or from the image if there is none yet.
    Cold,
    /// In the midst of life.
    From(&'a Saved),
}

/// A running machine; killed when dropped.
#[derive(Debug)]
pub struct Machine {
    process: Process,
    monitor: Wire,
    /// Commands in it.
    pub guest: Guest,
    dir: PathBuf,
}

impl Saved {
    /// What was saved in this directory, if something was.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Option<Self> {
        dir.join("complete").exists().then(|| Self { dir: dir.to_owned() })
    }

    fn disk(&self) -> PathBuf {
        self.dir.join("disk.qcow2")
    }

    fn memory(&self) -> PathBuf {
        self.dir.join("memory")
    }
}

impl Machine {
    /// Starts one with its disk, sockets and logs in `dir`.
    ///
    /// # Errors
    /// QEMU does not come up.
    pub async fn start(image: &Image, start: Start<'_>, dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        prepare_disks(image, start, dir)?;
        let mut command = Command::new(image.arch.qemu());
        command.current_dir(dir).args(arguments(image));
        if image.arch == Arch::Arm64 {
            let tree = device_tree::write(image.arch.qemu(), image.arch.machine(), dir)?;
            command.arg("-dtb").arg(tree);
        }
        if let Start::From(_) = start {
            // What came from elsewhere is handed over as soon as somebody asks for it.
            command.args(["-incoming", "defer"]);
        }
        let process = Process::start("qemu", &mut command, &dir.join("qemu.log"));
        let mut monitor = Wire::connect(&dir.join("monitor.sock")).await;
        monitor.receive().await.context("QEMU's greeting")?;
        let guest = Guest::connect(&dir.join("agent.sock")).await;
        let mut machine = Self { process, monitor, guest, dir: dir.to_owned() };
        machine.ask("qmp_capabilities", json!({})).await?;
        if let Start::From(saved) = start {
            let uri = format!("file:{}", saved.memory().display());
            machine.ask("migrate-incoming", json!({ "uri": uri })).await?;
            machine.wait_moved().await?;
            // It was stopped when it was saved.
            machine.ask("cont", json!({})).await?;
        }
        Ok(machine)
    }

    /// Ends it, and keeps memory and disk in `to`, which becomes a directory.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn save(mut self, to: &Path) -> Result<Saved> {
        self.guest.sh("sync").await?;
        let building = to.with_extension("building");
        drop(std::fs::remove_dir_all(&building));
        std::fs::create_dir_all(&building)?;
        self.ask("stop", json!({})).await?;
        let uri = format!("file:{}", building.join("memory").display());
        self.ask("migrate", json!({ "uri": uri })).await?;
        self.wait_moved().await?;
        self.quit().await?;
        std::fs::copy(self.dir.join("disk.qcow2"), building.join("disk.qcow2"))?;
        File::create(building.join("complete"))?;
        drop(std::fs::remove_dir_all(to));
        #[expect(clippy::disallowed_methods, reason = "a cache need not be durable")]
        std::fs::rename(&building, to)?;
        Ok(Saved { dir: to.to_owned() })
    }

    /// Pulls the plug. What the guest had not flushed is lost, as far as QEMU still held it.
    pub async fn power_cut(mut self) {
        self.process.signal(Signal::KILL);
        self.process.wait(END).await;
    }

    /// The far end of the cable to its Bluetooth chip.
    #[must_use]
    pub fn radio_socket(&self) -> PathBuf {
        self.dir.join("radio.sock")
    }

    /// The scratch disk, as the guest has written it.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.dir.join("scratch.raw")
    }

    /// What the guest's kernel and systemd said on the first serial port.
    #[must_use]
    pub fn console(&self) -> String {
        let bytes = std::fs::read(self.dir.join("console.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Plugs the network cable, or pulls it.
    ///
    /// # Errors
    /// QEMU refuses.
    pub async fn set_link(&mut self, up: bool) -> Result<()> {
        self.ask("set_link", json!({ "name": "net0", "up": up })).await.map(drop)
    }

    /// Asks QEMU's monitor.
    ///
    /// # Errors
    /// It refuses, or is gone.
    pub async fn ask(&mut self, command: &str, arguments: Value) -> Result<Value> {
        self.monitor.send(&json!({ "execute": command, "arguments": arguments })).await?;
        loop {
            let answer = self.monitor.receive().await?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if answer.get("error").is_some() {
                bail!("QEMU refuses `{command}`: {answer}");
            }
        }
    }

    async fn wait_moved(&mut self) -> Result<()> {
        let moved = async {
            loop {
                let state = self.ask("query-migrate", json!({})).await?;
                match state["status"].as_str() {
                    Some("completed") => return Ok(()),
                    Some("failed") => return Err(anyhow!("memory did not move: {state}")),
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(MEMORY_MOVES, moved).await?
    }

    async fn quit(&mut self) -> Result<()> {
        self.ask("quit", json!({})).await?;
        eventually("QEMU ends", END, async || self.process.exited()).await;
        Ok(())
    }
}

/// Every start writes to a layer of its own, so that what is shared stays as it is; a cold one goes
/// on with the layer that is there.
fn prepare_disks(image: &Image, start: Start<'_>, dir: &Path) -> Result<()> {
    let disk = dir.join("disk.qcow2");
    let (below, format) = match start {
        Start::From(saved) => (saved.disk(), "qcow2"),
        Start::Cold => (image.root(), "raw"),
    };
    if matches!(start, Start::From(_)) || !disk.exists() {
        let mut create = Command::new("qemu-img");
        create.args(["create", "-q", "-f", "qcow2", "-F", format, "-b"]).arg(below).arg(&disk);
        let status = create.status().context("cannot start qemu-img")?;
        anyhow::ensure!(status.success(), "qemu-img create failed, {status}");
    }
    for socket in ["monitor.sock", "agent.sock", "radio.sock"] {
        drop(std::fs::remove_file(dir.join(socket)));
    }
    let scratch = File::options().create(true).append(true).open(dir.join("scratch.raw"))?;
    Ok(scratch.set_len(SCRATCH_BYTES)?)
}

/// The machine, with every file in the current directory. The first two disks are the root and the
/// scratch disk; the serial port on the PCI bus is the Bluetooth chip.
fn arguments(image: &Image) -> Vec<String> {
    let forward = format!("user,id=net0,hostfwd=tcp:127.0.0.1:{INBOX_PORT}-:{INBOX_PORT}");
    let append = format!(
        "root=/dev/vda rw console={} quiet systemd.show_status=0 \
         mitigations=off nokaslr audit=0 nowatchdog cryptomgr.notests \
         rcupdate.rcu_expedited=1 initcall_blacklist=cmos_init",
        image.arch.console()
    );
    let image_file = |name: &str| image.dir.join(name).display().to_string();
    let (kernel, initrd) = (image_file("vmlinuz"), image_file("initrd"));
    let mut arguments: Vec<String> = image.arch.machine().iter().map(ToString::to_string).collect();
    let rest = [
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-accel",
        "tcg,thread=multi,tb-size=256",
        "-kernel",
        &kernel,
        "-initrd",
        &initrd,
        "-append",
        &append,
        "-rtc",
        "base=1970-01-01T00:00:00,clock=vm",
        "-qmp",
        "unix:monitor.sock,server=on,wait=off",
        "-chardev",
        "file,id=console,path=console.log,append=on",
        "-serial",
        "chardev:console",
        "-chardev",
        "socket,id=radio,path=radio.sock,server=on,wait=off",
        "-device",
        "pci-serial,chardev=radio",
        "-chardev",
        "socket,id=agent,path=agent.sock,server=on,wait=off",
        "-device",
        "virtio-serial-pci",
        "-device",
        "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
        "-netdev",
        &forward,
        "-device",
        "virtio-net-pci,id=nic0,netdev=net0,romfile=",
        "-drive",
        "if=none,id=root,file=disk.qcow2,format=qcow2",
        "-device",
        "virtio-blk-pci,drive=root",
        "-drive",
        "if=none,id=scratch,file=scratch.raw,format=raw",
        "-device",
        "virtio-blk-pci,drive=scratch",
        "-device",
        "virtio-rng-pci",
    ];
    arguments.extend(rest.iter().map(ToString::to_string));
    arguments
}
