//! Calls to BlueZ, each with a time limit and with an error free of addresses.
//!
//! btleplug cannot forget a device, power-cycle an adapter, or read a battery level kept by BlueZ.
//! These calls go to the bus directly, as blocking calls on a thread of the runtime.

use std::path::Path;
use std::time::Duration;

use dbus::arg::{RefArg, Variant};
use dbus::blocking::{Connection, Proxy};

use super::BluezFault;
use crate::heart_rate::without_addresses;

/// The kernel's list of Bluetooth controllers.
const CONTROLLERS: &str = "/sys/class/bluetooth";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A call that failed or took too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("could not {what}: {why}")]
pub(super) struct CallFault {
    what: &'static str,
    why: String,
}

impl CallFault {
    pub(super) fn new(what: &'static str, why: &str) -> Self {
        Self { what, why: without_addresses(why) }
    }
}

impl From<CallFault> for BluezFault {
    /// Converts the fault of a call without an answer from the bus or from BlueZ. Debian starts no
    /// bluetoothd on a kernel without a controller, and the bus does not report the missing daemon:
    /// callers wait.
    fn from(fault: CallFault) -> Self {
        let hint = match has_controller(Path::new(CONTROLLERS)) {
            true => "",
            false => "; the kernel has no Bluetooth controller",
        };
        Self::Bus(format!("{fault}{hint}"))
    }
}

fn has_controller(class: &Path) -> bool {
    class.read_dir().is_ok_and(|mut controllers| controllers.next().is_some())
}

/// Awaits `call` for at most `limit`; `what` completes the sentence "could not ...".
pub(super) async fn call_within<T>(
    limit: Duration,
    what: &'static str,
    call: impl Future<Output = btleplug::Result<T>>,
) -> Result<T, CallFault> {
    match tokio::time::timeout(limit, call).await {
        Ok(outcome) => outcome.map_err(|error| CallFault::new(what, &error.to_string())),
        Err(_) => Err(CallFault::new(what, &format!("no answer within {limit:?}"))),
    }
}

/// Removes a device from BlueZ, unless the device is paired: a bond belongs to the user.
pub(super) async fn forget_device(
    adapter: String,
    device: String,
    limit: Duration,
) -> Result<(), CallFault> {
    on_bus("forget the monitor", limit, move |bus| {
        let belt = bus.with_proxy("org.bluez", device.clone(), limit);
        if get_property::<bool>(&belt, "org.bluez.Device1", "Paired")? {
            return Ok(());
        }
        let device = dbus::Path::from(device);
        bus.with_proxy("org.bluez", adapter, limit).method_call(
            "org.bluez.Adapter1",
            "RemoveDevice",
            (device,),
        )
    })
    .await
}

/// Switches an adapter off and on.
pub(super) async fn power_cycle(adapter: String, limit: Duration) -> Result<(), CallFault> {
    on_bus("switch the adapter off and on", limit * 2, move |bus| {
        let adapter = bus.with_proxy("org.bluez", adapter, limit);
        [false, true].into_iter().try_for_each(|powered| {
            let property = ("org.bluez.Adapter1", "Powered", Variant(powered));
            adapter.method_call(PROPERTIES, "Set", property)
        })
    })
    .await
}

/// Reads the battery level of a device from BlueZ, in percent. BlueZ hides the Battery Service
/// since version 5.48.
pub(super) async fn battery_percent(device: String, limit: Duration) -> Option<u8> {
    let ask = on_bus("read the battery", limit, move |bus| {
        get_property(
            &bus.with_proxy("org.bluez", device, limit),
            "org.bluez.Battery1",
            "Percentage",
        )
    });
    ask.await.ok()
}

fn get_property<T: for<'a> dbus::arg::Get<'a> + dbus::arg::Arg + RefArg + 'static>(
    object: &Proxy<'_, &Connection>,
    interface: &str,
    property: &str,
) -> Result<T, dbus::Error> {
    let (value,): (Variant<T>,) = object.method_call(PROPERTIES, "Get", (interface, property))?;
    Ok(value.0)
}

async fn on_bus<T: Send + 'static>(
    what: &'static str,
    limit: Duration,
    ask: impl FnOnce(&Connection) -> Result<T, dbus::Error> + Send + 'static,
) -> Result<T, CallFault> {
    let answer = tokio::task::spawn_blocking(move || ask(&Connection::new_system()?));
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(Ok(answer))) => Ok(answer),
        Ok(Ok(Err(error))) => Err(CallFault::new(what, &error.to_string())),
        Ok(Err(_)) => Err(CallFault::new(what, "the call panicked")),
        Err(_) => Err(CallFault::new(what, &format!("no answer within {limit:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_class_or_none_is_no_controller() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!has_controller(folder.path()));
        assert!(!has_controller(&folder.path().join("bluetooth")));

        std::fs::create_dir(folder.path().join("hci0")).unwrap();

        assert!(has_controller(folder.path()));
    }
}
