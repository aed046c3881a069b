//! A fake `org.bluez` on a private bus: adapters that scan and connect, and heart-rate belts that beat,
//! fall silent, drop their link, lose their services or say rubbish, as a test asks.
//!
//! A program under test finds it through `DBUS_SYSTEM_BUS_ADDRESS`, set before it starts to
//! [`FakeBluez::address`]. It behaves as BlueZ 5.82 does where a client could tell: only what advertises
//! is found, and only while scanning; a device has a signal strength while it is seen, and services while
//! it is connected; a second `StartNotify` of one client is answered and does nothing.
//!
//! It needs Debian's `dbus-daemon`, no privilege, and no bus of the machine's own.

mod belt;
mod daemon;
mod objects;
mod world;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

pub use belt::{Battery, Belt, Cure};
use daemon::Daemon;
use world::{Radio, Shared};

/// The grain of the belts' beats.
const TICK: Duration = Duration::from_millis(10);

/// The bus, the fake on it, and the hearts that beat.
#[derive(Debug)]
pub struct FakeBluez {
    daemon: Daemon,
    shared: Arc<Shared>,
    /// The hearts, and one for each bluetoothd there was, that ends with it.
    tasks: Mutex<JoinSet<()>>,
}

impl FakeBluez {
    /// Starts a bus and, on it, a BlueZ without adapters.
    ///
    /// # Errors
    /// If `dbus-daemon` is not installed or does not start.
    pub async fn start() -> Result<Self> {
        let daemon = Daemon::start().await?;
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        let beating = Arc::clone(&shared);
        tasks.spawn(async move {
            loop {
                beating.beat().await;
                tokio::time::sleep(TICK).await;
            }
        });
        let fake = Self { daemon, shared, tasks: Mutex::new(tasks) };
        fake.start_bluetoothd().await?;
        Ok(fake)
    }

    /// What `DBUS_SYSTEM_BUS_ADDRESS` must be for a program to find this BlueZ.
    #[must_use]
    pub fn address(&self) -> &str {
        self.daemon.address()
    }

    /// Plugs in an adapter, `hci0` or the like.
    ///
    /// # Errors
    /// If the bus is down.
    pub async fn add_adapter(&self, name: &str, address: &str) -> Result<()> {
        let radio = Radio::new(address);
        self.shared.world().radios.insert(name.to_owned(), radio);
        self.shared.show_radio(name).await
    }

    /// Pulls an adapter out, with all that it saw.
    ///
    /// # Errors
    /// If the bus is down.
    pub async fn remove_adapter(&self, name: &str) -> Result<()> {
        self.shared.hide_radio(name).await?;
        self.shared.world().radios.remove(name);
        Ok(())
    }

    /// Puts a belt within reach of an adapter; it advertises at once.
    ///
    /// # Errors
    /// If the bus is down.
    pub async fn add_belt(&self, adapter: &str, address: &str, name: &str) -> Result<Belt> {
        let belt = Belt::put(Arc::clone(&self.shared), adapter, address, name);
        self.shared.reveal(adapter).await?;
        Ok(belt)
    }

    /// Whether any program scans with this adapter.
    #[must_use]
    pub fn is_scanning(&self, adapter: &str) -> bool {
        let world = self.shared.world();
        world.radios.get(adapter).is_some_and(|radio| !radio.scanners.is_empty())
    }

    /// Returns `true` while this adapter makes a connection.
    #[must_use]
    pub fn is_connecting(&self, adapter: &str) -> bool {
        self.shared.world().radios.get(adapter).is_some_and(|radio| radio.connecting > 0)
    }

    /// How many scans were begun that were not for heart-rate monitors only.
    #[must_use]
    pub fn unfiltered_scans(&self, adapter: &str) -> u64 {
        self.shared.world().radios.get(adapter).map_or(0, |radio| radio.unfiltered_scans)
    }

    /// How often this adapter was switched off.
    #[must_use]
    pub fn power_offs(&self, adapter: &str) -> u64 {
        self.shared.world().radios.get(adapter).map_or(0, |radio| radio.power_offs)
    }

    /// How often a connect was asked for while the adapter scanned, or while it connected another.
    #[must_use]
    pub fn collisions(&self, adapter: &str) -> u64 {
        self.shared.world().radios.get(adapter).map_or(0, |radio| radio.collisions)
    }

    /// Ends bluetoothd: its name and all its objects leave the bus.
    pub async fn stop_bluetoothd(&self) {
        self.shared.end().await;
    }

    /// Starts bluetoothd again: it knows its adapters, and no belt.
    ///
    /// # Errors
    /// If the bus is down.
    pub async fn start_bluetoothd(&self) -> Result<()> {
        let bus = self.shared.begin(self.daemon.address()).await?;
        let minding = Arc::clone(&self.shared).mind_clients(bus);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn(async {
            // It ends with its bus.
            minding.await.ok();
        });
        Ok(())
    }

    /// Kills the bus and starts another at the same address, with bluetoothd on it.
    ///
    /// # Errors
    /// If the new one does not start.
    pub async fn restart_bus(&mut self) -> Result<()> {
        self.shared.end().await;
        self.daemon.restart().await.context("restart the bus")?;
        self.start_bluetoothd().await
    }
}
