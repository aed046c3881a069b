//! The buses that number files are read over: each has a thread, and reads one file after the other.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pulsegate_sensors::number::{MAX_BUSES, ONE_WIRE_CONVERSION, bus_of, is_one_wire};

use crate::config::findings::{Finding, Findings};
use crate::config::tables::NumberTable;

/// A bus that is read all the time; a sum of fractions may be a little more than 1.
const FULL: f64 = 1.0 + 1e-9;

/// Warns of a 1-wire bus that cannot be read as often as is asked for, and of more buses than are read.
pub(super) fn check(numbers: &[NumberTable], findings: &mut Findings) {
    let mut buses: BTreeMap<PathBuf, Vec<&NumberTable>> = BTreeMap::new();
    let mut is_told = false;
    for number in numbers {
        let bus = bus_of(&number.file);
        if buses.len() == MAX_BUSES && !buses.contains_key(&bus) && !is_told {
            let message = format!("numbers are on more than {MAX_BUSES} buses and files");
            let warning = Finding::warning(number.id.span(), message);
            findings.push(warning.label("this one may not be read: let a program send it"));
            is_told = true;
        }
        buses.entry(bus).or_default().push(number);
    }
    let one_wire = buses.iter().filter(|(bus, _)| is_one_wire(bus));
    one_wire.for_each(|(_, numbers)| keeps_up(numbers, findings));
}

/// All reads of a bus, one after the other, must fit into the time between them.
fn keeps_up(numbers: &[&NumberTable], findings: &mut Findings) {
    let conversion = ONE_WIRE_CONVERSION.as_secs_f64();
    let load: f64 = numbers.iter().map(|number| conversion / number.every.0.as_secs_f64()).sum();
    let Some(last) = numbers.last().filter(|_| load > FULL) else { return };
    let count = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
    let round = ONE_WIRE_CONVERSION.saturating_mul(count);
    let message = format!(
        "the 1-wire bus of `{}` cannot be read that often: each of its {count} numbers takes {conversion} s",
        *last.id
    );
    let enough = round.as_millis().div_ceil(1000);
    let cure = format!("for each of them `every = \"{enough}s\"` or more");
    findings.push(Finding::warning(last.id.span(), message).help(cure));
}
