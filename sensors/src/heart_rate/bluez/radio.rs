//! One Bluetooth adapter: who may use the air, and for what.
//!
//! Scanning and connecting disturb each other (a Raspberry Pi's radio aborts the connect), so whoever
//! connects holds the air, and the scan rests meanwhile.

use std::cell::Cell;
use std::time::Duration;

use btleplug::api::{Central as _, Manager as _, Peripheral as _, ScanFilter};
use btleplug::platform::{Adapter, Manager, Peripheral};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;
use uuid::Uuid;

use super::call::{CallFault, forget, power_cycle, within};
use super::{BluezFault, Options};
use crate::heart_rate::without_addresses;

/// The Heart Rate service: Assigned Numbers, section 3.4.2.
pub(super) const HEART_RATE_SERVICE: Uuid = btleplug::api::bleuuid::uuid_from_u16(0x180D);

pub(super) struct Radio {
    /// `hci0`: how BlueZ names it; not stable across restarts, like the order of adapters.
    pub(super) name: String,
    adapter: Adapter,
    /// Held by whoever uses the air; since when there is a scan, if there is one.
    air: Mutex<Option<Instant>>,
    cycled: Cell<Option<Instant>>,
}

/// The adapters that `options` ask for.
pub(super) async fn open(manager: &Manager, options: &Options) -> Result<Vec<Radio>, BluezFault> {
    let listed = within(options.call, "list adapters", manager.adapters()).await;
    let mut radios = Vec::new();
    for adapter in listed.map_err(BluezFault::from)? {
        // One that is unplugged between the list and the question is none.
        let Ok(about) = within(options.call, "ask an adapter", adapter.adapter_info()).await else {
            continue;
        };
        let address = within(options.call, "ask an adapter", adapter.adapter_address()).await;
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

/// A connection to the bus for one monitor alone, by way of any adapter: btleplug hides its connections.
///
/// dbus-daemon (seen with 1.14.10) takes two rules that differ in their `path_namespace` only for equal: to end
/// the notifications of one device ends those of another on the same connection.
pub(super) async fn ear(options: &Options) -> Result<Adapter, BluezFault> {
    let listed =
        within(options.call, "list adapters", async { Manager::new().await?.adapters().await });
    let listed = listed.await.map_err(BluezFault::from)?;
    listed.into_iter().next().ok_or(BluezFault::NoAdapter(None))
}

impl Radio {
    /// Sees to it that there is a scan for heart-rate monitors, begun not too long ago.
    pub(super) async fn scan(&self, options: &Options) -> Result<(), CallFault> {
        let mut air = self.air.lock().await;
        if air.is_some_and(|since| since.elapsed() < options.rescan_every) {
            return Ok(());
        }
        self.stop_scan(&mut air, options.call).await;
        let filter = ScanFilter { services: vec![HEART_RATE_SERVICE] };
        within(options.call, "scan", self.adapter.start_scan(filter)).await?;
        *air = Some(Instant::now());
        Ok(())
    }

    /// Ends the scan and keeps the air for whoever holds what is returned.
    pub(super) async fn hush(&self, limit: Duration) -> MutexGuard<'_, Option<Instant>> {
        let mut air = self.air.lock().await;
        self.stop_scan(&mut air, limit).await;
        air
    }

    async fn stop_scan(&self, scan: &mut Option<Instant>, limit: Duration) {
        if scan.take().is_some() {
            // A scan that cannot be stopped has stopped already: with its adapter, or with bluetoothd.
            within(limit, "stop the scan", self.adapter.stop_scan()).await.ok();
        }
    }

    /// All that BlueZ knows of, present or not.
    pub(super) async fn devices(&self, limit: Duration) -> Result<Vec<Peripheral>, CallFault> {
        within(limit, "list monitors", self.adapter.peripherals()).await
    }

    /// Connects, with the air to itself. A connect that took too long is called off: BlueZ would go on.
    pub(super) async fn connect(
        &self,
        belt: &Peripheral,
        options: &Options,
    ) -> Result<(), CallFault> {
        let _air = self.hush(options.call).await;
        let connected = within(options.connect, "connect", belt.connect()).await;
        if connected.is_err() {
            self.disconnect(belt, options.call).await;
        }
        connected
    }

    /// Lets go of a link; one that cannot be let go of is gone.
    pub(super) async fn disconnect(&self, belt: &Peripheral, limit: Duration) {
        within(limit, "disconnect", belt.disconnect()).await.ok();
    }

    /// Makes BlueZ forget a monitor and what it has cached of it.
    pub(super) async fn forget(&self, belt: &Peripheral, limit: Duration) -> Result<(), CallFault> {
        forget(self.path(), device_path(belt), limit).await
    }

    /// Switches the adapter off and on, unless that was done a moment ago.
    pub(super) async fn power_cycle(&self, options: &Options) -> Result<(), CallFault> {
        let _air = self.hush(options.call).await;
        if self.cycled.get().is_some_and(|last| last.elapsed() < options.power_cycle_every) {
            return Ok(());
        }
        self.cycled.set(Some(Instant::now()));
        power_cycle(self.path(), options.call).await
    }

    fn path(&self) -> String {
        format!("/org/bluez/{}", self.name)
    }
}

/// The object of a device on the bus.
pub(super) fn device_path(belt: &Peripheral) -> String {
    format!("/org/bluez/{}", belt.id())
}
