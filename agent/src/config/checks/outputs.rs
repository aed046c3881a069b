//! Checks that each output has one connection, and that night can be told from day.

use jiff::tz::TimeZone;
use pulsegate_core::act::output::{Hours, Light, NightSpec, OutputSpec};
use pulsegate_sensors::line::Level;
use pulsegate_sensors::output::Wiring;

use super::known::Known;
use super::rules::unknown_source;
use super::visits::zone;
use crate::config::findings::{Finding, Findings};
use crate::config::model::{Gpio, Night, Output};
use crate::config::tables::{NightTable, OutputTable, Tables};

/// The number of lines of a decimal digit.
const LINES_OF_A_DIGIT: usize = 4;
/// The most digits of a display: no visit has ten thousand openings.
const MAX_DIGITS: usize = 4;

pub(super) fn build_outputs(tables: &Tables, findings: &mut Findings) -> Vec<Output> {
    let output = |(index, table): (usize, &OutputTable)| {
        let path = format!("output[{index}]");
        if table.only.is_some() && tables.night.is_none() {
            let fault = Finding::fault(format!("{path}.only"), "nothing says when it is night");
            findings
                .push(fault.help("such as `[night]` with `from = \"21:00\"`, `to = \"06:00\"`"));
        }
        Output {
            spec: OutputSpec {
                id: table.id.as_str().into(),
                most: greatest_number(table),
                only: table.only,
                pulse: table.pulse.0,
            },
            wiring: build_wiring(table, &tables.gpio, &path, findings),
        }
    };
    tables.output.iter().enumerate().map(output).collect()
}

/// Returns the greatest number that the output can show: 1 for a line, `99` for two digits.
fn greatest_number(table: &OutputTable) -> u32 {
    match &table.pins {
        _ if table.file.is_some() => u32::MAX,
        Some(pins) => {
            let digits = u32::try_from(pins.len() / LINES_OF_A_DIGIT).unwrap_or(u32::MAX);
            10_u32.saturating_pow(digits) - 1
        }
        None => 1,
    }
}

/// Builds the connection of the output at `path` in the file.
fn build_wiring(table: &OutputTable, gpio: &Gpio, path: &str, findings: &mut Findings) -> Wiring {
    let id = &*table.id;
    let keys = [
        table.pin.as_ref().map(|_| "pin"),
        table.pins.as_ref().map(|_| "pins"),
        table.file.as_ref().map(|_| "file"),
    ];
    let mut given = keys.into_iter().flatten().map(|key| format!("{path}.{key}"));
    match (given.next(), given.next()) {
        (None, _) => {
            let message = format!("output `{id}` has neither `pin` nor `pins` nor `file`");
            findings.push(Finding::fault(path, message).help("such as `pin = 22`"));
        }
        (Some(first), Some(second)) => {
            let message = format!("output `{id}` is connected to two things");
            findings.push(Finding::fault(second, message).also(first, "one of them is enough"));
        }
        (Some(_), None) => {}
    }
    if let Some(file) = &table.file {
        if table.active.is_some() {
            let message = "a file has no level: it takes 0 for off";
            findings.push(Finding::fault(format!("{path}.active"), message).label("drop it"));
        }
        return Wiring::File(file.clone());
    }
    if let Some(pins) = &table.pins {
        let digits = pins.len() / LINES_OF_A_DIGIT;
        if !pins.len().is_multiple_of(LINES_OF_A_DIGIT) || !(1..=MAX_DIGITS).contains(&digits) {
            let message = format!("{} lines are no decimal digits", pins.len());
            let fault = Finding::fault(format!("{path}.pins"), message);
            findings.push(fault.label("4 lines for each of 1 to 4 digits, the lowest bit first"));
        }
    }
    let pins = table.pin.iter().chain(table.pins.iter().flatten());
    Wiring::Lines {
        pins: pins.copied().map(u32::from).collect(),
        chip: gpio.chip.as_ref().map(|chip| chip.to_string_lossy().into_owned()),
        active: table.active.unwrap_or(Level::High),
        backend: gpio.backend,
    }
}

/// Builds the decision between night and day.
pub(super) fn night(
    table: Option<&NightTable>,
    known: &Known,
    findings: &mut Findings,
) -> Option<Night> {
    let table = table?;
    if table.source.is_none() && table.from.is_none() {
        let fault = Finding::fault("night", "`night` has neither `source` nor `from`");
        findings.push(fault.help("such as `from = \"21:00\"` and `to = \"06:00\"`"));
        return None;
    }
    for (whole, has_whole, key, has_key) in [
        ("source", table.source.is_some(), "night.below", table.below.is_some()),
        ("source", table.source.is_some(), "night.above", table.above.is_some()),
        ("from", table.from.is_some(), "night.to", table.to.is_some()),
        ("from", table.from.is_some(), "night.zone", table.zone.is_some()),
    ] {
        if has_key && !has_whole {
            findings.push(Finding::fault(key, format!("this says nothing without `{whole}`")));
        }
    }
    let light = table.source.as_ref().and_then(|source| light(table, source, known, findings));
    let hours = table.from.as_ref().and_then(|from| hours(table, from, findings));
    let source = table.source.as_ref().map(|source| source.as_str().into());
    Some(Night { source, spec: NightSpec { light, hours } })
}

fn light(
    table: &NightTable,
    source: &str,
    known: &Known,
    findings: &mut Findings,
) -> Option<Light> {
    match known.source(source) {
        None if known.is_open() => {}
        None => findings.push(unknown_source(source, "night.source", known)),
        Some(found) => {
            let states = found.readings.as_ref().filter(|readings| !readings.states.is_empty());
            if let Some(readings) = states {
                let message = format!("readings of kind `{}` are no numbers", readings.kind);
                findings.push(Finding::fault("night.source", message));
            }
        }
    }
    let Some(below) = table.below else {
        let message = "`below` is missing: from when on is it night?";
        findings.push(Finding::fault("night.source", message));
        return None;
    };
    let above = table.above.unwrap_or(below);
    if above < below {
        let fault = Finding::fault("night.above", "it would be night and day at once");
        findings.push(fault.also("night.below", "`above` is at least this"));
    }
    Some(Light { below, above })
}

fn hours(table: &NightTable, from: &str, findings: &mut Findings) -> Option<Hours> {
    let Some(to) = &table.to else {
        findings.push(Finding::fault("night.from", "`to` is missing: when does the night end?"));
        return None;
    };
    let zone = table.zone.as_ref().map_or(TimeZone::UTC, |name| zone(name, "night.zone", findings));
    let (first, end) = (minute(from, "night.from", findings)?, minute(to, "night.to", findings)?);
    if first == end {
        let fault = Finding::fault("night.to", "this night has no length");
        findings.push(fault.also("night.from", "it begins then"));
    }
    Some(Hours { from: first, to: end, zone })
}

/// Parses the time of day at `place`, such as `21:00`. Returns the minutes since midnight.
fn minute(text: &str, place: &str, findings: &mut Findings) -> Option<u16> {
    let number = |part: &str, below: u16| {
        let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse().ok())?.filter(|number: &u16| *number < below)
    };
    let read = text
        .split_once(':')
        .and_then(|(hour, minute)| Some(number(hour, 24)? * 60 + number(minute, 60)?));
    if read.is_none() {
        let fault = Finding::fault(place, format!("`{text}` is no time of day"));
        findings.push(fault.label("such as \"21:00\""));
    }
    read
}
