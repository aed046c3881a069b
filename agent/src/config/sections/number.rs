//! Numbers in files, and the buses that they are read over.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use pulsegate_sensors::number::{MAX_BUSES, ONE_WIRE_CONVERSION, bus_of, is_one_wire};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::findings::Finding;
use crate::config::units::{Period, duration, millis};

/// A bus that is read all the time; a sum of fractions may be a little more than 1.
const FULL: f64 = 1.0 + 1e-9;

/// A number in a file: any sensor that Linux shows as one.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Number {
    /// Its opaque id.
    pub id: String,
    /// The kind of its readings.
    #[serde(default = "number")]
    pub kind: String,
    /// The file.
    #[schemars(length(min = 1))]
    pub file: PathBuf,
    /// The value is the number in the file times `scale` plus `offset`.
    #[serde(default = "super::one")]
    pub scale: f64,
    /// See `scale`.
    #[serde(default)]
    pub offset: f64,
    /// The unit of the value.
    #[schemars(length(min = 1))]
    pub unit: Option<String>,
    /// How often it is read.
    #[serde(default = "millis::<10_000>", with = "duration")]
    #[schemars(with = "Period", extend("x-range" = ["10ms", "7d"]))]
    pub every: Duration,
}

fn number() -> String {
    "number".to_owned()
}

/// Warns of a 1-wire bus that cannot be read as often as its numbers ask for, and of more buses than are
/// read. Each bus has a thread, which reads one file after the other.
pub(in crate::config) fn check_buses(numbers: &[Number]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut buses: BTreeMap<PathBuf, Vec<(usize, &Number)>> = BTreeMap::new();
    for (index, number) in numbers.iter().enumerate() {
        let bus = bus_of(&number.file);
        if buses.len() == MAX_BUSES && !buses.contains_key(&bus) && found.is_empty() {
            let message = format!("numbers are on more than {MAX_BUSES} buses and files");
            let warning = Finding::warning(format!("number[{index}].id"), message);
            found.push(warning.label("this one may not be read: let a program send it"));
        }
        buses.entry(bus).or_default().push((index, number));
    }
    let one_wire = buses.iter().filter(|(bus, _)| is_one_wire(bus));
    found.extend(one_wire.filter_map(|(_, numbers)| check_load(numbers)));
    found
}

/// Warns if the reads of a bus, one after the other, do not fit into the time between them.
fn check_load(numbers: &[(usize, &Number)]) -> Option<Finding> {
    let conversion = ONE_WIRE_CONVERSION.as_secs_f64();
    let load: f64 = numbers.iter().map(|(_, number)| conversion / number.every.as_secs_f64()).sum();
    let (index, last) = numbers.last().filter(|_| load > FULL)?;
    let count = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
    let round = ONE_WIRE_CONVERSION.saturating_mul(count);
    let message = format!(
        "the 1-wire bus of `{}` cannot be read that often: each of its {count} numbers takes {conversion} s",
        last.id
    );
    let enough = round.as_millis().div_ceil(1000);
    let cure = format!("for each of them `every = \"{enough}s\"` or more");
    Some(Finding::warning(format!("number[{index}].id"), message).help(cure))
}
