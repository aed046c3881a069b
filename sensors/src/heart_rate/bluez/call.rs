//! Calls to BlueZ: each with a limit, and with an error that may travel.
//!
//! What btleplug does not offer (forget a device, switch an adapter off, the battery that BlueZ keeps to
//! itself) is asked of the bus directly, in blocking calls on a thread of the runtime's.

use std::path::Path;
use std::time::Duration;

use dbus::arg::{RefArg, Variant};
use dbus::blocking::{Connection, Proxy};

use super::BluezFault;
use crate::heart_rate::without_addresses;

/// Where the kernel shows Bluetooth controllers.
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
    /// A bus, or a BlueZ, that does not answer. Debian starts no bluetoothd on a kernel without a controller, and
    /// the bus does not say so: it lets who calls wait.
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

/// Awaits `call` for at most `limit`; `what` completes "could not ...".
pub(super) async fn within<T>(
    limit: Duration,
    what: &'static str,
    call: impl Future<Output = btleplug::Result<T>>,
) -> Result<T, CallFault> {
    match tokio::time::timeout(limit, call).await {
        Ok(outcome) => outcome.map_err(|error| CallFault::new(what, &error.to_string())),
        Err(_) => Err(CallFault::new(what, &format!("no answer within {limit:?}"))),
    }
}

/// Makes BlueZ forget a device, unless it is paired: a bond is the user's, and not ours to break.
pub(super) async fn forget(
    adapter: String,
    device: String,
    limit: Duration,
) -> Result<(), CallFault> {
    on_bus("forget the monitor", limit, move |bus| {
        let belt = bus.with_proxy("org.bluez", device.clone(), limit);
        if get::<bool>(&belt, "org.bluez.Device1", "Paired")? {
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

/// The charge of a battery that BlueZ reads itself: since 5.48 it hides the Battery Service.
pub(super) async fn battery_percent(device: String, limit: Duration) -> Option<u8> {
    let ask = on_bus("read the battery", limit, move |bus| {
        get(&bus.with_proxy("org.bluez", device, limit), "org.bluez.Battery1", "Percentage")
    });
    ask.await.ok()
}

fn get<T: for<'a> dbus::arg::Get<'a> + dbus::arg::Arg + RefArg + 'static>(
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
