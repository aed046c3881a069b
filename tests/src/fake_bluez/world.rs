//! What is true of the adapters and belts, and how it shows on the bus.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use tokio::time::Instant;
use zbus::fdo::DBusProxy;
use zbus::{Connection, ObjectServer, Variant};

use super::belt::{Battery, BeltState, Cure};
use super::objects::{
    AdapterObject, BatteryObject, CharacteristicObject, DeviceObject, ServiceObject, Value,
};

pub(super) const HEART_RATE: &str = "0000180d-0000-1000-8000-00805f9b34fb";
const BATTERY: &str = "0000180f-0000-1000-8000-00805f9b34fb";

/// An adapter.
#[derive(Debug)]
pub(super) struct Radio {
    pub(super) address: String,
    pub(super) powered: bool,
    /// The clients that scan.
    pub(super) scanners: BTreeSet<String>,
    /// The clients that asked for heart-rate monitors only.
    pub(super) filters: BTreeSet<String>,
    pub(super) unfiltered_scans: u64,
    pub(super) connecting: u32,
    pub(super) power_offs: u64,
    pub(super) collisions: u64,
}

impl Radio {
    pub(super) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            powered: true,
            scanners: BTreeSet::new(),
            filters: BTreeSet::new(),
            unfiltered_scans: 0,
            connecting: 0,
            power_offs: 0,
            collisions: 0,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) radios: BTreeMap<String, Radio>,
    pub(super) belts: Vec<BeltState>,
}

/// The world, and the bus that shows it while bluetoothd runs.
#[derive(Debug, Default)]
pub(super) struct Shared {
    world: Mutex<World>,
    bus: Mutex<Option<Connection>>,
}

impl Shared {
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bus(&self) -> Result<Connection> {
        let bus = self.bus.lock().unwrap_or_else(PoisonError::into_inner);
        bus.clone().context("bluetoothd does not run")
    }

    /// Takes the name and shows the adapters.
    pub(super) async fn begin(self: &Arc<Self>, address: &str) -> Result<Connection> {
        let bus = zbus::connection::Builder::address(address)
            .serve_at("/", zbus::fdo::ObjectManager)
            .build()
            .await
            .context("reach the bus")?;
        *self.bus.lock().unwrap_or_else(PoisonError::into_inner) = Some(bus.clone());
        let radios: Vec<_> = self.world().radios.keys().cloned().collect();
        for name in radios {
            self.show_radio(&name).await?;
        }
        bus.request_name("org.bluez").await.context("own the name")?;
        Ok(bus)
    }

    /// Ends what a client began, once it is gone from the bus: its scans and its notifications, but not
    /// the links, which belong to BlueZ.
    pub(super) async fn mind_clients(self: Arc<Self>, bus: Connection) -> Result<()> {
        let mut changes = DBusProxy::new(&bus).await?.receive_name_owner_changed().await?;
        while let Some(change) = changes.next().await {
            let change = change.args()?;
            if change.new_owner().is_none() {
                let client = change.name().to_string();
                let mut world = self.world();
                for radio in world.radios.values_mut() {
                    radio.scanners.remove(&client);
                    radio.filters.remove(&client);
                }
                for belt in &mut world.belts {
                    belt.listeners.remove(&client);
                }
            }
        }
        Ok(())
    }

    /// Leaves the bus; whatever was connected, scanned or known is so no more.
    pub(super) async fn end(&self) {
        let bus = self.bus.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(bus) = bus {
            // The bus may be gone already.
            bus.close().await.ok();
        }
        let mut world = self.world();
        for radio in world.radios.values_mut() {
            radio.scanners.clear();
            radio.filters.clear();
        }
        for belt in &mut world.belts {
            belt.known = false;
            belt.connected = false;
            belt.listeners.clear();
        }
    }

    pub(super) async fn show_radio(self: &Arc<Self>, name: &str) -> Result<()> {
        let radio = AdapterObject { shared: Arc::clone(self), name: name.to_owned() };
        self.bus()?.object_server().at(format!("/org/bluez/{name}"), radio).await?;
        Ok(())
    }

    pub(super) async fn hide_radio(&self, name: &str) -> Result<()> {
        self.forget_all(name).await?;
        self.bus()?
            .object_server()
            .remove::<AdapterObject, _>(format!("/org/bluez/{name}"))
            .await?;
        Ok(())
    }

    /// Shows every belt that advertises to an adapter that scans.
    pub(super) async fn reveal(self: &Arc<Self>, radio: &str) -> Result<()> {
        let revealed: Vec<_> = {
            let mut world = self.world();
            let World { radios, belts } = &mut *world;
            let scans = radios.get(radio).is_some_and(|radio| !radio.scanners.is_empty());
            let mut news = Vec::new();
            for (index, belt) in belts.iter_mut().enumerate() {
                if scans && belt.radio == radio && belt.advertises && !belt.known {
                    belt.known = true;
                    news.push((index, belt.path()));
                }
            }
            news
        };
        for (index, path) in revealed {
            let device = DeviceObject { shared: Arc::clone(self), index };
            self.bus()?.object_server().at(path, device).await?;
        }
        Ok(())
    }

    /// Removes a belt's objects.
    pub(super) async fn forget(&self, index: usize) -> Result<()> {
        self.unlink(index).await?;
        let path = {
            let belt = &mut self.world().belts[index];
            belt.listeners.clear();
            belt.known.then(|| {
                belt.known = false;
                belt.path()
            })
        };
        if let Some(path) = path {
            self.bus()?.object_server().remove::<DeviceObject, _>(path).await?;
        }
        Ok(())
    }

    pub(super) async fn forget_all(&self, radio: &str) -> Result<()> {
        for index in self.belts_of(radio) {
            self.forget(index).await?;
        }
        Ok(())
    }

    /// Brings a link up: the belt is connected, and its services show. As BlueZ does, it asks for the
    /// notifications that its clients asked for on an earlier link.
    pub(super) async fn link(self: &Arc<Self>, index: usize) -> Result<()> {
        let (path, greeting) = {
            let belt = &mut self.world().belts[index];
            belt.cure(Cure::Reconnect);
            belt.connected = true;
            if !belt.listeners.is_empty() {
                belt.subscriptions += 1;
                belt.cure(Cure::Subscribe);
            }
            (belt.path(), belt.greeting.clone())
        };
        self.changed(&path, "org.bluez.Device1", "Connected", true.into()).await?;
        self.show_services(index).await?;
        self.changed(&path, "org.bluez.Device1", "ServicesResolved", true.into()).await?;
        match greeting {
            Some(packet) => self.notify(index, &packet).await,
            None => Ok(()),
        }
    }

    /// Takes a link down, if there is one.
    pub(super) async fn unlink(&self, index: usize) -> Result<()> {
        if !self.world().belts[index].connected {
            return Ok(());
        }
        self.hide_services(index).await?;
        let path = {
            let belt = &mut self.world().belts[index];
            belt.connected = false;
            belt.path()
        };
        self.changed(&path, "org.bluez.Device1", "ServicesResolved", false.into()).await?;
        self.changed(&path, "org.bluez.Device1", "Connected", false.into()).await
    }

    pub(super) async fn unlink_all(&self, radio: &str) -> Result<()> {
        for index in self.belts_of(radio) {
            self.unlink(index).await?;
            self.world().belts[index].cure(Cure::PowerCycle);
        }
        Ok(())
    }

    /// Sends a notification if somebody is there to get it.
    pub(super) async fn notify(&self, index: usize, packet: &[u8]) -> Result<()> {
        let path = {
            let world = self.world();
            let belt = &world.belts[index];
            belt.notifies().then(|| format!("{}/service0010/char0011", belt.path()))
        };
        let Some(path) = path else { return Ok(()) };
        self.changed(&path, "org.bluez.GattCharacteristic1", "Value", packet.to_vec().into()).await
    }

    /// Lets every heart beat whose time has come.
    pub(super) async fn beat(&self) {
        let now = Instant::now();
        let due: Vec<_> = {
            let mut world = self.world();
            let beats = world.belts.iter_mut().enumerate();
            let due = beats.filter_map(|(index, belt)| {
                let beat = belt.beat.as_mut().filter(|beat| beat.next <= now)?;
                beat.next = now + beat.every;
                Some((index, beat.packet.clone()))
            });
            due.collect()
        };
        for (index, packet) in due {
            // A beat that falls into a restart of the bus is lost, as it would be in the air.
            self.notify(index, &packet).await.ok();
        }
    }

    async fn show_services(self: &Arc<Self>, index: usize) -> Result<()> {
        let (path, serves, battery) = {
            let world = self.world();
            let belt = &world.belts[index];
            (belt.path(), belt.serves, belt.battery)
        };
        let bus = self.bus()?;
        let server = bus.object_server();
        if serves {
            let chars = [("char0011", Value::HeartRate), ("char0014", Value::Location)];
            self.show_service(server, index, (&path, "service0010", HEART_RATE), &chars).await?;
        }
        match battery {
            Battery::None => {}
            Battery::Service(_) => {
                let chars = [("char0021", Value::Battery)];
                self.show_service(server, index, (&path, "service0020", BATTERY), &chars).await?;
            }
            Battery::Bluez(percentage) => {
                server.at(path, BatteryObject { percentage }).await?;
            }
        }
        Ok(())
    }

    async fn show_service(
        self: &Arc<Self>,
        server: &ObjectServer,
        index: usize,
        (device, service, uuid): (&str, &str, &'static str),
        characteristics: &[(&str, Value)],
    ) -> Result<()> {
        let path = format!("{device}/{service}");
        server.at(path.as_str(), ServiceObject { uuid, device: device.to_owned() }).await?;
        for (name, value) in characteristics {
            let characteristic = CharacteristicObject {
                shared: Arc::clone(self),
                index,
                service: path.clone(),
                value: *value,
            };
            server.at(format!("{path}/{name}"), characteristic).await?;
        }
        Ok(())
    }

    pub(super) async fn hide_services(&self, index: usize) -> Result<()> {
        let path = self.world().belts[index].path();
        let bus = self.bus()?;
        let server = bus.object_server();
        for characteristic in
            ["service0010/char0011", "service0010/char0014", "service0020/char0021"]
        {
            let path = format!("{path}/{characteristic}");
            // Not every belt has every one.
            server.remove::<CharacteristicObject, _>(path).await.ok();
        }
        for service in ["service0010", "service0020"] {
            server.remove::<ServiceObject, _>(format!("{path}/{service}")).await.ok();
        }
        server.remove::<BatteryObject, _>(path).await.ok();
        Ok(())
    }

    async fn changed(
        &self,
        path: &str,
        interface: &str,
        property: &str,
        value: Variant<'_>,
    ) -> Result<()> {
        let body = (interface, HashMap::from([(property, value)]), Vec::<&str>::new());
        let properties = "org.freedesktop.DBus.Properties";
        let to_all = None::<zbus::names::BusName<'_>>;
        let bus = self.bus()?;
        bus.emit_signal(to_all, path, properties, "PropertiesChanged", &body).await?;
        Ok(())
    }

    fn belts_of(&self, radio: &str) -> Vec<usize> {
        let world = self.world();
        let belts = world.belts.iter().enumerate();
        belts.filter(|(_, belt)| belt.radio == radio).map(|(index, _)| index).collect()
    }
}
