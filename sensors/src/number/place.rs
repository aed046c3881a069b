//! Finds the bus of a number file.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// The kernel's folder of the devices of every 1-wire bus.
const ONE_WIRE: &str = "/sys/bus/w1/devices";
/// The name of a 1-wire master, without its number.
const ONE_WIRE_MASTER: &str = "w1_bus_master";

/// Returns the bus of `path`: the master of a 1-wire device, the folder of any other device in
/// sysfs, and otherwise the file itself. Files of one bus are read one after the other.
///
/// Links are followed in sysfs only, where they point to memory of the kernel; a link elsewhere may
/// lead to a file server that does not answer. The bus of an absent 1-wire device is the folder of
/// all 1-wire devices.
#[must_use]
pub fn bus_of(path: &Path) -> PathBuf {
    if !path.starts_with("/sys") {
        return path.to_owned();
    }
    bus_of_device(path, fs::canonicalize(path).ok().as_deref())
}

/// Returns `true` if `bus`, as returned by [`bus_of`], is a 1-wire bus.
#[must_use]
pub fn is_one_wire(bus: &Path) -> bool {
    bus.starts_with(ONE_WIRE)
}

/// Returns the bus of a file in sysfs; `real` is the path with all links followed, if the file
/// exists.
fn bus_of_device(path: &Path, real: Option<&Path>) -> PathBuf {
    let one_wire = Path::new(ONE_WIRE);
    match (find_master(real.unwrap_or(path)), real) {
        (Some(master), _) => one_wire.join(master),
        (None, None) if path.starts_with(one_wire) => one_wire.to_owned(),
        (None, _) => real.unwrap_or(path).parent().unwrap_or(path).to_owned(),
    }
}

fn find_master(path: &Path) -> Option<&OsStr> {
    path.iter().find(|part| part.to_str().is_some_and(is_master))
}

fn is_master(name: &str) -> bool {
    name.strip_prefix(ONE_WIRE_MASTER)
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus(path: &str, real: Option<&str>) -> PathBuf {
        bus_of_device(Path::new(path), real.map(Path::new))
    }

    #[test]
    fn devices_of_one_wire_share_the_bus_of_their_master() {
        let listed = "/sys/bus/w1/devices/28-0000055f1020/temperature";
        let real = "/sys/devices/w1_bus_master1/28-0000055f1020/temperature";
        let as_hwmon = "/sys/devices/w1_bus_master1/28-0000055f1021/hwmon/hwmon2/temp1_input";
        let elsewhere = "/sys/devices/w1_bus_master2/28-0000055f1022/temperature";
        let master = bus(listed, Some(real));

        assert_eq!(bus("/sys/class/hwmon/hwmon2/temp1_input", Some(as_hwmon)), master);
        assert_eq!(bus(real, Some(real)), master);
        assert_eq!(bus(real, None), master);
        assert_ne!(bus(listed, Some(elsewhere)), master);
        assert!(is_one_wire(&master));
    }

    #[test]
    fn a_one_wire_device_that_is_not_there_has_the_list_as_its_bus() {
        let bus = bus("/sys/bus/w1/devices/28-0000055f1020/temperature", None);

        assert_eq!(bus, Path::new("/sys/bus/w1/devices"));
        assert!(is_one_wire(&bus));
    }

    #[test]
    fn any_other_device_is_a_bus_of_its_own_and_so_is_any_other_file() {
        let device = "/sys/devices/platform/soc/3f804000.i2c/i2c-1/1-0048/hwmon/hwmon1";
        let channel = |name: &str| {
            bus(&format!("/sys/class/hwmon/hwmon1/{name}"), Some(&format!("{device}/{name}")))
        };

        assert_eq!(channel("temp1_input"), channel("temp2_input"));
        assert_eq!(channel("temp1_input"), Path::new(device));
        assert!(!is_one_wire(&channel("temp1_input")));
        assert_eq!(bus_of(Path::new("/run/meter/power")), Path::new("/run/meter/power"));
    }
}
