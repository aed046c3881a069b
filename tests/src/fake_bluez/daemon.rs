//! A private `dbus-daemon` that lets anybody own any name.

use std::fs::File;
use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

/// How long a bus may take to listen: it takes milliseconds, but a loaded machine more.
const START_LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Daemon {
    home: TempDir,
    address: String,
    process: Child,
}

impl Daemon {
    pub(super) async fn start() -> Result<Self> {
        let home = tempfile::Builder::new().prefix("pulsegate-bus-").tempdir()?;
        let address = format!("unix:path={}", home.path().join("bus").display());
        let process = launch(&home, &address).await?;
        Ok(Self { home, address, process })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) async fn restart(&mut self) -> Result<()> {
        self.process.kill().await?;
        std::fs::remove_file(self.home.path().join("bus")).ok();
        self.process = launch(&self.home, &self.address).await?;
        Ok(())
    }
}

async fn launch(home: &TempDir, address: &str) -> Result<Child> {
    let configuration = home.path().join("bus.conf");
    let text = format!(
        r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>{address}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#
    );
    File::create(&configuration)?.write_all(text.as_bytes())?;
    let mut process = Command::new("dbus-daemon")
        .arg(format!("--config-file={}", configuration.display()))
        .args(["--nofork", "--nopidfile"])
        .stdin(Stdio::null())
        // It complains that it may not raise its own limits, and goes on.
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("start `dbus-daemon` (Debian's package `dbus`)")?;

    let socket = home.path().join("bus");
    let listens = async {
        while UnixStream::connect(&socket).await.is_err() {
            if let Some(status) = process.try_wait()? {
                bail!("`dbus-daemon` ended with {status}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    };
    tokio::time::timeout(START_LIMIT, listens).await.context("`dbus-daemon` does not listen")??;
    Ok(process)
}
