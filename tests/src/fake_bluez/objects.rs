//! The objects that BlueZ has on the bus, as far as a reader of heart-rate belts looks at them.
//!
//! The names and error texts are those of BlueZ 5.82 (`doc/org.bluez.*.rst`).

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;
use zbus::message::Header;
use zbus::{ObjectPath, OwnedObjectPath, OwnedVariant, fdo, interface};

use super::belt::{Battery, BeltState, Cure};
use super::world::{HEART_RATE, Shared};

/// Errors as BlueZ names them.
#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.bluez.Error")]
pub(super) enum BluezError {
    #[zbus(error)]
    Bus(zbus::Error),
    Failed(String),
    InProgress(String),
    NotReady(String),
    DoesNotExist(String),
}

impl From<anyhow::Error> for BluezError {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

fn sender(header: &Header<'_>) -> String {
    header.sender().map(ToString::to_string).unwrap_or_default()
}

pub(super) struct AdapterObject {
    pub(super) shared: Arc<Shared>,
    pub(super) name: String,
}

#[interface(name = "org.bluez.Adapter1")]
impl AdapterObject {
    fn set_discovery_filter(
        &self,
        filter: HashMap<String, OwnedVariant>,
        #[zbus(header)] header: Header<'_>,
    ) {
        let uuids =
            filter.get("UUIDs").and_then(|uuids| Vec::<String>::try_from(uuids.clone()).ok());
        let mut world = self.shared.world();
        let Some(radio) = world.radios.get_mut(&self.name) else { return };
        match uuids.as_deref() {
            Some([only]) if only == HEART_RATE => radio.filters.insert(sender(&header)),
            _ => radio.filters.remove(&sender(&header)),
        };
    }

    async fn start_discovery(&self, #[zbus(header)] header: Header<'_>) -> Result<(), BluezError> {
        {
            let mut world = self.shared.world();
            let radio = world.radios.get_mut(&self.name).filter(|radio| radio.powered);
            let radio = radio.ok_or(BluezError::NotReady("Resource Not Ready".into()))?;
            radio.unfiltered_scans += u64::from(!radio.filters.contains(&sender(&header)));
            if !radio.scanners.insert(sender(&header)) {
                return Err(BluezError::InProgress("Operation already in progress".into()));
            }
        }
        Ok(self.shared.reveal(&self.name).await?)
    }

    fn stop_discovery(&self, #[zbus(header)] header: Header<'_>) -> Result<(), BluezError> {
        let mut world = self.shared.world();
        let radio = world.radios.get_mut(&self.name);
        match radio.is_some_and(|radio| radio.scanners.remove(&sender(&header))) {
            true => Ok(()),
            false => Err(BluezError::Failed("No discovery started".into())),
        }
    }

    async fn remove_device(&self, device: OwnedObjectPath) -> Result<(), BluezError> {
        let index = {
            let mut world = self.shared.world();
            let mut belts = world.belts.iter_mut().enumerate();
            let belt = belts.find(|(_, belt)| belt.known && belt.path() == device.as_str());
            let (index, belt) = belt.ok_or(BluezError::DoesNotExist("Does Not Exist".into()))?;
            belt.removals += 1;
            belt.cure(Cure::Forget);
            index
        };
        self.shared.forget(index).await?;
        Ok(self.shared.reveal(&self.name).await?)
    }

    #[zbus(property)]
    fn address(&self) -> String {
        let world = self.shared.world();
        world.radios.get(&self.name).map(|radio| radio.address.clone()).unwrap_or_default()
    }

    #[zbus(property)]
    fn address_type(&self) -> &'static str {
        "public"
    }

    #[zbus(property)]
    fn name(&self) -> &str {
        &self.name
    }

    #[zbus(property)]
    fn alias(&self) -> &str {
        &self.name
    }

    #[zbus(property)]
    fn modalias(&self) -> &'static str {
        "usb:v1D6Bp0246d0552"
    }

    #[zbus(property)]
    fn powered(&self) -> bool {
        self.shared.world().radios.get(&self.name).is_some_and(|radio| radio.powered)
    }

    #[zbus(property)]
    async fn set_powered(&self, powered: bool) -> fdo::Result<()> {
        {
            let mut world = self.shared.world();
            let Some(radio) = world.radios.get_mut(&self.name) else { return Ok(()) };
            if std::mem::replace(&mut radio.powered, powered) == powered || powered {
                return Ok(());
            }
            radio.power_offs += 1;
            radio.scanners.clear();
        }
        self.shared
            .unlink_all(&self.name)
            .await
            .map_err(|error| fdo::Error::Failed(error.to_string()))
    }

    #[zbus(property)]
    fn discovering(&self) -> bool {
        let world = self.shared.world();
        world.radios.get(&self.name).is_some_and(|radio| !radio.scanners.is_empty())
    }

    #[zbus(property, name = "UUIDs")]
    fn uuids(&self) -> Vec<String> {
        Vec::new()
    }
}

pub(super) struct DeviceObject {
    pub(super) shared: Arc<Shared>,
    pub(super) index: usize,
}

impl DeviceObject {
    fn get<T>(&self, read: impl FnOnce(&BeltState) -> T) -> T {
        read(&self.shared.world().belts[self.index])
    }

    /// Begins a connect, or says why BlueZ would not; returns what calls it off if it is to hang.
    fn begin(&self) -> Result<Option<Arc<Notify>>, BluezError> {
        let mut world = self.shared.world();
        let world = &mut *world;
        let belt = &mut world.belts[self.index];
        belt.connects += 1;
        let radio = world.radios.get_mut(&belt.radio).filter(|radio| radio.powered);
        let radio = radio.ok_or(BluezError::NotReady("Resource Not Ready".into()))?;
        radio.collisions += u64::from(!radio.scanners.is_empty() || radio.connecting > 0);
        if belt.refusals > 0 {
            belt.refusals -= 1;
            return Err(BluezError::Failed("le-connection-abort-by-local".into()));
        }
        if !belt.advertises {
            return Err(BluezError::Failed("Page Timeout".into()));
        }
        radio.connecting += 1;
        let hangs = belt.hangs > 0;
        belt.hangs = belt.hangs.saturating_sub(1);
        Ok(hangs.then(|| Arc::clone(&belt.called_off)))
    }
}

#[interface(name = "org.bluez.Device1")]
impl DeviceObject {
    async fn connect(&self) -> Result<(), BluezError> {
        if self.get(|belt| belt.connected) {
            return Ok(());
        }
        let called_off = self.begin()?;
        let linked = match called_off {
            None => self.shared.link(self.index).await,
            Some(called_off) => {
                called_off.notified().await;
                Err(anyhow::anyhow!("le-connection-abort-by-local"))
            }
        };
        let radio = self.get(|belt| belt.radio.clone());
        if let Some(radio) = self.shared.world().radios.get_mut(&radio) {
            radio.connecting -= 1;
        }
        Ok(linked?)
    }

    async fn disconnect(&self) -> Result<(), BluezError> {
        self.get(|belt| belt.called_off.notify_waiters());
        Ok(self.shared.unlink(self.index).await?)
    }

    #[zbus(property)]
    fn address(&self) -> String {
        self.get(|belt| belt.address.clone())
    }

    #[zbus(property)]
    fn address_type(&self) -> &'static str {
        "random"
    }

    #[zbus(property)]
    fn name(&self) -> String {
        self.get(|belt| belt.name.clone())
    }

    #[zbus(property)]
    fn alias(&self) -> String {
        self.get(|belt| belt.name.clone())
    }

    #[zbus(property)]
    fn adapter(&self) -> OwnedObjectPath {
        let path = self.get(|belt| format!("/org/bluez/{}", belt.radio));
        ObjectPath::try_from(path).expect("adapters have plain names").into()
    }

    #[zbus(property)]
    fn paired(&self) -> bool {
        false
    }

    #[zbus(property)]
    fn bonded(&self) -> bool {
        false
    }

    #[zbus(property)]
    fn trusted(&self) -> bool {
        false
    }

    #[zbus(property)]
    fn blocked(&self) -> bool {
        false
    }

    #[zbus(property)]
    fn legacy_pairing(&self) -> bool {
        false
    }

    #[zbus(property)]
    fn connected(&self) -> bool {
        self.get(|belt| belt.connected)
    }

    #[zbus(property)]
    fn services_resolved(&self) -> bool {
        self.get(|belt| belt.connected)
    }

    /// There only while the belt is seen.
    #[zbus(property, name = "RSSI")]
    fn rssi(&self) -> fdo::Result<i16> {
        let seen = self.get(|belt| belt.advertises && !belt.connected);
        if seen { Ok(-60) } else { Err(fdo::Error::UnknownProperty("RSSI".into())) }
    }

    #[zbus(property, name = "UUIDs")]
    fn uuids(&self) -> Vec<&'static str> {
        vec![HEART_RATE]
    }
}

pub(super) struct BatteryObject {
    pub(super) percentage: u8,
}

#[interface(name = "org.bluez.Battery1")]
impl BatteryObject {
    #[zbus(property)]
    fn percentage(&self) -> u8 {
        self.percentage
    }
}

pub(super) struct ServiceObject {
    pub(super) uuid: &'static str,
    pub(super) device: String,
}

#[interface(name = "org.bluez.GattService1")]
impl ServiceObject {
    #[zbus(property, name = "UUID")]
    fn uuid(&self) -> &str {
        self.uuid
    }

    #[zbus(property)]
    fn primary(&self) -> bool {
        true
    }

    #[zbus(property)]
    fn device(&self) -> OwnedObjectPath {
        ObjectPath::try_from(self.device.clone()).expect("belts have plain paths").into()
    }
}

/// What a characteristic holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    HeartRate,
    Location,
    Battery,
}

pub(super) struct CharacteristicObject {
    pub(super) shared: Arc<Shared>,
    pub(super) index: usize,
    pub(super) service: String,
    pub(super) value: Value,
}

#[interface(name = "org.bluez.GattCharacteristic1")]
impl CharacteristicObject {
    fn read_value(&self, _options: HashMap<String, OwnedVariant>) -> Result<Vec<u8>, BluezError> {
        let battery = self.shared.world().belts[self.index].battery;
        match (self.value, battery) {
            (Value::Location, _) => Ok(vec![1]),
            (Value::Battery, Battery::Service(percent)) => Ok(vec![percent]),
            (Value::HeartRate | Value::Battery, _) => {
                Err(BluezError::Failed("Operation failed with ATT error: 0x02".into()))
            }
        }
    }

    fn start_notify(&self, #[zbus(header)] header: Header<'_>) {
        let belt = &mut self.shared.world().belts[self.index];
        if belt.listeners.insert(sender(&header)) {
            belt.subscriptions += 1;
            belt.cure(Cure::Subscribe);
        }
    }

    fn stop_notify(&self, #[zbus(header)] header: Header<'_>) -> Result<(), BluezError> {
        let belt = &mut self.shared.world().belts[self.index];
        match belt.listeners.remove(&sender(&header)) {
            true => Ok(()),
            false => Err(BluezError::Failed("No notify session started".into())),
        }
    }

    #[zbus(property, name = "UUID")]
    fn uuid(&self) -> &'static str {
        match self.value {
            Value::HeartRate => "00002a37-0000-1000-8000-00805f9b34fb",
            Value::Location => "00002a38-0000-1000-8000-00805f9b34fb",
            Value::Battery => "00002a19-0000-1000-8000-00805f9b34fb",
        }
    }

    #[zbus(property)]
    fn service(&self) -> OwnedObjectPath {
        ObjectPath::try_from(self.service.clone()).expect("services have plain paths").into()
    }

    #[zbus(property)]
    fn flags(&self) -> Vec<&'static str> {
        match self.value {
            Value::HeartRate => vec!["notify"],
            Value::Location | Value::Battery => vec!["read"],
        }
    }
}
