//! A Bluetooth adapter, and a lock for the use of its radio.
//!
//! Scanning and connecting disturb each other (the radio of a Raspberry Pi aborts the connect). A
//! task that connects holds the lock, and the scan pauses meanwhile.

use std::cell::Cell;
use std::time::Duration;

use btleplug::api::{Central as _, Manager as _, Peripheral as _, ScanFilter};
use btleplug::platform::{Adapter, Manager, Peripheral};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;
use uuid::Uuid;

use super::call::{CallFault, call_within, forget_device, power_cycle};
use super::{BluezFault, BluezOptions};
use crate::heart_rate::without_addresses;

/// The Heart Rate service: Assigned Numbers, section 3.4.2.
pub(super) const HEART_RATE_SERVICE: Uuid = btleplug::api::bleuuid::uuid_from_u16(0x180D);

pub(super) struct Radio {
    /// The name in BlueZ, such as `hci0`. Neither the name nor the order of adapters is stable
    /// across restarts.
    pub(super) name: String,
    adapter: Adapter,
    /// Locked by the user of the radio; holds the start of the scan while a scan runs.
    air: Mutex<Option<Instant>>,
    cycled: Cell<Option<Instant>>,
}

/// Opens the adapters selected by `options`, in the order of their names.
pub(super) async fn open_adapters(
    manager: &Manager,
    options: &BluezOptions,
) -> Result<Vec<Radio>, BluezFault> {
    let listed = call_within(options.call, "list adapters", manager.adapters()).await;
    let mut radios = Vec::new();
    for adapter in listed.map_err(BluezFault::from)? {
        // An adapter unplugged since the list was made is left out.
        let Ok(about) = call_within(options.call, "ask an adapter", adapter.adapter_info()).await
        else {
            continue;
        };
        let address = call_within(options.call, "ask an adapter", adapter.adapter_address()).await;
        let name = about.split(' ').next().unwrap_or_default().to_owned();
        let wanted = options.adapter.as_ref().is_none_or(|wanted| {
            let address = address.ok().flatten().map(|address| address.to_string());
            *wanted == name || address.is_some_and(|address| address.eq_ignore_ascii_case(wanted))
        });
        if wanted {
            radios.push(Radio { name, adapter, air: Mutex::new(None), cycled: Cell::new(None) });
        }
    }
    if radios.is_empty() {
        return Err(BluezFault::NoAdapter(options.adapter.as_deref().map(without_addresses)));
    }
    radios.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(radios)
}

/// Opens a separate connection to the bus for one monitor, through any adapter, since btleplug
/// hides its connections.
///
/// dbus-daemon (seen with 1.14.10) treats two match rules as equal if only their `path_namespace`
/// differs: ending the notifications of one device ends those of another device on the same
/// connection.
pub(super) async fn connect_to_bus(options: &BluezOptions) -> Result<Adapter, BluezFault> {
    let listed = call_within(options.call, "list adapters", async {
        Manager::new().await?.adapters().await
    });
    let listed = listed.await.map_err(BluezFault::from)?;
    listed.into_iter().next().ok_or(BluezFault::NoAdapter(None))
}

impl Radio {
    /// Starts a scan for heart-rate monitors unless a recent scan is running.
    pub(super) async fn ensure_scan(&self, options: &BluezOptions) -> Result<(), CallFault> {
        let mut air = self.air.lock().await;
        if air.is_some_and(|since| since.elapsed() < options.rescan_every) {
            return Ok(());
        }
        self.stop_scan(&mut air, options.call).await;
        let filter = ScanFilter { services: vec![HEART_RATE_SERVICE] };
        call_within(options.call, "scan", self.adapter.start_scan(filter)).await?;
        *air = Some(Instant::now());
        Ok(())
    }

    /// Ends the scan. No scan or connect starts while the returned guard is held.
    pub(super) async fn pause_scan(&self, limit: Duration) -> MutexGuard<'_, Option<Instant>> {
        let mut air = self.air.lock().await;
        self.stop_scan(&mut air, limit).await;
        air
    }

    async fn stop_scan(&self, scan: &mut Option<Instant>, limit: Duration) {
        if scan.take().is_some() {
            // If a scan cannot be stopped, its adapter or bluetoothd is gone, and the scan with it.
            call_within(limit, "stop the scan", self.adapter.stop_scan()).await.ok();
        }
    }

    /// Lists all devices known to BlueZ, present or not.
    pub(super) async fn list_devices(&self, limit: Duration) -> Result<Vec<Peripheral>, CallFault> {
        call_within(limit, "list monitors", self.adapter.peripherals()).await
    }

    /// Connects while no scan runs; `begin` is called directly before. A connect that takes too long
    /// is cancelled, since BlueZ would continue.
    pub(super) async fn connect(
        &self,
        belt: &Peripheral,
        options: &BluezOptions,
        begin: impl FnOnce(),
    ) -> Result<(), CallFault> {
        let _air = self.pause_scan(options.call).await;
        begin();
        let connected = call_within(options.connect, "connect", belt.connect()).await;
        if connected.is_err() {
            self.disconnect(belt, options.call).await;
        }
        connected
    }

    /// Disconnects a monitor. A link that cannot be ended is gone already.
    pub(super) async fn disconnect(&self, belt: &Peripheral, limit: Duration) {
        call_within(limit, "disconnect", belt.disconnect()).await.ok();
    }

    /// Removes a monitor and its cached data from BlueZ.
    pub(super) async fn forget_monitor(
        &self,
        belt: &Peripheral,
        limit: Duration,
    ) -> Result<(), CallFault> {
        forget_device(self.object_path(), device_path(belt), limit).await
    }

    /// Switches the adapter off and on, unless that was done recently.
    pub(super) async fn power_cycle(&self, options: &BluezOptions) -> Result<(), CallFault> {
        let _air = self.pause_scan(options.call).await;
        if self.cycled.get().is_some_and(|last| last.elapsed() < options.power_cycle_every) {
            return Ok(());
        }
        self.cycled.set(Some(Instant::now()));
        power_cycle(self.object_path(), options.call).await
    }

    fn object_path(&self) -> String {
        format!("/org/bluez/{}", self.name)
    }
}

/// Returns the path of a device's object on the bus.
pub(super) fn device_path(belt: &Peripheral) -> String {
    format!("/org/bluez/{}", belt.id())
}
