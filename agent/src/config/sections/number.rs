//! Numbers in files, and the buses through which the files are read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use pulsegate_sensors::number::{MAX_BUSES, ONE_WIRE_CONVERSION, bus_of, is_one_wire};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::findings::Finding;
use crate::config::units::{Period, duration, millis};

/// The load of a bus in use all the time, as a fraction; a sum of fractions may slightly exceed 1.
const FULL: f64 = 1.0 + 1e-9;

/// A number in a file: any sensor that Linux shows as a file.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Number {
    /// Id of the source in records and rules: 1 to 64 of `A-Z a-z 0-9 . _ : -`, unique in this
    /// file, such as `air`.
    pub id: String,
    /// Kind of the readings, in records, in `on` of a rule, and as `[publish.<kind>]`: a lower-case
    /// letter, then up to 63 of `a-z 0-9 _`, such as `temperature`; not `heart_rate`, `lid`,
    /// `movement` or `button`.
    #[serde(default = "number")]
    pub kind: String,
    /// File whose first word is the number, such as
    /// `/sys/bus/w1/devices/28-0000055f1020/temperature`.
    #[schemars(length(min = 1))]
    pub file: PathBuf,
    /// Factor for the number in the file, before `offset` is added: `0.001` for a file in
    /// thousandths.
    #[serde(default = "super::one")]
    pub scale: f64,
    /// Number added after the multiplication by `scale`.
    #[serde(default)]
    pub offset: f64,
    /// Unit of the value, such as `celsius`: the field `unit` of each record. Default: no such
    /// field.
    #[schemars(length(min = 1))]
    pub unit: Option<String>,
    /// Time between two reads, on the grid of the clock: `10s` reads at seconds 0, 10, 20 and so
    /// on. Sensors on one 1-wire bus take 0.75 s each, one after the other. Range: `10ms` to `7d`.
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
